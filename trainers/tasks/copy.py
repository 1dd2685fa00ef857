"""Copy (Graves, Wayne and Danihelka, 2014, section 4.1)."""

import dataclasses

import numpy as np

from .._difficulty import levels
from ._memory import NOT_SCORED, MemoryTask, answer, counted, flag, lay, marked, widened, words

COPIED = (10, 20, 30, 50, 120, 500)
LENGTHS = (5, 10, 20, 30, 50, 80, 120, 250, 500)
FARTHEST = 120  # of the paper, after training on 20


@dataclasses.dataclass(frozen=True)
class Copy(MemoryTask):
    """Repeat a sequence of random vectors after it was shown.

    1 to `length` vectors of `bits` bits come first, then a delimiter on a channel of its own, and
    then as many steps without input, at which the vectors are asked for. Difficulty is how many
    vectors there are.

    With `markers` the sequence also begins with a flag on a further channel, and a further output
    is 1 at the step after the last vector. The text of the paper has neither, but only these 10
    inputs and 9 outputs give the parameters that it counts in its LSTM.

    Inputs: `sequence`, `(batch, 2 * length + 1, bits + 1)` float32, or with markers `(batch, 2 *
    length + 3, bits + 2)`, the start before the delimiter; `lengths`, `(batch,)` int32. Targets:
    `bits`, `(batch, time, bits)` float32, or `bits + 1` with markers; -1 where nothing is asked
    for. The model output `bits` is logits of that shape.
    """

    length: int = 20
    bits: int = 8
    markers: bool = False
    axis = "vectors to copy"

    @property
    def channels(self):
        return self.bits + 1 + self.markers

    @property
    def outputs(self):
        return self.bits + self.markers

    @property
    def evaluation_batch(self):
        return max(1, min(250, 25_000 // self.length))

    @property
    def difficulties(self):
        # 20 of them, and the shortest.
        step = -(-self.length // 20)
        return tuple(sorted({1, *range(self.length, 0, -step)}))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        return self.draw(rng, rng.integers(low, high + 1, size), self.length)

    def inputs_without_data(self, rng, size):
        # What tells of a model what any row does; of weightings long rows have much.
        most = min(self.length, 20)
        return self.draw(rng, rng.integers(1, most + 1, size), most)[0]

    def draw(self, rng, length, longest=None):
        """Rows with the numbers of vectors `length`, `(batch,)`, padded as for `longest` of them.

        The numbers may be larger than the task's own.
        """
        shape = len(length), longest or max(length), self.bits
        return self.lay(rng.integers(0, 2, shape, np.int8), length)

    def lay(self, vectors, length):
        """Rows in which the first `length`, `(batch,)`, of `vectors` are copied.

        `vectors` is `(batch, longest, bits)`, of 0 and 1.
        """
        start = int(self.markers)
        steps = 2 * vectors.shape[1] + 1 + 2 * start
        vectors = widened(vectors, self.channels)
        sequence = lay(vectors, np.full(len(length), start), length, steps)
        flag(sequence, -1, start + length)
        first = start + length + 1
        target = lay(vectors[..., : self.outputs], first, length, steps, NOT_SCORED)
        if self.markers:
            flag(sequence, -2, 0)
            flag(target, slice(None), first + length, 0.0)
            flag(target, -1, first + length)
        lengths = (first + length + start).astype("int32")
        return {"sequence": sequence, "lengths": lengths}, {"bits": target}

    def describe(self, inputs, targets, outputs):
        """`3 vectors 35 e2 0f; answered 35 e2 1f (1 of 24 wrong), 4.20 bits`."""
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            count = (length - 1) // 2 - self.markers
            shown = inputs["sequence"][row, self.markers :][:count, : self.bits]
            first = count + 1 + self.markers
            guess = outputs["bits"][row, first : first + count, : self.bits]
            lines.append(
                f"{counted(count, 'vector')} {' '.join(words(shown))}; "
                f"answered {' '.join(words(guess))}{marked(targets, outputs, row)}"
            )
        return lines

    @property
    def typical(self):
        return {"length": self.length}

    @property
    def beyond(self):
        return {"vectors": (self.length, {n: {"length": n} for n in self._few(LENGTHS)})}

    def pictures(self, model, rows):
        """`copies`, targets above outputs, as in figures 4 and 5."""
        from ..figures.memory import answers

        copies = {f"{n} vectors": answer(model, self, length=n) for n in self._few(COPIED)}
        return {"copies": answers(copies)}

    def _few(self, lengths):
        return [n for n in lengths if n <= max(FARTHEST, 2 * self.length)]
