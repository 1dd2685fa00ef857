"""ONNX files: those that are written answer as the model does, and the others are named."""

import builtins

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ponderzoo.export import _cli, _onnx
from ponderzoo.zoo.signatures._signature import Signature

ROWS = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def signature(function, *outputs):
    """One of `x`, `(batch, 4)`."""
    meanings = dict.fromkeys(outputs, "a number")
    return Signature(function, {"x": ((None, 4), "float32")}, {"x": ROWS}, meanings)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What became of a network, of a root that ONNX lacks, and of one that is never the same."""
    keras.utils.set_random_seed(0)
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")])
    chance = tf.random.Generator.from_seed(1)
    served = {
        "serve": signature(lambda x: {"y": dense(x), "a": tf.argmax(x, axis=1)}, "y", "a"),
        "root": signature(
            lambda x: {"y": tf.linalg.cholesky(x[..., None] * x[:, None] + tf.eye(4))}, "y"
        ),
        "noise": signature(lambda x: {"y": x + chance.normal(tf.shape(x))}, "y"),
    }
    home = tmp_path_factory.mktemp("onnx") / "model"
    return home, dense, *_onnx.write_onnx(served, str(home))


def test_what_is_written_answers_by_the_signature_s_names(written):
    home, dense, files, _ = written
    assert files == {"serve": str(home / "serve.onnx")}
    session = onnxruntime.InferenceSession(files["serve"])
    for rows in (1, 5):
        x = np.random.default_rng(rows).normal(size=(rows, 4)).astype("float32")
        y, a = session.run(["y", "a"], {"x": x})
        np.testing.assert_allclose(y, dense(x), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(a, x.argmax(axis=1))


def test_what_cannot_be_is_named_with_the_reason_and_not_written(written):
    home, _, _, refused = written
    assert refused.keys() == {"root", "noise"} and "Cholesky" in refused["root"]
    assert all(
        0 < len(reason) <= _onnx.LONGEST and "\n" not in reason for reason in refused.values()
    )
    assert [path.name for path in home.iterdir()] == ["serve.onnx"]


def test_an_answer_that_differs_is_refused(written, monkeypatch, tmp_path):
    _, dense, *_ = written
    served = {"serve": signature(lambda x: {"y": dense(x)}, "y")}
    cases = [({"x": ROWS}, {"y": np.asarray(dense(ROWS)) + 0.01})]
    monkeypatch.setattr(_onnx, "expected_of", lambda signatures: {"serve": cases})
    files, refused = _onnx.write_onnx(served, str(tmp_path / "no"))
    assert not files and "y differs from the model by up to 0.01" in refused["serve"]
    assert not (tmp_path / "no").exists()


def test_an_entry_is_exported_by_the_program(tmp_path, capsys):
    words = ["export", "grid_lstm_parity", "--format", "onnx", "--output", str(tmp_path)]
    assert _cli._run(_cli._parser().parse_args(words)) == 0
    assert capsys.readouterr().out == f"{tmp_path}/grid_lstm_parity/serve.onnx\n"


def test_what_is_of_packages_alone_is_refused(tmp_path, capsys):
    words = ["export", "grid_lstm_parity", "--format", "onnx", "--output", str(tmp_path / "no")]
    for option, *value in (
        ["--version", "0"],
        ["--version", "2"],
        ["--versions", "all"],
        ["--label", "stable=1"],
        ["--xla"],
        ["--tls_key", "k"],
        ["--tls_cert", "c"],
        ["--tls_ca", "a"],
        ["--tls_verify"],
    ):
        assert _cli._run(_cli._parser().parse_args([*words, option, *value])) == 1
        said = capsys.readouterr().err
        assert f"{option} is for packages, which --format=onnx writes none of" in said
    assert not (tmp_path / "no").exists()


def test_a_missing_converter_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(
        _onnx.importlib, "import_module", lambda name: builtins.__import__("absent")
    )
    with pytest.raises(ImportError, match=r"ONNX needs onnx: pip install 'ponderzoo\[onnx\]'"):
        _onnx.write_onnx({}, str(tmp_path))
