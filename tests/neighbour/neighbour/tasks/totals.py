"""Sums of a few small numbers, with a curriculum of two dimensions."""

import dataclasses

from ponderzoo.trainers import Task
from ponderzoo.trainers._metrics import TargetError
from ponderzoo.trainers._syllabus import Syllabus


@dataclasses.dataclass(frozen=True)
class Totals(Task):
    """The sum of 1 to `count` numbers from 0 to `largest`; a lesson narrows both.

    Inputs: `numbers`, `(batch, count)` float32. Targets: `total`, `(batch,)` int32. The model
    output `total` is logits, `(batch, count * largest + 1)`.
    """

    count: int = 3
    largest: int = 3

    @property
    def input_spec(self):
        return {"numbers": ((self.count,), "float32")}

    @property
    def target_spec(self):
        return {"total": ((), "int32")}

    @property
    def classes(self):
        return self.count * self.largest + 1

    def metrics(self):
        return {"total": [TargetError()]}

    def syllabus(self, recipe):
        return Square(self, recipe.curriculum) if recipe.curriculum else None

    def batch(self, rng, size, difficulty=None, split="train"):
        count, largest = difficulty or (self.count, self.largest)
        numbers = rng.integers(0, largest + 1, (size, self.count))
        numbers[:, count:] = 0
        return {"numbers": numbers.astype("float32")}, {"total": numbers.sum(1).astype("int32")}

    def describe(self, inputs, targets, outputs):
        return [
            f"{' + '.join(f'{n:.0f}' for n in numbers)} = {logits.argmax()}"
            for numbers, logits in zip(inputs["numbers"], outputs["total"])
        ]


class Square(Syllabus):
    """Raises count and largest number in turn after errors below `error`."""

    def __init__(self, task, error):
        super().__init__(count=1, largest=1)
        self.task, self.error = task, error

    def next(self, update):
        return self.state["count"], self.state["largest"]

    def report(self, before, after, cost):
        state, task = self.state, self.task
        if after < self.error:
            wider = state["count"] <= state["largest"] and state["count"] < task.count
            wider = wider or state["largest"] == task.largest
            grown = "count" if wider else "largest"
            state[grown] = min(state[grown] + 1, getattr(task, grown))

    def told(self):
        return dict(self.state)
