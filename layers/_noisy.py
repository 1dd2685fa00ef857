"""What layers with noise on their weights share."""

import keras
from keras import ops

from . import _backend as backend


class NoisyWeights(keras.layers.Wrapper):
    """A layer that runs with other weights while it is trained.

    Subclasses provide `quiet`, whether they never disturb them, and `disturbed(rows)`.

    Attributes:
        active: a scalar that is not trained, 1 or 0, by which the noise is multiplied.
    """

    quiet = False

    def __init__(self, layer, seed, **kwargs):
        super().__init__(layer, **kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build(input_shape)
        self.active = self.add_weight((), "ones", trainable=False, name="active")

    def disturbed(self, rows):
        """Tensors in the place of the layer's trainable variables, for a batch of so many rows."""
        raise NotImplementedError

    def noise(self, variable):
        """Numbers of mean 0 and variance 1 of a variable's shape, or zeros where it is inactive."""
        noise = keras.random.normal(variable.shape, dtype=variable.dtype, seed=self.generator)
        return ops.cast(backend.value(self.active), variable.dtype) * noise

    def call(self, inputs, training=False, **kwargs):
        if self.layer._call_has_training_arg:
            kwargs["training"] = training
        if not training or self.quiet:
            return self.layer(inputs, **kwargs)
        noisy = self.disturbed(ops.shape(keras.tree.flatten(inputs)[0])[0])
        other = self.layer.non_trainable_variables
        mapping = [
            *zip(self.layer.trainable_variables, noisy, strict=True),
            *((v, backend.value(v)) for v in other),
        ]
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
        return {**super().get_config(), "seed": self.seed}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras's own takes the layer out of the config that it is given.
        return super().from_config({**config}, custom_objects)
