"""The demo: from packages to a server that is asked, and every act with an answer that is wrong."""

import io
import re
import socket

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread
from ponderzoo import zoo
from ponderzoo.export import _demo

ANSWERS = {}
WRONG = {  # what is done to which output, and what is said of it
    _demo.think: ("truth", lambda x: 1 - x, "act_logic answers 0 of 200 questions right"),
    _demo.write: ("text", lambda x: np.array([b"we writ"]), "expected 'we write .*' to be read"),
    _demo.draw: ("probability", lambda x: x / 2, "expected digits that are seen as such"),
    _demo.hear: ("phonemes", lambda x: x[:, ::-1], "heard pau t ay"),
    _demo.play: ("rewards", lambda x: -x, "dqn_catch caught 0 of 4"),
}


class Direct:
    """A client of entries themselves, without packages and server; `spoil` changes an output."""

    def __init__(self, spoil=None, change=None):
        self.spoil, self.change = spoil, change

    def predict(self, name, inputs, signature="serve"):
        if (name, signature) not in ANSWERS:
            entry = zoo.info(name)
            served = entry.signatures(zoo.load(name), zoo.task_of(entry))[signature]
            given = {k: tf.constant(inputs[k], dtype) for k, (_, dtype) in served.inputs.items()}
            found = tf.function(served.function, autograph=False)(**given)
            ANSWERS[name, signature] = {key: value.numpy() for key, value in found.items()}
        found = dict(ANSWERS[name, signature])
        if self.spoil in found:
            found[self.spoil] = self.change(found[self.spoil])
        return found


def test_packages_serves_asks_and_ends(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    (tmp_path / "exports" / "old").mkdir(parents=True)
    _demo.demo(str(tmp_path), {_demo.think: _demo.ACTS[_demo.think]})
    assert {path.name for path in tmp_path.iterdir()} == {"exports"}
    assert {path.name for path in (tmp_path / "exports").iterdir()} == {"act_logic"}
    told = capsys.readouterr().out
    assert re.search(r"^Package +\S*exports/act_logic, 119,042 weights", told, re.M)
    assert "20 of 20 right" in told and "Right     every answer" in told
    assert told.endswith("until here: at a terminal it stays for 5 minutes\n")
    for port in re.findall(r"127\.0\.0\.1:(\d+)", told):
        with socket.socket() as caller:
            assert caller.connect_ex(("127.0.0.1", int(port)))


@pytest.mark.parametrize("act", _demo.ACTS, ids=lambda act: act.__name__)
def test_every_act_tells_right_from_wrong(act, tmp_path, capsys):
    act(Direct(), str(tmp_path))
    told = capsys.readouterr().out
    named = re.findall(r"^picture +(\S+)\.svg and .png(.*)", told, re.M)
    assert len(named) == {_demo.write: 1, _demo.draw: 3, _demo.play: 4}.get(act, 0)
    for stem, more in named:
        assert imread(f"{stem}.png").std() > 0.01 and (".gif" in more) == (act != _demo.write)
    spoil, change, words = WRONG[act]
    with pytest.raises(RuntimeError, match=words):
        act(Direct(spoil, change), str(tmp_path))


def test_thinking_that_does_not_grow_is_told():
    with pytest.raises(RuntimeError, match="does not think longer about more gates"):
        _demo.think(Direct("updates", np.ones_like), "")


def test_the_page_stays_open_at_a_terminal_until_ctrl_c(capsys, monkeypatch):
    def interrupted(seconds):
        assert seconds == 300
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("time.sleep", interrupted)
    _demo._hold("http://127.0.0.1:1")
    assert capsys.readouterr().out == (
        "Page      http://127.0.0.1:1, for 5 minutes, or until Ctrl-C\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [(RuntimeError("7 of 8"), 1, "error: 7 of 8\n"), (KeyboardInterrupt(), 130, "\ninterrupted\n")],
)
def test_what_goes_wrong_is_one_line(monkeypatch, capsys, error, code, told):
    def demo():
        raise error

    monkeypatch.setattr(_demo, "demo", demo)
    assert _demo.main() == code
    assert capsys.readouterr().err == told
