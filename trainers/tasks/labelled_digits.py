"""Densities of digits given what they show, by which they can be told apart."""

import dataclasses

import numpy as np

from .._evaluate import outputs_of, telling
from .._metrics import MeanOutput
from .._task import NATS
from ._images import SIZE, ListedImages, classes

CLASSES = 10
LABELLED = "mnist", "fashion_mnist"


@dataclasses.dataclass(frozen=True)
class LabelledDigits(ListedImages):
    """Say how probable an image in black and white is, in nats, given which of ten it shows.

    `data`, `root` and `binarisation` say which images, of `mnist` or `fashion_mnist`; see
    `BinaryImages`.

    Inputs: `image`, `(batch, 28, 28)` float32, 0 (paper) or 1 (ink), and `digit`, `(batch,)` int32,
    0 to 9. There are no targets. Outputs of models: `nats`, `(batch,)`, minus the log-probability
    of the image given the digit; and `sample`, `(batch, 28, 28)`, an image of the digit that the
    row's seed alone decides.

    `report` tells the first `images` of the test split apart by their likelihood, ten passes each:
    the digit is the one that the image costs least of, all of them being as probable beforehand.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: there are no such images with ten classes, or no such binarisation.
    """

    images: int = 500
    captions = {
        "likelihood": "Images of the test split, told apart by what they cost given each digit.",
        "samples": "Images that the model makes of each digit, a row each.",
    }
    called = {NATS: "nats an image, given the digit", "likelihood_error": "wrong by likelihood"}

    def __post_init__(self):
        super().__post_init__()
        if self.data not in LABELLED:
            raise ValueError(
                f"{self.name} takes a data of {', '.join(LABELLED)}; got {self.data!r}"
            )

    @property
    def classes(self):
        return CLASSES

    @property
    def input_spec(self):
        return {**super().input_spec, "digit": ((), "int32")}

    def inputs(self, image, chosen, split):
        digit = classes(self.data, self.root, split)[chosen].astype("int32")
        return {**super().inputs(image, chosen, split), "digit": digit}

    def metrics(self):
        return {NATS: [MeanOutput(NATS)]}

    def describe(self, inputs, targets, outputs):
        """`a 7 of 102 pixels: 78.3 nats`."""
        rows = zip(inputs["image"], inputs["digit"], outputs[NATS])
        return [f"a {d} of {int(x.sum())} pixels: {float(n):.1f} nats" for x, d, n in rows]

    def report(self, model):
        """`likelihood`: the share of images that are told to be another digit."""
        count = min(self.images, self.examples("test"))
        inputs, _ = self.rows(np.arange(count), "test")
        answers = self.nats_by_digit(model, inputs["image"]).argmin(axis=-1)
        wrong = float(np.mean(answers != inputs["digit"]))
        return {"likelihood": {"likelihood_error": wrong, "images": count}}

    def nats_by_digit(self, model, image):
        """What images `(count, 28, 28)` cost given each digit, `(count, 10)`."""
        model, found = telling(model, NATS), []
        for start in range(0, len(image), self.evaluation_batch // CLASSES):
            some = image[start : start + self.evaluation_batch // CLASSES]
            digit = np.tile(np.arange(CLASSES, dtype="int32"), len(some))
            inputs = {"image": np.repeat(some, CLASSES, axis=0), "digit": digit}
            found.append(outputs_of(model, inputs)[NATS].reshape(-1, CLASSES))
        return np.concatenate(found)

    def figures(self, model):
        """Matplotlib figures by name: `samples`."""
        digit = np.repeat(np.arange(CLASSES, dtype="int32"), 10)
        image = np.zeros((len(digit), SIZE, SIZE), "float32")
        return self._samples(outputs_of(model, {"image": image, "digit": digit}), 10)

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of a few rows by name: `samples`, in the order of their digits."""
        order = np.argsort(inputs["digit"], kind="stable")
        return self._samples({"sample": outputs["sample"][order][:32]}, 16)

    @staticmethod
    def _samples(outputs, columns):
        from ..figures.images import sheet

        return {"samples": sheet([outputs["sample"]], columns)}

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        found = super().inputs_without_data(rng, size)
        return {**found, "digit": rng.integers(0, CLASSES, size, "int32")}
