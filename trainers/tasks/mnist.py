"""Handwritten digits (Kalchbrenner, Danihelka and Graves, 2015, section 4.5)."""

import dataclasses

import numpy as np

from .._difficulty import levels
from ._images import Digits

SIZE = 28


@dataclasses.dataclass(frozen=True)
class Mnist(Digits):
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

    shift: int = 0

    def __post_init__(self):
        if not 0 <= self.shift < SIZE:
            raise ValueError(f"mnist takes a shift of 0..{SIZE - 1} pixels, got {self.shift}")

    @property
    def input_spec(self):
        return {"image": ((SIZE, SIZE), "float32")}

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


def _moved(images, shift, down, right):
    """Images `(batch, height, width)`, moved by `down - shift` and `right - shift` pixels."""
    count, height, width = images.shape
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift)))
    row = (2 * shift - down)[:, None] + np.arange(height)
    column = (2 * shift - right)[:, None] + np.arange(width)
    return padded[np.arange(count)[:, None, None], row[:, :, None], column[:, None, :]]
