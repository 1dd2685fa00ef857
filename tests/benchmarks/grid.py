"""The Grid LSTM layer over sequences, by diagonals, against the same grid layer by layer.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    layer    `layers.GridLSTM`, XLA
    rows     the same blocks with the same weights, a `keras.layers.RNN` over time for each layer,
             XLA and the backend's own gradient
    lstm     as many stacked `keras.layers.LSTM`, XLA: half the products, and no memory along depth
    ideal    the products of all blocks alone, all layers of a time step in one, XLA; a training
             step has three times that

`ideal` is the physical limit: the floating-point rate of a core in these products.
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--rounds", type=int, default=9)
PARSER.add_argument("--units", type=int, default=100)
PARSER.add_argument("--layers", type=int, default=8)
PARSER.add_argument("--steps", type=int, default=42)
PARSER.add_argument("--batch", type=int, default=16)
PARSER.add_argument("--untied", action="store_true")
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
from ponderzoo.layers import GridLSTM  # noqa: E402
from timing import compiled, milliseconds, repeated, train_step  # noqa: E402

FEATURES = 65


class Along(keras.layers.Layer):
    """A block as a cell over time: what comes along depth is its input and its output."""

    def __init__(self, block):
        super().__init__()
        self.block = block
        self.state_size = [block.units, block.units]

    def call(self, inputs, states):
        below, beside = ops.split(inputs, 2, axis=-1), states
        hidden, memory = self.block([below[0], beside[0]], [below[1], beside[1]])
        return ops.concatenate([hidden[0], memory[0]], axis=-1), [hidden[1], memory[1]]


class Rows(keras.layers.Layer):
    """A grid one layer after another."""

    def __init__(self, grid):
        super().__init__()
        self.projection = grid.projection
        cells = [Along(cell) for cell in grid.cells]
        cells = cells * FLAGS.layers if grid.tied else cells
        self.rows = [keras.layers.RNN(cell, return_sequences=True) for cell in cells]

    def call(self, x, training=False):
        x = self.projection(x)
        for row in self.rows:
            x = row(x, training=training)
        return x


def ideal():
    """The products of the blocks of one time step in all layers, as often as there are steps."""
    rng, size = np.random.default_rng(0), 2 * FLAGS.units
    grids = FLAGS.layers if FLAGS.untied else 1
    rows = FLAGS.batch * FLAGS.layers // grids
    x, w = (
        ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
        for shape in ((grids, rows, size), (grids, size, 8 * FLAGS.units))
    )
    step = lambda x, w: (1e-3 * (x @ w)[..., :1] + x, w)  # noqa: E731
    if grids == 1:
        x, w = x[0], w[0]
    return repeated(step, FLAGS.steps, x, w)


def main():
    keras.utils.set_random_seed(0)
    grid = GridLSTM(FLAGS.units, FLAGS.layers, tied=not FLAGS.untied)
    x = np.random.default_rng(0).normal(size=(FLAGS.batch, FLAGS.steps, FEATURES))
    x = ops.convert_to_tensor(x.astype("float32"))
    grid(x)
    stack = keras.Sequential(
        [keras.layers.LSTM(FLAGS.units, return_sequences=True) for _ in range(FLAGS.layers)]
    )
    variants = {"layer": grid, "rows": Rows(grid), "lstm": stack}
    functions = {}
    for name, one in variants.items():
        one(x)
        functions[name] = (
            compiled(lambda x, one=one: ops.sum(ops.square(one(x)))),
            train_step(one),
        )
    floor = ideal()
    values = {name: [f(x) for f in pair] for name, pair in functions.items()}
    floor()
    times, floors = {name: ([], []) for name in functions}, []
    for _ in range(FLAGS.rounds):
        floors.append(milliseconds(floor))
        for name, pair in functions.items():
            for function, some in zip(pair, times[name]):
                some.append(milliseconds(function, x))
    floor = statistics.median(floors)
    kind = "untied" if FLAGS.untied else "tied"
    print(
        f"## {FLAGS.backend}, {FLAGS.layers} {kind} layers of {FLAGS.units}, batch {FLAGS.batch}, "
        f"{FLAGS.steps} steps, one thread, CPU ms, medians of {FLAGS.rounds}\n"
    )
    print("| variant | forward | x ideal | train | x ideal | train x layer | difference |")
    print("|---|---|---|---|---|---|---|")
    print(f"| ideal | {floor:.2f} | 1 | {3 * floor:.2f} | 1 | | |")
    medians = {name: [statistics.median(some) for some in pair] for name, pair in times.items()}
    for name, (forward, train) in medians.items():
        difference = ""
        if name != "lstm":
            ours, theirs = float(values["layer"][1][0]), float(values[name][1][0])
            difference = f"{abs(ours - theirs) / abs(ours):.1e}"
        print(
            f"| {name} | {forward:.2f} | {forward / floor:.2f} | {train:.2f} "
            f"| {train / (3 * floor):.2f} | {train / medians['layer'][1]:.2f} | {difference} |"
        )
    print(flush=True)


if __name__ == "__main__":
    main()
