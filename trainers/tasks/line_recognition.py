"""Lines of text that are images, read by CTC (Graves and Schmidhuber, 2008)."""

import dataclasses
import functools

import numpy as np

from .._difficulty import levels
from .._evaluate import outputs_of
from .._task import Listed
from ..data import font_lines
from ._buckets import grouped
from ._reading import Reading

NOT_SCORED = -1
SHOWN = 8  # lines in a picture
SYMBOLS = {character: number for number, character in enumerate(font_lines.ALPHABET, start=1)}


@functools.cache
def _splits(root):
    return font_lines.load(root or font_lines.path())


@functools.cache
def _groups(root, split, buckets):
    """`grouped` of a split's lines, by columns and characters."""
    return grouped([(x.image.shape[1], len(x.text)) for x in _splits(root)[split]], buckets)


@dataclasses.dataclass(frozen=True)
class LineRecognition(Reading, Listed):
    """Read a line of text from its image; where its letters are is not told.

    The lines are those of `font_lines`, in fonts of handwriting, which `ponderzoo data fetch`
    makes; `root` names another file, or a directory with one. Symbols are the characters of its
    `ALPHABET` from 1 on. Rows of training are drawn so that all lines are as likely, and the rows
    of a batch are about as wide: `buckets` groups are padded alike.

    Inputs: `image`, `(batch, 32, columns)` float32, 0 (paper) to 1 (ink), paper behind the last;
    `lengths`, `(batch,)` int32, columns. Targets: `text`, `(batch, longest)` int32, symbols, -1
    behind the last. The model output `text` is the logits of CTC, `(batch, frames, classes)`,
    class 0 the blank, of which it is sure behind the end of a line.

    Raises:
        FileNotFoundError: the lines are not there.
        ValueError: the file is damaged, or of another edition.
    """

    root: str = ""
    buckets: int = 4
    evaluation_batch = 50
    captions = {
        "readings": "Lines of the test split, by fonts that were never seen, and over each "
        "what was read."
    }
    counted = "columns"

    @property
    def corpus(self):
        """What the data may be called."""
        return "Font-Lines"

    @property
    def alphabet(self):
        """The characters; symbol `i + 1` is character `i`."""
        return tuple(SYMBOLS)

    @property
    def classes(self):
        """How many symbols there are, with the blank."""
        return len(SYMBOLS) + 1

    @property
    def input_spec(self):
        return {"image": ((font_lines.HEIGHT, None), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"text": ((None,), "int32")}

    def spelled(self, symbols):
        """The text of symbols, those below 1 left out."""
        return "".join(font_lines.ALPHABET[symbol - 1] for symbol in symbols if symbol > 0)

    def lines(self, split="train"):
        """All lines of a split."""
        return _splits(self.root)[split]

    def examples(self, split="train"):
        """How many lines a split has."""
        return len(self.lines(split))

    def rows(self, chosen, split="train"):
        """Lines by their numbers, `(batch,)`, padded to the largest of their groups."""
        _, group_of, sizes = _groups(self.root, split, self.buckets)
        columns, longest = sizes[group_of[chosen]].max(axis=0, initial=1)
        image = np.zeros((len(chosen), font_lines.HEIGHT, columns), "float32")
        lengths = np.zeros(len(chosen), "int32")
        text = np.full((len(chosen), longest), NOT_SCORED, "int32")
        for row, number in enumerate(chosen):
            line = self.lines(split)[number]
            lengths[row] = line.image.shape[1]
            image[row, :, : lengths[row]] = line.image / np.float32(255)
            text[row, : len(line.text)] = [SYMBOLS[character] for character in line.text]
        return {"image": image, "lengths": lengths}, {"text": text}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        groups, group_of, _ = _groups(self.root, split, self.buckets)
        group = groups[group_of[rng.integers(len(group_of))]]
        return self.rows(rng.choice(group, size), split)

    def figures(self, model):
        """Matplotlib figures by name: `readings`."""
        from ..figures.images import titled

        inputs, targets = self.rows(np.arange(min(SHOWN, self.examples("test"))), "test")
        told = self.describe(inputs, targets, outputs_of(model, inputs))
        shown = [image[:, :n] for image, n in zip(inputs["image"], inputs["lengths"])]
        return {"readings": titled(zip(told, shown))}

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        image = rng.random((size, font_lines.HEIGHT, 40), "float32")
        return {"image": image, "lengths": np.full(size, 40, "int32")}
