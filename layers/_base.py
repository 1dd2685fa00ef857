"""What all layers share."""

import keras
from keras import ops


def serializable(cls):
    """Registers a class as `ponderzoo>Name`, as which `.keras` files know it for ever."""
    return keras.saving.register_keras_serializable(package="ponderzoo")(cls)


class RowLoss(keras.losses.Loss):
    """A loss whose `call` gives a number for each row, reduced as Keras does in its own dtype.

    `sample_weight` is `(batch,)` or `(batch, 1)`, or one number for all rows.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras's own rounds float64 to float32, and drops padded steps a second time by their mask.
        rows = ops.reshape(self.call(y_true, y_pred), (-1,))
        if sample_weight is not None:
            sample_weight = _by_row(ops.cast(sample_weight, rows.dtype), rows)
        reduce = _Given(self.name, self.reduction, rows.dtype)
        return reduce(rows, rows, sample_weight)

    def get_config(self):
        return {"name": self.name, "reduction": self.reduction}


class _Given(keras.losses.Loss):
    """Losses of rows as they are: what reduces them, and shares them out to replicas, is Keras."""

    def call(self, y_true, y_pred):
        return y_pred


def _by_row(weights, rows):
    shape, batch = weights.shape, rows.shape[0]
    if getattr(shape, "rank", 1) is None:  # a graph for weights of both shapes
        return ops.reshape(weights, ops.shape(rows))
    if len(shape) > 2 or (len(shape) == 2 and shape[1] not in (1, None)):
        raise ValueError(
            f"sample_weight must have a number for each row, (batch,) or (batch, 1); got {shape}"
        )
    if len(shape) == 0:
        return ops.broadcast_to(weights, ops.shape(rows))
    if None not in (shape[0], batch) and shape[0] != batch:
        raise ValueError(f"sample_weight must be {batch} numbers, one for each row; got {shape}")
    return ops.reshape(weights, ops.shape(rows))


def sum_dtype(dtype):
    """The dtype of sums that matter over numbers of a dtype: float64 for float64, or float32."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def whole(name, value, least):
    """An argument as an int. Raises `ValueError` where it is none, or too small."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} must be a whole number from {least} on; got {value!r}")
    return int(value)


def is_whole(value):
    """Whether an argument is a number without a fraction, and no boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value)


def sequence_spec(name, shape, what="sequence"):
    """The input spec of a layer by this name that reads sequences of such a shape.

    Raises `ValueError` for any shape but `(batch, time, features)` with known features.
    """
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"{name} needs a {what} of shape (batch, time, features) with known features; "
            f"got {tuple(shape)}"
        )
    return keras.layers.InputSpec(ndim=3, axes={-1: shape[-1]})
