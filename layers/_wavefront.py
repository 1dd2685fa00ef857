"""Arrays by diagonals, which are the points whose coordinates have the same sum.

The last dimension streams. A slot is a place along all others, and at diagonal `s` it holds the
point whose coordinates sum to `s`. What leaves a point along the last dimension stays in its slot;
along any other it moves one slot on.
"""

from keras import ops

from ._padding import longer


def skewed(x, dimensions):
    """By diagonals: the entry at `(i, j, ..., k)` goes to `(i + j + ... + k, i, j, ...)`.

    The result's first axis is as long as there are diagonals; elsewhere are zeros.
    """
    for axis in range(dimensions - 2, -1, -1):
        x = ops.moveaxis(x, dimensions - 1, axis + 1)
        shape = list(ops.shape(x))
        rows, columns = shape[axis], shape[axis + 1]
        x = longer(x, axis + 1, rows)
        x = ops.reshape(x, (*shape[:axis], rows * (columns + rows), *shape[axis + 2 :]))
        x = x[(*[slice(None)] * axis, slice(0, rows * (columns + rows - 1)))]
        x = ops.reshape(x, (*shape[:axis], rows, columns + rows - 1, *shape[axis + 2 :]))
        x = ops.moveaxis(x, axis + 1, dimensions - 1)
    return ops.moveaxis(x, dimensions - 1, 0)


def straightened(x, dimensions):
    """The inverse of `skewed`."""
    x = ops.moveaxis(x, 0, dimensions - 1)
    for axis in range(dimensions - 1):
        x = ops.moveaxis(x, dimensions - 1, axis + 1)
        shape = list(ops.shape(x))
        rows, columns = shape[axis], shape[axis + 1]
        x = ops.reshape(x, (*shape[:axis], rows * columns, *shape[axis + 2 :]))
        x = longer(x, axis, rows)
        x = ops.reshape(x, (*shape[:axis], rows, columns + 1, *shape[axis + 2 :]))
        x = x[(*[slice(None)] * (axis + 1), slice(0, columns + 1 - rows))]
        x = ops.moveaxis(x, axis + 1, dimensions - 1)
    return x


def arrive(left, axis, entering=()):
    """What arrives at the slots along an axis, from what left them one diagonal before.

    What is entering, if anything, arrives at the first slot, and zeros without it.
    """
    slots = (slice(None),) * axis
    first = _one_slot(left, axis, entering)
    return ops.concatenate([first, left[(*slots, slice(0, -1))]], axis=axis)


def leave(d_arrived, axis, d_leaving=()):
    """The cotangent of what left the slots, from that of what arrived one diagonal later."""
    slots = (slice(None),) * axis
    last = _one_slot(d_arrived, axis, d_leaving)
    return ops.concatenate([d_arrived[(*slots, slice(1, None))], last], axis=axis)


def _one_slot(slots, axis, given):
    """The one of `given` as a slot among others, or zeros."""
    if given:
        return ops.expand_dims(given[0], axis)
    return ops.zeros_like(slots[(*(slice(None),) * axis, slice(0, 1))])
