"""Repeat copy (Graves, Wayne and Danihelka, 2014, section 4.2)."""

import dataclasses
import itertools

import numpy as np

from .._difficulty import levels
from ._buckets import halved
from ._memory import NOT_SCORED, MemoryTask, answer, flag, lay, marked, widened, words


@dataclasses.dataclass(frozen=True)
class RepeatCopy(MemoryTask):
    """Say a sequence of random vectors as often as asked, and then that it is done.

    1 to `length` vectors of `bits` bits are followed by a step with a delimiter and, on another
    channel, how often the sequence is asked for: 1 to `repeats` times, as a number of mean 0 and
    variance 1. At the step after the last repetition a further output is 1, the end marker.
    Difficulty is the most of both: a range draws vectors and repeats from it, each for itself.
    Lessons are all pairs of them, a grid (Graves et al., 2017, section 4.2).

    The paper's text says eight bits. Its count of LSTM parameters is that of 8 inputs and 7
    outputs, so of 6 bits.

    Inputs: `sequence`, `(batch, length * (repeats + 1) + 2, bits + 2)` float32, the delimiter and
    then the number in the last two channels; `lengths`, `(batch,)` int32. Targets: `bits`,
    `(batch, time, bits + 1)` float32, -1 where nothing is asked for. The model output `bits` is
    logits of that shape.
    """

    length: int = 10
    repeats: int = 10
    bits: int = 8
    axis = "vectors and repeats"

    @property
    def channels(self):
        return self.bits + 2

    @property
    def outputs(self):
        return self.bits + 1

    @property
    def difficulties(self):
        return tuple(range(1, max(self.length, self.repeats) + 1))

    @property
    def grid(self):
        return {"vectors": self.length, "repeats": self.repeats}

    @property
    def lessons(self):
        counts = itertools.product(range(1, self.length + 1), range(1, self.repeats + 1))
        return {f"{n} x {k}": {"length": n, "repeats": k} for n, k in counts}

    def batch(self, rng, size, difficulty=None, split="train"):
        if isinstance(difficulty, dict):
            counts = {name: np.full(size, count) for name, count in difficulty.items()}
            steps = difficulty["length"] * (difficulty["repeats"] + 1) + 2
            # A step of training is compiled for every length: rows of a few lengths are enough.
            most = self.length * (self.repeats + 1) + 2
            return self.draw(rng, **counts, steps=halved(most, steps))
        low, high, _ = levels(self, difficulty)
        length, repeats = (
            rng.integers(min(low, most), min(high, most) + 1, size)
            for most in (self.length, self.repeats)
        )
        # A curriculum need not wait for the steps of rows that it does not draw yet.
        longest = min(high, self.length) * (min(high, self.repeats) + 1) + 2
        return self.draw(rng, length, repeats, longest)

    def draw(self, rng, length, repeats, steps=None):
        """Rows with `length` vectors, to be said `repeats` times, each `(batch,)`.

        Both may be larger than the task's own. `steps` is what the rows are padded to.
        """
        shape = len(length), max(length), self.bits
        return self.lay(rng.integers(0, 2, shape, np.int8), length, repeats, steps)

    def lay(self, vectors, length, repeats, steps=None):
        """Rows in which the first `length` of `vectors` are said `repeats` times, each `(batch,)`.

        `vectors` is `(batch, most, bits)`, of 0 and 1. `steps` is what the rows are padded to, by
        default the longest.
        """
        answered = length * repeats
        lengths = length + 1 + answered + 1
        steps = steps or max(lengths)
        vectors = widened(vectors, self.channels)
        sequence = lay(vectors, np.zeros_like(length), length, steps)
        flag(sequence, -2, length)
        flag(sequence, -1, length, self.normalised(repeats))
        target = lay(vectors[..., :-1], length + 1, answered, steps, NOT_SCORED, period=length)
        flag(target, slice(None), lengths - 1, 0.0)
        flag(target, -1, lengths - 1)
        return {"sequence": sequence, "lengths": lengths.astype("int32")}, {"bits": target}

    def normalised(self, repeats):
        """The input for a number of repeats, which has mean 0 and variance 1 over the task's."""
        deviation = np.sqrt((self.repeats**2 - 1) / 12)
        return (repeats - (self.repeats + 1) / 2) / (deviation or 1.0)

    def describe(self, inputs, targets, outputs):
        """`3 x 35 e2; answered 3 x 35 e2, end (ok), 0.02 bits`; other answers in full."""
        lines = []
        for row, steps in enumerate(inputs["lengths"]):
            sequence = inputs["sequence"][row, :steps]
            length = int(sequence[:, -2].argmax())
            shown = " ".join(words(sequence[:length, : self.bits]))
            guess = outputs["bits"][row, length + 1 : steps]
            said = _said(words(guess[:, :-1]), guess[:, -1] > 0, length)
            repeats = (steps - length - 2) // length
            lines.append(f"{repeats} x {shown}; answered {said}{marked(targets, outputs, row)}")
        return lines

    @property
    def typical(self):
        return {"length": -(-self.length // 2), "repeats": -(-self.repeats // 2)}

    @property
    def beyond(self):
        length, repeats = self.length, self.repeats
        longer = {n: {"length": n, "repeats": repeats} for n in _up_to_twice(length)}
        oftener = {n: {"length": length, "repeats": n} for n in _up_to_twice(repeats)}
        return {
            f"vectors, said {repeats} times": (length, longer),
            f"repeats of {length} vectors": (repeats, oftener),
        }

    def pictures(self, model, rows):
        """`repeats`, twice the length and twice the repeats (figure 8)."""
        from ..figures.memory import answers

        length, repeats = self.length, self.repeats
        pairs = ((length, repeats), (2 * length, repeats), (length, 2 * repeats))
        examples = {
            f"{n} vectors, {k} times": answer(model, self, length=n, repeats=k) for n, k in pairs
        }
        return {"repeats": answers(examples)}


def _up_to_twice(most):
    return sorted({max(1, round(share * most)) for share in (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2)})


def _said(vectors, ended, length):
    """An answer in blocks of `length` vectors, one block alone where all are the same."""
    shown = [f"{v}(end)" if e else v for v, e in zip(vectors[:-1], ended)]
    blocks = [" ".join(shown[i : i + length]) for i in range(0, len(shown), length)]
    same = len(set(blocks)) == 1
    told = f"{len(blocks)} x {blocks[0]}" if same else " | ".join(blocks)
    return told + (", end" if ended[-1] else ", no end")
