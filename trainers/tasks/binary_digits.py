"""Densities of digits in black and white, as generative models of images are compared on."""

import dataclasses

import numpy as np

from .._evaluate import outputs_of
from .._metrics import MeanOfRows
from .._task import NATS
from ._images import (
    LOOKED,
    SIZE,
    ListedImages,
    importance_weighted,
    nearest,
    repeated,
)

SHOWN = 16  # steps in a figure


@dataclasses.dataclass(frozen=True)
class BinaryDigits(ListedImages):
    """Say how probable an image of pixels in black and white is, in nats, and make new ones.

    `data`, `root` and `binarisation` say which images; see `BinaryImages`.

    With other `digits` and another `size` an image is a square of `size` pixels with so many images
    somewhere on it, whose ink is added where they meet; with 2 on 60 pixels it is "MNIST generation
    with two digits" (Gregor et al., 2015, section 4.3). Images of training are put together anew
    whenever they are seen, unless they are drawn once.

    Inputs: `image`, `(batch, size, size)` float32, 0 (paper) or 1 (ink). There are no targets.
    Outputs of models: `nats`, `(batch,)`, minus a bound of the image's log-probability by one
    sample, of which `reconstruction` and `kl`, `(batch, ...)`, are the parts: what the pixels cost,
    and what was to be said of them; `mean`, `(batch, size, size)`, the chances of the pixels; and
    `sample`, likewise, those of an image that the row's seed alone decides. Where a part of `nats`
    is no sample, but a mean in closed form, `log_weight`, `(batch,)`, is log p(x, z) - log q(z |
    x). A model that goes from pixel to pixel says nothing of an image beforehand: its `kl` is 0 and
    its `nats` no bound, but exact, and `mean` are the chances of pixels given those before them; it
    may give `bits`, `(batch, size, size)`, what each pixel costs, and `completed`, likewise, an
    image whose upper half is the row's and whose lower half its seed decides. A model that makes an
    image in steps may give `steps` and `sample_steps`, `(batch, steps, size, size)`: what `mean`
    and `sample` were after each; and `read_windows`, `write_windows` and `sample_windows`, `(batch,
    steps, 6)`, where it looked and painted: the `SIDES` of `_images`.

    `report` has an importance-weighted estimate: minus the logarithm of the mean weight of so many
    `samples` of each of the first `images` of the test split (Burda, Grosse and Salakhutdinov,
    2015); none where `samples` is 0.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: there are no such images, no such binarisation, or too small a size.
    """

    digits: int = 1
    size: int = SIZE
    samples: int = 1000
    images: int = 500
    least = {"samples": 0}
    captions = {
        "reconstructions": "Images of the test split, and below each what was made of what the "
        "model says of it.",
        "samples": "Images that the model makes of nothing but chance.",
        "steps": "How some of these came about, a line each; where a window was painted in, its "
        "line is the thicker the wider its filters.",
        "glimpses": "Where images of the test split were looked at in each step; the line of a "
        "window is the thicker the wider its filters.",
        "completions": "Images of the test split, and below each one with the same upper half, "
        "whose lower half the model makes.",
        "bits": "Images of the test split, and below each what its pixels cost given those before; "
        "a bit or more is black.",
        "nearest": "Images that the model makes, and below each the nearest one of training.",
    }
    called = {
        NATS: "nats an image, a bound",
        "reconstruction": "of them for the pixels",
        "kl": "of them for what is said of the image (KL)",
    }

    def __post_init__(self):
        super().__post_init__()
        if self.size < SIZE:
            raise ValueError(f"a digit has 28 by 28 pixels; got a size of {self.size}")

    @property
    def laid(self):
        laid = self.digits, self.size
        return laid if laid != (1, SIZE) else None

    @property
    def corpus(self):
        name = super().corpus
        laid = f"{self.digits} of them on {self.size} by {self.size} pixels"
        return f"{name}, {laid}" if self.laid else name

    def metrics(self):
        return {name: [MeanOfRows(name)] for name in (NATS, "reconstruction", "kl")}

    def describe(self, inputs, targets, outputs):
        """`an image of 102 pixels: 97.3 nats, 78.1 for the pixels and 19.2 for what is said`."""
        lines = []
        for row, image in enumerate(inputs["image"]):
            pixels, said = (float(np.sum(outputs[k][row])) for k in ("reconstruction", "kl"))
            lines.append(
                f"an image of {int(image.sum())} pixels: {float(outputs[NATS][row]):.1f} nats, "
                f"{pixels:.1f} for the pixels and {said:.1f} for what is said of it"
            )
        return lines

    def report(self, model):
        """`importance`: the estimate of the log-probability, with its images and its samples."""
        if not self.samples:
            return {}
        count = min(self.images, self.examples("test"))
        inputs, _ = self.rows(np.arange(count), "test")
        nats = importance_weighted(model, inputs, self.samples, self.evaluation_batch)
        found = {"importance_weighted_nats": float(nats.mean())}
        return {"importance": {**found, "images": count, "samples_an_image": self.samples}}

    def figures(self, model):
        """Matplotlib figures by name: `reconstructions`, `samples` and `nearest`.

        Of a model that works in steps there are `steps`, too, and where it looks at parts of an
        image `glimpses`.
        """
        from ..figures.images import in_steps, sheet

        inputs, _ = self.rows(np.arange(min(80, self.examples("test"))), "test")
        found = outputs_of(model, inputs)
        figures = {**self.snapshot(inputs, {}, found), "samples": sheet([found["sample"]])}
        some = found["sample"][:32]
        if not self.laid:
            figures["nearest"] = sheet([some, nearest(some, self.data, self.root)])
        for name, output in (("completions", "completed"), ("bits", "bits")):
            if output in found:
                figures[name] = sheet([x[:32] for x in (inputs["image"], found[output])])
        if "sample_steps" in found:
            windows = found.get("sample_windows")
            figures["steps"] = in_steps(*map(_few, (found["sample_steps"], windows)))
        if "read_windows" in found:
            windows = _few(found["read_windows"])
            figures["glimpses"] = in_steps(repeated(inputs["image"][:LOOKED], windows), windows)
        return figures

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of a few rows by name: `reconstructions` and `samples`."""
        from ..figures.images import sheet

        some = slice(32)
        return {
            "reconstructions": sheet([inputs["image"][some], outputs["mean"][some]]),
            "samples": sheet([outputs["sample"][some]]),
        }


def _few(steps):
    """`LOOKED` rows, and `SHOWN` of their steps or fewer, with the first and the last."""
    if steps is None:
        return None
    shown = np.linspace(0, steps.shape[1] - 1, min(SHOWN, steps.shape[1])).round()
    return steps[:LOOKED, shown.astype(int)]
