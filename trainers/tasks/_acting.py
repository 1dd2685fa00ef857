"""What tasks share in which a model acts: worlds of plain arrays, and many games of one at once."""

import dataclasses

import numpy as np

from .._difficulty import levels
from .._evaluate import count, evaluate, no_state, nothing, outputs_of, read
from .._task import SPLITS, Task

FRAMES, VALUES, VALUE, POLICY = "frames", "values", "value", "policy"
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

    Where a world is `in_graphs`, these take `ops` as well, numpy or `keras.ops`, are written in
    what both have, and ask `rng` for `integers` and `random` alone: so packages can play it.

    `Games` are played by them. A game may also be cut off: it is not over then, and what would have
    come counts for its value.

    Inputs: `frames`, `(batch, height, width, planes * frames)` uint8, the last frames of a game,
    the newest last; before the first one of a game come others that are the same. There are no
    targets. The model output `values` is what each action is worth, `(batch, actions)`; actions are
    those of the largest. `value`, `(batch,)`, is the largest itself. Or a model gives a `policy`,
    `(batch, actions)` logits, and `value` is what it expects. A model that keeps a state has it
    among its inputs and, for the next step, among its outputs, by the same names; games begin with
    zeros.

    A model is measured by whole games, `rows` of them, with `epsilon` of the actions at random; or,
    where it has a policy, with actions that are drawn from it, unless `epsilon` is 0.

    Attributes:
        frames: how many of the last frames are seen at once.
        epsilon: share of the actions that are chosen at random where a model is measured by its
            values.
        sticky: chance of each action to be forgotten, and the one before taken again.
        most_steps: after which a game is cut off.
        actions: what they are called, in their order.
        shape: height, width and planes of a frame.
        skip: frames of the world that a step takes.
        in_graphs: whether the world can be played in a graph.
    """

    frames: int = 1
    epsilon: float = 0.05
    sticky: float = 0.0
    most_steps: int = 1000
    actions = ()
    skip = 1
    in_graphs = True
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

    def start(self, rng, rows, ops=np):
        """The state of so many games that begin."""
        raise NotImplementedError

    def step(self, state, actions, rng, ops=np):
        """State, observation, reward and end of each game after an action, `(rows,)` integers."""
        raise NotImplementedError

    def observation(self, state, ops=np):
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

        The latter of as many states of a player that plays at random; or, where the model keeps a
        state, of its own games.
        """
        told, keeps = (measures or nothing)(model), bool(no_state(model, 1))
        games = self.play(model, rows, self.epsilon, split, _counting(told if keeps else {}))
        if told and not keeps:
            return {**self.summary(*games), **evaluate(model, self, split, rows, measures=measures)}
        return {**self.summary(*games), **read(told)}

    def summary(self, returns, steps, over):
        """The numbers of games, as `measured` names them, of `(rows,)` each."""
        return {
            "mean_return": float(returns.mean()),
            "best_return": float(returns.max()),
            "mean_steps": float(steps.mean()),
        }

    def play(self, model, rows, epsilon, split="test", watch=None):
        """Games of a model, None where all is chance, as `played` has them, `(rows,)` each."""
        rng = np.random.default_rng([SPLITS[split], rows])
        most = min(rows, self.evaluation_batch)
        parts = [played(self, model, most, epsilon, rng, watch) for _ in range(0, rows, most)]
        return [np.concatenate(part)[:rows] for part in zip(*parts)]

    def describe(self, inputs, targets, outputs):
        """`right: left 0.31, stay 0.52, right 0.64`."""
        return [
            f"{self.actions[row.argmax()]}: "
            + ", ".join(f"{name} {value:.2f}" for name, value in zip(self.actions, row))
            for row in outputs[VALUES if VALUES in outputs else POLICY]
        ]

    def report(self, model):
        """`players`: mean and best return without chance, and of chance alone."""
        found = {}
        for name, player in (("the model", model), ("chance", None)):
            games = self.play(player, self.evaluation_batch, 0.0 if player else 1.0)
            found[name] = self.summary(*games)
        return {"players": found}

    def figures(self, model):
        """Matplotlib figures by name: `game`."""
        from ..figures.games import drawn_game

        return {"game": drawn_game(self, *self.shown(model))}

    def shown(self, model):
        """The frames of a game and what the model expects at each; the longest of a few games."""
        rng = np.random.default_rng(SPLITS["test"])
        games, player = Games(self, SHOWN, rng), Player(model, SHOWN)
        playing, frames, values = np.ones(SHOWN, bool), [], []
        while playing.any():
            last = playing
            frames.append(games.frames[..., -self.shape[-1] :])
            action, found = player.act(games.frames, 0.0, rng)
            values.append(found[VALUE])
            _, over, cut = games.step(action, rng)
            player.begin(over | cut)
            playing = playing & ~(over | cut)
        row = last.argmax()
        return np.stack(frames)[:, row], np.stack(values)[:, row]


def at(field, row, column):
    """Where the places `(rows,)` are in fields, `(rows, height, width)` bool; nowhere outside."""
    height, width = (np.arange(size) for size in field[:2])
    return (row[:, None, None] == height[:, None]) & (column[:, None, None] == width)


def painted(planes, ops):
    """Planes of a frame, `(rows, height, width)` bool each, as `Acting.observation` has them."""
    return ops.where(ops.stack(planes, axis=-1), np.uint8(255), np.uint8(0))


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


def _counting(metrics):
    """A `watch` of `played` that updates metrics, lists by the name of an output; None for none."""
    if not metrics:
        return None

    def watch(games, found, playing):
        count(metrics, {}, {name: found[name][playing] for name in metrics})

    return watch


def played(task, model, rows, epsilon, rng, watch=None):
    """Games that a model plays to their ends.

    Args:
        task, rows, rng: as of `Games`.
        model: None for one that knows nothing.
        epsilon: as the task has it.
        watch: `watch(games, outputs, playing)` is called before each step with what the model puts
            out and which games, `(rows,)` bool, have not ended yet.

    Returns:
        `(rows,)` each: their returns, their steps, and which were over and not cut off.
    """
    games, playing = Games(task, rows, rng), np.ones(rows, bool)
    returns, steps, ended = np.zeros(rows), np.zeros(rows, "int64"), np.zeros(rows, bool)
    nothing_known = np.zeros((rows, len(task.actions)))
    player = Player(model, rows) if model else None
    while playing.any():
        if player:
            action, found = player.act(games.frames, epsilon, rng)
            if watch:
                watch(games, found, playing)
        else:
            action = epsilon_greedy(nothing_known, epsilon, rng)
        reward, over, cut = games.step(action, rng)
        if player:
            player.begin(over | cut)
        returns += playing * reward
        steps += playing
        ended |= playing & over
        playing &= ~(over | cut)
    return returns, steps, ended


class Player:
    """A model that plays so many games at once, and the state that it keeps of each.

    Attributes:
        state: what goes into the next step, arrays by name, `(rows, ...)`.
    """

    def __init__(self, model, rows):
        self.model, self.state = model, no_state(model, rows)

    def look(self, frames, seed):
        """What the model puts out for frames, with seeds `(rows,)`; its state goes on."""
        found = outputs_of(self.model, {FRAMES: frames, "seed": seed, **self.state})
        self.state = {name: np.array(found[name]) for name in self.state}
        return found

    def act(self, frames, epsilon, rng):
        """Actions, `(rows,)`, as the task has them chosen, and all that the model puts out."""
        found = self.look(frames, rng.integers(0, 2**31, len(frames), "int32"))
        if POLICY not in found:
            return epsilon_greedy(found[VALUES], epsilon, rng), found
        return drawn(found[POLICY], rng) if epsilon else found[POLICY].argmax(axis=-1), found

    def begin(self, ended):
        """Forgets the games that have ended, `(rows,)` bool."""
        for array in self.state.values():
            array[ended] = 0


def drawn(logits, rng):
    """An action for each row, `(rows,)`, by the logits of a policy."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)


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
