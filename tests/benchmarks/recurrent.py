"""The LSTM layers against Keras's, one direction and both, on one thread.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    peephole   `layers.PeepholeLSTM`; `plain` is the same without peepholes
    keras      `keras.layers.LSTM`, with `both` inside `keras.layers.Bidirectional`
    loop       the equations of `plain` in a loop with the backend's own gradient; the input's
               products are taken before it, as in `plain` and unlike `keras`
    deep       `layers.DeepLSTM` of two layers, against Keras's layers stacked likewise
    ideal      the matrix products alone, each timed alone in XLA: the input's, and the state's of
               every step; a training step has the latter once more, transposed, and the products
               of both weights' gradients, over the whole sequence

`ideal` is the physical limit: the floating-point rate of a core in these products.
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--graph", action="store_true", help="TensorFlow's graphs instead of XLA")
PARSER.add_argument("--rounds", type=int, default=9)
PARSER.add_argument("--size", type=int, choices=[0, 1], help="only this one of the sizes")
PARSER.add_argument("--variants", nargs="*", help="only these variants")
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
from ponderzoo.layers import DeepLSTM, PeepholeLSTM  # noqa: E402

SIZES = [(1, 300, 123, 250), (16, 240, 39, 128)]  # batch, frames, features, units

if FLAGS.backend == "tensorflow":
    import tensorflow as tf

    def scan(step, carry, rows):
        steps = rows.shape[0]
        found = tf.TensorArray(rows.dtype, steps, element_shape=carry[0].shape)

        def body(t, carry, found):
            carry = step(carry, rows[t])
            return t + 1, carry, found.write(t, carry[0])

        *_, found = tf.while_loop(
            lambda t, *_: t < steps, body, (0, carry, found), maximum_iterations=steps
        )
        return found.stack()

    compiled = tf.function if FLAGS.graph else timing.compiled
else:
    import jax

    compiled = timing.compiled

    def scan(step, carry, rows):
        def body(carry, row):
            carry = step(carry, row)
            return carry, carry[0]

        return jax.lax.scan(body, carry, rows)[1]


class Loop(keras.layers.Layer):
    """An LSTM layer as one would write it."""

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], 4 * self.units))
        self.recurrent_kernel = self.add_weight((self.units, 4 * self.units))
        self.bias = self.add_weight((4 * self.units,))

    def call(self, x, training=False):
        recurrent = ops.convert_to_tensor(self.recurrent_kernel)

        def step(carry, row):
            h, c = carry
            i, f, g, o = ops.split(row + h @ recurrent, 4, axis=-1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            return ops.sigmoid(o) * ops.tanh(c), c

        zero = ops.zeros((x.shape[0], self.units))
        rows = ops.transpose(x @ self.kernel + self.bias, (1, 0, 2))
        return ops.transpose(scan(step, (zero, zero), rows), (1, 0, 2))


def layers_of(units):
    def lstm():
        return keras.layers.LSTM(units, return_sequences=True)

    def both():
        return keras.layers.Bidirectional(lstm())

    layers = {
        "plain": PeepholeLSTM(units, peepholes=False),
        "peephole": PeepholeLSTM(units),
        "loop": Loop(units),
        "keras": lstm(),
        "plain, both": PeepholeLSTM(units, peepholes=False, bidirectional=True),
        "peephole, both": PeepholeLSTM(units, bidirectional=True),
        "keras, both": both(),
        "deep, both": DeepLSTM(units, layers=2, bidirectional=True),
        "keras deep, both": keras.Sequential([both(), both()]),
    }
    return {k: v for k, v in layers.items() if not FLAGS.variants or k in FLAGS.variants}


def ideal(batch, steps, features, units):
    """Compiled functions, each the repeated work of one kind; a sequence needs it once."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return ops.convert_to_tensor(rng.normal(size=shape).astype("float32") / 100)

    def state(h, w):
        z = ops.reshape(h @ w, (batch, 4, units))
        return ops.sum(z, axis=1), w

    def state_back(d, w):
        return ops.tile(d @ w, (1, 4)), w

    def whole(a, b):
        return a + 1e-3 * ops.mean(a @ b), b

    repeated, rows = timing.repeated, batch * steps
    return {
        "input": repeated(whole, 10, draw(rows, features), draw(features, 4 * units)),
        "state": repeated(state, steps, draw(batch, units), draw(units, 4 * units)),
        "state, back": repeated(state_back, steps, draw(batch, 4 * units), draw(4 * units, units)),
        "input's weights": repeated(whole, 10, draw(features, rows), draw(rows, 4 * units)),
        "state's weights": repeated(whole, 10, draw(units, rows), draw(rows, 4 * units)),
    }


def measure(batch, steps, features, units):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(batch, steps, features)).astype("float32")
    x = ops.convert_to_tensor(x)
    functions = {}
    for name, layer in layers_of(units).items():
        layer.build(x.shape)
        forward = compiled(lambda x, layer=layer: ops.sum(ops.square(layer(x))))
        functions[name] = forward, timing.train_step(layer, compiled)
    parts = ideal(batch, steps, features, units)
    for function in parts.values():
        function()
    for pair in functions.values():
        for function in pair:
            function(x)
    times = {name: ([], []) for name in functions}
    floors = {name: [] for name in parts}
    for _ in range(FLAGS.rounds):
        for name, part in parts.items():
            share = 1 if name.startswith("state") and "weights" not in name else 10
            floors[name].append(timing.milliseconds(part) / share)
        for name, pair in functions.items():
            for function, some in zip(pair, times[name]):
                some.append(timing.milliseconds(function, x))
    floors = {name: statistics.median(some) for name, some in floors.items()}
    medians = {name: [statistics.median(some) for some in pair] for name, pair in times.items()}
    floor = floors["input"] + floors["state"], sum(floors.values())
    mode = "graph" if FLAGS.graph else "XLA"
    print(
        f"## {FLAGS.backend}, {mode}, batch {batch}, {steps} frames, {features} features, {units} "
        f"units, CPU ms, medians of {FLAGS.rounds}\n"
    )
    print("ideal: " + ", ".join(f"{k} {v:.2f}" for k, v in floors.items()) + "\n")
    print("| variant | forward | x ideal | train | x ideal | train x keras |")
    print("|---|---|---|---|---|---|")
    print(f"| ideal, of one direction | {floor[0]:.2f} | 1 | {floor[1]:.2f} | 1 | |")
    for name, (forward, train) in medians.items():
        # No ideal for a deep one: its upper layer reads other features.
        size = 0 if "deep" in name else 2 if "both" in name else 1
        ratios = [f"{t / (size * f):.2f}" if size else "" for t, f in zip((forward, train), floor)]
        keras_name = "keras" + (" deep" if "deep" in name else "") + (", both" if size != 1 else "")
        beside = f"{train / medians[keras_name][1]:.2f}" if keras_name in medians else ""
        print(f"| {name} | {forward:.2f} | {ratios[0]} | {train:.2f} | {ratios[1]} | {beside} |")
    print(flush=True)


if __name__ == "__main__":
    for sizes in SIZES if FLAGS.size is None else [SIZES[FLAGS.size]]:
        measure(*sizes)
