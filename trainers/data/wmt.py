"""WMT: sentences in two languages, those of the translation task of 2014 (Bojar et al., 2014).

They cannot be downloaded here: `root=` names a directory with your own, with subdirectories or
without, plain or packed by gzip, bzip2, xz or zip: for German and English `europarl-v7.de-en.de`
and `europarl-v7.de-en.en`, `commoncrawl.de-en.de`, `news-commentary-v9.de-en.de` and so on, any two
files of the same name whose lines belong together. `newstest2013` is for validation and
`newstest2014` for the test, as text or as the `.sgm` files in which they are given; what else is
called `newstest` is left out.
"""

import bisect
import collections.abc
import html
import itertools
import os
import re

import numpy as np

from . import _store
from .mnist import ENDS

NAME = re.compile(r"(.+?)(?:-src|-ref)?\.([a-z]{2})(\.sgm)?")
SPLITS = {"newstest2013": "validation", "newstest2014": "test"}
PIECE = 2**26
REMEDY = (
    "WMT's sentences cannot be downloaded by this release; root= names a directory with your own "
    "files, two of the same name for two languages, as europarl-v7.de-en.de and "
    "europarl-v7.de-en.en, newstest2013 and newstest2014 among them"
)


def path(cache_dir=None):
    """The directory in which the files are looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "wmt")


def available(cache_dir=None):
    """Whether there are files of German and English for all splits."""
    return all(_files(path(cache_dir), ("de", "en")).values())


def fetch(cache_dir=None):
    """The directory of the files. Raises `RuntimeError` where none are: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def _files(folder, languages):
    """Dict: split -> list of tuples of files, one of each language, in the order of their names."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            plain = next(name.removesuffix(end) for end in (*ENDS[1:], "") if name.endswith(end))
            if (named := NAME.fullmatch(plain)) and named[2] in languages:
                found.setdefault(named[1], {})[named[2]] = os.path.join(place, name)
    splits = {"train": [], "validation": [], "test": []}
    for stem, files in sorted(found.items()):
        split = next((split for start, split in SPLITS.items() if stem.startswith(start)), "train")
        if len(files) == 2 and (split != "train" or not stem.startswith("newstest")):
            splits[split].append(tuple(files[language] for language in languages))
    return splits


def load(folder, languages=("de", "en")):
    """The sentences of a directory; those of plain files stay on the disk until they are read.

    Returns:
        Dict: split -> `Pairs`, whose items are tuples of str, one for each of the `languages`.

    Raises:
        FileNotFoundError: a split has no files.
        ValueError: a file is damaged, or two files have different numbers of lines.
    """
    files = _files(folder, languages)
    for split, some in files.items():
        if not some:
            raise FileNotFoundError(
                f"no files of {' and '.join(languages)} for {split} in {folder}; {REMEDY}"
            )
    return {split: Pairs(some) for split, some in files.items()}


class Pairs(collections.abc.Sequence):
    """Sentences that say the same, of pairs of files one after another."""

    def __init__(self, files):
        self._sides = [tuple(map(_lines, pair)) for pair in files]
        for pair, sides in zip(files, self._sides):
            counts = [len(side) for side in sides]
            if len(set(counts)) > 1:
                raise ValueError(
                    f"the lines of {pair[0]} and {pair[1]} must belong together; there are "
                    f"{counts[0]} and {counts[1]}: one is cut off, or they are no pair; {REMEDY}"
                )
        self._ends = list(itertools.accumulate(len(sides[0]) for sides in self._sides))

    def __len__(self):
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number):
        place = range(len(self))[number]
        file = bisect.bisect_right(self._ends, place)
        line = place - (self._ends[file - 1] if file else 0)
        return tuple(side[line] for side in self._sides[file])


def _lines(file):
    content = _store.text(file) if os.path.getsize(file) else b""
    sgm = ".sgm" in os.path.basename(file)
    return _segments(content, file) if sgm else _Lines(content, file)


class _Lines:
    """The lines of a text, found once and read when they are asked for."""

    def __init__(self, content, file):
        self.content, self.file = content, file
        ends = [np.empty(0, "int64")]
        for start in range(0, len(content), PIECE):
            piece = np.frombuffer(content[start : start + PIECE], "uint8")
            ends.append(start + np.flatnonzero(piece == ord("\n")))
        self.ends = np.concatenate(ends)
        if len(content) and content[-1:] != b"\n":
            self.ends = np.append(self.ends, len(content))

    def __len__(self):
        return len(self.ends)

    def __getitem__(self, number):
        start = self.ends[number - 1] + 1 if number else 0
        try:
            return self.content[start : self.ends[number]].decode().rstrip("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"line {number + 1} of {self.file} is not UTF-8: {error}") from error


def _segments(content, file):
    try:
        found = re.findall(r"<seg[^>]*>(.*?)</seg>", bytes(content).decode(), re.DOTALL)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error}; {REMEDY}") from error
    return [" ".join(html.unescape(text).split()) for text in found]


def sample(folder):
    """Writes files of the same form for tests: words of a made language, each with its mirror."""
    rng = np.random.default_rng(0)
    for name, count in (("europarl-v7.de-en", 40), ("newstest2013", 10), ("newstest2014", 10)):
        words = ["".join(word) for word in rng.choice([*"abcdefgh"], (3 * count, 4))]
        lines = [" ".join(words[row : row + 3]) for row in range(0, 3 * count, 3)]
        for language, some in (("de", lines), ("en", [line[::-1] for line in lines])):
            content = "".join(f"{line}\n" for line in some).encode()
            _store.write(content, os.path.join(folder, f"{name}.{language}"))
