"""Associative recall (Graves, Wayne and Danihelka, 2014, section 4.3)."""

import dataclasses

import numpy as np

from .._difficulty import levels
from ._memory import NOT_SCORED, MemoryTask, answer, counted, flag, lay, marked, words

ITEMS = (2, 4, 6, 8, 10, 12, 15, 20)


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(MemoryTask):
    """Say the item that followed the one that is shown again.

    2 to `items` items come first, each of `vectors` random vectors of `bits` bits with a delimiter
    before it. Then one of them, but not the last, comes again between two query delimiters, which
    have another channel, and the item that followed it is asked for. Whether a delimiter ends the
    query is left open by the paper. Difficulty is how many items there are.

    Inputs: `sequence`, `(batch, (items + 2) * (vectors + 1), bits + 2)` float32, the delimiter of
    items and then that of the query in the last two channels; `lengths`, `(batch,)` int32. Targets:
    `bits`, `(batch, time, bits)` float32, -1 where nothing is asked for. The model output `bits` is
    logits of that shape.

    Raises:
        ValueError: less than 2 items, of which none follows another.
    """

    items: int = 6
    vectors: int = 3
    bits: int = 6
    axis = "items"

    def __post_init__(self):
        if self.items < 2:
            raise ValueError(f"associative_recall needs 2 items or more, got {self.items}")

    @property
    def channels(self):
        return self.bits + 2

    @property
    def outputs(self):
        return self.bits

    @property
    def difficulties(self):
        return tuple(range(2, self.items + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        return self.draw(rng, rng.integers(low, high + 1, size), self.items)

    def draw(self, rng, items, most=None):
        """Rows with the numbers of items `items`, `(batch,)`, padded as for `most` of them.

        The numbers may be larger than the task's own.
        """
        shape = len(items), most or max(items), self.vectors, self.bits
        shown = rng.integers(0, 2, shape, np.int8)
        return self.lay(shown, items, rng.integers(0, items - 1))

    def lay(self, vectors, items, asked):
        """Rows that show the first `items` items and ask for one of them.

        Args:
            vectors: `(batch, most, vectors, bits)`, of 0 and 1, the vectors of each item.
            items: `(batch,)`, how many items there are.
            asked: `(batch,)`, the number of the item that comes again, from 0 on.
        """
        size, most, length, _ = vectors.shape
        each = length + 1
        steps = (most + 2) * each
        shown = np.zeros((size, most, each, self.channels), "float32")
        shown[:, :, 1:, : self.bits] = vectors
        shown[:, :, 0, -2] = 1
        rows = np.arange(size)

        sequence = lay(shown.reshape(size, most * each, -1), 0 * items, items * each, steps)
        query = items * each
        sequence += lay(shown[rows, asked, 1:], query + 1, np.full(size, length), steps)
        flag(sequence, -1, query)
        flag(sequence, -1, query + each)
        following = shown[rows, asked + 1, 1:, : self.bits]
        first = query + each + 1
        target = lay(following, first, np.full(size, length), steps, NOT_SCORED)
        lengths = (first + length).astype("int32")
        return {"sequence": sequence, "lengths": lengths}, {"bits": target}

    def describe(self, inputs, targets, outputs):
        """`3 items 2a.01 17.3f 00.09, asked 17.3f -> 00.09; answered 00.09 (ok), 0.02 bits`."""
        each, lines = self.vectors + 1, []
        for row, steps in enumerate(inputs["lengths"]):
            shown = inputs["sequence"][row, : steps - self.vectors, : self.bits]
            *items, query = _items(shown[:-1], each)
            first = steps - self.vectors
            guess = ".".join(words(outputs["bits"][row, first:steps]))
            truth = ""
            if targets:
                truth = f" -> {'.'.join(words(targets['bits'][row, first:steps]))}"
            lines.append(
                f"{counted(len(items), 'item')} {' '.join(items)}, asked {query}{truth}; "
                f"answered {guess}{marked(targets, outputs, row)}"
            )
        return lines

    @property
    def typical(self):
        return {"items": self.items}

    @property
    def beyond(self):
        return {"items": (self.items, {n: {"items": n} for n in ITEMS})}

    def pictures(self, model, rows):
        """`recalled`, targets above outputs."""
        from ..figures.memory import answers

        examples = {f"{n} items": answer(model, self, items=n) for n in ITEMS}
        return {"recalled": answers(examples)}


def _items(vectors, each):
    """What stands between the delimiters, in hexadecimal."""
    chunks = vectors.reshape(-1, each, vectors.shape[-1])
    return [".".join(words(chunk[1:])) for chunk in chunks]
