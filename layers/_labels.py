"""What the losses over alignments and the searches through them share."""

import keras
import numpy as np
from keras import ops

from . import _backend as backend
from ._base import RowLoss, is_whole, sum_dtype, whole

IMPOSSIBLE = -1e30  # the logarithm of 0: finite, since inf - inf is no number


class AlignmentLoss(RowLoss):
    """What losses with a blank have in common."""

    def __init__(self, blank, name, reduction):
        super().__init__(name=name, reduction=reduction)
        self.blank = whole("blank", blank, 0)

    def get_config(self):
        return {**super().get_config(), "blank": self.blank}


def add_logs(a, b):
    """`log(exp(a) + exp(b))` of finite numbers."""
    return ops.maximum(a, b) + ops.log(1 + ops.exp(-ops.abs(a - b)))


def known(x):
    """An array of what a tensor holds, or None while it is traced."""
    try:
        return np.asarray(x)
    except (NotImplementedError, TypeError, ValueError):
        return None


def fits(shape, wanted):
    """Whether two shapes may be the same, as far as they are known."""
    return len(shape) == len(wanted) and all(
        a == b or a is None or b is None for a, b in zip(shape, wanted)
    )


def check_rank(name, x, wanted):
    """Raises `ValueError` where a tensor has not the axes of `wanted`, which names them."""
    if len(x.shape) != wanted.count(",") + 1:
        raise ValueError(f"{name} must be {wanted}; got shape {tuple(x.shape)}")


def check_blank(blank, classes):
    """`blank` as an int. Raises `ValueError` where it is none of so many classes."""
    if not is_whole(blank) or not 0 <= blank < classes:
        raise ValueError(f"blank must be a class, 0 to {classes - 1}; got {blank!r}")
    return int(blank)


def check_lengths(noun, lengths, batch, most):
    """Raises `ValueError` where they are not one for each row, or known to be out of range."""
    shape = tuple(np.shape(lengths) if isinstance(lengths, (list, tuple)) else lengths.shape)
    if not fits(shape, (batch,)):
        raise ValueError(f"{noun} lengths must be one for each of {batch} rows; got shape {shape}")
    values = known(lengths)
    if values is not None and most is not None and np.any((values < 0) | (values > most)):
        raise ValueError(f"{noun} lengths must be 0 to {most}; got {values.tolist()}")


def check_labels(labels, lengths, classes, blank):
    """Raises `ValueError` where a known label within its row's length is blank or no class."""
    values, ends = known(labels), known(lengths)
    if values is None or ends is None:
        return
    values = values[np.arange(values.shape[1]) < ends[:, None]]
    wrong = values[~_are_labels(values, classes, blank)]
    if wrong.size:
        raise ValueError(
            f"labels must be classes, 0 to {classes - 1}, and not {blank}, which is blank; "
            f"got {wrong[0]}"
        )


def _are_labels(values, classes, blank):
    return (values >= 0) & (values < classes) & (values != blank) & (values % 1 == 0)


def settled(labels, frames, lengths, steps, classes, blank):
    """Labels and lengths as int32 that can be counted with, whatever they were.

    Behind its length a row is blank. A row that `check_labels` or `check_lengths` would refuse,
    were its values known, gets -1 frames, by which a loss knows that it is impossible.

    Args:
        labels, frames, lengths: `(batch, places)`, `(batch,)` and `(batch,)`.
        steps: the most frames.
        classes, blank: of the labels.
    """
    # Bytes cannot be compared with a class that they cannot hold.
    labels = ops.cast(labels, keras.backend.result_type(labels.dtype, "int32"))
    frames, lengths = ops.cast(frames, "int32"), ops.cast(lengths, "int32")
    width = ops.shape(labels)[1]
    real = ops.arange(width) < lengths[:, None]
    known = _are_labels(labels, classes, blank)
    right = ops.all(ops.logical_or(known, ops.logical_not(real)), axis=1)
    for count, most in ((frames, steps), (lengths, width)):
        right = ops.logical_and(right, ops.logical_and(count >= 0, count <= most))
    labels = ops.where(ops.logical_and(real, known), ops.cast(labels, "int32"), blank)
    return labels, ops.where(right, frames, -1), ops.clip(lengths, 0, width)


def padded(labels):
    """Labels as a tensor; behind the rows of a ragged or sparse one stands -1."""
    return ops.convert_to_tensor(backend.dense(labels, -1))


def is_new(labels):
    """Whether a label differs from the one before it, so that no blank need part them."""
    before = ops.pad(labels, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    return labels != before


def best_path(logits, blank):
    """The most probable label of each frame, `(batch, time)` int32; -1 for blank and repeats."""
    best = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return ops.where(ops.logical_and(is_new(best), best != blank), best, -1)


def lowest_logit(logits):
    """The logit of an impossible class, which float16 cannot hold."""
    return -65504.0 if keras.backend.standardize_dtype(logits.dtype) == "float16" else IMPOSSIBLE


def summable(logits):
    """Logits in the dtype of sums, and impossible ones finite."""
    lowest = lowest_logit(logits)
    logits = ops.cast(logits, sum_dtype(logits.dtype))
    return ops.where(logits <= lowest, IMPOSSIBLE, logits)


def check_logits(logits, lengths, blank):
    """`blank` as an int. Raises `ValueError` where the arguments do not fit one another."""
    check_rank("logits", logits, "(batch, time, classes)")
    if logits.shape[1] == 0:
        raise ValueError("logits must have a frame at least, if only one of padding; got none")
    check_lengths("logit", lengths, logits.shape[0], logits.shape[1])
    return check_blank(blank, logits.shape[-1])
