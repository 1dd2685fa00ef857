"""Parity (Graves, 2016, section 3.1)."""

import dataclasses

import numpy as np

from .._describe import after, odd_or_even, probability
from .._difficulty import levels
from .._task import Task


@dataclasses.dataclass(frozen=True)
class Parity(Task):
    """Is the number of +1 entries odd, in one vector of -1, 0 and +1?

    1 to `bits` entries are set, each to -1 or +1 by chance; difficulty is how many. The -1 entries
    are there to distract. Where the set entries stand is left open by the paper: at random places
    here, or at the first places with `prefix=True`, which is easier. A range of difficulty sets
    entries among the first `high` places alone, so that a curriculum lets the vector grow.

    Inputs: `sequence`, `(batch, 1, bits)` float32. Targets: `parity`, `(batch, 1)` float32, 0 even,
    1 odd. The model output `parity` is the logit of "odd", `(batch, 1)`.
    """

    bits: int = 64
    prefix: bool = False
    axis = "bits set"
    classes = 1

    @property
    def input_spec(self):
        return {"sequence": ((1, self.bits), "float32")}

    @property
    def target_spec(self):
        return {"parity": ((1,), "float32")}

    @property
    def difficulties(self):
        return tuple(range(1, self.bits + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, exact = levels(self, difficulty)
        count = rng.integers(low, high + 1, (size, 1))
        signs = rng.integers(0, 2, (size, self.bits), dtype=np.int8) * 2 - 1
        sequence = np.where(np.arange(self.bits) < count, signs, 0).astype("float32")
        if not self.prefix:
            # A range means a shorter vector, filled up with zeros.
            width = self.bits if exact else high
            sequence[:, :width] = rng.permuted(sequence[:, :width], axis=1)
        parity = (sequence > 0).sum(axis=1, keepdims=True) % 2
        return {"sequence": sequence[:, None]}, {"parity": parity.astype("float32")}

    def describe(self, inputs, targets, outputs):
        """`11 bits set -> odd; answered odd (0.98) after 7 steps`."""
        lines = []
        for row, sequence in enumerate(inputs["sequence"]):
            logit = outputs["parity"][row, 0]
            odd = probability(logit)
            truth = f" -> {odd_or_even(targets['parity'][row, 0])}" if targets else ""
            lines.append(
                f"{np.count_nonzero(sequence)} bits set{truth}; answered {odd_or_even(logit)} "
                f"({max(odd, 1 - odd):.2f}){after(outputs, row)}"
            )
        return lines
