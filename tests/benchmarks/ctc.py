"""The CTC loss with its gradient against the backends' own, on one thread.

One process, interleaved rounds, medians; times are CPU milliseconds of the process, so that a busy
neighbour disturbs little. Ratios are what counts: a time means nothing outside its own table.

    ours      `layers.ctc_loss`
    keras     `keras.ops.ctc_loss`; on TensorFlow this is `tf.nn.ctc_loss` with dense labels
    sparse    `tf.nn.ctc_loss` with sparse labels, a kernel of its own that XLA cannot compile
"""

import argparse
import os
import statistics

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--rounds", type=int, default=5)
PARSER.add_argument("--eager", action="store_true", help="TensorFlow without graphs, too; slow")
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = FLAGS.backend
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np  # noqa: E402
from keras import ops  # noqa: E402
from ponderzoo.layers import ctc_loss  # noqa: E402
from timing import compiled, milliseconds  # noqa: E402

SIZES = [(8, 300, 40, 62), (16, 500, 60, 40)]  # rows, frames, labels, classes


def keras_loss(logits, labels, frames, places):
    return ops.ctc_loss(labels, logits, places, frames)


if FLAGS.backend == "tensorflow":
    import tensorflow as tf

    def sparse_loss(logits, labels, frames, places):
        index = tf.where(tf.sequence_mask(places, tf.shape(labels)[1]))
        shape = tf.cast(tf.shape(labels), "int64")
        sparse = tf.SparseTensor(index, tf.gather_nd(labels, index), shape)
        return tf.nn.ctc_loss(sparse, logits, None, frames, logits_time_major=False, blank_index=0)

    def step_of(loss):
        def step(logits, *rest):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                total = ops.sum(loss(logits, *rest))
            return total, tape.gradient(total, logits)

        return step

    def variants():
        steps = {"ours": ctc_loss, "keras": keras_loss, "sparse": sparse_loss}
        for name, step in ((name, step_of(loss)) for name, loss in steps.items()):
            if name != "sparse":
                yield f"{name}, XLA", compiled(step)
            yield f"{name}, graph", tf.function(step)
            if FLAGS.eager:
                yield f"{name}, eager", step

else:
    import jax

    def variants():
        for name, loss in (("ours", ctc_loss), ("keras", keras_loss)):

            def total(*arguments, loss=loss):
                return ops.sum(loss(*arguments))

            yield f"{name}, XLA", compiled(jax.value_and_grad(total))


def main():
    for batch, time, width, classes in SIZES:
        rng = np.random.default_rng(0)
        arrays = (
            2 * rng.normal(size=(batch, time, classes)).astype("float32"),
            rng.integers(1, classes, (batch, width)).astype("int32"),
            rng.integers(3 * time // 4, time + 1, batch).astype("int32"),
            rng.integers(width // 2, width + 1, batch).astype("int32"),
        )
        given = [ops.convert_to_tensor(x) for x in arrays]
        functions = dict(variants())
        answers = {name: np.asarray(f(*given)[1]) for name, f in functions.items()}
        times = {name: [] for name in functions}
        for _ in range(FLAGS.rounds):
            for name, function in functions.items():
                times[name].append(milliseconds(function, *given))
        medians = {name: statistics.median(some) for name, some in times.items()}
        print(
            f"## {FLAGS.backend}, {batch} rows of {time} frames, {width} labels, {classes} "
            f"classes, loss and gradient, CPU ms, medians of {FLAGS.rounds}\n"
        )
        print("| variant | ms | x ours, XLA | largest difference of gradients |\n|---|---|---|---|")
        for name, median in medians.items():
            difference = np.abs(answers[name] - answers["ours, XLA"]).max()
            ratio = median / medians["ours, XLA"]
            print(f"| {name} | {median:.1f} | {ratio:.2f} | {difference:.1e} |")
        print(flush=True)


if __name__ == "__main__":
    main()
