"""Parity of many bits (Kalchbrenner, Danihelka and Graves, 2015, section 4.1 of version 1)."""

import dataclasses

import numpy as np

from .._describe import after, odd_or_even, probability
from .._difficulty import levels
from .._task import Task

LEVELS = 30
SHOWN = 40


@dataclasses.dataclass(frozen=True)
class BitParity(Task):
    """Is the number of ones among random bits odd?

    The bits stand in one vector. The paper's rows use all of them; difficulty is how many are used,
    the first ones, while the rest is 0; of a range, half of the rows have the most. Levels go in
    ones at first and then in steps that grow with the number of bits. The paper does not say how a
    bit is written: 0 and 1 here, so that one sum counts the ones, however many bits are used.

    Inputs: `bits`, `(batch, bits)` float32, 0 or 1. Targets: `parity`, `(batch, 1)` float32, 0 for
    even, 1 for odd. The model output `parity` is the logit of "odd", `(batch, 1)`.

    Raises:
        ValueError: no bits.
    """

    bits: int = 250
    axis = "bits used"

    def __post_init__(self):
        if self.bits < 1:
            raise ValueError(f"bit_parity takes 1 bit or more, got bits={self.bits}")

    @property
    def input_spec(self):
        return {"bits": ((self.bits,), "float32")}

    @property
    def target_spec(self):
        return {"parity": ((1,), "float32")}

    @property
    def difficulties(self):
        return tuple(np.unique(np.geomspace(1, self.bits, LEVELS).astype(int)).tolist())

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        low = self.bits if difficulty is None else low
        count = rng.integers(low, high + 1, (size, 1))
        count[: size // 2] = high
        bits = rng.integers(0, 2, (size, self.bits), dtype="int8")
        bits[np.arange(self.bits) >= count] = 0
        parity = bits.sum(axis=1, keepdims=True, dtype="int64") % 2
        return {"bits": bits.astype("float32")}, {"parity": parity.astype("float32")}

    def describe(self, inputs, targets, outputs):
        """`1011 -> odd; answered odd (0.98)`; of many bits the first, and how many there are."""
        lines = []
        for row, bits in enumerate(inputs["bits"]):
            told = "".join(str(int(bit)) for bit in bits[:SHOWN])
            told += f"... ({len(bits)} bits)" if len(bits) > SHOWN else ""
            logit = outputs["parity"][row, 0]
            odd = probability(logit)
            truth = f" -> {odd_or_even(targets['parity'][row, 0])}" if targets else ""
            lines.append(
                f"{told}{truth}; answered {odd_or_even(logit)} ({max(odd, 1 - odd):.2f})"
                f"{after(outputs, row)}"
            )
        return lines
