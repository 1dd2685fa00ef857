"""Losses and metrics of sequences whose targets are -1 where nothing is scored.

Logits with one axis more than the targets are those of classes (softmax); logits of the shape of
the targets are those of a 1 (sigmoid). Targets may be integers or floats.
"""

import math

import keras
from keras import ops

from ..layers._base import RowLoss, sum_dtype

serializable = keras.saving.register_keras_serializable(package="ponderzoo")


def _is_binary(target, logits):
    return len(target.shape) == len(logits.shape)


def _crossentropy(y_true, y_pred):
    """Nats per target, 0 where nothing is scored, and which targets are scored."""
    target, logits = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    dtype = sum_dtype(logits.dtype)
    logits = ops.cast(logits, dtype)
    scored = target >= 0
    label = ops.where(scored, target, ops.zeros_like(target))
    if _is_binary(target, logits):
        nats = ops.binary_crossentropy(ops.cast(label, dtype), logits, from_logits=True)
    else:
        label = ops.cast(label, "int32")
        nats = ops.sparse_categorical_crossentropy(label, logits, from_logits=True)
    return ops.where(scored, nats, ops.zeros_like(nats)), scored


def _wrong(y_true, y_pred):
    """Which scored targets the most probable answer misses, and which targets are scored."""
    target, logits = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    answer = logits > 0 if _is_binary(target, logits) else ops.argmax(logits, axis=-1)
    scored = target >= 0
    missed = ops.cast(answer, "int32") != ops.cast(target, "int32")
    return ops.logical_and(scored, missed), scored


def _within_rows(x):
    return tuple(range(1, len(x.shape)))


@serializable
class SequenceCrossentropy(RowLoss):
    """Cross-entropy in nats, summed over the scored targets of a row and averaged over rows.

    The sum over time is what makes a time penalty weigh as it does in the paper (Graves, 2016).

    Call arguments:
        y_true: `(batch, ...)`, class indices or 0 and 1; -1 is not scored.
        y_pred: logits, `(batch, ..., classes)`, or `(batch, ...)` for targets 0 and 1. The loss of
            float64 logits is float64, of all others float32.
        sample_weight: optional `(batch,)` or `(batch, 1)`, multiplies the rows.
    """

    def __init__(self, name="sequence_crossentropy", reduction="sum_over_batch_size"):
        super().__init__(name=name, reduction=reduction)

    def call(self, y_true, y_pred):
        nats, _ = _crossentropy(y_true, y_pred)
        return ops.sum(nats, axis=_within_rows(nats))


class Fraction(keras.metrics.Metric):
    """`total / count`, both summed in float32 over all batches; 0 before anything was counted.

    `sample_weight` is None or `(batch,)`.

    Attributes:
        words: what a card calls it, where that is not its name.
        values: None, or `values(output)`, the numbers of a batch that it is the mean of, as numpy;
            then histograms and standard deviations of them are kept as well.
    """

    words = ""
    values = None

    def __init__(self, name):
        super().__init__(name=name, dtype="float32")
        self.total = self.add_variable((), "zeros", dtype="float32", name="total")
        self.count = self.add_variable((), "zeros", dtype="float32", name="count")

    def add(self, values, counted, sample_weight=None):
        values, counted = ops.cast(values, "float32"), ops.cast(counted, "float32")
        if sample_weight is not None:
            weight = ops.cast(sample_weight, "float32")
            weight = ops.reshape(weight, (-1,) + (1,) * (len(values.shape) - 1))
            values, counted = values * weight, counted * weight
        self.total.assign_add(ops.sum(values))
        self.count.assign_add(ops.sum(counted))

    def result(self):
        return ops.divide_no_nan(self.total.value, self.count.value)

    def reset_state(self):
        self.total.assign(0.0)
        self.count.assign(0.0)

    def get_config(self):
        return {"name": self.name}


@serializable
class SequenceError(Fraction):
    """Fraction of rows with a wrong answer at one scored target or more (Graves, 2016, section 3).

    Rows without a scored target do not count. `update_state(y_true, y_pred)` takes what
    `SequenceCrossentropy` takes.
    """

    def __init__(self, name="sequence_error"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        wrong, scored = _wrong(y_true, y_pred)
        axes = _within_rows(scored)
        self.add(ops.any(wrong, axis=axes), ops.any(scored, axis=axes), sample_weight)


class MeanLoss(Fraction):
    """A task's `RowLoss` over all rows so far: without ponder cost, and whatever mask Keras has."""

    def __init__(self, loss, name="loss"):
        super().__init__(name)
        self.loss = loss

    def update_state(self, y_true, y_pred, sample_weight=None):
        rows = self.loss.call(y_true, y_pred)
        self.add(rows, ops.ones_like(rows), sample_weight)


@serializable
class TargetError(Fraction):
    """Fraction of scored targets with a wrong answer."""

    def __init__(self, name="error"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.add(*_wrong(y_true, y_pred), sample_weight)


@serializable
class BitsPerCharacter(Fraction):
    """Cross-entropy per scored target in bits."""

    def __init__(self, name="bits_per_character"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        nats, scored = _crossentropy(y_true, y_pred)
        self.add(ops.cast(nats, "float32") / math.log(2), scored, sample_weight)


@serializable
class BitsPerSequence(Fraction):
    """Cross-entropy in bits, summed over the scored targets of a row (Graves et al., 2014).

    Rows without a scored target do not count.
    """

    def __init__(self, name="bits_per_sequence"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        nats, scored = _crossentropy(y_true, y_pred)
        axes = _within_rows(scored)
        bits = ops.cast(ops.sum(nats, axis=axes), "float32") / math.log(2)
        self.add(bits, ops.any(scored, axis=axes), sample_weight)


@serializable
class Perplexity(Fraction):
    """2 to the bits a word; of symbols, 2 to all their bits by the words that `ends` end."""

    def __init__(self, ends=(), name="perplexity"):
        super().__init__(name)
        self.ends = list(ends)

    def update_state(self, y_true, y_pred, sample_weight=None):
        nats, words = _crossentropy(y_true, y_pred)
        if self.ends:
            target = ops.convert_to_tensor(y_true)[..., None]
            words = ops.any(target == ops.cast(self.ends, target.dtype), axis=-1)
        self.add(nats, words, sample_weight)

    def result(self):
        return ops.exp(super().result())

    def get_config(self):
        return {**super().get_config(), "ends": self.ends}


class MeanOutput(Fraction):
    """Mean of an output `(batch, ...)`, such as the model's own `nats`, over all its numbers."""

    def __init__(self, name, words=""):
        super().__init__(name)
        self.words = words

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = ops.convert_to_tensor(y_pred)
        self.add(values, ops.ones_like(values), sample_weight)


class MeanOfRows(MeanOutput):
    """Mean over rows of what the numbers of each, an output `(batch, ...)`, add up to."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = ops.convert_to_tensor(y_pred)
        super().update_state(y_true, ops.sum(values, axis=_within_rows(values)), sample_weight)


@serializable
class OwnLoss(RowLoss):
    """The loss that a model gives itself, `(batch,)`, whatever the targets (none are needed)."""

    def __init__(self, name="own_loss", reduction="sum_over_batch_size"):
        super().__init__(name=name, reduction=reduction)

    def call(self, y_true, y_pred):
        return y_pred


class StepMean(Fraction):
    """Mean of an output `(batch, time)` over the real steps, which are those above 0.

    `update_state(y_true, output)`; `y_true` is ignored.
    """

    def __init__(self, name, words=""):
        super().__init__(name)
        self.words = words

    def update_state(self, y_true, y_pred, sample_weight=None):
        steps = ops.convert_to_tensor(y_pred)
        self.add(steps, steps > 0, sample_weight)

    def get_config(self):
        return {**super().get_config(), "words": self.words}


@serializable
class Ponder(StepMean):
    """Mean number of updates N over the real steps (Graves, 2016)."""

    def __init__(self, name="ponder", words="ponder (updates N per input)"):
        super().__init__(name, words)

    def values(self, output):
        return output[output > 0]


@serializable
class AtCap(Fraction):
    """Fraction of the real steps that were stopped by the cap `max_ponder`; see `Ponder`."""

    words = "inputs stopped by the cap of N"

    def __init__(self, max_ponder, name="at_cap"):
        super().__init__(name)
        self.max_ponder = max_ponder

    def update_state(self, y_true, y_pred, sample_weight=None):
        updates = ops.convert_to_tensor(y_pred)
        self.add(updates >= self.max_ponder, updates > 0, sample_weight)

    def get_config(self):
        return {**super().get_config(), "max_ponder": self.max_ponder}
