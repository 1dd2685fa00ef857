"""The loss of a sequence transducer, from all logits or from the two networks' apart."""

import functools
from typing import Any

from keras import ops

from . import _backend as backend
from ._base import serializable, sum_dtype
from ._labels import (
    IMPOSSIBLE,
    AlignmentLoss,
    add_logs,
    check_blank,
    check_labels,
    check_lengths,
    check_rank,
    fits,
    padded,
    settled,
)
from ._padding import longer
from ._scan import scan, stacked

# Sums of products of exponentials under this have lost terms that count.
_FAINT = 1e-30


def transducer_loss(
    logits: Any,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    blank: int = 0,
    clamp: float = -1.0,
    jit: bool = False,
) -> Any:
    """-ln Pr(y|x), summed over all alignments of labels and blanks (Graves, 2012, section 2.4).

    A node `(t, u)` of the lattice stands for `t` frames read and `u` labels put out. Blank leads to
    the next frame, the next label to the node of the same frame with one label more, any other
    class nowhere. A row of T frames takes T blanks, the last of which ends it; a frame may put out
    several labels.

    The gradient is written by hand: the probability of passing a node, spread over the classes as
    softmax does, less that of leaving it by each arc. That is one pass over the logits. Of the
    forward pass it needs three numbers for each node, besides the logits.

    Args:
        logits: `(batch, time, labels + 1, classes)`, not normalised. Those of float64 are summed in
            float64, all others in float32.
        labels: `(batch, labels)`, classes other than blank, on TensorFlow a ragged or sparse tensor
            as well. What stands behind the length of a row may be anything.
        logit_lengths: `(batch,)`, the frames T of each row. What logits hold behind them, or behind
            the labels, has no influence, and the gradient there is zero.
        label_lengths: `(batch,)`, the labels U of each row.
        blank: the class that puts out nothing.
        clamp: bound of what each logit adds to the gradient of a row's loss, before that is
            weighed; none where it is not positive.
        jit: whether XLA compiles the walk over the lattice where what is around it is a graph of
            TensorFlow (`jit_in_graphs`); not for what is exported.

    Returns:
        `(batch,)` nats. The loss is infinite, and its gradient zero, for a row that no alignment
        fits: one with labels and no frames, or one whose every alignment needs a logit of -1e30 or
        less; and, in a function that is being compiled, one with a label or a length out of range.
        A row with neither frames nor labels has the loss 0.

    Raises:
        ValueError: shapes do not fit each other, `blank` is no class, or, where values are known
            (not in a function that is being compiled), a label or a length is out of range.

    Example:
        >>> logits = ops.zeros((1, 2, 2, 3))  # two alignments of three arcs of 1/3
        >>> float(transducer_loss(logits, [[1]], [2], [1]))  # ln(27 / 2)
        2.60268...

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711.
    """
    logits = ops.convert_to_tensor(logits)
    check_rank("logits", logits, "(batch, time, labels + 1, classes)")
    steps = ops.shape(logits)[1]
    targets = _targets(logits.shape, steps, labels, logit_lengths, label_lengths, blank)
    run = backend.differentiable(
        lambda *tensors: _forward(blank, jit, *tensors)[0],
        functools.partial(_forward, blank, jit),
        functools.partial(_backward, blank, clamp),
    )
    (loss,) = run(logits, *targets)
    return loss


def factored_transducer_loss(
    transcription: Any,
    prediction: Any,
    labels: Any,
    transcription_lengths: Any,
    label_lengths: Any,
    blank: int = 0,
    jit: bool = False,
) -> Any:
    """`transducer_loss` of the sums of two networks' logits (Graves, 2012, section 2.3).

    The logits are `transcription[:, :, None] + prediction[:, None]`. They are never formed: the
    normalisers of all nodes are one product of matrices of exponentials, and the gradients are two
    more. Where such a product gets so small that terms are lost (the networks contradict each other
    by more than 69 nats, or one of them masks what the other allows), all normalisers are summed
    exactly instead, one label after another. That takes the time of `transducer_loss`, and still
    not its memory.

    Args:
        transcription: `(batch, time, classes)`, of the network that reads the frames.
        prediction: `(batch, labels + 1, classes)`, of the network that reads the labels.
        labels, transcription_lengths, label_lengths, blank, jit: as in `transducer_loss`.

    Returns:
        As `transducer_loss`.

    Raises:
        ValueError: as `transducer_loss`.

    Example:
        >>> transcription, prediction = ops.zeros((1, 2, 3)), ops.zeros((1, 2, 3))
        >>> float(factored_transducer_loss(transcription, prediction, [[1]], [2], [1]))
        2.60268...

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711.
    """
    transcription = ops.convert_to_tensor(transcription)
    prediction = ops.convert_to_tensor(prediction)
    check_rank("transcription", transcription, "(batch, time, classes)")
    check_rank("prediction", prediction, "(batch, labels + 1, classes)")
    batch, steps, classes = transcription.shape
    if not fits(prediction.shape, (batch, None, classes)):
        raise ValueError(
            "prediction must have the batch and the classes of transcription, "
            f"{tuple(transcription.shape)}; got {tuple(prediction.shape)}"
        )
    shape = (batch, steps, prediction.shape[1], classes)
    most = ops.shape(transcription)[1]
    targets = _targets(shape, most, labels, transcription_lengths, label_lengths, blank)
    run = backend.differentiable(
        lambda *tensors: _factored_forward(blank, jit, *tensors)[0],
        functools.partial(_factored_forward, blank, jit),
        functools.partial(_factored_backward, blank),
    )
    (loss,) = run(transcription, prediction, *targets)
    return loss


def transducer_arcs(
    logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any, blank: int = 0
) -> tuple:
    """How probable it is that the alignment of labels leaves each node by each of its arcs.

    Args:
        logits, labels, logit_lengths, label_lengths, blank: as in `transducer_loss`.

    Returns:
        Two tensors `(batch, time, labels + 1)`: by blank, to the next frame, and by the next label,
        to one label more; zero behind the end of a row. Their sum is how probable it is that the
        alignment passes the node; the second, over time, is when a label is put out.

    Raises:
        ValueError: as `transducer_loss`.

    Example:
        >>> logits = ops.zeros((1, 2, 2, 3))  # two alignments, as probable as each other
        >>> by_blank, by_label = transducer_arcs(logits, [[1]], [2], [1])
        >>> by_label[0, :, 0].numpy().round(3).tolist()
        [0.5, 0.5]

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711.
    """
    logits = ops.convert_to_tensor(logits)
    check_rank("logits", logits, "(batch, time, labels + 1, classes)")
    steps = ops.shape(logits)[1]
    targets = _targets(logits.shape, steps, labels, logit_lengths, label_lengths, blank)
    _, (*_, by_blank, by_label) = _forward(blank, False, logits, *targets)
    return by_blank, by_label


@serializable
class TransducerLoss(AlignmentLoss):
    """`transducer_loss` in nats, by default averaged over rows.

    All frames of a batch count. One that is padding must be sure of blank: with a logit of 0 for
    blank and of -1e30 (-65504 in float16) for all other classes it adds nothing to the loss, which
    is then that of the row without the frame.

    Args:
        blank: the class that puts out nothing.
        name: of the loss.
        reduction: over rows, as in `keras.losses.Loss`.
        clamp: of the gradient, as in `transducer_loss`.

    Call arguments:
        y_true: `(batch, labels)`, classes; -1 fills up behind the labels of a row; or ragged or
            sparse, as `transducer_loss` takes them.
        y_pred: logits, `(batch, time, labels + 1, classes)`.
        sample_weight: optional `(batch,)` or `(batch, 1)`, multiplies the rows.

    Raises:
        ValueError: as `transducer_loss`. In a compiled step labels that are padded with the blank,
            or are no classes, make the loss inf instead.

    Example:
        >>> logits = ops.zeros((1, 2, 2, 3))  # two alignments of three arcs of 1/3
        >>> round(float(TransducerLoss()(ops.array([[1]]), logits)), 4)  # ln(27 / 2)
        2.6027

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711.
    """

    def __init__(
        self,
        blank: int = 0,
        name: str | None = "transducer_loss",
        reduction: str | None = "sum_over_batch_size",
        clamp: float = -1.0,
    ) -> None:
        super().__init__(blank, name, reduction)
        self.clamp = float(clamp)

    def call(self, y_true, y_pred):
        labels, logits = padded(y_true), ops.convert_to_tensor(y_pred)
        check_rank("y_true", labels, "(batch, labels)")
        check_rank("y_pred", logits, "(batch, time, labels + 1, classes)")
        lengths = ops.sum(ops.cast(labels >= 0, "int32"), axis=1)
        frames = ops.zeros_like(lengths) + ops.shape(logits)[1]
        return transducer_loss(logits, labels, frames, lengths, self.blank, self.clamp, jit=True)

    def get_config(self):
        return {**super().get_config(), "clamp": self.clamp}


def _targets(shape, most, labels, frames, lengths, blank):
    """Labels `(batch, labels + 1)` that are classes everywhere, and both lengths, all int32.

    Args:
        shape: of the logits, as far as it is known.
        most: the frames of the logits.
        labels, frames, lengths, blank: what a loss was given. It raises `ValueError` as that says.
    """
    batch, steps, columns, classes = shape
    if classes is None:
        raise ValueError(f"the number of classes must be known; got logits of shape {tuple(shape)}")
    check_blank(blank, classes)
    labels, frames, lengths = padded(labels), *map(ops.convert_to_tensor, (frames, lengths))
    places = None if columns is None else columns - 1
    if not fits(labels.shape, (batch, places)):
        raise ValueError(
            f"labels must be (batch, labels), here {(batch, places)}, for logits of labels + 1; "
            f"got shape {tuple(labels.shape)}"
        )
    check_lengths("logit", frames, batch, steps)
    check_lengths("label", lengths, batch, places)
    check_labels(labels, lengths, classes, blank)
    labels, frames, lengths = settled(labels, frames, lengths, most, classes, blank)
    return ops.pad(labels, [[0, 0], [0, 1]]), frames, lengths


def _forward(blank, jit, logits, labels, frames, lengths):
    dtype = sum_dtype(logits.dtype)
    normaliser = _log_sum(ops.cast(logits, dtype))
    by_blank = ops.cast(logits[..., blank], dtype) - normaliser
    by_label = ops.cast(_at(labels[:, None], logits), dtype) - normaliser
    loss, *flows = _lattice(by_blank, by_label, frames, lengths, jit)
    return (loss,), (logits, labels, normaliser, *flows)


def _backward(blank, clamp, residuals, cotangents):
    logits, labels, normaliser, by_blank, by_label = residuals
    weights = cotangents[0][:, None, None]
    if clamp <= 0:
        by_blank, by_label = weights * by_blank, weights * by_label
    passing = by_blank + by_label
    classes = ops.arange(logits.shape[-1], dtype="int32")
    softmax = ops.exp(ops.cast(logits, normaliser.dtype) - normaliser[..., None])
    nothing = ops.zeros((), normaliser.dtype)
    # Behind the labels of a row the label may be the blank, so this looks for the blank first.
    arcs = ops.where(classes == labels[:, None, :, None], by_label[..., None], nothing)
    arcs = ops.where(classes == blank, by_blank[..., None], arcs)
    # Padding may hold NaN.
    d = ops.where((passing == 0)[..., None], nothing, softmax * passing[..., None] - arcs)
    if clamp > 0:
        d = weights[..., None] * ops.clip(d, -clamp, clamp)
    return ops.cast(d, logits.dtype), None, None, None


def _top(x):
    # Without a start Keras refuses a tensor that has no rows.
    return ops.max(x, axis=-1, initial=float("-inf"))


def _log_sum(x):
    top = _top(x)
    return top + ops.log(ops.sum(ops.exp(x - top[..., None]), axis=-1))


def _at(labels, x):
    """The logits `(..., classes)` of labels that broadcast to `(...)`."""
    index = ops.broadcast_to(labels[..., None], (*ops.shape(x)[:-1], 1))
    return ops.take_along_axis(x, index, axis=-1)[..., 0]


def _factored_forward(blank, jit, transcription, prediction, labels, frames, lengths):
    f, g = _real(transcription, frames), _real(prediction, lengths + 1)
    normaliser = _log_normaliser(f, g)
    by_blank = f[:, :, None, blank] + g[:, None, :, blank] - normaliser
    of_frames = ops.broadcast_to(labels[:, None], ops.shape(normaliser))
    by_label = ops.take_along_axis(f, of_frames, axis=-1) + _at(labels, g)[:, None] - normaliser
    loss, *flows = _lattice(by_blank, by_label, frames, lengths, jit)
    return (loss,), (transcription, prediction, labels, frames, lengths, normaliser, *flows)


def _factored_backward(blank, residuals, cotangents):
    transcription, prediction, labels, frames, lengths, normaliser, *flows = residuals
    f, g = _real(transcription, frames), _real(prediction, lengths + 1)
    by_blank, by_label = (cotangents[0][:, None, None] * x for x in flows)
    d_f, d_g = _spread(f, g, normaliser, by_blank + by_label)
    chosen = ops.one_hot(labels, f.shape[-1], dtype=f.dtype)
    is_blank = ops.cast(ops.arange(f.shape[-1], dtype="int32") == blank, f.dtype)
    d_f = d_f - ops.matmul(by_label, chosen) - ops.sum(by_blank, axis=2)[..., None] * is_blank
    d_g = d_g - ops.sum(by_label, axis=1)[..., None] * chosen
    d_g = d_g - ops.sum(by_blank, axis=1)[..., None] * is_blank
    d_f, d_g = ops.cast(d_f, transcription.dtype), ops.cast(d_g, prediction.dtype)
    return d_f, d_g, None, None, None


def _real(x, lengths):
    """Logits `(batch, places, classes)` in the dtype of sums, 0 behind the lengths."""
    real = ops.arange(ops.shape(x)[1], dtype="int32") < lengths[:, None]
    x = ops.cast(x, sum_dtype(x.dtype))
    return ops.where(real[..., None], x, ops.zeros((), x.dtype))


def _exponentials(x):
    """Of logits, less what `top` is, and `top`."""
    top = _top(x)
    return ops.exp(x - top[..., None]), top


def _log_normaliser(f, g):
    """ln sum_k exp(f + g) of all nodes, `(batch, time, labels + 1)`."""
    (from_f, top_f), (from_g, top_g) = _exponentials(f), _exponentials(g)
    product = ops.matmul(from_f, ops.swapaxes(from_g, 1, 2))

    def direct():
        return top_f[:, :, None] + top_g[:, None] + ops.log(product)

    def exact():
        columns = ops.shape(g)[1]

        def body(u, found):
            return u + 1, backend.write(found, u, _log_sum(f + g[:, u][:, None]))

        found = (0, backend.buffer(columns, top_f))
        _, found = ops.while_loop(lambda u, _: u < columns, body, found, maximum_iterations=columns)
        return ops.transpose(backend.stack(found), (1, 2, 0))

    return ops.cond(ops.any(product < _FAINT), exact, direct)


def _spread(f, g, normaliser, passing):
    """`passing`, as softmax spreads it over the classes, summed over labels and over frames."""
    (from_f, top_f), (from_g, top_g) = _exponentials(f), _exponentials(g)
    product = ops.exp(normaliser - top_f[:, :, None] - top_g[:, None])

    def direct():
        each = passing / product
        d_f = from_f * ops.matmul(each, from_g)
        return d_f, from_g * ops.matmul(ops.swapaxes(each, 1, 2), from_f)

    def exact():
        columns = ops.shape(g)[1]

        def body(u, d_f, d_g):
            spread = ops.exp(f + g[:, u][:, None] - normaliser[:, :, u][..., None])
            spread = spread * passing[:, :, u][..., None]
            return u + 1, d_f + spread, backend.write(d_g, u, ops.sum(spread, axis=1))

        start = 0, ops.zeros_like(f), backend.buffer(columns, g[:, 0])
        _, d_f, d_g = ops.while_loop(
            lambda u, *_: u < columns, body, start, maximum_iterations=columns
        )
        return d_f, ops.swapaxes(backend.stack(d_g), 0, 1)

    # A little more than _FAINT, as this product is computed in another way.
    return ops.cond(ops.any(product < 1.01 * _FAINT), exact, direct)


def _lattice(by_blank, by_label, frames, lengths, jit):
    """The loss, and how probable it is that each node is left by blank and by the next label.

    Args:
        by_blank, by_label: log probabilities `(batch, time, labels + 1)` of the arcs.
        frames, lengths: T and U of the rows.
        jit: as in `transducer_loss`.

    Returns:
        `(batch,)`, and two tensors as `by_blank`, zero behind a row's end.
    """
    if not (jit and backend.may_jit()):
        return _passed(by_blank, by_label, frames, lengths)
    # Nodes behind a row's end change nothing.
    _, rows, columns = ops.shape(by_blank)
    for axis, size in ((1, rows), (2, columns)):
        more = backend.bucket(size) - size
        by_blank, by_label = longer(by_blank, axis, more), longer(by_label, axis, more)
    loss, *flows = backend.jit(_passed)(by_blank, by_label, frames, lengths)
    return loss, *(flow[:, :rows, :columns] for flow in flows)


def _passed(by_blank, by_label, frames, lengths):
    by_blank, by_label = _extended(by_blank, by_label, frames, lengths)
    batch, rows, columns = ops.shape(by_blank)
    diagonals = rows + columns - 1
    blanks, labels = _to_diagonals(by_blank), _to_diagonals(by_label)
    # Read from its end, with labels from the last, the lattice is one of the same kind, so one
    # loop finds forward and backward variables. A label's arc is kept where it arrives.
    arriving = ops.pad(labels[:, :, :-1], [[0, 0], [0, 0], [1, 0]])
    stay = ops.concatenate([blanks, ops.flip(blanks, (0, 2))], axis=1)
    move = ops.concatenate([arriving, ops.flip(labels, (0, 2))], axis=1)
    first = ops.arange(columns, dtype="int32") == 0
    move = ops.where(first, ops.cast(IMPOSSIBLE, move.dtype), move)
    first = ops.broadcast_to(first, (2, batch, columns))
    states, end = _walk(
        ops.reshape(ops.where(first, ops.zeros((), move.dtype), IMPOSSIBLE), (-1,)),
        *(ops.reshape(x, (diagonals, 2 * batch * columns)) for x in (stay, move)),
    )
    states = ops.reshape(states, (diagonals, 2, batch, columns))
    total = ops.reshape(end, (2, batch, columns))[0, :, -1]
    before, behind = states[:, 0], ops.flip(states[:, 1], (0, 2))
    beside = ops.pad(behind[:, :, 1:], [[0, 0], [0, 0], [0, 1]])
    possible = ops.logical_and(total > IMPOSSIBLE / 2, frames >= 0)
    real = ops.arange(rows - 1, dtype="int32") < frames[:, None]
    real = ops.logical_and(real, possible[:, None])[..., None]
    flows = []
    for arc, after in ((blanks, behind), (labels, beside)):
        flow = ops.exp(ops.minimum(before + arc + after - total[:, None], 0))
        flows.append(ops.where(real, _to_nodes(flow)[:, :-1], ops.zeros((), flow.dtype)))
    return ops.where(possible, -total, float("inf")), *flows


def _extended(by_blank, by_label, frames, lengths):
    """The arcs with one frame more, all of them finite, so that all rows end in the last corner.

    From the node behind a row's last blank there is one way, which costs nothing: blanks to the
    frame that is added, labels to its last node, and a blank.
    """
    zero, never = ops.zeros((), by_blank.dtype), ops.cast(IMPOSSIBLE, by_blank.dtype)
    by_blank, by_label = (ops.pad(x, [[0, 0], [0, 1], [0, 0]]) for x in (by_blank, by_label))
    _, rows, columns = ops.shape(by_blank)
    t, u = ops.arange(rows, dtype="int32")[:, None], ops.arange(columns, dtype="int32")
    frames, lengths = frames[:, None, None], lengths[:, None, None]
    added, final = t == rows - 1, u == columns - 1
    free = ops.where(ops.where(added, final, u == lengths), zero, never)
    arc = ops.where(u <= lengths, ops.maximum(by_blank, never), never)
    by_blank = ops.where(t < frames, arc, free)
    free = ops.where(added & (u >= lengths) & ~final, zero, never)
    arc = ops.where(u < lengths, ops.maximum(by_label, never), never)
    return by_blank, ops.where(t < frames, arc, free)


def _to_diagonals(x):
    """`(batch, rows, columns)` to `(rows + columns - 1, batch, columns)`, by row + column."""
    batch, rows, columns = ops.shape(x)
    diagonals = rows + columns - 1
    x = ops.transpose(x, (0, 2, 1))
    x = ops.pad(x, [[0, 0], [0, 0], [0, columns]], constant_values=IMPOSSIBLE)
    x = ops.reshape(x, (batch, columns * (diagonals + 1)))[:, : columns * diagonals]
    return ops.transpose(ops.reshape(x, (batch, columns, diagonals)), (2, 0, 1))


def _to_nodes(x):
    """The inverse of `_to_diagonals`."""
    diagonals, batch, columns = ops.shape(x)
    x = ops.reshape(ops.transpose(x, (1, 2, 0)), (batch, columns * diagonals))
    x = ops.reshape(ops.pad(x, [[0, 0], [0, columns]]), (batch, columns, diagonals + 1))
    return ops.transpose(x[:, :, : diagonals + 1 - columns], (0, 2, 1))


def _walk(state, stay, move):
    """The log probabilities of all nodes, diagonal by diagonal, `(diagonals, nodes)`, and the next.

    A node is reached from its own place, over `stay`, or from the place before, over `move`. All
    lattices stand in one row, where no arc moves into the first place of one.
    """

    def step(state, arcs, _):
        stay, move = arcs
        # XLA makes one loop of vectors out of a pad; of a roll or a concatenation it does not.
        moved = ops.pad(state[:-1], [[1, 0]], constant_values=IMPOSSIBLE)
        return add_logs(state + stay, moved + move), state

    state, states = scan(step, state, ops.shape(stay)[0], (stay, move))
    return stacked(states), state
