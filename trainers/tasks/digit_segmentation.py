"""The digit of every pixel (Graves, Fernandez and Schmidhuber, 2007, section 4.2)."""

import dataclasses

import keras
import numpy as np
from keras import ops

from ...layers import _backend as backend
from ...layers import elastic_warp
from .._describe import after
from .._difficulty import levels
from .._evaluate import answers, count, read
from .._metrics import Fraction, TargetError
from ._images import LOOKED, REPORTED, SIZE, Digits

DIGITS, BACKGROUND = 10, 10


def image_scores(logits):
    """How much of an image each digit is, `(batch, 10)`: its probabilities, summed over pixels.

    The background's do not count. `logits` is `(batch, height, width, 11)`.
    """
    probability = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    return ops.sum(probability[..., :DIGITS], axis=(1, 2))


class ImageError(Fraction):
    """Fraction of images whose digit is not the one with the most probability, over all pixels."""

    def __init__(self, name="image_error"):
        super().__init__(name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        # The background's number is above those of digits.
        digit = ops.min(ops.convert_to_tensor(y_true), axis=(1, 2))
        answer = ops.cast(ops.argmax(image_scores(y_pred), axis=-1), digit.dtype)
        seen = digit < DIGITS
        self.add(ops.logical_and(seen, answer != digit), seen, sample_weight)


@dataclasses.dataclass(frozen=True)
class DigitSegmentation(Digits):
    """Tell for every pixel of a digit of MNIST which digit it belongs to, or the background.

    Pixels with more ink than `threshold` belong to the digit, those with as much or less to the
    background. All models are measured on warped images of the test split, too, which they have not
    been trained with: image number i is bent by `elastic_warp` with the seed i.

    `root` is a directory with files of the user's own, in the form of MNIST's; without it they are
    those that `ponderzoo data fetch mnist` downloads. The last twelfth of the training images is
    the validation split.

    Inputs: `image`, `(batch, 28, 28)` float32, rows from the top, 0 (paper) to 1 (ink).
    Targets: `label`, `(batch, 28, 28)` int32, 0 to 9, or 10 for the background. The model output
    `label` is logits, `(batch, 28, 28, 11)`. An image is called the digit that has the most
    probability over all of its pixels.

    Attributes:
        threshold: most ink of a pixel of the background, 0 to 1.
        deviation, strength: of `elastic_warp`.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: a setting is below 0, and files that are damaged.
    """

    threshold: float = 0.0
    deviation: float = 4.0
    strength: float = 34.0
    captions = {
        "labels": "Images of the test split, and below each the labels of its pixels, a colour for "
        "each digit.",
        "warped": "The same of warped images.",
        "sensitivity": "How much the answer at one pixel, which is red, depends on each pixel of "
        "the image: the size of its derivatives, the darkest being the largest of an image.",
    }
    called = {
        "pixel_error": "wrong pixels",
        "image_error": "wrong images",
        "warped_pixel_error": "wrong pixels of warped images",
        "warped_image_error": "wrong warped images",
    }

    def __post_init__(self):
        for name in ("threshold", "deviation", "strength"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more; got {getattr(self, name)}")

    @property
    def classes(self):
        return DIGITS + 1

    @property
    def input_spec(self):
        return {"image": ((SIZE, SIZE), "float32")}

    @property
    def target_spec(self):
        return {"label": ((SIZE, SIZE), "int32")}

    def loss(self):
        return super(Digits, self).loss()

    def metrics(self):
        return {"label": [TargetError("pixel_error"), ImageError()]}

    def rows(self, chosen, split="train"):
        """The images of a split by their numbers, `(batch,)`."""
        images, digits = self.images(split)
        return self._labelled(images[chosen].astype("float32") / 255, digits[chosen])

    def warped(self, chosen, split="test"):
        """The same, warped; in as many shades of grey as before."""
        images, digits = self.images(split)
        image, seed = images[chosen].astype("float32"), np.asarray(chosen, "int32")
        bent = keras.ops.convert_to_numpy(elastic_warp(image, seed, self.deviation, self.strength))
        return self._labelled(np.round(bent) / np.float32(255), digits[chosen])

    def _labelled(self, image, digits):
        label = np.where(image > self.threshold, digits[:, None, None], BACKGROUND)
        return {"image": image}, {"label": label.astype("int32")}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        return self.rows(rng.integers(0, self.examples(split), size), split)

    def describe(self, inputs, targets, outputs):
        """`image -> 7; answered 7 (0.98), ok; 97.9 % of the pixels right`."""
        scores = np.asarray(image_scores(outputs["label"]))
        lines = []
        for row, score in enumerate(scores):
            answer, truth, mark, pixels = score.argmax(), "", "", ""
            if targets:
                labels = targets["label"][row]
                digit, right = labels.min(), labels == outputs["label"][row].argmax(axis=-1)
                truth, mark = f" -> {digit}", ", ok" if answer == digit else ", wrong"
                pixels = f"; {right.mean():.1%} of the pixels right"
            share = score[answer] / score.sum()
            lines.append(
                f"image{truth}; answered {answer} ({share:.2f}){mark}{pixels}{after(outputs, row)}"
            )
        return lines

    def report(self, model):
        """`warped`: the errors on warped images of the test split."""
        images = min(REPORTED, self.examples("test"))
        metrics = {"label": [TargetError("warped_pixel_error"), ImageError("warped_image_error")]}
        starts = range(0, images, self.evaluation_batch)
        batches = (
            self.warped(np.arange(start, start + self.evaluation_batch) % images)
            for start in starts
        )
        for _, targets, outputs in answers(model, batches, images):
            count(metrics, targets, outputs)
        return {"warped": {**read(metrics), "images": images}}

    def figures(self, model):
        """Matplotlib figures by name: `labels`, `warped` and `sensitivity`."""
        from .._evaluate import outputs_of
        from ..figures.images import depending, labelled

        chosen, figures = np.arange(min(48, self.examples("test"))), {}
        for name, rows in (("labels", self.rows), ("warped", self.warped)):
            inputs, _ = rows(chosen, "test")
            label = outputs_of(model, inputs)["label"].argmax(axis=-1)
            figures[name] = labelled(inputs["image"], label)
        image = self.rows(chosen[:LOOKED], "test")[0]["image"]
        places = np.array([middle_of_ink(x) for x in image])
        figures["sensitivity"] = depending(image, sensitivity(model, image, places), places)
        return figures


def middle_of_ink(image):
    """The pixel of ink, row and column, that is nearest to the middle of all ink of an image."""
    inked = np.argwhere(image > 0)
    if not len(inked):
        return np.array(image.shape) // 2
    middle = np.average(inked, axis=0, weights=image[image > 0])
    return inked[np.square(inked - middle).sum(axis=-1).argmin()]


def sensitivity(model, image, places):
    """Derivatives of the answers at pixels by all pixels, `(batch, height, width)`.

    Args:
        model: gives `label`.
        image: `(batch, height, width)`.
        places: `(batch, 2)`, row and column of a pixel of each image, whose largest logit it is.
    """
    logits, pull = backend.vjp(lambda x: model({"image": x})["label"], ops.array(image))
    rows, (down, right) = np.arange(len(image)), np.transpose(places)
    found = ops.convert_to_numpy(logits)
    chosen = np.zeros_like(found)
    chosen[rows, down, right, found[rows, down, right].argmax(axis=-1)] = 1
    return ops.convert_to_numpy(pull(ops.array(chosen))[0])
