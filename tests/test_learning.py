"""What every way of learning keeps: a killed run loses nothing, and averages become the weights."""

import importlib
import json
import os
import signal

import keras
import numpy as np
import pytest
from ponderzoo.trainers import _rooms, learning
from ponderzoo.trainers._events import EVENTS
from ponderzoo.trainers._files import read_arrays, read_json
from ponderzoo.trainers._run import Run
from test_fit import assert_same_weights

# The files with a small run of each, `run(directory, **changes)`, and the update behind which it is
# killed: within an epoch, and not the first one.
WAYS = {
    "actor_critic": ("test_actor_critic", 5),
    "q_learning": ("test_q_learning", 25),
    "supervised": ("test_fit", 55),
    "syllabus": ("test_syllabus", 37),
    "truncated_bptt": ("test_generation", 5),
}
ON_JAX = "q_learning", "supervised", "syllabus"
TIMED = {
    "commit",
    "minutes",
    "cpu_minutes",
    "examples_per_second",
    "data_share",
    "hardware",
    "train",
}

START = """
import importlib, os, signal, sys
from ponderzoo.trainers import _run
from ponderzoo.trainers._callbacks import StopAtNaN

file, directory, moment = sys.argv[1:]
updates, told = 0, StopAtNaN.on_train_batch_end

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def count(self, *given, **named):
    global updates
    updates += 1
    told(self, *given, **named)
    if str(updates) == moment:
        die()

StopAtNaN.on_train_batch_end = count
if moment == "measured":  # and about to write the metrics
    _run.facts = die
importlib.import_module(file).run(directory)
"""


def test_no_way_is_left_out():
    assert sorted(WAYS) == _rooms.names(learning.__name__)


@pytest.mark.parametrize(
    ("way", "backend"),
    [*((way, "tensorflow") for way in WAYS), *((way, "jax") for way in ON_JAX)],
)
def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(way, backend, fresh, tmp_path):
    (file, update), broken, unbroken = WAYS[way], tmp_path / "broken", tmp_path / "unbroken"
    here = backend == keras.backend.backend()

    def learn(directory):
        if here:
            importlib.import_module(file).run(directory)
        else:
            fresh(START, file, directory, "", backend=backend)

    learn(unbroken)
    fresh(START, file, broken, update, backend=backend, ends=-signal.SIGKILL)
    assert os.path.exists(broken / "backup" / "state.npz")
    assert not os.path.exists(broken / "model.keras")
    if here:
        fresh(START, file, broken, "measured", backend=backend, ends=-signal.SIGKILL)
        assert os.path.exists(broken / "model.keras")
    learn(broken)

    assert_same_weights(unbroken, broken)
    one, other = (read_arrays(x / "backup" / "state.npz", "") for x in (unbroken, broken))
    records = [json.loads(str(state.pop("record"))) for state in (one, other)]
    assert records[0].get("syllabus") == records[1].get("syllabus")
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)
    one, other = (read_json(x / "metrics.json") for x in (unbroken, broken))
    assert {k: x for k, x in one.items() if k not in TIMED} == {
        k: x for k, x in other.items() if k not in TIMED
    }
    one, other = (json.loads((x / "history.json").read_text()) for x in (unbroken, broken))
    assert len(one) > 2
    assert [{**row, "seconds": 0} for row in one] == [{**row, "seconds": 0} for row in other]
    one, other = (os.path.getsize(x / "logs" / EVENTS) for x in (unbroken, broken))
    assert abs(one - other) < 100
    one, other = (sorted(os.listdir(x)) for x in (unbroken, broken))
    assert one == other
    one, other = (sorted(os.listdir(x / "backup")) for x in (unbroken, broken))
    assert one == other


@pytest.mark.parametrize(("way", "rows"), [*((way, 0) for way in WAYS), ("supervised", 2)])
def test_averages_become_the_weights(way, rows, tmp_path, monkeypatch):
    """Of a run with an epoch an update, which saves its weights behind each.

    Where they are measured on `rows` of validation, those of the best update so far stay.
    """
    learnt, found, save, finish = [], [], Run.save, Run.finish

    def saved(run, variables, arrays=()):
        learnt.append({id(v): keras.ops.convert_to_numpy(v) for v in variables})
        save(run, variables, arrays)

    def finished(run, model, *given):
        found.extend((id(v), keras.ops.convert_to_numpy(v)) for v in model.trainable_variables)
        return finish(run, model, *given)

    monkeypatch.setattr(Run, "save", saved)
    monkeypatch.setattr(Run, "finish", finished)
    short = {"updates": 3, "steps_per_epoch": 1, "jit_compile": False, "figures": False}
    short |= {"ema": 0.75, "learning_rate": 0.01, "validation_rows": rows, "evaluation_rows": 2}
    importlib.import_module(WAYS[way][0]).run(tmp_path, **short)
    assert len(learnt) == 3 and found
    averages = [learnt[0]]
    for values in learnt[1:]:
        averages.append({k: 0.75 * averages[-1][k] + 0.25 * x for k, x in values.items()})

    def kept(some):
        return all(np.allclose(value, some[name], rtol=1e-4, atol=1e-6) for name, value in found)

    assert kept(averages[-1]) if rows == 0 else any(map(kept, averages))
    assert not kept(learnt[-1])
