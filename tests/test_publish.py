"""Pretrained files: what a finished run becomes, on small runs of a real entry."""

import hashlib
import json
import os
import re
import shlex
import shutil

import keras
import matplotlib.image
import numpy as np
import pytest
from ponderzoo import trainers, zoo
from ponderzoo.export import _cli
from ponderzoo.trainers._events import EVENTS, EventFile
from ponderzoo.trainers._files import read_json, write_json
from ponderzoo.trainers.figures import _panels
from ponderzoo.trainers.tasks.parity import Parity
from ponderzoo.zoo import _card, _publish, _registry, _settings, _trained

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="pretrained files are those of TensorFlow"
)
SMALL = "updates=20 steps_per_epoch=10 batch_size=8 evaluation_rows=40 curriculum=0.9 histograms=2"
SMALL += " curriculum_start=0 figures=false jit_compile=false units=8 bits=5"
KEPT = [f"figures/learning_curves_of_{what}.png" for what in ("seeds", "settings")]
KEPT += ["history.json", "model.keras"]


def run(words):
    return _cli._run(_cli._parser().parse_args(words)) or 0


def copy(source, target, **changes):
    """A copy of a run with changes in `config.json`, each `group__key=value` or `key=value`."""
    shutil.copytree(source, target)
    config = read_json(os.path.join(target, "config.json"))
    for key, value in changes.items():
        group, _, inner = key.rpartition("__")
        (config[group] if group else config)[inner] = value
    write_json(os.path.join(target, "config.json"), config)
    return str(target)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory with `ours`, its `baseline`, and a sweep of three runs and a failed one."""
    home = tmp_path_factory.mktemp("runs")
    for name, cap in (("ours", 4), ("baseline", 1)):
        words = f"train act_parity --run_dir {home / name} --no_saved_model"
        assert run([*words.split(), "--set", *SMALL.split(), f"max_ponder={cap}"]) == 0
    for penalty in (1e-4, 1e-3, 1e-2):
        copy(home / "ours", home / "sweep" / f"{penalty}", config__time_penalty=penalty)
    write_json(copy(home / "ours", home / "sweep" / "bad") + "/metrics.json", {"failed": "nan"})
    (home / "sweep" / "sweep.json").write_text("[]")
    return home


@pytest.fixture(scope="module")
def published(runs, tmp_path_factory):
    """The directory that holds `act_parity`, written by the program."""
    output = tmp_path_factory.mktemp("pretrained")
    words = f"publish {runs / 'ours'} --baseline {runs / 'baseline'} --sweep {runs / 'sweep'}"
    assert run([*words.split(), "--output", str(output)]) == 0
    return output


@pytest.fixture
def installed(published, monkeypatch):
    """The entry `act_parity` with the published files as its own."""
    monkeypatch.setattr(_registry, "PRETRAINED", str(published))
    return zoo.info("act_parity")


def test_everything_is_there_and_small(published):
    home = published / "act_parity"
    expected = "card.md config.json figures golden.npz history.json logs metrics.json model.keras"
    assert os.listdir(published) == ["act_parity"]
    assert sorted(os.listdir(home)) == expected.split()
    assert os.listdir(home / "logs") == [EVENTS]
    assert (home / "logs" / EVENTS).stat().st_size < 300_000
    figures = ["difficulty.png", "learning_curves.png", "trade_off.png"]
    assert sorted(os.listdir(home / "figures")) == figures
    for name in figures:
        assert (home / "figures" / name).stat().st_size < 80_000
        picture = matplotlib.image.imread(home / "figures" / name)
        assert picture.shape[1] > 500 and len(np.unique(picture)) > 20


def test_the_model_predicts_what_it_did_when_it_was_saved(installed, runs):
    model = keras.saving.load_model(zoo.path("act_parity"))
    assert getattr(model, "optimizer", None) is None
    assert {weight.dtype for weight in model.weights} == {"float32"}
    trained = keras.saving.load_model(runs / "ours" / "model.keras").get_weights()
    for weight, expected in zip(model.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(weight, expected)
    with np.load(os.path.join(installed.directory, "golden.npz")) as golden:
        golden = dict(golden)
    assert sorted(golden) == [
        "input/sequence",
        "output/parity",
        "output/remainder",
        "output/updates",
    ]
    inputs = {"sequence": golden["input/sequence"]}
    assert inputs["sequence"].shape == (4, 1, 5)
    for name, value in model.predict(inputs, verbose=0).items():
        assert golden[f"output/{name}"].dtype == np.float32
        np.testing.assert_allclose(value, golden[f"output/{name}"], rtol=0, atol=1e-6)


def test_metrics_are_those_of_both_runs(installed, runs):
    metrics, task = installed.metrics, trainers.task("parity", bits=5)
    for name, found in (("ours", metrics), ("baseline", metrics["baseline"])):
        there = read_json(runs / name / "metrics.json")
        assert {key: found[key] for key in there} == there
        assert [point["difficulty"] for point in found["difficulty"]] == list(task.difficulties)
        assert {"sequence_error", "ponder", "ponder_std"} <= set(found["difficulty"][0])
        assert found["parameters"] == metrics["parameters"]
    with open(zoo.path("act_parity"), "rb") as file:
        assert metrics["sha256"] == hashlib.sha256(file.read()).hexdigest()
    assert metrics["version"] == "1"
    penalties = [row["time_penalty"] for row in metrics["sweep"]]
    assert penalties == [1e-4, 1e-3, 1e-2]
    assert "time_penalty=0.0001" in metrics["sweep"][0]["command"]


def test_a_published_entry_is_published_again_with_its_baseline(published, runs, tmp_path):
    home = published / "act_parity"
    _publish.publish(home, output=tmp_path / "zoo")
    again = tmp_path / "zoo" / "act_parity"
    old, new = (read_json(folder / "metrics.json") for folder in (home, again))
    assert "sweep" in new and new == old
    for name in ("history.json", "config.json", "model.keras", "figures/trade_off.png"):
        assert (again / name).read_bytes() == (home / name).read_bytes()
    _publish.publish(again, runs / "baseline", runs / "sweep", tmp_path / "zoo")
    assert read_json(again / "metrics.json") == old


def test_a_model_and_its_baseline_are_drawn_side_by_side(runs, tmp_path, monkeypatch):
    def beside(task, models):
        figure, (panel,) = _panels.subplots()
        panel.set_title(
            " ".join(f"{name} {model.count_params()}" for name, model in models.items())
        )
        told.append(panel.get_title())
        return {"both": figure}

    told = []
    monkeypatch.setattr(Parity, "beside", beside)
    home = tmp_path / "act_parity"
    _publish.publish(runs / "ours", output=tmp_path)
    assert not told and not (home / "figures/both.png").exists()
    _publish.publish(runs / "ours", runs / "baseline", output=tmp_path)
    sizes = re.findall(r"\d+", told[0])
    assert told == [f"ACT {sizes[0]} without ACT {sizes[0]}"]
    assert (home / "figures/both.png").exists()
    assert "figures/both.png" in (home / "card.md").read_text()


def test_a_sweep_of_seeds_and_settings(tmp_path):
    settings = "updates=4 steps_per_epoch=2 batch_size=2 evaluation_rows=4 curriculum=0 length=2"
    settings += " units=3 symbols=4 figures=false jit_compile=false"
    words = f"train grid_lstm_memorization --run_dir {tmp_path}/ours --no_saved_model"
    assert run([*words.split(), "--set", *settings.split()]) == 0

    def another(name, seed, error, **changes):
        home = copy(tmp_path / "ours", tmp_path / "sweep" / name, train__seed=seed, **changes)
        metrics = read_json(os.path.join(home, "metrics.json"))
        metrics |= {"seed": seed, "sequence_error": error}
        write_json(os.path.join(home, "metrics.json"), metrics)

    another("a", 2, 1.0)
    another("b", 1, 0.3, config__layers=2)
    another("c", 2, 0.5, config__layers=2)
    _publish.publish(tmp_path / "ours", sweep=tmp_path / "sweep", output=tmp_path / "zoo")
    home = tmp_path / "zoo" / "grid_lstm_memorization"
    found = read_json(home / "metrics.json")
    assert list(found["seeds"]) == ["1", "2"]
    (registered, mine), (changed, theirs) = found["settings"].items()
    assert registered == "as registered" and mine["greatest_sequence_error"] == 1
    assert "layers=2" in changed.split() and not re.search("seed=", changed)
    three = [theirs[f"{what}_sequence_error"] for what in ("mean", "least", "greatest")]
    assert three == [0.4, 0.3, 0.5] and theirs["seeds"] == "1, 2"
    card = (home / "card.md").read_text()
    assert re.search(
        r"### Settings\n\nRuns with other settings.*\n\n\|  \| seeds \| mean sequence", card
    )
    assert "learning_curves_of_seeds.png" in card and "learning_curves_of_settings.png" in card
    before = {name: (home / name).read_bytes() for name in KEPT}
    _publish.publish(home, output=tmp_path / "zoo")
    assert read_json(home / "metrics.json") == found
    assert {name: (home / name).read_bytes() for name in KEPT} == before
    os.rename(tmp_path / "sweep" / "a", tmp_path / "a")
    _publish.publish(tmp_path / "ours", sweep=tmp_path / "sweep", output=tmp_path / "zoo")
    found = read_json(home / "metrics.json")
    assert "seeds" not in found and found["settings"]["as registered"]["seeds"] == "1"
    assert "least_sequence_error" not in found["settings"]["as registered"]
    assert not (home / "figures" / "learning_curves_of_seeds.png").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no finished run with another seed or other settings"):
        _publish.publish(tmp_path / "ours", sweep=tmp_path / "empty", output=tmp_path / "zoo")


def test_a_sweep_on_a_smaller_task_says_so(runs, tmp_path):
    copy(runs / "ours", tmp_path / "sweep" / "a", task_config__bits=4)
    _publish.publish(runs / "ours", runs / "baseline", tmp_path / "sweep", tmp_path / "zoo")
    card = (tmp_path / "zoo" / "act_parity" / "card.md").read_text()
    assert "1 runs of 20 updates on the task with bits 4: " in card
    assert "bits=4" in card.partition("A run is repeated by `")[2].partition("`")[0]


def test_the_commands_repeat_the_runs(installed, runs):
    metrics = installed.metrics
    for name, command in (
        ("ours", metrics["command"]),
        ("baseline", metrics["baseline"]["command"]),
    ):
        backend, program, *words = shlex.split(command)
        assert (backend, program) == ("KERAS_BACKEND=tensorflow", "ponderzoo")
        arguments = _cli._parser().parse_args(words)
        chosen = _settings.choose(zoo.info(arguments.name), arguments.set)
        config = read_json(runs / name / "config.json")
        assert chosen["model"] == config["config"]
        assert chosen["recipe"] == config["train"]
        assert chosen["task"] == config["task_config"]
    assert "--run_dir" not in metrics["command"]
    assert "--run_dir runs/act_parity-baseline" in metrics["baseline"]["command"]


def test_a_registered_run_needs_no_settings(runs, tmp_path):
    settings = _settings.settings_of(zoo.info("act_parity"))
    parts = {
        "config": settings["model"],
        "train": settings["recipe"],
        "task_config": settings["task"],
    }
    ours = _trained.Run.read(copy(runs / "ours", tmp_path / "run", **parts))
    assert ours.command() == "KERAS_BACKEND=tensorflow ponderzoo train act_parity"


def test_the_card_says_what_was_measured(installed):
    metrics, card = installed.metrics, installed.card
    assert card.startswith("# act_parity\n") and "arxiv.org/abs/1603.08983" in card
    assert "from ponderzoo import zoo" in card and 'load_model(zoo.path("act_parity"))' in card
    lines = {
        cells[1].strip(): cells[2:-1]
        for cells in (line.split("|") for line in card.splitlines())
        if len(cells) > 2
    }
    for name in ("sequence_error", "ponder", "parameters"):
        words = {"ponder": "ponder (updates N per input)"}
        _, ours, baseline = lines[_card.spelled(name, words)]
        assert ours.strip() == _card.shown(name, metrics[name])
        assert baseline.strip() == _card.shown(name, metrics["baseline"][name])
    assert float(lines["sequence error"][1].strip(" %")) == pytest.approx(
        100 * metrics["sequence_error"], rel=0.01
    )
    for name in ("seed", "updates", "minutes", "hardware", "commit"):
        assert _card.shown(name, metrics[name]) in lines[name][0]
    assert metrics["command"] in card and metrics["baseline"]["command"] in card
    pictures = re.findall(r"!\[.*\]\((.*)\)\n\n(.*)", card)
    assert {os.path.basename(path) for path, _ in pictures} == set(
        os.listdir(os.path.join(installed.directory, "figures"))
    )
    assert all(len(caption) > 30 and caption.endswith(".") for _, caption in pictures)


def test_the_card_has_the_words_of_the_entry(installed, published, runs, monkeypatch):
    assert installed.notes and installed.notes in installed.card
    ours = _trained.Run.read(str(runs / "ours"))
    monkeypatch.setattr(_registry.Entry, "notes", "Seed 3 did *not* learn.\n")
    entry = _registry.Entry(**{**vars(installed), "paper_result": "below 5 %, |tau| small"})
    ours = _trained.Run(ours.directory, entry, ours.task, ours.config, ours.metrics)
    card = _card.card_of(ours, {}, installed.metrics, {"ACT": ours.history}, {}, 0.1)
    assert "| sequence error | below 5 %, \\|tau\\| small | " in card
    assert card.endswith("## Notes\n\nSeed 3 did *not* learn.\n")


def test_no_path_of_this_machine_is_published(published, runs):
    for folder, _, files in os.walk(published):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            for private in (str(runs), os.path.expanduser("~") + "/", os.getcwd()):
                assert private.encode() not in content, name


def test_a_failure_leaves_the_files_that_were_there(published, runs, tmp_path, monkeypatch):
    output = tmp_path / "zoo"
    shutil.copytree(published, output)
    (output / "act_parity" / "card.md").write_text("earlier")

    def fail(*arguments):
        raise OSError("the disk is full")

    for place in ("card_of", "_replace"):
        with monkeypatch.context() as patch:
            patch.setattr(
                _publish, "_measured", lambda run, model: (run.metrics | {"parameters": 1}, {})
            )
            patch.setattr(_publish, place, fail)
            with pytest.raises(OSError, match="the disk is full"):
                _publish.publish(str(runs / "ours"), output=str(output))
        assert os.listdir(output) == ["act_parity"]
        assert (output / "act_parity" / "card.md").read_text() == "earlier"
        assert len(os.listdir(output / "act_parity")) == 8


def test_a_new_directory_takes_the_place_of_the_old(tmp_path, monkeypatch):
    home, draft = tmp_path / "home", tmp_path / "draft"
    for directory in (home, draft):
        directory.mkdir()
        (directory / "card.md").write_text(directory.name)
    (home / "old").touch()
    rename = os.rename

    def fail(source, target):
        if (source, target) == (draft, home):
            raise OSError("no")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="no"):
            _publish._replace(home, draft)
    assert sorted(os.listdir(home)) == ["card.md", "old"]
    _publish._replace(home, draft)
    assert os.listdir(tmp_path) == ["home"] and os.listdir(home) == ["card.md"]
    assert (home / "card.md").read_text() == "draft"


def test_errors_are_said_in_a_line(runs, tmp_path, capsys):
    ours = runs / "ours"
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "act_parity").mkdir(parents=True)
    copy(ours, tmp_path / "unfinished")
    os.remove(tmp_path / "unfinished" / "metrics.json")
    copy(ours, tmp_path / "bits", task_config__bits=6)
    copy(ours, tmp_path / "logic", entry="act_logic")
    copy(ours, tmp_path / "sweep" / "logic", entry="act_logic")
    copy(ours, tmp_path / "mixed" / "five")
    copy(ours, tmp_path / "mixed" / "four", task_config__bits=4)
    small = copy(ours, tmp_path / "small", config__units=4)
    zoo.info("act_parity").build(
        trainers.task("parity", bits=5), **read_json(f"{small}/config.json")["config"]
    ).save(f"{small}/model.keras")
    text = {"length": 20, "root": "/some/enwik8"}
    copy(ours, tmp_path / "text", entry="act_wikipedia", task="characters", task_config=text)
    (tmp_path / "plain.md").write_text("# Nothing marked\n")
    for words, error in (
        ("{tmp}/empty", "{tmp}/empty holds no run: it has no config.json"),
        ("{tmp}/unfinished", "{tmp}/unfinished holds a run that is not finished"),
        ("{runs}/sweep/bad", "{runs}/sweep/bad holds a failed run: nan"),
        ("{tmp}/text", "{tmp}/text has root=/some/enwik8, a path that others do not have"),
        ("{ours} --baseline {tmp}/empty", "{tmp}/empty holds no run"),
        (
            "{ours} --baseline {tmp}/logic",
            "{tmp}/logic is no baseline of {ours}: it is a run of act_logic, not of act_parity",
        ),
        ("{ours} --baseline {tmp}/bits", "{tmp}/bits is no baseline of {ours}: its task is"),
        ("{ours} --baseline {ours}", "{ours} is no baseline of {ours}: it is the same model"),
        ("{ours} --baseline {tmp}/small", "{tmp}/small is no baseline of {ours}: it has"),
        ("{ours} --sweep {tmp}/empty", "{tmp}/empty holds no finished run with a time penalty"),
        ("{ours} --sweep {tmp}/sweep", "{tmp}/sweep/logic is a run of act_logic"),
        ("{ours} --sweep {tmp}/mixed", "{tmp}/mixed holds runs of several tasks"),
        ("{ours} --output {tmp}/other", "{tmp}/other/act_parity holds something else"),
        ("--readme {tmp}/plain.md", "{tmp}/plain.md has no <!-- results:begin -->"),
        ("", "publish wants a RUN or --readme FILE"),
    ):
        names = {"tmp": tmp_path, "runs": runs, "ours": ours}
        output = "" if "--output" in words else f" --output {tmp_path}/zoo"
        assert run(f"publish {words}{output}".format(**names).split()) == 1, words
        said = capsys.readouterr().err
        assert said.startswith(f"error: {error.format(**names)}") and said.count("\n") == 1
    assert not os.path.exists(tmp_path / "zoo")


def test_only_tensorflow_publishes(runs, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="publish under KERAS_BACKEND=tensorflow"):
        _publish.publish(str(runs / "ours"))


def test_event_files_are_thinned_out(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventFile(str(tmp_path))
    for step in range(1000):
        events.scalar("loss", 1 / (1 + step), step)
        events.scalar("difficulty", step % 7, step)
    events.histogram("ponder", np.arange(5.0), 3)
    events.image("difficulty", b"\x89PNG" + bytes(40), 1000)
    events.image("examples/spikes", b"\x89PNG" + bytes(40), 1000)
    events.close()
    path = str(tmp_path / EVENTS)
    content = _publish._events(path)
    (tmp_path / "thin").mkdir()
    (tmp_path / "thin" / EVENTS).write_bytes(content)
    found = EventAccumulator(str(tmp_path / "thin"), size_guidance={"tensors": 0}).Reload()
    tags = {"loss", "difficulty", "ponder", "figures/difficulty", "examples/spikes"}
    assert set(found.Tags()["tensors"]) == tags
    steps = [point.step for point in found.Tensors("loss")]
    assert len(steps) == 200 and (steps[0], steps[-1]) == (0, 999)
    monkeypatch.setattr(_publish, "MOST_EVENT_BYTES", 1000)
    with pytest.raises(ValueError, match="1000 or more; train with fewer histograms"):
        _publish._events(path)


def test_the_table_of_results_goes_between_the_marks(installed, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Top\n<!-- results:begin -->\nold\n<!-- results:end -->\nbottom\n")
    for _ in range(2):
        assert run(["publish", "--readme", str(readme)]) == 0
    above, _, rest = readme.read_text().partition("<!-- results:begin -->\n")
    table, _, below = rest.partition("\n<!-- results:end -->")
    assert (above, below) == ("# Top\n", "\nbottom\n")
    head, _, row, *rest = table.splitlines()
    assert len(rest) == 2 and "`act_logic`" in rest[-1] and "act_parity" not in rest[-1]
    assert head == "| entry | task | paper | ours | baseline | measure | MB | minutes |"
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    metrics = installed.metrics
    assert cells[0] == "[act_parity](zoo/pretrained/act_parity/card.md)" and cells[1] == "parity"
    error = _card.shown("sequence_error", metrics["sequence_error"])
    assert cells[3] == f"{error} sequence error"
    assert cells[5] == f"{metrics['ponder']:.2f} ponder"


def test_text_is_measured_beside_compressors(tmp_path):
    text = b"The sea, the sea. [[Sea]] <b>1000</b> waves\nroll on and on. " * 300
    (tmp_path / "text").write_bytes(text)
    task = trainers.task("characters", length=20, root=str(tmp_path / "text"))
    entry = zoo.info("act_wikipedia")
    report = task.report(entry.build(task, **{**entry.config, "units": 4, "max_ponder": 2}))
    assert report["corpus"] == "text"
    assert {"bits_per_character", "bzip2", "xz"} <= set(report["compression"])
    assert {"space", "full stop", "inside a word"} <= set(report["by_class"])
    table = _card.report_table(report["by_class"], [], ["ours"])
    assert "| space | " in table and "| \\< | " in table
    table = _card.report_table(
        report["compression"], [report["compression"]] * 2, ["ours", "plain"]
    )
    assert table.splitlines()[0] == "|  | ours | plain |"
    assert f"| bzip2 | {report['compression']['bzip2']:.3f} | " in table


def test_golden_text_needs_no_data():
    class Echo:
        def predict_on_batch(self, inputs):
            return {"next": inputs["sequence"][..., None].astype("float64")}

    task = trainers.task("characters", root="/nowhere")
    golden = _publish.golden(Echo(), task)
    assert golden["input/sequence"].shape == (4, 24)
    assert golden["input/sequence"].dtype == np.int32
    assert golden["output/next"].dtype == np.float32
    again = _publish.golden(Echo(), task)
    np.testing.assert_array_equal(golden["input/sequence"], again["input/sequence"])


def test_history_is_thinned_out(runs, tmp_path):
    ours = _trained.Run.read(copy(runs / "ours", tmp_path / "run"))
    rows = [{"updates": n, "loss": 1 / (3 + n)} for n in range(1000)]
    (tmp_path / "run" / "history.json").write_text(json.dumps(rows))
    history = ours.history
    assert len(history) == 200
    assert history[0] == {"updates": 0.0, "loss": 0.33333} and history[-1]["updates"] == 999
