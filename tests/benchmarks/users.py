"""Speech layers where users are: in TensorFlow's graphs and under XLA, against PyTorch.

    python tests/benchmarks/users.py [--rounds 9]

Keras trains on a CPU without XLA (`jit_compile="auto"`), and the stock server has none. One
process, one thread each, interleaved rounds; medians of CPU milliseconds of the process. `x torch`
is torch's time over ours: above 1 ours is faster. torch is no dependency: without it (`pip install
torch`) the columns of ratios stay empty. Its LSTM has no peepholes, ours has, and its CTC loss
takes lengths.

    ctc        loss and gradient of 1 row of 300 frames, 27 labels of 40 classes
    blstm      100 units both ways, 123 features, 300 frames, CTC of 27 labels: a training step
    deep       5 layers of 250 units both ways, 1 row of 300 frames: forward, and a training step
    package    what `export deep_ctc_phonemes` writes, one row of audio, against the same net in
               torch on the features
"""

import argparse
import os
import statistics
import tempfile

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--rounds", type=int, default=9)
FLAGS = PARSER.parse_args()

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", OMP_NUM_THREADS="1")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import timing  # noqa: E402
from ponderzoo import zoo  # noqa: E402
from ponderzoo.layers import CTCLoss, DeepLSTM  # noqa: E402

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None

FRAMES, LABELS, CLASSES = 300, 27, 40
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def labels_of(batch):
    return RNG.integers(1, CLASSES, (batch, LABELS)).astype("int32")


def in_both(step):
    return {"graph": tf.function(step), "XLA": tf.function(step, jit_compile=True)}


def ctc():
    logits, labels = draw(1, FRAMES, CLASSES), labels_of(1)
    loss = CTCLoss()

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(labels, x)
        return tape.gradient(value, x)

    def theirs(x):
        x = torch.tensor(logits, requires_grad=True)
        torch_ctc(x, labels).backward()
        return x.grad.numpy()

    return in_both(step), tf.constant(logits), theirs


def torch_ctc(logits, labels):
    lengths = [torch.full((len(labels),), n) for n in (FRAMES, LABELS)]
    rows = torch.log_softmax(logits, -1).transpose(0, 1)
    return torch.nn.functional.ctc_loss(rows, torch.tensor(labels.astype("int64")), *lengths)


def net(batch, features, units, layers, train, loss):
    """A deep BLSTM with a layer of classes above it."""
    x, labels = draw(batch, FRAMES, features), labels_of(batch)
    inner, out = DeepLSTM(units, layers, bidirectional=True), keras.layers.Dense(CLASSES)
    model = keras.Sequential([keras.Input((FRAMES, features)), inner, out])
    cost = CTCLoss() if loss else lambda _, y: tf.reduce_mean(tf.square(y))
    weights = [v.value for v in model.trainable_variables]

    def step(x):
        with tf.GradientTape() as tape:
            value = cost(labels, model(x, training=True))
        return tape.gradient(value, weights)

    def theirs():
        lstm = torch.nn.LSTM(features, units, layers, batch_first=True, bidirectional=True)
        last, given = torch.nn.Linear(2 * units, CLASSES), torch.tensor(x)

        def forward(_):
            with torch.no_grad():
                return last(lstm(given)[0]).numpy()

        def step(_):
            lstm.zero_grad(), last.zero_grad()
            y = last(lstm(given)[0])
            (torch_ctc(y, labels) if loss else y.square().mean()).backward()
            return last.bias.grad.numpy()

        return step if train else forward

    ours = step if train else lambda x: model(x, training=False)
    return in_both(ours), tf.constant(x), theirs() if torch else None


def package():
    """The exported net in a graph, from audio to phonemes."""
    from ponderzoo.export._package import package as write

    entry, model = zoo.info("deep_ctc_phonemes"), zoo.load("deep_ctc_phonemes")
    task = zoo.task_of(entry)
    signatures = entry.signatures(model, task)
    sample = {**signatures["serve"].sample}
    sample["audio"] = 0.1 * draw(1, 3 * task.rate)  # 3 s are 300 frames
    sample["lengths"], sample["rate"] = np.array([3 * task.rate], "int32"), sample["rate"][:1]
    with tempfile.TemporaryDirectory() as folder:
        served = tf.saved_model.load(write(model, signatures, entry.name, folder))
    serve = served.signatures["serve"]
    inputs = {key: tf.constant(value) for key, value in sample.items()}
    theirs = None
    if torch:
        units, depth = entry.config["units"], entry.config["layers"]
        _, _, theirs = net(1, 123, units, depth, False, False)
    return {"graph": lambda _: serve(**inputs)}, None, theirs


CASES = {
    "ctc": ctc,
    "blstm, 1 row": lambda: net(1, 123, 100, 1, True, True),
    "blstm, 20 rows": lambda: net(20, 123, 100, 1, True, True),
    "deep, training": lambda: net(1, 123, 250, 5, True, False),
    "deep, forward": lambda: net(1, 123, 250, 5, False, False),
    "package": package,
}


def main():
    print("| case | graph, ms | XLA, ms | torch, ms | graph x torch | XLA x torch |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, make in CASES.items():
        functions, x, theirs = make()
        functions = {**functions, "torch": theirs} if torch else functions
        times = {key: [] for key in functions}
        for _ in range(FLAGS.rounds + 2):
            for key, function in functions.items():
                times[key].append(timing.milliseconds(function, x))
        found = {key: statistics.median(some[2:]) for key, some in times.items()}
        cells = [f"{found[key]:.1f}" if key in found else "" for key in ("graph", "XLA", "torch")]
        for key in ("graph", "XLA"):
            both = key in found and "torch" in found
            cells.append(f"{found['torch'] / found[key]:.2f}" if both else "")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
