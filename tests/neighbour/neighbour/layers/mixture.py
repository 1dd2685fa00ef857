"""A mixture of round Gaussians in the plane."""

import math

import keras
from keras import ops
from ponderzoo.layers import _chance


@keras.saving.register_keras_serializable(package="neighbour")
class Mixture(keras.layers.Layer):
    """What points cost, `(batch,)` in nats, its part for the choice, and a sample a row.

    Call arguments: points `(batch, 2)`; seed `(batch,)` int, which decides the samples.
    """

    def __init__(self, components, **kwargs):
        super().__init__(**kwargs)
        self.components = components

    def build(self, points_shape, seed_shape):
        spread = keras.initializers.RandomNormal(1.5)
        self.means = self.add_weight((self.components, 2), spread, name="means")
        self.scales = self.add_weight(
            (self.components,), keras.initializers.Constant(-1.0), name="scales"
        )
        self.logits = self.add_weight((self.components,), "zeros", name="logits")

    def call(self, points, seed):
        chances = ops.log_softmax(self.logits.value)
        scale = self.scales.value
        square = ops.sum(ops.square(points[:, None] - self.means.value), axis=-1)
        each = -square / (2 * ops.exp(2 * scale)) - 2 * scale - math.log(2 * math.pi)
        nats = -ops.logsumexp(chances + each, axis=-1)
        share = ops.softmax(chances + each)
        choice = -ops.sum(share * chances, axis=-1)
        chosen = ops.argmax(
            chances + _chance.gumbel(_chance.fold(seed, "component"), (self.components,)), axis=-1
        )
        noise = _chance.normal(seed, (2,))
        sample = ops.take(self.means.value, chosen, axis=0)
        sample += noise * ops.exp(ops.take(scale, chosen))[:, None]
        return nats, choice, sample

    def get_config(self):
        return {**super().get_config(), "components": self.components}
