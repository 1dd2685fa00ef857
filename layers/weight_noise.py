"""Gaussian noise on the weights of a layer while it is trained."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import serializable


@serializable
class WeightNoise(keras.layers.Wrapper):
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
        super().__init__(layer, **kwargs)
        if not stddev >= 0:
            raise ValueError(f"stddev must be 0 or more; got {stddev!r}")
        self.stddev = float(stddev)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        self.active = self.add_weight((), "ones", trainable=False, name="active")

    def call(self, inputs, training=False, **kwargs):
        if self.layer._call_has_training_arg:
            kwargs["training"] = training
        if not training or not self.stddev:
            return self.layer(inputs, **kwargs)
        clean = self.layer.trainable_variables
        other = self.layer.non_trainable_variables
        noisy = [
            backend.value(v)
            + ops.cast(backend.value(self.active), v.dtype)
            * keras.random.normal(v.shape, 0.0, self.stddev, v.dtype, seed=self.generator)
            for v in clean
        ]
        mapping = [*zip(clean, noisy), *((v, backend.value(v)) for v in other)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = self.layer(inputs, **kwargs)
        for variable in other:
            variable.assign(scope.get_current_value(variable))
        return outputs

    def compute_output_spec(self, inputs, training=False, **kwargs):
        return self.layer.compute_output_spec(inputs, **kwargs)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras's own takes the layer out of the config that it is given.
        return super().from_config({**config}, custom_objects)
