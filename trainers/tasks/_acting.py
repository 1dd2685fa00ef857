"""What tasks share in which a model acts: worlds of plain arrays, and many games of one at once."""

import dataclasses

import numpy as np

from .._difficulty import levels
from .._evaluate import evaluate, nothing, outputs_of
from .._task import SPLITS, Task

FRAMES, VALUES, VALUE = "frames", "values", "value"
WALK = 20  # steps at random, within which states are shown
SHOWN = 8  # games in a figure's choice of one


@dataclasses.dataclass(frozen=True)
class Acting(Task):
    """A world in which actions are chosen step by step, and are rewarded.

    A world is three functions of plain arrays, with as many games in them as there are rows, and
    nothing else changes from step to step:

    - `start(rng, rows)` gives a state, a dict of arrays with the rows first;
    - `step(state, actions, rng)` gives the next state, what is then seen, the rewards, `(rows,)`
      float, and which games are over, `(rows,)` bool. The state that it is given stays as it is;
    - `observation(state)` is what is seen of a state, `(rows, *shape)` uint8, 0 to 255.

    `Games` are played by them. A game may also be cut off: it is not over then, and what would have
    come counts for its value.

    Inputs: `frames`, `(batch, height, width, planes * frames)` uint8, the last frames of a game,
    the newest last; before the first one of a game come others that are the same. There are no
    targets. The model output `values` is what each action is worth, `(batch, actions)`; actions are
    those of the largest. `value`, `(batch,)`, is the largest itself.

    A model is measured by whole games, `rows` of them, with `epsilon` of the actions at random.

    Attributes:
        frames: how many of the last frames are seen at once.
        epsilon: share of the actions that are chosen at random where a model is measured.
        sticky: chance of each action to be forgotten, and the one before taken again.
        most_steps: after which a game is cut off.
        actions: what they are called, in their order.
        shape: height, width and planes of a frame.
        skip: frames of the world that a step takes.
    """

    frames: int = 1
    epsilon: float = 0.05
    sticky: float = 0.0
    most_steps: int = 1000
    actions = ()
    skip = 1
    captions = {
        "game": "Frames of a game that the model plays, without chance, and what it expects of "
        "each: the largest value of an action.",
        "players": "Games of the model without chance, and of a player that has nothing else.",
    }

    def __post_init__(self):
        for name in ("epsilon", "sticky"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)!r}")
        for name in ("frames", "most_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)!r}")

    @property
    def shape(self):
        raise NotImplementedError

    def start(self, rng, rows):
        """The state of so many games that begin."""
        raise NotImplementedError

    def step(self, state, actions, rng):
        """State, observation, reward and end of each game after an action, `(rows,)` integers."""
        raise NotImplementedError

    def observation(self, state):
        """What is seen of a state, `(rows, *shape)` uint8."""
        raise NotImplementedError

    def lost(self, before, after):
        """Which games have lost a life between two states, `(rows,)` bool, but may go on."""
        return np.zeros(len(next(iter(after.values()))), bool)

    @property
    def corpus(self):
        return f"games by the rules of the task `{self.name}`"

    @property
    def input_spec(self):
        height, width, planes = self.shape
        return {FRAMES: ((height, width, planes * self.frames), "uint8")}

    def metrics(self):
        return {}

    @property
    def measured(self):
        return "mean_return", "best_return", "mean_steps"

    def batch(self, rng, size, difficulty=None, split="train"):
        """States of games that are played at random."""
        levels(self, difficulty)
        games, when = Games(self, size, rng), rng.integers(0, WALK, size)
        frames = games.frames.copy()
        for step in range(WALK):
            games.step(rng.integers(0, len(self.actions), size), rng)
            frames[when == step] = games.frames[when == step]
        return {FRAMES: frames}, {}

    def measure(self, model, split="test", rows=10_000, measures=None):
        """The mean and the best return of games, their mean length, and what the model tells.

        The latter of as many states of a player that plays at random.
        """
        measures = measures or nothing
        returns, steps = self.play(model, rows, self.epsilon, split)
        found = (returns.mean(), returns.max(), steps.mean())
        told = evaluate(model, self, split, rows, measures=measures) if measures(model) else {}
        return {**dict(zip(self.measured, map(float, found))), **told}

    def play(self, model, rows, epsilon, split="test"):
        """Returns and steps, `(rows,)` each, of games of a model, None where all is chance."""
        rng = np.random.default_rng([SPLITS[split], rows])
        most = min(rows, self.evaluation_batch)
        parts = [played(self, model, most, epsilon, rng) for _ in range(0, rows, most)]
        return [np.concatenate(part)[:rows] for part in zip(*parts)]

    def describe(self, inputs, targets, outputs):
        """`right: left 0.31, stay 0.52, right 0.64`."""
        return [
            f"{self.actions[row.argmax()]}: "
            + ", ".join(f"{name} {value:.2f}" for name, value in zip(self.actions, row))
            for row in outputs[VALUES]
        ]

    def report(self, model):
        """`players`: mean and best return without chance, and of chance alone."""
        found = {}
        for name, player in (("the model", model), ("chance", None)):
            returns, steps = self.play(player, self.evaluation_batch, 0.0 if player else 1.0)
            numbers = map(float, (returns.mean(), returns.max(), steps.mean()))
            found[name] = dict(zip(self.measured, numbers))
        return {"players": found}

    def figures(self, model):
        """Matplotlib figures by name: `game`."""
        from ..figures.games import drawn_game

        return {"game": drawn_game(self, *self.shown(model))}

    def shown(self, model):
        """The frames of a game and what the model expects at each; the longest of a few games."""
        rng = np.random.default_rng(SPLITS["test"])
        games = Games(self, SHOWN, rng)
        playing, frames, values = np.ones(SHOWN, bool), [], []
        while playing.any():
            last = playing
            frames.append(games.frames[..., -self.shape[-1] :])
            found = outputs_of(model, {FRAMES: games.frames})[VALUES]
            values.append(found.max(axis=-1))
            _, over, cut = games.step(found.argmax(axis=-1), rng)
            playing = playing & ~(over | cut)
        row = last.argmax()
        return np.stack(frames)[:, row], np.stack(values)[:, row]


class Games:
    """So many games of a world at once; where one has ended, another begins.

    Args:
        task: an `Acting` task.
        rows: how many there are.
        rng: `numpy.random.Generator`.

    Attributes:
        frames: what is seen of each, as the inputs of the task.
        steps: how many were taken in each, `(rows,)`.
        gained: the rewards of each so far, `(rows,)`.
        finished: the returns of those that the last step has ended.
    """

    def __init__(self, task, rows, rng):
        self.task, self.state = task, task.start(rng, rows)
        self.steps, self.gained = np.zeros(rows, "int64"), np.zeros(rows)
        self.last = np.zeros(rows, "int64")
        self.frames = self._begun(task.observation(self.state))
        self.finished = []

    def _begun(self, observation):
        return np.tile(observation, self.task.frames)

    def step(self, actions, rng):
        """Takes an action in each game.

        Args:
            actions: `(rows,)`, numbers of actions.
            rng: `numpy.random.Generator`.

        Returns:
            The rewards, which games are over, and which others were cut off, `(rows,)` each. The
            frames are those of the next games where one has ended.
        """
        task = self.task
        if task.sticky:
            forgotten = (rng.random(len(actions)) < task.sticky) & (self.steps > 0)
            actions = np.where(forgotten, self.last, actions)
        self.last = np.asarray(actions, "int64")
        self.state, observation, reward, over = task.step(self.state, self.last, rng)
        self.steps, self.gained = self.steps + 1, self.gained + reward
        cut = ~over & (self.steps >= task.most_steps)
        self.frames = np.concatenate(
            [self.frames[..., task.shape[-1] :], observation], axis=-1, dtype="uint8"
        )
        ended = np.flatnonzero(over | cut)
        self.finished = self.gained[ended]
        if len(ended):
            self._begin(ended, rng)
        return reward, over, cut

    def _begin(self, rows, rng):
        fresh = self.task.start(rng, len(rows))
        for name, array in fresh.items():
            self.state[name][rows] = array
        self.frames[rows] = self._begun(self.task.observation(fresh))
        self.steps[rows] = self.gained[rows] = 0

    @property
    def arrays(self):
        """All that it takes to go on from here, arrays by name."""
        own = {name: getattr(self, name) for name in ("frames", "steps", "gained", "last")}
        return own | {f"state/{name}": array for name, array in self.state.items()}

    @arrays.setter
    def arrays(self, arrays):
        for name in ("frames", "steps", "gained", "last"):
            setattr(self, name, arrays[name])
        self.state = {name: arrays[f"state/{name}"] for name in self.state}


def played(task, model, rows, epsilon, rng):
    """Returns and steps of games that a model plays to their ends, `(rows,)` each."""
    games, playing = Games(task, rows, rng), np.ones(rows, bool)
    returns, steps = np.zeros(rows), np.zeros(rows, "int64")
    nothing_known = np.zeros((rows, len(task.actions)))
    while playing.any():
        values = outputs_of(model, {FRAMES: games.frames})[VALUES] if model else nothing_known
        reward, over, cut = games.step(epsilon_greedy(values, epsilon, rng), rng)
        returns += playing * reward
        steps += playing
        playing &= ~(over | cut)
    return returns, steps


def epsilon_greedy(values, epsilon, rng):
    """The action of the largest value, `(rows,)`, or one at random with the chance `epsilon`.

    Args:
        values: `(rows, actions)`.
        epsilon: the chance.
        rng: `numpy.random.Generator`.
    """
    rows, actions = values.shape
    at_random = rng.random(rows) < epsilon
    return np.where(at_random, rng.integers(0, actions, rows), values.argmax(axis=-1))
