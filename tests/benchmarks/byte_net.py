"""Text of ByteNet on one thread: 400 characters, 10 multiplicative blocks, d = 64.

One process, interleaved rounds, medians of CPU milliseconds of the process. Ratios are what counts:
a time means nothing outside its own table.

    ours      a place at a time with queues in one loop, in graphs as a stock server runs it, or XLA
    half      the same for half as many characters, as the cost is linear in the length
    naive     a whole pass for each character, of which one is timed and counted 400 times
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--rounds", type=int, default=7)
PARSER.add_argument("--units", type=int, default=64)
PARSER.add_argument("--blocks", type=int, default=10)
PARSER.add_argument("--characters", type=int, default=400)
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import timing  # noqa: E402
from ponderzoo.layers import ByteNetStack  # noqa: E402
from ponderzoo.zoo.signatures._sampling import drawn, unroll  # noqa: E402

CLASSES = 256


def main():
    keras.utils.set_random_seed(0)
    stack = ByteNetStack(FLAGS.units, FLAGS.blocks, "multiplicative", return_state=True)
    embedding = keras.layers.Embedding(CLASSES, 2 * FLAGS.units)
    head = keras.layers.Dense(CLASSES)
    head(stack(embedding(tf.zeros((1, 1), tf.int32)))[0])

    def text(batch, length):
        """Codes, and what a place at a time says of each of them."""
        cold, seed = tf.zeros((batch,)), tf.range(batch)

        def step(code, state):
            hidden, state = stack.read(embedding(code[:, None]), before=state)
            return head(hidden)[:, 0], state, {}

        first, state, _ = step(tf.zeros((batch,), tf.int32), stack.get_initial_state(batch))

        def draw(place, last):
            return drawn(last, cold, seed, place)

        said, _ = unroll(step, first, state, draw, length)
        return said

    def whole(codes):
        return head(stack(embedding(codes))[0])

    size = FLAGS.characters
    print(
        f"## {FLAGS.blocks} multiplicative blocks, d = {FLAGS.units}, {size} characters, CPU ms\n"
    )
    print("| texts at once | way | ms | x faster than naive |\n|---|---|---|---|")
    for batch in (1, 16):
        codes, functions = tf.zeros((batch, size), tf.int32), {}
        for mode, jit in (("graph", False), ("XLA", True)):
            options = {"jit_compile": jit, "autograph": False}
            for name, length in (("ours", size), ("half", size // 2)):
                make = tf.function(lambda b=batch, n=length: text(b, n), **options)
                functions[f"{name}, {mode}"] = make, 1
            once = tf.function(lambda codes=codes: whole(codes), **options)
            functions[f"naive, {mode}"] = once, size
            check(functions[f"ours, {mode}"][0](), whole)
        times = {name: [] for name in functions}
        for function, _ in functions.values():
            function()
        for _ in range(FLAGS.rounds):
            for name, (function, count) in functions.items():
                times[name].append(timing.milliseconds(function) * count)
        medians = {name: statistics.median(some) for name, some in times.items()}
        for name, value in medians.items():
            _, _, mode = name.partition(", ")
            ratio = f"{medians[f'naive, {mode}'] / value:.0f}"
            print(f"| {batch} | {name} | {value:.1f} | {ratio} |", flush=True)


def check(said, whole):
    """What was said, a place at a time, is what whole passes say."""
    read = tf.pad(said[:, :-1], [[0, 0], [1, 0]])
    np.testing.assert_array_equal(tf.argmax(whole(read), axis=-1), said)


if __name__ == "__main__":
    main()
