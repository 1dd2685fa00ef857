"""Sets of digits in black and white, each of which is told by another one of its set."""

import dataclasses

import numpy as np

from .._evaluate import outputs_of, telling
from .._metrics import MeanOfRows
from .._probe import linear_probe_error, principal_components
from .._task import NATS
from ._images import classes
from .binary_digits import BinaryDigits

DREAMT = 12  # images of a dream
DREAMERS = 8
PART = 1000  # images that are encoded at once


@dataclasses.dataclass(frozen=True)
class NumberedDigits(BinaryDigits):
    """Say what an image costs whose like in its set is known, in nats, and make codes of it.

    Images are those of `binary_digits`, of which the first `items` of training have a number. The
    classes are only looked at to see what the codes say of them.

    Inputs: `image`, `(batch, size, size)` float32, and `index`, `(batch,)` int32, its number among
    the images of training, -1 for all others. There are no targets. Outputs of models are those of
    `binary_digits`, of which `nats` are "ordered": what an image costs whose neighbour is known,
    without what it costs to say which one that is; `unordered_nats`, `(batch,)`, what it costs when
    nothing is known of its neighbours, as other models count; `code`, `(batch, code size)`; and of
    a model with neighbours `neighbour`, `(batch,)` int32, the number of the image that was near,
    and `dream`, `(batch, size, size)`, an image that the code of the row's image leads to.

    `report` has the error of a linear classifier of the codes, and that of one of as many principal
    components of the pixels.
    """

    items: int = 55_000
    captions = {
        **BinaryDigits.captions,
        "neighbours": "Images of the test split, and below each one of the images of training by "
        "whose code it was told.",
        "dreams": "Images of the test split, and behind each the images to which one leads after "
        "the other: each is made of a code that the code of the one before leads to.",
    }
    called = {
        **BinaryDigits.called,
        NATS: "nats an image beside one like it, a bound",
        "unordered_nats": "nats an image alone, a bound",
    }

    @property
    def input_spec(self):
        return {**super().input_spec, "index": ((), "int32")}

    def examples(self, split="train"):
        """How many images a split has."""
        count = super().examples(split)
        return min(count, self.items) if split == "train" else count

    def inputs(self, image, chosen, split):
        index = np.where(split == "train", chosen, -1)
        return {**super().inputs(image, chosen, split), "index": index.astype("int32")}

    def metrics(self):
        return {**super().metrics(), "unordered_nats": [MeanOfRows("unordered_nats")]}

    def report(self, model):
        """`importance`, and `probe`: the errors of linear classifiers, for images with classes."""
        found = super().report(model)
        try:
            known, asked = (classes(self.data, self.root, split) for split in ("train", "test"))
        except ValueError:
            return found
        known = known[: self.examples()]
        codes, test = (self.codes(model, split) for split in ("train", "test"))
        pixels = (self.rows(np.arange(self.examples(x)), x)[0]["image"] for x in ("train", "test"))
        parts, test_parts = principal_components(*pixels, codes.shape[1])
        return {
            **found,
            "probe": {
                "codes_error": linear_probe_error(codes, known, test, asked),
                "principal_components_error": linear_probe_error(parts, known, test_parts, asked),
                "code_size": codes.shape[1],
            },
        }

    def codes(self, model, split):
        """The codes of all images of a split as they were drawn once, `(count, code size)`."""
        model, found = telling(model, "code"), []
        count = self.examples(split)
        for start in range(0, count, PART):
            # The last part is filled up: models are compiled for one size.
            chosen = np.arange(start, start + min(PART, count)) % count
            found.append(outputs_of(model, self.rows(chosen, split)[0])["code"])
        return np.concatenate(found)[:count]

    def figures(self, model):
        """Those of `binary_digits`, `dreams`, and `neighbours` of a model that has any."""
        from ..figures.images import in_steps, sheet

        figures = super().figures(model)
        inputs, _ = self.rows(np.arange(min(32, self.examples("test"))), "test")
        if "neighbour" in model.output:
            number = outputs_of(telling(model, "neighbour"), inputs)["neighbour"]
            near = self.rows(number, "train")[0]["image"]
            figures["neighbours"] = sheet([inputs["image"], near])
        if "dream" in model.output:
            figures["dreams"] = in_steps(self.dreams(model, inputs["image"][:DREAMERS]))
        return figures

    def dreams(self, model, image):
        """Images and those to which one leads after the other, `(count, DREAMT, size, size)`."""
        model, steps = telling(model, "dream"), [image]
        for seed in range(1, DREAMT):
            given = {"image": steps[-1], "index": np.full(len(image), -1, "int32")}
            steps.append(outputs_of(model, given, seed)["dream"])
        return np.stack(steps, axis=1)

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        found = super().inputs_without_data(rng, size)
        return {**found, "index": rng.integers(-1, self.items, size).astype("int32")}
