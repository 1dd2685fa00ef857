"""Actor and critic at once: many games are played for a few steps, which are then learnt.

This is "A3C" (Mnih et al., 2016) with its actors in step, as STRAW learns (Vezhnevets et al., 2016,
section 3.4).
"""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from ...layers import RematRNN, actor_critic_loss, returns
from .. import _recipe
from .._evaluate import no_state
from .._playing import Stream, learn
from .._weights import begun
from ..tasks._acting import FRAMES, POLICY, VALUE, Acting, Games, Player, drawn

STARTING, PLAYING = range(2)  # what chance is for
COST, LOG_CHANCE = "cost", "log_chance"
MOST_SEED = 2**24  # a seed goes through the loop as a float32


@dataclasses.dataclass(frozen=True)
class Recipe(_recipe.Recipe):
    """How an agent learns from the games that it plays.

    `batch_size` games are played at once, `unroll` steps of each by update. Their gradient goes
    through all of these steps, and ends where they begin. A game that is cut off counts as over.

    Attributes:
        unroll: steps of each game by update, 40 in the paper.
        discount: gamma, of rewards to come.
        entropy_weight: of the policy's entropy in nats, which is to be large.
        value_weight: of the squared errors of the critic.
        most_advantage: where advantages are cut on both sides; 0 for nowhere.
        validation_rows: games that are played after every epoch, with what the model tells of as
            many states that a player at random was in; 0 for none.
    """

    limits = {
        **_recipe.Recipe.limits,
        "unroll": _recipe.COUNT,
        "discount": _recipe.SHARE,
        **dict.fromkeys(
            ("entropy_weight", "value_weight", "most_advantage", "validation_rows"),
            _recipe.NOT_NEGATIVE,
        ),
    }

    unroll: int = 20
    discount: float = 0.99
    entropy_weight: float = 1e-2
    value_weight: float = 0.5
    most_advantage: float = 1.0
    validation_rows: int = 100

    def check(self, task):
        if not isinstance(task, Acting):
            raise ValueError(f"nothing acts in the task {task.name}: it has no actor_critic")


class Learner(keras.Model):
    """A model that takes steps, and what a stretch of them costs.

    What the model itself adds to the loss of a step is its output `cost`, `(batch,)`, if it has
    one, and the log-probability of what it chose beside the action its output `log_chance`. Where
    it keeps a state, a stretch begins with that of its first step; elsewhere it sees all steps at
    once.
    """

    def __init__(self, model, recipe):
        super().__init__()
        self.model, self.recipe = model, recipe
        self.cell = _Step(model)
        kept = bool(self.cell.state_size)
        self.loop = RematRNN(self.cell, None, return_sequences=True) if kept else None

    def call(self, stretch, training=False):
        """The loss of each game, `(batch,)`: the sum over its steps.

        Args:
            stretch: dict of `(batch, unroll + 1, ...)`: `frames`, `seed`, and `begins`, whether a
                game begins there; of `(batch, unroll)`: `action`, `reward`, `over`; and of
                `(batch, ...)`, the state before the first step by its names.
        """
        recipe = self.recipe
        rows = self.cell.row_of(stretch)
        if self.loop:
            state = [_flat(stretch[name], 1) for name in self.cell.kept]
            found = self.loop(rows, initial_state=state, training=training)
        else:
            rows = ops.reshape(rows, (-1, rows.shape[-1]))
            found, _ = self.cell(rows, [], training=training)
            found = ops.reshape(found, (-1, recipe.unroll + 1, found.shape[-1]))
        logits, value, cost, log_chance = self.cell.told(ops.swapaxes(found, 0, 1))
        action, reward, over = (
            ops.swapaxes(stretch[name], 0, 1) for name in ("action", "reward", "over")
        )
        target = returns(reward, over, value[-1], recipe.discount)
        loss = actor_critic_loss(
            logits[:-1],
            value[:-1],
            action,
            target,
            recipe.entropy_weight,
            recipe.value_weight,
            recipe.most_advantage or None,
            log_chance[:-1],
        )
        return ops.sum(loss + cost[:-1], axis=0)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(y_pred)


class _Step(keras.layers.Layer):
    """A step of a model as a cell of an RNN has it: a vector in, a vector and vectors of state out.

    Where a game begins, the state is forgotten before.
    """

    def __init__(self, model):
        super().__init__(name="step")
        self.model = model
        self.kept = list(no_state(model, 1))
        self.shapes = [tuple(model.input[name].shape[1:]) for name in self.kept]
        self.state_size = [math.prod(shape) for shape in self.shapes]
        self.actions = model.output[POLICY].shape[-1]
        self.output_size = self.actions + 3

    def row_of(self, stretch):
        """What a step gets, `(batch, time, size)`."""
        numbers = [ops.cast(stretch[name], "float32")[..., None] for name in ("seed", "begins")]
        return ops.concatenate([ops.cast(_flat(stretch[FRAMES], 2), "float32"), *numbers], axis=-1)

    def told(self, found):
        """Logits, values, costs and log-probabilities of what the steps put out."""
        return found[..., : self.actions], *(found[..., i] for i in (-3, -2, -1))

    def call(self, row, state, training=False):
        goes_on = 1 - row[:, -1:]
        given = {
            name: ops.reshape(x * goes_on, (-1, *shape))
            for name, x, shape in zip(self.kept, state, self.shapes)
        }
        frames = ops.reshape(row[:, :-2], (-1, *self.model.input[FRAMES].shape[1:]))
        given[FRAMES] = ops.cast(frames, self.model.input[FRAMES].dtype)
        if "seed" in self.model.input:
            given["seed"] = ops.cast(row[:, -2], "int32")
        found = self.model(given, training=training)
        nothing = ops.zeros_like(found[VALUE])
        numbers = found[VALUE], found.get(COST, nothing), found.get(LOG_CHANCE, nothing)
        answer = [found[POLICY], *(x[:, None] for x in numbers)]
        after = [_flat(ops.cast(found[name], row.dtype), 1) for name in self.kept]
        return ops.concatenate([ops.cast(x, row.dtype) for x in answer], axis=-1), after


def _flat(x, axes):
    """The axes behind the first ones, so many, as one."""
    return ops.reshape(x, (-1, *x.shape[1:axes], math.prod(x.shape[axes:])))


class Stretches(Stream):
    """The steps that the games have just taken."""

    def __init__(self, model, task, recipe, run):
        super().__init__(model, task, recipe, run)
        rows = recipe.batch_size
        self.games, self.player = Games(task, rows, self.chance(STARTING)), Player(model, rows)
        self.begins = np.ones(rows, "float32")

    def __getitem__(self, index):
        rng = self.chance(PLAYING, self.update(index))
        player, steps = self.player, []
        before = {name: x.copy() for name, x in player.state.items()}
        for _ in range(self.recipe.unroll):
            seen = self._seen(rng)
            found = player.look(seen[FRAMES], seen["seed"])
            action = drawn(found[POLICY], rng)
            reward, over, cut = self.games.step(action, rng)
            self.returns += self.games.finished.tolist()
            ended = over | cut
            player.begin(ended)
            self.begins = ended.astype("float32")
            told = {"action": action, "reward": reward.astype("float32"), "over": ended}
            steps.append({**seen, **told})
        behind = self._seen(rng)
        found = {name: np.stack([step[name] for step in steps], axis=1) for name in steps[0]}
        for name, x in behind.items():
            found[name] = np.concatenate([found[name], x[:, None]], axis=1)
        return {**found, **before}

    def _seen(self, rng):
        seed = rng.integers(0, MOST_SEED, len(self.begins), "int32")
        return {FRAMES: self.games.frames.copy(), "seed": seed, "begins": self.begins}

    def begin(self, arrays):
        if arrays:
            self.games.arrays, self.begins = arrays, arrays["begins"]
            self.player.state = {name: arrays[f"player/{name}"] for name in self.player.state}

    def save(self, variables):
        state = {f"player/{name}": x for name, x in self.player.state.items()}
        self.run.save(variables, {**self.games.arrays, **state, "begins": self.begins})


def train(build, task, recipe, run):
    """`fit` of a run that is not finished yet, which this process holds."""
    model = begun(build, task, recipe, run)
    stream = Stretches(model, task, recipe, run)
    learn(Learner(model, recipe), stream, model, task, recipe, run)
    return run.finish(model, task, recipe)
