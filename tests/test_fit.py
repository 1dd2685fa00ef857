"""The training loop: what a run directory holds."""

import dataclasses
import errno
import fcntl
import glob
import io
import json
import os
import re
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
from ponderzoo.trainers import Recipe, fit, task
from ponderzoo.trainers._events import EVENTS, Board, EventFile
from ponderzoo.trainers._files import read_json, write_json
from ponderzoo.trainers._metrics import AtCap, Ponder, SequenceError
from ponderzoo.trainers._run import Run
from ponderzoo.trainers._task import Task

BITS, MAX_PONDER = 6, 4
RECIPE = {
    "updates": 120,
    "steps_per_epoch": 40,
    "batch_size": 16,
    "learning_rate": 0.02,
    "learning_rate_schedule": "cosine",
    "curriculum": 0.99,
    "ema": 0.9,
    "evaluation_rows": 100,
}


@dataclasses.dataclass(frozen=True)
class Majority(Task):
    """Are there more +1 than -1?"""

    bits: int = BITS
    axis = "bits"

    @property
    def input_spec(self):
        return {"signs": ((self.bits,), "float32")}

    @property
    def target_spec(self):
        return {"more": ((1,), "float32")}

    @property
    def difficulties(self):
        return tuple(range(1, self.bits + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        _, high = difficulty if isinstance(difficulty, tuple) else (0, difficulty or self.bits)
        signs = rng.choice([-1.0, 1.0], (size, self.bits)).astype("float32")
        signs[:, high:] = 0
        return {"signs": signs}, {"more": (signs.sum(1, keepdims=True) > 0).astype("float32")}

    def loss(self):
        return {"more": keras.losses.BinaryCrossentropy(from_logits=True)}

    def metrics(self):
        return {"more": [SequenceError()]}

    def describe(self, inputs, targets, outputs):
        return [
            f"{row.sum():+.0f} -> {logit[0] > 0}"
            for row, logit in zip(inputs["signs"], outputs["more"])
        ]

    def figures(self, model):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 3))
        figure.subplots().plot(self.difficulties)
        return {"line": figure}


@keras.saving.register_keras_serializable(package="test_fit")
class Thinker(keras.layers.Layer):
    """Stands in for a layer that ponders."""

    max_ponder = MAX_PONDER

    def call(self, x):
        updates = 1 + keras.ops.cast(keras.ops.abs(x), "int32")
        updates = keras.ops.cast(keras.ops.minimum(updates, self.max_ponder), "float32")
        self.add_loss(0.001 * keras.ops.mean(updates))
        return updates


def build():
    signs = keras.Input((BITS,), name="signs")
    hidden = keras.layers.Dense(16, "tanh")(signs)
    hidden = keras.layers.Dropout(0.1)(hidden)
    more = keras.layers.Dense(1)(hidden)
    return keras.Model({"signs": signs}, {"more": more, "updates": Thinker()(more)})


def measures(model):
    return {"updates": [Ponder(), AtCap(MAX_PONDER)]}


def run(run_dir, task=None, **recipe):
    task, stand_in = task or Majority(), {"entry": "stand-in"}
    return fit(build, task, RECIPE | recipe, str(run_dir), stand_in, measures=measures)


def weights(run_dir):
    with zipfile.ZipFile(os.path.join(run_dir, "model.keras")) as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    found = {}
    file.visititems(
        lambda name, item: found.update({name: item[()]} if hasattr(item, "dtype") else {})
    )
    return found


def read(run_dir, name):
    with open(os.path.join(run_dir, name), encoding="utf-8") as file:
        return json.load(file)


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys() and one
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    return run_dir, run(run_dir)


def test_learns(finished):
    history = read(finished[0], "history.json")
    assert finished[1]["sequence_error"] < 0.35  # chance is 0.5
    assert [row["updates"] for row in history] == [40, 80, 120]
    for row in history:
        cost = row["loss"] - row["more_loss"]
        assert cost == pytest.approx(0.001 * row["updates_ponder"], rel=1e-2)
        assert 1 <= row["updates_ponder"] <= MAX_PONDER and 0 <= row["updates_at_cap"] <= 1


def test_run_directory_tells_everything(finished):
    run_dir, metrics = finished
    assert read_json(run_dir / "metrics.json") == metrics
    assert 1 <= metrics["ponder"] <= MAX_PONDER
    facts = (
        "seed updates batch_size minutes cpu_minutes examples_per_second data_share hardware commit"
    )
    assert set(facts.split()) <= set(metrics)
    assert len(weights(run_dir)) == 4  # no optimizer, no compile settings
    assert not keras.saving.load_model(run_dir / "model.keras").compiled
    assert metrics["backend"] == keras.backend.backend() and 0 < metrics["data_share"] < 1
    assert metrics["train"] == read(run_dir, "history.json")[-1]
    config = read(run_dir, "config.json")
    assert config["entry"] == "stand-in" and config["task_config"] == {"bits": BITS}
    assert config["train"] == dataclasses.asdict(Recipe.parse(RECIPE))
    assert os.path.getsize(run_dir / "figures" / "line.png") > 0
    assert not glob.glob(f"{run_dir}/**/*.part", recursive=True)


def test_event_file_is_whole_and_small(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = str(finished[0] / "logs")
    events = EventAccumulator(logs, size_guidance={"tensors": 0}).Reload()
    history = read(finished[0], "history.json")
    scalars = {name for name in history[0] if name not in ("updates", "seconds")}
    written = set(events.Tags()["tensors"])
    first = {"more_sequence_error": "sequence_error", "updates_ponder": "ponder"}
    tags = {f"curves/{first[name]}" if name in first else f"details/{name}" for name in scalars}
    assert tags | {"ponder", "examples", "figures/line"} <= written
    shown = sorted(tag for tag in written if not tag.startswith("_"))
    assert shown[:2] == ["curves/ponder", "curves/sequence_error"]
    assert {
        "loss",
        "more_loss",
        "more_sequence_error",
        "updates_ponder",
        "updates_at_cap",
    } <= scalars
    curve = events.Tensors("details/loss")
    assert [point.step for point in curve] == [40, 80, 120]
    values = [float(point.tensor_proto.float_val[0]) for point in curve]
    assert values == pytest.approx([row["loss"] for row in history])
    assert "-> " in events.Tensors("examples")[-1].tensor_proto.string_val[0].decode()
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert sum(os.path.getsize(path) for path in glob.glob(f"{logs}/*")) < 50_000


def test_pictures_are_narrow_in_tensorboard_and_their_letters_as_large(tmp_path):
    from matplotlib.figure import Figure
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events, sizes = EventFile(str(tmp_path)), {"wide": (10, 4), "widest": (20, 4), "small": (4, 3)}
    for name, size in sizes.items():
        figure = Figure(figsize=size)
        events.figure(name, figure, 1)
        assert tuple(figure.get_size_inches()) == size
    events.close()
    found = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    dots = {name: found.Tensors(name)[0].tensor_proto.string_val[:2] for name in sizes}
    assert dots == {"wide": [b"480", b"256"], "widest": [b"960", b"256"], "small": [b"320", b"240"]}


def test_event_file_of_a_long_run_stays_under_300_kB(tmp_path):
    class Model:
        output = {"more": None, "updates": None}

        def predict_on_batch(self, inputs):
            return {
                "more": np.ones((64, 1)),
                "updates": np.random.default_rng(0).gamma(2, 9, (64, 50)),
            }

    epochs, logs = (
        4000,
        dict.fromkeys(["loss", "a_loss", "a_error", "a_sequence_error", "ponder"], 0.5),
    )
    run = Run(str(tmp_path), measures=measures)
    run.events = EventFile(str(tmp_path))
    board = Board(run, Majority(), Recipe(updates=500 * epochs))
    board.set_model(Model())
    for epoch in range(epochs):
        board.on_epoch_end(epoch, logs)
    assert 100_000 < run.events.flush() < 250_000


def test_a_finished_run_is_not_run_again(finished):
    def never():
        raise AssertionError("built again")

    assert fit(never, Majority(), RECIPE, str(finished[0]), {"entry": "stand-in"}) == finished[1]


def damaged(finished, target, name, content):
    """A copy of a finished run of which one file has another content."""
    shutil.copytree(finished[0], target)
    (target / name).write_bytes(content)
    return target / name


@pytest.mark.parametrize("name", ["backup/state.npz", "config.json", "metrics.json"])
@pytest.mark.parametrize("kept", [0, 300])
def test_a_damaged_file_is_named_with_what_to_do(finished, tmp_path, name, kept):
    whole = (finished[0] / name).read_bytes()
    path = damaged(finished, tmp_path / "run", name, whole[:kept])
    if name == "backup/state.npz":
        os.remove(tmp_path / "run" / "metrics.json")
    with pytest.raises(ValueError) as refused:
        run(tmp_path / "run")
    what = f"{path} is damaged or cut off ("
    assert str(refused.value).startswith(what) and "\n" not in str(refused.value)
    assert re.search(r"\); (restore|remove) it", str(refused.value))


def test_a_state_of_another_model_is_no_state(finished, tmp_path):
    state = (finished[0] / "backup" / "state.npz").read_bytes()
    path = damaged(finished, tmp_path / "run", "backup/state.npz", state)
    os.remove(tmp_path / "run" / "metrics.json")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "3"}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"state\.npz is damaged or cut off \(KeyError"):
        run(tmp_path / "run")


def test_a_changed_number_is_noticed(finished, tmp_path):
    whole = (finished[0] / "metrics.json").read_bytes()
    path, rng = damaged(finished, tmp_path / "run", "metrics.json", whole), np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 200):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(0, 7)
        path.write_bytes(flipped)
        try:
            found = read_json(path)
        except ValueError:
            continue
        assert {name: found[name] for name in finished[1]} == finished[1]


def test_metrics_that_are_older_than_checksums_are_read(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    for name in ("metrics.json", "config.json"):
        write_json(tmp_path / "run" / name, read_json(finished[0] / name))
    assert run(tmp_path / "run") == finished[1]


def test_a_finished_run_is_read_where_nothing_can_be_written(finished, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "makedirs", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run(finished[0]) == finished[1]


def test_a_full_disk_is_said_with_the_file(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    events = EventFile(str(tmp_path))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/some.json'"):
        write_json(tmp_path / "some.json", {})
    assert os.listdir(tmp_path) == [EVENTS]
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/{EVENTS}'"):
        events.flush()


@pytest.mark.parametrize("found", ["cut", "lost"])
def test_lost_best_weights_are_refused_before_training_goes_on(tmp_path, found):
    settings = {"updates": 20, "steps_per_epoch": 10, "figures": False, "histograms": 0}
    settings |= {"validation_rows": 16, "evaluation_rows": 16, "curriculum": 0}
    run(tmp_path, **settings)
    best = tmp_path / "backup" / "best.npz"
    os.remove(tmp_path / "metrics.json")
    if found == "lost":
        os.remove(best)
    else:
        best.write_bytes(best.read_bytes()[:200])
    with pytest.raises((ValueError, FileNotFoundError), match=r"best\.npz"):
        run(tmp_path, **settings)


@pytest.mark.parametrize("left", ["whole", "cut", "lost", "beginning"])
def test_events_that_were_lost_leave_a_file_that_is_read(tmp_path, left):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def session(size, steps):
        events = EventFile(str(tmp_path), size)
        for step in steps:
            events.scalar("loss", 1 / step, step)
        size = events.flush()
        events.close()
        return size

    size, path = session(0, range(1, 6)), tmp_path / EVENTS
    if left == "lost":
        os.remove(path)
    elif left != "whole":
        os.truncate(path, {"cut": size - 20, "beginning": 9}[left])
    assert session(size, range(6, 11)) == os.path.getsize(path)
    found = EventAccumulator(str(tmp_path)).Reload().Tensors("loss")
    kept = {"whole": 5, "cut": 4, "lost": 0, "beginning": 0}[left]
    assert [point.step for point in found] == [*range(1, kept + 1), *range(6, 11)]


def test_a_run_without_an_epoch_owns_nothing(tmp_path):
    small = {"updates": 4, "steps_per_epoch": 2, "figures": False, "histograms": 0}
    small |= {"curriculum": 0, "evaluation_rows": 16}
    with pytest.raises(FloatingPointError):
        run(tmp_path, **small, learning_rate=1e38, clipnorm=0)
    (tmp_path / "backup").mkdir(exist_ok=True)
    (tmp_path / "backup" / "best.npz").write_bytes(b"of the run that failed")
    assert "sequence_error" in run(tmp_path, **small)
    assert not (tmp_path / "backup" / "best.npz").exists()
    with pytest.raises(ValueError, match="to go on with that run ask for what is there"):
        run(tmp_path, **small, seed=2)


def test_what_is_refused_leaves_nothing(tmp_path, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Absent(Majority):
        def batch(self, rng, size, difficulty=None, split="train"):
            raise FileNotFoundError("no data")

    def refuse():
        raise ValueError("units must be 1 or more, got 0")

    with pytest.raises(FileNotFoundError, match="no data"):
        run(tmp_path / "runs" / "one", task=Absent())
    monkeypatch.setitem(globals(), "build", refuse)
    (tmp_path / "there").mkdir()
    for name in ("runs/two", "there"):
        with pytest.raises(ValueError, match="units must be"):
            run(tmp_path / name)
    assert os.listdir(tmp_path) == ["there"] and os.listdir(tmp_path / "there") == []


def test_another_configuration_is_refused(finished):
    with pytest.raises(
        ValueError, match=r"train.batch_size: 16 there, 8 asked; train.seed: 1 there"
    ):
        run(finished[0], batch_size="8", seed=2)
    with pytest.raises(ValueError, match=r"task_config.bits: 6 there, 5 asked"):
        run(finished[0], task=Majority(bits=5))


def test_a_run_directory_belongs_to_one_process(tmp_path):
    os.makedirs(tmp_path / "backup")
    with open(tmp_path / "backup" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is training"):
            run(tmp_path)


def test_epochs_are_only_checkpoints(tmp_path):
    for steps in (12, 24):
        name = tmp_path / str(steps)
        run(name, updates=48, steps_per_epoch=steps, curriculum=0, histograms=0, figures=False)
    assert_same_weights(tmp_path / "12", tmp_path / "24")


def test_curriculum_goes_on_where_the_error_is_small(finished):
    history = read(finished[0], "history.json")
    level = 1
    for row in history:
        assert row["difficulty"] == level
        level = min(BITS, level + (row["more_sequence_error"] < RECIPE["curriculum"]))
    assert level > 2


@pytest.mark.parametrize("rehearsal", [True, False])
def test_easier_levels_are_rehearsed_or_left_behind(rehearsal):
    repeating = task("memorization", length=5)
    recipe = Recipe.parse({"curriculum": 0.1, "curriculum_start": 3, "rehearsal": rehearsal})
    stream = repeating.dataset("train", 64, 1, seed=1)
    stream.lesson = repeating.syllabus(recipe).next(0)
    symbols = stream[0][1]["symbols"]
    lengths = (symbols >= 0).sum(axis=1) - 1
    assert set(lengths) == ({1, 2, 3} if rehearsal else {3})


def test_weights_are_averaged_at_the_end(tmp_path, finished):
    run(tmp_path, ema=0.0)
    one, other = weights(tmp_path), weights(finished[0])
    distances = [np.abs(one[name] - other[name]).max() for name in one]
    assert 0 < max(distances) < 0.2


def test_the_loss_must_stay_a_number(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"the loss is (nan|inf) at update \d+; try a lower"
    ):
        run(tmp_path, learning_rate=1e38, clipnorm=0, ema=0.0, learning_rate_schedule="constant")
    assert "the loss is" in read(tmp_path, "metrics.json")["failed"]
    assert not os.path.exists(tmp_path / "model.keras")
    with pytest.raises(FloatingPointError, match="holds this failed run"):
        run(tmp_path, learning_rate=1e38, clipnorm=0, ema=0.0, learning_rate_schedule="constant")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"learnin_rate": 1}, r"no setting 'learnin_rate'; it has \['adam_epsilon', 'batch_size'"),
        ({"updates": "many"}, "updates must be of type int, got 'many'"),
        ({"updates": "10.5"}, "updates must be of type int, got '10.5'"),
        ({"jit_compile": "maybe"}, "jit_compile must be of type bool, got 'maybe'"),
        ({"learning_rate": "x"}, "learning_rate must be of type float, got 'x'"),
        ({"learning_rate_schedule": "wild"}, r"must be one of \('constant', 'cosine', 'linear'\)"),
        ({"updates": 0}, "updates must be 1 or more, got 0"),
        ({"learning_rate": "nan"}, "learning_rate must be a finite number, got 'nan'"),
        ({"clipnorm": float("inf")}, "clipnorm must be a finite number, got inf"),
        ({"learning_rate": -1}, r"learning_rate must be 0 or more, got -1\.0"),
        ({"ema": 1}, r"ema must be 0 or more, and less than 1, got 1\.0"),
        ({"decay_from": 2}, r"decay_from must be from 0 to 1, got 2\.0"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"validation_rows": -1}, "validation_rows must be 0 or more, got -1"),
        ({"updates": 1001, "steps_per_epoch": 500}, "must be a multiple of steps_per_epoch"),
    ],
)
def test_recipe_says_what_is_wrong(recipe, words):
    with pytest.raises(ValueError, match=words):
        Recipe.parse(recipe)


def test_recipe_reads_text():
    recipe = Recipe.parse({"updates": "1e3", "jit_compile": "False", "learning_rate": "1e-4"})
    assert (recipe.updates, recipe.jit_compile, recipe.learning_rate) == (1000, False, 1e-4)
    assert (recipe.epochs, recipe.steps) == (2, 500)
    assert Recipe.parse({"updates": 100}).steps == 100


def test_a_run_that_is_older_than_syllabuses_goes_on_at_its_level(tmp_path, finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shutil.copytree(finished[0], tmp_path / "old")
    state = tmp_path / "old" / "backup" / "state.npz"
    with np.load(state) as file:
        arrays = {name: file[name] for name in file.files}
    record = json.loads(str(arrays["record"]))
    record["level"] = 2
    del record["syllabus"], record["groups"]
    record["epoch"] -= 1
    record["history"].pop()
    np.savez(state, **{**arrays, "record": json.dumps(record)})
    os.remove(tmp_path / "old" / "metrics.json")
    run(tmp_path / "old")
    assert read(tmp_path / "old", "history.json")[-1]["difficulty"] == 3
    events = EventAccumulator(str(tmp_path / "old" / "logs"), size_guidance={"tensors": 0})
    assert len(events.Reload().Tensors("loss")) == 1, "its curves go on under their names"


def test_muon_turns_and_stretches_without_decay():
    """A matrix moves along the orthogonal part of its gradient, a vector as Adam's at a tenth
    of the rate, and a weight whose gradient is 0 stays: nothing decays."""
    optimizer = Recipe(optimizer="muon", learning_rate=0.01, clipnorm=0.0).make_optimizer()
    matrix, vector = (keras.Variable(x, dtype="float32") for x in (np.eye(3, 5), np.ones(4)))
    rng = np.random.default_rng(0)
    gradient = np.zeros((3, 5), "float32")
    gradient[:2] = rng.normal(size=(2, 5))
    optimizer.build([matrix, vector])
    optimizer.apply([keras.ops.convert_to_tensor(gradient), keras.ops.ones(4)])
    step = np.eye(3, 5) - keras.ops.convert_to_numpy(matrix)
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    orthogonal = left[:, :2] @ right[:2]
    cosine = np.sum(step * orthogonal) / np.linalg.norm(step) / np.linalg.norm(orthogonal)
    assert cosine > 0.97  # five steps of Newton and Schulz come near, not to, the orthogonal part
    assert np.all(step[2] == 0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(vector), 1 - 0.001, 1e-5)


def test_steepest_descent_has_momentum():
    recipe = Recipe(optimizer="sgd", learning_rate=0.01, momentum=0.99, clipnorm=0.0)
    optimizer, variable = recipe.make_optimizer(), keras.Variable(np.array([1.0, -2.0]))
    optimizer.build([variable])
    weights, step = np.array([1.0, -2.0]), 0.0
    for gradient in np.random.default_rng(0).normal(size=(5, 2)):
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")])
        step = 0.99 * step - 0.01 * gradient
        weights = weights + step
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), weights, 1e-5)


@pytest.mark.parametrize("clip", [{"clipvalue": 0.5}, {"clipnorm": 0.0}])
def test_rmsprop_is_that_of_graves(clip):
    """Graves (2013), equations 38 to 41, written out for one variable."""
    recipe = Recipe(optimizer="rmsprop", learning_rate=0.01, **clip)
    optimizer = recipe.make_optimizer()
    variable = keras.Variable(np.array([1.0, -2.0, 3.0]))
    optimizer.build([variable])
    rng = np.random.default_rng(0)
    weights, n, g, step = np.array([1.0, -2.0, 3.0]), 0.0, 0.0, 0.0
    for _ in range(20):
        gradient = rng.normal(size=3)
        optimizer.apply_gradients([(keras.ops.convert_to_tensor(gradient, "float32"), variable)])
        if recipe.clipvalue:
            gradient = np.clip(gradient, -0.5, 0.5)
        n = 0.95 * n + 0.05 * gradient**2
        g = 0.95 * g + 0.05 * gradient
        step = 0.9 * step - 0.01 * gradient / np.sqrt(n - g**2 + 1e-4)
        weights = weights + step
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), weights, 1e-4)
