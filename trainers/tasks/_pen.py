"""What tasks of online handwriting share: a data set, its alphabet, and points in like units.

Data sets of handwriting hand on `Line` (`data/_pen.py`), with an `ALPHABET` in their module. Points
are offsets, right and up, of mean 0 and deviation 1 over the training set, and the end of a stroke.
"""

import dataclasses
import functools

import numpy as np

from .._difficulty import levels
from .._task import Listed
from .._writers import Writers
from ..data import _pen, dataset
from ._buckets import grouped

NOT_SCORED = -1
PADDING = 0
TENTH = 10  # of the lines of a writer, one is held out where writers are learnt


@functools.cache
def _numbers(data):
    """Symbols by their characters."""
    return {character: number for number, character in enumerate(dataset(data).ALPHABET, start=1)}


@functools.cache
def _splits(data, root):
    module = dataset(data)
    splits = {split: [] for split in _pen.SPLITS}
    for line in module.load(root or module.path()):
        splits[line.split].append(line)
    return splits


@functools.cache
def _offsets(data, root):
    """Mean and standard deviation of offsets: those of a set that is made are written down."""
    known = None if root else getattr(dataset(data), "OFFSETS", None)
    return np.array(known or _pen.offsets_of(_splits(data, root)["train"]))


@functools.cache
def _scaled(data, root, split):
    return [scaled(line.points, _offsets(data, root)) for line in _splits(data, root)[split]]


@functools.cache
def _groups(data, root, split, length, buckets):
    """`grouped` of a split's lines, by points and characters."""
    lines = _splits(data, root)[split]
    return grouped([(min(len(x.points), length), len(x.text)) for x in lines], buckets)


@functools.cache
def _writers(data, root):
    lines, points = _splits(data, root)["train"], _scaled(data, root, "train")
    held_out = np.zeros(len(lines), bool)
    of_writer = {}
    for number, line in enumerate(lines):
        of_writer.setdefault(line.writer, []).append(number)
    for numbers in of_writer.values():
        held_out[numbers[TENTH - 1 :: TENTH] or numbers[1:][-1:]] = True
    known, new = (
        ([points[i] for i in some], [lines[i].writer for i in some])
        for some in (np.flatnonzero(~held_out), np.flatnonzero(held_out))
    )
    found = Writers(*known)
    return found, found.error(*new)


def scaled(points, offsets):
    """Points `(..., 3)` whose offsets are less their mean and by their deviation, float32."""
    mean, deviation = offsets
    moved = (points[..., :2] - mean) / deviation
    return np.concatenate([moved, points[..., 2:]], axis=-1).astype("float32")


@dataclasses.dataclass(frozen=True)
class PenTask(Listed):
    """A task on lines of handwriting.

    `data` names the data set: `stroke_fonts` or `kanjivg`, lines of English or of kana by made
    hands, both of which `ponderzoo data fetch` makes; or `iam_ondb`, whose copy `root` names. Rows
    have `length` points at most: what a line has beyond is not seen. Offsets are normalised to mean
    0 and standard deviation 1 over all of the training set (Graves, 2013, section 4.2); those in a
    directory that `root` names, by their own training set.

    Symbols are the characters of the data set's `ALPHABET` from 1 on, and one more for all other
    characters; 0 is padding.

    Rows of training are drawn so that all lines are as likely, and the rows of a batch are of like
    length: `buckets` groups are padded alike.

    Subclasses say what `rows(chosen, split, rng=None)` are.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: there is no such data set.
    """

    data: str = "stroke_fonts"
    root: str = ""
    length: int = 480
    buckets: int = 4
    evaluation_batch = 50

    def __post_init__(self):
        dataset(self.data)

    @property
    def corpus(self):
        """What the data may be called."""
        names = {"stroke_fonts": "Stroke-Fonts", "kanjivg": "KanjiVG-Kana", "iam_ondb": "IAM-OnDB"}
        return names.get(self.data, self.data)

    @property
    def alphabet(self):
        """The characters that are symbols of their own; symbol `i + 1` is character `i`."""
        return tuple(_numbers(self.data))

    @property
    def other(self):
        """The symbol of all other characters."""
        return len(_numbers(self.data)) + 1

    @property
    def classes(self):
        """How many symbols there are, with padding and with the one for all others."""
        return len(_numbers(self.data)) + 2

    @property
    def offsets(self):
        """Mean and standard deviation of offsets right and up, `(2, 2)`, in the data's own unit."""
        return _offsets(self.data, self.root)

    def symbols(self, text):
        """The symbols of a text, `(characters,)` int32."""
        numbers = _numbers(self.data)
        return np.array([numbers.get(character, self.other) for character in text], "int32")

    def spelled(self, symbols):
        """The text of symbols, those below 1 left out; the others' is a white square."""
        names = ("", *self.alphabet, "\N{WHITE SQUARE}")
        return "".join(names[symbol] for symbol in symbols if symbol > PADDING)

    def drawn(self, points):
        """Normalised points `(points, 3)` as strokes, a list of `(points, 2)`, in the data's unit.

        The pen starts at 0, 0.
        """
        mean, deviation = self.offsets
        points = np.asarray(points, float)
        moved = points[:, :2] * deviation + mean
        return _pen.strokes_of(np.concatenate([moved, points[:, 2:]], axis=1))

    def lines(self, split="train"):
        """All lines of a split."""
        return _splits(self.data, self.root)[split]

    def examples(self, split="train"):
        """How many lines a split has."""
        return len(self.lines(split))

    def floor(self, split="test"):
        """The mean floor of the cost of a point in nats, as normalised; None where nobody knows it.

        It is what a point costs who knows the density that it was drawn from, and the ends of
        strokes.
        """
        lines = self.lines(split)
        nats = sum(line.floor for line in lines) / max(1, sum(len(x.points) for x in lines))
        return None if np.isnan(nats) else float(nats - np.log(self.offsets[1]).sum())

    def writers(self):
        """`Writers` that know nine of ten lines of training, and their error on the tenth."""
        return _writers(self.data, self.root)

    def longest(self, chosen, split):
        """Points and characters of the longest line in the groups of lines."""
        _, group_of, sizes = _groups(self.data, self.root, split, self.length, self.buckets)
        return sizes[group_of[chosen]].max(axis=0, initial=1)

    def points(self, chosen, split="train"):
        """Normalised points of lines, `(batch, longest, 3)` float32, and how many there are.

        Points behind the last are 0, 0, -1.
        """
        found = np.zeros((len(chosen), self.longest(chosen, split)[0], 3), "float32")
        found[..., 2] = NOT_SCORED
        lengths = np.zeros(len(chosen), "int32")
        for row, number in enumerate(chosen):
            points = _scaled(self.data, self.root, split)[number][: self.length]
            lengths[row] = len(points)
            found[row, : len(points)] = points
        return found, lengths

    def texts(self, chosen, split="train", padding=PADDING):
        """The symbols of lines, `(batch, longest)` int32, with `padding` behind the last."""
        found = np.full((len(chosen), self.longest(chosen, split)[1]), padding, "int32")
        for row, number in zip(found, chosen):
            text = self.lines(split)[number].text
            row[: len(text)] = self.symbols(text)
        return found

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        key = self.data, self.root, split, self.length, self.buckets
        groups, group_of, _ = _groups(*key)
        group = groups[group_of[rng.integers(len(group_of))]]
        return self.rows(rng.choice(group, size), split)
