"""Addition (Graves, 2016, section 3.3)."""

import dataclasses

import numpy as np

from .._describe import PER_STEP, after, verdict
from .._difficulty import levels
from .._evaluate import outputs_of
from .._task import Task

ENDED = 10
ONE_HOT = np.eye(11, 10, dtype="float32")


@dataclasses.dataclass(frozen=True)
class Addition(Task):
    """Running sums of decimal numbers.

    Each vector is a number of 1 to `digits` digits, one-hot, most significant first, at the left;
    it may begin with zeros. From the second vector on the target is the sum so far, without leading
    zeros, at the left, filled with class 10, "the number has ended". Difficulty is the digits of
    every number, at sequences of 3. A sequence of one number has no target.

    Inputs: `sequence`, `(batch, numbers, 10 * digits)` float32; `lengths`, `(batch,)` int32, 1 to
    `numbers`. Targets: `sum`, `(batch, numbers, digits + 1)` int32, -1 at the first number and
    behind the end. The model output `sum` is logits, `(batch, numbers, digits + 1, 11)`.

    Raises:
        ValueError: more than 10 numbers, whose sum may need more than `digits + 1` places.
    """

    numbers: int = 5
    digits: int = 5
    axis = "digits per number"
    classes = 11
    captions = PER_STEP

    def __post_init__(self):
        if not 1 <= self.numbers <= 10 or not 1 <= self.digits <= 17:
            raise ValueError(
                f"addition takes 1..10 numbers of 1..17 digits, got numbers={self.numbers}, "
                f"digits={self.digits}"
            )

    @property
    def input_spec(self):
        return {"sequence": ((None, 10 * self.digits), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"sum": ((None, self.digits + 1), "int32")}

    @property
    def difficulties(self):
        return tuple(range(1, self.digits + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, exact = levels(self, difficulty)
        shape = (size, self.numbers)
        lengths = rng.integers(1, self.numbers + 1, size, dtype=np.int32)
        if exact:
            lengths = np.full(size, min(3, self.numbers), np.int32)
        count = rng.integers(low, high + 1, shape)
        return self.lay(rng.integers(0, 10, (*shape, self.digits)), count, lengths)

    def lay(self, digits, count, lengths):
        """Rows of given numbers.

        Args:
            digits: `(batch, time, digits)`, those of each number from the left.
            count: `(batch, time)`, how many digits a number has.
            lengths: `(batch,)`, how many numbers count.
        """
        shape = digits.shape[:2]
        real = np.arange(shape[1]) < lengths[:, None]
        count = np.where(real, count, 0)[..., None]
        place = count - 1 - np.arange(self.digits)
        sequence = ONE_HOT[np.where(place >= 0, digits, ENDED)].reshape(*shape, -1)

        value = np.where(place >= 0, digits * 10 ** np.maximum(place, 0), 0).sum(axis=-1)
        sums = value.cumsum(axis=1)[..., None]
        places = 1 + (sums >= 10 ** np.arange(1, self.digits + 1)).sum(axis=-1, keepdims=True)
        place = places - 1 - np.arange(self.digits + 1)
        target = np.where(place >= 0, sums // 10 ** np.maximum(place, 0) % 10, ENDED)
        target = target.astype("int32")
        target[~real] = -1
        target[:, 0] = -1
        return {"sequence": sequence, "lengths": lengths}, {"sum": target}

    def describe(self, inputs, targets, outputs):
        """`12 + 7 + 99999 -> 19, 100018; answered 19, 100018 (ok) after 3, 4, 6 steps`."""
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            told = " + ".join(_numbers(inputs["sequence"][row, :length]))
            answers = outputs["sum"][row, 1:length].argmax(axis=-1)
            truth, mark = "", ""
            if targets and length > 1:
                right = targets["sum"][row, 1:length]
                truth = f" -> {', '.join(map(_number, right))}"
                mark = verdict((answers != right).any(axis=-1).sum(), len(right))
            answered = f"answered {', '.join(map(_number, answers))}" if length > 1 else "no answer"
            lines.append(f"{told}{truth}; {answered}{mark}{after(outputs, row, length)}")
        return lines

    def figures(self, model):
        """Matplotlib figures by name: with ponder, `ponder_per_step`."""
        from ..figures.ponder import ponder_per_step

        inputs, _ = self.batch(np.random.default_rng(0), 64)
        row = inputs["lengths"].argmax()
        outputs = outputs_of(model, inputs)
        if "updates" not in outputs:
            return {}
        length = inputs["lengths"][row]
        updates, remainder = (outputs[k][row, :length] for k in ("updates", "remainder"))
        labels = _numbers(inputs["sequence"][row, :length])
        return {"ponder_per_step": ponder_per_step(None, updates, remainder, labels)}


def _numbers(vectors):
    """One-hot vectors as the numbers that they show."""
    chunks = vectors.reshape(len(vectors), -1, 10)
    return [_number(np.where(c.any(-1), c.argmax(-1), ENDED)) for c in chunks]


def _number(digits):
    """The digits as written, up to where the number ends; a gap within the digits shows as `_`."""
    return "".join("_" if d == ENDED else str(d) for d in digits).rstrip("_") or "nothing"
