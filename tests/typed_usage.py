"""A program of a user, which `make lint` has mypy read; nobody runs it.

Where a call is wrong mypy must say so: a `type: ignore` that nothing needs is an error.
"""

import keras
import numpy as np
from ponderzoo import layers, trainers, zoo
from ponderzoo.export.client import Client
from ponderzoo.layers.act import ACT
from ponderzoo.layers.ctc_loss import CTCLoss
from ponderzoo.layers.ctc_search import ctc_prefix_search
from ponderzoo.layers.ntm import NTM
from ponderzoo.layers.peephole_lstm import DeepLSTM


def build(units: int) -> keras.Model:
    sequence = keras.Input((None, 3))
    hidden = ACT(keras.layers.LSTMCell(units), time_penalty=0.01, name="act")(sequence)
    hidden = NTM(memory_slots=8, controller=[keras.layers.LSTMCell(units)], dtype="float32")(hidden)
    hidden = DeepLSTM(units, 2, kernel_initializer="zeros")(hidden)
    layers.GridLSTM(units)
    ACT(max_ponder=3)  # type: ignore[call-arg]
    DeepLSTM(units, layers="two")  # type: ignore[arg-type]
    return keras.Model(sequence, hidden)


def train(folder: str) -> float:
    task: trainers.Task = trainers.task("parity", bits=8)
    keras.Sequential().compile(loss=CTCLoss(reduction=None))
    CTCLoss(blank="0")  # type: ignore[arg-type]
    measured = trainers.fit(lambda: build(8), task, {"updates": 100}, folder)
    trainers.fit(build(8), task, {}, folder)  # keras has no types, so this is not found
    trainers.fit(task, task, {}, folder)  # type: ignore[arg-type]
    return float(measured["error"])


def ask(address: str) -> list[tuple[list[int], float]]:
    name: str = zoo.list(task="parity")[0]
    zoo.load(1)  # type: ignore[arg-type]
    print(zoo.info(name).paper.title, zoo.task_of(zoo.info(name)).name)
    with Client(address, retries=2) as client:
        found = client.predict(name, {"bits": np.zeros((1, 8), "int32")}, version=1)
        client.predict(name, [1, 2])  # type: ignore[arg-type]
    return ctc_prefix_search(found["logits"], [3], threshold=0.99)
