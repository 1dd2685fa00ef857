"""The program `ponderzoo`, mostly in this process, on a small model of a real entry."""

import concurrent.futures
import copy
import dataclasses
import errno
import functools
import glob
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata

import pytest
from ponderzoo import zoo
from ponderzoo.export import _cli
from ponderzoo.export.commands import _command, training
from ponderzoo.trainers import Recipe, data, task
from ponderzoo.trainers._files import write_json
from ponderzoo.trainers._sweep import sweep
from ponderzoo.zoo import _settings
from ponderzoo.zoo._trained import Run, Trained

PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]
SMALL = "updates=4 steps_per_epoch=2 batch_size=4 evaluation_rows=50 units=8 max_ponder=3 bits=6"


@pytest.fixture
def ponderzoo(capsys):
    """Runs the program on words, a text or a list; returns exit code, output and errors."""

    def run(words):
        words = words.split() if isinstance(words, str) else words
        code = _cli._run(_cli._parser().parse_args(words))
        out, err = capsys.readouterr()
        return code or 0, out, err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory as `ponderzoo train` leaves it."""
    run_dir = str(tmp_path_factory.mktemp("runs") / "small")
    words = f"train act_parity --run_dir {run_dir} --set {SMALL}".split()
    assert not _cli._run(_cli._parser().parse_args(words))
    return run_dir


def test_list_is_quiet():
    done = subprocess.run([*PROGRAM, "list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == zoo.list()
    assert "Adaptive Computation Time" in done.stdout


def test_a_reader_that_leaves_is_no_error():
    command = f"set -o pipefail; {shlex.join(PROGRAM)} info act_logic | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""


def test_wrong_backend_is_one_clear_error():
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([*PROGRAM, "list"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: KERAS_BACKEND must be tensorflow or jax, got 'torch'\n"


def test_wrong_usage_is_exit_code_2(ponderzoo, capsys):
    for words in ("", "frobnicate", "train", "sweep act_parity", "export act_parity", "data"):
        with pytest.raises(SystemExit) as stop:
            ponderzoo(words)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("usage: ponderzoo")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["export", "act_parity", "--output", "x", "--tls_key", "", "--tls_cert", ""], "--tls_key"),
        (["serve", "x", "--ssl_config_file", ""], "--ssl_config_file"),
        (["publish", "x", "--baseline", ""], "--baseline"),
        (["predict", "act_parity", "--inputs", ""], "--inputs"),
    ],
)
def test_an_option_without_a_value_is_not_left_out(words, option, capsys):
    with pytest.raises(SystemExit) as stop:
        _cli._parser().parse_args(words)
    assert stop.value.code == 2
    assert re.search(f"argument {option}.*: expected a value, got ''", capsys.readouterr().err)


def test_help_explains_every_command(capsys):
    for words in ([], ["train"], ["sweep"], ["predict"], ["data", "fetch"]):
        with pytest.raises(SystemExit) as stop:
            _cli._parser().parse_args([*words, "--help"])
        assert stop.value.code == 0
    out = capsys.readouterr().out
    for function in (
        "list",
        "train",
        "sweep",
        "evaluate",
        "serve",
        "verify",
        "predict",
        "tensorboard",
        "data",
    ):
        assert f"\n    {function}" in out
    assert "--set KEY=VALUE" in out and "--grid KEY=VALUE,VALUE" in out


def test_names_are_told_without_keras():
    """What the program reads of entries without Keras is what there is with it."""
    code = """
import json, sys
from ponderzoo.export import _outline
assert _outline.stand_in() and _outline.stands_in()
from ponderzoo import zoo
from ponderzoo.trainers import data
from ponderzoo.zoo._settings import settings_of
print(json.dumps([[settings_of(zoo.info(name)) for name in zoo.list()], data.list()]))
import keras
assert not hasattr(keras, "__version__") and not {"numba", "h5py", "grpc"} & {*sys.modules}
"""
    command = [sys.executable, "-c", code]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    settings = [_settings.settings_of(zoo.info(name)) for name in zoo.list()]
    assert found == json.loads(json.dumps([settings, data.list()]))


@pytest.mark.parametrize("first", ["", "import tensorflow; "])
def test_a_client_needs_no_tensorflow_where_names_are_told_without_it(first):
    code = """
from ponderzoo.export.commands._command import import_backend
import_backend("names")
{first}from ponderzoo.export import client
from ponderzoo import zoo
assert "act_parity" in zoo.list()
assert client.predict_pb2.PredictRequest().model_spec.name == ""
"""
    subprocess.run([sys.executable, "-c", code.format(first=first)], check=True)


def test_an_entry_that_computes_with_keras_is_listed_with_it(tmp_path):
    info = tmp_path / "stranger-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ponderzoo.zoo]\nstranger = stranger\n")
    (tmp_path / "stranger.py").write_text("import keras\nSIZE = 1 + int(keras.ops.ones(2)[0])\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*PROGRAM, "list"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == zoo.list()


def test_programs_get_json(ponderzoo):
    listed = json.loads(ponderzoo("list --json")[1])
    assert [entry["name"] for entry in listed] == zoo.list()
    told = json.loads(ponderzoo("info act_parity --json")[1])
    entry = zoo.info("act_parity")
    assert told["settings"]["model"] == entry.config and told["metrics"] == entry.metrics
    assert told["paper"]["arxiv"] == "1603.08983" and told["card"] == entry.card
    assert told | {"settings": 0, "metrics": 0, "card": 0} in [
        one | {"settings": 0, "metrics": 0, "card": 0} for one in listed
    ]
    assert [row["name"] for row in json.loads(ponderzoo("data list --json")[1])] == data.list()


def test_versions_are_told(capsys):
    with pytest.raises(SystemExit) as stop:
        _cli._parser().parse_args(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"ponderzoo {metadata.version('ponderzoo')} (keras 3")


def test_dashes_are_as_good_as_underscores():
    parse = _cli._parser().parse_args
    assert parse(["train", "x", "--run-dir", "d", "--no-saved-model"]) == parse(
        ["train", "x", "--run_dir", "d", "--no_saved_model"]
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ponderzoo tr", {"train"}),
        ("ponderzoo info act_lo", {"act_logic"}),
        ("ponderzoo train act_parity --no", {"--no_saved_model", "--no-saved-model"}),
    ],
)
def test_shells_complete(tmp_path, line, words):
    out = tmp_path / "words"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "COMP_LINE": line}
    asked |= {"COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    code = "from ponderzoo.export._cli import main; main()"
    command = [sys.executable, "-c", code]
    subprocess.run(command, env={**os.environ, **asked}, check=True, capture_output=True)
    assert {word.strip() for word in out.read_text().split("\n")} == words


INTERRUPTED = """
import os, signal, sys
from ponderzoo.export import _cli

class CtrlC:
    loading = sys.argv.pop(1)

    def find_spec(self, name, path=None, target=None):
        if name == self.loading:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
_cli.main()
"""


@pytest.mark.parametrize(
    ("loading", "words"),
    [
        ("absl", "list"),
        ("ponderzoo.zoo.act", "list"),
        ("tensorflow.python.eager", "evaluate act_parity"),
    ],
)
def test_ctrl_c_is_one_line_wherever_it_comes(loading, words):
    command = [sys.executable, "-c", INTERRUPTED, loading, *words.split()]
    # What runs the tests may itself ignore SIGINT, as whatever a shell starts with & does.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=heard)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_is_left_to_who_ignores_it():
    command = [
        "sh",
        "-c",
        f"trap '' INT; exec {shlex.join([sys.executable, '-c', INTERRUPTED])} \"$@\"",
    ]
    done = subprocess.run([*command, "sh", "absl", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "act_parity" in done.stdout


def test_graphs_do_not_show_in_errors(ponderzoo, monkeypatch):
    tf = pytest.importorskip("tensorflow")

    @tf.function
    def refuse(bits):
        tf.debugging.Assert(tf.reduce_all(bits < 2), ["bits must be -1, 0 or 1, got", bits])
        return bits

    def evaluate(*_):
        refuse(tf.constant([5]))

    monkeypatch.setattr(Trained, "load", evaluate)
    code, _, err = ponderzoo("evaluate act_parity")
    assert code == 1 and "bits must be -1, 0 or 1, got" in err
    assert err.count("\n") == 1 and "node" not in err and "Op:" not in err


def test_help_comes_without_keras():
    text = "import sys; from ponderzoo.export import _cli; _cli._parser()\n"
    text += "print({'keras', 'tensorflow', 'jax', 'grpc'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")


def test_a_command_is_declared_where_it_stands(capsys, monkeypatch):
    monkeypatch.setattr(_command, "_commands", [*_command.find_commands()])
    _command.find_commands.cache_clear()
    _command.group("new", "New ones: greet", place=1)

    @_command.command("new greet", _command.argument("whom"), place=2, needs="", intermixed=True)
    def greet(arguments):
        """Greets somebody. Loudly."""
        return len(arguments.whom)

    try:
        parser = _cli._parser()
    finally:
        _command.find_commands.cache_clear()
    assert parser.parse_args(["new", "greet", "you"]).function is greet
    assert _cli._run(parser.parse_args(["new", "greet", "you"])) == 3
    with pytest.raises(SystemExit):
        parser.parse_args(["new", "--help"])
    assert "Greets somebody\n" in capsys.readouterr().out


def test_info_shows_paper_and_settings(ponderzoo):
    code, out, _ = ponderzoo("info act_parity")
    assert code == 0
    for words in ("arXiv:1603.08983", "time_penalty", "learning_rate_schedule", "bits"):
        assert words in out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("info act_partiy", "no entry is called 'act_partiy'. Did you mean 'act_parity'?"),
        ("train act_parity --set unitz=1", "act_parity has no setting 'unitz'; it has"),
        ("train act_parity --set units", "--set wants KEY=VALUE, got 'units'"),
        ("train act_parity --set units=many", "units must be of type int, got 'many'"),
        ("train act_parity --set task.units=8", "act_parity has no setting 'task.units'"),
        ("train act_parity --process_id 1", "--coordinator, --num_processes and --process_id go"),
        (
            "train act_parity --coordinator h:1 --num_processes 2 --process_id 2",
            "process_id must be 0 to 1 of 2 processes, got 2",
        ),
        ("sweep act_parity --grid units=8,many", "units must be of type int, got 'many'"),
        ("sweep act_parity --grid units=8 --jobs 0", "jobs must be 1 or more, got 0"),
        ("sweep act_parity --grid units=8 --shard 2", "--shard must be I/N, such as 0/4, got '2'"),
        ("sweep act_parity --grid units=8 --shard 2/2", "a shard I/N must have an I from 0 to N"),
        ("sweep act_parity --grid units=8,9,8", "the grid has a value of 'units' twice: 8, 9, 8"),
        ("sweep act_parity --grid units=8 units=9", "units has values by --grid, and others by"),
        ("sweep act_parity --grid units=8 --set units=9", "units has values by --grid, and others"),
        ("evaluate {empty}", "{empty} holds no run: it has no config.json"),
        ("export {empty} --output {empty}", "{empty} holds no run: it has no config.json"),
        ("tensorboard nowhere", "no entry is called 'nowhere'"),
        ("data fetch nothing", "no data set is called 'nothing'"),
        ("predict act_parity --address localhost:1", "localhost:1 answered UNAVAILABLE"),
        ("predict act_parity 1012", "expected 1 to 64 of 1, 0 and - (for -1), such as 1011-0; got"),
        ("predict act_parity --inputs {{}} 1", "predict wants INPUT or --inputs, not both"),
        ("predict act_parity --version 1 --label a 1", "a version or a label, not both"),
        ("predict act_parity --certificate {empty}/ca.pem 1", "{empty}/ca.pem: No such file"),
        (
            "predict act_wikipedia --signature step x",
            "act_wikipedia takes INPUT for serve, score, sample; write the inputs of 'step' as",
        ),
        ("predict nothing 1", "no entry is called 'nothing'"),
        ("predict act_parity 1 --signature no", "act_parity has no signature 'no'; it has ['ser"),
        ("predict x --inputs [", "--inputs wants JSON, such as {{"),
        ("tensorboard {empty}", "there are no event files in {empty} yet"),
    ],
)
def test_errors_are_said_in_words(ponderzoo, tmp_path, words, error):
    code, _, err = ponderzoo(words.format(empty=tmp_path))
    assert code == 1
    assert err.startswith(f"error: {error.format(empty=tmp_path)}")


def test_an_input_goes_to_the_first_signature_that_takes_it(ponderzoo, monkeypatch):
    asked = []

    def answer(client, name, inputs, signature, *rest):
        asked.append(signature)
        raise ValueError("enough")

    monkeypatch.setattr("ponderzoo.export.client.Client.predict", answer)
    entry = zoo.info("deep_ctc_phonemes")
    speech = entry.notation(zoo.task_of(entry))["decode"].example[0]
    ponderzoo(["predict", "deep_ctc_phonemes", speech])
    ponderzoo(["predict", "deep_ctc_phonemes", "--signature", "beam", speech])
    ponderzoo(["predict", "act_parity", "101"])
    assert asked == ["decode", "beam", "serve"]


def test_what_inputs_are_is_said(ponderzoo, tmp_path):
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "cut").write_text('{"bits": [[1')
    for text, words in (
        ("nowhere.json", "; 'nowhere.json' is neither (No such file or directory)"),
        (str(tmp_path / "list"), "is JSON, but no object"),
        (str(tmp_path / "cut"), "is no JSON: Expecting ',' delimiter"),
        ('{"bits": x}', "; '{\"bits\": x}' is no JSON: Expecting value"),
    ):
        code, _, err = ponderzoo(["predict", "act_parity", "--inputs", text])
        assert code == 1 and words in err and err.count("\n") == 1


def test_an_entry_without_weights_says_how_to_get_them(ponderzoo, monkeypatch, tmp_path):
    monkeypatch.setattr("ponderzoo.zoo._registry.PRETRAINED", str(tmp_path))
    for words in ("evaluate act_parity", "tensorboard act_parity"):
        code, _, err = ponderzoo(words)
        assert code == 1 and "`ponderzoo train act_parity --run_dir runs/act_parity`" in err
        assert str(tmp_path) not in err


def test_tensorboard_shows_a_run_by_the_name_of_its_entry(trained):
    logs = os.path.join(trained, "logs")
    assert training.logs_of(trained) == ["--logdir_spec", f"act_parity:{logs}"]
    assert training.logs_of(os.path.dirname(trained)) == ["--logdir", os.path.dirname(trained)]
    directory = zoo.info("act_logic").directory
    assert training.logs_of("act_logic") == ["--logdir_spec", f"act_logic:{directory}/logs"]


def test_training_ends_with_error_and_ponder_by_difficulty(ponderzoo, trained):
    _, out, _ = ponderzoo(f"train act_parity --run_dir {trained} --set {SMALL}")
    numbers, levels = out.split("\n\n")
    assert numbers.split()[0] == "sequence_error"
    head, *rows = levels.splitlines()
    assert head.split() == ["bits", "set", "sequence_error", "ponder"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(0 <= float(row.split()[1]) <= 1 <= float(row.split()[2]) <= 3 for row in rows)


def test_the_pages_train_with_settings_that_are_there():
    root = os.path.dirname(os.path.dirname(__file__))
    paths = [os.path.join(root, "README.md"), *glob.glob(os.path.join(root, "docs", "*", "*.md"))]
    texts = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    text = "\n".join(texts).replace("\\\n", " ")
    found = re.findall(r"^ponderzoo (?:train|sweep) (\w+) [^#\n]*--set ([^#\n]+)", text, re.M)
    assert len(found) >= 2
    for name, pairs in found:
        chosen = _settings.choose(zoo.info(name), pairs.split())
        recipe, one = Recipe.parse(chosen["recipe"]), task(zoo.info(name).task, **chosen["task"])
        recipe.check(one)


def test_unknown_setting_lists_all_by_group(ponderzoo):
    _, _, err = ponderzoo("train act_parity --set what=1")
    lines = err.splitlines()
    assert lines[1].startswith("  model: ") and "time_penalty=" in lines[1]
    assert lines[2].startswith("  recipe: ") and "learning_rate=" in lines[2]
    assert lines[3].startswith("  task: ") and "bits=" in lines[3]


def test_settings_go_to_their_group():
    entry = zoo.info("act_parity")
    chosen = _settings.choose(entry, ["bits=12", "recipe.seed=7", "time_penalty=1e-4"])
    assert chosen["task"]["bits"] == 12 and chosen["recipe"]["seed"] == 7
    assert chosen["model"]["time_penalty"] == 1e-4
    assert _settings.choose(entry, [])["model"] == entry.config


def test_a_setting_of_two_groups_needs_its_group(monkeypatch):
    groups = {"model": {"seed": 1}, "recipe": {"seed": 2}, "task": {}}
    monkeypatch.setattr(_settings, "settings_of", lambda *given: copy.deepcopy(groups))
    with pytest.raises(ValueError, match=r"write one of model\.seed, recipe\.seed"):
        _settings.choose(None, ["seed=3"])
    assert _settings.choose(None, ["model.seed=3"])["model"] == {"seed": 3}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("learning_rate=nan", "learning_rate must be a finite number, got 'nan'"),
        ("time_penalty=nan", "time_penalty must be a finite number, got 'nan'"),
        ("learning_rate=-1", "learning_rate must be 0 or more, got -1.0"),
        ("bits=0", "bits must be 1 or more, got 0"),
        ("cell=transformer", "cell must be one of ['gru', 'lstm', 'rnn'], got 'transformer'"),
        ("max_ponder=0", "max_ponder must be"),
        ("units=0", "units"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_a_line(ponderzoo, tmp_path, setting, words):
    code, out, err = ponderzoo(f"train act_parity --run_dir {tmp_path}/runs/a --set {setting}")
    assert code == 1 and out == "" and err.count("\n") == 1
    assert words in err and os.listdir(tmp_path) == []


def test_counts_of_a_task_are_counts():
    assert task("episodic_copy", delay=0).delay == 0 and task("phonemes", most=0).most == 0
    for name, setting in (("sort", "numbers"), ("repeat_copy", "repeats"), ("logic", "gates")):
        with pytest.raises(ValueError, match=f"{setting} must be 1 or more, got 0"):
            task(name, **{setting: 0})
    with pytest.raises(ValueError, match="most must be 0 or more, got -1"):
        task("phonemes", most=-1)


def test_a_full_disk_is_said_with_what_to_do(ponderzoo, monkeypatch):
    def load(trained):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/backup/state.npz")

    monkeypatch.setattr(Trained, "load", load)
    _, _, err = ponderzoo("evaluate act_parity")
    what = "No space left on device; make room and give the same command again"
    assert err == f"error: runs/a/backup/state.npz: {what}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_for_people_alone(monkeypatch):
    for stream, told in ((Terminal(), "a (1 of 2)\nb (2 of 2)\n"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(_command.counted(["a", "b"])) == ["a", "b"]
        assert stream.getvalue() == told


def other(value):
    """Another value of the same type."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(other, value)) or value
    others = {bool: lambda: not value, int: lambda: value + 3, float: lambda: 0.3 - 1.5 * value}
    return others.get(type(value), lambda: f"{value}two = words")()


@pytest.mark.parametrize("name", zoo.list())
def test_changes_are_what_set_takes(name):
    entry = zoo.info(name)
    assert _settings.changes(entry, _settings.settings_of(entry)) == []
    for differs in (lambda number: True, lambda number: number % 3 == 0):
        wanted = _settings.settings_of(entry)
        # Another way of learning would have other settings.
        places = [(g, k) for g, some in wanted.items() for k in some if k != "learning"]
        for number, (group, key) in enumerate(places):
            if differs(number):
                wanted[group][key] = other(wanted[group][key])
        for settings in (wanted, json.loads(json.dumps(wanted))):
            pairs = _settings.changes(entry, settings)
            assert len(pairs) == sum(map(differs, range(len(places))))
            assert _settings.choose(entry, pairs) == wanted


def test_changes_name_the_group_where_two_have_the_key(monkeypatch):
    groups = {"model": {"seed": 1}, "recipe": {"seed": 2, "learning": "supervised"}, "task": {}}
    monkeypatch.setattr(_settings, "settings_of", lambda *given: copy.deepcopy(groups))
    wanted = {"model": {"seed": 3}, "recipe": {"seed": 2, "learning": "supervised"}, "task": {}}
    assert _settings.changes(None, wanted) == ["model.seed=3"]
    assert _settings.choose(None, ["model.seed=3"]) == wanted


def test_a_setting_that_is_unknown_now_is_named():
    entry = zoo.info("act_parity")
    with pytest.raises(ValueError, match=r"act_parity has no setting model\.gates now"):
        _settings.changes(entry, {"model": {"gates": 1}, "recipe": {}, "task": {}})


def test_a_younger_setting_had_its_default(tmp_path):
    entry = zoo.info("grid_lstm_translation")
    settings = _settings.settings_of(entry)
    assert settings["model"].pop("embedding") and settings["recipe"].pop("noise_from") == 0
    config = {"entry": entry.name, "task": entry.task, "config": settings["model"]}
    config |= {"train": settings["recipe"], "task_config": {}}
    write_json(tmp_path / "config.json", config)
    found = Trained.find(str(tmp_path))
    assert found.config["config"] == settings["model"] | {"embedding": 0}
    assert found.config["train"] == settings["recipe"] | {"noise_from": 0.0}
    assert found.config["task_config"] == dataclasses.asdict(found.task)
    write_json(tmp_path / "metrics.json", {"backend": "tensorflow"})
    assert "embedding=0" in Run.read(str(tmp_path)).settings


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("[]", "TypeError"),
        ('{"entry": "act_parity"}', "KeyError: 'task'"),
        ('{"entry": ["act_parity"]}', "TypeError"),
        ('{"entry": "act_parity", "task": "parity", "task_config": 5}', "TypeError"),
        ('{"entry": "act_parity", "task": "parity", "task_config": {}}', "KeyError"),
    ],
)
def test_a_damaged_config_is_said_in_a_line(ponderzoo, tmp_path, content, error):
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    for words in (f"evaluate {tmp_path}", f"publish {tmp_path}"):
        code, _, err = ponderzoo(words)
        assert code == 1 and err.count("\n") == 1
        assert f"{tmp_path}/config.json is no config.json of a run ({error}" in err


@pytest.mark.parametrize(
    ("content", "error"),
    [("", "it is empty"), ("{", "JSONDecodeError"), ("\udcff", "UnicodeDecodeError")],
)
def test_a_config_that_is_cut_off_is_said_in_a_line(ponderzoo, tmp_path, content, error):
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    code, _, err = ponderzoo(f"evaluate {tmp_path}")
    assert code == 1 and err.count("\n") == 1
    assert err.startswith(f"error: {tmp_path}/config.json is damaged or cut off (") and error in err


def test_train_fills_the_run_directory(trained):
    expected = "backup config.json figures history.json logs metrics.json model.keras saved_model"
    assert sorted(os.listdir(trained)) == expected.split()
    assert os.path.exists(os.path.join(trained, "saved_model", "saved_model.pb"))
    with open(os.path.join(trained, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    assert config["entry"] == "act_parity" and config["task_config"]["bits"] == 6
    assert config["config"]["units"] == 8 and config["train"]["updates"] == 4


def test_train_again_is_refused_or_done(ponderzoo, trained):
    code, out, err = ponderzoo(f"train act_parity --run_dir {trained} --set {SMALL}")
    assert code == 0 and "Epoch" not in out and "sequence_error" in out
    code, _, err = ponderzoo(f"train act_parity --run_dir {trained} --set {SMALL} --set seed=2")
    assert code == 1
    assert err.startswith(f"error: {trained} holds another run (train.seed: 1 there, 2 asked)")


def test_evaluate_repeats_the_metrics(ponderzoo, trained):
    _, out, _ = ponderzoo(f"evaluate {trained} --rows 50")
    shown = dict(line.split() for line in out.splitlines())
    with open(os.path.join(trained, "metrics.json"), encoding="utf-8") as file:
        metrics = json.load(file)
    for name, value in shown.items():
        assert float(value) == pytest.approx(metrics[name], rel=1e-4)
    assert {"sequence_error", "ponder", "at_cap"} <= set(shown)


def test_figures_are_files(ponderzoo, trained, tmp_path):
    _, out, _ = ponderzoo(f"figures {trained} --output {tmp_path}")
    assert out.split() == [str(tmp_path / "difficulty.png")]
    assert (tmp_path / "difficulty.png").stat().st_size > 1000


def test_verify_looks_at_every_version(ponderzoo, trained, tmp_path):
    for version in (3, 12):
        ponderzoo(f"export {trained} --output {tmp_path} --version {version}")
    third, twelfth = (tmp_path / "act_parity" / version for version in ("3", "12"))
    code, out, _ = ponderzoo(f"verify {tmp_path}")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == [str(third), str(twelfth)]
    assert out.count(": passed, 2 signatures, ") == 2
    os.remove(third / "variables" / "variables.index")
    code, out, _ = ponderzoo(f"verify {tmp_path / 'act_parity'}")
    assert code == 1
    assert f"{third} breaks" in out and "there is no variables.index" in out
    assert f"{twelfth}: passed" in out
    assert ponderzoo(f"verify {twelfth}")[0] == 0
    code, _, err = ponderzoo(f"verify {tmp_path / 'nothing'}")
    assert code == 1 and "holds no model" in err


def test_export_then_predict(ponderzoo, trained, tmp_path):
    from ponderzoo.export.server._server import Server

    code, out, _ = ponderzoo(f"export {trained} --output {tmp_path} --version 3")
    assert code == 0 and out.strip() == str(tmp_path / "act_parity" / "3")
    assert (tmp_path / "models.config").exists()
    with Server(str(tmp_path)) as server:
        ask = f"predict act_parity --address {server.address}"
        code, out, _ = ponderzoo(ask + ' --inputs {"bits":[[1,-1,0,0,1,1],[1,0,0,0,0,0]]}')
        assert code == 0 and out.count("row ") == 2
        assert "bits                     [ 1 -1  0  0  1  1]" in out and "probability" in out
        (tmp_path / "request.json").write_text('{"bits": [[2, 0, 0, 0, 0, 0]]}')
        code, _, err = ponderzoo(f"{ask} --inputs {tmp_path / 'request.json'}")
        assert code == 1 and "bits must be -1 to 1, got" in err
        code, _, err = ponderzoo(f"{ask} --signature thing")
        assert code == 1 and "act_parity has no signature 'thing'; it has ['serve']" in err
        code, _, err = ponderzoo(ask)
        assert code == 1 and "bits" in err  # the entry's own sample has more bits
        # The run knows how many it has; INPUT may stand anywhere.
        for words in ("{run} 1011-0 1 {at}", "{run} 1011-0 {at} 1", "{at} {run} -- 1011-0 1"):
            words = words.format(run=trained, at=f"--address {server.address}")
            code, out, _ = ponderzoo(f"predict {words}")
            assert code == 0
            first, second = out.split("\n\n")
            line = r"ones      (odd|even) \(\d\.\d\d\)   (right|wrong)"
            assert re.fullmatch(rf"bits      1011-0\n{line}\nupdates   \d", first)
            assert second.startswith("bits      100000\n")
        code, out, _ = ponderzoo(f"predict {trained} --address {server.address} --json 1 -1")
        assert code == 0
        outputs = json.loads(out)
        assert list(outputs) == ["odd", "probability", "remainder", "updates"]
        assert {len(rows) for rows in outputs.values()} == {2}


def test_predict_reads_and_shows_words_of_bits(ponderzoo, tmp_path, monkeypatch):
    from ponderzoo.export import _gate, _package
    from ponderzoo.export.server._server import Server

    # The gate has its own tests, and takes its time with 128 slots.
    monkeypatch.setattr(_gate, "verify", lambda *given: None)
    monkeypatch.setattr(_package, "BATCH_SIZES", (1,))
    monkeypatch.setattr(_package, "ALLOWED_BATCH_SIZES", (1, 2))
    assert ponderzoo(f"export ntm_copy --output {tmp_path}")[0] == 0
    with Server(str(tmp_path)) as server:
        ask = ["predict", "ntm_copy", "--address", server.address]
        code, out, _ = ponderzoo([*ask, "35 e2 00001111", "ff"])
        assert code == 0
        first, second = out.strip().split("\n\n")
        vectors, copied = first.splitlines()
        assert vectors == "vectors     35  e2  0f" and copied == "copied      35  e2  0f   right"
        assert second == "vectors     ff\ncopied      ff   right"
        code, _, err = ponderzoo([*ask, "35 e"])
        assert code == 1 and err.startswith("error: expected vectors") and err.count("\n") == 1
        # Whole numbers of JSON are floats where the server takes such, and nothing else is changed.
        channels = zoo.task_of(zoo.info("ntm_copy")).channels
        rows = {"sequence": [[[0] * channels] * 2], "lengths": [2]}
        code, out, _ = ponderzoo([*ask, "--inputs", json.dumps(rows)])
        assert code == 0 and "row 1" in out
        code, _, err = ponderzoo([*ask, "--inputs", json.dumps(rows | {"lengths": [2.5]})])
        assert code == 1 and "int32" in err


def test_data_lists_its_sets(ponderzoo):
    code, out, _ = ponderzoo("data list")
    assert code == 0 and "enwiki" in out


FAKE = """
import json, os, sys
words = sys.argv[1:]
run_dir, settings = words[1], words[3:]
assert os.environ["OMP_NUM_THREADS"] == "1"
assert "--xla_cpu_multi_thread_eigen=false" in os.environ["XLA_FLAGS"]
if "seed=2" in settings:
    sys.exit("error: no luck")
with open(os.path.join(run_dir, "metrics.json"), "w") as file:
    json.dump({"settings": settings}, file)
"""


def test_sweep_collects_and_reports(tmp_path):
    command, grid = [sys.executable, "-c", FAKE], {"time_penalty": [0.1, 0.01], "seed": [1, 2]}
    table = sweep(command, grid, str(tmp_path))
    assert [(row["time_penalty"], row["seed"]) for row in table] == [
        (0.1, 1),
        (0.1, 2),
        (0.01, 1),
        (0.01, 2),
    ]
    assert table[0]["settings"] == ["time_penalty=0.1", "seed=1"]
    assert table[1]["failed"] == "error: no luck" and "settings" not in table[1]
    assert os.path.isdir(tmp_path / "time_penalty=0.01,seed=2")
    assert json.loads((tmp_path / "sweep.json").read_text()) == table


def test_shards_of_a_sweep_make_one_table_whoever_ends_last(tmp_path):
    command, grid = [sys.executable, "-c", FAKE], {"seed": [1, 2, 3, 4, 5]}
    one = sweep(command, grid, str(tmp_path / "one"))
    for row in one:
        row["run_dir"] = row["run_dir"].replace("/one/", "/many/")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        shards = [
            pool.submit(sweep, command, grid, str(tmp_path / "many"), 1, (number, 3))
            for number in (2, 0, 1)
        ]
        tables = [shard.result() for shard in shards]
    assert json.loads((tmp_path / "many" / "sweep.json").read_text()) == one
    assert one in tables
    trained = sweep(command, {"seed": [1, 3]}, str(tmp_path / "half"), 1, (1, 2))
    assert trained[0] == {"seed": 1, "run_dir": str(tmp_path / "half" / "seed=1")}
    assert not os.path.exists(trained[0]["run_dir"]) and "settings" in trained[1]


ENDLESS = """
import os, sys, time
open(os.path.join(sys.argv[sys.argv.index("--run_dir") + 1], str(os.getpid())), "w").close()
time.sleep(600)
"""


def runs(process):
    """Whether a process is more than an entry that nobody has asked for yet."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_ended_leaves_no_process_behind(tmp_path, number):
    code = "import sys; from ponderzoo.trainers._sweep import sweep; "
    code += "sweep([sys.executable, '-c', sys.argv[1]], {'seed': [1, 2, 3]}, sys.argv[2])"
    program = subprocess.Popen([sys.executable, "-c", code, ENDLESS, str(tmp_path)])
    begun = []
    while len(begun) < 2:
        assert program.poll() is None
        time.sleep(0.1)
        begun = [int(path.name) for path in tmp_path.glob("*/[0-9]*")]
    program.send_signal(number)
    assert program.wait(60) == -number
    while any(map(runs, begun)):
        time.sleep(0.1)
    assert not (tmp_path / "seed=3").exists()


NODE = """
import time
time.sleep(1)
open(os.path.join(run_dir, os.environ["RAY_RAYLET_PID"]), "w").close()
"""


def test_a_wrong_address_of_a_cluster_is_told_at_once(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        for wrong in (address, f"ray://{address}"):
            with pytest.raises(
                ConnectionError, match=f"no Ray cluster answers at {wrong}: .*refused"
            ):
                sweep([], {"seed": [1]}, str(tmp_path), ray=wrong)
    assert time.monotonic() - begun < 10


def test_the_machines_of_a_ray_cluster_share_a_sweep(tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    command, grid = [sys.executable, "-c", FAKE + NODE], {"seed": [1, 2, 3, 4]}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        table = sweep(command, grid, str(tmp_path), ray=cluster.address)
    finally:
        cluster.shutdown()
    assert table[1]["failed"] == "error: no luck"
    assert [row.get("settings") for row in table] == [["seed=1"], None, ["seed=3"], ["seed=4"]]
    machines = {file for n in (1, 3, 4) for file in os.listdir(tmp_path / f"seed={n}")}
    assert len(machines - {"metrics.json", "log.txt"}) == 2
