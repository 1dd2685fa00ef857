"""The losses over alignments: a training step's share of each, against plain code and the floor.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    loss     `layers.transducer_loss` and its gradient by the logits, XLA
    factored `layers.factored_transducer_loss` and its gradients, XLA; the same lattice
    scan     the same loss, written plainly: log-softmax, a masked loop over time with a cumulative
             sum over labels, XLA and the backend's own gradient
    floor    one pass over the logits, XLA: exponentials written back, and their sums

`floor` is the physical limit of one pass; a loss and its gradient need two, one for the normalisers
and one for the gradient. The memory is what XLA sets aside beside inputs and outputs, in tensors of
the size of the logits (JAX alone tells).
"""

import argparse
import functools
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--rounds", type=int, default=9)
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
from ponderzoo.layers import factored_transducer_loss, transducer_loss  # noqa: E402
from timing import compiled, milliseconds  # noqa: E402

# Batch, time, labels, classes.
SHAPES = [(4, 150, 40, 28), (8, 100, 30, 62), (1, 150, 20, 1000)]
NEVER = -1e30

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def gradient_of(function):
        """Sum of a loss over rows and its gradients, as a compiled function of tensors."""

        def step(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                loss = ops.sum(function(*tensors))
            return loss, tape.gradient(loss, tensors)

        return compiled(step)

    def over_time(step, state, sequences):
        """The state after `step(state, t, *rows)` of every time `t`."""
        steps = sequences[0].shape[0]

        def body(t, state):
            return t + 1, step(state, t, *(x[t] for x in sequences))

        return tf.while_loop(lambda t, _: t < steps, body, (0, state), maximum_iterations=steps)[1]

    def scratch(function, tensors):
        """Bytes that a compiled function sets aside beside what goes in and out, if told."""
        return None

else:
    import jax

    def gradient_of(function):
        def step(*tensors):
            total = lambda *tensors: ops.sum(function(*tensors))  # noqa: E731
            return jax.value_and_grad(total, range(len(tensors)))(*tensors)

        return compiled(step)

    def over_time(step, state, sequences):
        def body(state, rows):
            return step(state, *rows), None

        times = np.arange(sequences[0].shape[0], dtype="int32")
        return jax.lax.scan(body, state, (times, *sequences))[0]

    def scratch(function, tensors):
        return function.lower(*tensors).compile().memory_analysis().temp_size_in_bytes


def log_add(a, b):
    return ops.maximum(a, b) + ops.log1p(ops.exp(-ops.abs(a - b)))


def plain_transducer_loss(logits, labels, frames, lengths):
    """Forward variables a frame at a time (Graves, 2012, section 2.4)."""
    logs = ops.log_softmax(logits)
    blanks, columns = logs[..., 0], logits.shape[2]
    index = ops.broadcast_to(labels[:, None, :, None], (*blanks[:, :, 1:].shape, 1))
    chosen = ops.take_along_axis(logs[:, :, :-1], index, axis=-1)[..., 0]
    said = ops.pad(ops.cumsum(chosen, axis=-1), [[0, 0], [0, 0], [1, 0]])
    start = ops.where(ops.arange(columns) == 0, 0.0, NEVER) + 0 * blanks[:, 0]

    def step(arriving, t, blank, said):
        nodes, reach = arriving - said, 1
        while reach < columns:
            before = ops.pad(nodes[:, :-reach], [[0, 0], [reach, 0]], constant_values=NEVER)
            nodes, reach = log_add(nodes, before), 2 * reach
        return ops.where((t < frames)[:, None], said + nodes + blank, arriving)

    by_time = [ops.swapaxes(x, 0, 1) for x in (blanks, said)]
    leaving = over_time(step, start, by_time)
    return -ops.take_along_axis(leaving, lengths[:, None], axis=1)[:, 0]


def transducer_case(batch, steps, places, classes):
    """The losses of one shape, each with the tensors that it is a function of."""
    rng = np.random.default_rng(0)
    f, g = (rng.normal(size=(batch, n, classes)).astype("float32") for n in (steps, places + 1))
    labels = rng.integers(1, classes, (batch, places)).astype("int32")
    targets = labels, np.full(batch, steps, "int32"), np.full(batch, places, "int32")
    logits, f, g = (ops.convert_to_tensor(x) for x in (f[:, :, None] + g[:, None], f, g))
    return {
        "loss": (lambda x: transducer_loss(x, *targets), (logits,)),
        "factored": (lambda f, g: factored_transducer_loss(f, g, *targets), (f, g)),
        "scan": (lambda x: plain_transducer_loss(x, *targets), (logits,)),
    }, logits


# A case is a title and a function without arguments that gives what `transducer_case` gives.
CASES = {
    f"transducer, batch {b}, {t} frames, {u} labels, {v} classes": functools.partial(
        transducer_case, b, t, u, v
    )
    for b, t, u, v in SHAPES
}


def floor_of(logits):
    def run(x):
        exponentials = ops.exp(x)
        return exponentials, ops.sum(exponentials, axis=-1)

    function = compiled(run)
    return lambda: function(logits)


def measure(title, variants, logits):
    floor = floor_of(logits)
    steps = {name: gradient_of(function) for name, (function, _) in variants.items()}
    tensors = {name: some for name, (_, some) in variants.items()}
    values = {name: float(step(*tensors[name])[0]) for name, step in steps.items()}
    floor()
    times, floors = {name: [] for name in steps}, []
    for _ in range(FLAGS.rounds):
        floors.append(milliseconds(floor))
        for name, step in steps.items():
            times[name].append(milliseconds(step, *tensors[name]))
    floor = statistics.median(floors)
    medians = {name: statistics.median(some) for name, some in times.items()}
    print(f"## {FLAGS.backend}, {title}\n")
    print("| variant | loss and gradient | x floor | x loss | scratch, x logits | difference |")
    print("|---|---|---|---|---|---|")
    print(f"| floor | {floor:.2f} | 1 | {floor / medians['loss']:.2f} | | |")
    for name, median in medians.items():
        size = scratch(steps[name], tensors[name])
        size = "" if size is None else f"{size / (4 * np.prod(logits.shape)):.2f}"
        difference = abs(values[name] - values["loss"]) / abs(values["loss"])
        print(
            f"| {name} | {median:.2f} | {median / floor:.2f} | {median / medians['loss']:.2f} "
            f"| {size} | {difference:.1e} |"
        )
    print(flush=True)


def main():
    print(f"One thread, CPU ms, medians of {FLAGS.rounds}.\n")
    for title, make in CASES.items():
        measure(title, *make())


if __name__ == "__main__":
    main()
