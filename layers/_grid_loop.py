"""The loop over a grid of LSTM blocks in wavefront order, and its gradient.

A block needs what left its neighbours, one along each dimension. Blocks whose coordinates have the
same sum need nothing of each other, so one iteration computes such a diagonal. The last dimension
is the one that streams: a slot is a place along all others, and at iteration `s` it holds the block
whose coordinates sum to `s`. What leaves a block along the last dimension stays in its slot; along
any other it moves one slot on. Slots where no block is, at the first and last diagonals, compute
what nobody reads, and keep the state of the last dimension as it was.

The first dimension is depth, where the data enter; they may enter from the sides of others, too. A
grid of depth alone has one slot.

The backward loop walks from the last diagonal to the first with what the forward loop stored; all
weight gradients are products over the whole grid behind it.
"""

import dataclasses

from keras import ops

from . import _backend as backend
from ._budgeted import budgeted_recurrence
from ._scan import recurrence, stacked
from ._wavefront import arrive, leave


class LSTMTransform:
    """Update, forget and output gate and candidate; `paper` is where the last tanh stands."""

    parts = 4
    has_memory = True

    def __init__(self, paper):
        self.paper = paper

    def forward(self, z, memory):
        u, f, o, c = ops.split(z, 4, axis=-1)
        u, f, o, c = ops.sigmoid(u), ops.sigmoid(f), ops.sigmoid(o), ops.tanh(c)
        memory = f * memory + u * c
        hidden = ops.tanh(o * memory) if self.paper else o * ops.tanh(memory)
        return hidden, memory, ops.concatenate([u, f, o, c], axis=-1)

    def backward(self, saved, memory, d_hidden, d_memory):
        u, f, o, c = ops.split(saved, 4, axis=-1)
        new = f * memory + u * c
        if self.paper:
            squashed = ops.tanh(o * new)
            d = d_hidden * (1 - squashed * squashed)
            d_o, d_new = d * new, d_memory + d * o
        else:
            squashed = ops.tanh(new)
            d_o, d_new = d_hidden * squashed, d_memory + d_hidden * o * (1 - squashed * squashed)
        d_z = [d_new * c * u * (1 - u), d_new * memory * f * (1 - f)]
        d_z += [d_o * o * (1 - o), d_new * u * (1 - c * c)]
        return ops.concatenate(d_z, axis=-1), d_new * f


class PlainTransform:
    """An ordinary layer in the place of an LSTM: no memory."""

    parts = 1
    has_memory = False

    def __init__(self, activation):
        self.activation = activation

    def forward(self, z, memory):
        return self.activation(z), None, z

    def backward(self, saved, memory, d_hidden, d_memory):
        _, pull = backend.vjp(lambda z: [self.activation(z)], saved)
        return pull([d_hidden])[0], None


@dataclasses.dataclass(frozen=True)
class Block:
    """One block's arithmetic.

    Attributes:
        units: d, the size of every hidden and memory vector.
        transforms: one for each dimension.
        groups: the dimensions in the order in which they are computed; those of a later group see
            what the earlier ones put out.
        dtype: of memory and of all that is not a product.
    """

    units: int
    transforms: tuple
    groups: tuple
    dtype: str

    def forward(self, weights, hidden, memory):
        """What leaves, `(hidden, memory)`, and what the gradient needs, `(seen, saved)`.

        Args:
            weights: kernel `(grids, dimensions * units, width)` and bias of each group.
            hidden: dict, dimension -> `(..., batch, units)`.
            memory: the same of the dimensions that have one.
        """
        hidden, memory, seen, saved = dict(hidden), dict(memory), [], {}
        for group, (kernel, bias) in zip(self.groups, weights):
            rows = ops.concatenate([hidden[i] for i in range(len(hidden))], axis=-1)
            seen.append(rows)
            z = ops.cast(_product(rows, kernel, bias), self.dtype)
            for i, part in zip(group, self._parts(group, z)):
                new, own, saved[i] = self.transforms[i].forward(part, memory.get(i))
                hidden[i] = ops.cast(new, rows.dtype)
                memory |= {} if own is None else {i: own}
        return hidden, memory, seen, saved

    def backward(self, transposed, memory, saved, d_hidden, d_memory):
        """Cotangents of what came in, by dimension, and of the products of each group."""
        d_hidden, d_memory, d_products = dict(d_hidden), dict(d_memory), []
        for group, (kernel,) in zip(self.groups[::-1], transposed[::-1]):
            parts, dtype = [], d_hidden[0].dtype
            for i in group:
                d_z, own = self.transforms[i].backward(
                    saved[i], memory.get(i), ops.cast(d_hidden.pop(i), self.dtype), d_memory.get(i)
                )
                parts.append(ops.cast(d_z, dtype))
                d_memory |= {} if own is None else {i: own}
            d_products.append(ops.concatenate(parts, axis=-1))
            d_rows = ops.split(_product(d_products[-1], kernel), len(self.transforms), axis=-1)
            d_hidden = {i: d_hidden[i] + d if i in d_hidden else d for i, d in enumerate(d_rows)}
        return d_hidden, d_memory, d_products[::-1]

    def _parts(self, group, z):
        ends, end = [], 0
        for i in group[:-1]:
            end += self.transforms[i].parts * self.units
            ends.append(end)
        return ops.split(z, ends, axis=-1) if ends else [z]


def _product(rows, kernel, bias=None):
    """`rows (..., i)` times `kernel (grids, i, k)`, whose grids go along the first axis of rows."""
    shape, (grids, size, width) = ops.shape(rows), kernel.shape
    if grids == 1:
        product = ops.reshape(rows, (-1, size)) @ kernel[0]
        product = product if bias is None else product + bias[0]
    else:
        product = ops.matmul(ops.reshape(rows, (grids, -1, size)), kernel)
        product = product if bias is None else product + bias[:, None]
    return ops.reshape(product, (*shape[:-1], width))


@dataclasses.dataclass(frozen=True)
class Setting:
    """What stays the same for all diagonals.

    Attributes:
        block: `Block`.
        steps: how many diagonals there are, at least 1.
        dimensions: N.
        kept: whether there is a `keep`.
        sides: the dimensions along which something enters, depth first, the last one not among
            them; along the others zeros enter. A grid of one dimension has no such side.
        budget: bytes that training may use to remember diagonals, or None.
    """

    block: Block
    steps: int
    dimensions: int
    kept: bool
    sides: tuple = (0,)
    budget: int | None = None


def grid_loop(setting, weights, state, entering=(), keep=None, save=True):
    """Runs all diagonals of a grid.

    Args:
        setting: `Setting`.
        weights: a kernel and a bias for each group of the block, `(grids, dimensions * units,
            width)` and `(grids, width)`. The grids, if more than one, are the layers.
        state: `[hidden]` or `[hidden, memory]` of the last dimension before its first block,
            `(*slots, batch, units)`.
        entering: the same along each of the sides, one behind the other: what enters the first
            block along that dimension at each iteration, `(steps, *slots, batch, units)` without
            the slots of that dimension.
        keep: `(steps, *slots, batch or 1, 1)` boolean, where a block is.
        save: whether to store what the gradient needs, or to compute it again if one is asked for.

    Returns:
        `(leaving, state)`: what leaves the last layer at each iteration, as what enters along
        depth, and the state of the last dimension behind its last block.
    """
    index = [ops.arange(setting.steps)] if setting.dimensions == 1 else []
    keep = [keep] if setting.kept else []
    sides, rest = {}, list(entering)
    for side in setting.sides if rest else ():
        width = 1 + setting.block.transforms[side].has_memory
        sides[side], rest = rest[:width], rest[width:]
    last = setting.dimensions - 1
    given = (
        _Diagonal(setting),
        (index, sides, keep),
        [list(pair) for pair in weights],
        _at_last(setting.block, state),
    )
    if save and setting.budget is not None:
        leaving, end = budgeted_recurrence(*given, setting.budget)
    else:
        leaving, end = recurrence(*given, setting.steps, save)
    return leaving, [x[last] for x in end if last in x]


class _Diagonal:
    """The blocks of a diagonal, as `recurrence` wants them."""

    def __init__(self, setting):
        self.block, self.last = setting.block, setting.dimensions - 1

    def _at(self, index, weights):
        """Layers are iterations where depth is the only dimension."""
        if index:
            return [[x[index[0]][None] if x.shape[0] > 1 else x for x in some] for some in weights]
        return weights

    def forward(self, weights, row, state):
        (index, entering, keep), last = row, self.last
        hidden, memory = (
            {i: arrive(x, i, entering.get(i, ())[k:]) if i < last else x for i, x in some.items()}
            for k, some in enumerate(state)
        )
        weights = self._at(index, weights)
        new_hidden, new_memory, seen, saved = self.block.forward(weights, hidden, memory)
        if keep:
            for new, old in ((new_hidden, hidden), (new_memory, memory)):
                new |= {i: ops.where(keep[0], new[i], old[i]) for i in new if i == last}
        leaving = [x[0][-1] for x in (new_hidden, new_memory) if 0 in x and last > 0]
        return (new_hidden, new_memory), leaving, (seen, saved, memory)

    def prepare(self, weights):
        return [[ops.swapaxes(kernel, 1, 2)] for kernel, _ in weights]

    def stored(self, rows, start, leaving, records, d_leaving):
        return rows, (records[1:], d_leaving)

    def backward(self, transposed, d_state, row, ahead):
        (index, entering, keep), ((saved, memory), d_leaving), last = row, ahead, self.last
        d_hidden, d_memory = (
            {i: leave(x, i, () if i else d) if i < last else x for i, x in some.items()}
            for some, d in zip(d_state, (d_leaving[:1], d_leaving[1:]))
        )
        d_old = []
        if keep:
            for x in (d_hidden, d_memory):
                if last in x:
                    nothing = ops.zeros_like(x[last])
                    d_old.append(ops.where(keep[0], nothing, x[last]))
                    x[last] = ops.where(keep[0], x[last], nothing)
        weights = self._at(index, transposed)
        d_hidden, d_memory, d_z = self.block.backward(weights, memory, saved, d_hidden, d_memory)
        for x, d in zip((d_hidden, d_memory), d_old):
            x[last] = x[last] + d
        d_entering = {
            i: [x[i][(*(slice(None),) * i, 0)] for x in (d_hidden, d_memory) if i in x]
            for i in entering
        }
        return (d_hidden, d_memory), (d_z, d_entering)

    def gradients(self, weights, rows, start, leaving, records, memo):
        (index, _, keep), (all_seen, _, _), (all_d_z, d_entering) = rows, records, memo
        d_weights = []
        for seen, d_z, (kernel, _) in zip(stacked(all_seen), all_d_z, weights):
            if kernel.shape[0] > 1 and self.last > 0:
                seen, d_z = ops.swapaxes(seen, 0, 1), ops.swapaxes(d_z, 0, 1)
            d_weights.append(_weight_gradients(seen, d_z, kernel.shape[0]))
        return ([None for _ in index], d_entering, [None for _ in keep]), d_weights


def _weight_gradients(rows, d_z, grids):
    """Of kernel and bias; layers, where they have their own, are the first axis."""
    rows = ops.reshape(rows, (grids, -1, rows.shape[-1]))
    d_z = ops.reshape(d_z, (grids, -1, d_z.shape[-1]))
    if grids == 1:
        return [(ops.transpose(rows[0]) @ d_z[0])[None], ops.sum(d_z, axis=1)]
    return [ops.matmul(ops.swapaxes(rows, 1, 2), d_z), ops.sum(d_z, axis=1)]


def _at_last(block, state):
    """Hidden and memory vectors by dimension: those of the last, and zeros."""
    last = len(block.transforms) - 1
    hidden = dict.fromkeys(range(last), ops.zeros_like(state[0])) | {last: state[0]}
    nothing = ops.zeros_like(ops.cast(state[0], block.dtype))
    memory = {i: nothing for i, t in enumerate(block.transforms) if t.has_memory}
    return hidden, memory | dict.fromkeys([last] if last in memory else [], state[-1])


def weights_of(cells):
    """Kernel `(layers, inputs, width)` and bias of each group of dimensions, of one cell or all."""
    block, dtype = cells[0].block, cells[0].compute_dtype

    def joined(variables):
        layers = [
            ops.concatenate([ops.cast(backend.value(v), dtype) for v in some], axis=-1)
            for some in variables
        ]
        return ops.stack(layers)

    return [
        (
            joined([[cell.kernels[i] for i in group] for cell in cells]),
            joined([[cell.biases[i] for i in group] for cell in cells]),
        )
        for group in block.groups
    ]
