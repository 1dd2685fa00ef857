"""The loop of a controller with an external memory, and its gradient.

At every step the controller reads a row (what it makes of the input before anything else is known)
and the vectors read before, one linear map of its output gives the parameters of the heads, and an
access function moves the heads and changes the memory.

The gradient is written by hand around the access function, whose own gradient is the backend's. The
forward loop stores the state before every step and what was fed into the nonlinearities; the
backward loop walks from the last step to the first and never multiplies by a weight twice: all
weight gradients are products over the whole sequence behind the loop.
"""

import dataclasses

import keras
from keras import ops

from . import _backend as backend
from ._budgeted import budgeted_recurrence
from ._scan import recurrence, stacked
from ._steps import Dropout, Generic, Projected, step_of


@dataclasses.dataclass
class Setting:
    """What stays the same for all steps.

    Attributes:
        controller: a controller of this file.
        access: `access(parameters, memory) -> (reads, memory)`, memory being a list of tensors.
        steps: T, at least 1.
        keep: of what else to return every step: places in `[parameters, *memory]`.
        budget: bytes that training may use to remember steps, or None.
    """

    controller: object
    access: object
    steps: int
    keep: tuple = ()
    budget: int | None = None


def memory_loop(
    setting, rows, weights, heads, state, reads, memory, mask=None, save=True, enter=None
):
    """Runs controller and memory over a sequence.

    Args:
        setting: `Setting`.
        rows: `(time, batch, width)`, what the controller's `enter` gave.
        weights: tensors of the controller, likewise.
        heads: `(kernel, bias)` from the controller's output to the heads' parameters.
        state: list of `(batch, size)` tensors, the controller's.
        reads: `(batch, read)`, the vectors read before.
        memory: list of tensors, batch first; their dtype is that of all access.
        mask: `(time, batch)` boolean; a step that it takes out leaves all states as they are.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.
        enter: within a budget, `enter(rows, weights) -> (rows, weights)`, which makes the above of
            what is given in their place.

    Returns:
        Controller outputs and reads of all steps, `(time, batch, size)`; the state, reads and
        memory at the end; and what `keep` asks for.
    """
    given = (
        _Step(setting),
        (rows, [] if mask is None else [mask]),
        (list(weights), list(heads)),
        (list(state), reads, list(memory)),
    )
    if save and setting.budget is not None:

        def entered(row, weights):
            row, own = enter(row, weights[0])
            return row, (own, weights[1])

        found = budgeted_recurrence(*given, setting.budget, entered if enter else None)
    else:
        found = recurrence(*given, setting.steps, save)
    (outputs, reads_of, *kept), (state, reads, memory) = found
    return outputs, reads_of, state, reads, memory, kept


class _Step:
    """A step of controller, heads and memory, as `recurrence` wants it."""

    def __init__(self, setting):
        self.controller, self.access = setting.controller, setting.access
        self.keep = setting.keep

    def forward(self, weights, row, before):
        (weights, (kernel, bias)), (row, mask), (state, reads, memory) = weights, row, before
        output, new_state, saved = self.controller.forward(weights, row, reads, state)
        output = ops.cast(output, kernel.dtype)
        z = ops.cast(output @ kernel + bias, memory[0].dtype)
        new_reads, new_memory = self.access(z, memory)
        new = list(new_state), ops.cast(new_reads, reads.dtype), list(new_memory)
        if mask:
            new = keras.tree.map_structure(lambda a, b: _where(mask, a, b), new, before)
        made = [z, *new[2]]
        answers = [output, new[1], *(made[place] for place in self.keep)]
        return new, answers, (z, saved, before)

    def prepare(self, weights):
        weights, (kernel, _) = weights
        return self.controller.prepare(weights), ops.transpose(kernel)

    def stored(self, rows, start, answers, records, d_answers):
        z, *others = records
        return (rows, others), (z, d_answers)

    def backward(self, prepared, d_after, row, ahead):
        prepared, transposed = prepared
        (row, mask), (saved, (state, reads, memory)) = row
        z, (d_output, d_reads_of, *d_kept) = ahead
        d_state, d_reads, d_memory = d_after
        d_reads = d_reads + d_reads_of
        d_kept = dict(zip(self.keep, d_kept))
        d_memory = [d + d_kept.get(place, 0) for place, d in enumerate(d_memory, start=1)]
        d_passed = None
        if mask:
            d_after = d_state, d_reads, d_memory
            d_passed = keras.tree.map_structure(lambda d: _where(mask, 0, d), d_after)
            d_state, d_reads, d_memory = keras.tree.map_structure(
                lambda d: _where(mask, d, 0), d_after
            )
        # A list that is flat: what GradientTape takes.
        (new_reads, *_), pull = backend.vjp(
            lambda z, *memory: _flat(self.access(z, list(memory))), z, *memory
        )
        d_z, *d_memory = pull([ops.cast(d_reads, new_reads.dtype), *d_memory])
        d_z = ops.cast(d_z + d_kept.get(0, 0), d_output.dtype)
        pull = self.controller.backward(prepared, row, reads, state, saved)
        d_row, d_reads, d_state, memo = pull(d_output + d_z @ transposed, d_state)
        d_before = list(d_state), d_reads, list(d_memory)
        return _add(d_before, d_passed) if mask else d_before, (d_row, d_z, memo)

    def gradients(self, weights, rows, start, answers, records, memo):
        (weights, _), (rows, mask), (_, _, (state, reads, _)) = weights, rows, records
        d_rows, d_z, memo = memo
        steps = ops.shape(d_rows)[0]
        state, reads, seen, memo = keras.tree.map_structure(
            as_rows, (stacked(state), stacked(reads), d_rows, memo)
        )
        d_weights = self.controller.weight_gradients(
            weights, as_rows(rows), reads, state, seen, memo, steps
        )
        d_z = as_rows(d_z)
        d_heads = [ops.transpose(as_rows(answers[0])) @ d_z, ops.sum(d_z, axis=0)]
        return (d_rows, [None for _ in mask]), (list(d_weights), d_heads)


def _add(a, b):
    return keras.tree.map_structure(lambda a, b: a + b, a, b)


def _where(mask, a, b):
    """`a` where the one mask in a list of `(batch,)` holds, else `b`."""
    like = b if hasattr(b, "shape") else a
    mask = ops.reshape(mask[0], (-1, *[1] * (len(like.shape) - 1)))
    return ops.where(mask, a, b)


def as_rows(x):
    """Time and batch as one axis."""
    return ops.reshape(x, (-1, x.shape[-1]))


def _flat(answer):
    first, rest = answer
    return [first, *rest]


# Controllers. `enter` makes rows `(time, batch, width)` and weights of `(time, batch, features)`;
# `forward` gives the output, the state and what `backward` wants to see of the step; the map that
# `backward` returns gives the cotangents of row, reads and state, and a memo for
# `weight_gradients`, which sees all steps at once.


class SequenceDropout(Dropout):
    """Masks that can be repeated as often as a sequence has steps, known or not."""

    def repeat(self, times):
        super().repeat(1)
        if isinstance(times, int) and times == 1:
            return
        for cell, masks in zip(self.cells, self.masks):
            for name, mask in masks.items():
                if mask is not None:
                    mask = keras.tree.map_structure(lambda m: ops.tile(m, (times, 1)), mask)
                    setattr(cell, name, mask)


def controller_of(controller, features, training, dropout):
    """How the steps of a built controller are taken: a `Dense` layer or a recurrent cell."""
    if isinstance(controller, keras.layers.Dense):
        return _FeedForward(controller, features)
    step = step_of(controller, training, dropout)
    if isinstance(step, Projected):
        return _Recurrent(step, features)
    return _AnyCell(controller, training, dropout)


def entering(controller, sequence):
    """What `memory_loop` takes as rows, weights and `enter`, for what enters a block at a time."""
    if isinstance(controller, _AnyCell):
        return *controller.enter(sequence), None
    variables = controller.layer.trainable_variables

    def enter(rows, values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return controller.enter(rows)

    return sequence, [backend.value(x) for x in variables], enter


class _FeedForward:
    """One layer of tanh units."""

    def __init__(self, layer, features):
        self.layer = layer
        self.features = features

    def enter(self, sequence):
        kernel, bias = (
            ops.cast(backend.value(x), sequence.dtype) for x in (self.layer.kernel, self.layer.bias)
        )
        return sequence @ kernel[: self.features] + bias, [kernel[self.features :]]

    def forward(self, weights, row, reads, state):
        output = ops.tanh(row + reads @ weights[0])
        return output, [], [output]

    def prepare(self, weights):
        return ops.transpose(weights[0])

    def backward(self, transposed, row, reads, state, saved):
        (output,) = saved

        def pull(d_output, d_state):
            d_row = d_output * (1 - output * output)
            return d_row, d_row @ transposed, [], []

        return pull

    def weight_gradients(self, weights, rows, reads, state, d_rows, memo, times):
        return [ops.transpose(reads) @ d_rows]


class _Recurrent:
    """A plain LSTM, GRU or simple RNN cell, by the formulas of `_steps.py`."""

    def __init__(self, step, features):
        self.step, self.layer = step, step.cell
        self.features = features

    def enter(self, sequence):
        rows, weights = self.step.enter(sequence)
        kernel = ops.cast(backend.value(self.step.cell.kernel), sequence.dtype)
        # Where ACT has its flag there are the reads.
        weights[0] = kernel[self.features :]
        shape = ops.shape(sequence)
        return ops.reshape(rows, (shape[0], shape[1], rows.shape[-1])), weights

    def forward(self, weights, row, reads, state):
        outer = row + reads @ weights[0]
        state, saved = self.step.advance(outer, self.step.recurrent(weights, state), state)
        return state[0], state, saved

    def prepare(self, weights):
        return [ops.transpose(w) for w in weights[:2]]

    def backward(self, prepared, row, reads, state, saved):
        _, reverse = self.step.reverse(state, saved)

        def pull(d_output, d_state):
            d_outer, d_inner, d_old = reverse([d_output + d_state[0], *d_state[1:]])
            d_old[0] = d_old[0] + d_inner @ prepared[1]
            memo = [] if d_inner is d_outer else [d_inner]
            return d_outer, d_outer @ prepared[0], d_old, memo

        return pull

    def weight_gradients(self, weights, rows, reads, state, d_rows, memo, times):
        d_inner = memo[0] if memo else d_rows
        gradients = [ops.transpose(reads) @ d_rows, ops.transpose(state[0]) @ d_inner]
        return gradients + [ops.sum(d_inner, axis=0) for _ in weights[2:]]


class _AnyCell(Generic):
    """Any other cell, through a stateless call; its gradient is the backend's own."""

    def enter(self, sequence):
        _, weights = super().enter(sequence)
        return sequence, weights

    def backward(self, weights, row, reads, state, saved):
        leaves, pull_back = backend.vjp(
            lambda row, reads, *state: self.call_with(weights, row, reads, state),
            row,
            reads,
            *state,
        )

        def pull(d_output, d_state):
            d_leaves = [ops.cast(d, x.dtype) for d, x in zip([*d_state, d_output], leaves)]
            d_row, d_reads, *d_old = pull_back(d_leaves)
            return d_row, d_reads, d_old, d_leaves

        return pull

    def weight_gradients(self, weights, rows, reads, state, d_rows, memo, times):
        _, pull_back = backend.vjp(
            lambda *weights: self.call_with(weights, rows, reads, state, times=times), *weights
        )
        return list(pull_back(memo))
