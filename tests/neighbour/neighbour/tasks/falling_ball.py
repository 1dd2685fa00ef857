"""A ball falls, and a paddle at the bottom must be under it (Mnih et al., 2014)."""

import dataclasses

import numpy as np
from ponderzoo.trainers import Task
from ponderzoo.trainers._evaluate import outputs_of
from ponderzoo.trainers.figures._panels import COLOURS, subplots

MOVES = (-1, 0, 1)


@dataclasses.dataclass(frozen=True)
class FallingBall(Task):
    """A field of `size` by `size`; the reward of a game is 1 where the ball is caught, else -1.

    A game is `size - 1` steps. Inputs: `field`, `(batch, size, size)` float32. The model output
    `policy` is logits of the moves left, stay and right, `(batch, 3)`.
    """

    size: int = 5
    captions = {"game": "One game, step by step, as the most probable moves play it."}

    @property
    def input_spec(self):
        return {"field": ((self.size, self.size), "float32")}

    @property
    def measured(self):
        return ("mean_return",)

    def start(self, rng, rows):
        """State `(rows, 3)`: row and column of the ball, column of the paddle."""
        state = rng.integers(0, self.size, (rows, 3))
        state[:, 0] = 0
        return state

    def step(self, state, actions, rng):
        """The next state, what is seen of it, rewards `(rows,)` and whether the games end."""
        ball, column, paddle = state.T
        paddle = (paddle + np.take(MOVES, actions)).clip(0, self.size - 1)
        state = np.stack([ball + 1, column, paddle], axis=1)
        done = state[:, 0] == self.size - 1
        reward = np.where(done, np.where(column == paddle, 1.0, -1.0), 0.0)
        return state, self.observation(state), reward, done

    def observation(self, state):
        """The field, 1 at the ball and at the paddle."""
        field, rows = np.zeros((len(state), self.size, self.size), "float32"), np.arange(len(state))
        field[rows, state[:, 0], state[:, 1]] = 1
        field[rows, -1, state[:, 2]] = 1
        return field

    def batch(self, rng, size, difficulty=None, split="train"):
        state = self.start(rng, size)
        state[:, 0] = rng.integers(0, self.size - 1, size)
        return {"field": self.observation(state)}, {}

    def measure(self, model, split="test", rows=10_000, measures=None):
        rng = np.random.default_rng(["train", "validation", "test"].index(split))
        state, total, done = self.start(rng, rows), np.zeros(rows), np.zeros(rows, bool)
        while not done.all():
            policy = outputs_of(model, {"field": self.observation(state)})["policy"]
            state, _, reward, done = self.step(state, policy.argmax(axis=-1), rng)
            total += reward
        return {"mean_return": float(total.mean())}

    def describe(self, inputs, targets, outputs):
        words = ("left", "stay", "right")
        return [f"goes {words[row.argmax()]}" for row in outputs["policy"]]

    def figures(self, model):
        rng = np.random.default_rng(0)
        figure, panels = subplots(1, self.size, size=(2 * self.size, 2))
        state = self.start(rng, 1)
        for panel in panels:
            panel.imshow(self.observation(state)[0], cmap="Greys")
            panel.set_title(f"move {state[0, 0]}", color=COLOURS[0])
            policy = outputs_of(model, {"field": self.observation(state)})["policy"]
            state, *_, done = self.step(state, policy.argmax(axis=-1), rng)
            if done.all():
                break
        return {"game": figure}
