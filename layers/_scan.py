"""The loop over the steps of a sequence, and the one gradient by hand that such loops share.

A step that writes its own gradient stores what it needs on the way, walks back over it, and never
multiplies by a weight twice: the gradients of all weights are products over the whole sequence
behind the loop.
"""

import functools

from keras import ops, tree

from . import _backend as backend
from ._padding import longer


def scan(step, carry, steps, rows=(), ahead=(), reverse=False, size=None, like=None):
    """`ops.scan` that may return something else than it carries.

    Args:
        step: `step(carry, rows, ahead) -> (carry, answers)`, nests of tensors.
        carry: nest of tensors before the first step.
        steps: T, at least 1.
        rows: nest of what a step reads, `(T, ...)` each, tensors or answers of another scan.
        ahead: the same, but read a step before it is needed: XLA fuses reading with the arithmetic
            that uses it, which then takes a number at a time.
        reverse: whether to begin at the last step.
        size: how many steps there is room for, zeros behind the last; T without it.
        like: tensors as a step answers them; without it a step is taken to see.

    Returns:
        The carry at the end, and a nest of the answers of all steps, which `stacked` makes tensors.
    """
    first = steps - 1 if reverse else 0
    carried = backend.compiles()

    def at(t, some):
        return tree.map_structure(lambda x: backend.read(x, t), some)

    def body(t, read, carry, buffers):
        carry, answers = step(carry, at(t, rows), read if carried else at(t, ahead))
        buffers = backend.write_all(buffers, t, answers)
        following = ops.maximum(t - 1, 0) if reverse else ops.minimum(t + 1, steps - 1)
        read = at(following, ahead) if carried else ()
        return t - 1 if reverse else t + 1, read, carry, buffers

    read = at(first, ahead)
    if like is None:
        _, like = step(carry, at(first, rows), read)
    room = steps if size is None else size
    buffers = tree.map_structure(lambda x: backend.buffer(room, x), like)
    _, _, carry, buffers = ops.while_loop(
        lambda t, *_: t >= 0 if reverse else t < steps,
        body,
        (first, read if carried else (), carry, buffers),
        maximum_iterations=steps,
    )
    return carry, buffers


def stacked(answers):
    """A nest of the answers of a scan as tensors, `(T, ...)`."""
    return tree.map_structure(backend.stack, answers)


def recurrence(step, rows, weights, state, steps, save=True, jit=False):
    """Takes a step after the other, with the gradient that the step writes.

    Args:
        step: has these functions of nests of tensors:
            `forward(weights, row, state) -> (state, answers, record)`, with a list of answers and
            what the gradient needs of the step;
            `prepare(weights)`, what the way back needs of the weights;
            `stored(rows, state, answers, records, d_answers) -> (rows, ahead)`, what it reads of
            all steps, in either way of `scan`;
            `backward(prepared, d_state, row, ahead) -> (d_state, memo)`;
            `gradients(weights, rows, state, answers, records, memo) -> (d_rows, d_weights)`, of
            all steps at once; None where there is no gradient.
        rows: nest of what steps read, `(T, ...)` each.
        weights: nest of what stays the same for all of them.
        state: nest of tensors before the first step.
        steps: T, at least 1.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.
        jit: whether XLA compiles the loops where what is around them is a graph.

    Returns:
        A list of the answers of all steps, `(T, ...)` each, and the state behind the last.
    """
    given, count = (rows, weights, state), len(tree.flatten(state))
    jit, size = save and jit and backend.may_jit(), steps
    if jit and not isinstance(steps, int):
        # Lengths of a bucket share what is compiled: the loop ends where it did before.
        size = backend.bucket(steps)
        rows = tree.map_structure(lambda x: longer(x, 0, size - steps), rows)
        given = (rows, weights, state)
    compiled = backend.jit if jit else lambda function: function

    def run(save, steps, *tensors):
        rows, weights, state = tree.pack_sequence_as(given, tensors)

        def advance(state, _, row):
            state, answers, record = step.forward(weights, row, state)
            return state, (answers, record if save else ())

        end, (answers, records) = scan(advance, state, steps, ahead=rows, size=room(rows))
        # No list of tensors leaves what XLA compiled; elsewhere a stack is a copy.
        answers, records = stacked(answers), stacked(records) if backend.compiles() else records
        return (*answers, *tree.flatten(end)), (answers, records)

    def room(rows):
        return ops.shape(tree.flatten(rows)[0])[0] if jit else steps

    def forward(*tensors):
        outputs, residuals = compiled(functools.partial(run, True))(steps, *tensors)
        return outputs, (tensors, *residuals)

    def reverse(steps, tensors, answers, records, cotangents):
        rows, weights, state = tree.pack_sequence_as(given, tensors)
        d_state = tree.pack_sequence_as(state, cotangents[-count:])
        read = step.stored(rows, state, answers, records, list(cotangents[:-count]))
        back = functools.partial(step.backward, step.prepare(weights))
        d_state, memo = scan(back, d_state, steps, *read, reverse=True, size=room(rows))
        d = step.gradients(weights, rows, state, answers, records, stacked(memo))
        return tree.flatten((*d, d_state))

    differentiable = backend.differentiable(
        lambda *tensors: run(False, steps, *tensors)[0],
        forward,
        lambda residuals, cotangents: compiled(reverse)(steps, *residuals, cotangents),
        save,
    )
    outputs = differentiable(*tree.flatten(given))
    answers = list(outputs[:-count])
    if size is not steps:
        answers = [x[:steps] for x in answers]
    return answers, tree.pack_sequence_as(state, outputs[-count:])
