"""Several processes that train one run: the numbers of one, and an end that people can read."""

import atexit
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import traceback

import keras
import numpy as np
import pytest
import test_fit
from ponderzoo.layers import AdaptiveWeightNoise, WeightNoise
from ponderzoo.layers import _backend as backend
from ponderzoo.trainers import ProcessGroup, Recipe, fit
from ponderzoo.trainers._callbacks import StopAtNaN
from ponderzoo.trainers._files import read_json
from ponderzoo.trainers._process_group import last_words
from test_fit import BITS, Majority, assert_same_weights, read, weights

RECIPE = {
    "updates": 60,
    "steps_per_epoch": 20,
    "batch_size": 16,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "clipnorm": 0.02,
    "curriculum": 0.5,
    "validation_rows": 16,
    "evaluation_rows": 50,
    "histograms": 0,
    "figures": False,
}
CODE = """
import os, sys
sys.path.insert(0, os.getcwd())
os.chdir(sys.argv[1])
from test_process_group import *
"""


def normalized():
    signs = keras.Input((BITS,), name="signs")
    hidden = keras.layers.BatchNormalization(name="normalization")(signs)
    return keras.Model({"signs": signs}, {"more": keras.layers.Dense(1)(hidden)})


def train(run_dir, group=None, build=test_fit.build, measures=test_fit.measures, **recipe):
    """Trains, and ends as the program does."""
    try:
        fit(build, Majority(), RECIPE | recipe, run_dir, measures=measures, group=group)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def kill_behind(updates):
    """Has this process kill itself behind so many updates."""
    told, left = StopAtNaN.on_train_batch_end, iter(range(updates - 1))

    def count(self, *given, **named):
        told(self, *given, **named)
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    StopAtNaN.on_train_batch_end = count


def pair(run_dir, kill=(0, 0), seeds=(1, 1), sizes=(2, 2), **options):
    """Functions of two processes that train a run; the second has another directory."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

    def one(rank):
        def function():
            if kill[rank]:
                kill_behind(kill[rank])
            group = ProcessGroup(address, sizes[rank], rank)
            train([run_dir, "nowhere"][rank], group, seed=seeds[rank], **options)

        return function

    return [one(0), one(1)]


def together(functions):
    """Calls each in a process of its own, and prints how they ended and what they said."""
    children = [_begin(number, function) for number, function in enumerate(functions)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    time.sleep(0.3)  # for last words
    said = []
    for number in range(len(children)):
        with open(f"said{number}", encoding="utf-8") as file:
            said.append(file.read())
    print("\n" + json.dumps([ends, said]))


def _begin(number, function):
    child = os.fork()
    if child:
        return child
    code = 70
    os.dup2(os.open(f"said{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        function()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        os._exit(code)


@pytest.fixture
def ends(fresh):
    """`ends(directory, code)`: how the functions ended that it puts together, and their words."""

    def run(directory, code):
        said = fresh(f"{CODE}\ntogether({code})", directory, backend="jax")
        return json.loads(said.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_two_processes_learn_as_one_does(home, ends):
    """With dropout, a curriculum and gradients that are clipped."""
    assert ends(home, "[*pair('two'), lambda: train('one')]") == [[0, 0, 0], ["", "", ""]]
    one, two = (read(home / name, "history.json") for name in ("one", "two"))
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], abs=1e-5), name
    one, two = weights(home / "one"), weights(home / "two")
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5, err_msg=name)
    metrics = read_json(home / "two" / "metrics.json")
    assert metrics["num_processes"] == 2
    assert metrics["sequence_error"] == read_json(home / "one" / "metrics.json")["sequence_error"]
    assert not os.path.exists(home / "nowhere")


def test_the_gradients_of_these_runs_are_clipped():
    keras.utils.set_random_seed(1)
    model, task = test_fit.build(), Majority()
    inputs, targets = task.batch(np.random.default_rng(1), 16)
    loss = task.loss()["more"]
    variables = model.trainable_variables
    _, gradients = backend.value_and_gradients(
        lambda: loss(targets["more"], model(inputs)["more"]), variables, []
    )
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in gradients))
    assert norm > 10 * RECIPE["clipnorm"]


def test_a_killed_process_ends_both_and_a_restart_ends_as_an_unbroken_run(home, ends):
    for killed, kill in enumerate([(25, 0), (0, 25)]):
        codes, words = ends(home, f"pair('broken', {kill})")
        assert codes[killed] == -signal.SIGKILL and codes[1 - killed] in (1, -signal.SIGABRT)
        for number, said in enumerate(words):
            assert re.fullmatch(rf"error: process {number} of 2 .* another one\b.*\n", said), said
            assert "start all of them again, and the run goes on where it stood" in said
    assert ends(home, "pair('broken')") == [[0, 0], ["", ""]]
    assert_same_weights(home / "two", home / "broken")
    one, other = (read(home / name, "history.json") for name in ("two", "broken"))
    assert [{**row, "seconds": 0} for row in one] == [{**row, "seconds": 0} for row in other]


def test_all_end_where_one_is_refused(home, ends, tmp_path):
    codes, words = ends(tmp_path, "pair('run', seeds=(1, 2))")
    assert codes == [1, 1]
    settings = "process 1 was started with other settings than process 0"
    assert settings in words[0] and f"{settings} (train.seed: 1 there, 2 asked)" in words[1]
    assert not os.path.exists(tmp_path / "run")
    codes, words = ends(tmp_path, "pair('run', sizes=(2, 4))")
    assert codes == [1, 1]
    assert settings in words[0] and f"{settings} (num_processes: 2 there, 4 asked)" in words[1]
    assert not os.path.exists(tmp_path / "run")
    codes, words = ends(tmp_path, "pair('run', build=normalized, measures=lambda model: {})")
    assert codes == [1, 1]
    for said in words:
        assert "normalization/moving_mean" in said and "train it in one process" in said
    assert not os.path.exists(tmp_path / "nowhere")


def aborted():
    os.dup2(2, 1)
    with last_words() as words:
        words("error: first")
        words("error: last")
        os.write(1, b"noise")
        os.write(2, b"noise")
        os.abort()


def spoken():
    os.dup2(2, 1)
    with contextlib.suppress(ValueError), last_words() as words:
        words("error: last")
        print("progress")
        raise ValueError
    print("own words", file=sys.stderr)
    os.write(2, b"more words\n")


def test_an_abort_is_said_in_one_line(ends, tmp_path):
    codes, words = ends(tmp_path, "[aborted, spoken]")
    assert codes == [-signal.SIGABRT, 0]
    assert words == ["error: last\n", "progress\nown words\nmore words\n"]


def shared_out(layer):
    """Has a process of two train a model of one layer."""
    model = keras.Sequential([keras.Input((3, 4)), layer])
    model.compile()
    ProcessGroup("localhost:9000", 2, 1).train(model)


def refusals():
    lstm = keras.layers.LSTM(2, dropout=0.1)
    for layer in (
        keras.layers.LSTM(2),
        WeightNoise(keras.layers.Dense(2)),
        keras.layers.Dropout(0.1),
    ):
        shared_out(layer)
    for layer in (lstm, AdaptiveWeightNoise(keras.layers.Dense(2), examples=10)):
        with pytest.raises(ValueError, match="needs all rows of a batch in one process"):
            shared_out(layer)
    group = ProcessGroup("localhost:9000", 2, 1)
    group.check(Recipe.parse({}))
    with pytest.raises(ValueError, match=r"a multiple of num_processes \(2\), got 9"):
        group.check(Recipe.parse({"batch_size": 9}))
    for way in ("truncated_bptt", "syllabus", "q_learning", "actor_critic"):
        with pytest.raises(ValueError, match=f"learning={way} takes one process"):
            group.check(Recipe.parse({"learning": way}))


def test_what_cannot_be_shared_out_is_refused(ends, tmp_path):
    assert ends(tmp_path, "[refusals]") == [[0], [""]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("", 0, 0), "num_processes must be 1 or more, got 0"),
        (("host:1", 2, 2), "process_id must be 0 to 1 of 2 processes, got 2"),
        (("host", 2, 1), "the coordinator must be HOST:PORT, such as trainer-0:9000, got 'host'"),
        (("host:65536", 2, 1), "the coordinator must be HOST:PORT, such as .*, got 'host:65536'"),
        (("host:1", 2, 1), r"on JAX alone \(KERAS_BACKEND=jax\): on TensorFlow, Keras clips"),
    ],
)
def test_a_group_says_what_is_wrong(arguments, words):
    with pytest.raises(ValueError, match=words):
        ProcessGroup(*arguments)
