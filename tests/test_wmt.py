"""Sentences in two languages: files in the form of WMT's, and damaged ones."""

import gzip
import re

import pytest
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _store, wmt

SPLITS = "train", "validation", "test"


def write(folder, name, *lines, end="\n"):
    _store.write("".join(f"{line}{end}" for line in lines).encode(), str(folder / name))


@pytest.fixture
def sentences(tmp_path):
    """A directory in which the files lie in several ways, and others that do not count."""
    write(tmp_path / "training", "europarl-v7.de-en.de", "Äpfel", "Birnen", "", "Obst\u2028Gemüse")
    write(tmp_path / "training", "europarl-v7.de-en.en", "apples", "pears", "", "fruit and more")
    write(tmp_path, "commoncrawl.de-en.de", "eins", "zwei", end="\r\n")
    packed = gzip.compress(b"one\ntwo")
    (tmp_path / "commoncrawl.de-en.en.gz").write_bytes(packed)
    write(tmp_path, "europarl-v7.fr-en.fr", "un")
    write(tmp_path, "europarl-v7.fr-en.en", "one")
    write(tmp_path / "dev", "newstest2012.de", "nicht")
    write(tmp_path / "dev", "newstest2012.en", "not")
    write(tmp_path / "dev", "newstest2013.de", "drei")
    write(tmp_path / "dev", "newstest2013.en", "three")
    for kind, language, text in (("src", "de", "vier &amp;\nfünf"), ("ref", "en", "four &amp; 5")):
        sgm = (
            f'<srcset lang="any">\n<doc><p>\n<seg id="1">{text}</seg>\n<seg id="2"> b </seg></doc>'
        )
        write(tmp_path / "test", f"newstest2014-deen-{kind}.{language}.sgm", sgm)
    return tmp_path


def test_sentences_of_two_languages_are_read_by_their_splits(sentences):
    found = wmt.load(sentences)
    assert [len(found[split]) for split in SPLITS] == [6, 1, 2]
    assert list(found["train"]) == [
        *[("eins", "one"), ("zwei", "two"), ("Äpfel", "apples"), ("Birnen", "pears"), ("", "")],
        ("Obst\u2028Gemüse", "fruit and more"),
    ]
    assert list(found["validation"]) == [("drei", "three")]
    assert list(found["test"]) == [("vier & fünf", "four & 5"), ("b", "b")]
    assert found["train"][-1] == found["train"][5] and ("zwei", "two") in found["train"]
    with pytest.raises(IndexError):
        found["train"][6]
    turned = wmt.load(sentences, ("en", "de"))
    assert [pair[::-1] for pair in turned["train"]] == list(found["train"])


def test_lines_are_found_across_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(wmt, "PIECE", 7)
    wmt.sample(tmp_path)
    found = wmt.load(tmp_path)
    for split, count in zip(SPLITS, (40, 10, 10)):
        pairs = list(found[split])
        assert len(pairs) == count and all(re.fullmatch("[a-h ]{14}", one) for one, _ in pairs)
        assert all(one == other[::-1] for one, other in pairs)


def test_what_is_missing_is_named(sentences, tmp_path):
    assert not wmt.available(tmp_path / "cache")
    with pytest.raises(RuntimeError, match=r"cannot be downloaded.*root="):
        data.fetch("wmt", tmp_path / "cache")
    wmt.sample(tmp_path / "cache" / "wmt")
    assert wmt.available(tmp_path / "cache") and wmt.fetch(tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"no files of fr and en for validation in .*root="):
        wmt.load(sentences, ("fr", "en"))
    with pytest.raises(FileNotFoundError, match=r"no files of de and en for train in .*root="):
        wmt.load(tmp_path / "nowhere")


def test_a_damaged_file_is_named(sentences):
    file = sentences / "commoncrawl.de-en.en.gz"
    whole = file.read_bytes()
    for content, words in (
        (whole[:-9], r"commoncrawl.de-en.en.gz cannot be unpacked"),
        (
            gzip.compress(b"one\n"),
            r"commoncrawl.de-en.en.gz must belong together; there are 2 and 1",
        ),
        (gzip.compress(b"one\n\0\n"), r"commoncrawl.de-en.en.gz must be text"),
        (b"", r"commoncrawl.de-en.en.gz must belong together; there are 2 and 0"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=words) as told:
            wmt.load(sentences)
        assert "\n" not in str(told.value)
    file.write_bytes(gzip.compress(b"one\n\xff\n"))
    found = wmt.load(sentences)["train"]
    assert found[0] == ("eins", "one")
    with pytest.raises(ValueError, match=r"line 2 of .*commoncrawl.de-en.en.gz is not UTF-8"):
        found[1]
    file.write_bytes(whole)
    (sentences / "test" / "newstest2014-deen-ref.en.sgm").write_bytes(b"<seg>\xff</seg>")
    with pytest.raises(ValueError, match=r"newstest2014-deen-ref.en.sgm is not UTF-8"):
        wmt.load(sentences)
