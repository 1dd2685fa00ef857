"""Densities of digits in black and white, as generative models of images are compared on."""

import dataclasses
import os

import numpy as np

from .._difficulty import levels
from .._evaluate import outputs_of, telling
from .._metrics import MeanOfRows
from .._task import NATS, Listed, seeds
from ._images import BINARY, SETS, binarised, chances, drawn

SIZE = 28
SHOWN = 16  # steps in a figure
CALLED = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "binarized_mnist": "binarized MNIST",
    "glyphs": "glyphs of handwriting fonts",
    "omniglot": "Omniglot",
}


@dataclasses.dataclass(frozen=True)
class BinaryDigits(Listed):
    """Say how probable an image of pixels in black and white is, in nats, and make new ones.

    `data` names the images: `mnist`, `fashion_mnist` or `glyphs`, which `ponderzoo data fetch`
    downloads, or `binarized_mnist`, the fixed binarisation that papers compare on, or `omniglot`,
    whose files `root` names, as it names files of the user's own of the others. Pixels of grey are
    1 with the chance that their grey tells. With `binarisation` dynamic, images of training are
    drawn anew whenever they are seen; those of validation and test, and with `fixed` all of them,
    were drawn once by a seed that never changes. This is our own, not that of `binarized_mnist`,
    and numbers on the two differ. The last twelfth of MNIST's images of training is the validation
    split.

    Inputs: `image`, `(batch, 28, 28)` float32, 0 (paper) or 1 (ink). There are no targets. Outputs
    of models: `nats`, `(batch,)`, minus a bound of the image's log-probability by one sample, of
    which `reconstruction` and `kl`, `(batch, ...)`, are the parts: what the pixels cost, and what
    was to be said of them; `mean`, `(batch, 28, 28)`, the chances of the pixels; and `sample`,
    likewise, those of an image that the row's seed alone decides. Where a part of `nats` is no
    sample, but a mean in closed form, `log_weight`, `(batch,)`, is log p(x, z) - log q(z | x).
    A model that makes an image in steps may give `steps` and `sample_steps`, `(batch, steps, 28,
    28)`: what `mean` and `sample` were after each; and `read_windows`, `write_windows` and
    `sample_windows`, `(batch, steps, 6)`, where it looked and painted: the `SIDES` of `_images`.

    `report` has an importance-weighted estimate: minus the logarithm of the mean weight of so many
    `samples` of each of the first `images` of the test split (Burda, Grosse and Salakhutdinov,
    2015).

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: there are no such images, or no such binarisation.
    """

    data: str = "mnist"
    root: str = ""
    binarisation: str = "dynamic"
    samples: int = 1000
    images: int = 500
    captions = {
        "reconstructions": "Images of the test split, and below each what was made of what the "
        "model says of it.",
        "samples": "Images that the model makes of nothing but chance.",
        "steps": "How some of these came about, a line each.",
    }
    called = {
        NATS: "nats an image, a bound",
        "reconstruction": "of them for the pixels",
        "kl": "of them for what is said of the image (KL)",
    }

    def __post_init__(self):
        for name, known in (("data", SETS), ("binarisation", ("dynamic", "fixed"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{self.name} takes a {name} of {', '.join(known)}; got {getattr(self, name)!r}"
                )

    @property
    def input_spec(self):
        return {"image": ((SIZE, SIZE), "float32")}

    @property
    def corpus(self):
        """What the images may be called: files of the user's own by the name of their directory."""
        name = os.path.basename(os.path.abspath(self.root)) if self.root else CALLED[self.data]
        if self.data in BINARY:
            return name
        how = "drawn anew in training" if self.binarisation == "dynamic" else "drawn once"
        return f"{name}, its pixels {how}, by our own binarisation"

    def examples(self, split="train"):
        """How many images a split has."""
        return len(chances(self.data, self.root, split))

    def rows(self, chosen, split="train"):
        """The images of a split by their numbers, `(batch,)`, as they were drawn once."""
        return {"image": binarised(self.data, self.root, split)[chosen].astype("float32")}, {}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        chosen = rng.integers(0, self.examples(split), size)
        if split != "train" or self.binarisation == "fixed":
            return self.rows(chosen, split)
        grey = chances(self.data, self.root, split)[chosen]
        return {"image": drawn(grey, rng).astype("float32")}, {}

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
        count = min(self.images, self.examples("test"))
        inputs, _ = self.rows(np.arange(count), "test")
        nats = importance_weighted(model, inputs["image"], self.samples, self.evaluation_batch)
        found = {"importance_weighted_nats": float(nats.mean())}
        return {"importance": {**found, "images": count, "samples_an_image": self.samples}}

    def figures(self, model):
        """Matplotlib figures by name: `reconstructions`, `samples`, and perhaps `steps`."""
        from ..figures.images import sheet

        inputs, _ = self.rows(np.arange(min(80, self.examples("test"))), "test")
        found = outputs_of(model, inputs)
        figures = {**self.snapshot(inputs, {}, found), "samples": sheet([found["sample"]])}
        if "sample_steps" in found:
            steps = found["sample_steps"]
            shown = np.linspace(0, steps.shape[1] - 1, min(SHOWN, steps.shape[1])).round()
            some = steps[:8, shown.astype(int)].reshape(-1, SIZE, SIZE)
            figures["steps"] = sheet([some], columns=len(shown))
        return figures

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of a few rows by name: `reconstructions`."""
        from ..figures.images import sheet

        some = slice(32)
        return {"reconstructions": sheet([inputs["image"][some], outputs["mean"][some]])}

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        return {"image": rng.integers(0, 2, (size, SIZE, SIZE)).astype("float32")}


def importance_weighted(model, images, samples, batch_size=250):
    """Minus the log of the mean weight of so many samples of each image, `(images,)` float64.

    Its mean is a bound of minus the log-probability that gets tighter with every sample.
    """
    model = telling(model, "log_weight", NATS)
    rows = np.repeat(np.arange(len(images)), samples)
    weights = []
    for start in range(0, len(rows), batch_size):
        # The last batch is filled up: models are compiled for one size.
        chosen = rows[np.arange(start, start + batch_size) % len(rows)]
        inputs = {"image": images[chosen], "seed": seeds(batch_size, SIZE, start)}
        found = outputs_of(model, inputs)
        weights.append(found["log_weight"] if "log_weight" in found else -found[NATS])
    weights = np.concatenate(weights)[: len(rows)].astype("float64").reshape(len(images), samples)
    return np.log(samples) - np.logaddexp.reduce(weights, axis=1)
