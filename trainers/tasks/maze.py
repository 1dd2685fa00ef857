"""Mazes that are seen from above (Vezhnevets et al., 2016, section 4.2)."""

import dataclasses
import functools

import numpy as np

from ._acting import Acting, at, painted

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])


@dataclasses.dataclass(frozen=True)
class Maze(Acting):
    """Find the way to the goal of a maze that is never the same.

    The field has `size` by `size` places, an odd number, of which every other one, across and down,
    is a cell. Walls between cells are open along a spanning tree, so that exactly one way leads
    from each cell to each other; start and goal are two cells. Walls, start and goal are drawn for
    each game. A step costs `reward`, one against a wall twice as much and leads nowhere; reaching
    the goal earns `reward` and ends the game, which is cut off after `most_steps`. A frame has a
    plane each for walls, goal and player. See `Acting` for what goes in and comes out.

    `reached` is the share of the games in which the goal is reached. `report` has `planning`, where
    a model tells at which steps it `replanned`: the share of the steps that did, at `corners` (and
    where three ways meet or one ends) and in `corridors`, but for the first of a game.

    Raises:
        ValueError: the size is even, or too small for two cells.
    """

    most_steps: int = 100
    size: int = 11
    reward: float = 1.0
    actions = ("up", "right", "down", "left")
    called = {"reached": "goals reached"}

    def __post_init__(self):
        super().__post_init__()
        if self.size < 5 or self.size % 2 == 0:
            raise ValueError(f"a maze has an odd size of 5 or more, got {self.size}")

    @property
    def shape(self):
        return self.size, self.size, 3

    def start(self, rng, rows, ops=np):
        cells, pairs, between = _places(self.size)
        # Prim's algorithm in all mazes at once: the tree of least weight, which chance decides.
        weight, numbers = rng.random((rows, len(pairs))), np.arange(len(pairs))
        opened, reached = weight < 0, weight[:, :1] < 0
        reached = reached | (numbers[: len(cells)] == 0)
        for _ in cells[1:]:
            one, other = (ops.take(reached, ends, axis=1) for ends in pairs.T)
            best = ops.argmin(ops.where(one != other, weight, np.inf), axis=1)[:, None]
            opened = opened | (best == numbers)
            for ends in pairs.T:
                reached = reached | (ops.take(ends, best) == numbers[: len(cells)])
        # A place is a cell, or is between two that may be joined, or is always wall.
        kind = np.full((self.size, self.size), len(pairs) + 1)
        kind[*cells.T], kind[*between.T] = len(pairs), numbers
        inside, wall = weight[:, :1] < 0, weight[:, :1] >= 0
        walls = ops.take(ops.concatenate([~opened, inside, wall], axis=1), kind, axis=1)
        order = ops.argsort(rng.random((rows, len(cells))), axis=1)
        player, goal = (ops.take(cells, order[:, number], axis=0) for number in range(2))
        return {"walls": walls, "goal": goal, "player": player}

    def step(self, state, actions, rng, ops=np):
        walls, goal, player = (state[name] for name in ("walls", "goal", "player"))
        there = player + ops.take(MOVES, actions, axis=0)
        free = ~ops.any(walls & at(self.shape, there[:, 0], there[:, 1]), axis=(1, 2))
        player = ops.where(free[:, None], there, player)
        over = ops.all(player == goal, axis=1)
        reward = self.reward * ops.where(over, 1.0, ops.where(free, -1.0, -2.0))
        state = {**state, "player": player}
        return state, self.observation(state, ops), reward, over

    def observation(self, state, ops=np):
        places = (at(self.shape, state[x][:, 0], state[x][:, 1]) for x in ("goal", "player"))
        return painted([state["walls"], *places], ops)

    @property
    def measured(self):
        return "reached", *super().measured

    def summary(self, returns, steps, over):
        return {"reached": float(over.mean()), **super().summary(returns, steps, over)}

    def report(self, model):
        found = super().report(model)
        if "replanned" in model.output:
            found["planning"] = self.planning(model)
        return found

    def planning(self, model):
        """How often a model plans by the kind of place where it is; see the class."""
        sums = {"corners": [0, 0], "corridors": [0, 0]}

        def watch(games, found, playing):
            chosen, corridor = playing & (games.steps > 0), in_corridor(games.state)
            for name, here in (("corners", ~corridor), ("corridors", corridor)):
                sums[name][0] += int((chosen & here).sum())
                sums[name][1] += int(found["replanned"][chosen & here].sum())

        self.play(model, self.evaluation_batch, 0.0, watch=watch)
        return {f"replanned_at_{name}": done / max(of, 1) for name, (of, done) in sums.items()}


def in_corridor(state):
    """Whether two ways that are opposite, and no others, lead from where the player is."""
    beside = state["player"][:, None] + MOVES
    free = ~state["walls"][np.arange(len(beside))[:, None], beside[..., 0], beside[..., 1]]
    up, right, down, left = free.T
    return (up & down & ~right & ~left) | (right & left & ~up & ~down)


@functools.cache
def _places(size):
    """Places of the cells; pairs of neighbours, by their numbers; the places between those."""
    side = size // 2
    cells = 2 * np.indices((side, side)).reshape(2, -1).T + 1
    number = np.arange(side * side).reshape(side, side)
    beside = [number[:, :-1].ravel(), number[:, 1:].ravel()]
    below = [number[:-1].ravel(), number[1:].ravel()]
    pairs = np.concatenate([np.stack(beside, axis=1), np.stack(below, axis=1)])
    return cells, pairs, cells[pairs].sum(axis=1) // 2
