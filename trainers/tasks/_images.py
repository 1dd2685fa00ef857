"""What tasks on images of digits share: which of them are in which split, and what they show."""

import dataclasses
import functools
import os

import numpy as np

from .._describe import after
from .._metrics import TargetError
from .._task import Listed
from ..data import dataset

VALIDATION = 12  # the last twelfth of MNIST's images of training
SEED = 1607  # of the fixed binarisation
BINARY = "binarized_mnist", "glyphs", "omniglot"  # in black and white
SETS = "mnist", "fashion_mnist", *BINARY
SIDES = ("left", "top", "right", "bottom", "deviation", "intensity")
"""What windows are told by: the middles of their outer filters, in pixels from the image's upper
left corner, the deviation of the filters, and the intensity."""


def part_of(files, split):
    """Images and labels of a split, of what `mnist.load` gives."""
    if split == "test":
        return files["t10k"]
    images, labels = files["train"]
    last = len(images) - len(images) // VALIDATION
    part = slice(last) if split == "train" else slice(last, None)
    return images[part], labels[part]


@functools.cache
def _load(data, root):
    module = dataset(data)
    return module.load(root or module.path())


@functools.cache
def _part(data, root, split):
    """Chances and classes of a split; sets in black and white give pixels of 0 and 1."""
    files = _load(data, root)
    if "t10k" in files:
        return part_of(files, split)
    found = files[split]
    images, classes = found[:2] if isinstance(found, tuple) else (found, None)
    return images * np.uint8(255), classes


def chances(data, root, split):
    """The chance of each pixel to be 1, times 255, `(count, height, width)` uint8."""
    return _part(data, root, split)[0]


def classes(data, root, split):
    """What each image shows, `(count,)`, a whole number.

    Raises `ValueError` where the images have no classes, as those of `binarized_mnist`.
    """
    found = _part(data, root, split)[1]
    if found is None:
        raise ValueError(f"expected images with classes; those of {data} have none")
    return found


@functools.cache
def binarised(data, root, split):
    """The images of a split, binarised once and for all, `(count, height, width)` bool.

    Each pixel is 1 with the chance that its grey tells, by numbers of a seed that never changes.
    """
    return drawn(chances(data, root, split), np.random.default_rng([SEED, len(split)]))


def drawn(grey, rng):
    """Pixels that are 1 with the chance that their grey tells, 0 to 255, bool."""
    return rng.random(grey.shape, "float32") * 255 < grey


def lay(squares, parts, rng, met=np.maximum):
    """Lays a part somewhere on each square; `met` says what ink becomes that meets other ink.

    Args:
        squares: `(batch, size, size)`, changed in place.
        parts: `(batch, side, side)`.
        rng: `numpy.random.Generator` of the places.
        met: function of two arrays, what is there and what comes.
    """
    side = parts.shape[1]
    there = places(*rng.integers(0, squares.shape[1] - side + 1, (2, len(parts))), side)
    squares[there] = met(squares[there], parts)


def places(down, right, side):
    """The indices of a square part of each image, whose corners are given, `(batch,)` each."""
    beside = np.arange(side)
    rows, columns = down[:, None, None] + beside[:, None], right[:, None, None] + beside
    return np.arange(len(down))[:, None, None], rows, columns


@dataclasses.dataclass(frozen=True)
class Digits(Listed):
    """Tell which digit of MNIST an image shows.

    `root` is a directory with files of the user's own, in the form of MNIST's; without it they are
    those that `ponderzoo data fetch mnist` downloads. Subclasses give `rows(chosen, split)`, and
    `batch`.
    """

    root: str = ""
    captions = {
        "digits": "Images of the test split, the answer below; a wrong one is framed, with the "
        "truth before it.",
        "mistakes": "Images of the test split that were taken for something else, the surest "
        "mistakes first: the truth, and the answer.",
        "confusion": "How often each digit of the test split got each answer.",
    }

    @property
    def target_spec(self):
        return {"digit": ((), "int32")}

    @property
    def corpus(self):
        """What the images may be called: files of the user's own by the name of their directory."""
        return os.path.basename(os.path.abspath(self.root)) if self.root else "MNIST"

    def images(self, split="train"):
        """All of MNIST's in a split: images, `(count, 28, 28)` uint8, and digits, uint8."""
        return part_of(_load("mnist", self.root), split)

    def examples(self, split="train"):
        """How many images a split has."""
        return len(self.images(split)[1])

    def metrics(self):
        return {"digit": [TargetError()]}

    def describe(self, inputs, targets, outputs):
        """`image -> 7; answered 1 (0.62), wrong`."""
        lines = []
        for row, logits in enumerate(outputs["digit"]):
            answer, chance = _answer(logits)
            truth, mark = "", ""
            if targets:
                digit = targets["digit"][row]
                truth, mark = f" -> {digit}", ", ok" if answer == digit else ", wrong"
            said = f"answered {answer} ({chance:.2f}){mark}{after(outputs, row)}"
            lines.append(f"image{truth}; {said}")
        return lines

    def figures(self, model, rows=10_000, batch_size=250):
        """Matplotlib figures by name: `digits`, `confusion`, and `mistakes` where there are any."""
        from .._evaluate import answers
        from ..figures.digits import confusion, grid

        rows = min(rows, self.examples("test"))
        stream = self.dataset("test", batch_size, -(-rows // batch_size))
        read = [
            (inputs["image"], targets["digit"], outputs["digit"])
            for inputs, targets, outputs in answers(
                model, map(stream.__getitem__, range(len(stream))), rows
            )
        ]
        images, digits, logits = map(np.concatenate, zip(*read))
        answers = logits.argmax(axis=-1)
        figures = {"digits": grid(images, digits, answers), "confusion": confusion(digits, answers)}
        (wrong,) = np.nonzero(answers != digits)
        if len(wrong):
            lost = logits[wrong].max(axis=-1) - logits[wrong, digits[wrong]]
            wrong = wrong[np.argsort(-lost, kind="stable")]
            figures["mistakes"] = grid(images[wrong], digits[wrong], answers[wrong])
        return figures

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        shape, _ = self.input_spec["image"]
        return {"image": rng.random((size, *shape), "float32")}


def _answer(logits):
    """The most probable digit and its probability."""
    logits = np.asarray(logits, "float64")
    answer = logits.argmax()
    return answer, 1 / np.exp(logits - logits[answer]).sum()
