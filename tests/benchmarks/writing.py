"""Whether lines that a network writes can be read, and whose hand they are in.

    python tests/benchmarks/writing.py [--writer NAME-or-RUN] [--reader NAME-or-RUN] [--lines 100]

Texts and hands are those of the test split. The reader is a network of CTC that knows other hands;
what it misreads of real lines is said beside what it misreads of written ones, at each bias. Hands
are told apart by `trainers/_writers.py`, from the lines of the test split that prime nothing; its
error on the primes themselves stands beside the share of written lines that it takes for those of
the hand that primed them, and of unprimed ones, which should be chance.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--writer", default="handwriting_synthesis")
PARSER.add_argument("--reader", default="blstm_ctc_handwriting")
PARSER.add_argument("--lines", type=int, default=100, help="at each bias, and primed")
PARSER.add_argument("--seed", type=int, default=1)
FLAGS = PARSER.parse_args()

import numpy as np  # noqa: E402
from ponderzoo.trainers._evaluate import outputs_of  # noqa: E402
from ponderzoo.trainers._writers import Writers  # noqa: E402
from ponderzoo.trainers._writing import written  # noqa: E402
from ponderzoo.trainers.tasks._pen import scaled  # noqa: E402
from ponderzoo.zoo._trained import Trained  # noqa: E402

BIASES = 0.0, 0.5, 1.0, 2.0
PATIENCE = 3  # times the points of the real line, after which writing is given up


def misread(reader, task, points, texts):
    """The share of characters that a reader gets wrong."""
    (metric,) = task.metrics()["text"]
    for first in range(0, len(points), 50):
        some, truths = points[first : first + 50], texts[first : first + 50]
        lengths = np.array([len(row) for row in some], "int32")
        inputs = {"points": np.zeros((len(some), lengths.max(), 3), "float32"), "lengths": lengths}
        target = np.full((len(some), max(map(len, truths))), -1, "int32")
        for place, (row, truth) in enumerate(zip(some, truths)):
            inputs["points"][place, : len(row)] = row
            target[place, : len(truth)] = truth
        metric.update_state(target, outputs_of(reader, inputs)["text"])
    return float(metric.result())


def main():
    writer, reader = Trained.find(FLAGS.writer), Trained.find(FLAGS.reader)
    network, eyes, task = writer.load(), reader.load(), writer.task
    lines = task.lines("test")[: FLAGS.lines]
    texts = [task.symbols(line.text) for line in lines]
    real = [scaled(line.points, task.offsets) for line in lines]
    most = [PATIENCE * len(points) for points in real]
    print(f"{len(lines)} lines of the test split of {task.corpus}, seed {FLAGS.seed}\n")
    print("| lines | ended by the window | within 1.5 times the points | characters misread |")
    print("|---|---|---|---|")
    print(f"| real |  |  | {misread(eyes, reader.task, real, texts):.1%} |")
    for bias in BIASES:
        points, ended = written(network, texts, bias, FLAGS.seed, most)
        beside = np.array([len(row) for row in points]) / [len(row) for row in real]
        wrong = misread(eyes, reader.task, points, texts)
        in_time = np.mean(ended & (beside <= 1.5))
        print(f"| bias {bias:g} | {np.mean(ended):.1%} | {in_time:.1%} | {wrong:.1%} |", flush=True)

    everyone = task.lines("test")
    names = sorted({line.writer for line in everyone})
    each = max(1, FLAGS.lines // len(names))
    primes = [x for name in names for x in [y for y in everyone if y.writer == name][:each]]
    chosen = {line.name for line in primes}
    others = [line for line in everyone if line.name not in chosen]
    hands = Writers([scaled(x.points, task.offsets) for x in others], [x.writer for x in others])
    given = [scaled(line.points, task.offsets) for line in primes]
    whose = [line.writer for line in primes]
    fresh = [others[i % len(others)] for i in range(0, 7 * len(primes), 7)]
    new = [task.symbols(line.text) for line in fresh]
    limits = [PATIENCE * len(line.points) for line in fresh]
    behind = [np.concatenate([task.symbols(f"{p.text} "), text]) for p, text in zip(primes, new)]
    print(f"\n{len(primes)} lines that prime, of {len(names)} hands\n")
    print("| lines | taken for the hand that primed | characters misread |")
    print("|---|---|---|")
    print(f"| the primes | {1 - hands.error(given, whose):.1%} |  |")
    for bias in BIASES[1:3]:
        for name, (given_texts, prime) in {
            "primed": (behind, given),
            "unprimed": (new, None),
        }.items():
            points, _ = written(network, given_texts, bias, FLAGS.seed, limits, prime)
            kept = [place for place, row in enumerate(points) if len(row) > 1]
            points = [points[place] for place in kept]
            alike = 1 - hands.error(points, [whose[place] for place in kept])
            wrong = misread(eyes, reader.task, points, [new[place] for place in kept])
            print(f"| {name}, bias {bias:g} | {alike:.1%} | {wrong:.1%} |", flush=True)


if __name__ == "__main__":
    main()
