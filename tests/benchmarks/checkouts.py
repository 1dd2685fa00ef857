"""Kernels of this checkout against those of another one, as ratios, step by step in turn.

    python tests/benchmarks/checkouts.py OTHER [--backend jax] [--graph] [--cases ntm,grid]

OTHER is a clone with an environment of its own in `.venv`. Each checkout has a process; both take
their turns at each kernel, forward and a training step, and first quartiles of CPU time are
compared: what disturbs only adds.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NAMES = "ntm,associative,peephole,peephole_masked,grid,grid_image,act,ctc,transducer"


def cases():
    """Name -> (what gives the layer, its input's shape, whether half of the steps are masked)."""
    import keras
    from ponderzoo import layers

    memory = {"memory_slots": 128, "word_size": 20, "return_sequences": True}
    act = {"max_ponder": 10, "return_sequences": True}
    return {
        "ntm": (lambda: layers.NTM(100, **memory), (16, 41, 10), False),
        "associative": (
            lambda: layers.AssociativeLSTM(128, copies=4, return_sequences=True),
            (16, 60, 10),
            False,
        ),
        "peephole": (lambda: layers.PeepholeLSTM(128, bidirectional=True), (16, 240, 39), False),
        "peephole_masked": (
            lambda: layers.PeepholeLSTM(128, bidirectional=True),
            (16, 240, 39),
            True,
        ),
        "grid": (lambda: layers.GridLSTM(100, layers=8), (16, 42, 20), False),
        "grid_image": (lambda: layers.GridLSTM(50, layers=2, tied=False), (8, 14, 14, 16), False),
        "act": (lambda: layers.ACT(keras.layers.LSTMCell(64), **act), (16, 20, 10), True),
        "ctc": (None, (16, 200, 40), False),
        "transducer": (None, (4, 100, 21, 40), False),
    }


def functions(name, compiled):
    """The compiled forward pass and training step of a case, and their input."""
    import keras
    import numpy as np
    import timing
    from keras import ops
    from ponderzoo import layers

    make, shape, masked = cases()[name]
    rng = np.random.default_rng(0)
    x = ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
    labels = rng.integers(1, shape[-1], (shape[0], 20)).astype("int32")
    lengths = (np.full(shape[0], n, "int32") for n in (shape[1], 20))
    mask = np.arange(shape[1]) < rng.integers(shape[1] // 2, shape[1] + 1, (shape[0], 1))

    @keras.saving.register_keras_serializable(package="benchmarks")
    class Model(keras.layers.Layer):
        """A layer under its mask, or a loss of scaled logits."""

        def __init__(self):
            super().__init__()
            keras.utils.set_random_seed(0)
            self.inner = make() if make else None
            self.scale = self.add_weight((), "ones", name="scale")

        def call(self, x, training=False):
            if self.inner is None:
                loss = layers.ctc_loss if name == "ctc" else layers.transducer_loss
                return loss(x * self.scale.value, labels, *given)
            return self.inner(x, training=training, **({"mask": mask} if masked else {}))

    given, model = tuple(lengths), Model()
    model(x)
    forward = compiled(lambda x: ops.sum(ops.square(model(x))))
    return (forward, timing.train_step(model, compiled)), x


def serve(names, graph):
    """Answers each line, the number of a function, with its CPU milliseconds."""
    import timing

    compiled = timing.compiled
    if graph:
        import tensorflow as tf

        compiled = tf.function
    ready = []
    for name in names:
        both, x = functions(name, compiled)
        for function in both:
            function(x), function(x)
            ready.append((function, x))
    print("ready", flush=True)
    for line in sys.stdin:
        function, x = ready[int(line)]
        print(timing.milliseconds(function, x), flush=True)


def start(checkout, arguments):
    python = os.path.join(checkout, ".venv", "bin", "python")
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = {**os.environ, "KERAS_BACKEND": arguments.backend, "XLA_FLAGS": flags}
    command = [python, str(HERE / "checkouts.py"), checkout, "--serve", "--cases", arguments.cases]
    command += ["--graph"] if arguments.graph else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    while (line := process.stdout.readline().strip()) != "ready":
        if not line and process.poll() is not None:
            raise SystemExit(f"{checkout} did not start")
    return process


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", help="the other checkout")
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--graph", action="store_true", help="TensorFlow's graphs without XLA")
    parser.add_argument("--cases", default=NAMES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.cases.split(","), arguments.graph)
    names = arguments.cases.split(",")
    processes = [start(place, arguments) for place in (arguments.other, str(HERE.parents[1]))]
    print("| kernel | there, ms | here, ms | ratio |\n| --- | --- | --- | --- |")
    for number in range(2 * len(names)):
        times = ([], [])
        for turn in range(arguments.rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                processes[which].stdin.write(f"{number}\n")
                processes[which].stdin.flush()
                times[which].append(float(processes[which].stdout.readline()))
        there, here = (statistics.quantiles(some, n=4)[0] for some in times)
        what = names[number // 2] + ("", " training")[number % 2]
        print(f"| {what} | {there:.2f} | {here:.2f} | {here / there:.3f} |", flush=True)
    for process in processes:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
