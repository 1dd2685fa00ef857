"""Images of the Gated PixelCNN on one thread: 28 x 28 pixels in black and white, 7 layers, p = 32.

One process, interleaved rounds, medians of CPU milliseconds of the process. Ratios are what counts:
a time means nothing outside its own table.

    ours      `GatedPixelCNN.generate`, in graphs as a stock server runs it, or in XLA
    naive     a whole pass for each pixel, of which one is timed and counted 784 times
    ideal     the products of one place, of all pixels and rows, in one loop of XLA
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--rounds", type=int, default=7)
PARSER.add_argument("--filters", type=int, default=32)
PARSER.add_argument("--layers", type=int, default=7)
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
from ponderzoo.layers import GatedPixelCNN  # noqa: E402

SIDE = 28


def products(layer, batch):
    """A function that multiplies as often as an image needs, place by place."""
    p, rng = FLAGS.filters, np.random.default_rng(0)
    sizes = [(layer.first_kernel_size, 1), *[(layer.kernel_size, p)] * (FLAGS.layers - 1)]
    # At a pixel what is left of it, and the product behind the gate; at a row all above, and links.
    pixel = [((n // 2 + 1) * features, 2 * p) for n, features in sizes] + [(p, p)] * len(sizes)
    pixel += [(p, layer.head), (layer.head, 1)]
    row = [((n // 2 + 1) * n * features, 2 * p) for n, features in sizes]
    row += [(2 * p, 2 * p)] * len(sizes)

    def drawn(*shape):
        return tf.constant(rng.normal(size=shape).astype("float32") / 100)

    kinds = [(SIDE * SIDE, batch, pixel), (SIDE, batch * SIDE, row)]
    given = [(n, [(drawn(m, i), drawn(i, o)) for i, o in some]) for n, m, some in kinds]

    def run():
        total = tf.zeros(())
        for count, pairs in given:

            def once(_, total, pairs=pairs):
                # Each product waits for the one before it, as those of an image do.
                for a, b in pairs:
                    total = tf.reduce_mean((a + total) @ b)
                return total

            total = tf.while_loop(
                lambda i, _, count=count: i < count,
                lambda i, total, once=once: (i + 1, once(i, total)),
                (0, total),
            )[1]
        return total

    return tf.function(run, jit_compile=True, autograph=False)


def main():
    keras.utils.set_random_seed(0)
    layer = GatedPixelCNN(FLAGS.filters, FLAGS.layers)
    layer.build((None, SIDE, SIDE))
    print(f"## {FLAGS.layers} layers of {FLAGS.filters} maps, {SIDE} x {SIDE}, CPU ms\n")
    print("| images at once | way | ms | x ideal | x faster than naive |\n|---|---|---|---|---|")
    for batch in (1, 16):
        image = tf.zeros((batch, SIDE, SIDE))
        seeds = tf.range(batch)
        functions = {"ideal": (products(layer, batch), 1)}
        for mode, jit in (("graph", False), ("XLA", True)):
            options = {"jit_compile": jit, "autograph": False}
            make = tf.function(lambda seeds=seeds: layer.generate(seeds), **options)
            whole = tf.function(lambda image=image: layer(image), **options)
            functions[f"ours, {mode}"] = make, 1
            functions[f"naive, {mode}"] = whole, SIDE * SIDE
        times = {name: [] for name in functions}
        for function, _ in functions.values():
            function()
        for _ in range(FLAGS.rounds):
            for name, (function, count) in functions.items():
                times[name].append(timing.milliseconds(function) * count)
        medians = {name: statistics.median(some) for name, some in times.items()}
        for name, value in medians.items():
            _, _, mode = name.partition(", ")
            ratio = f"{medians[f'naive, {mode}'] / value:.0f}" if mode else ""
            print(
                f"| {batch} | {name} | {value:.1f} | {value / medians['ideal']:.1f} | {ratio} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
