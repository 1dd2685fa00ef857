"""Catch: a ball falls, and a paddle must be under it (Mnih et al., 2014, section 4.2)."""

import dataclasses

import numpy as np

from ._acting import Acting


@dataclasses.dataclass(frozen=True)
class Catch(Acting):
    """Catch a ball that falls and bounces off the walls.

    The field has `size` by `size` pixels. The ball is one of them; it begins somewhere in the top
    row and falls by a row a step, straight down or, where it `bounces`, also a column to a side,
    and back from the wall. The paddle, `paddle` pixels of the bottom row, begins anywhere. A game
    ends when the ball reaches the bottom, with a reward of 1 where the paddle is there and else 0,
    so that the mean return is the share of balls that are caught. The paper's screen has 24 by 24
    pixels and its paddle 2. See `Acting` for what goes in and comes out.

    Raises:
        ValueError: the paddle is wider than the field.
    """

    frames: int = 2
    size: int = 24
    paddle: int = 2
    bounces: bool = True
    actions = ("left", "stay", "right")
    called = {"mean_return": "balls caught, mean return"}

    def __post_init__(self):
        super().__post_init__()
        if self.size < 2 or not 1 <= self.paddle <= self.size:
            raise ValueError(
                f"catch takes a size of 2 or more and a paddle of 1 to as many; got a size of "
                f"{self.size} and a paddle of {self.paddle}"
            )

    @property
    def shape(self):
        return self.size, self.size, 1

    def start(self, rng, rows):
        return {
            "row": np.zeros(rows, "int64"),
            "column": rng.integers(0, self.size, rows),
            "drift": rng.integers(-1, 2, rows) * self.bounces,
            "paddle": rng.integers(0, self.size - self.paddle + 1, rows),
        }

    def step(self, state, actions, rng):
        paddle = (state["paddle"] + actions - 1).clip(0, self.size - self.paddle)
        beside = state["column"] + state["drift"]
        drift = np.where((beside < 0) | (beside >= self.size), -1, 1) * state["drift"]
        column, row = state["column"] + drift, state["row"] + 1
        state = {"row": row, "column": column, "drift": drift, "paddle": paddle}
        over = row == self.size - 1
        caught = over & (paddle <= column) & (column < paddle + self.paddle)
        return state, self.observation(state), caught.astype(float), over

    def observation(self, state):
        rows = len(state["row"])
        field, game = np.zeros((rows, *self.shape), "uint8"), np.arange(rows)
        field[game, state["row"], state["column"]] = 255
        for place in range(self.paddle):
            field[game, -1, state["paddle"] + place] = 255
        return field
