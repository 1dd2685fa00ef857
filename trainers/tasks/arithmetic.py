"""Arithmetic (Danihelka et al., 2016)."""

import dataclasses
import re

import numpy as np

from .._difficulty import levels
from ._text import DIGITS, TextTask, digits_of


@dataclasses.dataclass(frozen=True)
class Arithmetic(TextTask):
    """Add or subtract whole numbers that are written as text: `-1-942=-943.`.

    The paper gives this one example, so these are choices. Each number has 1 to `digits` digits,
    uniformly, and no zeros in front. The first one is negative in half of the rows, the second
    never, and plus and minus are as frequent. A full stop ends the answer. The answer with it is
    scored, digit by digit with the right ones before it. Difficulty is the digits of both numbers.

    Inputs: `sequence`, `(batch, longest)` int32, `lengths`, `(batch,)`, targets and output as in
    `TextTask`, over an alphabet of digits, plus, minus, equals sign and full stop.

    Raises:
        ValueError: numbers of 0 or of more than 17 digits.
    """

    digits: int = 8
    axis = "digits per number"
    alphabet = DIGITS + "+-=."
    stop = "."
    example = ("-1-942=", "7+5=")
    rules = "a sum or difference, such as '-1-942='"

    def __post_init__(self):
        if not 1 <= self.digits <= 17:
            raise ValueError(f"arithmetic takes 1 to 17 digits, got digits={self.digits}")

    @property
    def longest(self):
        return 3 * self.digits + 5

    @property
    def most_answered(self):
        return self.digits + 3

    @property
    def difficulties(self):
        return tuple(range(1, self.digits + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        count = rng.integers(low, high + 1, (2, size))
        first, second = rng.integers(np.where(count > 1, 10 ** (count - 1), 0), 10**count)
        negative = (rng.random(size) < 0.5) & (first > 0)
        minus = rng.random(size) < 0.5
        answer = np.where(negative, -first, first) + np.where(minus, -second, second)

        sign = self.code("-")
        return self.rows(
            (sign, negative[:, None], False),
            (*digits_of(first, self.digits), False),
            (np.where(minus[:, None], sign, self.code("+")), True, False),
            (*digits_of(second, self.digits), False),
            (self.code("="), True, False),
            (sign, (answer < 0)[:, None], True),
            (*digits_of(abs(answer), self.digits + 1), True),
            (self.code("."), True, True),
        )

    def solve(self, text):
        parts = re.fullmatch(r"(-?\d+)([+-]\d+)=", text, re.ASCII)
        return f"{int(parts[1]) + int(parts[2])}." if parts else None
