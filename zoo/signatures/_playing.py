"""Games that a package plays by itself: seeds in, games out."""

import numpy as np

from ...layers import _chance
from ...trainers.figures.games import coloured
from ._checks import check_range, greatest
from ._drawing import image_of
from ._notation import Notation, whole_numbers
from ._signature import Signature

PACE = 120  # milliseconds of a step
LEVELS = 256  # of a frame's colours
SHOWN = 40, 20  # steps of the games of a sample request
PLAYED = {
    "frames": "what is seen at first and after each step, in colours; behind the end of a game its "
    "last, (batch, steps + 1, height, width, 3)",
    "actions": "the actions taken, -1 behind the end, (batch, steps)",
    "values": "the rewards that were expected before each step, (batch, steps)",
    "rewards": "what each step earned, (batch, steps)",
    "length": "steps of the game, (batch,)",
    "over": "whether it was over then, and not only cut off, (batch,)",
}


class Chance:
    """Numbers of seeds `(rows,)` under the names that `numpy.random.Generator` has for them."""

    def __init__(self, seed):
        self.seed, self.asked = seed, 0

    def random(self, shape):
        """Numbers of `shape` from 0 to 1, whose first axis is that of the seeds."""
        self.asked += 1
        shape = shape[1:] if isinstance(shape, tuple) else ()
        return _chance.uniform(_chance.fold(self.seed, self.asked), shape, dtype="float32")

    def integers(self, low, high, shape):
        """Whole numbers of `shape` from `low` on, below `high`, int64."""
        return low + _chance.below(self.random(shape), high - low, "int64")


def played(task, act, kept):
    """The `Signature` of whole games of an `Acting` task whose world can be played in a graph.

    Args:
        act: gives the answer of the signature `act` for `frames`, `epsilon`, `seed` and a state.
        kept: name -> shape of what the model keeps from step to step, without the batch.
    """
    import tensorflow as tf
    from keras import ops

    planes = task.shape[-1]

    def play(steps, epsilon, seed):
        check_range("steps", steps, 1, task.most_steps)
        rows, most = tf.shape(seed)[0], greatest(steps, 1, task.most_steps)
        world = task.start(Chance(seed), rows, ops)
        first = task.observation(world, ops)

        def step(number, playing, last, world, seen, state, told):
            chance = _chance.fold(seed, number)
            found = act(seen, epsilon, tf.bitcast(chance[:, 0], tf.int32), **state)
            action = tf.cast(found["action"], tf.int64)
            if task.sticky:
                forgotten = _chance.uniform(chance, (), dtype="float32") < task.sticky
                action = tf.where(forgotten & (number > 0), last, action)
            world, frame, reward, over = task.step(world, action, None, ops)
            after = tf.concat([seen[..., planes:], frame], axis=-1)
            seen = tf.where(playing[:, None, None, None], after, seen)
            now = {
                "frames": seen[..., -planes:],
                "actions": tf.where(playing, tf.cast(action, tf.int32), -1),
                "values": tf.where(playing, found["value"], 0.0),
                "rewards": tf.where(playing, tf.cast(reward, tf.float32), 0.0),
                "over": playing & over,
            }
            told = {name: array.write(number, now[name]) for name, array in told.items()}
            playing = playing & ~over & (number + 1 < steps)
            state = {name: found[name] for name in state}
            return number + 1, playing, action, world, seen, state, told

        dtypes = {"frames": "uint8", "actions": "int32", "over": "bool"}
        told = {
            name: tf.TensorArray(dtypes.get(name, "float32"), most)
            for name in (*dtypes, "values", "rewards")
        }
        begun = (
            0,
            tf.ones((rows,), tf.bool),
            tf.zeros((rows,), tf.int64),
            world,
            tf.tile(first, [1, 1, 1, task.frames]),
            {name: tf.zeros((rows, *shape)) for name, shape in kept.items()},
            told,
        )
        *_, told = tf.while_loop(lambda number, *_: number < most, step, begun)
        told = {name: array.stack() for name, array in told.items()}
        frames = tf.concat([first[None], told.pop("frames")], axis=0)
        told = {name: tf.transpose(array) for name, array in told.items()}
        picture = 255 * coloured(tf.transpose(frames, [1, 0, 2, 3, 4]))
        return {
            **told,
            "frames": tf.cast(tf.round(picture), tf.uint8),
            "length": tf.reduce_sum(tf.cast(told["actions"] >= 0, tf.int32), axis=1),
            "over": tf.reduce_any(told["over"], axis=1),
        }

    numbers = {"steps": "int32", "epsilon": "float32", "seed": "int32"}
    sample = {
        "steps": np.array(SHOWN, "int32").clip(max=task.most_steps),
        "epsilon": np.array([0, 0.5], "float32"),
        "seed": np.array([1, 2], "int32"),
    }
    asked = {name: ((None,), dtype) for name, dtype in numbers.items()}
    # In a graph also where nobody else makes one: step by step the model is slow.
    play = tf.function(play, autograph=False)
    return Signature(play, asked, sample, PLAYED, images=("frames",), levels=LEVELS)


def notation(task):
    """For `play` a whole number, the seed of a game; nobody writes frames."""

    def read(texts):
        seed = whole_numbers(texts, "a whole number, the seed of a game")
        return {
            "steps": np.full(len(seed), task.most_steps, "int32"),
            "epsilon": np.zeros(len(seed), "float32"),
            "seed": seed,
        }

    def show(inputs, outputs):
        lines = []
        for row, length in enumerate(outputs["length"]):
            how = "over" if outputs["over"][row] else "cut off"
            actions = (task.actions[action] for action in outputs["actions"][row, :length])
            earned = float(outputs["rewards"][row].sum())
            lines.append(f"return {earned:g}, {how} after {length} steps: {' '.join(actions)}")
        return lines

    def picture(inputs, outputs):
        rows = zip(inputs["seed"], outputs["frames"] / (LEVELS - 1), outputs["length"])
        return [
            image_of(frames[length], f"seed {seed}", frames[: length + 1], pace=PACE)
            for seed, frames, length in rows
        ]

    readable = Notation(("7", "8"), read, show, picture, in_pictures=True)
    return {"play": readable} if task.in_graphs else {}
