"""Backpropagation through time within a budget of memory: bytes and time.

Each variant runs in a process of its own, one thread: XLA's own account of the memory that the
gradient takes beside what goes in and comes out, by how much the process grew at most from its
inputs on, compilation and answers included, and the least CPU seconds of some rounds.

    plain         `layers.PeepholeLSTM` without peepholes, or `layers.NTM`
    5 % ...       the same with a `memory_budget` of that share of what the plan counts for plain
    checkpoint    the same cell by the backend's own means, in segments of the square root of the
                  length (Chen et al., 2016): two nested `jax.lax.scan`, the inner one under
                  `jax.checkpoint`; on TensorFlow a `keras.layers.RNN` for each segment under
                  `keras.remat`, which is `tf.recompute_grad` there
    scope         on TensorFlow, the same by a layer that was made within `keras.RematScope`, whose
                  `call` takes no keyword: in a graph a `training` is refused
    keras         on TensorFlow, `keras.layers.RNN` over the whole sequence
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--model", choices=["lstm", "ntm"], default="lstm")
PARSER.add_argument("--backend", choices=["jax", "tensorflow"], default="jax")
PARSER.add_argument("--length", type=int, default=1000, help="steps")
PARSER.add_argument("--units", type=int, default=256)
PARSER.add_argument("--slots", type=int, default=512, help="of the NTM's memory, of 20 numbers")
PARSER.add_argument("--batch", type=int, default=32)
PARSER.add_argument("--features", type=int, default=64)
PARSER.add_argument("--rounds", type=int, default=3)
PARSER.add_argument("--variants", nargs="*", default=["plain", "5", "3", "1", "checkpoint"])
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = FLAGS.backend


def measured(variant):
    """Bytes and seconds of a variant, and its plan."""
    import keras
    import numpy as np
    from ponderzoo.layers import NTM, PeepholeLSTM, _budgeted

    plans, plan_memory = [], _budgeted.plan_memory

    def planned(length, hidden, internal, _):
        budget = float(variant) * length * internal / 100
        plans.append(plan_memory(length, hidden, internal, int(budget)))
        return plans[-1]

    _budgeted.plan_memory = planned
    keras.utils.set_random_seed(0)
    options = {"memory_budget": 1} if variant.replace(".", "").isdigit() else {}
    shape = FLAGS.batch, FLAGS.length, FLAGS.features
    if FLAGS.model == "ntm":
        layer = NTM(FLAGS.units, memory_slots=FLAGS.slots, return_sequences=True, **options)
        layer.build(shape)
        cell, width = layer.cell, layer.cell.output_size
    else:
        layer = PeepholeLSTM(FLAGS.units, peepholes=False, **options)
        layer.build(shape)
        cell, width = keras.layers.LSTMCell(FLAGS.units), FLAGS.units
        cell.build((FLAGS.batch, FLAGS.features))
        cell.set_weights([weight.numpy() for weight in layer.trainable_variables])
    draw = np.random.default_rng(0).standard_normal
    x, d_y = draw(shape, "float32"), draw((*shape[:2], width), "float32")
    of_backend = in_jax if FLAGS.backend == "jax" else in_tensorflow
    before, seconds = memory("VmRSS"), []
    run, temporary = of_backend(variant, layer, cell, x, d_y)
    gradient = np.concatenate([np.ravel(d) for d in run()])
    for _ in range(FLAGS.rounds):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return {
        "planned": plans[0].bytes if plans else None,
        "temporary": temporary(),
        "process": memory("VmHWM") - before,
        "forwards": plans[0].forwards_per_step if plans else None,
        "seconds": min(seconds),
        "length_of_gradient": float(np.linalg.norm(gradient.astype("float64"))),
    }


def memory(name):
    """Bytes of this process."""
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", file.read())[1])


def segments():
    """How many there are, and their length."""
    count = max(n for n in range(1, int(FLAGS.length**0.5) + 1) if FLAGS.length % n == 0)
    return count, FLAGS.length // count


def in_jax(variant, layer, cell, x, d_y):
    """`run()`, the gradients by the weights, and a function that tells temporary bytes."""
    import jax

    own = cell if variant == "checkpoint" else layer
    fixed = [v.value for v in own.non_trainable_variables]

    def outputs(weights, x):
        if variant != "checkpoint":
            return layer.stateless_call(weights, fixed, x, training=True)[0]

        def step(state, x):
            (y, state), _ = cell.stateless_call(weights, fixed, x, state)
            return list(state), y

        x = x.transpose(1, 0, 2).reshape(*segments(), len(x), -1)
        with keras_scope(cell, weights):
            start = list(cell.get_initial_state(batch_size=x.shape[2]))
        segment = jax.checkpoint(lambda state, x: jax.lax.scan(step, state, x), prevent_cse=False)
        y = jax.lax.scan(segment, start, x)[1]
        return y.reshape(-1, *y.shape[2:]).transpose(1, 0, 2)

    @jax.jit
    def gradients(weights, x, d_y):
        y, pull = jax.vjp(outputs, weights, x)
        return y, pull(d_y)

    weights, x, d_y = [v.value for v in own.trainable_variables], *map(jax.numpy.asarray, (x, d_y))
    compiled = gradients.lower(weights, x, d_y).compile()
    run = lambda: jax.block_until_ready(compiled(weights, x, d_y))[1][0]  # noqa: E731
    return run, lambda: compiled.memory_analysis().temp_size_in_bytes


def keras_scope(cell, weights):
    """In which the variables of a cell are `weights`."""
    import keras

    return keras.StatelessScope(state_mapping=list(zip(cell.trainable_variables, weights)))


def in_tensorflow(variant, layer, cell, x, d_y):
    """As `in_jax`."""
    import keras
    import tensorflow as tf

    def rnn(**options):
        return keras.layers.RNN(cell, return_sequences=True, **options)

    if variant == "keras":
        called = rnn()
    elif variant in ("checkpoint", "scope"):
        inner = rnn(return_state=True)

        class Segment(keras.layers.Layer):
            def call(self, part, *state):
                return inner(part, initial_state=list(state))

        with keras.RematScope("full"):
            scoped = Segment()
        again = (
            scoped
            if variant == "scope"
            else keras.remat(lambda *given: inner(given[0], initial_state=given[1:]))
        )

        def called(x, training):
            state, found = list(cell.get_initial_state(batch_size=len(x))), []
            for part in tf.split(x, segments()[0], axis=1):
                y, *state = again(part, *state)
                found.append(y)
            return tf.concat(found, axis=1)
    else:
        called = layer
    own = layer if called is layer else cell

    @tf.function(jit_compile=True)
    def gradients(x, d_y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = called(x, training=True)
        weights = [v.value for v in own.trainable_variables]
        return y, tape.gradient(y, [x, *weights], d_y)

    x, d_y = tf.constant(x), tf.constant(d_y)
    run = lambda: [d.numpy() for d in gradients(x, d_y)[1][1:]]  # noqa: E731

    def temporary():
        # XLA on TensorFlow does not tell, but it writes which buffers a module has.
        found = pathlib.Path(os.environ["DUMPS"]).glob("*buffer-assignment*")
        sizes = [re.findall(r"size (\d+), preallocated-temp", x.read_text()) for x in found]
        return max(sum(map(int, some)) for some in sizes)

    return run, temporary


def main():
    """Prints the table."""
    if os.environ.get("DUMPS"):
        print(json.dumps(measured(*FLAGS.variants)))
        return
    slots = f", {FLAGS.slots} slots" if FLAGS.model == "ntm" else ""
    print(
        f"## {FLAGS.model.upper()} {FLAGS.units}{slots}, batch {FLAGS.batch}, {FLAGS.features} "
        f"features, {FLAGS.length} steps, float32, {FLAGS.backend}, one thread\n\n"
        "| variant | planned MB | XLA MB | of plain | process MB | forwards a step | CPU s "
        "| x plain | length of gradient |\n|---|---|---|---|---|---|---|---|---|"
    )
    plain = None
    for variant in FLAGS.variants:
        options = [f"--{k}={v}" for k, v in vars(FLAGS).items() if k != "variants"]
        with tempfile.TemporaryDirectory() as dumps:
            flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            if FLAGS.backend == "tensorflow":
                flags = f"--xla_cpu_multi_thread_eigen=false --xla_dump_to={dumps}"
            told = subprocess.run(
                [sys.executable, __file__, *options, "--variants", variant],
                env={
                    **os.environ,
                    "DUMPS": dumps,
                    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
                    "TF_NUM_INTRAOP_THREADS": "1",
                },
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
        found = json.loads(told.splitlines()[-1])
        plain = plain or found
        number = lambda x, digits: "" if x is None else f"{x:.{digits}f}"  # noqa: E731
        print(
            f"| {variant}{' %' if found['planned'] else ''} "
            f"| {number(found['planned'] and found['planned'] / 1e6, 1)} "
            f"| {found['temporary'] / 1e6:.1f} "
            f"| {100 * found['temporary'] / plain['temporary']:.1f} % "
            f"| {found['process'] / 1e6:.0f} "
            f"| {number(found['forwards'], 3)} "
            f"| {found['seconds']:.2f} "
            f"| {found['seconds'] / plain['seconds']:.2f} "
            f"| {found['length_of_gradient']:.6g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
