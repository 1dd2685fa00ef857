"""One rule for the steps of a sequence that a mask takes out.

A masked step counts as if it were not there: all states pass it as they are, and what it holds may
be anything. What is returned at it is the output of the last real step before it, zero where none
was, as `keras.layers.RNN` has it; or always zero, which is `zero_output_for_mask`. The default of
each layer is what its shipped models were trained with.
"""

from keras import ops

from . import _backend as backend


class RealSteps:
    """Which steps of sequences are real, and how a layer passes over the others.

    Sequences without a step, or that may turn out to have none, get one of padding: a loop that
    stores what it does must be able to do something.

    Args:
        sequence: `(batch, ..., time, features)`.
        mask: `(batch, time)`, False or 0 at padding, or None where all steps are real.

    Attributes:
        given: how many steps there are.
        length: T, how many a loop takes, at least 1.
        mask: `(batch, T)` boolean, or None.
        count: `(batch,)` int32, how many steps of each row are real.
    """

    def __init__(self, sequence, mask=None):
        batch, self.given = ops.shape(sequence)[0], ops.shape(sequence)[-2]
        is_known = isinstance(self.given, int)
        self._may_be_empty = not is_known or self.given == 0
        self.length = max(self.given, 1) if is_known else ops.maximum(self.given, 1)
        self.mask = None
        self.count = ops.broadcast_to(ops.cast(self.given, "int32"), (batch,))
        if mask is not None:
            self.mask = at_least_one(ops.cast(mask, "bool"), axis=1)
            self._number = ops.cumsum(ops.cast(self.mask, "int32"), axis=1)
            self.count = self._number[:, -1]

    def clear(self, sequence):
        """`(batch, ..., T, features)`, zero at masked steps, whatever they held."""
        sequence = at_least_one(sequence)
        return sequence if self.mask is None else _where(self.mask, sequence)

    def pack(self, sequence):
        """`(batch, T, features)`, the real steps in front, zero behind them."""
        sequence = at_least_one(sequence)
        if self.mask is None:
            return sequence
        return _where(self.front, backend.taken(sequence, self._order()))

    @property
    def front(self):
        """`(batch, T)`, which of packed steps are real, or None where all are."""
        if self.mask is None:
            return None
        return ops.arange(self.length, dtype="int32") < self.count[:, None]

    def turned(self, packed):
        """Packed steps from the last to the first, padding behind them as before."""
        if self.mask is None:
            return ops.flip(packed, axis=1)
        places, count = ops.arange(self.length, dtype="int32"), self.count[:, None]
        return backend.taken(packed, ops.where(places < count, count - 1 - places, places))

    def spread(self, outputs, zero_output_for_mask, backwards=False):
        """What is returned, `(batch, given, ...)`, of outputs `(batch, T, ...)` of packed steps.

        With `backwards` they were read from the last step to the first, so that a masked step
        repeats the output of the next real one.
        """
        if self.mask is None or not backwards:
            outputs = outputs if self.mask is None else backend.taken(outputs, self._rank())
            return self.finish(outputs, zero_output_for_mask)
        place = self._number - ops.cast(self.mask, "int32")
        outputs = backend.taken(outputs, ops.minimum(place, self.length - 1))
        is_set = self.mask if zero_output_for_mask else place < self.count[:, None]
        return _where(is_set, outputs)[:, : self.given]

    def fill(self, outputs, zero_output_for_mask):
        """The same of outputs of steps in their places; at masked ones they may be anything."""
        if self.mask is not None and not zero_output_for_mask:
            outputs = backend.taken(outputs, backend.taken(self._order(), self._rank()))
        return self.finish(outputs, zero_output_for_mask)

    def finish(self, outputs, zero_output_for_mask):
        """The same of outputs that masked steps repeat; zero before the first as well."""
        if self.mask is not None:
            outputs = _where(self.mask if zero_output_for_mask else self._number > 0, outputs)
        return outputs[:, : self.given]

    def last(self, packed, before):
        """`(batch, ...)`, at the last of packed steps; `before` where a row has none."""
        if self.mask is None:
            return self.after(packed[:, -1], before)
        place = ops.maximum(self.count - 1, 0)[:, None]
        return _where(self.count > 0, backend.taken(packed, place)[:, 0], before)

    def after(self, end, before):
        """What loops without a mask hold at their end; `before` where no step was given."""
        return ops.where(self.given > 0, end, before) if self._may_be_empty else end

    def _order(self):
        """`(batch, T)`, the places of the real steps in their order, then of the others."""
        places = ops.arange(self.length, dtype="int32")
        return ops.argsort(ops.where(self.mask, places, self.length + places), axis=1)

    def _rank(self):
        """`(batch, T)`, where `pack` put the last real step up to each step, 0 before the first."""
        return ops.maximum(self._number - 1, 0)


def at_least_one(x, axis=-2):
    """A tensor with an entry of zeros along an axis that has none."""
    size = ops.shape(x)[axis]
    if isinstance(size, int):
        return x if size else longer(x, axis, 1)
    return longer(x, axis, ops.maximum(1 - size, 0))


def longer(x, axis, count):
    """`count` zeros behind the end of an axis."""
    shape = list(ops.shape(x))
    shape[axis] = count
    return ops.concatenate([x, ops.zeros(shape, x.dtype)], axis=axis)


def _where(condition, x, otherwise=None):
    """`x` where the condition holds of its first axes, elsewhere something else or zero."""
    condition = _of_rank(condition, len(x.shape))
    return ops.where(condition, x, ops.zeros_like(x) if otherwise is None else otherwise)


def _of_rank(x, rank):
    return ops.reshape(x, (*ops.shape(x), *[1] * (rank - len(x.shape))))
