"""Connectionist temporal classification: the loss.

A path names a label or blank for every frame. Merging its repetitions and then dropping its blanks
leaves a labelling, whose probability is that of all its paths together (Graves et al., 2006).
"""

import functools
from typing import Any

from keras import ops

from . import _backend as backend
from ._base import serializable
from ._labels import (
    IMPOSSIBLE,
    AlignmentLoss,
    add_logs,
    check_blank,
    check_labels,
    check_lengths,
    check_logits,
    check_rank,
    fits,
    is_new,
    lowest_logit,
    padded,
    settled,
    summable,
)
from ._padding import longer
from ._scan import scan, stacked


def ctc_loss(
    logits: Any,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    blank: int = 0,
    jit: bool = False,
) -> Any:
    """The negative log-probability of labellings (Graves et al., 2006, section 4).

    Both sums over paths, from the first frame on and from the last one back, are taken in log space
    in one loop, and give the gradient of the paper's eq. 16 without another. What is summed is
    relative to the best of a frame's logits that count, so that float32 is enough for long rows.
    It is fast inside graphs, compiled by XLA above all; eagerly TensorFlow takes step by step.

    Args:
        logits: `(batch, time, classes)`, not normalised, of a frame at least. float64 is summed in
            float64, all others in float32. Frames beyond a row's length may hold anything.
        labels: `(batch, places)` integers, on TensorFlow a ragged or sparse tensor as well. Places
            beyond a row's length may hold anything.
        logit_lengths: `(batch,)` integers, frames of each row.
        label_lengths: `(batch,)` integers, labels of each row.
        blank: the class that stands for no label.
        jit: whether XLA compiles the sums where what is around them is a graph of TensorFlow
            (`jit_in_graphs`); not for what is exported.

    Returns:
        `(batch,)` nats, float64 for float64 logits and float32 for all others. A labelling that has
        no path, for want of frames or because a class is impossible (a logit of -1e30 or less, or
        the lowest of its dtype), costs inf, and its gradient is 0. So does, in a function that is
        being compiled, a row with a length out of range, or with a label that is blank or no class.

    Raises:
        ValueError: shapes do not fit, `blank` is no class, or, where values are known, a length is
            out of range, or a label is blank or no class.

    Reference:
        Graves, Fernandez, Gomez and Schmidhuber, "Connectionist Temporal Classification: Labelling
        Unsegmented Sequence Data with Recurrent Neural Networks", 2006.
    """
    logits, labels = ops.convert_to_tensor(logits), padded(labels)
    blank = check_logits(logits, logit_lengths, blank)
    batch, _, classes = logits.shape
    if not fits(labels.shape, (batch, None)):
        raise ValueError(
            f"labels must be (batch, places) of {batch} rows; got shape {tuple(labels.shape)}"
        )
    check_lengths("label", label_lengths, batch, labels.shape[1])
    check_labels(labels, label_lengths, classes, blank)
    frames, places = (ops.convert_to_tensor(x) for x in (logit_lengths, label_lengths))
    steps = ops.shape(logits)[1]
    labels, frames, places = settled(labels, frames, places, steps, classes, blank)
    dtype, sums = logits.dtype, functools.partial(_forward_backward, blank=blank)
    if jit and backend.may_jit():
        # Frames and places beyond a row's own change nothing.
        logits = longer(logits, 1, backend.bucket(steps) - steps)
        width = ops.shape(labels)[1]
        labels = longer(labels, 1, backend.bucket(width) - width)
        sums = backend.jit(sums)

    # All tensors are arguments: a function with a gradient of its own may close over none in JAX.
    def primal(logits, labels, frames, places):
        return (sums(logits, labels, frames, places)[0],)

    def forward(logits, labels, frames, places):
        loss, gradient = sums(logits, labels, frames, places)
        return (loss,), gradient

    def backward(gradient, cotangents):
        return ops.cast(gradient * cotangents[0][:, None, None], dtype), None, None, None

    return backend.differentiable(primal, forward, backward)(logits, labels, frames, places)[0]


def _forward_backward(logits, labels, frames, places, blank):
    """The loss of each row, `(batch,)`, and its gradient by the logits."""
    logits = summable(logits)
    batch, time, classes = ops.shape(logits)
    width = ops.shape(labels)[1]
    real = ops.arange(time) < frames[:, None]

    # Frames beyond a row's own are sure of blank, which changes no probability.
    at_label = ops.take_along_axis(
        logits, ops.broadcast_to(labels[:, None], (batch, time, width)), axis=-1
    )
    at_blank = logits[:, :, blank : blank + 1]
    best = ops.max(ops.concatenate([at_blank, at_label], axis=-1), axis=-1, keepdims=True)
    at_label = ops.where(real[..., None], at_label - best, IMPOSSIBLE)
    at_blank = ops.where(real[..., None], at_blank - best, 0.0)

    # The sums backwards are sums forwards over time and labels turned round.
    at_label, at_blank = (ops.transpose(x, (1, 0, 2)) for x in (at_label, at_blank))
    emit_label = ops.concatenate([at_label, ops.flip(at_label, (0, 2))], axis=1)
    emit_blank = ops.concatenate([at_blank, ops.flip(at_blank, 0)], axis=1)
    both = ops.concatenate([labels, ops.flip(labels, 1)], axis=0)
    first = ops.concatenate([ops.zeros_like(places), width - places], axis=0)
    start = ops.where(ops.arange(width + 1) == first[:, None], 0.0, IMPOSSIBLE)
    start = ops.cast(start, logits.dtype)
    blanks, of_labels, ready = _sums(emit_blank, emit_label, is_new(both), start)

    total = ops.take_along_axis(ready[:batch], places[:, None], axis=-1)[:, 0]
    normalizer = ops.logsumexp(logits, axis=-1, keepdims=True)
    spent = ops.sum(ops.where(real, (normalizer - best)[..., 0], 0.0), axis=-1)
    loss = spent - total
    possible = ops.logical_and(loss < -IMPOSSIBLE / 10, frames >= 0)

    def occupancy(sums, emitted):
        joint = sums[:, :batch] + ops.flip(sums[:, batch:], (0, 2)) - emitted - total[:, None]
        return ops.transpose(ops.exp(joint), (1, 0, 2))

    in_blank = ops.sum(occupancy(blanks, at_blank), axis=-1, keepdims=True)
    visits = ops.concatenate([in_blank, occupancy(of_labels, at_label)], axis=-1)
    kinds = ops.pad(labels, ((0, 0), (1, 0)), constant_values=blank)
    visits = visits @ ops.one_hot(kinds, classes, dtype=logits.dtype)
    gradient = ops.exp(logits - normalizer) - visits
    counts = ops.logical_and(real, possible[:, None])[..., None]
    loss = ops.where(possible, loss, float("inf"))
    return loss, ops.where(counts, gradient, 0.0)


def _sums(emit_blank, emit_label, differs, start):
    """Log-probabilities of all beginnings of paths (Graves et al., 2006, eqs. 5-8).

    Args:
        emit_blank, emit_label: `(time, rows, 1)` and `(time, rows, places)`.
        differs: `(rows, places)` boolean.
        start: `(rows, places + 1)`, before the first frame.

    Returns:
        `(time, rows, places + 1)`, in the blank before each place and behind the last;
        `(time, rows, places)`, in each label; and `(rows, places + 1)`, in either the blank before
        a place or the label before it, at the end.
    """

    def ready(blank, label):
        return add_logs(blank, ops.pad(label, ((0, 0), (1, 0)), constant_values=IMPOSSIBLE))

    def step(carry, emitted, _):
        blank, label = carry
        at_blank, at_label = emitted
        either = ready(blank, label)
        label = at_label + add_logs(label, ops.where(differs, either[:, :-1], blank[:, :-1]))
        blank = at_blank + either
        return (blank, label), (blank, label)

    nowhere = ops.full_like(start[:, 1:], IMPOSSIBLE)
    time = ops.shape(emit_blank)[0]
    end, answers = scan(step, (start, nowhere), time, (emit_blank, emit_label))
    return *stacked(answers), ready(*end)


@serializable
class CTCLoss(AlignmentLoss):
    """`ctc_loss` in nats, by default averaged over rows.

    `y_pred` has no lengths: what a network says beyond a row's end must be sure of blank, a logit
    of 0 there and of -1e30, or the lowest of its dtype, at all other classes, as
    `sure_of_blank` makes it. Such frames change the probability of no labelling.

    Args:
        blank: the class that stands for no label.
        name: of the loss.
        reduction: over rows, as in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, places)`, labels, and behind them -1 up to the end; or ragged or sparse, as
            `ctc_loss` takes them.
        y_pred: logits, `(batch, time, classes)`. The loss of float64 logits is float64, of all
            others float32. A row without enough frames makes it inf, and has no gradient.
        sample_weight: optional `(batch,)` or `(batch, 1)`, multiplies the rows.

    Raises:
        ValueError: as `ctc_loss`. In a compiled step labels that are padded with the blank, or are
            no classes, make the loss inf instead.

    Example:
        >>> logits = ops.zeros((1, 2, 2))
        >>> float(CTCLoss()(ops.array([[1, -1]]), logits))  # three paths of four: -ln 3/4
        0.28768205642700195
    """

    def __init__(
        self,
        blank: int = 0,
        name: str | None = "ctc_loss",
        reduction: str | None = "sum_over_batch_size",
    ) -> None:
        super().__init__(blank, name, reduction)

    def call(self, y_true, y_pred):
        labels, logits = padded(y_true), ops.convert_to_tensor(y_pred)
        check_rank("logits", logits, "(batch, time, classes)")
        frames = ops.full((ops.shape(labels)[0],), ops.shape(logits)[1], dtype="int32")
        places = ops.sum(ops.cast(labels >= 0, "int32"), axis=-1)
        return ctc_loss(logits, labels, frames, places, self.blank, jit=True)


def sure_of_blank(logits: Any, lengths: Any, blank: int = 0) -> Any:
    """Logits whose frames beyond a row's length are sure of blank, as `CTCLoss` wants them.

    Args:
        logits: `(batch, time, ..., classes)`.
        lengths: `(batch,)` integers, frames of each row.
        blank: the class that stands for no label.

    Returns:
        `(batch, time, ..., classes)` in the dtype of the logits.

    Raises:
        ValueError: shapes do not fit, `blank` is no class, or a known length is out of range.
    """
    logits = ops.convert_to_tensor(logits)
    check_lengths("logit", lengths, logits.shape[0], logits.shape[1])
    blank = check_blank(blank, logits.shape[-1])
    time, classes = ops.shape(logits)[1], logits.shape[-1]
    sure = ops.where(ops.arange(classes) == blank, 0.0, lowest_logit(logits))
    sure = ops.cast(sure, logits.dtype)
    real = ops.arange(time) < ops.cast(lengths, "int32")[:, None]
    real = ops.reshape(real, (-1, time, *[1] * (len(logits.shape) - 2)))
    return ops.where(real, logits, sure)
