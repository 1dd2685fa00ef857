"""Breakout on ten by ten places, by the rules of MinAtar (Young and Tian, 2019)."""

import dataclasses

import numpy as np

from ._acting import Acting, at, painted

SIZE, FIRST, LAST = 10, 1, 4  # of the field; the rows of bricks


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

    def start(self, rng, rows, ops=np):
        side = rng.integers(0, 2, rows)
        nothing = 0 * side
        return {
            "row": nothing + LAST - 1,
            "column": side * (SIZE - 1),
            "down": nothing + 1,
            "right": 1 - 2 * side,
            "last_row": nothing + LAST - 1,
            "last_column": side * (SIZE - 1),
            "paddle": nothing + SIZE // 2 - 1,
            "bricks": ops.ones((rows, LAST - FIRST, SIZE), bool),
        }

    def step(self, state, actions, rng, ops=np):
        paddle = ops.clip(state["paddle"] + actions - 1, 0, SIZE - 1)
        row, column, down, right = (state[name] for name in ("row", "column", "down", "right"))

        to_column = column + right
        right = ops.where((to_column < 0) | (to_column >= SIZE), -right, right)
        to_column = ops.clip(to_column, 0, SIZE - 1)
        to_row = row + down
        at_top = to_row < 0
        struck = state["bricks"] & at((LAST - FIRST, SIZE), to_row - FIRST, to_column)
        hit, bricks = ops.any(struck, axis=(1, 2)), state["bricks"] & ~struck

        at_bottom = to_row == SIZE - 1
        cleared = at_bottom & ~ops.any(bricks, axis=(1, 2))
        bricks = bricks | cleared[:, None, None]
        under = at_bottom & (column == paddle)
        corner = at_bottom & ~under & (to_column == paddle)
        over = at_bottom & ~under & ~corner

        state = {
            "row": ops.where(at_top, 0 * row, ops.where(hit | under | corner, row, to_row)),
            "column": to_column,
            "down": ops.where(at_top | hit | under | corner, -down, down),
            "right": ops.where(corner, -right, right),
            "last_row": row,
            "last_column": column,
            "paddle": paddle,
            "bricks": bricks,
        }
        return state, self.observation(state, ops), ops.where(hit, 1.0, 0.0), over

    def observation(self, state, ops=np):
        field = self.shape[:2]
        bricks = ops.pad(state["bricks"], [(0, 0), (FIRST, SIZE - LAST), (0, 0)])
        planes = [
            at(field, 0 * state["paddle"] + SIZE - 1, state["paddle"]),
            at(field, state["row"], state["column"]),
            at(field, state["last_row"], state["last_column"]),
            bricks,
        ]
        return painted(planes, ops)
