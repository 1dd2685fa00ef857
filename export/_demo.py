"""The main job, `make demo`: entries of ACT in packages, asked by gRPC; sums last, and most."""

import os
import shutil
import sys
import time

import grpc
import numpy as np

from .commands import _command

NAME = "act_addition"
SOLVED = "act_parity", "act_logic"
DIRECTORY = os.path.join("runs", "demo")
SUMS = (
    "2 3",
    "25 17",
    "7 8 9",
    "99999 1",
    "381 4 99",
    "1234 8766 5",
    "10000 2000 300 40 5",
    "3 14 159 2653 58979",
    "27182 81828 45904 52353 60287",
)
DRAWN = 4
GREEN, RED, FAINT = 32, 31, 2


def main():
    """Exit codes: 0 the whole path works, 1 `error: ...` in one line."""
    start = time.monotonic()
    try:
        _command.import_backend("all")
        from .. import zoo

        solved()
        demo(zoo.load(NAME))
    except _command.ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Finished  after {time.monotonic() - start:.0f} seconds")
    return 0


def solved(directory=DIRECTORY, names=SOLVED):
    """Packages and serves entries that solve their tasks, and asks them their examples."""
    from .. import zoo
    from .server._server import Server

    notations = {}
    for name in names:
        entry = zoo.info(name)
        task = zoo.task_of(entry)
        notations[name] = entry.notation(task)["serve"]
        path = _package(zoo.load(name), entry, task, directory)
        print(f"Package   {os.path.relpath(path)}", flush=True)
    with Server(directory) as server:
        for name, notation in notations.items():
            print(f"\nAsked     {name}, whose error on {_tested(name)}\n")
            inputs = notation.read(notation.example)
            for table in notation.show(inputs, _ask(server.address, name, inputs)):
                print(f"{_coloured(table)}\n")


def _package(model, entry, task, directory):
    """The path of a package that tells what the zoo does, in place of those of an earlier demo."""
    from ._package import package

    shutil.rmtree(os.path.join(directory, entry.name), ignore_errors=True)
    return package(
        model,
        entry.signatures(model, task),
        entry.name,
        directory,
        card=entry.card or None,
        figures=entry.figures,
        entry=entry.origin(task),
    )


def _tested(name):
    from .. import zoo

    entry = zoo.info(name)
    rows, metrics = entry.train.get("evaluation_rows", 10_000), entry.metrics
    return f"{rows:,} rows was {metrics['error']:.2%}, with {metrics['ponder']:.1f} updates a step"


def demo(model, directory=DIRECTORY, rows=1000):
    """Packages and serves a model of `act_addition`, and asks it `SUMS` and some random ones.

    Args:
        model: `keras.Model`.
        directory: where the package and `ponder.png` go, in place of those of an earlier demo.
        rows: how many random sums.

    Raises:
        RuntimeError: the server answers otherwise than the model itself.
    """
    from .. import zoo
    from ..zoo.signatures.addition import running_sums
    from .server._server import Server

    entry = zoo.info(NAME)
    task = zoo.task_of(entry)
    notation = entry.notation(task)["serve"]
    sums = [line.split() for line in SUMS] + _random_sums(task, rows)

    print(f"Model     {NAME}, {model.count_params():,} parameters", flush=True)
    path = _package(model, entry, task, directory)
    print(f"Package   {os.path.relpath(path)}, loaded and run as TensorFlow Serving does")
    with Server(directory) as server:
        print(f"Server    {server.address}, gRPC, PredictionService.Predict\n")
        inputs = notation.read([" ".join(numbers) for numbers in sums])
        outputs = _ask(server.address, NAME, inputs)
    tables = notation.show(inputs, outputs)
    for table in tables[: len(SUMS)]:
        print(f"{_coloured(table)}\n")

    given = np.vectorize(bytes.decode, otypes=[object])(outputs["sums"])
    answers, updates = _rows(sums, given, outputs["updates"])
    right = [given == running_sums(numbers) for numbers, given in zip(sums, answers)]
    shown, rest = right[: len(SUMS)], right[len(SUMS) :]
    print(
        f"Right     {sum(shown)} of these {len(shown)}, {sum(rest):,} of {len(rest):,} random sums"
    )
    own = _predict(model, task, sums)
    same = sum(pair == served for pair, served in zip(zip(*own), zip(answers, updates)))
    print(f"Same      {same:,} of all {len(sums):,} as the Keras model answers and ponders itself")
    picture = os.path.join(directory, "ponder.png")
    _draw(sums, answers, updates, right).savefig(picture)
    print(f"Picture   {os.path.relpath(picture)}")
    program = os.path.relpath(os.path.join(os.path.dirname(sys.executable), "ponderzoo"))
    print(f"Curves    {program} tensorboard {NAME}")
    print(f"Stopped   the server on {server.address}")
    # Rounding may decide between two logits that are as good as equal.
    if same < 0.999 * len(sums):
        raise RuntimeError(
            f"{len(sums) - same} answers differ from those of the Keras model itself"
        )


def _random_sums(task, count):
    """Sums of 2 numbers or more, drawn as the task draws them."""
    rng = np.random.default_rng(0)

    def number():
        return "".join(map(str, rng.integers(0, 10, rng.integers(1, task.digits + 1))))

    return [[number() for _ in range(rng.integers(2, task.numbers + 1))] for _ in range(count)]


def _ask(address, name, inputs):
    """The outputs of the signature `serve`, from the server."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = "serve"
    for key, array in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=60).outputs
    return {name: tf.make_ndarray(proto) for name, proto in outputs.items()}


def _predict(model, task, sums):
    """The same from the model in this process, without package and server."""
    from ..trainers.tasks.addition import ENDED, ONE_HOT

    places = np.full((len(sums), max(map(len, sums)), task.digits), ENDED)
    for row, numbers in enumerate(sums):
        for step, number in enumerate(numbers):
            places[row, step, : len(number)] = [int(digit) for digit in number]
    sequence = ONE_HOT[places].reshape(*places.shape[:2], -1)
    lengths = np.array([len(numbers) for numbers in sums], "int32")
    outputs = model({"sequence": sequence, "lengths": lengths})
    written = np.array([*"0123456789", ""], object)[np.argmax(outputs["sum"], axis=-1)]
    return _rows(sums, written.sum(axis=-1), np.asarray(outputs["updates"]))


def _rows(sums, given, updates):
    """Of padded arrays what belongs to each row: its running sums and its updates, as lists."""
    lengths = [len(numbers) for numbers in sums]
    given = [row[1:length].tolist() for row, length in zip(given, lengths)]
    updates = [row[:length].astype(int).tolist() for row, length in zip(updates, lengths)]
    return given, updates


def _coloured(table):
    """A table with its verdict in colour, and the updates faint."""
    lines = table.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("updates"):
            lines[number] = _paint(line, FAINT)
        for word, colour in (("right", GREEN), ("wrong", RED)):
            if line.endswith(word):
                lines[number] = line.removesuffix(word) + _paint(word, colour)
    return "\n".join(lines)


def _paint(text, colour):
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\033[{colour}m{text}\033[0m"


def _draw(sums, answers, updates, right):
    """Updates on each number of the last of `SUMS`, and their mean by digits over all sums."""
    from matplotlib.ticker import MaxNLocator

    from ..trainers.figures._panels import COLOURS, GREY, subplots

    figure, (bars, curve) = subplots(1, 2, size=(13, 4.4), width_ratios=[2.4, 1], sharey=True)
    drawn = range(len(SUMS) - DRAWN, len(SUMS))
    highest = max(max(updates[row]) for row in drawn)
    labels = {}
    for row in drawn:
        here = len(labels) + np.arange(len(sums[row])) + 1.0 * (row - drawn[0])
        labels |= zip(here, sums[row])
        bars.bar(here, updates[row], color=COLOURS[0], width=0.76)
        for place, count in zip(here, updates[row]):
            bars.text(place, count, count, color=GREY, ha="center", va="bottom", size=8)
        told = f"sum {answers[row][-1]}\n{'right' if right[row] else 'wrong'}"
        place = here.mean(), 1.16 * highest
        colour, white = COLOURS[2 if right else 1], {"color": "white", "pad": 1}
        bars.text(*place, told, color=colour, ha="center", va="bottom", bbox=white)
    bars.set_xticks([*labels], [*labels.values()])
    bars.tick_params(axis="x", length=0, labelsize=8)
    bars.set(xlabel="numbers of four sums", ylabel="updates N", ylim=(0, 1.38 * highest))
    bars.yaxis.set_major_locator(MaxNLocator(integer=True))

    first = [(len(numbers[0]), n[0]) for numbers, n in zip(sums, updates)]
    later = [pair for row, n in zip(sums, updates) for pair in zip(map(len, row[1:]), n[1:])]
    for colour, name, pairs in ((GREY, "first", first), (COLOURS[0], "later", later)):
        digits, spent = np.array(pairs).T
        levels = np.unique(digits)
        groups = [spent[digits == level] for level in levels]
        mean, spread = (np.array([*map(of, groups)]) for of in (np.mean, np.std))
        curve.fill_between(levels, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        curve.plot(levels, mean, color=colour, marker="o", markersize=4, label=f"{name} numbers")
    curve.set(xlabel="digits of a number (mean ± standard deviation)")
    curve.set_xticks(levels)
    curve.legend(frameon=False, loc="upper left")
    return figure


if __name__ == "__main__":
    sys.exit(main())
