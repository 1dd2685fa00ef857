"""The loop of LSTM layers that read a sequence side by side, and its gradient.

All directions of a layer are taken in one loop, a step of each at a time.
"""

import functools

from keras import ops, tree

from . import _backend as backend
from ._scan import recurrence, stacked


def recurrent_loop(sequences, weights, states, steps, clip=0.0, save=True):
    """Runs LSTM cells over sequences (Graves, 2013, eqs. 7-11).

    Args:
        sequences: list, one for each direction, of `(time, batch, features)`.
        weights: list of `[kernel (features, 4 * units), bias (4 * units,), recurrent kernel
            (units, 4 * units)]`, the gates in the order input, forget, candidate, output, and
            behind them, if there are any, the peepholes `(3, units)` of the input, forget and
            output gate.
        states: list of `(h, c)`, each `(batch, units)`, whose dtype is that of the loop.
        steps: T, at least 1.
        clip: bound of the loss's derivatives by what enters the gates, or 0 for none.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.

    Returns:
        For each direction the outputs `(time, batch, units)` and the cells of all steps, likewise.
    """
    given = list(sequences), weights, states

    def loop(save, *tensors):
        sequences, weights, states = tree.pack_sequence_as(given, tensors)
        rows = [_entering(x, *w[:2]) for x, w in zip(sequences, weights)]
        inner = [w[2:] for w in weights]
        return recurrence(_Cells(clip), rows, inner, states, steps, save, jit=True)[0]

    def kernel(*tensors):
        answers = []
        for x, (kernel, bias, recurrent, *peepholes), (h, c) in zip(
            *tree.pack_sequence_as(given, tensors)
        ):
            joint = ops.concatenate([kernel, recurrent], axis=0)
            answers += backend.lstm_kernel(x, joint, bias, *(peepholes or [None]), h, c)
        return answers

    run = functools.partial(loop, save)
    if not save and _fits(sequences[0], *weights[0]):
        run = backend.instead(kernel, functools.partial(loop, True))
    answers = run(*tree.flatten(given))
    return list(zip(answers[::2], answers[1::2]))


def _fits(sequence, kernel, bias, recurrent, *peepholes):
    """Whether the runtime's kernel is the faster one.

    It multiplies with both kernels at each step, which pays while they stay in a core's cache.
    """
    size = sum(x.shape[0] * x.shape[1] for x in (kernel, recurrent))
    return backend.has_lstm_kernel(sequence.dtype) and size <= 500_000


def _entering(sequence, kernel, bias):
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


class _Cells:
    """A step of the LSTM cells of all directions, as `recurrence` wants it.

    h and c are answered, so that of the state nothing else is stored.
    """

    def __init__(self, clip):
        self.clip = clip

    def forward(self, weights, rows, states):
        new, gates = [], []
        for row, (kernel, *peepholes), (h, c) in zip(rows, weights, states):
            i, f, g, o, c = _gates(row + h @ kernel, c, *(peepholes or [None]))
            new.append((o * ops.tanh(c), c))
            gates.append(ops.concatenate([i, f, g, o], axis=-1))
        return new, [x for state in new for x in state], gates

    def prepare(self, weights):
        return [(ops.transpose(kernel), *peepholes) for kernel, *peepholes in weights]

    def stored(self, rows, states, answers, gates, d_answers):
        cells, before = answers[1::2], [_shifted(c, x) for (_, c), x in zip(states, answers[1::2])]
        d_hs, d_cs = d_answers[::2], d_answers[1::2]
        return (), list(zip(d_hs, d_cs, stacked(gates), cells, before))

    def backward(self, prepared, d_states, _, ahead):
        new, d_rows = [], []
        for (transposed, *peepholes), (d_h, d_c), read in zip(prepared, d_states, ahead):
            d_output, d_cell, gates, c, before = read
            d_h, d_c, peep = d_h + d_output, d_c + d_cell, peepholes[0] if peepholes else None
            i, f, g, o = ops.split(gates, 4, axis=-1)
            squashed = ops.tanh(c)
            d_o = d_h * squashed * o * (1 - o)
            d_c = d_c + d_h * o * (1 - squashed * squashed)
            if peepholes:
                d_o = self._clipped(d_o)
                d_c = d_c + d_o * peep[2]
            d_i, d_f = d_c * g * i * (1 - i), d_c * before * f * (1 - f)
            d_z = ops.concatenate([d_i, d_f, d_c * i * (1 - g * g), d_o], axis=-1)
            d_z = self._clipped(d_z)
            d_c = d_c * f
            if peepholes:
                d_i, d_f, *_ = ops.split(d_z, 4, axis=-1)
                d_c = d_c + d_i * peep[0] + d_f * peep[1]
            new.append((d_z @ transposed, d_c))
            d_rows.append(d_z)
        return new, d_rows

    def _clipped(self, x):
        return ops.clip(x, -self.clip, self.clip) if self.clip else x

    def gradients(self, weights, rows, states, answers, gates, d_rows):
        d_weights = []
        for d, (d_row, (_, *peepholes), (h, c)) in enumerate(zip(d_rows, weights, states)):
            hs, cells = answers[2 * d : 2 * d + 2]
            units = h.shape[-1]
            before = ops.reshape(_shifted(h, hs), (-1, units))
            d_weights.append([ops.transpose(before) @ ops.reshape(d_row, (-1, 4 * units))])
            if peepholes:
                d_i, d_f, _, d_o = ops.split(d_row, 4, axis=-1)
                before = _shifted(c, cells)
                sums = (d_i * before, d_f * before, d_o * cells)
                d_weights[d].append(ops.stack([ops.sum(x, axis=(0, 1)) for x in sums]))
        return d_rows, d_weights


def _shifted(first, answers):
    """What was there before each step, `(time, ...)`, of a state that was answered."""
    return ops.concatenate([first[None], answers[:-1]])
