"""Steps written as a paper has them, and the gradient that `recurrence` wants of a step.

What has weights in such a step is affine maps, which it asks for by name; the rest is the backend's
to differentiate. Forwards the maps' values are kept. On the way back they are put in where the maps
were, so that no product is taken twice: one with each transposed kernel, and behind the loop one of
all steps for its gradient.
"""

from keras import ops, tree

from . import _backend as backend
from ._budgeted import budgeted_recurrence
from ._scan import recurrence


class AffineStep:
    """A step for `recurrence` or `budgeted_recurrence`.

    Its weights are `(kernels, constants)`, its state `(state, constants)`: constants are tensors
    that all steps see; within the state they gather their gradient.

    Args:
        step: `step(affine, row, state, constants) -> (state, answers)`, of lists of tensors, where
            `affine(name, *parts)` is `concatenate(parts) @ kernel + bias`, multiplied in the
            kernel's dtype.
    """

    def __init__(self, step):
        self.step = step

    def forward(self, weights, row, state):
        (kernels, _), (state, constants), values = weights, state, []
        self.names, taken = [], affine_of(kernels)

        def affine(name, *parts):
            self.names.append(name)
            values.append(taken(name, *parts))
            return values[-1]

        new, answers = self.step(affine, row, state, constants)
        return (new, constants), answers, (values, state)

    def prepare(self, weights):
        kernels, constants = weights
        return {name: ops.transpose(kernel) for name, (kernel, _) in kernels.items()}, constants

    def stored(self, rows, start, answers, records, d_answers):
        return (rows, records), d_answers

    def backward(self, prepared, d_after, read, d_answers):
        (transposed, constants), (row, (values, state)) = prepared, read
        given = [row, state, constants]

        def run(*tensors):
            nudges = iter(tensors[: len(values)])
            row, state, constants = tree.pack_sequence_as(given, tensors[len(values) :])
            known, entered = iter(values), []

            def affine(name, *parts):
                entered.append(ops.concatenate(parts, axis=-1))
                return _recall(entered[-1], next(nudges), next(known), transposed[name])[0]

            new, answers = self.step(affine, row, state, constants)
            return [*new, *answers], entered

        nudges = [ops.zeros_like(x) for x in values]
        _, pull, entered = backend.vjp_and_more(run, *nudges, *tree.flatten(given))
        d_state, d_constants = d_after
        found = pull([*d_state, *d_answers])
        d_values, rest = found[: len(values)], found[len(values) :]
        d_row, d_state, d_here = tree.pack_sequence_as(given, rest)
        d_constants = [a + b for a, b in zip(d_constants, d_here)]
        return (d_state, d_constants), (d_row, [*zip(entered, d_values)])

    def gradients(self, weights, rows, start, answers, records, memo):
        (kernels, constants), (d_rows, memo) = weights, memo
        d_kernels = {}
        for name, pair in zip(self.names, memo):
            x, d = (ops.reshape(z, (-1, z.shape[-1])) for z in pair)
            kernel, bias = kernels[name]
            x, low = ops.cast(x, kernel.dtype), ops.cast(d, kernel.dtype)
            one = [ops.transpose(x) @ low, ops.cast(ops.sum(d, axis=0), bias.dtype)]
            before = d_kernels.get(name)
            d_kernels[name] = one if before is None else [a + b for a, b in zip(before, one)]
        return d_rows, (d_kernels, [None for _ in constants])


def affine_recurrence(step, rows, kernels, constants, start, steps, save, budget=None):
    """`affine_loop` from a state that is the same for all rows, of variables `start`."""
    batch, state = ops.shape(rows)[1], []
    for variable in start:
        x = ops.cast(backend.value(variable), rows.dtype)
        state.append(ops.broadcast_to(x[None], (batch, *x.shape)))
    return affine_loop(step, rows, kernels, constants, state, steps, save, budget)[0]


def affine_loop(step, rows, kernels, constants, state, steps, save, budget=None):
    """Steps as `AffineStep` takes them, all of them.

    Args:
        step, kernels, constants: as of `AffineStep`.
        rows: `(steps, batch, ...)`, what the steps read.
        state: tensors `(batch, ...)` before the first step.
        steps, save: as of `recurrence`.
        budget: bytes that what is saved may take, or None for as many as it takes.

    Returns:
        A list of the answers of all steps, `(batch, steps, ...)` each, and the state behind them.
    """
    if isinstance(steps, int) and steps == 1:
        # A step alone needs no loop, nor a gradient of its own.
        row = tree.map_structure(lambda x: x[0], rows)
        state, answers = step(affine_of(kernels), row, state, constants)
        return [x[:, None] for x in answers], state
    given = AffineStep(step), rows, (kernels, constants), (state, constants)
    if save and budget is not None:
        answers, (state, _) = budgeted_recurrence(*given, budget, jit=True)
    else:
        answers, (state, _) = recurrence(*given, steps, save=save, jit=True)
    return [ops.moveaxis(x, 0, 1) for x in answers], state


def affine_of(kernels):
    """The `affine` of a step that is taken alone, whose gradient is the backend's."""

    def affine(name, *parts):
        kernel, bias = kernels[name]
        x = ops.concatenate(parts, axis=-1)
        return affine_map(x, kernel, bias)

    return affine


def kernel_and_bias(layer, dtype):
    """What `AffineStep` takes of a `Dense` layer, or of a recurrent cell.

    The inputs of the latter end with the cell's own output, whose kernel stands below the other.
    """
    kernels = [layer.kernel]
    if hasattr(layer, "recurrent_kernel"):
        kernels.append(layer.recurrent_kernel)
    kernels = [ops.cast(backend.value(x), dtype) for x in kernels]
    return ops.concatenate(kernels) if len(kernels) > 1 else kernels[0], backend.value(layer.bias)


def affine_map(x, kernel, bias):
    """`x @ kernel + bias` in the dtype of `x`, but for the product, in the kernel's."""
    return _product(x, kernel) + ops.cast(bias, x.dtype)


def _product(x, kernel):
    # `@` of more than two axes is another operation of TensorFlow, which crashed it in a loop.
    return ops.cast(ops.matmul(ops.cast(x, kernel.dtype), kernel), x.dtype)


_recall = backend.differentiable(
    lambda x, nudge, value, transposed: (value,),
    lambda x, nudge, value, transposed: ((value,), (transposed,)),
    lambda residuals, cotangents: (
        _product(cotangents[0], residuals[0]),
        cotangents[0],
        None,
        None,
    ),
)
"""The value, which was computed before, as what it was computed from, plus a nudge."""
