"""A training step of DRAW on one thread: T = 10, LSTM 256, 28 x 28 pixels, batch 100.

One process, interleaved rounds, medians of CPU milliseconds of the process. Ratios are what counts:
a time means nothing outside its own table.

    ours        `layers.DRAW`
    unrolled    the same model as users of Keras write it: a Python loop over the steps, LSTM cells,
                dense layers and einsum
    ideal       the products with weights of ours alone, each timed alone in XLA
    whole       both of them without attention
"""

import argparse
import os
import statistics
import time

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--graph", action="store_true", help="TensorFlow's graphs instead of XLA")
PARSER.add_argument("--rounds", type=int, default=7)
PARSER.add_argument("--steps", type=int, default=10)
PARSER.add_argument("--read", type=int, default=5)
PARSER.add_argument("--write", type=int, default=5)
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
from ponderzoo.layers import DRAW  # noqa: E402

BATCH, UNITS, LATENTS, SIDE = 100, 256, 100, 28

if FLAGS.backend == "tensorflow":
    import tensorflow as tf

    compiled = tf.function if FLAGS.graph else timing.compiled
else:
    compiled = timing.compiled


class Unrolled(keras.layers.Layer):
    """DRAW as one writes it down with Keras's own parts."""

    def __init__(self, read, write):
        super().__init__()
        self.read, self.write = read, write
        self.encoder, self.decoder = keras.layers.LSTMCell(UNITS), keras.layers.LSTMCell(UNITS)
        self.infer = keras.layers.Dense(2 * LATENTS)
        self.where = keras.layers.Dense(5)
        self.paint = keras.layers.Dense(write**2 + 5 if write else SIDE**2)

    def build(self, image_shape, seed_shape=None):
        seen = 2 * (self.read**2 if self.read else SIDE**2)
        self.encoder.build((None, seen + UNITS))
        self.decoder.build((None, LATENTS))
        for layer in (self.infer, self.where, self.paint):
            layer.build((None, UNITS))

    def filters(self, raw, size):
        x, y, log_variance, log_stride, log_gamma = ops.split(raw, 5, axis=-1)
        stride = (SIDE - 1) / (size - 1) * ops.exp(log_stride)
        offset = ops.arange(size, dtype="float32") - (size - 1) / 2
        found = []
        for centre in (y, x):
            means = (SIDE + 1) / 2 * (centre + 1) + offset * stride
            far = ops.arange(1, SIDE + 1, dtype="float32") - means[..., None]
            bank = ops.exp(-ops.square(far) / (2 * ops.exp(log_variance)[..., None]))
            found.append(bank / (ops.sum(bank, axis=-1, keepdims=True) + 1e-8))
        return *found, ops.exp(log_gamma)

    def call(self, image, noise, training=False):
        canvas = ops.zeros_like(image)
        encoder, decoder = ([ops.zeros((BATCH, UNITS))] * 2 for _ in range(2))
        nats = 0.0
        for t in range(FLAGS.steps):
            missing = image - ops.sigmoid(canvas)
            if self.read:
                of_y, of_x, gamma = self.filters(self.where(decoder[0]), self.read)
                seen = ops.concatenate(
                    [
                        gamma
                        * ops.reshape(ops.einsum("bnh,bhw,bmw->bnm", of_y, x, of_x), (BATCH, -1))
                        for x in (image, missing)
                    ],
                    axis=-1,
                )
            else:
                seen = ops.reshape(ops.concatenate([image, missing], axis=-1), (BATCH, -1))
            _, encoder = self.encoder(ops.concatenate([seen, decoder[0]], axis=-1), encoder)
            mean, log_sigma = ops.split(self.infer(encoder[0]), 2, axis=-1)
            latents = mean + ops.exp(log_sigma) * noise[:, t]
            nats = nats + ops.sum(divergence(mean, log_sigma), axis=-1)
            _, decoder = self.decoder(latents, decoder)
            written = self.paint(decoder[0])
            if self.write:
                of_y, of_x, gamma = self.filters(written[:, -5:], self.write)
                patch = ops.reshape(written[:, :-5], (BATCH, self.write, self.write))
                added = ops.einsum("bnh,bnm,bmw->bhw", of_y, patch, of_x)
                canvas = canvas + added / gamma[..., None]
            else:
                canvas = canvas + ops.reshape(written, (BATCH, SIDE, SIDE))
        return ops.mean(nats + reconstruction(image, canvas))


class Ours(keras.layers.Layer):
    """The same cost with this package's layer."""

    def __init__(self, read, write):
        super().__init__()
        self.draw = DRAW(FLAGS.steps, UNITS, LATENTS, read or None, write or None)

    def build(self, image_shape, seed_shape=None):
        self.draw.build(image_shape)

    def call(self, image, noise, training=False):
        found = self.draw.reconstruct(image, noise, training)
        nats = ops.sum(divergence(found["mean"], found["log_deviation"]), axis=(1, 2))
        return ops.mean(nats + reconstruction(image, found["canvases"][:, -1]))


def divergence(mean, log_sigma):
    return (ops.square(mean) + ops.exp(2 * log_sigma) - 1) / 2 - log_sigma


def reconstruction(image, canvas):
    return ops.sum(ops.softplus(canvas) - image * canvas, axis=(1, 2))


def step(layer):
    """A function of image and noise that gives the gradient of all weights."""
    if FLAGS.backend == "tensorflow":

        def gradient(image, noise):
            with tf.GradientTape() as tape:
                value = layer(image, noise, training=True)
            return tape.gradient(value, [v.value for v in layer.trainable_variables])

        return compiled(gradient)
    import jax

    def of_weights(weights, image, noise):
        with keras.StatelessScope(state_mapping=[*zip(layer.trainable_variables, weights)]):
            return layer(image, noise, training=True)

    gradient = jax.jit(jax.grad(of_weights))
    weights = [v.value for v in layer.trainable_variables]
    return lambda *inputs: gradient(weights, *inputs)


def ideal(read, write):
    """Compiled functions, each a kind of product, and how often a training step takes it."""
    rng, steps, rows = np.random.default_rng(0), FLAGS.steps, BATCH * FLAGS.steps
    seen = 2 * read**2 if read else SIDE**2
    maps = {
        "encoder": (seen + 2 * UNITS, 4 * UNITS),
        "infer": (UNITS, 2 * LATENTS),
        "decoder": (LATENTS + UNITS, 4 * UNITS),
        "write": (UNITS, write**2 + 5 if write else SIDE**2),
    }
    shapes = {}
    for name, (n, m) in maps.items():
        shapes[name] = BATCH, n, m, steps
        shapes[f"{name}, back"] = BATCH, m, n, steps
        shapes[f"{name}'s weights"] = n, rows, m, 1

    def draw(*shape):
        return ops.convert_to_tensor(rng.normal(size=shape).astype("float32") / 100)

    def whole(a, b):
        return a + 1e-3 * ops.mean(a @ b), b

    return {
        name: (timing.repeated(whole, 50 if n > 1 else 1, draw(m, k), draw(k, p)), n)
        for name, (m, k, p, n) in shapes.items()
    }


def main():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    image = ops.convert_to_tensor((rng.random((BATCH, SIDE, SIDE)) < 0.2).astype("float32"))
    noise = rng.normal(size=(BATCH, FLAGS.steps, LATENTS)).astype("float32")
    noise = ops.convert_to_tensor(noise)
    mode = "graph" if FLAGS.graph else "XLA"
    print(f"## {FLAGS.backend}, {mode}, {FLAGS.steps} steps, batch {BATCH}, CPU ms\n")
    print("| model | first call, s | training step | x ideal | x unrolled |\n|---|---|---|---|---|")
    for read, write in ((FLAGS.read, FLAGS.write), (0, 0)):
        functions, first = {}, {}
        for name, cls in (("ours", Ours), ("unrolled", Unrolled)):
            layer = cls(read, write)
            layer.build(image.shape)
            functions[name], start = step(layer), time.process_time()
            keras.tree.map_structure(np.asarray, functions[name](image, noise))
            first[name] = time.process_time() - start
        parts = ideal(read, write)
        times, floors = {name: [] for name in functions}, {name: [] for name in parts}
        for function, _ in parts.values():
            function()
        for _ in range(FLAGS.rounds):
            for name, (part, count) in parts.items():
                floors[name].append(timing.milliseconds(part) * count / (50 if count > 1 else 1))
            for name, function in functions.items():
                times[name].append(timing.milliseconds(function, image, noise))
        floor = sum(statistics.median(some) for some in floors.values())
        medians = {name: statistics.median(some) for name, some in times.items()}
        kind = f"{read} x {read}, {write} x {write}" if read else "whole"
        print(f"| {kind}: ideal | | {floor:.1f} | 1 | |")
        for name, value in medians.items():
            print(
                f"| {kind}: {name} | {first[name]:.1f} | {value:.1f} | {value / floor:.2f} "
                f"| {value / medians['unrolled']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
