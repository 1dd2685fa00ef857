"""Breakout on ten by ten places, by the rules of MinAtar (Young and Tian, 2019)."""

import dataclasses

import numpy as np

from ._acting import Acting

SIZE, FIRST, LAST = 10, 1, 4  # of the field; the rows of bricks
PADDLE, BALL, TRAIL, BRICKS = range(4)


@dataclasses.dataclass(frozen=True)
class BreakoutSmall(Acting):
    """Break bricks with a ball that must not be lost.

    The field has ten by ten places, with bricks in the three rows below the top one and a paddle of
    one place in the bottom row. The ball moves by a row and a column a step. It turns back from
    walls, and from a brick, which breaks for a reward of 1; where the paddle is under it, it turns
    up again, and where they meet at a corner it goes back the way it came. The game is over when
    the ball reaches the bottom beside the paddle. There are new bricks once all are broken and the
    ball is down. A frame has a plane each for paddle, ball, where the ball was before, and bricks;
    so one frame says all. See `Acting` for what goes in and comes out.
    """

    actions = ("left", "stay", "right")

    @property
    def shape(self):
        return SIZE, SIZE, 4

    def start(self, rng, rows):
        side = rng.integers(0, 2, rows)
        return {
            "row": np.full(rows, LAST - 1),
            "column": side * (SIZE - 1),
            "down": np.ones(rows, "int64"),
            "right": 1 - 2 * side,
            "last_row": np.full(rows, LAST - 1),
            "last_column": side * (SIZE - 1),
            "paddle": np.full(rows, SIZE // 2 - 1),
            "bricks": np.ones((rows, LAST - FIRST, SIZE), bool),
        }

    def step(self, state, actions, rng):
        game = np.arange(len(actions))
        paddle = (state["paddle"] + actions - 1).clip(0, SIZE - 1)
        row, column, down, right = (state[name] for name in ("row", "column", "down", "right"))
        bricks = state["bricks"].copy()

        to_column = column + right
        right = np.where((to_column < 0) | (to_column >= SIZE), -right, right)
        to_column = to_column.clip(0, SIZE - 1)
        to_row = row + down
        at_top = to_row < 0
        line = (to_row - FIRST).clip(0, LAST - FIRST - 1)
        among = (to_row >= FIRST) & (to_row < LAST)
        hit = among & bricks[game, line, to_column]
        bricks[game[hit], line[hit], to_column[hit]] = False

        at_bottom = to_row == SIZE - 1
        cleared = at_bottom & ~bricks.any(axis=(1, 2))
        bricks[cleared] = True
        under = at_bottom & (column == paddle)
        corner = at_bottom & ~under & (to_column == paddle)
        over = at_bottom & ~under & ~corner

        state = {
            "row": np.where(at_top, 0, np.where(hit | under | corner, row, to_row)),
            "column": to_column,
            "down": np.where(at_top | hit | under | corner, -down, down),
            "right": np.where(corner, -right, right),
            "last_row": row,
            "last_column": column,
            "paddle": paddle,
            "bricks": bricks,
        }
        return state, self.observation(state), hit.astype(float), over

    def observation(self, state):
        rows = len(state["row"])
        field, game = np.zeros((rows, *self.shape), "uint8"), np.arange(rows)
        field[game, -1, state["paddle"], PADDLE] = 255
        field[game, state["row"], state["column"], BALL] = 255
        field[game, state["last_row"], state["last_column"], TRAIL] = 255
        field[:, FIRST:LAST, :, BRICKS] = 255 * state["bricks"]
        return field
