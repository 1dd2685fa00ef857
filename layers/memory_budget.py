"""What backpropagation through time must compute again to keep to a budget of memory.

A forward operation is one step of the recurrence. A step's hidden state is what it hands to the
next one; its internal state, `alpha` times as large, is everything that its gradient needs, and
costs a forward operation that records it. Numbers of forward operations contain those of the first
pass; inputs, outputs, parameters and the one internal state being differentiated are not counted.

Reference: Gruslys, Munos, Danihelka, Lanctot and Graves, "Memory-Efficient Backpropagation Through
Time", 2016, arXiv:1606.03401.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

STRATEGIES = ("hidden", "internal", "mixed")
MOST_BLOCKS = 256  # that a sequence is cut into


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The optimal schedules of all lengths up to one, by dynamic programming.

    Attributes:
        strategy: `"hidden"`, `"internal"` or `"mixed"`, which states slots hold.
        alpha: what an internal state takes, in slots.
        forwards: `(length + 1, slots + 1)`, forward operations; what cannot be is huge.
        first: likewise, how many steps are made before the first state is kept; 0 to keep none.
        keeps_internal: likewise, whether that state is an internal one.

    Example:
        >>> [name for name, step, count in optimal_schedule(2, 2).moves(2, 2)]
        ['advance', 'record', 'back', 'record', 'back']
    """

    strategy: str
    alpha: int
    forwards: np.ndarray
    first: np.ndarray
    keeps_internal: np.ndarray

    def moves(self, length: int, slots: int) -> Iterator[tuple[str, int, int]]:
        """The moves of one schedule, `(name, step, count)`, steps from 0.

        `("advance", i, n)` takes the steps i to i + n - 1 from the state on top of the stack
        without recording; `("record", i, 1)` takes step i and records it; `("push", i, 1)` keeps
        the hidden state before step i, `("keep", i, 1)` what step i recorded; `("back", i, 1)`
        differentiates step i, out of its slot or as it was recorded last; `("pop", i, 1)` frees a
        slot. An advance that no push follows begins at the top again.
        """
        yield from self._moves(0, length, slots)

    def _moves(self, begin, length, slots):
        if length == 0:
            return
        first = int(self.first[length, slots])
        if length == 1 or first == 0:
            for last in range(length - 1, -1, -1):
                if last:
                    yield "advance", begin, last
                yield "record", begin + last, 1
                yield "back", begin + last, 1
        elif self.keeps_internal[length, slots]:
            own = begin + first - 1
            if first > 1:
                yield "advance", begin, first - 1
            yield "record", own, 1
            yield "keep", own, 1
            yield from self._moves(own + 1, length - first, slots - self.alpha)
            yield "back", own, 1
            yield "pop", own, 1
            yield from self._moves(begin, first - 1, slots)
        else:
            yield "advance", begin, first
            yield "push", begin + first, 1
            yield from self._moves(begin + first, length - first, slots - 1)
            yield "pop", begin + first, 1
            yield from self._moves(begin, first, slots)


def optimal_schedule(length: int, slots: int, strategy: str = "hidden", alpha: int = 1) -> Schedule:
    """Solves a dynamic program of the paper for all lengths and numbers of slots up to these.

        hidden:   C(t, m) = min over y of  y + C(t - y, m - 1) + C(y, m)
        internal: D(t, m) = min over y of  y + D(t - y, m - 1) + D(y - 1, m)
        mixed:    E(t, m) = min of both, an internal state taking alpha slots

    Each is `t (t + 1) / 2` where no state can be kept but the first. It takes time and memory
    proportional to `length^2 * slots`: 0.5 s for 1000 steps and 60 slots.

    Args:
        length: t, steps, at least 0.
        slots: m, at least 1; where hidden states are kept, the state before the first step is in
            one of them.
        strategy: `"hidden"` (BPTT-HSM), `"internal"` (BPTT-ISM) or `"mixed"` (BPTT-MSM).
        alpha: the size of an internal state in hidden states, for `"mixed"`; slots of `"internal"`
            hold an internal state each.

    Returns:
        `Schedule`.

    Raises:
        ValueError: there is no such strategy, or a number is too small.

    Example:
        >>> schedule = optimal_schedule(10, 3)
        >>> int(schedule.forwards[10, 3])
        25
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}; got {strategy!r}")
    _at_least(0, length=length)
    _at_least(1, slots=slots, alpha=alpha)
    return _solved(length, slots, strategy, alpha if strategy == "mixed" else 1)


@functools.lru_cache(maxsize=8)
def _solved(length, slots, strategy, alpha):
    pushes, records = strategy != "internal", strategy != "hidden"
    huge = np.iinfo(np.int32).max // 4
    forwards = np.full((length + 1, slots + 1), huge, np.int32)
    steps = np.arange(length + 1)
    forwards[:, 1:] = np.minimum(steps * (steps + 1) // 2, huge)[:, None]
    forwards[0] = 0
    first = np.zeros((length + 1, slots + 1), np.int32)
    keeps_internal = np.zeros((length + 1, slots + 1), bool)

    def better(t, room, costs, internal):
        # Of equals the nearest: it keeps most.
        best = costs.argmin(axis=0)
        least = costs[best, np.arange(costs.shape[1])]
        where = np.flatnonzero(least < forwards[t, room:]) + room
        forwards[t, where] = least[where - room]
        first[t, where] = best[where - room] + 1
        keeps_internal[t, where] = internal

    for t in range(2, length + 1):
        y = np.arange(1, t + 1, dtype=np.int32)[:, None]
        # An internal state first, which of equals saves the step that records.
        if records and slots > alpha:
            right = forwards[t - 1 :: -1, 1 : slots + 1 - alpha]
            better(t, 1 + alpha, y + right + forwards[:t, 1 + alpha :], True)
        if pushes and slots > 1:
            right = forwards[t - 1 : 0 : -1, 1:slots]
            better(t, 2, y[:-1] + right + forwards[1:t, 2:], False)
    return Schedule(strategy, alpha, forwards, first, keeps_internal)


def hidden_state_forwards(length: int, slots: int) -> int:
    """C(t, m) in closed form: forward operations where slots hold hidden states.

    With r the least number for which `t <= binom(m + r, r)`, it is `(r + 1) t - binom(m + r, r -
    1)`: no step is taken more than r times without and once with recording, as in Revolve (Griewank
    and Walther, 2000).

    Args:
        length: t, steps, at least 0.
        slots: m, at least 1, the state before the first step in one of them.

    Raises:
        ValueError: a number is too small.

    Example:
        >>> hidden_state_forwards(1000, 50)
        2948
    """
    _at_least(0, length=length)
    _at_least(1, slots=slots)
    if length < 2:
        return length
    r = 1
    while math.comb(slots + r, r) < length:
        r += 1
    return (r + 1) * length - math.comb(slots + r, r - 1)


def internal_state_forwards(length: int, slots: int) -> int:
    """D(t, m) in closed form: forward operations where slots hold internal states.

    With r the least number from 1 on for which `t <= binom(m + r, r) - 1`, it is `r t - binom(m +
    r, r - 1) + r`.

    Args:
        length: t, steps, at least 0.
        slots: m, at least 1.

    Raises:
        ValueError: a number is too small.

    Example:
        >>> internal_state_forwards(1000, 50)
        1950
    """
    _at_least(0, length=length)
    _at_least(1, slots=slots)
    r = 1
    while math.comb(slots + r, r) - 1 < length:
        r += 1
    return r * length - math.comb(slots + r, r - 1) + r


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """How a loop over a sequence keeps to a budget.

    The last `recorded` steps are recorded in the first pass. Before them stand `blocks` blocks of
    `block` steps, of whose hidden states `slots` are kept by BPTT-HSM; a block is recorded when its
    gradient is due. So memory is that of the slots and of one block, or of the last steps.

    Attributes:
        length: steps.
        block: steps of a block.
        blocks: how many of them are computed again.
        slots: hidden states that are kept at most.
        recorded: steps whose internal states the first pass keeps.
        forwards: forward operations, those of the first pass among them.
        bytes: what is kept at most.
        plain_bytes: what plain backpropagation through time keeps.
        backward_cost: of differentiating a step, in forward operations.

    Example:
        >>> plan_memory(1000, 1000, 5000, budget=250_000).strategy
        'mixed'
    """

    length: int
    block: int
    blocks: int
    slots: int
    recorded: int
    forwards: int
    bytes: int
    plain_bytes: int
    backward_cost: float = 2.0

    @property
    def strategy(self) -> str:
        """`"plain"`, `"hidden"`, or `"mixed"` where more than one block stays recorded."""
        if not self.blocks:
            return "plain"
        return "hidden" if self.recorded <= self.block else "mixed"

    @property
    def forwards_per_step(self) -> float:
        """Forward operations a step, 1 where nothing is computed again."""
        return self.forwards / self.length

    @property
    def time_ratio(self) -> float:
        """Predicted time, plain backpropagation through time taking 1."""
        return (self.forwards_per_step + self.backward_cost) / (1 + self.backward_cost)

    def moves(self) -> Iterator[tuple[str, int, int]]:
        """As `Schedule.moves` has them, in steps; a record of several steps is one move."""
        schedule = optimal_schedule(self.blocks + 1, max(self.slots, 1))
        for name, place, count in schedule.moves(self.blocks + 1, max(self.slots, 1)):
            if place == self.blocks:
                count = self.recorded
            else:
                count *= self.block
            yield name, place * self.block, count


def plan_memory(
    length: int,
    hidden_bytes: int,
    internal_bytes: int,
    budget: int,
    backward_cost: float = 2.0,
) -> MemoryPlan:
    """The plan with the fewest forward operations that keeps to a budget.

    It is the plan that layers with a `memory_budget` carry out: a sequence is cut into 256 blocks
    at most, so that what is compiled stays small.

    Args:
        length: steps, at least 1.
        hidden_bytes: of the state that a step hands to the next one, for the whole batch.
        internal_bytes: of all that differentiating a step needs, likewise.
        budget: bytes that may be kept.
        backward_cost: of differentiating a step, in forward operations, for the predicted time.

    Returns:
        `MemoryPlan`.

    Raises:
        ValueError: a number is too small; of the budget it says what the least would be.

    Example:
        >>> plan = plan_memory(1000, 1000, 5000, budget=250_000)
        >>> plan.block, plan.blocks, plan.slots, plan.forwards_per_step
        (32, 31, 31, 1.992)
    """
    _at_least(1, length=length, hidden_bytes=hidden_bytes, internal_bytes=internal_bytes)
    block, blocks, slots, recorded, forwards, kept = (
        int(x) for x in choose(length, hidden_bytes, internal_bytes, budget)
    )
    if kept > budget:
        raise ValueError(
            f"a memory budget of {budget} bytes is too small for {length} steps with hidden states "
            f"of {hidden_bytes} and internal states of {internal_bytes} bytes; the least is {kept}"
        )
    return MemoryPlan(
        length,
        block,
        blocks,
        slots,
        recorded,
        forwards,
        kept,
        length * internal_bytes,
        float(backward_cost),
    )


def least_budget(
    length: int,
    hidden_bytes: int,
    internal_bytes: int,
    slowdown: float = 0.33,
    backward_cost: float = 2.0,
) -> MemoryPlan:
    """The plan that takes the least memory for at most so much more time.

    Args:
        length, hidden_bytes, internal_bytes, backward_cost: as in `plan_memory`.
        slowdown: how much more time training may take, 0.33 for a third more.

    Returns:
        `MemoryPlan`, whose `bytes` are the budget to give.

    Raises:
        ValueError: a number is too small.

    Example:
        >>> plan = least_budget(1000, 1000, 5000, slowdown=0.33)
        >>> plan.bytes, plan.plain_bytes
        (145000, 5000000)
    """
    if not slowdown >= 0:
        raise ValueError(f"slowdown must be 0 or more; got {slowdown!r}")
    _at_least(1, length=length, hidden_bytes=hidden_bytes, internal_bytes=internal_bytes)
    low, high = 0, length * internal_bytes
    while low + 1 < high:
        budget = (low + high) // 2
        try:
            fits = plan_memory(length, hidden_bytes, internal_bytes, budget, backward_cost)
            fits = fits.time_ratio <= 1 + slowdown
        except ValueError:
            fits = False
        low, high = (low, budget) if fits else (budget, high)
    return plan_memory(length, hidden_bytes, internal_bytes, high, backward_cost)


@functools.cache
def _again():
    """Block operations beyond a first pass, `(blocks - 1, slots)`; one block more is recorded."""
    table = optimal_schedule(MOST_BLOCKS + 1, MOST_BLOCKS).forwards[2:].astype("float64")
    return table - np.arange(2, MOST_BLOCKS + 2)[:, None]


@functools.cache
def first_blocks() -> np.ndarray:
    """How many blocks to pass before the next state is kept, or the last of them recorded.

    `(t, m)` int32, of t blocks of which the first one's state is in one of m free slots.
    """
    schedule = optimal_schedule(MOST_BLOCKS + 1, MOST_BLOCKS)
    steps = np.arange(MOST_BLOCKS + 2, dtype=np.int32)[:, None]
    return np.where(schedule.first, schedule.first, np.maximum(steps - 1, 0))


def choose(
    length: Any,
    hidden_bytes: Any,
    internal_bytes: Any,
    budget: float,
    xp: Any = np,
    cast: Any = np.astype,
) -> tuple[Any, ...]:
    """Block, blocks, slots, recorded steps and forward operations of `plan_memory`, and its bytes.

    Args:
        length, hidden_bytes, internal_bytes, budget: as there, float64, which may be tensors. A
            budget that is too small gives the least memory that there is.
        xp, cast: numpy and its `astype`, or `keras.ops` and its `cast`.
    """
    # A row for each number of parts, the last of which is recorded in the first pass.
    parts = xp.arange(1, MOST_BLOCKS + 1, dtype="float64")
    block = xp.ceil(length / parts)
    blocks = xp.ceil(length / block) - 1
    recorded = length - blocks * block
    slots = xp.floor((budget - block * internal_bytes) / hidden_bytes)
    slots = xp.minimum(xp.maximum(slots, 1), blocks)
    # Where all hidden states are kept, what is left keeps further blocks recorded.
    left = budget - blocks * hidden_bytes - recorded * internal_bytes
    more = xp.floor(left / xp.maximum(block * internal_bytes - hidden_bytes, 1))
    more = xp.minimum(xp.maximum(more, 0), xp.where(slots < blocks, 0 * blocks, blocks))
    blocks, recorded = blocks - more, recorded + more * block
    slots = xp.minimum(slots, blocks)
    rows, columns = cast(xp.maximum(blocks - 1, 0), "int32"), cast(slots, "int32")
    again = xp.take(xp.reshape(_again(), (-1,)), rows * (MOST_BLOCKS + 1) + columns)
    forwards = length + block * xp.where(blocks > 0, again, 0 * again)
    working = xp.where(blocks > 0, xp.maximum(block, recorded), recorded)
    kept = slots * hidden_bytes + working * internal_bytes
    best = xp.argmin(xp.where(kept <= budget, forwards, 1e30 + 1e16 * kept))
    return tuple(xp.take(x, best) for x in (block, blocks, slots, recorded, forwards, kept))


def _at_least(least, **numbers):
    for name, number in numbers.items():
        if not number >= least:
            raise ValueError(f"{name} must be at least {least}; got {number!r}")
