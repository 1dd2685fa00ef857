"""The most probable sequences of symbols, by a beam in which all that a model knows goes along."""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from ._base import sum_dtype, whole


def beam_search(
    step: Callable,
    state: Any,
    batch: Any,
    begin: int,
    end: int,
    width: int = 12,
    longest: Any = 100,
    n_best: int = 1,
) -> tuple:
    """Keeps the `width` most probable beginnings, by log-probability that is not normalised.

    A hypothesis that has ended keeps its place in the beam, and may lose it to others. All rows are
    searched at once, in one loop, which works inside graphs, compiled or not. It ends when the
    `n_best` first hypotheses of every row have ended, as none can overtake them.

    Args:
        step: `step(symbols (batch * width,) int32, place, state) -> (logits (batch * width,
            classes), state)`: reads the symbol in front of a place, and says what may stand there.
        state: nest of tensors `(batch, ...)` before the first symbol, which becomes part of every
            hypothesis.
        batch: rows.
        begin: the symbol in front of the first place.
        end: the symbol behind which nothing follows.
        width: hypotheses of each row.
        longest: symbols of a hypothesis, `end` included; a whole number from 1 on, or a tensor.
        n_best: how many hypotheses are wanted.

    Returns:
        For the `n_best` of each row, the best first, those that have ended before all that have
        not: the symbols, `(batch, n_best, longest)` int32, `end` and all behind it; the
        log-probability of each given those before, likewise, 0 behind `end`, float64 for float64
        logits and float32 for all others; and whether it has ended, `(batch, n_best)`. The
        log-probabilities of a place that there is no hypothesis for sum to minus infinity.

    Raises:
        ValueError: a count is no whole number from 1 on, or n_best is more than width.

    Example:
        >>> odds = keras.ops.log(keras.ops.array([[0.2, 0.8], [0.6, 0.4]]))
        >>> said, logp, ended = beam_search(
        ...     lambda symbols, place, state: (keras.ops.take(odds, symbols, axis=0), state),
        ...     (), batch=1, begin=0, end=0, width=2, longest=3,
        ... )
        >>> said.tolist(), float(keras.ops.exp(keras.ops.sum(logp)))
        ([[[1, 0, 0]]], 0.48)

    Reference:
        Kalchbrenner et al., "Neural Machine Translation in Linear Time", 2016, arXiv:1610.10099,
        section 5, with a beam of 12.
    """
    width, n_best = whole("width", width, 1), whole("n_best", n_best, 1)
    if n_best > width:
        raise ValueError(f"n_best must be at most the width, {width}; got {n_best}")
    if isinstance(longest, int | float):
        longest = whole("longest", longest, 1)
    state = tree.map_structure(lambda x: ops.repeat(x, width, axis=0), state)
    first = ops.full((batch, width), begin, "int32")
    row = width * ops.arange(batch, dtype="int32")[:, None]
    places, rank = ops.arange(longest, dtype="int32"), ops.arange(width, dtype="int32")
    like, _ = step(ops.reshape(first, (-1,)), 0, state)
    dtype, classes = sum_dtype(like.dtype), like.shape[-1]
    impossible = ops.full((), -float("inf"), dtype)
    silent = ops.where(ops.arange(classes) == end, ops.zeros((), dtype), impossible)
    # All begin alike: one of them is enough.
    total = ops.broadcast_to(ops.where(rank == 0, ops.zeros((), dtype), impossible), (batch, width))

    def going(place, last, total, ended, said, logp, state):
        return ops.logical_and(place < longest, ops.logical_not(ops.all(ended[:, :n_best])))

    def body(place, last, total, ended, said, logp, state):
        logits, state = step(ops.reshape(last, (-1,)), place, state)
        found = ops.log_softmax(ops.cast(logits, dtype), axis=-1)
        found = ops.reshape(found, (batch, width, classes))
        found = ops.where(ended[..., None], silent, found)
        total = ops.reshape(total[..., None] + found, (batch, width * classes))
        total, best = ops.top_k(total, width)
        best = ops.cast(best, "int32")
        parent, last = best // classes, best % classes
        taken = ops.reshape(row + parent, (-1,))
        state = tree.map_structure(lambda x: ops.take(x, taken, axis=0), state)
        found = ops.take_along_axis(ops.reshape(found, (batch, -1)), best, axis=1)
        possible = total > impossible
        found = ops.where(possible, found, impossible)
        ended = ops.logical_or(ops.take_along_axis(ended, parent, axis=1), last == end)
        ended = ops.logical_and(ended, possible)
        here = places == place
        said, logp = (
            ops.where(here, new[..., None], ops.take_along_axis(old, parent[..., None], axis=1))
            for new, old in ((last, said), (found, logp))
        )
        return place + 1, last, total, ended, said, logp, state

    _, _, total, ended, said, logp, _ = ops.while_loop(
        going,
        body,
        (
            0,
            first,
            total,
            ops.zeros((batch, width), "bool"),
            ops.full((batch, width, longest), end, "int32"),
            ops.zeros((batch, width, longest), dtype),
            state,
        ),
        maximum_iterations=longest,
    )
    order = ops.argsort(ops.where(ended, rank, rank + width), axis=1)[:, :n_best]
    ended = ops.take_along_axis(ended, order, axis=1)
    said, logp = (ops.take_along_axis(x, order[..., None], axis=1) for x in (said, logp))
    return said, logp, ended
