"""Catch: a ball falls, and a paddle must be under it (Mnih et al., 2014, section 4.2)."""

import dataclasses

import numpy as np

from ._acting import Acting, at, painted


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

    def start(self, rng, rows, ops=np):
        return {
            "row": ops.zeros((rows,), "int64"),
            "column": rng.integers(0, self.size, rows),
            "drift": rng.integers(-1, 2, rows) * self.bounces,
            "paddle": rng.integers(0, self.size - self.paddle + 1, rows),
        }

    def step(self, state, actions, rng, ops=np):
        paddle = ops.clip(state["paddle"] + actions - 1, 0, self.size - self.paddle)
        beside = state["column"] + state["drift"]
        at_wall = (beside < 0) | (beside >= self.size)
        drift = ops.where(at_wall, -state["drift"], state["drift"])
        column, row = state["column"] + drift, state["row"] + 1
        state = {"row": row, "column": column, "drift": drift, "paddle": paddle}
        over = row == self.size - 1
        caught = over & (paddle <= column) & (column < paddle + self.paddle)
        return state, self.observation(state, ops), ops.where(caught, 1.0, 0.0), over

    def observation(self, state, ops=np):
        ball = at(self.shape, state["row"], state["column"])
        across, left = np.arange(self.size), state["paddle"][:, None]
        paddle = (left <= across) & (across < left + self.paddle)
        paddle = paddle[:, None] & (across == self.size - 1)[:, None]
        return painted([ball | paddle], ops)
