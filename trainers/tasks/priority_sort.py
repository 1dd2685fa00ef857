"""Priority sort (Graves, Wayne and Danihelka, 2014, section 4.5)."""

import dataclasses

import numpy as np

from .._difficulty import levels
from ._memory import NOT_SCORED, MemoryTask, counted, example, flag, lay, marked, widened, words


@dataclasses.dataclass(frozen=True)
class PrioritySort(MemoryTask):
    """Sort random vectors by the priority that each came with, the highest first.

    `vectors` vectors of `bits` bits come first, each with a priority between -1 and 1 on a channel
    of its own, then a delimiter on another one, and then the `answers` vectors of the highest
    priorities are asked for. The width of a vector is not in the paper. Difficulty is how many
    vectors there are; all are asked for where they are no more than `answers`.

    Inputs: `sequence`, `(batch, vectors + 1 + answers, bits + 2)` float32, the priority and then
    the delimiter in the last two channels; `lengths`, `(batch,)` int32. Targets: `bits`, `(batch,
    time, bits)` float32, -1 where nothing is asked for. The model output `bits` is logits of that
    shape.

    Raises:
        ValueError: more vectors are asked for than there are.
    """

    vectors: int = 20
    answers: int = 16
    bits: int = 8
    axis = "vectors to sort"

    def __post_init__(self):
        if not 1 <= self.answers <= self.vectors:
            raise ValueError(
                f"priority_sort asks for 1 to {self.vectors} of its {self.vectors} vectors, "
                f"got answers={self.answers}"
            )

    @property
    def channels(self):
        return self.bits + 2

    @property
    def outputs(self):
        return self.bits

    @property
    def difficulties(self):
        return tuple(range(1, self.vectors + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        low = self.vectors if difficulty is None else low
        return self.draw(rng, rng.integers(low, high + 1, size), self.vectors)

    def draw(self, rng, vectors, most=None):
        """Rows with the numbers of vectors `vectors`, `(batch,)`, padded as for `most` of them.

        The numbers may be larger than the task's own.
        """
        shape = len(vectors), most or max(vectors)
        bits = rng.integers(0, 2, (*shape, self.bits), np.int8)
        return self.lay(bits, rng.uniform(-1, 1, shape), vectors)

    def lay(self, vectors, priorities, count):
        """Rows in which the first `count`, `(batch,)`, of `vectors` are sorted.

        `vectors` is `(batch, most, bits)`, of 0 and 1; `priorities` is `(batch, most)`.
        """
        size, most, _ = vectors.shape
        steps = most + 1 + min(most, self.answers)
        shown = widened(vectors, self.channels)
        shown[..., -2] = priorities

        sequence = lay(shown, 0 * count, count, steps)
        flag(sequence, -1, count)
        there = np.arange(most) < count[:, None]
        order = np.where(there, -shown[..., -2], np.inf).argsort(axis=1, kind="stable")
        ranked = shown[np.arange(size)[:, None], order, : self.bits]
        asked = np.minimum(count, self.answers)
        target = lay(ranked, count + 1, asked, steps, NOT_SCORED)
        lengths = (count + 1 + asked).astype("int32")
        return {"sequence": sequence, "lengths": lengths}, {"bits": target}

    def describe(self, inputs, targets, outputs):
        """`2 of 3 vectors 35(0.10) e2(-0.52) 0f(0.97) -> 0f 35; answered 0f 35 (ok), 0.02 bits`."""
        lines = []
        for row, steps in enumerate(inputs["lengths"]):
            sequence = inputs["sequence"][row, :steps]
            count = int(sequence[:, -1].argmax())
            shown = words(sequence[:count, : self.bits])
            told = [f"{w}({p:.2f})" for w, p in zip(shown, sequence[:count, -2])]
            truth = ""
            if targets:
                truth = f" -> {' '.join(words(targets['bits'][row, count + 1 : steps]))}"
            guess = words(outputs["bits"][row, count + 1 : steps])
            lines.append(
                f"{len(guess)} of {counted(count, 'vector')} {' '.join(told)}{truth}; "
                f"answered {' '.join(guess)}{marked(targets, outputs, row)}"
            )
        return lines

    @property
    def typical(self):
        return {"vectors": self.vectors}

    @property
    def beyond(self):
        counts = sorted({max(2, round(f * self.vectors)) for f in (0.5, 0.75, 1, 1.25, 1.5)})
        return {"vectors": (None, {n: {"vectors": n} for n in counts})}

    def pictures(self, model, rows):
        """`sorted`, inputs, targets and outputs of one sequence."""
        from ..figures.memory import sorting

        inputs, targets, outputs = example(model, self, vectors=self.vectors)
        shown, first = inputs["sequence"][: self.vectors], self.vectors + 1
        figure = sorting(
            shown[:, : self.bits],
            shown[:, -2],
            targets["bits"][first:],
            outputs["bits"][first:],
        )
        return {"sorted": figure}
