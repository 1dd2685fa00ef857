"""The Neural Turing Machine layer at the paper's copy setting.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    layer    `layers.NTM`, XLA
    loop     `keras.layers.RNN(layers.NTMCell)`, XLA
    lstm     `keras.layers.LSTM` of the controller's size alone, XLA
    eager    the equations in a Python loop, operation by operation, GradientTape (TensorFlow)
    ideal    what no order of the work can leave out, each timed alone in XLA: the products of
             controller and heads, the products of keys and weightings with the memory, and one
             pass over the memory to write it, for every step; a training step has three times that

`ideal` is the physical limit: the floating-point rate of a core in these products, and the rate at
which it reads and writes a memory that fits its cache.
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--controller", default="lstm", choices=["lstm", "feedforward"])
PARSER.add_argument("--rounds", type=int, default=15)
PARSER.add_argument("--steps", type=int, default=41)
VARIANTS = ["layer", "loop", "lstm", "eager", "ideal"]
PARSER.add_argument("--variants", nargs="*", choices=VARIANTS, help="only these variants")
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = FLAGS.backend
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402
from ponderzoo.layers import NTM, NTMCell  # noqa: E402
from timing import compiled, milliseconds, repeated, train_step  # noqa: E402

BATCH, FEATURES, UNITS, SLOTS, WORD = 16, 10, 100, 128, 20

if FLAGS.backend == "tensorflow":
    import tensorflow as tf


def eager(layer):
    """Forward and training step of the equations, step by step and operation by operation."""
    cell, lstm = layer.cell, FLAGS.controller == "lstm"
    variables = [v.value for v in layer.trainable_variables]
    kernel, *recurrent, bias = [v.value for v in cell.controller.trainable_variables]
    head_kernel, head_bias = cell.heads.kernel.value, cell.heads.bias.value
    reads0, state0 = cell.initial_reads.value, [v.value for v in cell.initial_state]

    def head(told, memory, before):
        key, beta, gate, shift, gamma = told
        lengths = tf.sqrt(tf.reduce_sum(memory**2, axis=2) + 1e-6)
        length = tf.sqrt(tf.reduce_sum(key**2, axis=1, keepdims=True) + 1e-6)
        cosine = tf.reduce_sum(memory * key[:, None], axis=2) / (lengths * length)
        weights = gate * tf.nn.softmax(beta * cosine) + (1 - gate) * before
        weights = sum(shift[:, i : i + 1] * tf.roll(weights, i - 1, axis=1) for i in range(3))
        return tf.nn.softmax(gamma * tf.math.log(weights + 1e-16))

    def forward(x):
        memory = tf.fill([BATCH, SLOTS, WORD], 1e-6)
        at = [tf.one_hot([0] * BATCH, SLOTS)] * 2
        reads, *state = (tf.tile(v[None], [BATCH, 1]) for v in (reads0, *state0))
        total = 0.0
        for t in range(x.shape[1]):
            z = tf.concat([x[:, t], reads], axis=1) @ kernel + bias
            if lstm:
                i, f, g, o = tf.split(z + state[0] @ recurrent[0], 4, axis=1)
                c = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * tf.tanh(g)
                state = [tf.sigmoid(o) * tf.tanh(c), c]
                output = state[0]
            else:
                output = tf.tanh(z)
            raw = tf.clip_by_value(output @ head_kernel + head_bias, -20, 20)
            key, beta, gate, shift, gamma, erase, add = tf.split(
                raw, [2 * WORD, 2, 2, 6, 2, WORD, WORD], axis=1
            )
            key, beta, gate = tf.tanh(key), tf.nn.softplus(beta), tf.sigmoid(gate)
            gamma = 1 + tf.nn.softplus(gamma)
            told = [
                (
                    key[:, h * WORD : (h + 1) * WORD],
                    beta[:, h : h + 1],
                    gate[:, h : h + 1],
                    tf.nn.softmax(shift[:, 3 * h : 3 * h + 3]),
                    gamma[:, h : h + 1],
                )
                for h in range(2)
            ]
            writing = head(told[1], memory, at[1])
            memory *= 1 - writing[:, :, None] * tf.sigmoid(erase)[:, None]
            memory += writing[:, :, None] * tf.tanh(add)[:, None]
            reading = head(told[0], memory, at[0])
            reads = tf.reduce_sum(reading[:, :, None] * memory, axis=1)
            at = [reading, writing]
            total += tf.reduce_sum(output**2) + tf.reduce_sum(reads**2)
        return total

    def train(x):
        with tf.GradientTape() as tape:
            tape.watch(variables)
            loss = forward(x)
        return loss, tape.gradient(loss, variables)

    return forward, train


def ideal(layer):
    """Compiled functions, each the repeated work of one kind, and how often a sequence needs it."""
    rng, repeats = np.random.default_rng(0), 1000

    def draw(*shape):
        return ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))

    gates = 4 if FLAGS.controller == "lstm" else 1
    width = (UNITS if gates == 4 else 0) + WORD
    size = layer.cell.heads.units
    parts = {
        "controller": repeated(
            lambda x, w: (1e-3 * (x @ w)[:, :1] + x, w),
            repeats,
            draw(BATCH, width),
            draw(width, gates * UNITS),
        ),
        "heads": repeated(
            lambda x, w: (1e-3 * (x @ w)[:, :1] + x, w),
            repeats,
            draw(BATCH, UNITS),
            draw(UNITS, size),
        ),
        # Two heads, each with its key and with its weighting.
        "keys": repeated(
            lambda k, m: (1e-3 * (k @ m)[..., :WORD] + k, m),
            repeats,
            draw(BATCH, 1, WORD),
            draw(BATCH, WORD, SLOTS),
        ),
        "weightings": repeated(
            lambda w, m: (
                1e-3 * (w @ ops.swapaxes(m, 1, 2))[..., :1] + w,
                m,
            ),
            repeats,
            draw(BATCH, 1, SLOTS),
            draw(BATCH, WORD, SLOTS),
        ),
        "write": repeated(
            lambda w, e, m: (w, e, m * (1 - e * w) + 1e-3 * e * w),
            repeats,
            draw(BATCH, 1, SLOTS) / 100,
            draw(BATCH, WORD, 1) / 100,
            draw(BATCH, WORD, SLOTS),
        ),
    }
    times = {"controller": 1, "heads": 1, "keys": 2, "weightings": 1, "write": 1}
    return parts, {name: FLAGS.steps * count / repeats for name, count in times.items()}


def main():
    keras.utils.set_random_seed(0)
    options = {"memory_slots": SLOTS, "word_size": WORD}
    layer = NTM(UNITS, FLAGS.controller, return_sequences=True, **options)
    loop = keras.layers.RNN(NTMCell(UNITS, FLAGS.controller, **options), return_sequences=True)
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(BATCH, FLAGS.steps, FEATURES)).astype("float32")
    x = ops.convert_to_tensor(x)
    for one in (layer, loop, lstm):
        one.build(x.shape)
    loop.set_weights(layer.get_weights())
    functions = {
        name: (
            compiled(lambda x, one=one: ops.sum(ops.square(one(x)))),
            train_step(one),
        )
        for name, one in {"layer": layer, "loop": loop, "lstm": lstm}.items()
    }
    if FLAGS.backend == "tensorflow":
        functions["eager"] = eager(layer)
    if FLAGS.variants:
        # What is ideal is timed in any case.
        functions = {name: functions[name] for name in FLAGS.variants if name != "ideal"}
    parts, share = ideal(layer)
    values = {name: [f(x) for f in pair] for name, pair in functions.items()}
    for part in parts.values():
        part()
    times = {name: ([], []) for name in functions}
    floors = {name: [] for name in parts}
    for _ in range(FLAGS.rounds):
        for name, part in parts.items():
            floors[name].append(share[name] * milliseconds(part))
        for name, pair in functions.items():
            for function, some in zip(pair, times[name]):
                some.append(milliseconds(function, x))
    floors = {name: statistics.median(some) for name, some in floors.items()}
    floor = sum(floors.values())
    print(
        f"## {FLAGS.backend}, {FLAGS.controller} {UNITS}, memory {SLOTS} x {WORD}, batch {BATCH}, "
        f"{FLAGS.steps} steps, one thread, CPU ms, medians of {FLAGS.rounds}\n"
    )
    print("ideal forward: " + ", ".join(f"{k} {v:.2f}" for k, v in floors.items()) + "\n")
    print("| variant | forward | x ideal | train | x ideal | train x layer | difference |")
    print("|---|---|---|---|---|---|---|")
    print(f"| ideal | {floor:.2f} | 1 | {3 * floor:.2f} | 1 | | |")
    medians = {name: [statistics.median(some) for some in pair] for name, pair in times.items()}
    first = next(iter(functions), None)
    for name, (forward, train) in medians.items():
        difference = ""
        if name != "lstm":
            pairs = zip(*(map(float, (values[n][0], values[n][1][0])) for n in (name, first)))
            difference = f"{max(abs(a - b) / abs(b) for a, b in pairs):.1e}"
        print(
            f"| {name} | {forward:.2f} | {forward / floor:.2f} | {train:.2f} "
            f"| {train / (3 * floor):.2f} | {train / medians[first][1]:.2f} | {difference} |"
        )
    print(flush=True)


if __name__ == "__main__":
    main()
