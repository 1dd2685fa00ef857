"""Papers of another package move in by entry points alone: a file a room, and no edit.

`neighbour/` has an agent that learns to catch, a density model with chance and no targets, and a
curriculum of two dimensions.
"""

import glob
import io
import itertools
import json
import pathlib
import signal
import zipfile

import h5py
import numpy as np
import pytest

ENTRIES = ("reinforce_catch", "mixture_points", "curriculum_totals")
SAVES = 3  # which state a killed run stops short of

TRAIN = """
import os, signal, sys

sys.path.insert(0, "neighbour")
from ponderzoo.export._cli import main
from ponderzoo.trainers import _run

entry, run_dir, saves = sys.argv[1], sys.argv[2], int(sys.argv[3])
save = _run.Run.save

def save_or_die(run, *given):
    global saves
    saves -= 1
    if not saves:
        os.kill(os.getpid(), signal.SIGKILL)
    save(run, *given)

_run.Run.save = save_or_die
sys.argv = ["ponderzoo", "train", entry, "--run_dir", run_dir, "--no_saved_model"]
main()
"""

SERVE = """
import json, sys

sys.path.insert(0, "neighbour")
import numpy as np
from ponderzoo import zoo
from ponderzoo.export._package import package
from ponderzoo.export.client import Client
from ponderzoo.export.server._server import Server
from ponderzoo.zoo._trained import Trained

runs, output = sys.argv[1], sys.argv[2]
answers = {}
for name in sys.argv[3:]:
    trained = Trained.find(f"{runs}/{name}")
    model = trained.load()
    signatures = trained.entry.signatures(model, trained.task)
    package(model, signatures, name, output)
with Server(output) as server, Client(server.address) as client:
    for name in sys.argv[3:]:
        trained = Trained.find(f"{runs}/{name}")
        for signature, one in trained.entry.signatures(trained.load(), trained.task).items():
            alone = {key: value[:1] for key, value in one.sample.items()}
            for ask in (one.sample, alone):
                answer = client.predict(name, ask, signature)
                key = f"{name} {signature} {len(next(iter(ask.values())))}"
                answers[key] = {k: np.asarray(v).tolist() for k, v in answer.items()}
print("answers", json.dumps(answers))
"""


def weights(run_dir):
    """All arrays of `model.keras` by their names."""
    with zipfile.ZipFile(run_dir / "model.keras") as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    found = {}
    file.visititems(
        lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
    )
    return found


@pytest.fixture(scope="module")
def runs(fresh, tmp_path_factory):
    """A finished run of every entry."""
    home = tmp_path_factory.mktemp("runs")
    for entry in ENTRIES:
        fresh(TRAIN, entry, home / entry, 0)
    return home


@pytest.fixture(scope="module")
def answers(runs, fresh, tmp_path_factory):
    """What a server answers for the packages of the runs, which have passed the gate."""
    said = fresh(SERVE, runs, tmp_path_factory.mktemp("packages"), *ENTRIES)
    return json.loads(said.partition("answers ")[2])


def metrics(runs, entry):
    return json.loads((runs / entry / "metrics.json").read_text())


def history(runs, entry):
    return json.loads((runs / entry / "history.json").read_text())


def test_an_agent_learns_to_catch(runs):
    assert metrics(runs, "reinforce_catch")["mean_return"] > 0.8
    assert history(runs, "reinforce_catch")[0]["mean_return"] < 0.3


def test_a_density_without_targets_is_fitted_by_the_loss_that_it_gives(runs):
    """One round Gaussian costs log(2 pi e (1 + 0.2^2)) nats, 2.88; the four together 1.0."""
    found = metrics(runs, "mixture_points")
    assert 0.9 < found["nats"] < 1.6 < history(runs, "mixture_points")[0]["nats_nats"]
    assert 0 < found["choice"] < np.log(12)


def test_a_curriculum_of_two_dimensions_is_walked_to_its_end(runs):
    walked = [(row["count"], row["largest"]) for row in history(runs, "curriculum_totals")]
    assert walked[0] == (1, 1) and walked[-1] == (3, 3)
    for (count, largest), (wider, larger) in itertools.pairwise(walked):
        assert (wider - count) + (larger - largest) in (0, 1)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_killed_run_ends_with_the_same_bits(entry, runs, fresh, tmp_path):
    fresh(TRAIN, entry, tmp_path / entry, SAVES, ends=-signal.SIGKILL)
    assert not (tmp_path / entry / "model.keras").exists()
    fresh(TRAIN, entry, tmp_path / entry, 0)
    one, other = weights(runs / entry), weights(tmp_path / entry)
    assert one and one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)
    for key in ("mean_return", "nats", "error"):
        assert metrics(tmp_path, entry).get(key) == metrics(runs, entry).get(key)


@pytest.mark.parametrize("entry, figure", [(ENTRIES[0], "game"), (ENTRIES[1], "samples")])
def test_its_figures_are_drawn(entry, figure, runs):
    drawn = [pathlib.Path(path).stem for path in glob.glob(str(runs / entry / "figures" / "*.png"))]
    assert drawn == [figure]


def test_its_packages_pass_the_gate_and_answer(answers):
    assert set(answers["reinforce_catch serve 2"]["move"]) <= {-1, 0, 1}
    assert answers["curriculum_totals serve 2"]["total"] == [3, 3]
    assert np.isfinite(answers["mixture_points serve 2"]["nats"]).all()


def test_a_sample_depends_on_its_seed_alone(answers):
    two, alone = (answers[f"mixture_points sample {rows}"]["points"] for rows in (2, 1))
    np.testing.assert_allclose(two[0], alone[0], rtol=1e-6)
    assert not np.allclose(two[0], two[1])
