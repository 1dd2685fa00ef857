"""What all layers share."""

import keras
from keras import ops


def serializable(cls):
    """Registers a class as `ponderzoo>Name`, as which `.keras` files know it for ever."""
    return keras.saving.register_keras_serializable(package="ponderzoo")(cls)


class SequenceLayer(keras.layers.Layer):
    """What layers over sequences share with `keras.layers.RNN`, so that Keras's wrappers take them.

    Args:
        go_backwards: whether to read the sequence from its end. What is returned of all steps comes
            in the order of reading, as `keras.layers.RNN` has it.
        stateful: must be False.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: the layer is to be stateful.
    """

    return_sequences = True
    stateful, states = False, None

    def __init__(self, go_backwards=False, stateful=False, **kwargs):
        super().__init__(**kwargs)
        if stateful:
            raise ValueError(
                f"{type(self).__name__} keeps no state from call to call; with return_state=True "
                "it returns its state, which the next call takes as initial_state"
            )
        self.go_backwards = bool(go_backwards)

    def in_order(self, sequence, mask):
        """Sequence and mask with the first step to be read in front."""
        if not self.go_backwards:
            return sequence, mask
        return ops.flip(sequence, axis=1), None if mask is None else ops.flip(mask, axis=1)

    def mask_of_sequence(self, mask):
        """The mask `(batch, time)` of what is returned of all steps."""
        return mask if mask is None or not self.go_backwards else ops.flip(mask, axis=1)

    def compute_output_shape(self, sequence_shape, initial_state_shape=None):
        spec = self.compute_output_spec(keras.KerasTensor(sequence_shape, self.compute_dtype))
        return keras.tree.map_structure(lambda x: x.shape, spec)

    def get_config(self):
        return {**super().get_config(), "go_backwards": self.go_backwards}


class OwnDense(keras.layers.Dense):
    """A `Dense` layer whose owner reads its kernel itself, which must stay what it is.

    Raises:
        NotImplementedError: it is to be quantized, or to get LoRA weights.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.quantization_mode:
            raise self._refusal(f"be {self.dtype_policy.name}")

    def _refusal(self, what):
        return NotImplementedError(
            f"{self.path or self.name} cannot {what}: the layer that it belongs to multiplies by "
            "its kernel itself, inside of its loop"
        )

    def quantize(self, mode=None, type_check=True, config=None):
        raise self._refusal("be quantized, and keeps its kernel")

    def enable_lora(self, *args, **kwargs):
        raise self._refusal("have LoRA weights")


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


def budget_of(memory_budget):
    """The argument `memory_budget` as an int, or None. Raises `ValueError` where it is neither."""
    if memory_budget is None:
        return None
    if not is_whole(memory_budget) or memory_budget < 1:
        raise ValueError(
            f"memory_budget must be a positive number of bytes or None; got {memory_budget!r}"
        )
    return int(memory_budget)


def bound(name, value):
    """A bound of derivatives as a float. Raises `ValueError` where it is below 0, or no number."""
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or a bound; got {value!r}")
    return float(value)


def not_negative(name, value):
    """An argument as a float. Raises `ValueError` where it is below 0, or no number."""
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more; got {value!r}")
    return float(value)


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
