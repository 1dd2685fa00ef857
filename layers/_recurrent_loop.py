"""The loop of LSTM layers that read a sequence side by side, and its gradient.

All directions of a layer are taken in one loop, a step of each at a time. The gradient is written
by hand: the backward loop multiplies by no weight but the recurrent ones, transposed once, and the
weights' own gradients are products over the whole sequence behind the loop.
"""

import functools

import keras
from keras import ops

from . import _backend as backend


def recurrent_loop(rows, weights, states, steps, clip=0.0, save=True):
    """Runs LSTM cells over sequences (Graves, 2013, eqs. 7-11).

    Args:
        rows: list, one for each direction, of `(time, batch, 4 * units)`: what the gates get from
            the input, with their bias, in the order input, forget, candidate, output gate.
        weights: list of `(recurrent kernel (units, 4 * units), peepholes (3, units) or None)`; the
            peepholes are those of the input, forget and output gate.
        states: list of `(h, c)`, each `(batch, units)`.
        steps: T, at least 1.
        clip: bound of the loss's derivatives by what enters the gates, or 0 for none.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.

    Returns:
        For each direction the outputs `(time, batch, units)` and the cells of all steps, likewise.
    """
    peepholes = weights[0][1] is not None
    setting = len(rows), peepholes, steps, clip
    kernels, peeps = zip(*weights)
    run = backend.differentiable(
        lambda *tensors: _forward(setting, False, *tensors)[0],
        functools.partial(_forward, setting, True),
        functools.partial(_backward, setting),
        save,
    )
    (*hs, cs) = zip(*states)
    answers = run(*rows, *kernels, *(peeps if peepholes else ()), *hs[0], *cs)
    return list(zip(answers[::2], answers[1::2]))


def _named(setting, tensors):
    directions, peepholes, *_ = setting
    parts = [tensors[i : i + directions] for i in range(0, len(tensors), directions)]
    rows, kernels, *peeps, hs, cs = parts
    return rows, kernels, peeps[0] if peepholes else [None] * directions, hs, cs


def _at(t, stored):
    """What a nest of tensors holds of a step.

    Loops carry it to the next step: XLA would fuse reading with the arithmetic of the gates, which
    then takes a number at a time.
    """
    return keras.tree.map_structure(lambda x: x[t], stored)


def _gates(z, c, peep):
    i, f, g, o = ops.split(z, 4, axis=-1)
    if peep is not None:
        i, f = i + peep[0] * c, f + peep[1] * c
    i, f, g = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g)
    c = f * c + i * g
    o = ops.sigmoid(o if peep is None else o + peep[2] * c)
    return i, f, g, o, c


def lstm_step(z, c, peephole_weights=None):
    """h and c `(batch, units)` from the gates' inputs `(batch, 4 * units)` and the c before."""
    *_, o, c = _gates(z, c, peephole_weights)
    return o * ops.tanh(c), c


def _forward(setting, save, *tensors):
    directions, _, steps, _ = setting
    rows, kernels, peeps, hs, cs = _named(setting, tensors)

    def advance(read, states):
        values, new = [], []
        for d in range(directions):
            h, c = states[d]
            i, f, g, o, c = _gates(read[d] + h @ kernels[d], c, peeps[d])
            h = o * ops.tanh(c)
            new.append((h, c))
            values += [h, c, ops.concatenate([i, f, g, o], axis=-1)] if save else [h, c]
        return new, values

    def body(t, read, states, buffers):
        states, values = advance(read, states)
        following = ops.minimum(t + 1, steps - 1)
        return t + 1, _at(following, rows), states, backend.write_all(buffers, t, values)

    states, read = list(zip(hs, cs)), _at(0, rows)
    _, values = advance(read, states)
    buffers = [backend.buffer(steps, x) for x in values]
    *_, buffers = ops.while_loop(
        lambda t, *_: t < steps, body, (0, read, states, buffers), maximum_iterations=steps
    )
    buffers = [backend.stack(x) for x in buffers]
    each = len(buffers) // directions
    answers = [x for d in range(directions) for x in buffers[d * each : d * each + 2]]
    return tuple(answers), (tensors, buffers)


def _backward(setting, residuals, cotangents):
    directions, peepholes, steps, clip = setting
    tensors, buffers = residuals
    _, kernels, peeps, hs, cs = _named(setting, tensors)
    transposed = [ops.transpose(kernel) for kernel in kernels]
    outputs, cells, gates = buffers[::3], buffers[1::3], buffers[2::3]
    before = [ops.concatenate([c[None], of[:-1]]) for c, of in zip(cs, cells)]

    stored = [
        (cotangents[2 * d], cotangents[2 * d + 1], gates[d], cells[d], before[d])
        for d in range(directions)
    ]

    def reverse(read, d_states):
        new, values = [], []
        for d in range(directions):
            (d_h, d_c), (d_output, d_cell, gate, c, old) = d_states[d], read[d]
            d_h, d_c, peep = d_h + d_output, d_c + d_cell, peeps[d]
            i, f, g, o = ops.split(gate, 4, axis=-1)
            squashed = ops.tanh(c)
            d_o = d_h * squashed * o * (1 - o)
            d_c = d_c + d_h * o * (1 - squashed * squashed)
            if peepholes:
                d_o = _clipped(d_o, clip)
                d_c = d_c + d_o * peep[2]
            d_i, d_f = d_c * g * i * (1 - i), d_c * old * f * (1 - f)
            d_z = ops.concatenate([d_i, d_f, d_c * i * (1 - g * g), d_o], axis=-1)
            d_z = _clipped(d_z, clip)
            d_c = d_c * f
            if peepholes:
                d_i, d_f, *_ = ops.split(d_z, 4, axis=-1)
                d_c = d_c + d_i * peep[0] + d_f * peep[1]
            new.append((d_z @ transposed[d], d_c))
            values.append(d_z)
        return new, values

    def body(t, read, d_states, buffers):
        d_states, values = reverse(read, d_states)
        following = _at(ops.maximum(t - 1, 0), stored)
        return t - 1, following, d_states, backend.write_all(buffers, t, values)

    d_states = [(ops.zeros_like(h), ops.zeros_like(c)) for h, c in zip(hs, cs)]
    read = _at(steps - 1, stored)
    _, values = reverse(read, d_states)
    d_rows = [backend.buffer(steps, x) for x in values]
    _, _, d_states, d_rows = ops.while_loop(
        lambda t, *_: t >= 0, body, (steps - 1, read, d_states, d_rows), maximum_iterations=steps
    )
    d_rows = [backend.stack(x) for x in d_rows]
    d_kernels, d_peeps = [], []
    for d, d_row in enumerate(d_rows):
        units = outputs[d].shape[-1]
        h = ops.reshape(ops.concatenate([hs[d][None], outputs[d][:-1]]), (-1, units))
        d_kernels.append(ops.transpose(h) @ ops.reshape(d_row, (-1, 4 * units)))
        if peepholes:
            d_i, d_f, _, d_o = ops.split(d_row, 4, axis=-1)
            sums = (d_i * before[d], d_f * before[d], d_o * cells[d])
            d_peeps.append(ops.stack([ops.sum(x, axis=(0, 1)) for x in sums]))
    d_hs, d_cs = zip(*d_states)
    return *d_rows, *d_kernels, *d_peeps, *d_hs, *d_cs


def _clipped(x, bound):
    return ops.clip(x, -bound, bound) if bound else x
