"""The loop of `_scan.py` within a budget of memory (Gruslys et al., 2016).

`memory_budget.py` cuts the sequence into blocks. The first pass keeps hidden states between some of
them and records the last steps alone. The way back goes over the blocks from the last to the first:
from the nearest state that is kept it passes the blocks before the one that is due, keeps states of
them where slots are free, records the block and differentiates it. All blocks share what is
compiled, and where a graph learns only when it runs how long a sequence is, it plans then.
"""

import dataclasses
import functools
import math

from keras import ops, tree

from . import _backend as backend
from ._base import sum_dtype
from ._scan import scan, stacked
from .memory_budget import MOST_BLOCKS, choose, first_blocks, plan_memory


def budgeted_recurrence(step, rows, weights, state, budget, enter=None, axis=0, jit=False):
    """`recurrence` that keeps no more of the steps than fits a budget.

    Not counted is what callers hold anyway: rows, weights and answers, and the cotangents of these.

    Args:
        step, weights, state, jit: as there; XLA compiles for each length by itself.
        rows: as there, but for the axis.
        budget: bytes.
        enter: `enter(row, weights) -> (row, weights)`, what the step reads in the place of the
            first of the rows, `(T, ...)`, and of the weights, for as many steps at once as are
            given. It is computed for a block at a time.
        axis: where rows and answers have their steps.

    Returns:
        As there, but for the axis.

    Raises:
        ValueError: the budget is too small for a sequence whose length and batch are known.
    """
    given, count = (rows, weights, state), len(tree.flatten(state))
    compiled = backend.jit if jit and backend.may_jit() else lambda function: function
    loop = _Loop(step, enter, budget, axis)

    def first_pass(*tensors):
        with backend.unrecorded():
            answers, end, residuals = loop.forward(*tree.pack_sequence_as(given, tensors))
        return (*answers, *tree.flatten(end)), residuals

    def forward(*tensors):
        outputs, residuals = compiled(first_pass)(*tensors)
        return outputs, (tensors, residuals)

    def way_back(tensors, residuals, cotangents):
        d_end = tree.pack_sequence_as(state, cotangents[-count:])
        given_again = tree.pack_sequence_as(given, tensors)
        return tree.flatten(
            loop.backward(*given_again, residuals, list(cotangents[:-count]), d_end)
        )

    differentiable = backend.differentiable(
        lambda *tensors: compiled(first_pass)(*tensors)[0],
        forward,
        lambda residuals, cotangents: compiled(way_back)(*residuals, cotangents),
    )
    outputs = differentiable(*tree.flatten(given))
    return list(outputs[:-count]), tree.pack_sequence_as(state, outputs[-count:])


@dataclasses.dataclass
class _Sizes:
    """Tensors as a step answers and records them, and the bytes that differentiating it needs."""

    answer: list
    record: object
    needed: object


class _Loop:
    """The two ways over a sequence. Places are numbers of blocks; the last steps are one more."""

    def __init__(self, step, enter, budget, axis):
        self.step, self.enter, self.budget, self.axis = step, enter, budget, axis

    def forward(self, rows, weights, state):
        """Answers of all steps, the state behind the last, and what `backward` needs of them."""
        steps = self._length(rows)
        sizes = self._sizes(rows, weights, state)
        block, blocks, slots, last = plan = self._plan(steps, state, sizes)
        first = _first(plan)
        room = max(slots, 1) if isinstance(slots, int) else ops.maximum(slots, 1)
        kept = tree.map_structure(lambda x: backend.buffer(room, x), state)
        answers = [backend.open_parts(steps, blocks + 1, x, self.axis) for x in sizes.answer]

        def keep(place, top, state, kept, places, answers):
            kept = backend.write_all(kept, top, state)
            places = ops.where(_numbers() == top, place, places)
            far = place + first(blocks + 1 - place, slots - top)
            state, answers = self._passed(
                rows, weights, state, place, far, block, sizes.answer, answers
            )
            return far, top + 1, state, kept, places, answers

        none = ops.cast(0, "int32")
        start = none, none, state, kept, ops.zeros((MOST_BLOCKS,), "int32"), answers
        if not _is_zero(blocks):
            start = ops.while_loop(lambda place, *_: place < blocks, keep, start)
        _, top, before, kept, places, answers = start
        begin = blocks * block
        end, own, records = self._recorded(rows, weights, before, begin, last, sizes)
        answers = self._laid(answers, blocks, begin, own)
        answers = [backend.close_parts(x, self.axis) for x in answers]
        if backend.compiles():
            # No list of tensors leaves what XLA compiled.
            records = stacked(records)
        kept = tree.map_structure(backend.frozen, kept)
        return answers, end, (kept, places, top, before, own, records)

    def backward(self, rows, weights, state, residuals, d_answers, d_state):
        """The cotangents of rows, weights and state."""
        kept, places, top, *recorded = residuals
        steps = self._length(rows)
        sizes = self._sizes(rows, weights, state)
        block, blocks, slots, last = plan = self._plan(steps, state, sizes)
        first = _first(plan)

        def differentiated(place, count, state, answers, records, d_state):
            begin = place * block
            told = self._part(rows, begin, count), self._part(d_answers, begin, count)
            return self._reversed(*told, weights, state, answers, records, d_state)

        d_rows, d_weights, d_state = differentiated(blocks, last, *recorded, d_state)
        flat = tree.flatten(d_rows)
        float_rows = [i for i, d in enumerate(flat) if d is not None]
        parts = [backend.open_parts(steps, blocks + 1, flat[i][0], self.axis) for i in float_rows]
        parts = self._laid(parts, blocks, blocks * block, [flat[i] for i in float_rows])
        sums = tree.flatten(d_weights)
        summed = [i for i, d in enumerate(sums) if d is not None]

        def back(due, top, places, kept, d_state, sums, parts):
            """Differentiates the block `due`, the last that is left."""

            def nearest(top, places):
                place = ops.take(places, top)
                return place, place + first(due + 1 - place, slots - top)

            def keep(top, places, kept):
                place, far = nearest(top, places)
                state = tree.map_structure(lambda x: backend.read(x, top), kept)
                state, _ = self._passed(rows, weights, state, place, far, block)
                places = ops.where(_numbers() == top + 1, far, places)
                return top + 1, places, backend.write_all(kept, top + 1, state)

            top, places, kept = ops.while_loop(
                lambda top, places, _: nearest(top, places)[1] < due, keep, (top, places, kept)
            )
            place, _ = nearest(top, places)
            state = tree.map_structure(lambda x: backend.read(x, top), kept)
            state, _ = self._passed(rows, weights, state, place, due, block)
            _, *recorded = self._recorded(rows, weights, state, due * block, block, sizes)
            d_rows, d_weights, d_state = differentiated(due, block, state, *recorded, d_state)
            d_rows, d_weights = tree.flatten(d_rows), tree.flatten(d_weights)
            parts = self._laid(parts, due, due * block, [d_rows[i] for i in float_rows])
            sums = [x + _wide(d_weights[i]) for x, i in zip(sums, summed)]
            # A slot whose own block is done is free.
            top = ops.where(place == due, top - 1, top)
            return due - 1, top, places, kept, d_state, sums, parts

        if not _is_zero(blocks):
            kept = tree.map_structure(backend.thawed, kept)
            due, totals = ops.cast(blocks - 1, "int32"), [_wide(sums[i]) for i in summed]
            start = due, top - 1, places, kept, d_state, totals, parts
            *_, d_state, totals, parts = ops.while_loop(lambda due, *_: due >= 0, back, start)
            for i, total in zip(summed, totals):
                sums[i] = ops.cast(total, sums[i].dtype)
        for i, x in zip(float_rows, parts):
            flat[i] = backend.close_parts(x, self.axis)
        d_rows, d_weights = (
            tree.pack_sequence_as(d_rows, flat),
            tree.pack_sequence_as(d_weights, sums),
        )
        return d_rows, d_weights, d_state

    def _passed(self, rows, weights, state, begin, end, block, like=None, answers=()):
        """The state before the block `end`, from that before `begin`, and the answers so far."""

        def passing(place, state, answers):
            steps, weights_ = self._entered(self._part(rows, place * block, block), weights)

            def advance(state, _, row):
                state, new, _ = self.step.forward(weights_, row, state)
                return state, new if answers else []

            state, new = scan(advance, state, block, ahead=steps, like=like or [])
            return place + 1, state, self._laid(answers, place, place * block, stacked(new))

        start = ops.cast(begin, "int32"), state, list(answers)
        return ops.while_loop(lambda place, *_: place < end, passing, start)[1:]

    def _recorded(self, rows, weights, state, begin, count, sizes):
        """The state behind some steps, and their answers and records."""
        rows, weights = self._entered(self._part(rows, begin, count), weights)

        def advance(state, _, row):
            state, *made = self.step.forward(weights, row, state)
            return state, made

        like = [sizes.answer, sizes.record]
        state, (answers, records) = scan(advance, state, count, ahead=rows, like=like)
        return state, stacked(answers), records

    def _reversed(self, rows, d_answers, weights, state, answers, records, d_state):
        """The cotangents of rows, weights and state of steps that were recorded."""
        step, pull = self.step, None
        if self.enter is None:
            inner = weights
        else:
            _, inner = self._entered(rows, weights)  # for its structure

            def enter(row, *flat):
                row, weights_ = self.enter(row, tree.pack_sequence_as(weights, flat))
                return [row, *tree.flatten(weights_)]

            (row, *flat), pull = backend.vjp(enter, rows[0], *tree.flatten(weights))
            rows, inner = (row, *rows[1:]), tree.pack_sequence_as(inner, flat)
        read = step.stored(rows, state, answers, records, d_answers)
        back = functools.partial(step.backward, step.prepare(inner))
        steps = ops.shape(tree.flatten(rows)[0])[0]
        d_state, memo = scan(back, d_state, steps, *read, reverse=True)
        d_rows, d_weights = step.gradients(inner, rows, state, answers, records, stacked(memo))
        if pull is not None:
            d_row, *flat = pull([d_rows[0], *tree.flatten(d_weights)])
            d_rows, d_weights = (d_row, *d_rows[1:]), tree.pack_sequence_as(weights, flat)
        return d_rows, d_weights, d_state

    def _entered(self, rows, weights):
        if self.enter is None:
            return rows, weights
        row, weights = self.enter(rows[0], weights)
        return (row, *rows[1:]), weights

    def _part(self, rows, begin, count):
        return tree.map_structure(lambda x: backend.part(x, begin, count, self.axis), rows)

    def _laid(self, parts, number, begin, new):
        return [backend.lay_part(x, number, begin, y, self.axis) for x, y in zip(parts, new)]

    def _length(self, rows):
        # Asked of the rows themselves: XLA knows the shapes of what it compiles for.
        return ops.shape(tree.flatten(rows)[0])[self.axis]

    def _sizes(self, rows, weights, state):
        """How large what a step makes is."""
        step, one = self.step, self._part(rows, 0, 1)
        entered, inner = self._entered(one, weights)
        row = tree.map_structure(lambda x: x[0], entered)
        _, answer, record = step.forward(inner, row, state)
        answers, records = tree.map_structure(lambda x: x[None], (answer, record))
        zeros = tree.map_structure(ops.zeros_like, answers)
        read = step.stored(entered, state, answers, records, zeros)
        read = tree.map_structure(lambda x: stacked(x)[0], read)
        d_state = tree.map_structure(ops.zeros_like, state)
        _, memo = step.backward(step.prepare(inner), d_state, *read)
        # Rows and answers of a block are copies, and so are their cotangents.
        parts = [one, one, answer, answer, record, memo, *([row] if self.enter else [])]
        return _Sizes(answer, record, _bytes(parts, tree.flatten((state, row))))

    def _plan(self, steps, state, sizes):
        """Steps of a block, blocks, slots, and the last steps, as numbers where they are known."""
        hidden = _bytes(state, tree.flatten(state))
        if all(isinstance(x, int) for x in (steps, hidden, sizes.needed)):
            plan = plan_memory(steps, hidden, sizes.needed, self.budget)
            return plan.block, plan.blocks, plan.slots, plan.recorded
        sizes = [_wide_number(x) for x in (steps, hidden, sizes.needed, self.budget)]
        found = choose(*sizes, ops, ops.cast)
        return tuple(ops.cast(x, "int32") for x in found[:4])


def _numbers():
    return ops.arange(MOST_BLOCKS, dtype="int32")


def _first(plan):
    """`first(blocks, slots)`: as `first_blocks` has it."""
    table = first_blocks()
    _, blocks, slots, _ = plan
    if isinstance(blocks, int):
        table = table[: blocks + 2, : slots + 1]
    width = table.shape[1]
    flat = ops.convert_to_tensor(table.reshape(-1), "int32")
    return lambda blocks, slots: ops.take(flat, blocks * width + slots)


def _wide(d):
    return ops.cast(d, sum_dtype(d.dtype))


def _is_zero(blocks):
    return isinstance(blocks, int) and blocks == 0


def _bytes(nest, given):
    """Of all tensors of a nest; a tensor where a size is not known.

    XLA must know it all the same, and does of what was `given`: unknown sizes are taken from the
    first of these tensors of the same rank.
    """
    total = 0
    for x in tree.flatten(nest):
        size = math.prod(n for n in x.shape if n is not None) * backend.item_bytes(x.dtype)
        if None in x.shape:
            like = next((y for y in given if len(y.shape) == len(x.shape)), given[0])
            for axis, n in enumerate(x.shape):
                size = size if n is not None else size * _wide_number(ops.shape(like)[axis])
        total = total + size
    return total


def _wide_number(x):
    return ops.cast(x, "float64")
