"""Backpropagation through time within a budget of memory: bytes and time of an LSTM.

Each variant runs in a process of its own, on JAX, one thread: XLA's own account of the memory that
the gradient takes beside what goes in and comes out, the largest that the process ever was, and the
least CPU seconds of some rounds.

    plain        `layers.PeepholeLSTM` without peepholes
    5 % ...      the same with a `memory_budget` of that share of what the plan counts for plain
    checkpoint   the same LSTM as two nested `jax.lax.scan`, the inner one under `jax.checkpoint`,
                 with segments of the square root of the length (Chen et al., 2016)
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--length", type=int, default=1000)
PARSER.add_argument("--units", type=int, default=256)
PARSER.add_argument("--batch", type=int, default=32)
PARSER.add_argument("--features", type=int, default=64)
PARSER.add_argument("--rounds", type=int, default=5)
PARSER.add_argument("--shares", type=float, nargs="*", default=[5, 3, 1], help="budgets, in %%")
PARSER.add_argument("--variant", help="measure this one alone, in this process")
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "jax"


def measured(variant):
    """Bytes and seconds of a variant, and its plan."""
    import jax
    import keras
    import numpy as np
    from keras import ops
    from ponderzoo.layers import PeepholeLSTM, plan_memory

    keras.utils.set_random_seed(0)
    length, units, batch, features = FLAGS.length, FLAGS.units, FLAGS.batch, FLAGS.features
    draw = np.random.default_rng(0).standard_normal
    x = jax.numpy.asarray(draw((batch, length, features)), "float32")
    d_y = jax.numpy.asarray(draw((batch, length, units)), "float32")
    # As `_budgeted.py` counts them: copies of a block's input, answers and cotangents; the rows
    # that enter, the gates, the cells and the cotangents of the rows.
    hidden, internal = 8 * batch * units, 4 * batch * (2 * features + 15 * units)
    plan = None
    if variant not in ("plain", "checkpoint"):
        plan = plan_memory(length, hidden, internal, int(float(variant) * length * internal / 100))
    layer = PeepholeLSTM(units, peepholes=False, memory_budget=plan and plan.bytes)
    layer.build(x.shape)
    fixed = [v.value for v in layer.non_trainable_variables]
    weights = [v.value for v in layer.trainable_variables]

    def outputs(weights, x):
        if variant != "checkpoint":
            return layer.stateless_call(weights, fixed, x, training=True)[0]
        kernel, recurrent, bias = weights

        def step(state, x):
            h, c = state
            i, f, g, o = ops.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
            c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            return (h, c), h

        segments = max(n for n in range(1, int(length**0.5) + 1) if length % n == 0)
        x = ops.transpose(x, (1, 0, 2)).reshape(segments, length // segments, batch, features)
        start = (jax.numpy.zeros((batch, units)),) * 2
        segment = jax.checkpoint(lambda state, x: jax.lax.scan(step, state, x), prevent_cse=False)
        _, h = jax.lax.scan(segment, start, x)
        return ops.transpose(h.reshape(length, batch, units), (1, 0, 2))

    @jax.jit
    def run(weights, x, d_y):
        y, pull = jax.vjp(outputs, weights, x)
        return y, pull(d_y)

    temporary = run.lower(weights, x, d_y).compile().memory_analysis().temp_size_in_bytes
    answer, seconds = jax.block_until_ready(run(weights, x, d_y)), []
    for _ in range(FLAGS.rounds):
        start = time.process_time()
        jax.block_until_ready(run(weights, x, d_y))
        seconds.append(time.process_time() - start)
    gradient = np.concatenate([np.ravel(d) for d in jax.tree.leaves(answer[1][0])])
    return {
        "temporary": temporary,
        "process": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "seconds": min(seconds),
        "forwards": plan.forwards_per_step if plan else None,
        "planned": plan.bytes if plan else None,
        "length_of_gradient": float(np.linalg.norm(gradient)),
    }


def main():
    """Prints the table."""
    if FLAGS.variant:
        print(json.dumps(measured(FLAGS.variant)))
        return
    print(
        f"## LSTM {FLAGS.units}, batch {FLAGS.batch}, {FLAGS.features} features, {FLAGS.length} "
        "steps, float32, jax, one thread\n\n"
        "| variant | planned MB | XLA MB | of plain | process MB | forwards a step | CPU s "
        "| x plain | length of gradient |\n|---|---|---|---|---|---|---|---|---|"
    )
    plain = None
    for variant in ["plain", *(f"{share:g}" for share in FLAGS.shares), "checkpoint"]:
        options = [f"--{k}={getattr(FLAGS, k)}" for k in ("length", "units", "batch", "features")]
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        told = subprocess.run(
            [sys.executable, __file__, *options, f"--rounds={FLAGS.rounds}", "--variant", variant],
            env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        found = json.loads(told.splitlines()[-1])
        plain = plain or found
        name = variant if plain is found or variant == "checkpoint" else f"{variant} %"
        print(
            f"| {name} "
            f"| {'' if found['planned'] is None else round(found['planned'] / 1e6, 1)} "
            f"| {found['temporary'] / 1e6:.1f} "
            f"| {100 * found['temporary'] / plain['temporary']:.1f} % "
            f"| {found['process'] / 1e6:.0f} "
            f"| {'' if found['forwards'] is None else round(found['forwards'], 3)} "
            f"| {found['seconds']:.2f} "
            f"| {found['seconds'] / plain['seconds']:.2f} "
            f"| {found['length_of_gradient']:.6g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
