"""Connectionist temporal classification: three ways to read a labelling off the logits.

See `ctc_loss` for what a path and a labelling are (Graves et al., 2006).
"""

import heapq
import itertools
from typing import Any

import numpy as np
from keras import ops

from ._base import whole
from ._labels import IMPOSSIBLE, add_logs, best_path, check_logits, summable
from ._scan import scan, stacked


def ctc_best_path(logits: Any, lengths: Any, blank: int = 0) -> tuple:
    """The labelling of the most probable path (Graves et al., 2006, section 3.2).

    It need not be the most probable labelling. Works inside graphs, compiled or not.

    Args:
        logits: `(batch, time, classes)`; frames beyond a row's length may hold anything.
        lengths: `(batch,)` integers, frames of each row.
        blank: the class that stands for no label.

    Returns:
        The labels, `(batch, time)` int32, and the frames in which they begin, likewise; -1 behind
        the last label.

    Raises:
        ValueError: shapes do not fit, `blank` is no class, or a known length is out of range.
    """
    logits = ops.convert_to_tensor(logits)
    blank = check_logits(logits, lengths, blank)
    labels = best_path(logits, blank)
    real = ops.arange(ops.shape(labels)[1]) < ops.cast(lengths, "int32")[:, None]
    return _packed(ops.where(real, labels, -1))


def _packed(labels):
    """Labels of frames, `(rows, time)` with -1 between, brought to the front; and their frames."""
    time = ops.shape(labels)[1]
    frames = ops.sort(ops.where(labels >= 0, ops.arange(time), time), axis=-1)
    there = frames < time
    packed = ops.take_along_axis(labels, ops.where(there, frames, 0), axis=-1)
    return ops.where(there, packed, -1), ops.where(there, frames, -1)


def ctc_beam_search(
    logits: Any, lengths: Any, width: int, blank: int = 0, n_best: int = 1
) -> tuple:
    """The most probable labellings that a beam of them finds, frame by frame.

    Paths that say the same so far are one hypothesis, whose probability is their sum: the search of
    the transducer (Graves, 2012, section 2.5) with a softmax that depends on the frame alone, as
    Graves et al. (2013) decode CTC. Wide enough, it is exact. Works inside graphs, compiled or not.

    Args:
        logits: `(batch, time, classes)`; frames beyond a row's length may hold anything.
        lengths: `(batch,)` integers, frames of each row.
        width: hypotheses that are kept from one frame to the next.
        blank: the class that stands for no label.
        n_best: how many labellings to return, `width` at most.

    Returns:
        The labels, best labelling first, `(batch, n_best, time)` int32; for each the frame in which
        it joined the beam, likewise; both -1 behind the last label. The log-probabilities,
        `(batch, n_best)`, float64 for float64 logits and float32 for all others, -inf where there
        are not so many labellings.

    Raises:
        ValueError: shapes do not fit, `blank` is no class, `width` or `n_best` is out of range, or
            a known length is.
    """
    logits = ops.convert_to_tensor(logits)
    blank = check_logits(logits, lengths, blank)
    width, n_best = whole("width", width, 1), whole("n_best", n_best, 1)
    if n_best > width:
        raise ValueError(f"n_best must be at most the width, {width}; got {n_best}")
    logits = summable(logits)
    batch, time, classes = ops.shape(logits)
    real = ops.arange(time) < ops.cast(lengths, "int32")[:, None]
    sure = ops.where(ops.arange(classes) == blank, 0.0, IMPOSSIBLE)
    sure = ops.cast(sure, logits.dtype)
    scores = ops.where(real[..., None], ops.log_softmax(logits, axis=-1), sure)
    scores = ops.maximum(ops.transpose(scores, (1, 0, 2)), IMPOSSIBLE)

    alone = ops.where(ops.arange(width) == 0, 0.0, IMPOSSIBLE)
    in_blank = ops.broadcast_to(ops.cast(alone, logits.dtype), (batch, width))
    none = ops.zeros((batch, width), "int32")
    marks = ops.zeros((batch, width, 2), "uint32")
    beam = in_blank, ops.full_like(in_blank, IMPOSSIBLE), none - 1, marks, marks
    beam, history = scan(
        lambda beam, scores, _: _advance(beam, scores, width, blank), beam, time, scores
    )

    def back(chosen, rows, _):
        return [ops.take_along_axis(x, chosen, axis=-1) for x in rows]

    total, order = ops.top_k(add_logs(beam[0], beam[1]), n_best)
    order = ops.cast(order, "int32")
    _, labels = scan(back, order, time, history, reverse=True)
    labels = ops.transpose(stacked(labels), (1, 2, 0))
    labels = ops.reshape(labels, (batch * n_best, time))
    labels, frames = (ops.reshape(x, (batch, n_best, time)) for x in _packed(labels))
    found = total > IMPOSSIBLE / 10
    labels, frames = (ops.where(found[..., None], x, -1) for x in (labels, frames))
    return labels, frames, ops.where(found, total, -float("inf"))


def _advance(beam, scores, width, blank):
    """The beam after one more frame, where its hypotheses came from, and what was added to them.

    A beam holds for each hypothesis the log-probabilities of ending in blank and in its last label,
    `(batch, width)`; the last label, -1 before the first; and a mark that tells hypotheses apart,
    with the mark of the hypothesis without its last label, `(batch, width, 2)`.
    """
    in_blank, in_label, last, mark, shorter = beam
    classes = scores.shape[-1]
    total = add_logs(in_blank, in_label)
    is_last = ops.one_hot(last, classes, dtype=scores.dtype)
    score_of_last = ops.take_along_axis(scores, ops.maximum(last, 0), axis=-1)

    # By a label that repeats the last one only paths that end in blank grow longer.
    grown = ops.where(is_last > 0, in_blank[..., None], total[..., None]) + scores[:, None]

    # [i, j]: hypothesis j is hypothesis i and one label more. It takes over what i grows to by it.
    follows = ops.all(mark[:, :, None] == shorter[:, None], axis=-1)
    longer = ops.logical_and(last >= 0, total > IMPOSSIBLE / 10)
    follows = ops.logical_and(follows, longer[:, None])
    taken = ops.where(last[:, :, None] == last[:, None], in_blank[..., None], total[..., None])
    taken = ops.max(ops.where(follows, taken, IMPOSSIBLE), axis=1)
    merged = ops.cast(follows, scores.dtype) @ is_last > 0
    stay_blank = total + scores[:, blank : blank + 1]
    stay_label = add_logs(in_label, taken) + score_of_last

    # A hypothesis that stays as it is stands in the place of blank.
    at_blank = ops.arange(classes) == blank
    candidates = ops.where(merged, IMPOSSIBLE, grown)
    candidates = ops.where(at_blank, add_logs(stay_blank, stay_label)[..., None], candidates)
    best, chosen = ops.top_k(ops.reshape(candidates, (-1, width * classes)), width)
    chosen = ops.cast(chosen, "int32")
    origin, label = chosen // classes, chosen % classes
    stays = label == blank

    def of_origin(x):
        index = origin if len(x.shape) == 2 else origin[..., None]
        return ops.take_along_axis(x, index, axis=1)

    in_blank = ops.where(stays, of_origin(stay_blank), IMPOSSIBLE)
    in_label = ops.where(stays, of_origin(stay_label), best)
    last = ops.where(stays, of_origin(last), label)
    mark, shorter = of_origin(mark), of_origin(shorter)
    shorter = ops.where(stays[..., None], shorter, mark)
    mark = ops.where(stays[..., None], mark, _mark(mark, label))
    beam = in_blank, in_label, last, mark, shorter
    return beam, (origin, ops.where(stays, -1, label))


def _mark(mark, label):
    """The mark of a hypothesis and one label more: a polynomial in two odd numbers modulo 2^32.

    Two hypotheses of the same mark would be taken for one. By chance that is one pair in 2^64.
    """
    factors = ops.convert_to_tensor(np.array([2654435761, 1597334677], "uint32"))
    return mark * factors + ops.cast(label[..., None] + 1, "uint32")


def ctc_prefix_search(
    logits: Any,
    lengths: Any,
    blank: int = 0,
    threshold: float = 0.9999,
    max_expansions: int = 10_000,
) -> list[tuple[list[int], float]]:
    """The most probable labellings by prefix search (Graves et al., 2006, section 3.2).

    The search grows the most probable beginning of a labelling until no other can hold a better
    one. It is exact between frames that are almost sure of blank, at which utterances are cut; its
    time may grow with two to the number of frames in between. Runs on numpy, in float64.

    Args:
        logits: `(batch, time, classes)`; frames beyond a row's length may hold anything.
        lengths: `(batch,)` integers, frames of each row.
        blank: the class that stands for no label.
        threshold: probability of blank above which a frame is a cut. 1 cuts nowhere.
        max_expansions: how many beginnings of labellings may be grown between two cuts.

    Returns:
        For each row `(labels, log-probability)`, a list of ints and a float. The probability is
        that of the paths that are blank at the cuts: all of them if there are none.

    Raises:
        ValueError: shapes do not fit, `blank` is no class, a length or the threshold is out of
            range.
        RuntimeError: `max_expansions` were not enough.
    """
    logits = np.asarray(ops.convert_to_numpy(logits), "float64")
    blank = check_logits(logits, lengths, blank)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1; got {threshold!r}")
    found = []
    for row, length in zip(logits, np.asarray(ops.convert_to_numpy(lengths))):
        scores = row[:length] - np.logaddexp.reduce(row[:length], axis=-1, keepdims=True)
        is_cut = scores[:, blank] > np.log(threshold)
        edges = [-1, *np.flatnonzero(is_cut), length]
        labels, total = [], float(np.sum(scores[is_cut, blank]))
        for before, after in itertools.pairwise(edges):
            piece, nats = _prefix_search(scores[before + 1 : after], blank, max_expansions)
            labels, total = labels + piece, total + nats
        found.append((labels, total))
    return found


def _prefix_search(scores, blank, max_expansions):
    """The most probable labelling, and its log-probability, of `(time, classes)` of those."""
    # Row t: after t frames, the paths that say the prefix and end in its last label or in blank.
    in_label = np.full(len(scores) + 1, -np.inf)
    in_blank = np.concatenate([[0.0], np.cumsum(scores[:, blank])])
    best, best_labels = in_blank[-1], ()
    # `-beyond`: all labellings that go on from a prefix, together.
    beyond = _less(0.0, best)
    prefixes = [(-beyond, (), in_label, in_blank)]
    for _ in range(max_expansions):
        if not prefixes or -prefixes[0][0] <= best:
            return [int(k) for k in best_labels], float(best)
        _, labels, in_label, in_blank = heapq.heappop(prefixes)
        ready = np.repeat(np.logaddexp(in_label, in_blank)[:-1, None], scores.shape[1], axis=1)
        if labels:
            ready[:, labels[-1]] = in_blank[:-1]
        enters = ready + scores
        grown = np.full((2, len(scores) + 1, scores.shape[1]), -np.inf)
        for t, score in enumerate(scores):
            grown[0, t + 1] = np.logaddexp(enters[t], grown[0, t] + score)
            grown[1, t + 1] = np.logaddexp(*grown[:, t]) + score[blank]
        exact = np.logaddexp(*grown[:, -1])
        beyond = _less(np.logaddexp.reduce(enters, axis=0), exact)
        exact[blank] = beyond[blank] = -np.inf
        if exact.max() > best:
            best, best_labels = exact.max(), (*labels, exact.argmax())
        for k in np.flatnonzero(beyond > best):
            longer = (-beyond[k], (*labels, k), grown[0, :, k], grown[1, :, k])
            heapq.heappush(prefixes, longer)
    raise RuntimeError(
        f"prefix search did not end within {max_expansions} expansions over {len(scores)} frames; "
        "a lower threshold cuts them into shorter pieces, and ctc_beam_search takes any number"
    )


def _less(a, b):
    """`log(exp(a) - exp(b))`, -inf where rounding leaves nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b < a, a + np.log1p(-np.exp(np.minimum(b - a, 0.0))), -np.inf)
