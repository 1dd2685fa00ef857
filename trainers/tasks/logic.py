"""Logic (Graves, 2016, section 3.2)."""

import dataclasses

import numpy as np

from .._describe import after, verdict
from .._difficulty import levels
from .._task import Task

GATES = ("NOR", "Xq", "ABJ", "XOR", "NAND", "AND", "XNOR", "if/then", "then/if", "OR")

# A row a gate of the paper's table; the columns are PQ = 00, 01, 10, 11. The last row is "no gate".
TRUTH = np.array(
    [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 1, 1, 0],
        [1, 1, 1, 0],
        [0, 0, 0, 1],
        [1, 0, 0, 1],
        [1, 1, 0, 1],
        [1, 0, 1, 1],
        [0, 1, 1, 1],
        [0, 0, 1, 1],
    ],
    dtype=np.int8,
).ravel()
ONE_HOT = np.eye(len(GATES) + 1, len(GATES), dtype="float32")
NO_GATE = -1  # the last row of both tables


@dataclasses.dataclass(frozen=True)
class Logic(Task):
    """Chains of Boolean gates over two bits, and from one vector of a sequence to the next.

    A vector carries the bits b_0 and b_1 and B gates, 1 to `gates` of them, one-hot in chunks of
    10. The gates give b_(i+1) = T_i(P=b_i, Q=b_(i-1)), and the last bit is the vector's target.
    From the second vector on, b_0 is the target before it and is not shown. Difficulty is B, at
    sequences of 5 vectors.

    Inputs: `sequence`, `(batch, length, 2 + 10 * gates)` float32; `lengths`, `(batch,)` int32, 1 to
    `length`. Targets: `truth`, `(batch, length)` float32, 0, 1, or -1 behind the end.
    The model output `truth` is the logit of "true", `(batch, length)`.
    """

    gates: int = 10
    length: int = 10
    axis = "gates per vector"
    classes = 1

    @property
    def input_spec(self):
        features = 2 + len(GATES) * self.gates
        return {"sequence": ((None, features), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"truth": ((None,), "float32")}

    @property
    def difficulties(self):
        return tuple(range(1, self.gates + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, exact = levels(self, difficulty)
        shape = (size, self.length)
        lengths = rng.integers(1, self.length + 1, size, dtype=np.int32)
        if exact:
            lengths = np.full(size, min(5, self.length), np.int32)
        bits = rng.integers(0, 2, (*shape, 2), dtype=np.int8)
        count = rng.integers(low, high + 1, (*shape, 1))
        gates = rng.integers(0, len(GATES), (*shape, self.gates))
        return self.lay(bits, np.where(np.arange(self.gates) < count, gates, NO_GATE), lengths)

    def lay(self, bits, gates, lengths):
        """Rows of given bits and gates.

        Args:
            bits: `(batch, time, 2)`, b_0 and b_1; b_0 counts in the first vector alone.
            gates: `(batch, time, gates)`, places in `GATES`, `NO_GATE` behind the last.
            lengths: `(batch,)`, how many vectors count.
        """
        shape = size, steps = gates.shape[:2]
        real = np.arange(steps) < lengths[:, None]
        gates = np.where(real[..., None], gates, NO_GATE)

        sequence = np.zeros((*shape, 2 + len(GATES) * self.gates), "float32")
        sequence[:, 0, 0] = bits[:, 0, 0]
        sequence[..., 1] = bits[..., 1] * real
        sequence[..., 2:] = ONE_HOT[gates].reshape(*shape, -1)

        # The result of each vector for either b_0; the loop over time then picks.
        older = np.broadcast_to(np.arange(2), (*shape, 2))
        newer = np.broadcast_to(bits[..., 1:], (*shape, 2))
        for index in range(self.gates):
            newer, older = TRUTH[gates[..., index, None] * 4 + newer * 2 + older], newer
        truth = np.full(shape, -1, "float32")
        rows, last = np.arange(size), bits[:, 0, 0]
        for time in range(steps):
            last = newer[rows, time, last]
            truth[:, time] = last
        truth[~real] = -1
        return {"sequence": sequence, "lengths": lengths}, {"truth": truth}

    def describe(self, inputs, targets, outputs):
        """`10 XOR AND | 1 NOR -> TF; answered TF (ok) after 4, 3 steps`."""
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            vectors = inputs["sequence"][row, :length]
            told = " | ".join(_vector(vector, first=t == 0) for t, vector in enumerate(vectors))
            answer = _letters(outputs["truth"][row, :length] > 0)
            truth, mark = "", ""
            if targets:
                right = _letters(targets["truth"][row, :length] > 0)
                truth = f" -> {right}"
                mark = verdict(sum(a != b for a, b in zip(answer, right)), len(right))
            lines.append(f"{told}{truth}; answered {answer}{mark}{after(outputs, row, length)}")
        return lines


def _vector(vector, first):
    """`10 XOR AND`, bits b_0 b_1 and gates; b_0 is shown in the first vector only."""
    chunks = vector[2:].reshape(-1, len(GATES))
    bits = f"{vector[0]:.0f}{vector[1]:.0f}" if first else f"{vector[1]:.0f}"
    return " ".join([bits, *(GATES[chunk.argmax()] for chunk in chunks if chunk.any())])


def _letters(truth):
    return "".join("FT"[int(value)] for value in truth)
