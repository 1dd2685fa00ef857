"""A layer of multi-dimensional LSTM cells by diagonals, against the same point by point.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    graph    `layers.MDLSTM` in a TensorFlow graph, as users have it
    xla      the same, compiled
    raster   the same cells point by point, a direction after the other, with the backend's own
             gradient, in a graph; timed once, since it takes seconds (and 5 GB)
    ideal    the products of all diagonals alone, XLA; a training step has three times that
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--rounds", type=int, default=9)
PARSER.add_argument("--units", type=int, default=16)
PARSER.add_argument("--height", type=int, default=32)
PARSER.add_argument("--width", type=int, default=128)
PARSER.add_argument("--features", type=int, default=16)
PARSER.add_argument("--batch", type=int, default=4)
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import ops  # noqa: E402
from ponderzoo.layers import MDLSTM  # noqa: E402
from timing import compiled, milliseconds, repeated, train_step  # noqa: E402


class Raster(keras.layers.Layer):
    """The points of each direction one after the other."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x, training=False):
        outputs = []
        for number in range(4):
            far = [1 + axis for axis in range(2) if number >> axis & 1]
            found = self._direction(ops.flip(x, far) if far else x, number)
            outputs.append(ops.flip(found, far) if far else found)
        return ops.concatenate(outputs, axis=-1)

    def _direction(self, x, number):
        layer, (batch, height, width, _), units = self.layer, x.shape, self.layer.units
        kernel, recurrent, bias, peepholes = (
            some[number]
            for some in (
                layer.kernels,
                layer.recurrent_kernels,
                layer.biases,
                layer.peephole_weights,
            )
        )
        rows = tf.transpose(x @ kernel + bias, (1, 2, 0, 3))
        rows = tf.reshape(rows, (height * width, batch, -1))
        nothing, count = tf.zeros((batch, units)), height * width
        arrays = [
            tf.TensorArray("float32", count, clear_after_read=False, element_shape=(batch, units))
            for _ in range(2)
        ]

        def point(t, hs, cs):
            def before(array, there, back):
                return tf.cond(there, lambda: array.read(t - back), lambda: nothing)

            has_above, has_left = t >= width, t % width > 0
            c_up, c_left = before(cs, has_above, width), before(cs, has_left, 1)
            h = [before(hs, has_above, width), before(hs, has_left, 1)]
            z = tf.gather(rows, t) + tf.concat(h, axis=-1) @ recurrent
            z_i, z_up, z_left, z_g, z_o = tf.split(z, 5, axis=-1)
            c = tf.sigmoid(z_i + peepholes[0] * (c_up + c_left)) * tf.tanh(z_g)
            c += tf.sigmoid(z_up + peepholes[1] * c_up) * c_up
            c += tf.sigmoid(z_left + peepholes[2] * c_left) * c_left
            h = tf.sigmoid(z_o + peepholes[3] * c) * tf.tanh(c)
            return t + 1, hs.write(t, h), cs.write(t, c)

        _, hs, _ = tf.while_loop(lambda t, *_: t < count, point, (0, *arrays))
        found = tf.reshape(hs.stack(), (height, width, batch, units))
        return tf.transpose(found, (2, 0, 1, 3))


def ideal():
    """The products of all diagonals."""
    rng, size = np.random.default_rng(0), 2 * FLAGS.units + FLAGS.features + 1
    x, w = (
        ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
        for shape in ((4, FLAGS.batch * FLAGS.height, size), (4, size, 5 * FLAGS.units))
    )
    step = lambda x, w: (1e-3 * (x @ w)[..., :1] + x, w)  # noqa: E731
    return repeated(step, FLAGS.height + FLAGS.width - 1, x, w)


def main():
    keras.utils.set_random_seed(0)
    layer = MDLSTM(FLAGS.units)
    shape = FLAGS.batch, FLAGS.height, FLAGS.width, FLAGS.features
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=shape).astype("float32"))
    layer(x)
    ways = {
        "graph": (layer, tf.function),
        "xla": (layer, compiled),
        "raster": (Raster(layer), tf.function),
    }
    functions = {
        name: (
            way(lambda x, one=one: ops.sum(ops.square(one(x)))),
            train_step(one, way),
        )
        for name, (one, way) in ways.items()
    }
    floor = ideal()
    floor()
    values = {name: [f(x) for f in pair] for name, pair in functions.items()}
    times, floors = {name: ([], []) for name in functions}, []
    for number in range(FLAGS.rounds):
        floors.append(milliseconds(floor))
        for name, pair in functions.items():
            if name == "raster" and number:
                continue
            for function, some in zip(pair, times[name]):
                some.append(milliseconds(function, x))
    floor = statistics.median(floors)
    print(
        f"## {FLAGS.height} x {FLAGS.width} points of {FLAGS.features}, {FLAGS.units} units, four "
        f"directions, batch {FLAGS.batch}, one thread, CPU ms, medians of {FLAGS.rounds}\n"
    )
    print("| variant | forward | x ideal | train | x ideal | train x graph | difference |")
    print("|---|---|---|---|---|---|---|")
    print(f"| ideal | {floor:.2f} | 1 | {3 * floor:.2f} | 1 | | |")
    medians = {name: [statistics.median(some) for some in pair] for name, pair in times.items()}
    for name, (forward, train) in medians.items():
        ours, theirs = float(values["graph"][1][0]), float(values[name][1][0])
        print(
            f"| {name} | {forward:.2f} | {forward / floor:.2f} | {train:.2f} "
            f"| {train / (3 * floor):.2f} | {train / medians['graph'][1]:.2f} "
            f"| {abs(ours - theirs) / abs(ours):.1e} |"
        )
    print(flush=True)


if __name__ == "__main__":
    main()
