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
import functools

import keras
from keras import ops

from . import _backend as backend
from ._steps import Dropout, Generic, Projected, step_of


@dataclasses.dataclass
class Setting:
    """What stays the same for all steps.

    Attributes:
        controller: a controller of this file.
        access: `access(parameters, memory) -> (reads, memory)`, memory being a list of tensors.
        steps: T, at least 1.
        keep: whether to return the parameters and the memory of every step as well.
        masked: whether there is a mask.
        states, memories: how many tensors the states of controller and memory have.
    """

    controller: object
    access: object
    steps: int
    keep: bool
    masked: bool
    states: int
    memories: int


def memory_loop(setting, rows, weights, heads, state, reads, memory, mask=None, save=True):
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

    Returns:
        Controller outputs and reads of all steps, `(time, batch, size)`; the state, reads and
        memory at the end; and the parameters and the memory of all steps, where `keep` asks.
    """
    run = backend.differentiable(
        lambda *tensors: _forward(setting, False, *tensors)[0],
        functools.partial(_forward, setting, True),
        functools.partial(_backward, setting),
        save,
    )
    mask = [mask] if setting.masked else []
    outputs, reads_of, *rest = run(rows, *weights, *heads, *state, reads, *memory, *mask)
    state, rest = rest[: setting.states], rest[setting.states :]
    reads, memory, kept = rest[0], rest[1 : 1 + setting.memories], rest[1 + setting.memories :]
    return outputs, reads_of, state, reads, memory, kept


class _Inputs:
    """The tensors of the loop by name, out of the flat list that a gradient is taken of."""

    def __init__(self, setting, tensors):
        tensors = list(tensors)
        self.mask = tensors.pop() if setting.masked else None
        self.memory = [tensors.pop() for _ in range(setting.memories)][::-1]
        self.reads = tensors.pop()
        self.state = [tensors.pop() for _ in range(setting.states)][::-1]
        self.bias, self.kernel = tensors.pop(), tensors.pop()
        self.rows, *self.weights = tensors

    def masked(self, t, x):
        """The mask of a step in the shape of `x`."""
        mask = self.mask[t]
        return ops.reshape(mask, (-1, *[1] * (len(x.shape) - 1)))


def _forward(setting, save, *tensors):
    inputs = _Inputs(setting, tensors)
    controller, dtype = setting.controller, inputs.memory[0].dtype

    def advance(t, row, state, reads, memory):
        output, new_state, saved = controller.forward(inputs.weights, row, reads, state)
        output = ops.cast(output, inputs.kernel.dtype)
        z = ops.cast(output @ inputs.kernel + inputs.bias, dtype)
        new_reads, new_memory = setting.access(z, memory)
        new = [new_state, ops.cast(new_reads, reads.dtype), new_memory]
        if setting.masked:
            new = keras.tree.map_structure(
                lambda a, b: ops.where(inputs.masked(t, a), a, b), new, [state, reads, memory]
            )
        new_state, new_reads, new_memory = new
        answers = [output, new_reads, *([z, *new_memory] if setting.keep else [])]
        record = [z, *saved, *state, reads, *memory] if save else []
        return new_state, new_reads, new_memory, answers, record

    def body(t, row, state, reads, memory, answers, records):
        state, reads, memory, new_answers, new_records = advance(t, row, state, reads, memory)
        answers, records = (
            backend.write_all(answers, t, new_answers),
            backend.write_all(records, t, new_records),
        )
        # Carried to the next step: XLA would fuse reading it with the controller's arithmetic,
        # which then takes a number at a time.
        row = inputs.rows[ops.minimum(t + 1, setting.steps - 1)]
        return t + 1, row, state, reads, memory, answers, records

    start = inputs.rows[0], inputs.state, inputs.reads, inputs.memory
    *_, answers, records = advance(0, *start)
    buffers = [[backend.buffer(setting.steps, x) for x in some] for some in (answers, records)]
    _, _, state, reads, memory, answers, records = ops.while_loop(
        lambda t, *_: t < setting.steps,
        body,
        (0, *start, *buffers),
        maximum_iterations=setting.steps,
    )
    answers = [backend.stack(x) for x in answers]
    residuals = tensors, answers[0], records
    return (*answers[:2], *state, reads, *memory, *answers[2:]), residuals


def _backward(setting, residuals, cotangents):
    tensors, outputs, records = residuals
    inputs = _Inputs(setting, tensors)
    controller, states, memories = setting.controller, setting.states, setting.memories
    d_outputs, d_reads_of, *rest = cotangents
    d_state, d_reads, rest = rest[:states], rest[states], rest[states + 1 :]
    d_memory, d_kept = rest[:memories], rest[memories:]
    transposed = ops.transpose(inputs.kernel)
    prepared = controller.prepare(inputs.weights)
    add = functools.partial(keras.tree.map_structure, lambda a, b: a + b)

    def reverse(t, d_state, d_reads, d_memory):
        z, *record = (backend.read(x, t) for x in records)
        memory, record = record[-memories:], record[:-memories]
        reads, record = record[-1], record[:-1]
        state, saved = record[len(record) - states :], record[: len(record) - states]
        d_reads = d_reads + d_reads_of[t]
        if setting.keep:
            d_memory = [d + of[t] for d, of in zip(d_memory, d_kept[1:])]
        d_new, d_old = [d_state, d_reads, d_memory], None
        if setting.masked:
            d_old = keras.tree.map_structure(
                lambda d: ops.where(inputs.masked(t, d), ops.zeros_like(d), d), d_new
            )
            d_new = keras.tree.map_structure(
                lambda d: ops.where(inputs.masked(t, d), d, ops.zeros_like(d)), d_new
            )
        d_state, d_reads, d_memory = d_new
        # A list that is flat: what GradientTape takes.
        (new_reads, *_), pull = backend.vjp(
            lambda z, *memory: _flat(setting.access(z, list(memory))), z, *memory
        )
        d_z, *d_memory = pull([ops.cast(d_reads, new_reads.dtype), *d_memory])
        if setting.keep:
            d_z = d_z + d_kept[0][t]
        d_z = ops.cast(d_z, d_outputs.dtype)
        d_output = d_outputs[t] + d_z @ transposed
        pull = controller.backward(prepared, inputs.rows[t], reads, state, saved)
        d_row, d_reads, d_state, memo = pull(d_output, d_state)
        new = [d_state, d_reads, d_memory]
        return *(add(new, d_old) if setting.masked else new), [d_row, d_z, *memo]

    def body(t, d_state, d_reads, d_memory, buffers):
        *d, values = reverse(t, d_state, d_reads, d_memory)
        return t - 1, *d, backend.write_all(buffers, t, values)

    last = setting.steps - 1
    *_, values = reverse(last, d_state, d_reads, d_memory)
    buffers = [backend.buffer(setting.steps, x) for x in values]
    _, d_state, d_reads, d_memory, buffers = ops.while_loop(
        lambda t, *_: t >= 0,
        body,
        (last, d_state, d_reads, d_memory, buffers),
        maximum_iterations=setting.steps,
    )
    d_rows, d_z, *memo = (backend.stack(x) for x in buffers)
    before = [_rows(backend.stack(x)) for x in records[1 : len(records) - memories]]
    state, reads = before[len(before) - 1 - states : -1], before[-1]
    d_weights = controller.weight_gradients(
        inputs.weights,
        _rows(inputs.rows),
        reads,
        state,
        _rows(d_rows),
        [_rows(x) for x in memo],
        setting.steps,
    )
    d_z = _rows(d_z)
    d_kernel, d_bias = ops.transpose(_rows(outputs)) @ d_z, ops.sum(d_z, axis=0)
    mask = [None] if setting.masked else []
    return d_rows, *d_weights, d_kernel, d_bias, *d_state, d_reads, *d_memory, *mask


def _rows(x):
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
        self.step = step
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
