"""The Kanerva Machine: A Generative Distributed Memory (Wu et al., 2018)."""

import keras
import numpy as np
from keras import ops

from ..layers import GaussianSample, KanervaMemory, RolledNoise
from ..layers._base import whole
from ..layers._distributions import bernoulli
from ..trainers._files import read_arrays, write_arrays
from ..trainers.tasks.image_episodes import PARTS
from ._registry import Entry, Paper, register
from .signatures import image_episodes
from .signatures._checks import check_ink, check_range
from .signatures._signature import Signature

PAPER = Paper(
    mechanism="Kanerva Machine",
    title="The Kanerva Machine: A Generative Distributed Memory",
    authors="Yan Wu, Greg Wayne, Alex Graves, Timothy Lillicrap",
    year=2018,
    arxiv="1804.01756",
)
SIDE = 28
REFINED = 128  # units between what is read and its correction
MOST_READINGS = 8  # that a signature does
STATE = "memory_mean", "memory_covariance"


class _Machine:
    """The machine's layers, and what is made of them in models and in signatures alike.

    Images are `(batch, time, 28, 28)`, codes and addresses `(batch, time, size)`.
    """

    def __init__(self, layers):
        self.layers = layers

    def encoded(self, image):
        return self.layers["encoder"](image)

    def gaussian(self, name, hidden):
        """Means and logarithms of the deviations."""
        return ops.split(self.layers[name](hidden), 2, axis=-1)

    def draw(self, stream, *parameters):
        return self.layers[stream](*parameters)

    def sought(self, image, hidden, seed):
        """The sample of the addresses where images are looked for, its KL and its log-weight."""
        if "pixel_noise" in self.layers:
            hidden = self.encoded(self.layers["pixel_noise"](image, seed))
        return self.draw("read_address", *self.gaussian("address", hidden), seed)

    def stored(self, hidden):
        """Codes, and the addresses where they are written: means, without chance."""
        return self.layers["code"](hidden), self.gaussian("address", hidden)[0]

    def refined(self, hidden, read):
        """q(z | x, y, M): what is read, corrected by what is seen; at first it is nearly that."""
        seen = ops.relu(self.layers["seen"](hidden) + self.layers["of_read"](read))
        moved, log_deviation = self.gaussian("correction", seen)
        return read + moved, log_deviation

    def drawn(self, code):
        """Logits of the pixels."""
        return self.layers["decoder"](code)

    def cost(self, image, hidden, state, query, seed):
        """What images cost to a memory, in parts, and the pixels by the sample.

        `query` is the sample of the addresses, its KL and its log-weight, and `state` what
        `KanervaMemory` gives for it.
        """
        _, kl_addresses, address_weight = query
        read = state["read"]
        code, kl_codes, code_weight = self.draw(
            "read_code", *self.refined(hidden, read), seed, read
        )
        ink = self.drawn(code)
        reconstruction = -ops.sum(bernoulli(ink, image), axis=(2, 3))
        return {
            "reconstruction": reconstruction,
            "kl_codes": kl_codes,
            "kl_addresses": kl_addresses,
            "log_weight": code_weight + address_weight - reconstruction,
            "mean": ops.sigmoid(ink),
        }

    def recalled(self, hidden, memory):
        """The chances of pixels when images are read by the means of everything, without chance."""
        place, _ = self.gaussian("address", hidden)
        read = self.layers["memory"](None, None, place, memory=memory)
        return ops.sigmoid(self.drawn(self.refined(hidden, read["read"])[0])), read["weights"]

    def imagined(self, place, seed, memory):
        """The chances of pixels of images that a memory makes at addresses of chance.

        `place` are zeros as large as addresses.
        """
        place, _, _ = self.draw("fresh_address", place, place, seed)
        read = self.layers["memory"](None, None, place, seed, memory=memory)["read"]
        return ops.sigmoid(self.drawn(self.draw("fresh_code", read, 0 * read, seed)[0]))


def build(task, slots, code_size, address_size, units, kl_share, pixel_noise=0.0):
    """An autoencoder whose codes are read from a memory that its episode was written to.

    What is written, and where, are means. The paper draws both, which is a bound as well, but puts
    the noise of the addresses into the memory: 8 nats behind after 1,000 updates of small networks.
    Images look for their own addresses through noise; what is said of an image is then a mixture
    over that noise, and the bound holds.

    Args:
        task: `ImageEpisodes`.
        slots: K, rows of the memory; 0 for none, which leaves a variational autoencoder of the same
            networks.
        code_size: C, numbers of a code.
        address_size: S, numbers of an address.
        units: of both hidden layers of encoder and decoder.
        kl_share: of the memory's KL that is part of the loss, 0 in the paper.
        pixel_noise: standard deviation of the noise through which addresses are looked for; the
            paper's is 0.2.

    Returns:
        `keras.Model`: `image`, `seed` and, with a memory, `written` in; the outputs that the task
        asks for and, with a memory, `memory_mean` and `memory_covariance` out.
    """
    slots, code_size = whole("slots", slots, 0), whole("code_size", code_size, 1)
    address_size, units = whole("address_size", address_size, 1), whole("units", units, 1)
    image = keras.Input((None, SIDE, SIDE), name="image")
    written = keras.Input((None,), name="written")
    seed = keras.Input((), dtype="int32", name="seed")
    machine = _Machine(_layers(slots, code_size, address_size, units, kl_share, pixel_noise))
    hidden = machine.encoded(image)
    if not slots:
        return keras.Model({"image": image, "seed": seed}, _without(machine, image, hidden, seed))
    memory = machine.layers["memory"]
    query = machine.sought(image, hidden, seed)
    found = memory(*machine.stored(hidden), query[0], seed, written=written)
    state = found["mean"], found["covariance"]
    kl_memory = found["kl"] / ops.maximum(ops.sum(written, axis=1), 1)
    outputs = _outputs(machine.cost(image, hidden, found, query, seed), kl_memory)
    return keras.Model(
        {"image": image, "written": written, "seed": seed},
        {
            **outputs,
            "recalled": machine.recalled(hidden, state)[0],
            "sample": machine.imagined(ops.zeros_like(query[0]), seed, state),
            **dict(zip(STATE, state)),
        },
    )


def _without(machine, image, hidden, seed):
    """The outputs of a variational autoencoder."""
    mean, log_deviation = machine.gaussian("code", hidden)
    code, kl, log_weight = machine.draw("read_code", mean, log_deviation, seed)
    ink, nothing = machine.drawn(code), ops.zeros_like(mean)
    reconstruction = -ops.sum(bernoulli(ink, image), axis=(2, 3))
    cost = {
        "reconstruction": reconstruction,
        "kl_codes": kl,
        "kl_addresses": ops.zeros_like(kl),
        "log_weight": log_weight - reconstruction,
        "mean": ops.sigmoid(ink),
    }
    fresh, _, _ = machine.draw("fresh_code", nothing, nothing, seed)
    return {
        **_outputs(cost, ops.zeros_like(kl[:, 0])),
        "recalled": ops.sigmoid(machine.drawn(mean)),
        "sample": ops.sigmoid(machine.drawn(fresh)),
    }


def _outputs(cost, kl_memory):
    nats = sum(cost[name] for name in PARTS)
    nats = ops.mean(nats, axis=1)
    return {"nats": nats, **cost, "kl_memory": kl_memory, "joint_nats": nats + kl_memory}


def _layers(slots, code_size, address_size, units, kl_share, pixel_noise):
    """The layers by their names."""
    dense, single = keras.layers.Dense, {"dtype": "float32"}
    hidden = [[dense(units, "relu", name=f"{x}_{i}") for i in range(2)] for x in ("see", "draw")]
    flat = keras.layers.Reshape((-1, SIDE**2), name="pixels")
    square = keras.layers.Reshape((-1, SIDE, SIDE), name="drawn", **single)
    layers = [
        keras.Sequential([flat, *hidden[0]], name="encoder"),
        keras.Sequential(
            [*hidden[1], dense(SIDE**2, name="ink", **single), square], name="decoder"
        ),
        dense(code_size if slots else 2 * code_size, name="code", **single),
        GaussianSample(stream="read_code", name="read_code"),
        GaussianSample(stream="fresh_code", name="fresh_code"),
    ]
    if slots:
        little = keras.initializers.RandomNormal(stddev=0.01)
        streams = "read_address", "fresh_address"
        layers += [
            *(GaussianSample(stream=stream, name=stream) for stream in streams),
            dense(2 * address_size, name="address", **single),
            KanervaMemory(slots, code_size, kl_share=kl_share, name="memory"),
            dense(REFINED, name="seen"),
            dense(REFINED, use_bias=False, name="of_read"),
            dense(2 * code_size, kernel_initializer=little, name="correction", **single),
        ]
    if slots and pixel_noise:
        layers.append(RolledNoise(pixel_noise, stream="pixels", name="pixel_noise", **single))
    return {layer.name: layer for layer in layers}


# The memory of an episode.


def save_memory(path, mean, covariance):
    """Writes the memory of an episode as an npz file, of one row or of a batch."""
    write_arrays(path, dict(zip(STATE, (np.asarray(mean), np.asarray(covariance)))))


def load_memory(path):
    """The `(mean, covariance)` that `save_memory` wrote.

    Raises `OSError` where there is no such file, and `ValueError` where it is damaged, or holds
    something else.
    """
    found = read_arrays(path, "write the episode again")
    shapes = [found[name].shape if name in found else () for name in STATE]
    if len(shapes[0]) < 2 or shapes[1] != (*shapes[0][:-1], shapes[0][-2]):
        raise ValueError(
            f"{path} must hold {STATE[0]}, (..., slots, code_size), and {STATE[1]}, (..., slots, "
            f"slots); got { ({k: v.shape for k, v in found.items()}) }"
        )
    return tuple(found[name] for name in STATE)


class _Served:
    """What a machine serves of a memory, as functions of a graph.

    The memory comes in and goes out: whoever asks keeps it.
    """

    def __init__(self, machine):
        self.machine, self.memory = machine, machine.layers["memory"]

    def empty(self, rows):
        import tensorflow as tf

        return dict(zip(STATE, self.memory.empty(tf.shape(rows)[0])))

    def write(self, image, memory_mean, memory_covariance):
        import tensorflow as tf

        check_ink(image)
        state = _checked(memory_mean, memory_covariance)
        code, place = self.machine.stored(self.machine.encoded(image[:, None]))
        before = self.memory.weigh(place) @ state[0]
        found = self.memory(code, place, place, memory=state)
        return {
            **dict(zip(STATE, (found["mean"], found["covariance"]))),
            "kl": found["kl"],
            "surprise": tf.reduce_sum(tf.square(code - before), axis=(1, 2)),
            "trace": tf.linalg.trace(found["covariance"]),
        }

    def read(self, image, readings, seed, memory_mean, memory_covariance):
        check_ink(image)
        check_range("readings", readings, 1, MOST_READINGS)
        state, image = _checked(memory_mean, memory_covariance), image[:, None]
        hidden = self.machine.encoded(image)
        query = self.machine.sought(image, hidden, seed)
        found = self.memory(None, None, query[0], seed, memory=state)
        cost = self.machine.cost(image, hidden, found, query, seed)
        steps, weights = self._read_again(image[:, 0], state, readings)
        parts = {name: cost[name][:, 0] for name in PARTS}
        return {
            "mean": steps[:, -1],
            "steps": steps,
            "weights": weights,
            "nats": sum(parts.values()),
            **parts,
        }

    def sample(self, readings, seed, memory_mean, memory_covariance):
        import tensorflow as tf

        check_range("readings", readings, 0, MOST_READINGS)
        state = _checked(memory_mean, memory_covariance)
        nowhere = tf.zeros((tf.shape(seed)[0], 1, self.memory.addresses.shape[0]))
        first = self.machine.imagined(nowhere, seed, state)[:, 0]
        steps, _ = self._read_again(first, state, readings)
        begun = (readings > 0)[:, None, None, None]
        steps = tf.concat([first[:, None], tf.where(begun, steps, first[:, None])], axis=1)
        return {"mean": steps[:, -1], "steps": steps}

    def _read_again(self, image, state, readings):
        """What is left of images `(batch, 28, 28)` after each reading; the first one's weights."""
        import tensorflow as tf

        def read(image):
            ink = tf.cast(image > 0.5, tf.float32)[:, None]
            found, weights = self.machine.recalled(self.machine.encoded(ink), state)
            return found[:, 0], weights[:, 0]

        def again(number, last, steps):
            goes_on = (number < readings)[:, None, None]
            last = tf.where(goes_on, read(last)[0], last)
            return number + 1, last, steps.write(number, last)

        first, weights = read(image)
        # Room is made before a graph has refused a number that is too large.
        count = tf.clip_by_value(tf.reduce_max(readings), 1, MOST_READINGS)
        steps = tf.TensorArray(first.dtype, count, element_shape=first.shape).write(0, first)
        *_, steps = tf.while_loop(lambda number, *_: number < count, again, (1, first, steps))
        # Where there are no more readings nothing changes any more.
        places = tf.minimum(tf.range(MOST_READINGS), count - 1)
        return tf.transpose(tf.gather(steps.stack(), places), (1, 0, 2, 3)), weights


def _checked(mean, covariance):
    """The memory that was handed in, asserted in a graph to be one."""
    import tensorflow as tf

    turned = tf.linalg.matrix_transpose(covariance)
    near = tf.abs(covariance - turned) <= 1e-4 * tf.abs(covariance) + 1e-6
    least = tf.reduce_min(tf.linalg.diag_part(covariance))
    tf.debugging.Assert(
        tf.reduce_all(near) & (least > 0),
        [
            "memory_covariance must be symmetric and its diagonal above 0, as `empty` and "
            "`write` give it; its least variance is",
            least,
        ],
    )
    return mean, covariance


KEPT = {
    "memory_mean": "R, the mean of the memory, (batch, slots, code size)",
    "memory_covariance": "U, the covariance of its rows, (batch, slots, slots)",
}
WRITTEN = {
    **KEPT,
    "kl": "nats that tell the memory from an empty one, (batch,)",
    "surprise": "squared distance of the code from what was to be read in its place before, "
    "(batch,)",
    "trace": "of the covariance: the less, the more is known, (batch,)",
}
SEEN = {
    "mean": "the chance of each pixel to be 1 after the last reading, (batch, 28, 28)",
    "steps": "the same after each reading, those behind the last as the last, (batch, steps, "
    "28, 28)",
}
READ = {
    **SEEN,
    "weights": "of the slots at the first reading, (batch, slots)",
    **{name: image_episodes.COST[name] for name in ("nats", *PARTS)},
}


def signatures(model, task):
    """Those of the task and, with a memory: `empty`, `write`, `read` and `sample`."""
    served = image_episodes.signatures(model, task, {})
    if "written" not in model.input:
        return served
    mine = _Served(_Machine({layer.name: layer for layer in model.layers}))
    number, slots, size = ((None,), "int32"), mine.memory.slots, mine.memory.code_size
    image = {"image": ((None, SIDE, SIDE), "float32")}
    asked = {"readings": number, "seed": number}
    state = dict(zip(STATE, (((None, slots, size), "float32"), ((None, slots, slots), "float32"))))
    # A sample of each.
    one = {"image": task.inputs_without_data(np.random.default_rng(0), 2)["image"][:, 0]}
    numbers = {"readings": np.array([3, 1], "int32"), "seed": np.array([1, 2], "int32")}
    here = dict(zip(STATE, (np.asarray(x, "float32") for x in mine.memory.empty(2))))
    return {
        **served,
        "empty": Signature(mine.empty, {"rows": number}, {"rows": np.array([0, 0], "int32")}, KEPT),
        "write": Signature(
            mine.write, {**image, **state}, {**one, **here}, WRITTEN, images=("image",)
        ),
        "read": Signature(
            mine.read,
            {**image, **asked, **state},
            {**one, **numbers, **here},
            READ,
            images=("image", "mean", "steps"),
        ),
        "sample": Signature(
            mine.sample, {**asked, **state}, {**numbers, **here}, SEEN, images=("mean", "steps")
        ),
    }


SHARED = {
    "paper": PAPER,
    "task": "image_episodes",
    "build": build,
    "config": {
        "slots": 32,
        "code_size": 50,
        "address_size": 25,
        "units": 320,
        "kl_share": 0.003,
        "pixel_noise": 0.2,
    },
    "train": {
        "batch_size": 8,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "cosine",
        "decay_from": 0.5,
        "clipnorm": 10.0,
        "updates": 20_000,
        "steps_per_epoch": 500,
        "evaluation_rows": 1000,
    },
    "baseline": "VAE",
    "plain": {"slots": 0},
    "own_signatures": signatures,
    "own_notation": image_episodes.notation,
    "small": {"slots": 3, "code_size": 4, "address_size": 3, "units": 8},
    "small_task": {"episode_length": 3, "samples": 3, "episodes": 2},
}

register(
    Entry(
        **SHARED,
        name="kanerva_digits",
        paper_result="no digits in the paper",
    )
)

register(
    Entry(
        **SHARED,
        name="kanerva_glyphs",
        task_config={"data": "glyphs"},
        paper_result="on Omniglot clearly below the same machine without a memory (figures only)",
    )
)
