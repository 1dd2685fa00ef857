"""Handwritten digits (Kalchbrenner, Danihelka and Graves, 2015, section 5.6)."""

import dataclasses
import functools
import os

import numpy as np

from .._describe import after
from .._difficulty import levels
from .._metrics import TargetError
from .._task import Stream, Task, Whole
from ..data import mnist
from ._images import part_of

SIZE = 28

_load = functools.cache(mnist.load)


@dataclasses.dataclass(frozen=True)
class Mnist(Task):
    """Tell which digit an image of MNIST shows.

    The last twelfth of the training images, 5,000 of the 60,000, is the validation split. Rows of
    training are drawn with replacement; the streams of validation and test go through their split
    without, in an order that the seed decides, so that 10,000 rows of test are all of it.

    `root` is a directory with files of the user's own, in the same form; without it they are those
    that `ponderzoo data fetch mnist` downloads. `shift` moves the images of training by up to that
    many pixels in either direction of both axes, and fills up with 0.

    Inputs: `image`, `(batch, 28, 28)` float32, rows from the top, 0 (paper) to 1 (ink). Targets:
    `digit`, `(batch,)` int32. The model output `digit` is logits, `(batch, 10)`.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: a shift that is negative or as large as an image, and files that are damaged.
    """

    root: str = ""
    shift: int = 0
    captions = {
        "digits": "Images of the test split, the answer below; a wrong one is framed, with the "
        "truth before it.",
        "mistakes": "Images of the test split that were taken for something else, the surest "
        "mistakes first: the truth, and the answer.",
        "confusion": "How often each digit of the test split got each answer.",
    }

    def __post_init__(self):
        if not 0 <= self.shift < SIZE:
            raise ValueError(f"mnist takes a shift of 0..{SIZE - 1} pixels, got {self.shift}")

    @property
    def input_spec(self):
        return {"image": ((SIZE, SIZE), "float32")}

    @property
    def target_spec(self):
        return {"digit": ((), "int32")}

    @property
    def corpus(self):
        """What the images may be called: files of the user's own by the name of their directory."""
        return os.path.basename(os.path.abspath(self.root)) if self.root else "MNIST"

    def images(self, split="train"):
        """All of a split: images, `(count, 28, 28)` uint8, and digits, `(count,)` uint8."""
        return part_of(_load(self.root or mnist.path()), split)

    def examples(self, split="train"):
        """How many images a split has."""
        return len(self.images(split)[1])

    def rows(self, chosen, split="train"):
        """The images of a split by their numbers, `(batch,)`, as `batch` gives them."""
        images, digits = self.images(split)
        image = images[chosen].astype("float32") / 255
        return {"image": image}, {"digit": digits[chosen].astype("int32")}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        inputs, targets = self.rows(rng.integers(0, self.examples(split), size), split)
        if self.shift and split == "train":
            offsets = rng.integers(0, 2 * self.shift + 1, (2, size))
            inputs["image"] = _moved(inputs["image"], self.shift, *offsets)
        return inputs, targets

    def dataset(self, split="train", batch_size=32, steps=1000, seed=0):
        """See `Task.dataset`; rows of validation and test come again only after all were seen."""
        stream = Stream if split == "train" else Whole
        return stream(self, split, batch_size, steps, seed)

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
        return {"image": rng.random((size, SIZE, SIZE), "float32")}


def _moved(images, shift, down, right):
    """Images `(batch, height, width)`, moved by `down - shift` and `right - shift` pixels."""
    count, height, width = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift)))
    row = (2 * shift - down)[:, None] + np.arange(height)
    column = (2 * shift - right)[:, None] + np.arange(width)
    return padded[np.arange(count)[:, None, None], row[:, :, None], column[:, None, :]]


def _answer(logits):
    """The most probable digit and its probability."""
    logits = np.asarray(logits, "float64")
    answer = logits.argmax()
    return answer, 1 / np.exp(logits - logits[answer]).sum()
