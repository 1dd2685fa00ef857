"""Densities of small pieces of photographs in colour."""

import dataclasses
import functools
import math

import numpy as np

from .._difficulty import levels
from .._evaluate import outputs_of
from .._metrics import MeanOutput
from .._task import NATS, Listed
from ..data import dataset
from ._images import places

SETS = {"photo_patches": "Photo-Patches", "cifar10": "CIFAR-10"}
SIDE, COLOURS = 32, 3


class BitsPerDimension(MeanOutput):
    """Mean of `nats` in bits by so many numbers of an image."""

    def __init__(self, dimensions):
        super().__init__("bits_per_dimension", "bits a pixel's colour")
        self.unit = dimensions * math.log(2)

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred / self.unit, sample_weight)


@dataclasses.dataclass(frozen=True)
class ColourPatches(Listed):
    """Say how probable a small image in colour is, in bits a pixel's colour, and make new ones.

    Images are squares of `size` pixels, cut out of 32 by 32 pixels: anywhere in training, and in
    the middle in validation and test. Each of their colours has so many `levels`, of equal widths.
    `data` are the `photo_patches` that `ponderzoo data fetch` makes, or `cifar10`, whose files
    `root` names, as it names files of the user's own of the others.

    Inputs: `image`, `(batch, size, size, 3)` int32, red, green and blue from 0 to levels - 1. There
    are no targets. Outputs of models: `nats`, `(batch,)`, minus the log-probability of the image;
    and `sample`, as the image, one that the row's seed alone decides.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: there are no such images, a size above 32, or levels that 256 is no multiple of.
    """

    data: str = "photo_patches"
    root: str = ""
    size: int = 12
    levels: int = 16
    captions = {"samples": "Images of the test split, and below each one that the model makes."}
    called = {NATS: "nats an image"}

    def __post_init__(self):
        if self.data not in SETS:
            raise ValueError(f"{self.name} takes a data of {', '.join(SETS)}; got {self.data!r}")
        if self.size > SIDE:
            raise ValueError(f"a piece has {SIDE} by {SIDE} pixels; got a size of {self.size}")
        if self.levels < 2 or 256 % self.levels:
            raise ValueError(f"levels must be 2, 4, 8 ... 256; got {self.levels}")

    @property
    def corpus(self):
        return f"{SETS[self.data]}, {self.size} by {self.size} pixels in {self.levels} levels"

    @property
    def input_spec(self):
        return {"image": ((self.size, self.size, COLOURS), "int32")}

    def examples(self, split="train"):
        """How many images a split has."""
        return len(_pieces(self.data, self.root, split))

    def rows(self, chosen, split="train"):
        """The middles of the pieces of a split by their numbers, `(batch,)`."""
        middle = np.full(np.shape(chosen), (SIDE - self.size) // 2)
        return self._cut(chosen, middle, middle, split), {}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        chosen = rng.integers(0, self.examples(split), size)
        if split != "train":
            return self.rows(chosen, split)
        return self._cut(chosen, *rng.integers(0, SIDE - self.size + 1, (2, size)), split), {}

    def _cut(self, chosen, down, right, split):
        pieces = _pieces(self.data, self.root, split)[chosen]
        image = pieces[places(down, right, self.size)] // (256 // self.levels)
        return {"image": image.astype("int32")}

    def metrics(self):
        return {NATS: [BitsPerDimension(self.size**2 * COLOURS), MeanOutput(NATS)]}

    def describe(self, inputs, targets, outputs):
        """`a piece of a mean level of 7.3: 801.2 nats`."""
        rows = zip(inputs["image"], outputs[NATS])
        return [f"a piece of a mean level of {x.mean():.1f}: {float(n):.1f} nats" for x, n in rows]

    def figures(self, model):
        """Matplotlib figures by name: `samples`."""
        inputs, _ = self.rows(np.arange(min(64, self.examples("test"))), "test")
        return self.snapshot(inputs, {}, outputs_of(model, inputs))

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of a few rows by name: `samples`."""
        from ..figures.images import sheet

        kinds = [x[:64] / (self.levels - 1) for x in (inputs["image"], outputs["sample"])]
        return {"samples": sheet(kinds)}

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        shape, dtype = self.input_spec["image"]
        return {"image": rng.integers(0, self.levels, (size, *shape), dtype)}


@functools.cache
def _pieces(data, root, split):
    module = dataset(data)
    found = module.load(root or module.path())[split]
    return found[0] if isinstance(found, tuple) else found
