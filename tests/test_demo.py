"""The demo from package to picture, on an untrained model."""

import contextlib
import io
import re
import socket

import keras
import numpy as np
import pytest
from matplotlib.image import imread
from ponderzoo import zoo
from ponderzoo.export import _demo


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = zoo.build("act_addition", units=16)
    # Wide weights ponder longer over some numbers than over others.
    model.set_weights([8 * value for value in model.get_weights()])
    model.get_layer("act").halting.bias.assign([-1.0])
    return model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def told(model, directory):
    """What the demo prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _demo.demo(model, directory, rows=50)
    return out.getvalue()


def answer(model, sums):
    """Running sums and updates of every row as the model itself gives them."""
    sequence = np.zeros((len(sums), 5, 5, 10), "float32")
    for row, numbers in enumerate(sums):
        for step, number in enumerate(numbers):
            for place, digit in enumerate(number):
                sequence[row, step, place, int(digit)] = 1
    lengths = np.array([len(numbers) for numbers in sums])
    outputs = model({"sequence": sequence.reshape(-1, 5, 50), "lengths": lengths})
    classes, updates = (np.asarray(outputs[name]) for name in ("sum", "updates"))
    for digits, spent, length in zip(classes.argmax(axis=-1), updates, lengths):
        written = ["".join(str(d) for d in step if d < 10) for step in digits[1:length]]
        yield written, spent[:length].tolist()


def test_entries_that_solve_their_tasks_answer_right(tmp_path):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _demo.solved(tmp_path, ["act_parity"])
    told = out.getvalue()
    assert "act_parity, whose error on 10,000 rows was 0.04%" in told
    assert told.count("right") == 3 and "wrong" not in told


def test_prints_the_answers_and_the_ponder_of_the_model_itself(model, told):
    tables = re.findall(r"^numbers(.*)\nanswers(.*)\n(?:truth.*\n)?updates(.*)$", told, re.M)
    sums = [line.split() for line in _demo.SUMS]
    assert [numbers.replace("+", "").split() for numbers, _, _ in tables] == sums
    for (_, answers, updates), (written, spent) in zip(tables, answer(model, sums)):
        assert answers.split() == [*filter(None, written), "wrong"]
        assert [int(count) for count in updates.split()] == spent
    assert len({count for _, _, updates in tables for count in updates.split()}) > 3
    assert "Right     0 of these 9, 0 of 50 random sums" in told
    assert "Same      59 of all 59" in told


def test_says_what_is_true_where_an_answer_is_wrong(told):
    assert re.search(r"numbers +99999 +\+ +1\nanswers.*wrong\ntruth +100000\n", told)
    assert re.search(r"^Curves +\S*ponderzoo tensorboard act_addition$", told, re.M)


def test_draws_a_picture(directory, told):
    picture = imread(directory / "ponder.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1200
    assert picture[..., :3].std() > 0.1


def test_stops_the_server(told):
    (port,) = re.findall(r"^Server +127\.0\.0\.1:(\d+), gRPC", told, re.M)
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", int(port)))


def test_runs_again_and_refuses_answers_that_are_not_the_model_s(
    model, directory, told, monkeypatch
):
    def predict(model, task, sums):
        return [["0"]] * len(sums), [[1]] * len(sums)

    monkeypatch.setattr(_demo, "_predict", predict)
    with pytest.raises(RuntimeError, match="11 answers differ"):
        _demo.demo(model, directory, rows=2)
    assert [path.name for path in (directory / _demo.NAME).iterdir()] == ["1"]


def test_without_weights_says_how_to_get_them(monkeypatch, capsys):
    def load(name):
        raise FileNotFoundError(f"{name} ships no weights")

    monkeypatch.setattr(zoo, "load", load)
    assert _demo.main() == 1
    assert capsys.readouterr().err == "error: act_parity ships no weights\n"
