"""Sort (Graves, 2016, section 3.4)."""

import dataclasses

import numpy as np

from .._describe import PER_STEP, after, verdict
from .._difficulty import levels
from .._evaluate import outputs_of
from .._task import Task


@dataclasses.dataclass(frozen=True)
class Sort(Task):
    """Sort 2 to `numbers` normal numbers: one a step, then their indices in ascending order.

    A vector is (value, flag); the flag is 1 with the last number. As many zero vectors follow as
    there were numbers, and at these steps the index of the next smallest number is asked for.
    Difficulty is how many numbers there are.

    Inputs: `sequence`, `(batch, 2 * numbers, 2)` float32; `lengths`, `(batch,)` int32, twice the
    numbers of the row. Targets: `order`, `(batch, 2 * numbers)` int32, -1 where no index is asked
    for. The model output `order` is logits, `(batch, 2 * numbers, numbers)`.
    """

    numbers: int = 15
    axis = "numbers to sort"
    captions = PER_STEP

    @property
    def classes(self):
        return self.numbers

    @property
    def input_spec(self):
        return {"sequence": ((None, 2), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"order": ((None,), "int32")}

    @property
    def difficulties(self):
        return tuple(range(2, self.numbers + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        count = rng.integers(low, high + 1, size, dtype=np.int32)
        return self.lay(rng.standard_normal((size, self.numbers), dtype=np.float32), count)

    def lay(self, values, count):
        """Rows in which the first `count`, `(batch,)`, of `values`, `(batch, most)`, are sorted."""
        (size, most), count = values.shape, count[:, None]
        time = np.arange(2 * most)
        shown = time[:most] < count

        sequence = np.zeros((size, 2 * most, 2), "float32")
        sequence[:, :most, 0] = np.where(shown, values, 0)
        sequence[..., 1] = time == count - 1

        ascending = np.where(shown, values, np.inf).argsort(axis=1, kind="stable")
        rank = time - count
        order = np.take_along_axis(ascending, rank.clip(0, most - 1), axis=1)
        order = np.where((rank >= 0) & (rank < count), order, -1).astype("int32")
        return {"sequence": sequence, "lengths": 2 * count[:, 0]}, {"order": order}

    def describe(self, inputs, targets, outputs):
        """`0.31 -1.20 -> -1.20 0.31; answered -1.20 0.31 (ok) after 2, 4, 1, 1 steps`."""
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            count = length // 2
            values = [f"{value:.2f}" for value in inputs["sequence"][row, :count, 0]]
            answer = outputs["order"][row, count:length].argmax(axis=-1)
            truth, mark = "", ""
            if targets:
                right = targets["order"][row, count:length]
                truth = f" -> {_pick(values, right)}"
                mark = verdict((answer != right).sum(), count)
            lines.append(
                f"{' '.join(values)}{truth}; answered {_pick(values, answer)}{mark}"
                f"{after(outputs, row, length)}"
            )
        return lines

    def figures(self, model):
        """Matplotlib figures by name: with ponder, `ponder_per_step`."""
        from ..figures.ponder import ponder_per_step

        inputs, _ = self.batch(np.random.default_rng(0), 1, self.numbers)
        outputs = outputs_of(model, inputs)
        if "updates" not in outputs:
            return {}
        values = inputs["sequence"][0, :, 0].copy()
        values[self.numbers :] = np.nan
        figure = ponder_per_step(values, outputs["updates"][0], outputs["remainder"][0])
        return {"ponder_per_step": figure}


def _pick(values, order):
    """The values in an order; an index behind the list shows as `?`."""
    return " ".join(values[index] if index < len(values) else "?" for index in order)
