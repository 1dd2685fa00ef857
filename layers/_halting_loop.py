"""The loop of Adaptive Computation Time: one flat loop in which every row keeps its own pace.

A row of the batch has its own position in its sequence. As soon as it halts it commits its averaged
state and output and moves on to its own next input, while other rows still ponder theirs. The loop
therefore ends after max_b sum_t N(b, t) updates, the last of them without the half or three
quarters of the rows that finished first; a loop that waits for the slowest row at every step takes
sum_t max_b N(b, t) updates of the whole batch, a fixed unroll T * M.

The gradient is written by hand. Forward stores a trajectory of at most `chunk` updates and the
loop's carry at the start of every chunk; backward walks the chunks from the last to the first and
replays those whose trajectory has been overwritten.

What is not obvious:
- Masks never enter: `ACT` brings the steps that count to the front and spreads the answers back.
- Where the batch is known, and always under XLA, the loop comes in up to three segments: once half
  of the rows are finished the others go on among themselves. The gradient walks the segments from
  the last to the first, on the same carry. Exports have a free batch, and one loop.
- Outside XLA a scatter in a loop copies its target; finished rows are then collected ragged and
  scattered once (`backend.commit`).
- Buffers that a loop carries are only written or only read inside it; XLA copies them at every
  iteration otherwise.
- A chunk is as large as is likely to be needed (8 updates an input), not as the cap allows: memory
  that is touched costs time. With `training=False` no trajectory is kept; a gradient that is asked
  for nevertheless runs the loop again.
- Networks without ACT are the same model with `max_ponder=1`: one update an input, the flag at 1.
"""

import copy
import dataclasses
import functools
import re

import keras
import numpy as np
from keras import ops

from . import _backend as backend
from ._steps import BLOCK

# A segment costs seconds to compile, and some time at every run.
FEWEST_ROWS, FEWEST_UPDATES, MOST_SEGMENTS = 8, 32, 3
LIKELY_UPDATES = 8  # of an input, on average, in the slowest row of a batch


@dataclasses.dataclass
class Setting:
    """What stays the same for all updates.

    Attributes:
        step: a step of `_steps.py`.
        steps: T, the padded length.
        max_ponder, threshold: M and 1 - epsilon.
        budget: bytes that the stored trajectory of a segment may take.
    """

    step: object
    steps: int
    max_ponder: int
    threshold: float
    budget: int


def halting_loop(setting, rows, weights, halting, state, lengths, save=True):
    """Runs the halting loop (Graves, 2016, eqs. 4-13).

    Args:
        setting: `Setting`.
        rows: `(batch * steps, width)`, what the step reads, batch-major.
        weights: tensors of the step.
        halting: `(kernel (units,), bias ())` of the halting unit; its dtype is that of all sums.
        state: list of `(batch, size)` tensors.
        lengths: `(batch,)` int32, the inputs of each row; the rest is never read.
        save: whether to keep what the gradient needs, or to compute it again if one is asked for.

    Returns:
        Outputs `(batch, steps, units)`; updates N and remainders R, `(batch, steps)`, zero at
        padding; and the final state. N is a constant for differentiation.
    """
    run = backend.differentiable(
        functools.partial(_primal, setting),
        functools.partial(_forward, setting),
        functools.partial(_backward, setting),
        save,
    )
    outputs, ponder, *state = run(rows, *weights, *halting, *state, lengths)
    shape = (ops.shape(lengths)[0], setting.steps)
    outputs = ops.reshape(outputs, (*shape, outputs.shape[-1]))
    ponder = ops.reshape(ponder, (*shape, 2))
    return outputs, ops.stop_gradient(ponder[..., 0]), ponder[..., 1], state


class _Inputs:
    """The tensors of the loop by name, out of the flat list that a gradient is taken of."""

    def __init__(self, setting, tensors):
        self.rows, *tensors, self.lengths = tensors
        count = setting.step.weight_count
        self.weights = list(tensors[:count])
        self.kernel, self.bias, *self.state = tensors[count:]
        self.dtype = keras.backend.standardize_dtype(self.kernel.dtype)
        self.steps = setting.steps
        self.batch = ops.shape(self.lengths)[0]
        self.start = ops.arange(self.batch, dtype="int32") * self.steps
        # With one input a sequence, the current rows are all there are.
        self.all_rows = isinstance(self.steps, int) and self.steps == 1

    def of(self, sequences, count):
        """The same, for `count` of the sequences alone."""
        some = copy.copy(self)
        some.batch, some.all_rows = count, False
        some.start, some.lengths, some.state = _rows_of(
            (self.start, self.lengths, self.state), sequences
        )
        return some

    def index(self, t):
        return self.start + ops.minimum(t, self.steps - 1)

    def row(self, index):
        return self.pick(self.rows, index)

    def pick(self, matrix, index):
        """The current row of each sequence."""
        return matrix if self.all_rows else ops.take(matrix, index, axis=0)

    def zeros(self, *shape):
        return ops.zeros((self.batch, *shape), self.dtype)


def _at_first(setting, inputs):
    """The carry before the first update: (t, n, sum of h, state, sums of the leaves)."""
    sums = [inputs.zeros(size) for size in setting.step.leaf_sizes]
    counter = ops.zeros_like(inputs.lengths)
    return counter, counter, inputs.zeros(), list(inputs.state), sums


def _unfinished(inputs, carry, most=0):
    """Whether more than `most` sequences are still being read."""
    reading = carry[0] < inputs.lengths
    if isinstance(most, int) and most == 0:
        return ops.any(reading)
    return ops.sum(ops.cast(reading, "int32")) > most


def _update(setting, inputs, carry):
    """One update of every row.

    Returns:
        The new carry, the record that the gradient needs, and what may be committed: the row's
        index, whether it ended, the averaged output, and N and R.
    """
    t, n, total, state, sums = carry
    step, dtype = setting.step, inputs.dtype
    active, first, index = t < inputs.lengths, n == 0, inputs.index(t)
    output, new_state, saved = step.forward(
        inputs.weights, inputs.row(index), ops.cast(first, inputs.rows.dtype)[:, None], state
    )
    h = ops.sigmoid(ops.sum(ops.cast(output, dtype) * inputs.kernel, axis=-1) + inputs.bias)
    updates = n + 1
    stops = ops.logical_or(total + h >= setting.threshold, updates >= setting.max_ponder)
    end = ops.logical_and(active, stops)
    p = ops.where(end, 1 - total, ops.where(active, h, ops.zeros_like(h)))
    averages = [
        s + p[:, None] * ops.cast(leaf, dtype)
        for s, leaf in zip(sums, step.leaves(output, new_state))
    ]

    ends, goes_on = end[:, None], active[:, None]
    new_carry = (
        t + ops.cast(end, t.dtype),
        ops.where(ops.logical_and(active, ops.logical_not(end)), updates, ops.zeros_like(n)),
        ops.where(end, ops.zeros_like(total), total + p),
        [
            ops.where(ends, ops.cast(average, new.dtype), ops.where(goes_on, new, old))
            for average, new, old in zip(averages, new_state, state)
        ],
        [ops.where(ends, ops.zeros_like(average), average) for average in averages],
    )
    record = [_pack(index, first, end, active), p, *state, *saved]
    answer = ops.cast(averages[step.output_leaf], output.dtype)
    ponder = ops.stack([ops.cast(updates, dtype), p], axis=-1)
    return new_carry, record, (index, end, (answer, ponder))


def _pack(index, *flags):
    for flag in flags:
        index = 2 * index + ops.cast(flag, "int32")
    return index


def _unpack(code):
    return code // 8, code // 4 % 2 == 1, code // 2 % 2 == 1, code % 2 == 1


def _templates(setting, inputs, carry):
    """Record and answer of an update, for their shapes alone: compilers drop the computation."""
    _, record, (_, _, answer) = _update(setting, inputs, carry)
    return record, answer


def _primal(setting, *tensors):
    outputs, _ = _run(setting, _Inputs(setting, tensors), _read)
    return outputs


def _forward(setting, *tensors):
    """`_primal`, and the residuals of `_backward`."""
    outputs, segments = _run(setting, _Inputs(setting, tensors), _read_and_save)
    return outputs, (tensors, segments)


def _run(setting, inputs, read):
    """Reads all sequences, in segments of ever fewer of them.

    Once half of the sequences are finished the others go on among themselves, where they are at
    least `FEWEST_ROWS`, their number is known beforehand, and `FEWEST_UPDATES` may be taken.

    Returns:
        The outputs of `_forward`; and for each segment what `read` saved, and which sequences of
        this segment the next one has, None at the last.
    """
    count = inputs.batch * inputs.steps
    carry = _at_first(setting, inputs)
    handle = backend.open_rows(count, _templates(setting, inputs, carry)[1])
    j, states, segments = 0, [], []
    longest = inputs.steps * setting.max_ponder
    whole = setting.step.fixed_rows or (isinstance(longest, int) and longest < FEWEST_UPDATES)
    while True:
        order, half = len(segments), _half(inputs.batch)
        last = whole or half is None or order == MOST_SEGMENTS - 1
        most = 0 if last else half
        j, carry, handle, saved = read(setting, inputs, order, most, j, carry, handle)
        states.append(carry[3])
        if last:
            break
        finished = ops.cast(carry[0] >= inputs.lengths, "int32")
        others = ops.argsort(finished)[:half]
        segments.append((saved, others))
        inputs, carry = inputs.of(others, half), _rows_of(carry, others)
    segments.append((saved, None))
    state = states.pop()
    for _, others in segments[-2::-1]:
        state = _put_rows(states.pop(), others, state)
    return (*backend.close_rows(handle, count), *state), segments


def _half(batch):
    """Half of the rows, None where they are too few or only a run will tell how many they are."""
    half = batch // 2
    if isinstance(half, int):
        return half if half >= FEWEST_ROWS else None
    return ops.where(half >= FEWEST_ROWS, half, 0) if backend.compiles() else None


def _rows_of(tensors, chosen):
    return keras.tree.map_structure(lambda x: ops.take(x, chosen, axis=0), tensors)


def _put_rows(tensors, chosen, rows):
    return keras.tree.map_structure(
        lambda x, some: ops.scatter_update(x, chosen[:, None], some), tensors, rows
    )


def _read(setting, inputs, order, most, j, carry, handle):
    """Updates until at most `most` sequences are unfinished; `j` counts those of all segments."""

    def body(j, carry, handle):
        carry, _, (index, end, answer) = _update(setting, inputs, carry)
        return j + 1, carry, backend.commit(handle, j, index, end, answer)

    return *ops.while_loop(
        lambda j, carry, handle: _unfinished(inputs, carry, most), body, (j, carry, handle)
    ), None


def _read_and_save(setting, inputs, order, most, j, carry, handle):
    """`_read`, and what `_reverse_segment` needs: trajectory, checkpoints, chunks and updates."""
    record, _ = _templates(setting, inputs, carry)
    chunk, chunks = _chunks(setting, inputs, order, record)
    trajectory = [backend.buffer(chunk, leaf) for leaf in record]
    checkpoints = [backend.buffer(chunks, leaf) for leaf in keras.tree.flatten(carry)]
    start = j

    def run_chunk(c, j, carry, handle, trajectory, checkpoints):
        leaves = keras.tree.flatten(carry)
        checkpoints = [backend.write(array, c, x) for array, x in zip(checkpoints, leaves)]

        def body(i, carry, handle, trajectory):
            carry, record, (index, end, answer) = _update(setting, inputs, carry)
            handle = backend.commit(handle, j + i, index, end, answer)
            return i + 1, carry, handle, _store(trajectory, i, record)

        i, carry, handle, trajectory = ops.while_loop(
            lambda i, carry, *_: ops.logical_and(i < chunk, _unfinished(inputs, carry, most)),
            body,
            (0, carry, handle, trajectory),
        )
        return c + 1, j + i, carry, handle, trajectory, checkpoints

    c, j, carry, handle, trajectory, checkpoints = ops.while_loop(
        lambda c, j, carry, *_: _unfinished(inputs, carry, most),
        run_chunk,
        (0, j, carry, handle, trajectory, checkpoints),
    )
    return j, carry, handle, (trajectory, checkpoints, c, j - start)


def _store(trajectory, i, record):
    return [backend.write(array, i, leaf) for array, leaf in zip(trajectory, record)]


def _chunks(setting, inputs, order, record):
    """(updates in a chunk, a multiple of BLOCK; the most chunks that there can be).

    A chunk holds what the budget lets it, but no more than is likely to be needed in this segment
    of the loop: fresh memory costs time, used or not, and a longer loop is only replayed in part.
    """
    width = sum(int(np.prod(leaf.shape[1:])) * _bytes(leaf.dtype) for leaf in record)
    longest, fits = inputs.steps * setting.max_ponder, setting.budget // (inputs.batch * width + 1)
    likely = inputs.steps * LIKELY_UPDATES // 2**order + 2 * BLOCK
    static = isinstance(longest, int) and isinstance(fits, int)
    smaller, larger = (min, max) if static else (ops.minimum, ops.maximum)
    chunk = (larger(smaller(smaller(fits, likely), longest), 1) + BLOCK - 1) // BLOCK * BLOCK
    return chunk, (longest + chunk - 1) // chunk


def _bytes(dtype):
    name = keras.backend.standardize_dtype(dtype)
    return int(re.search(r"\d+$", name).group()) // 8


def _replay(setting, inputs, carry, limit, trajectory):
    """Fills the trajectory with `limit` updates from `carry`, fewer where all rows finish."""

    def body(i, carry, trajectory):
        carry, record, _ = _update(setting, inputs, carry)
        return i + 1, carry, _store(trajectory, i, record)

    _, _, trajectory = ops.while_loop(
        lambda i, carry, _: ops.logical_and(i < limit, _unfinished(inputs, carry)),
        body,
        (0, carry, trajectory),
    )
    return trajectory


def _reverse_update(setting, inputs, prepared, cotangents, trajectory, i, carry):
    """Takes the gradient through update `i` of the trajectory.

    The carry is of the rows, as cotangents, lam of the state after this update and m of the
    averages that this input ends in, g of the last update of this input, and the sum that the
    cotangent of its row is; and of the halting unit, the sums that its cotangents are. Returns the
    new carry, what `weight_gradients` needs, and the row to commit.
    """
    step, dtype, states = setting.step, inputs.dtype, len(inputs.state)
    d_answers, d_remainders = cotangents
    (lam, m, g_end, d_row_sum), (d_kernel, d_bias) = carry
    code, p, *rest = (backend.read(array, i) for array in trajectory)
    index, first, end, active = _unpack(code)
    goes_on = ops.logical_and(active, ops.logical_not(end))
    ends, share = end[:, None], p[:, None]
    flag = ops.cast(first, inputs.rows.dtype)[:, None]
    new_leaves, pull = step.backward(
        prepared, inputs.row(index), flag, rest[:states], rest[states:]
    )
    leaves = [ops.cast(leaf, dtype) for leaf in new_leaves]

    wide = lam + [inputs.zeros(size) for size in step.leaf_sizes[states:]]
    d_answer = ops.cast(inputs.pick(d_answers, index), dtype)
    m = [ops.where(ends, a, b) for a, b in zip(_add_at(wide, step.output_leaf, d_answer), m)]
    g = sum(ops.sum(x * leaf, axis=-1) for x, leaf in zip(m, leaves))
    g_end = ops.where(end, g, g_end)
    d_logit = (g - g_end - inputs.pick(d_remainders, index)) * p * (1 - p)
    d_logit = ops.where(goes_on, d_logit, ops.zeros_like(d_logit))[:, None]
    d_leaves = [
        ops.where(ends, share * y, ops.where(goes_on[:, None], x + share * y, ops.zeros_like(x)))
        for x, y in zip(wide, m)
    ]
    d_leaves = _add_at(d_leaves, step.output_leaf, d_logit * inputs.kernel)
    d_row, d_old, memo = pull([ops.cast(x, y.dtype) for x, y in zip(d_leaves, new_leaves)])

    lam = [ops.where(active[:, None], ops.cast(x, dtype), y) for x, y in zip(d_old, lam)]
    d_row = ops.cast(d_row, dtype)
    d_row_sum = ops.where(ends, d_row, d_row_sum + d_row)
    d_kernel = d_kernel + ops.sum(d_logit * leaves[step.output_leaf], axis=0)
    d_bias = d_bias + ops.sum(d_logit)
    row = (index, ops.logical_and(first, active), (ops.cast(d_row_sum, inputs.rows.dtype),))
    return ((lam, m, g_end, d_row_sum), (d_kernel, d_bias)), memo, row


def _backward(setting, residuals, cotangents):
    """Cotangents of all tensors of `_forward` (Graves, 2016, eqs. 14-20, with N a constant)."""
    tensors, segments = residuals
    inputs = _Inputs(setting, tensors)
    d_answers, d_ponder, *d_state = cotangents
    cotangents = d_answers, d_ponder[:, 1]
    zeros, count = inputs.zeros, inputs.batch * inputs.steps
    rows = (
        [ops.cast(x, inputs.dtype) for x in d_state],
        [zeros(size) for size in setting.step.leaf_sizes],
        zeros(),
        zeros(inputs.rows.shape[-1]),
    )
    halting = ops.zeros_like(inputs.kernel), ops.zeros_like(inputs.bias)
    row = ops.zeros((inputs.batch, inputs.rows.shape[-1]), inputs.rows.dtype)
    handle = backend.open_rows(count, (row,))
    d_weights = [ops.zeros_like(x, dtype=inputs.dtype) for x in inputs.weights]

    wider = []
    for saved, others in segments:
        wider.append((inputs, rows, saved, others))
        if others is not None:
            inputs = inputs.of(others, _half(inputs.batch))
            rows = _rows_of(rows, others)
    commits = 0
    for order, (inputs, all_rows, saved, others) in reversed([*enumerate(wider)]):
        rows = all_rows if others is None else _put_rows(all_rows, others, rows)
        commits, (rows, halting), handle, d_weights = _reverse_segment(
            setting, inputs, order, saved, cotangents, commits, (rows, halting), handle, d_weights
        )
    (d_rows,) = backend.close_rows(handle, count)
    return (
        d_rows,
        *(ops.cast(x, w.dtype) for x, w in zip(d_weights, inputs.weights)),
        *halting,
        *(ops.cast(x, s.dtype) for x, s in zip(rows[0], inputs.state)),
        None,
    )


def _reverse_segment(setting, inputs, order, saved, cotangents, commits, carry, handle, d_weights):
    """Takes the gradient through what one `_read_and_save` has read."""
    trajectory, checkpoints, chunks_run, updates_run = saved
    step, states = setting.step, len(inputs.state)
    prepared = step.prepare(inputs.weights)
    origin = _at_first(setting, inputs)
    record, _ = _templates(setting, inputs, origin)
    chunk, chunks = _chunks(setting, inputs, order, record)

    def reverse_block(trajectory, used, block, commits, carry, scratch, handle, d_weights):
        start = block * BLOCK

        def body(slot, commits, carry, scratch, handle):
            carry, memo, row = _reverse_update(
                setting, inputs, prepared, cotangents, trajectory, start + slot, carry
            )
            handle = backend.commit(handle, commits, *row)
            return slot - 1, commits + 1, carry, _store(scratch, slot, memo), handle

        _, commits, carry, scratch, handle = ops.while_loop(
            lambda slot, *_: slot >= 0,
            body,
            (ops.minimum(used - start, BLOCK) - 1, commits, carry, scratch, handle),
        )
        # Only the block that is taken first can be partial, and its scratch past the end is still
        # zero.
        past = [ops.minimum(start + slot, used - 1) for slot in range(BLOCK)]
        code, *state = (
            ops.concatenate([backend.read(array, i) for i in past])
            for array in [trajectory[0], *trajectory[2 : 2 + states]]
        )
        memo = [ops.concatenate([backend.read(x, s) for s in range(BLOCK)]) for x in scratch]
        index, first, _, _ = _unpack(code)
        flag = ops.cast(first, inputs.rows.dtype)[:, None]
        rows = ops.take(inputs.rows, index, axis=0)
        gradients = step.weight_gradients(inputs.weights, rows, flag, state, memo)
        d_weights = [x + ops.cast(y, inputs.dtype) for x, y in zip(d_weights, gradients)]
        return block - 1, commits, carry, scratch, handle, d_weights

    def reverse_chunk(trajectory, used, *loop):
        _, *loop = ops.while_loop(
            lambda block, *_: block >= 0,
            lambda block, *loop: reverse_block(trajectory, used, block, *loop),
            ((used + BLOCK - 1) // BLOCK - 1, *loop),
        )
        return loop

    def replay_and_reverse(c, trajectory, *loop):
        last = c == chunks_run - 1
        leaves = [backend.read(array, c) for array in checkpoints]
        carry = keras.tree.pack_sequence_as(origin, leaves)
        limit = ops.where(last, 0, chunk)
        trajectory = _replay(setting, inputs, carry, limit, trajectory)
        used = ops.where(last, updates_run - c * chunk, chunk)
        return (c - 1, trajectory, *reverse_chunk(trajectory, used, *loop))

    _, memo, _ = _reverse_update(setting, inputs, prepared, cotangents, _written(record), 0, carry)
    scratch = [backend.buffer(BLOCK, x) for x in memo]
    for slot in range(BLOCK):
        scratch = _store(scratch, slot, [ops.zeros_like(x) for x in memo])
    loop = commits, carry, scratch, handle, d_weights
    if isinstance(chunks, int) and chunks == 1:
        loop = reverse_chunk(trajectory, updates_run, *loop)
    else:
        _, _, *loop = ops.while_loop(
            lambda c, *_: c >= 0, replay_and_reverse, (chunks_run - 1, trajectory, *loop)
        )
    commits, carry, _, handle, d_weights = loop
    return commits, carry, handle, d_weights


def _written(record):
    """A trajectory of one update."""
    return _store([backend.buffer(1, leaf) for leaf in record], 0, record)


def _add_at(leaves, position, x):
    return [leaf + x if i == position % len(leaves) else leaf for i, leaf in enumerate(leaves)]
