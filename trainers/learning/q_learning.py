"""Q-learning from remembered steps: deep Q-networks (Mnih et al., 2013, Algorithm 1)."""

import dataclasses
import math

import keras
from keras import ops

from ...layers import q_loss, q_target
from .. import _recipe
from .._evaluate import outputs_of
from .._playing import Stream, learn
from .._replay import Replay
from .._weights import begun
from ..tasks._acting import FRAMES, VALUES, Acting, Games, epsilon_greedy

STARTING, PLAYING, DRAWING = range(3)  # what chance is for


@dataclasses.dataclass(frozen=True)
class Recipe(_recipe.Recipe):
    """How an agent learns from what it remembers; as it stands, as in the paper of 2013.

    A step is one action of one actor; it takes as many frames of the world as the task's `skip`
    says. What the paper does not say (discount, and when learning begins) is as in public
    reconstructions of it.

    Attributes:
        discount: gamma, of rewards to come.
        replay_capacity: steps that are remembered, the last ones.
        replay_start: steps before the first update.
        actors: games that are played at once, in turns with updates.
        steps_per_update: of all actors together; 4 in the paper of 2015.
        epsilon_first, epsilon_last, epsilon_frames: the share of actions at random goes along a
            line from the first to the last over so many frames of the world, and stays there.
        clip_rewards: whether to learn of a reward no more than its sign. Measured are the rewards.
        clip_errors: whether errors beyond 1 have the gradient of an error of 1 (2015).
        lives: whether nothing is to come for the value of an action after which a life was lost,
            though the game goes on (2015).
        target_every: updates after which the network that targets come from is made the same as
            the one that learns (2015); 0 for the one that learns itself.
        double: whether the network that learns chooses the action by which the other one's values
            are taken (van Hasselt, Guez and Silver, 2016).
        validation_rows: games that are played with the task's `epsilon` after every epoch, with
            what the model tells of as many states that a player at random was in; 0 for none.
    """

    limits = {
        **_recipe.Recipe.limits,
        **dict.fromkeys(
            ("replay_capacity", "actors", "steps_per_update", "epsilon_frames"), _recipe.COUNT
        ),
        **dict.fromkeys(("replay_start", "target_every", "validation_rows"), _recipe.NOT_NEGATIVE),
        **dict.fromkeys(("discount", "epsilon_first", "epsilon_last"), _recipe.SHARE),
    }

    discount: float = 0.95
    replay_capacity: int = 1_000_000
    replay_start: int = 100
    actors: int = 1
    steps_per_update: int = 1
    epsilon_first: float = 1.0
    epsilon_last: float = 0.1
    epsilon_frames: int = 1_000_000
    clip_rewards: bool = True
    clip_errors: bool = False
    lives: bool = False
    target_every: int = 0
    double: bool = False
    validation_rows: int = 100

    def check(self, task):
        if not isinstance(task, Acting):
            raise ValueError(f"nothing acts in the task {task.name}: it has no q_learning")
        if task.most_steps < 2:
            raise ValueError("games must go on for 2 steps or more to be learnt from: most_steps")
        least = (task.frames + 2) * self.actors
        if self.replay_capacity < least:
            raise ValueError(
                f"replay_capacity must be {least} or more with {task.frames} frames at once and "
                f"{self.actors} actors, got {self.replay_capacity}"
            )
        if self.double and not self.target_every:
            raise ValueError("double needs a network of its own for targets: target_every")

    def epsilon(self, frame):
        """The share of actions at random at a frame of the world."""
        share = min(frame / self.epsilon_frames, 1.0)
        return self.epsilon_first + share * (self.epsilon_last - self.epsilon_first)


class Learner(keras.Model):
    """The network that learns, and where there is one the network that targets come from."""

    def __init__(self, model, recipe):
        super().__init__()
        self.model, self.recipe, self.target = model, recipe, model
        if recipe.target_every:
            self.target = keras.models.clone_model(model)
            self.target.trainable = False
            self.follow()

    def follow(self):
        """Makes the network of targets the same as the one that learns."""
        self.target.set_weights(self.model.get_weights())

    def call(self, steps, training=False):
        """The loss of each remembered step, `(batch,)`."""
        recipe, next_frames = self.recipe, {FRAMES: steps["next_frames"]}
        values = self.model({FRAMES: steps["frames"]}, training=training)[VALUES]
        next_values = self.target(next_frames)[VALUES]
        chosen_by = self.model(next_frames)[VALUES] if recipe.double else None
        reward = ops.sign(steps["reward"]) if recipe.clip_rewards else steps["reward"]
        target = q_target(reward, steps["over"], next_values, recipe.discount, chosen_by)
        return q_loss(values, steps["action"], target, recipe.clip_errors)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(y_pred)


class Remembered(Stream):
    """Remembered steps, with as many played before as are due."""

    def __init__(self, model, task, recipe, run):
        super().__init__(model, task, recipe, run)
        self.games, self.replay = Games(task, recipe.actors, self.chance(STARTING)), None

    def begin(self, arrays):
        task, recipe = self.task, self.recipe
        self.games.arrays = arrays or self.games.arrays
        self.replay = Replay(
            self.run.place("backup", "replay"),
            task.shape,
            recipe.actors,
            min(recipe.replay_capacity, self._due(recipe.updates) * recipe.actors),
            math.ceil(recipe.steps * recipe.steps_per_update / recipe.actors) + 1,
            task.frames,
            self.run.record.get("head", 0),
        )

    def save(self, variables):
        self.replay.flush()
        self.run.record["head"] = self.replay.head
        self.run.save(variables, self.games.arrays)

    def __getitem__(self, index):
        update = self.update(index)
        while self.replay.head < self._due(update):
            self._play()
        return self.replay.sample(self.chance(DRAWING, update), self.recipe.batch_size)

    def _due(self, update):
        """Steps of each actor that are played before an update."""
        steps = self.recipe.replay_start + (update + 1) * self.recipe.steps_per_update
        return max(self.task.frames + 2, math.ceil(steps / self.recipe.actors))

    @property
    def epsilon(self):
        """The share of actions at random."""
        return self.recipe.epsilon(self.replay.head * self.recipe.actors * self.task.skip)

    def logs(self):
        return {"epsilon": self.epsilon}

    def _play(self):
        games, chance = self.games, self.chance(PLAYING, self.replay.head)
        values = outputs_of(self.model, {FRAMES: games.frames})[VALUES]
        action = epsilon_greedy(values, self.epsilon, chance)
        frame, age, before = games.frames[..., -self.task.shape[-1] :], games.steps, games.state
        reward, over, cut = games.step(action, chance)
        if self.recipe.lives:
            over = over | (self.task.lost(before, games.state) & ~cut)
        self.replay.add(frame, action, reward, over, cut, age)
        self.returns += games.finished.tolist()


def train(build, task, recipe, run):
    """`fit` of a run that is not finished yet, which this process holds."""
    model = begun(build, task, recipe, run)
    learner, steps = Learner(model, recipe), Remembered(model, task, recipe, run)

    def after(update):
        if recipe.target_every and (update + 1) % recipe.target_every == 0:
            learner.follow()

    learn(learner, steps, model, task, recipe, run, after)
    metrics = run.finish(model, task, recipe)
    steps.replay.remove()
    return metrics
