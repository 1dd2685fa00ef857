"""The loop of multi-dimensional recurrent layers over arrays, and its gradient.

All directions go together: each has the array flipped so that it begins at the first corner, and
weights of its own. An iteration computes a diagonal of all of them, in one product for each
direction of what its points see: what their neighbours put out, one along each dimension, their
input and a 1, which is multiplied by the bias. Where there is no 1 there is no point, and nothing
leaves it.

The weights go through the loop as a part of its state, so that their gradient is gathered diagonal
by diagonal, while what it is made of is still in the cache.
"""

import math

from keras import ops

from . import _backend as backend
from ._budgeted import budgeted_recurrence
from ._scan import recurrence
from ._wavefront import arrive, leave, skewed, straightened


class PlainPoint:
    """An activation of what a point sees."""

    has_memory = False

    def __init__(self, activation):
        self.activation = activation

    def forward(self, z, before, peepholes):
        """What a point puts out, its memory if it has one, and what the gradient needs."""
        return self.activation(z), [], z

    def backward(self, peepholes, before, z, d_output, d_memory):
        """Cotangents of `z`, of the memories before, and of the peepholes."""
        _, pull = backend.vjp(lambda z: [self.activation(z)], z)
        return pull([d_output])[0], [], []


class LSTMPoint:
    """A cell with an input, an output and as many forget gates as there are memories before it.

    The columns of `z` are those of the input gate, the forget gates, the candidate and the output
    gate. `clip` bounds the derivatives by what enters them, or is 0.
    """

    has_memory = True

    def __init__(self, clip):
        self.clip = clip

    def forward(self, z, before, peepholes):
        into, out = peepholes
        units, count = before[0].shape[-1], 1 + len(before)
        z_into, z_g, z_o = ops.split(z, [count * units, (count + 1) * units], axis=-1)
        into = ops.sigmoid(z_into + into * _seen_memories(before))
        i, *f = ops.split(into, count, axis=-1)
        g = ops.tanh(z_g)
        c = i * g
        for gate, x in zip(f, before):
            c = c + gate * x
        o, squashed = ops.sigmoid(z_o + out * c), ops.tanh(c)
        return o * squashed, [c], (into, g, o, squashed, c)

    def backward(self, peepholes, before, saved, d_h, d_c):
        peep_into, peep_out = peepholes
        into, g, o, squashed, c = saved
        i, *f = ops.split(into, 1 + len(before), axis=-1)
        d_o = self._clipped(d_h * squashed * o * (1 - o))
        d_c = d_c[0] + d_h * o * (1 - squashed * squashed) + d_o * peep_out
        by = ops.concatenate([g, *before], axis=-1)
        d_into = ops.concatenate([d_c] * (1 + len(before)), axis=-1) * by * into * (1 - into)
        d_into = self._clipped(d_into)
        d_g = self._clipped(d_c * i * (1 - g * g))
        d_i, *d_f = ops.split(d_into * peep_into, 1 + len(before), axis=-1)
        d_before = [gate * d_c + d_i + d for gate, d in zip(f, d_f)]
        d_peepholes = [d_into * _seen_memories(before), d_o * c]
        return ops.concatenate([d_into, d_g, d_o], axis=-1), d_before, d_peepholes

    def _clipped(self, d):
        return ops.clip(d, -self.clip, self.clip) if self.clip else d


class StablePoint:
    """A cell with one forget gate, over a mean of the memories before it.

    The last columns of `z` are logits of the shares of all memories but the first, whose is 0.
    """

    has_memory = True

    def __init__(self, clip):
        self.cell = LSTMPoint(clip)

    def forward(self, z, before, peepholes):
        units = before[0].shape[-1]
        ends = [(4 + i) * units for i in range(len(before) - 1)]
        z, *logits = ops.split(z, ends, axis=-1) if ends else [z]
        shares = _softmax([ops.zeros_like(before[0]), *logits])
        mean = sum(share * x for share, x in zip(shares, before))
        h, c, saved = self.cell.forward(z, [mean], peepholes)
        return h, c, (shares, mean, saved)

    def backward(self, peepholes, before, saved, d_h, d_c):
        shares, mean, saved = saved
        d_z, (d_mean,), d_peepholes = self.cell.backward(peepholes, [mean], saved, d_h, d_c)
        d_before = [share * d_mean for share in shares]
        d_logits = [d * (x - mean) for d, x in zip(d_before[1:], before[1:])]
        return ops.concatenate([d_z, *d_logits], axis=-1), d_before, d_peepholes


def _seen_memories(before):
    """What the input gate sees, the sum of all, and what each forget gate does."""
    return ops.concatenate([sum(before[1:], before[0]), *before], axis=-1)


def _softmax(logits):
    """Shares of tensors, number by number."""
    if len(logits) == 1:
        return [ops.ones_like(logits[0])]
    return ops.unstack(ops.softmax(ops.stack(logits), axis=0))


class _Diagonal:
    """The points of a diagonal in all directions, `(directions, points, ...)`, for `recurrence`.

    Args:
        point: a `...Point`.
        shape: `(directions, *slots, batch)`; the points are those of all slots of all rows.
    """

    def __init__(self, point, shape):
        self.point, self.shape, self.moving = point, shape, range(1, len(shape) - 1)

    def forward(self, weights, entering, state):
        (output, memory, own), (kernel, *peepholes) = state, weights
        seen = ops.concatenate([*self._arrived(output), entering], axis=-1)
        before = [x for one in memory for x in self._arrived(one)]
        output, memory, saved = self.point.forward(ops.matmul(seen, kernel), before, peepholes)
        output, *memory = _real(seen, [output, *memory])
        return (output, memory, own), [output], (seen, before, saved)

    def prepare(self, weights):
        kernel, *peepholes = weights
        return ops.swapaxes(kernel, 1, 2), peepholes

    def stored(self, rows, start, outputs, records, d_outputs):
        return (), (records, d_outputs)

    def backward(self, prepared, d_state, _, ahead):
        (transposed, peepholes), (d_output, d_memory, d_weights) = prepared, d_state
        (seen, before, saved), (d_answer,) = ahead
        d_output, *d_memory = _real(seen, [d_output + d_answer, *d_memory])
        d_z, d_before, d_peepholes = self.point.backward(
            peepholes, before, saved, d_output, d_memory
        )
        d_kernel = ops.matmul(ops.swapaxes(seen, 1, 2), d_z)
        d_peepholes = [ops.sum(d, axis=1, keepdims=True) for d in d_peepholes]
        d_weights = [a + b for a, b in zip(d_weights, [d_kernel, *d_peepholes])]
        units, count = d_output.shape[-1], len(self.moving) + 1
        d_seen = ops.matmul(d_z, transposed)
        *d_arrived, d_entering = ops.split(d_seen, [units * (i + 1) for i in range(count)], axis=-1)
        d_memory = [self._left(d_before)] if d_before else []
        return (self._left(d_arrived), d_memory, d_weights), d_entering

    def gradients(self, weights, rows, start, outputs, records, d_entering):
        return d_entering, [None for _ in weights]

    def _arrived(self, left):
        """What comes along each dimension."""
        slots = ops.reshape(left, (*self.shape, left.shape[-1]))
        return [*(_points(arrive(slots, axis)) for axis in self.moving), left]

    def _left(self, d_arrived):
        """The cotangent of what left, from those of what came of it along each dimension."""
        *d_moved, total = d_arrived
        for axis, d in zip(self.moving, d_moved):
            slots = ops.reshape(d, (*self.shape, d.shape[-1]))
            total = total + _points(leave(slots, axis))
        return total


def _points(slots):
    return ops.reshape(slots, (slots.shape[0], -1, slots.shape[-1]))


def _real(seen, some):
    """Tensors where there is a point, which sees a 1; elsewhere zeros."""
    there = seen[..., -1:]
    return [there * x for x in some]


def multidimensional_loop(point, inputs, kernel, peepholes, mask=None, save=True, budget=None):
    """Runs a recurrent layer over arrays, from the first of their corners or from all.

    Args:
        point: `PlainPoint`, `LSTMPoint` or `StablePoint`.
        inputs: `(batch, *sizes, features)`, at least one point, in the dtype of the loop.
        kernel: `(directions, dimensions * units + features + 1, width)`. The bits of a direction's
            number say along which dimensions it begins at the end.
        peepholes: `(directions, 1, ...)` tensors as the point reads them.
        mask: `(batch, *sizes)` boolean, or None; the other points are outside of their array.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.
        budget: bytes that training may use to remember diagonals, or None.

    Returns:
        `(batch, *sizes, directions * units)`.
    """
    batch, *sizes, _ = ops.shape(inputs)
    dimensions, directions = len(sizes), kernel.shape[0]
    inputs = ops.concatenate([inputs, ops.ones_like(inputs[..., :1])], axis=-1)
    if mask is not None:
        inputs = ops.where(mask[..., None], inputs, ops.zeros_like(inputs))
    units = (kernel.shape[1] - inputs.shape[-1]) // dimensions
    inputs = _turned([ops.moveaxis(inputs, 0, -2)] * directions, dimensions)
    rows = ops.moveaxis(skewed(ops.stack(inputs, axis=dimensions), dimensions), dimensions, 1)
    shape = (directions, *sizes[:-1], batch)
    steps = sum(sizes) - dimensions + 1
    rows = ops.reshape(rows, (steps, directions, math.prod(shape[1:]), rows.shape[-1]))
    weights = [kernel, *peepholes]
    nothing = ops.zeros((directions, math.prod(shape[1:]), units), rows.dtype)
    given = _Diagonal(point, shape), rows, weights, (nothing, [nothing] * point.has_memory, weights)
    if save and budget is not None:
        (outputs,), _ = budgeted_recurrence(*given, budget)
    else:
        (outputs,), _ = recurrence(*given, steps, save)
    outputs = ops.moveaxis(ops.reshape(outputs, (steps, *shape, units)), 1, dimensions)
    outputs = ops.unstack(straightened(outputs, dimensions), directions, axis=dimensions)
    return ops.moveaxis(ops.concatenate(_turned(outputs, dimensions), axis=-1), -2, 0)


def _turned(arrays, dimensions):
    """Those of all directions, `(*sizes, ...)`, so that each begins at its corner; or back."""
    far = [[i for i in range(dimensions) if number >> i & 1] for number in range(len(arrays))]
    return [ops.flip(x, axes) if axes else x for x, axes in zip(arrays, far)]
