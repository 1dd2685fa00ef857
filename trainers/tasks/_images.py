"""What tasks on images of digits share: which of them are in which split, and what they show."""

import dataclasses
import functools
import os

import numpy as np

from .._describe import after
from .._difficulty import levels
from .._evaluate import outputs_of, telling
from .._metrics import TargetError
from .._task import NATS, Listed, Task, seeds
from ..data import dataset
from ..data._store import without_last

VALIDATION = 12  # the last twelfth of MNIST's images of training
SEED = 1607  # of the fixed binarisation
PART = 5000  # images that are compared at once
REPORTED = 10_000  # rows that a report is of
LOOKED = 8  # images in a figure of where they were looked at
SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "binarized_mnist": "binarized MNIST",
    "glyphs": "glyphs of handwriting fonts",
    "omniglot": "Omniglot",
}
BINARY = "binarized_mnist", "glyphs", "omniglot"  # in black and white
SIZE = 28
SIDES = ("left", "top", "right", "bottom", "deviation", "intensity")
"""What windows are told by: the middles of their outer filters, in pixels from the image's upper
left corner, the deviation of the filters, and the intensity. A step has one or, along an axis
before that of the sides, several."""


def part_of(files, split):
    """Images and labels of a split, of what `mnist.load` gives."""
    if split == "test":
        return files["t10k"]
    return without_last(files["train"], VALIDATION)[split]


@functools.cache
def _load(data, root):
    module = dataset(data)
    return module.load(root or module.path())


@functools.cache
def _part(data, root, split):
    """Chances and classes of a split; sets in black and white give pixels of 0 and 1."""
    files = _load(data, root)
    if "t10k" in files:
        return part_of(files, split)
    found = files[split]
    images, classes = found[:2] if isinstance(found, tuple) else (found, None)
    return images * np.uint8(255), classes


def chances(data, root, split):
    """The chance of each pixel to be 1, times 255, `(count, height, width)` uint8."""
    return _part(data, root, split)[0]


def classes(data, root, split):
    """What each image shows, `(count,)`, a whole number.

    Raises `ValueError` where the images have no classes, as those of `binarized_mnist`.
    """
    found = _part(data, root, split)[1]
    if found is None:
        raise ValueError(f"expected images with classes; those of {data} have none")
    return found


@functools.cache
def binarised(data, root, split, laid=None):
    """The images of a split, binarised once and for all, `(count, height, width)` bool.

    Each pixel is 1 with the chance that its grey tells, by numbers of a seed that never changes.
    `laid` is the count and the size of `several`, or nothing for the images as they are.
    """
    grey, rng = chances(data, root, split), np.random.default_rng([SEED, len(split)])
    return drawn(several(grey, np.arange(len(grey)), *laid, rng) if laid else grey, rng)


def nearest(images, data, root):
    """The images of training, `(count, height, width)` from 0 to 1, that are nearest to others.

    By the square of the distance between their pixels.
    """
    known = chances(data, root, "train")
    flat = np.reshape(images, (len(images), -1)).astype("float32")
    far = []
    for start in range(0, len(known), PART):
        some = known[start : start + PART].reshape(-1, flat.shape[1]).astype("float32") / 255
        far.append(np.square(some).sum(axis=1) - 2 * flat @ some.T)
    return known[np.concatenate(far, axis=1).argmin(axis=1)].astype("float32") / 255


def drawn(grey, rng):
    """Pixels that are 1 with the chance that their grey tells, 0 to 255, bool."""
    return rng.random(grey.shape, "float32") * 255 < grey


def lay(squares, parts, rng, met=np.maximum):
    """Lays a part somewhere on each square; `met` says what ink becomes that meets other ink.

    Args:
        squares: `(batch, size, size)`, changed in place.
        parts: `(batch, side, side)`.
        rng: `numpy.random.Generator` of the places.
        met: function of two arrays, what is there and what comes.
    """
    side = parts.shape[1]
    there = places(*rng.integers(0, squares.shape[1] - side + 1, (2, len(parts))), side)
    squares[there] = met(squares[there], parts)


def several(images, chosen, count, size, rng):
    """Squares `(batch, size, size)` uint8 with so many images somewhere, the chosen among them.

    The others are drawn by chance of `images (count, height, width)`. Where they meet, their ink is
    added, up to 255.
    """
    squares = np.zeros((len(chosen), size, size), "uint8")
    for number in range(count):
        some = rng.integers(0, len(images), len(chosen)) if number else chosen
        lay(squares, images[some], rng, lambda one, other: one + np.minimum(other, 255 - one))
    return squares


def places(down, right, side):
    """The indices of a square part of each image, whose corners are given, `(batch,)` each."""
    beside = np.arange(side)
    rows, columns = down[:, None, None] + beside[:, None], right[:, None, None] + beside
    return np.arange(len(down))[:, None, None], rows, columns


@functools.cache
def by_class(data, root, split):
    """The numbers of a split's images, those of a class together, and how many each class has.

    Raises `ValueError` where the images have no classes.
    """
    found = classes(data, root, split)
    return np.argsort(found, kind="stable"), np.unique(found, return_counts=True)[1]


@dataclasses.dataclass(frozen=True)
class BinaryImages(Task):
    """Images of 28 by 28 pixels in black and white, or several on larger squares (`laid`).

    `data` names the images: `mnist`, `fashion_mnist` or `glyphs`, which `ponderzoo data fetch`
    downloads, or `binarized_mnist`, the fixed binarisation that papers compare on, or `omniglot`,
    whose files `root` names, as it names files of the user's own of the others. Pixels of grey are
    1 with the chance that their grey tells. With `binarisation` dynamic, images of training are
    drawn anew whenever they are seen; those of validation and test, and with `fixed` all of them,
    were drawn once by a seed that never changes. This is our own, not that of `binarized_mnist`,
    and numbers on the two differ. The last twelfth of MNIST's images of training is the validation
    split.

    Attributes:
        laid: the count and the size of `several`, or nothing where images are what they are.

    Raises:
        FileNotFoundError: the images are not there.
        ValueError: there are no such images, or no such binarisation.
    """

    data: str = "mnist"
    root: str = ""
    binarisation: str = "dynamic"
    laid = None

    def __post_init__(self):
        for name, known in (("data", SETS), ("binarisation", ("dynamic", "fixed"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{self.name} takes a {name} of {', '.join(known)}; got {getattr(self, name)!r}"
                )

    @property
    def corpus(self):
        """What the images may be called: files of the user's own by the name of their directory."""
        name = os.path.basename(os.path.abspath(self.root)) if self.root else SETS[self.data]
        if self.data in BINARY:
            return name
        how = "drawn anew in training" if self.binarisation == "dynamic" else "drawn once"
        return f"{name}, its pixels {how}, by our own binarisation"

    def examples(self, split="train"):
        """How many images a split has."""
        return len(chances(self.data, self.root, split))

    def pixels(self, chosen, rng, split="train"):
        """Images by their numbers, `(...)`, as `(..., 28, 28)` float32, drawn anew where due.

        Where they are `laid`, `(batch,)` and `(batch, size, size)`.
        """
        if split == "train" and self.binarisation == "dynamic":
            grey = chances(self.data, self.root, split)
            grey = several(grey, chosen, *self.laid, rng) if self.laid else grey[chosen]
            ink = drawn(grey, rng)
        else:
            ink = binarised(self.data, self.root, split, self.laid)[chosen]
        return ink.astype("float32")


@dataclasses.dataclass(frozen=True)
class ListedImages(BinaryImages, Listed):
    """Images in black and white, one a row; see `BinaryImages`.

    Attributes:
        size: pixels along a side.
    """

    size = SIZE

    @property
    def input_spec(self):
        return {"image": ((self.size, self.size), "float32")}

    def inputs(self, image, chosen, split):
        """The inputs of a model for images by their numbers, `(batch,)`, of a split."""
        return {"image": image}

    def rows(self, chosen, split="train"):
        """The images of a split by their numbers, `(batch,)`, as they were drawn once."""
        image = binarised(self.data, self.root, split, self.laid)[chosen].astype("float32")
        return self.inputs(image, chosen, split), {}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        chosen = rng.integers(0, self.examples(split), size)
        return self.inputs(self.pixels(chosen, rng, split), chosen, split), {}

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        return {"image": rng.integers(0, 2, (size, self.size, self.size)).astype("float32")}


def importance_weighted(model, inputs, samples, batch_size=250):
    """Minus the log of the mean weight of so many samples of each row, as float64.

    Its mean is a bound of minus the log-probability that gets tighter with every sample.

    Args:
        model: gives `log_weight`, or else `nats`, `(batch, ...)`.
        inputs: dict of arrays, without seeds.
        samples: of each row.
        batch_size: of the model.
    """
    model = telling(model, "log_weight", NATS)
    count = len(next(iter(inputs.values())))
    rows, weights = np.repeat(np.arange(count), samples), []
    for start in range(0, len(rows), batch_size):
        # The last batch is filled up: models are compiled for one size.
        chosen = rows[np.arange(start, start + batch_size) % len(rows)]
        given = {name: array[chosen] for name, array in inputs.items()}
        found = outputs_of(model, {**given, "seed": seeds(batch_size, SIZE, start)})
        weights.append(found["log_weight"] if "log_weight" in found else -found[NATS])
    weights = np.concatenate(weights)[: len(rows)].astype("float64")
    weights = weights.reshape(count, samples, *weights.shape[1:])
    return np.log(samples) - np.logaddexp.reduce(weights, axis=1)


@dataclasses.dataclass(frozen=True)
class Digits(Listed):
    """Tell which digit of MNIST an image shows.

    `root` is a directory with files of the user's own, in the form of MNIST's; without it they are
    those that `ponderzoo data fetch mnist` downloads. Subclasses give `rows(chosen, split)`, and
    `batch`.
    """

    root: str = ""
    captions = {
        "digits": "Images of the test split, the answer below; a wrong one is framed, with the "
        "truth before it.",
        "mistakes": "Images of the test split that were taken for something else, the surest "
        "mistakes first: the truth, and the answer.",
        "confusion": "How often each digit of the test split got each answer.",
        "glimpses": "Where images of the test split were looked at, glimpse by glimpse: what lies "
        "between the outer filters, with a line the thicker the wider the filters.",
        "answers": "How many would be wrong if they were given after so many glimpses; and if the "
        "places to look at were drawn, once, as in training.",
    }

    @property
    def target_spec(self):
        return {"digit": ((), "int32")}

    @property
    def corpus(self):
        """What the images may be called: files of the user's own by the name of their directory."""
        return os.path.basename(os.path.abspath(self.root)) if self.root else "MNIST"

    def images(self, split="train"):
        """All of MNIST's in a split: images, `(count, 28, 28)` uint8, and digits, uint8."""
        return part_of(_load("mnist", self.root), split)

    def examples(self, split="train"):
        """How many images a split has."""
        return len(self.images(split)[1])

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

    def report(self, model):
        """`answers`: the errors after each step, and by chance, of models that tell them."""
        from .._evaluate import answers

        answered = {"probability_steps": "after step {}", "drawn_digit": "places drawn"}
        told, wrong = [name for name in answered if name in model.output], {}
        if not told:
            return {}
        stream = self.dataset("test", self.evaluation_batch, -(-REPORTED // self.evaluation_batch))
        batches = (stream[i] for i in range(len(stream)))
        for _, targets, outputs in answers(telling(model, *told), batches, REPORTED):
            for name in told:
                missed = targets["digit"] != outputs[name].argmax(axis=-1).T
                for step, some in enumerate(np.atleast_2d(missed), 1):
                    wrong.setdefault(answered[name].format(step), []).append(some)
        return {
            "answers": {k: {"error": float(np.concatenate(v).mean())} for k, v in wrong.items()}
        }

    def figures(self, model, rows=10_000, batch_size=250):
        """Matplotlib figures by name: `digits`, `confusion`, and `mistakes` where there are any.

        Of a model that looks at images in steps there are `glimpses`, too.
        """
        from .._evaluate import answers
        from ..figures.digits import confusion, grid
        from ..figures.images import in_steps

        rows = min(rows, self.examples("test"))
        stream = self.dataset("test", batch_size, -(-rows // batch_size))
        read, looked = [], None
        for inputs, targets, outputs in answers(
            model, map(stream.__getitem__, range(len(stream))), rows
        ):
            read.append((inputs["image"], targets["digit"], outputs["digit"]))
            looked = outputs.get("read_windows") if looked is None else looked
        images, digits, logits = map(np.concatenate, zip(*read))
        answers = logits.argmax(axis=-1)
        figures = {"digits": grid(images, digits, answers), "confusion": confusion(digits, answers)}
        (wrong,) = np.nonzero(answers != digits)
        if len(wrong):
            lost = logits[wrong].max(axis=-1) - logits[wrong, digits[wrong]]
            wrong = wrong[np.argsort(-lost, kind="stable")]
            figures["mistakes"] = grid(images[wrong], digits[wrong], answers[wrong])
        if looked is not None:
            looked = looked[:LOOKED]
            shown = repeated(images[: len(looked)], looked)
            figures["glimpses"] = in_steps(shown, looked, inches=1.0)
        return figures

    def inputs_without_data(self, rng, size):
        """Images of chance, which need no files."""
        shape, _ = self.input_spec["image"]
        return {"image": rng.random((size, *shape), "float32")}


def _answer(logits):
    """The most probable digit and its probability."""
    logits = np.asarray(logits, "float64")
    answer = logits.argmax()
    return answer, 1 / np.exp(logits - logits[answer]).sum()


def repeated(images, windows):
    """Images `(count, steps, height, width)` that stay the same below all windows."""
    return np.repeat(images[:, None], np.shape(windows)[1], axis=1)
