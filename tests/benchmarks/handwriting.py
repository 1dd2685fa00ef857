"""A training step of handwriting synthesis at the paper's size, on one thread.

3 layers of 400 cells, a window of 10 Gaussians over 50 characters of 57 symbols, 20 mixtures, 8
lines of 700 points. One process, interleaved rounds, medians of CPU milliseconds of the process.
Ratios are what counts: a time means nothing outside its own table.

    ours      `WindowLSTM`, `PeepholeLSTM` twice, `MixtureDensity`
    keras     the same net as users of Keras write it: a cell with the window for `keras.layers.RNN`
              and two `keras.layers.LSTM` above it; no peepholes, no bounds of derivatives
    window    ours without the layers above the first and without the density, `keras window`
              likewise
    ideal     the matrix products of ours alone, each timed alone in XLA
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--graph", action="store_true", help="TensorFlow's graphs instead of XLA")
PARSER.add_argument("--rounds", type=int, default=5)
PARSER.add_argument("--points", type=int, default=700)
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = FLAGS.backend
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import timing  # noqa: E402
from keras import ops  # noqa: E402
from ponderzoo.layers import (  # noqa: E402
    MixtureDensity,
    PeepholeLSTM,
    WindowLSTM,
    mixture_density_loss,
)

BATCH, UNITS, WINDOW, CHARACTERS, SYMBOLS, MIXTURES = 8, 400, 10, 50, 57, 20
PACE = 14.0

if FLAGS.backend == "tensorflow":
    import tensorflow as tf

    compiled = tf.function if FLAGS.graph else timing.compiled
else:
    compiled = timing.compiled


class WindowCell(keras.layers.Layer):
    """An LSTM cell with the paper's window, as one would write it; the text is set from outside."""

    def __init__(self):
        super().__init__()
        self.cell, self.window = keras.layers.LSTMCell(UNITS), keras.layers.Dense(3 * WINDOW)
        self.state_size = [UNITS, UNITS, SYMBOLS, WINDOW]
        self.output_size = UNITS + SYMBOLS

    def build(self, shape):
        self.cell.build((shape[0], shape[-1] + SYMBOLS))
        self.window.build((shape[0], UNITS))

    def call(self, point, states):
        h, c, seen, kappa = states
        _, (h, c) = self.cell(ops.concatenate([point, seen], axis=-1), [h, c])
        alpha, beta, delta = ops.split(ops.exp(self.window(h)), 3, axis=-1)
        kappa = kappa + delta / PACE
        off = kappa[..., None] - ops.arange(1, CHARACTERS + 1, dtype="float32")
        phi = ops.sum(alpha[..., None] * ops.exp(-beta[..., None] * off * off), axis=1)
        seen = ops.matmul(phi[:, None], self.text)[:, 0]
        return ops.concatenate([h, seen], axis=-1), [h, c, seen, kappa]


class Keras(keras.layers.Layer):
    """The network with Keras's own layers."""

    def __init__(self, deep):
        super().__init__()
        self.cell = WindowCell()
        self.first = keras.layers.RNN(self.cell, return_sequences=True)
        self.upper = [keras.layers.LSTM(UNITS, return_sequences=True) for _ in range(2 * deep)]
        self.density = keras.layers.Dense(6 * MIXTURES + 1) if deep else None

    def build(self, shape):
        self.first.build(shape)
        for layer in self.upper:
            layer.build((*shape[:-1], 3 + UNITS + SYMBOLS))
        if self.density:
            self.density.build((*shape[:-1], 3 * UNITS))

    def call(self, points, training=False):
        self.cell.text = TEXT
        found = self.first(points)
        below, seen = found[..., :UNITS], found[..., UNITS:]
        outputs = [below]
        for layer in self.upper:
            below = layer(ops.concatenate([points, below, seen], axis=-1))
            outputs.append(below)
        return self.density(ops.concatenate(outputs, axis=-1)) if self.density else found


class Ours(keras.layers.Layer):
    """The network with the layers of this package."""

    def __init__(self, deep):
        super().__init__()
        self.first = WindowLSTM(UNITS, WINDOW, PACE, clip_derivatives=10.0)
        self.upper = [PeepholeLSTM(UNITS, clip_derivatives=10.0) for _ in range(2 * deep)]
        self.density = MixtureDensity(MIXTURES) if deep else None

    def build(self, shape):
        self.first.build(shape, TEXT.shape)
        for layer in self.upper:
            layer.build((*shape[:-1], 3 + UNITS + SYMBOLS))
        if self.density:
            self.density.build((*shape[:-1], 3 * UNITS))

    def call(self, points, training=False):
        below, seen, _ = self.first(points, TEXT, training=training)
        outputs = [below]
        for layer in self.upper:
            below = layer(ops.concatenate([points, below, seen], axis=-1), training=training)
            outputs.append(below)
        joined = ops.concatenate(outputs, axis=-1)
        return self.density(joined) if self.density else ops.concatenate([below, seen], axis=-1)


def cost(layer, points, target):
    found = layer(points, training=True)
    if layer.density is None:
        return ops.mean(ops.square(found))
    return ops.sum(mixture_density_loss(target, found)) / BATCH


def step(layer, target):
    """A function of points that gives the gradient of all weights."""
    if FLAGS.backend == "tensorflow":

        def gradient(points):
            with tf.GradientTape() as tape:
                value = cost(layer, points, target)
            return tape.gradient(value, [v.value for v in layer.trainable_variables])

        return compiled(gradient)
    import jax

    def of_weights(weights, points):
        pairs = zip(layer.trainable_variables, weights)
        with keras.StatelessScope(state_mapping=[*pairs]):
            return cost(layer, points, target)

    gradient = jax.jit(jax.grad(of_weights))
    weights = [v.value for v in layer.trainable_variables]
    return lambda points: jax.block_until_ready(gradient(weights, points))


def ideal():
    """Compiled functions, each a kind of product, and how often a training step takes it."""
    rng, rows = np.random.default_rng(0), BATCH * FLAGS.points

    def draw(*shape):
        return ops.convert_to_tensor(rng.normal(size=shape).astype("float32") / 100)

    def whole(a, b):
        return a + 1e-3 * ops.mean(a @ b), b

    def recurrent(h, w):
        z = h @ w
        return h + 1e-3 * z[:, : h.shape[1]], w

    wide, entering = 4 * UNITS, 3 + UNITS + SYMBOLS
    shapes = {
        "state": (BATCH, UNITS, wide, 3 * FLAGS.points),
        "state, back": (BATCH, wide, UNITS, 3 * FLAGS.points),
        "input": (rows, entering, wide, 2),
        "input, back": (rows, wide, entering, 2),
        "input's weights": (entering, rows, wide, 2),
        "state's weights": (UNITS, rows, wide, 3),
        "density, thrice": (rows, 3 * UNITS, 6 * MIXTURES + 1, 3),
    }
    found = {}
    for name, (m, k, n, times) in shapes.items():
        is_small = name.startswith("state") and "weights" not in name
        function = recurrent if is_small and k <= n else whole
        repeats = 200 if is_small else 1
        found[name] = timing.repeated(function, repeats, draw(m, k), draw(k, n)), times / repeats
    return found


def main():
    global TEXT
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    TEXT = ops.convert_to_tensor(
        np.eye(SYMBOLS, dtype="float32")[rng.integers(0, SYMBOLS, (BATCH, CHARACTERS))]
    )
    target = rng.normal(size=(BATCH, FLAGS.points, 3)).astype("float32")
    target[..., 2] = target[..., 2] > 1.5
    points = ops.convert_to_tensor(np.pad(target, [(0, 0), (1, 0), (0, 0)])[:, :-1])
    layers = {"ours": Ours(1), "keras": Keras(1), "window": Ours(0), "keras window": Keras(0)}
    functions = {}
    for name, layer in layers.items():
        layer.build(points.shape)
        functions[name] = step(layer, ops.convert_to_tensor(target))
        functions[name](points)
    parts = ideal()
    times, floors = {name: [] for name in functions}, {name: [] for name in parts}
    for function, _ in parts.values():
        function()
    for _ in range(FLAGS.rounds):
        for name, (part, times_taken) in parts.items():
            floors[name].append(timing.milliseconds(part) * times_taken)
        for name, function in functions.items():
            times[name].append(timing.milliseconds(function, points))
    floors = {name: statistics.median(some) for name, some in floors.items()}
    medians = {name: statistics.median(some) for name, some in times.items()}
    mode = "graph" if FLAGS.graph else "XLA"
    print(f"## {FLAGS.backend}, {mode}, {BATCH} lines of {FLAGS.points} points, CPU ms\n")
    print("ideal: " + ", ".join(f"{k} {v:.0f}" for k, v in floors.items()) + "\n")
    print("| variant | training step | x ideal | x keras |")
    print("|---|---|---|---|")
    floor = sum(floors.values())
    print(f"| ideal | {floor:.0f} | 1 | |")
    for name, value in medians.items():
        beside = medians["keras window" if "window" in name else "keras"]
        ratio = "" if "window" in name else f"{value / floor:.2f}"
        print(f"| {name} | {value:.0f} | {ratio} | {value / beside:.2f} |")


if __name__ == "__main__":
    main()
