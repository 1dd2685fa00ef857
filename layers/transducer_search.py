"""Reading labels off a transducer (Graves, 2012): greedily, or by the paper's beam search.

Both searches take the transducer as functions, so that a sum of logits (Graves, 2012) and a network
that joins hidden vectors (Graves et al., 2013) serve alike:

    initial_state(n) -> state
        Of the prediction network: a nest of `(n, ...)` tensors.
    predict(labels (n,) int32, state) -> (rows (n, P), state)
        One step of the prediction network. Before the first label stands blank, the null symbol.
    join(rows (n, F), rows (n, P)) -> logits (n, classes)
        From a row of the transcription network and a row of the prediction network each.
"""

import bisect
import heapq
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from . import _backend as backend
from ._base import sum_dtype, whole
from ._labels import check_lengths, check_rank


def transducer_greedy(
    predict: Callable,
    join: Callable,
    initial_state: Callable,
    transcription: Any,
    lengths: Any,
    blank: int = 0,
    max_symbols: int = 4,
    max_labels: int | None = None,
) -> tuple:
    """Takes the most probable symbol, again and again: blank goes on to the next frame.

    Every row of the batch goes at its own pace, in one loop of as many rounds as the slowest needs.
    Works inside graphs, compiled or not.

    Args:
        predict, join, initial_state: the transducer, as the head of this file says.
        transcription: `(batch, time, F)`, rows of the transcription network; what lies beyond a
            row's length may be anything.
        lengths: `(batch,)` integers, frames of each row.
        blank: the class that goes on to the next frame.
        max_symbols: the most labels that a frame may emit. Behind them blank is taken, whatever its
            probability.
        max_labels: the most labels of a row, likewise; `time * max_symbols` without it.

    Returns:
        The labels, `(batch, max_labels)` int32, and the frames that emitted them, likewise; -1
        behind the last label. The log-probability of the alignment that was taken, `(batch,)`,
        float64 for float64 logits and float32 for all others.

    Raises:
        ValueError: shapes do not fit, a limit is no whole number from 1 on, or a known length is
            out of range.
    """
    transcription = ops.convert_to_tensor(transcription)
    _check_transcription(transcription, lengths)
    max_symbols = whole("max_symbols", max_symbols, 1)
    batch, time, _ = ops.shape(transcription)
    limit = time * max_symbols if max_labels is None else whole("max_labels", max_labels, 1)
    lengths = ops.cast(lengths, "int32")
    none = ops.zeros_like(lengths)
    row = ops.arange(batch, dtype="int32")
    # A frame more, which is read where a row is finished and counts nowhere.
    frames = ops.pad(transcription, ((0, 0), (0, 1), (0, 0)))
    frames = ops.reshape(frames, (-1, transcription.shape[-1]))

    def scores_at(frame, rows):
        return _log_softmax(join(ops.take(frames, row * (time + 1) + frame, axis=0), rows))

    def body(step, frame, symbols, count, total, rows, state, emitted):
        scores = scores_at(frame, rows)
        best = ops.cast(ops.argmax(scores, axis=-1), "int32")
        full = ops.logical_or(symbols >= max_symbols, count >= limit)
        best = ops.where(full, blank, best)
        reads = frame < lengths
        emits = ops.logical_and(reads, best != blank)
        score = ops.take_along_axis(scores, best[:, None], axis=-1)[:, 0]
        total = total + ops.where(reads, score, ops.zeros_like(score))
        place = row * limit + count
        emitted = backend.commit(emitted, step, place, emits, (best[:, None], frame[:, None]))
        next_rows, next_state = predict(best, state)
        rows = _chosen(emits, next_rows, rows)
        state = keras.tree.map_structure(
            lambda new, old: _chosen(emits, new, old), next_state, state
        )
        one = ops.cast(emits, "int32")
        frame = frame + ops.cast(reads, "int32") - one
        symbols = (symbols + one) * one
        return step + 1, frame, symbols, count + one, total, rows, state, emitted

    rows, state = predict(none + blank, initial_state(batch))
    total = ops.zeros_like(ops.max(scores_at(none, rows), axis=-1))
    emitted = backend.open_rows(batch * limit, (none[:, None], none[:, None]))
    _, _, _, count, total, _, _, emitted = ops.while_loop(
        lambda step, frame, *_: ops.any(frame < lengths),
        body,
        (0, none, none, none, total, rows, state, emitted),
    )
    written = ops.arange(limit) < count[:, None]
    labels, moments = (
        ops.where(written, ops.reshape(x, (batch, limit)), -1)
        for x in backend.close_rows(emitted, batch * limit)
    )
    return labels, moments, total


def transducer_beam_search(
    predict: Callable,
    join: Callable,
    initial_state: Callable,
    transcription: Any,
    lengths: Any,
    width: int = 10,
    blank: int = 0,
    n_best: int = 1,
    length_normalised: bool = False,
    max_expansions: int | None = None,
) -> list:
    """The most probable labellings by the paper's search (Graves, 2012, section 2.5).

    Alignments that say the same are one hypothesis: at each frame a hypothesis also gets what its
    beginnings, if they are in the beam, have to give by emitting its other labels there. Runs on
    numpy, in float64, one row after another. A step of the prediction network is taken once for
    each hypothesis; steps are taken together for hypotheses that are about to be needed, their
    number filled up to a power of two, so that compiled functions meet few sizes.

    Args:
        predict, join, initial_state: the transducer, as the head of this file says. They get
            tensors, and are called eagerly; compiled functions are welcome.
        transcription: `(batch, time, F)`, rows of the transcription network; what lies beyond a
            row's length is never read.
        lengths: `(batch,)` integers, frames of each row.
        width: hypotheses that are kept from one frame to the next.
        blank: the class that goes on to the next frame.
        n_best: how many labellings to return.
        length_normalised: ranks the labellings at the end by log-probability per label, as in 2012,
            instead of log-probability, as in 2013. The empty one is ranked by its log-probability.
        max_expansions: how many hypotheses a frame may let emit; `10 * width` without it. A network
            that hardly ever says blank would go on for ever.

    Returns:
        For each row a list of `n_best` or fewer `(labels, log-probability)`, the best first: a list
        of ints and a float, which is not normalised.

    Raises:
        ValueError: shapes do not fit, a count is no whole number from 1 on, or a length is out of
            range.

    Reference:
        Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711;
        Graves, Mohamed and Hinton, "Speech Recognition with Deep Recurrent Neural Networks", 2013,
        arXiv:1303.5778.
    """
    transcription = ops.convert_to_numpy(transcription)
    lengths = np.asarray(ops.convert_to_numpy(lengths))
    _check_transcription(transcription, lengths)
    width, n_best = whole("width", width, 1), whole("n_best", n_best, 1)
    if max_expansions is None:
        max_expansions = 10 * width
    max_expansions = whole("max_expansions", max_expansions, 1)

    def rank(hypothesis):
        labels, total = hypothesis
        return total / max(len(labels), 1) if length_normalised else total

    found = []
    for frames, length in zip(transcription, lengths):
        network = _Network(predict, join, initial_state, blank)
        beam = {(): 0.0}
        for frame in frames[:length]:
            beam = _after_frame(beam, network, frame, width, max_expansions)
        best = heapq.nlargest(n_best, beam.items(), key=rank)
        found.append([(list(labels), float(total)) for labels, total in best])
    return found


def _after_frame(beam, network, frame, width, max_expansions):
    """The beam, labels to log-probability, behind one more frame."""
    network.read(frame, _between(beam))
    waiting = _with_beginnings(beam, network)
    blank, finished, ranked = network.blank, {}, []
    queue = [(-total, labels) for labels, total in waiting.items()]
    heapq.heapify(queue)
    for _ in range(max_expansions):
        if not queue or len(ranked) - bisect.bisect_right(ranked, -queue[0][0]) >= width:
            break
        if queue[0][1] not in network.scores:
            nearest = heapq.nsmallest(max(width - len(finished), 1), queue)
            network.score([labels for _, labels in nearest if labels not in network.scores])
        total, labels = heapq.heappop(queue)
        scores = network.scores[labels] - total
        finished[labels] = scores[blank]
        bisect.insort(ranked, scores[blank])
        for k in np.flatnonzero(scores > -np.inf):
            longer = (*labels, int(k))
            # A longer one that was there before has had its share, by `_with_beginnings`.
            if k != blank and longer not in waiting:
                waiting[longer] = scores[k]
                heapq.heappush(queue, (-scores[k], longer))
    return dict(heapq.nlargest(width, finished.items(), key=lambda item: item[1]))


def _between(beam):
    """The hypotheses of a beam, and all beginnings of them that are no shorter than the shortest.

    A hypothesis is scored at each of them by the labels that follow.
    """
    least = min(map(len, beam))
    return {labels[:n] for labels in beam for n in range(least, len(labels) + 1)}


def _with_beginnings(beam, network):
    """The beam's log-probabilities with what comes from proper prefixes that are in it, too."""
    least, summed = min(map(len, beam)), {}
    for labels, total in beam.items():
        emitted = 0.0
        for n in range(len(labels) - 1, least - 1, -1):
            emitted += network.scores[labels[:n]][labels[n]]
            if labels[:n] in beam:
                # Of the beam before the frame: the sum over prefixes already has all ways there.
                total = np.logaddexp(total, beam[labels[:n]] + emitted)
        summed[labels] = total
    return summed


class _Network:
    """A transducer on numpy, with a memory of the prediction network's answers.

    Attributes:
        scores: log-probabilities at the present frame, for each hypothesis that was asked for.
    """

    def __init__(self, predict, join, initial_state, blank):
        self.predict, self.join, self.blank = predict, join, blank
        self.initial_state = initial_state
        self.answers = {}
        self.frame, self.scores = None, {}

    def read(self, frame, hypotheses):
        """Goes on to a frame, where it scores the hypotheses."""
        self.frame, self.scores = frame, {}
        self.score(sorted(hypotheses))

    def score(self, hypotheses):
        self._think([labels for labels in hypotheses if labels not in self.answers])
        rows = _filled(np.stack([self.answers[labels][0] for labels in hypotheses]))
        logits = self.join(
            ops.convert_to_tensor(np.repeat(self.frame[None], len(rows), axis=0)),
            ops.convert_to_tensor(rows),
        )
        logits = np.asarray(ops.convert_to_numpy(logits), "float64")
        scores = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        self.scores.update(zip(hypotheses, scores))

    def _think(self, hypotheses):
        """Takes the step of the prediction network that ends each hypothesis."""
        if not hypotheses:
            return
        if hypotheses == [()]:
            last, state = [self.blank], self.initial_state(1)
        else:
            last = [labels[-1] for labels in hypotheses]
            states = [self.answers[labels[:-1]][1] for labels in hypotheses]
            state = keras.tree.map_structure(lambda *x: _filled(np.stack(x)), *states)
            state = keras.tree.map_structure(ops.convert_to_tensor, state)
        last = ops.convert_to_tensor(_filled(np.array(last, "int32")))
        answers = keras.tree.map_structure(ops.convert_to_numpy, self.predict(last, state))
        for i, labels in enumerate(hypotheses):
            self.answers[labels] = keras.tree.map_structure(lambda x, i=i: x[i], answers)


def _filled(rows):
    """Rows with the last one repeated, so that their number is a power of two."""
    missing = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])


def _chosen(keep, new, old):
    """Rows of `new` where `keep`, `(batch,)`, says so, and of `old` elsewhere."""
    return ops.where(ops.reshape(keep, (-1, *[1] * (len(new.shape) - 1))), new, old)


def _log_softmax(logits):
    return ops.log_softmax(ops.cast(logits, sum_dtype(logits.dtype)), axis=-1)


def _check_transcription(transcription, lengths):
    check_rank("transcription", transcription, "(batch, time, features)")
    check_lengths("transcription", lengths, *transcription.shape[:2])
