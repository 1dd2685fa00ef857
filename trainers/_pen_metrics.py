"""Metrics of predicted points of a pen, in the units of the task.

`update_state(y_true, y_pred, sample_weight)` takes what `MixtureDensityLoss` takes, and None or
`(batch,)`.
"""

from keras import ops

from ..layers.mixture_density import mixture_density_loss, mixture_mean
from ._metrics import Fraction, serializable


@serializable
class NatsPerPoint(Fraction):
    """Minus the log density of a point; it may be below 0, since densities may be above 1."""

    def __init__(self, name="nats_per_point"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.add(mixture_density_loss(y_true, y_pred), _scored(y_true), sample_weight)


@serializable
class NatsPerSequence(Fraction):
    """Minus the log density of all points of a row (Graves, 2013, eq. 26); empty rows are none."""

    def __init__(self, name="nats_per_sequence"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        nats = ops.sum(mixture_density_loss(y_true, y_pred), axis=1)
        self.add(nats, ops.any(_scored(y_true), axis=1), sample_weight)


@serializable
class SquaredDistance(Fraction):
    """Squared distance of a point's offset from the mean of the mixture."""

    def __init__(self, name="squared_distance"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        scored = _scored(y_true)
        mean = ops.cast(mixture_mean(y_pred), "float32")
        offset = ops.cast(y_true, "float32")[..., :2]
        error = ops.sum(ops.square(offset - mean), axis=-1)
        self.add(ops.where(scored, error, 0.0), scored, sample_weight)


def _scored(y_true):
    return ops.convert_to_tensor(y_true)[..., 2] >= 0
