"""Gaussian noise on the weights of a layer while it is trained."""

from typing import Any

import keras

from . import _backend as backend
from ._base import serializable
from ._noisy import NoisyWeights


@serializable
class WeightNoise(NoisyWeights):
    """A layer whose weights are disturbed while it is trained (Graves, 2011; Graves et al., 2013).

    Every call with `training=True` adds Gaussian noise to all trainable weights, biases and
    peepholes included, the same for all rows of the batch; gradients are taken at the disturbed
    weights and change the undisturbed ones, which is all that is ever saved. The papers train
    without noise first and begin with it from the weights of the best log-probability of held-out
    data: noise from the start is slow, or fails.

    Args:
        layer: the layer, or a block of layers.
        stddev: of the noise; the papers' is 0.075. 0 leaves the layer as it is.
        seed: of the noise.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: what the layer takes; its further arguments by name.
        training: whether to add the noise.

    Returns:
        What the layer returns.

    Raises:
        ValueError: stddev is negative.

    Attributes:
        active: a scalar that is not trained, 1 or 0, by which the noise is multiplied.

    Example:
        >>> layer = WeightNoise(keras.layers.Dense(4), stddev=0.075)
        >>> layer(keras.ops.ones((2, 3))).shape
        TensorShape([2, 4])

    Reference:
        Graves, "Practical Variational Inference for Neural Networks", 2011; Graves, Mohamed and
        Hinton, "Speech Recognition with Deep Recurrent Neural Networks", 2013, arXiv:1303.5778.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        stddev: float = 0.075,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, seed, **kwargs)
        if not stddev >= 0:
            raise ValueError(f"stddev must be 0 or more; got {stddev!r}")
        self.stddev = float(stddev)

    @property
    def quiet(self):
        return not self.stddev

    def disturbed(self, rows):
        return [
            backend.value(v) + self.stddev * self.noise(v) for v in self.layer.trainable_variables
        ]

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev}
