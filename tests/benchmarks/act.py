"""The halting loop against a masked unroll, nested loops and its own matrix products.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    unroll   every input runs exactly M masked updates; XLA, gradient by autodiff
    nested   the updates of an input end when the whole batch has halted; XLA, gradient by autodiff
    layer    `layers.ACT`, XLA
    generic  `layers.ACT` around a cell that it has no fast step for, XLA
    graph    `layers.ACT` without XLA
    ideal    the matrix products of sum N / B updates of the whole batch and of the input projection

The products of the ideal are timed one by one, in XLA: forward `[B,H] x [H,4H]` an update and
`[T*B,I] x [I,4H]` for the projection; a training step has three times as many of equal size.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--threads", type=int, default=1)
PARSER.add_argument("--rounds", type=int, default=7)
PARSER.add_argument("--shapes", nargs="*", help="only these shapes")
PARSER.add_argument("--variants", nargs="*", help="only these variants")
PARSER.add_argument("--bytes_of", metavar="VARIANT", help=argparse.SUPPRESS)
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
if FLAGS.threads == 1:
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    )

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from ponderzoo.layers import ACT  # noqa: E402

tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)

MEAN_UPDATES = 4.5
# steps, batch, input, units, cap, standard deviation of the updates, cell
SHAPES = {
    "char-LM": (50, 32, 256, 512, 20, 1.7, "lstm"),
    "addition": (5, 32, 50, 512, 20, 1.9, "lstm"),
    "addition spread": (5, 32, 50, 512, 20, 4.3, "lstm"),
    "logic B128": (10, 128, 102, 128, 20, 1.6, "lstm"),
    "logic B16": (10, 16, 102, 128, 20, 1.7, "lstm"),
    "parity M20": (1, 128, 64, 128, 20, 1.2, "rnn"),
    "parity M100": (1, 128, 64, 128, 100, 7.6, "rnn"),
}


class PlainLSTMCell(keras.layers.LSTMCell):
    """An LSTM cell that the layer does not recognise."""


class PlainRNNCell(keras.layers.SimpleRNNCell):
    """A simple RNN cell that the layer does not recognise."""


CELLS = {
    ("lstm", True): keras.layers.LSTMCell,
    ("lstm", False): PlainLSTMCell,
    ("rnn", True): keras.layers.SimpleRNNCell,
    ("rnn", False): PlainRNNCell,
}


def bisect(low, high, set_to, too_high):
    for _ in range(10):
        middle = (low + high) / 2
        set_to(middle)
        low, high = (low, middle) if too_high() else (middle, high)


class Shape:
    """Data and weights of a shape; the halting unit gives the wanted mean and spread of N."""

    def __init__(self, name):
        self.name = name
        self.steps, self.batch, self.width, self.units, self.cap, spread, self.cell = SHAPES[name]
        rng = np.random.default_rng(0)
        self.x = tf.constant(rng.normal(size=(self.batch, self.steps, self.width)), tf.float32)
        self.fast = self.layer(True)
        self.generic = self.layer(False)
        kernel = rng.normal(size=(self.units, 1))
        for layer in (self.fast, self.generic):
            layer.build(self.x.shape)
            layer.cell.set_weights(self.fast.cell.get_weights())
        updates = tf.function(lambda: self.fast(self.x)[1])

        def centre(scale):
            self.fast.halting.kernel.assign(scale * kernel)
            bisect(
                -12.0,
                6.0,
                lambda b: self.fast.halting.bias.assign([b]),
                lambda: tf.reduce_mean(updates()) < MEAN_UPDATES,
            )

        bisect(0.01, 4.0, centre, lambda: tf.math.reduce_std(updates()) > spread)
        self.generic.halting.set_weights(self.fast.halting.get_weights())
        updates = updates().numpy()
        self.mean, self.std, self.most = updates.mean(), updates.std(), int(updates.max())
        self.useful = updates.sum() / self.batch
        self.asynchronous = int(updates.sum(axis=1).max())
        self.nested = int(updates.max(axis=0).sum())

    def layer(self, fast):
        return ACT(
            CELLS[self.cell, fast](self.units),
            max_ponder=self.cap,
            return_sequences=True,
            return_ponder=True,
        )

    @property
    def variables(self):
        layer = self.fast
        return [
            v.value for v in (*layer.cell.trainable_variables, *layer.halting.trainable_variables)
        ]


def of_layer(layer, training):
    def forward(x):
        output, updates, remainder = layer(x, training=training)
        return tf.reduce_sum(output), tf.reduce_sum(updates + remainder)

    return forward


def of_loops(shape, early):
    """Nested loops with autodiff: `early` ends the inner loop when the whole batch has halted."""
    kernel, recurrent, bias, halting, halting_bias = shape.variables
    units, batch = shape.units, shape.batch

    def cell(z, state):
        if shape.cell == "rnn":
            return [tf.tanh(z)]
        i, f, g, o = tf.split(z, 4, axis=-1)
        c = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * tf.tanh(g)
        return [tf.sigmoid(o) * tf.tanh(c), c]

    def forward(x):
        projected = tf.transpose(x @ kernel[:-1] + bias, [1, 0, 2])
        zero = tf.zeros([batch])
        state = [tf.zeros([batch, units])] * (1 if shape.cell == "rnn" else 2)

        def step(t, state, outputs, ponder):
            def update(n, total, updates, remainder, running, now, sums):
                flag = tf.cast(n == 0, tf.float32)
                now_new = cell(projected[t] + flag * kernel[-1] + now[0] @ recurrent, now)
                h = tf.sigmoid(now_new[0] @ halting + halting_bias)[:, 0]
                stop = running & ((total + h >= 0.99) | (n + 1 >= shape.cap))
                p = tf.where(running, tf.where(stop, 1 - total, h), 0.0)
                sums = [s + p[:, None] * x for s, x in zip(sums, now_new)]
                now = [tf.where(running[:, None], a, b) for a, b in zip(now_new, now)]
                updates += tf.cast(running, tf.float32)
                remainder += tf.where(stop, p, 0.0)
                total = tf.where(running & ~stop, total + h, total)
                return n + 1, total, updates, remainder, running & ~stop, now, sums

            def more(n, total, updates, remainder, running, *_):
                return tf.reduce_any(running) if early else n < shape.cap

            start = (0, zero, zero, zero, zero < 1, state, [tf.zeros_like(s) for s in state])
            _, _, updates, remainder, _, _, state = tf.while_loop(
                more, update, start, maximum_iterations=shape.cap
            )
            ponder += tf.reduce_sum(updates + remainder)
            return t + 1, state, outputs.write(t, state[0]), ponder

        outputs = tf.TensorArray(tf.float32, shape.steps, element_shape=(batch, units))
        _, _, outputs, ponder = tf.while_loop(
            lambda t, *_: t < shape.steps,
            step,
            (0, state, outputs, tf.constant(0.0)),
            maximum_iterations=shape.steps,
        )
        return tf.reduce_sum(outputs.stack()), ponder

    return forward


def forward_and_train(shape, variant):
    """Compiled `(forward(x), train(x))`."""
    jit = variant != "graph"
    if variant in ("unroll", "nested"):
        make, variables = (lambda training: of_loops(shape, variant == "nested")), shape.variables
    else:
        layer = shape.generic if variant == "generic" else shape.fast
        make = lambda training: of_layer(layer, training)  # noqa: E731
        variables = [v.value for v in layer.trainable_variables]

    @tf.function(jit_compile=jit)
    def forward(x):
        return make(False)(x)

    @tf.function(jit_compile=jit)
    def train(x):
        with tf.GradientTape() as tape:
            output, ponder = make(True)(x)
            loss = output + 0.01 * ponder
        return loss, tape.gradient(loss, variables)

    return forward, train


def ideal(shape):
    """Compiled matrix products: the input projection, and one update of the batch."""
    gates = 1 if shape.cell == "rnn" else 4
    rng = np.random.default_rng(1)
    h = tf.constant(rng.normal(size=(shape.batch, shape.units)), tf.float32)
    rows = tf.constant(rng.normal(size=(shape.batch * shape.steps, shape.width)), tf.float32)
    kernel = tf.constant(rng.normal(size=(shape.width, gates * shape.units)), tf.float32)
    recurrent = tf.constant(rng.normal(size=(shape.units, gates * shape.units)), tf.float32)
    repeats = 20

    @tf.function(jit_compile=True)
    def update(h, recurrent):
        # Each product depends on the one before, so that none is left out.
        body = lambda i, h: (i + 1, (h @ recurrent)[:, : shape.units] * 1e-3)  # noqa: E731
        return tf.while_loop(lambda i, h: i < repeats, body, (0, h))[1]

    @tf.function(jit_compile=True)
    def projection(rows, kernel):
        return rows @ kernel

    return (
        lambda: update(h, recurrent),
        lambda: projection(rows, kernel),
        lambda update, projection: projection + shape.useful * update / repeats,
    )


def milliseconds(function, *arguments):
    start = time.process_time()
    keras.tree.map_structure(lambda x: x.numpy(), function(*arguments))
    return 1e3 * (time.process_time() - start)


def peak_bytes(shape, variant):
    """Bytes of a training step by XLA's own report, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}"
        command = [sys.executable, __file__, "--shapes", shape.name, "--bytes_of", variant]
        subprocess.run(command, env={**os.environ, "XLA_FLAGS": flags}, check=True)
        sizes = []
        for file in os.listdir(folder):
            if "memory-usage-report" in file:
                with open(os.path.join(folder, file)) as report:
                    found = re.search(r"Total bytes used: (\d+)", report.read())
                    sizes.append(int(found.group(1)))
        return max(sizes)


def main():
    names = FLAGS.shapes or list(SHAPES)
    if FLAGS.bytes_of:
        shape = Shape(names[0])
        forward_and_train(shape, FLAGS.bytes_of)[1](shape.x)
        return
    variants = FLAGS.variants or ["unroll", "nested", "layer", "generic", "graph"]
    print(f"threads {FLAGS.threads}, rounds {FLAGS.rounds}, CPU ms, medians\n")
    for name in names:
        shape = Shape(name)
        print(
            f"## {name}: T {shape.steps}, B {shape.batch}, I {shape.width}, {shape.cell} "
            f"{shape.units}, M {shape.cap}; "
            f"N {shape.mean:.2f} +- {shape.std:.2f}, at most {shape.most}\n"
            f"updates: useful {shape.useful:.1f}, asynchronous {shape.asynchronous}, "
            f"nested {shape.nested}, unroll {shape.steps * shape.cap}\n"
        )
        functions = {v: forward_and_train(shape, v) for v in variants}
        update, projection, combine = ideal(shape)
        values = {v: [f(shape.x) for f in pair] for v, pair in functions.items()}
        update(), projection()
        times = {v: ([], []) for v in variants}
        floors = []
        for _ in range(FLAGS.rounds):
            floors.append(combine(milliseconds(update), milliseconds(projection)))
            for variant, pair in functions.items():
                for function, some in zip(pair, times[variant]):
                    some.append(milliseconds(function, shape.x))
        floor = statistics.median(floors)
        first = values[variants[0]][1]
        print(
            "| variant | forward | x unroll | x ideal | train | x unroll | x ideal | difference |"
        )
        print("|---|---|---|---|---|---|---|---|")
        print(f"| ideal | {floor:.2f} | | 1 | {3 * floor:.2f} | | 1 | |")
        base = [statistics.median(t) for t in times[variants[0]]]
        for variant in variants:
            forward, train = (statistics.median(t) for t in times[variant])
            pairs = zip(keras.tree.flatten(values[variant][1]), keras.tree.flatten(first))
            difference = max(
                float(tf.reduce_max(tf.abs(a - b)) / (tf.reduce_max(tf.abs(b)) + 1e-9))
                for a, b in pairs
            )
            print(
                f"| {variant} | {forward:.2f} | {base[0] / forward:.2f} | {forward / floor:.2f} "
                f"| {train:.2f} | {base[1] / train:.2f} | {train / (3 * floor):.2f} "
                f"| {difference:.1e} |"
            )
        if name == "char-LM" and {"unroll", "layer"} <= set(variants):
            sizes = {v: peak_bytes(shape, v) / 1e6 for v in ("unroll", "layer")}
            share = sizes["layer"] / sizes["unroll"]
            print(
                f"\nXLA bytes of a training step: unroll {sizes['unroll']:.0f} MB, "
                f"layer {sizes['layer']:.0f} MB, {share:.2f} of it"
            )
        print(flush=True)


if __name__ == "__main__":
    main()
