"""Digits that are made again of the few numbers that were said of them."""

import dataclasses

import numpy as np

from .._evaluate import outputs_of
from .._metrics import MeanOutput
from .._task import NATS
from ._images import ListedImages

SHOWN = 32


@dataclasses.dataclass(frozen=True)
class DigitReconstruction(ListedImages):
    """Say an image in black and white in a few numbers, its code, and make it again of them.

    `data`, `root` and `binarisation` say which images; see `BinaryImages`.

    Inputs: `image`, `(batch, 28, 28)` float32, 0 (paper) or 1 (ink). There are no targets. Outputs
    of models: `nats`, `(batch,)`, minus the log-probability of the image given its code, which is
    no density of images, as nobody pays for the code; `code`, `(batch, numbers)`; and `sample`,
    `(batch, 28, 28)`, an image that the code and the row's seed decide, or, of a model without
    chance, the chances of its pixels given the code.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: there are no such images, or no such binarisation.
    """

    captions = {
        "reconstructions": "Images of the test split, and below each what is made of its code: by "
        "chance twice, or by the model and by its baseline.",
    }
    called = {NATS: "nats an image, given its code"}

    def metrics(self):
        return {NATS: [MeanOutput(NATS)]}

    def describe(self, inputs, targets, outputs):
        """`an image of 102 pixels: 60.3 nats given its code`."""
        rows = zip(inputs["image"], outputs[NATS])
        said = "nats given its code"
        return [f"an image of {int(x.sum())} pixels: {float(n):.1f} {said}" for x, n in rows]

    def figures(self, model):
        """Matplotlib figures by name: `reconstructions`."""
        return self._reconstructions(model, model)

    def beside(self, models):
        """Likewise, of a model and its baseline."""
        return self._reconstructions(*models.values())

    def _reconstructions(self, *models):
        from ..figures.images import sheet

        inputs, _ = self.rows(np.arange(min(SHOWN, self.examples("test"))), "test")
        made = [outputs_of(model, inputs, seed)["sample"] for seed, model in enumerate(models)]
        return {"reconstructions": sheet([inputs["image"], *made])}

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of a few rows by name: `reconstructions`."""
        from ..figures.images import sheet

        kinds = [x[:SHOWN] for x in (inputs["image"], outputs["sample"])]
        return {"reconstructions": sheet(kinds)}
