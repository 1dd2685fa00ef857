"""What a code tells of another one near to it: a mixture of Gaussians in every dimension."""

from typing import Any

import keras
from keras import ops

from . import _chance
from ._base import serializable, sum_dtype, whole
from ._distributions import LOG_TWO_PI, mixture


@serializable
class AssociativePrior(keras.layers.Layer):
    """p(z | neighbour) of Associative Compression Networks (Graves, Menick and van den Oord, 2018).

    Three layers of tanh units, each of which sees the neighbour's code, too, and all of which are
    seen by the outputs. Those are, for each dimension, a mixture of Gaussians; the dimensions are
    independent given the neighbour.

    Args:
        units: of each hidden layer, 512 in the paper.
        components: M, Gaussians in a dimension.
        least_deviation: that a Gaussian has; with 0 codes that are nearly the same would make the
            cost of a sample as low as one likes.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        neighbour: `(batch, size)`.
        sample: `(batch, size)`, or None to draw one.
        seed: `(batch,)` integers, the chance of each row that is drawn, or None.

    Returns:
        `(sample, log_density)`, float64 for float64 and float32 for all other dtypes: `(batch,
        size)`; and log p(sample | neighbour) in nats, `(batch,)`.

    Raises:
        ValueError: an argument is not what it must be, or the size of the codes is not known.

    Example:
        >>> prior = AssociativePrior(units=8)
        >>> sample, log_density = prior(keras.ops.ones((2, 3)), seed=keras.ops.arange(2))
        >>> sample.shape, log_density.shape
        (TensorShape([2, 3]), TensorShape([2]))

    Reference:
        Graves, Menick and van den Oord, "Associative Compression Networks for Representation
        Learning", 2018, arXiv:1804.02476.
    """

    def __init__(
        self, units: int = 512, components: int = 2, least_deviation: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units, self.components = whole("units", units, 1), whole("components", components, 1)
        if not least_deviation > 0:
            raise ValueError(f"least_deviation must be above 0; got {least_deviation!r}")
        self.least_deviation = float(least_deviation)
        self.hidden = [
            keras.layers.Dense(self.units, "tanh", dtype=self.dtype_policy, name=f"hidden_{i}")
            for i in range(3)
        ]
        self.mixtures = None

    def build(self, neighbour_shape, *shapes, **more_shapes):
        if len(neighbour_shape) != 2 or neighbour_shape[-1] is None:
            raise ValueError(
                "AssociativePrior needs codes (batch, size) of known size; got "
                f"{tuple(neighbour_shape)}"
            )
        self.size = neighbour_shape[-1]
        self.mixtures = keras.layers.Dense(
            3 * self.components * self.size, dtype=self.dtype_policy, name="mixtures"
        )
        for i, layer in enumerate(self.hidden):
            layer.build((None, self.size + (self.units if i else 0)))
        self.mixtures.build((None, 3 * self.units))

    def call(self, neighbour, sample=None, seed=None):
        log_weights, mean, deviation = self.parameters(neighbour)
        if sample is None:
            sample = self._draw(seed, log_weights, mean, deviation)
        sample = ops.cast(sample, mean.dtype)
        distance = (sample[:, :, None] - mean) / deviation
        log_densities = -(ops.square(distance) + LOG_TWO_PI) / 2 - ops.log(deviation)
        return sample, ops.sum(mixture(log_weights, log_densities), axis=1)

    def parameters(self, neighbour):
        """The mixtures: logarithms of weights, which need not be normalised, means, deviations.

        `(batch, size, components)` each.
        """
        wide = sum_dtype(self.compute_dtype)
        neighbour = ops.cast(neighbour, self.compute_dtype)
        x, seen = neighbour, []
        for layer in self.hidden:
            x = layer(x if not seen else ops.concatenate([x, neighbour], axis=-1))
            seen.append(x)
        found = ops.cast(self.mixtures(ops.concatenate(seen, axis=-1)), wide)
        found = ops.reshape(found, (-1, self.size, 3 * self.components))
        log_weights, mean, spread = ops.split(found, 3, axis=-1)
        return log_weights, mean, self.least_deviation + ops.softplus(spread)

    def _draw(self, seed, log_weights, mean, deviation):
        shape = (self.size, self.components)
        gumbel = _chance.gumbel(_chance.fold(seed, "component"), shape, dtype=mean.dtype)
        chosen = ops.argmax(log_weights + gumbel, axis=-1)[:, :, None]
        mean, deviation = (ops.take_along_axis(x, chosen, axis=-1) for x in (mean, deviation))
        noise = _chance.normal(_chance.fold(seed, "code"), (self.size, 1), dtype=mean.dtype)
        return (mean + deviation * noise)[:, :, 0]

    def compute_output_spec(self, neighbour, sample=None, seed=None):
        dtype = sum_dtype(self.compute_dtype)
        shapes = neighbour.shape, neighbour.shape[:1]
        return tuple(keras.KerasTensor(shape, dtype=dtype) for shape in shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "components": self.components,
            "least_deviation": self.least_deviation,
        }
