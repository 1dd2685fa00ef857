"""Digits somewhere in a larger image, among pieces of others (Gregor et al., 2015, section 4.1)."""

import dataclasses
import functools

import numpy as np

from .._difficulty import levels
from ._images import Digits, lay, places

PIECE = 8
SEED = 1406  # of the images of validation and test


@dataclasses.dataclass(frozen=True)
class ClutteredDigits(Digits):
    """Tell which digit an image shows that has pieces of others as well (Mnih et al., 2014).

    A digit of MNIST is put somewhere in a square of `size` pixels, and with it `pieces` of 8 by 8
    pixels, each cut somewhere out of some other digit of its split: with 4 on 60 pixels and 8 on
    100 it is "cluttered translated MNIST", with 0 "translated MNIST", or on 28 MNIST itself. The
    larger of two inks counts where they meet. Images of training are made anew whenever they are
    seen; those of validation and test, one for each of MNIST's, are always the same.

    `root` is a directory with files of the user's own, in the form of MNIST's; without it they are
    those that `ponderzoo data fetch mnist` downloads. The last twelfth of the training images is
    the validation split.

    Inputs: `image`, `(batch, size, size)` float32, rows from the top, 0 (paper) to 1 (ink).
    Targets: `digit`, `(batch,)` int32. The model output `digit` is logits, `(batch, 10)`. A model
    that looks at the image in steps may give `read_windows`, `(batch, steps, 6)`, what it looked at
    in each: the `SIDES` of `_images`; and `probability_steps`, `(batch, steps, 10)`, its answers
    after each. One that draws by chance where it looks may give `drawn_digit`, logits, where
    `digit` goes without chance.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: the square is smaller than a digit, and files that are damaged.
    """

    size: int = 60
    pieces: int = 4
    least = {"pieces": 0}

    def __post_init__(self):
        if self.size < 28:
            raise ValueError(f"a digit has 28 by 28 pixels; got a size of {self.size}")

    @property
    def corpus(self):
        name = super().corpus
        if self.size > 28:
            name += f" on {self.size} by {self.size} pixels"
        return f"{name} with {self.pieces} pieces of others" if self.pieces else name

    @property
    def input_spec(self):
        return {"image": ((self.size, self.size), "float32")}

    def rows(self, chosen, split="train"):
        """The images of a split by their numbers, `(batch,)`, as they are always made."""
        digits = self.images(split)[1]
        image = _made(self, split)[chosen].astype("float32") / 255
        return {"image": image}, {"digit": digits[chosen].astype("int32")}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        chosen = rng.integers(0, self.examples(split), size)
        if split != "train":
            return self.rows(chosen, split)
        images, digits = self.images(split)
        image = self.cluttered(images, chosen, rng).astype("float32") / 255
        return {"image": image}, {"digit": digits[chosen].astype("int32")}

    def cluttered(self, images, chosen, rng):
        """Squares `(batch, size, size)` uint8 around the chosen of `images (count, 28, 28)`."""
        count = len(chosen)
        squares = np.zeros((count, self.size, self.size), "uint8")
        lay(squares, images[chosen], rng)
        for _ in range(self.pieces):
            others = images[rng.integers(0, len(images), count)]
            down, right = rng.integers(0, others.shape[1] - PIECE + 1, (2, count))
            lay(squares, others[places(down, right, PIECE)], rng)
        return squares


@functools.cache
def _made(task, split):
    images, digits = task.images(split)
    return task.cluttered(images, np.arange(len(digits)), np.random.default_rng([SEED, len(split)]))
