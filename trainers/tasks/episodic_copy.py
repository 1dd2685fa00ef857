"""Episodic copy (Danihelka et al., 2016)."""

import dataclasses

import numpy as np

from .._describe import verdict
from .._difficulty import levels
from .._metrics import BitsPerSequence, SequenceError, TargetError
from .._task import Task
from ._text import costs


@dataclasses.dataclass(frozen=True)
class EpisodicCopy(Task):
    """Repeat symbols after a long delay.

    1 to `length` of the `symbols` come first, or with `variable=False` always `length`, then
    `delay` blanks, then a delimiter, and then as many blanks, at which the symbols are asked for.
    The paper does not say whether the answer begins at the delimiter; here it begins behind it.
    Every step is scored, also those at which the answer is the blank. The unit is the cost of a
    sequence, here in bits; to know all but the symbols costs `log2(symbols)` for each of them.
    Difficulty is how many symbols there are.

    Inputs: `sequence`, `(batch, 2 * length + delay + 1)` int32, a symbol from 0 on, the blank
    `symbols` or the delimiter `symbols + 1`; `lengths`, `(batch,)` int32, the steps of the row with
    those of the answer. Targets: `symbol`, `(batch, time)` int32, -1 behind the end. The model
    output `symbol` is logits, `(batch, time, symbols + 2)`.

    Raises:
        ValueError: there is no symbol to copy, none to choose from or a negative delay.
    """

    length: int = 10
    delay: int = 100
    symbols: int = 8
    variable: bool = True
    axis = "symbols to copy"

    least = {"delay": 0}

    def __post_init__(self):
        if self.length < 1 or self.symbols < 1 or self.delay < 0:
            raise ValueError(
                "episodic_copy takes a length and symbols from 1 and a delay from 0 on, got "
                f"length={self.length}, symbols={self.symbols}, delay={self.delay}"
            )

    @property
    def blank(self):
        """What is shown where there is nothing to see."""
        return self.symbols

    @property
    def delimiter(self):
        """What asks for the answer."""
        return self.symbols + 1

    @property
    def classes(self):
        return self.symbols + 2

    @property
    def input_spec(self):
        return {"sequence": ((None,), "int32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"symbol": ((None,), "int32")}

    @property
    def difficulties(self):
        return tuple(range(1 if self.variable else self.length, self.length + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        shown = rng.integers(0, self.symbols, (size, self.length))
        return self.lay(shown, rng.integers(low, high + 1, size))

    def lay(self, shown, count):
        """Rows in which the first `count`, `(batch,)`, of `shown`, `(batch, most)`, are copied."""
        count = count[:, None]
        time = np.arange(2 * shown.shape[1] + self.delay + 1)
        asked = time - count - self.delay - 1
        sequence = np.where(time < count, _at(shown, time), self.blank)
        sequence = np.where(asked == -1, self.delimiter, sequence)
        target = np.where(asked >= 0, _at(shown, asked), self.blank)
        target = np.where(asked < count, target, -1)
        lengths = 2 * count[:, 0] + self.delay + 1
        inputs = {"sequence": sequence.astype("int32"), "lengths": lengths.astype("int32")}
        return inputs, {"symbol": target.astype("int32")}

    def metrics(self):
        return {"symbol": [BitsPerSequence(), TargetError(), SequenceError()]}

    def describe(self, inputs, targets, outputs):
        """`3 1 7 and 100 blanks; answered 3 1 2 (1 of 108 wrong), 2.10 bits`."""
        lines = []
        for row, steps in enumerate(inputs["lengths"]):
            count = (steps - self.delay - 1) // 2
            answer = outputs["symbol"][row, :steps].argmax(axis=-1)
            mark = ""
            if targets:
                target = targets["symbol"][row, :steps]
                bits = costs(target, outputs["symbol"][row, :steps]).sum()
                mark = f"{verdict((answer != target).sum(), steps)}, {bits:.2f} bits"
            lines.append(
                f"{self.spelled(inputs['sequence'][row, :count])} and {self.delay} blanks; "
                f"answered {self.spelled(answer[steps - count :])}{mark}"
            )
        return lines

    def spelled(self, symbols):
        """Symbols as people write them, the blank as `_` and the delimiter as `?`."""
        special = {self.blank: "_", self.delimiter: "?"}
        return " ".join(special.get(int(symbol), str(symbol)) for symbol in symbols)


def _at(shown, index):
    """`shown` at an index that is the same for all rows or not, and may lie outside."""
    index = np.broadcast_to(index, (len(shown), index.shape[-1]))
    return np.take_along_axis(shown, index.clip(0, shown.shape[1] - 1), axis=1)
