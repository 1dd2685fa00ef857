"""16 images of DRAW, asked for by gRPC of a server without XLA that has one core and no weights.

CPU milliseconds of client and server together, and those of the clock, medians of all rounds: of
the entries as they are registered, and with the steps and the patches of the paper.
"""

import argparse
import os
import statistics
import tempfile
import time

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--rounds", type=int, default=15)
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np  # noqa: E402
from ponderzoo import zoo  # noqa: E402
from ponderzoo.export._package import package  # noqa: E402
from ponderzoo.export.client import Client  # noqa: E402
from ponderzoo.export.server._server import Server  # noqa: E402

PAPER = {"steps": 64, "latent_size": 100, "read_patch": 2, "write_patch": 5}
ASKED = {"draw_digits": {}, "draw_digits, the paper's": PAPER, "draw_digits_whole": {}}


def main():
    print("| model | CPU ms | ms |\n|---|---|---|")
    for name, changes in ASKED.items():
        entry = zoo.info(name.partition(",")[0])
        task = zoo.task_of(entry)
        model = zoo.build(entry.name, **changes)
        with tempfile.TemporaryDirectory() as home:
            package(model, entry.signatures(model, task), "draw", home)
            with Server(home) as server, Client(server.address) as client:
                print(f"| {name} | {' | '.join(f'{x:.0f}' for x in _asked(client))} |", flush=True)


def _asked(client):
    found = []
    for number in range(FLAGS.rounds):
        seeds = {"seed": np.arange(16, dtype="int32") + 16 * number}
        start, since = time.process_time(), time.perf_counter()
        client.predict("draw", seeds, "generate")
        found.append((time.process_time() - start, time.perf_counter() - since))
    return [1e3 * statistics.median(some) for some in zip(*found)]


main()
