"""The loop of LSTM layers over a sequence, and its gradient.

Each direction is a loop of its own. Taken together, a step of each at a time, the weights of wide
layers would push one another out of a core's cache.
"""

import functools

from keras import ops, tree

from . import _backend as backend
from ._budgeted import budgeted_recurrence
from ._held import Held
from ._scan import recurrence, stacked


def budgeted_recurrent_loop(sequence, weights, state, budget, mask=None, clip=0.0):
    """`recurrent_loop` that keeps to a budget of memory.

    Args:
        sequence: `(batch, time, features)`, at least one step.
        weights, state, clip: as there.
        budget: bytes.
        mask: `(batch, time)` boolean, False at steps behind the end of a row, or None.

    Returns:
        The outputs `(batch, time, units)`, and the state `(h, c)` at the end of each row.
    """

    rows = sequence, [] if mask is None else [mask]
    cells = Held(Cells(clip), shown=[0])
    (outputs,), end = budgeted_recurrence(
        cells, rows, weights, state, budget, _entered, axis=1, jit=True
    )
    return outputs, end


def _entered(sequence, weights):
    kernel, bias, *inner = weights
    return entering(sequence, kernel, bias), inner


def recurrent_loop(sequence, weights, state, steps, clip=0.0, save=True):
    """Runs LSTM cells over a sequence (Graves, 2013, eqs. 7-11).

    Args:
        sequence: `(time, batch, features)`.
        weights: `[kernel (features, 4 * units), bias (4 * units,), recurrent kernel (units,
            4 * units)]`, the gates in the order input, forget, candidate, output, and behind them,
            if there are any, the peepholes `(3, units)` of the input, forget and output gate.
        state: `(h, c)`, each `(batch, units)`, whose dtype is that of the loop.
        steps: T, at least 1.
        clip: bound of the loss's derivatives by what enters the gates, or 0 for none.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.

    Returns:
        The outputs `(time, batch, units)` and the cells of all steps, likewise.
    """
    given = sequence, weights, state

    def loop(save, *tensors):
        x, (kernel, bias, *inner), state = tree.pack_sequence_as(given, tensors)
        rows = entering(x, kernel, bias)
        return recurrence(Cells(clip), rows, inner, state, steps, save, jit=True)[0]

    def kernel(*tensors):
        x, (kernel, bias, recurrent, *peepholes), state = tree.pack_sequence_as(given, tensors)
        joint = ops.concatenate([kernel, recurrent], axis=0)
        return backend.lstm_kernel(x, joint, bias, *(peepholes or [None]), *state)

    run = functools.partial(loop, save)
    if not save and _fits(sequence, *weights):
        run = backend.instead(kernel, functools.partial(loop, True))
    return run(*tree.flatten(given))


def _fits(sequence, kernel, bias, recurrent, *peepholes):
    """Whether the runtime's kernel is the faster one.

    It multiplies with both kernels at each step, which pays while they stay in a core's cache.
    """
    size = sum(x.shape[0] * x.shape[1] for x in (kernel, recurrent))
    return backend.has_lstm_kernel(sequence.dtype) and size <= 500_000


def entering(sequence, kernel, bias):
    """What the gates get from the input, `(time, batch, 4 * units)`, with their bias."""
    steps, batch, features = ops.shape(sequence)
    rows = ops.reshape(sequence, (-1, features)) @ ops.cast(kernel, sequence.dtype)
    return ops.reshape(ops.cast(rows, bias.dtype) + bias, (steps, batch, kernel.shape[-1]))


def lstm_step(z, c, peepholes=None):
    """h and c `(batch, units)` from the gates' inputs `(batch, 4 * units)` and the c before."""
    *_, o, c = _gates(z, c, peepholes)
    return o * ops.tanh(c), c


def _gates(z, c, peep):
    i, f, g, o = ops.split(z, 4, axis=-1)
    if peep is not None:
        i, f = i + peep[0] * c, f + peep[1] * c
    i, f, g = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g)
    c = f * c + i * g
    o = ops.sigmoid(o if peep is None else o + peep[2] * c)
    return i, f, g, o, c


class Cells:
    """A step of LSTM cells, as `recurrence` wants it.

    h and c are answered, so that of the state nothing else is stored.
    """

    def __init__(self, clip):
        self.clip = clip

    def forward(self, weights, row, state):
        (kernel, *peepholes), (h, c) = weights, state
        i, f, g, o, c = _gates(row + h @ kernel, c, *(peepholes or [None]))
        h = o * ops.tanh(c)
        return (h, c), [h, c], ops.concatenate([i, f, g, o], axis=-1)

    def prepare(self, weights):
        kernel, *peepholes = weights
        return [ops.transpose(kernel), *peepholes]

    def stored(self, rows, state, answers, gates, d_answers):
        cells = answers[1]
        return (), (*d_answers, stacked(gates), cells, shifted(state[1], cells))

    def backward(self, prepared, d_state, _, ahead):
        d_output, d_cell, *kept = ahead
        return self._back(prepared, d_state[0] + d_output, d_state[1] + d_cell, *kept)

    def _back(self, prepared, d_h, d_c, gates, c, before):
        transposed, *peepholes = prepared
        i, f, g, o = ops.split(gates, 4, axis=-1)
        squashed = ops.tanh(c)
        d_o = d_h * squashed * o * (1 - o)
        d_c = d_c + d_h * o * (1 - squashed * squashed)
        if peepholes:
            (peep,) = peepholes
            d_o = self._clipped(d_o)
            d_c = d_c + d_o * peep[2]
        d_i, d_f = d_c * g * i * (1 - i), d_c * before * f * (1 - f)
        d_z = ops.concatenate([d_i, d_f, d_c * i * (1 - g * g), d_o], axis=-1)
        d_z = self._clipped(d_z)
        d_c = d_c * f
        if peepholes:
            d_i, d_f, *_ = ops.split(d_z, 4, axis=-1)
            d_c = d_c + d_i * peep[0] + d_f * peep[1]
        return (d_z @ transposed, d_c), d_z

    def _clipped(self, x):
        return ops.clip(x, -self.clip, self.clip) if self.clip else x

    def gradients(self, weights, rows, state, answers, gates, d_rows):
        (h, c), (hs, cells) = state, answers
        d_weights = [product(shifted(h, hs), d_rows)]
        if len(weights) > 1:
            d_i, d_f, _, d_o = ops.split(d_rows, 4, axis=-1)
            before = shifted(c, cells)
            sums = (d_i * before, d_f * before, d_o * cells)
            d_weights.append(ops.stack([ops.sum(x, axis=(0, 1)) for x in sums]))
        return d_rows, d_weights


def product(before, d_rows):
    """The gradient of a kernel by which `before`, `(time, batch, ...)`, was multiplied."""
    before, d_rows = (ops.reshape(x, (-1, x.shape[-1])) for x in (before, d_rows))
    return ops.transpose(before) @ d_rows


def shifted(first, answers):
    """What was there before each step, `(time, ...)`, of a state that was answered."""
    return ops.concatenate([first[None], answers[:-1]])
