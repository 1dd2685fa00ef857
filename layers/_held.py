"""Steps of a recurrence that masks take out, and answers that do not leave it."""

from keras import ops, tree

from ._scan import stacked


class Held:
    """A step, as `recurrence` wants it, that leaves the state as it is where a mask is False.

    Its rows are `(rows of the step, [mask (time, batch)])`, or `(rows of the step, [])`. What is
    answered at masked steps may be anything.

    Args:
        step: the step; its state is a nest of tensors whose first axis is the batch.
        shown: numbers of the answers that leave the loop. The others are recorded.
    """

    def __init__(self, step, shown):
        self.step, self.shown = step, shown
        self.prepare = step.prepare

    def forward(self, weights, row, state):
        row, mask = row
        new, answers, record = self.step.forward(weights, row, state)
        inside = [x for i, x in enumerate(answers) if i not in self.shown]
        return _where(mask, new, state), [answers[i] for i in self.shown], (inside, record)

    def stored(self, rows, state, answers, records, d_answers):
        (rows, mask), (inside, records) = rows, records
        inside = stacked(inside)
        d_inside = [ops.zeros_like(x) for x in inside]
        d_answers = _where(mask, d_answers)
        rows, ahead = self.step.stored(
            rows, state, self._all(answers, inside), records, self._all(d_answers, d_inside)
        )
        return rows, (mask, ahead)

    def backward(self, prepared, d_state, row, ahead):
        mask, ahead = ahead
        d_before, memo = self.step.backward(prepared, _where(mask, d_state), row, ahead)
        return _where(mask, d_before, d_state), memo

    def gradients(self, weights, rows, state, answers, records, memo):
        (rows, mask), (inside, records) = rows, records
        answers = self._all(answers, stacked(inside))
        d_rows, d_weights = self.step.gradients(weights, rows, state, answers, records, memo)
        return (d_rows, [None for _ in mask]), d_weights

    def _all(self, shown, inside):
        found, rest = dict(zip(self.shown, shown)), iter(inside)
        count = len(shown) + len(inside)
        return [found[i] if i in found else next(rest) for i in range(count)]


def _where(mask, some, otherwise=None):
    """A nest where the mask, if there is one, holds; elsewhere another, or zeros."""
    if not mask:
        return some
    (mask,) = mask

    def chosen(x, y):
        is_real = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(x.shape) - len(mask.shape))))
        return ops.where(is_real, x, y)

    if otherwise is None:
        otherwise = tree.map_structure(ops.zeros_like, some)
    return tree.map_structure(chosen, some, otherwise)
