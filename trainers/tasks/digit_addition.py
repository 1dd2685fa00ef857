"""Addition digit by digit (Kalchbrenner, Danihelka and Graves, 2015, section 4.1)."""

import dataclasses

import numpy as np

from .._difficulty import levels
from ._symbols import SymbolTask


@dataclasses.dataclass(frozen=True)
class DigitAddition(SymbolTask):
    """Add two numbers that are read digit by digit, and write the sum digit by digit.

    Symbols 0 to 9 are digits, most significant first, and 10 is the delimiter "-". For numbers of
    three digits a row is

        read     - 1 2 3 - 8 9 9 - - - - -
        written                  1 0 2 2 -

    and what comes before and behind is not scored. Both numbers have exactly `digits` digits and do
    not begin with 0, unless 0 is all there is. Difficulty is the digits of either number, of which
    a range draws one for both.

    Inputs: `sequence`, `(batch, 3 * digits + 4)` int32, 0 to 10. Targets: `digits`, of that shape,
    int32, -1 is not scored. The model output `digits` is logits, `(batch, 3 * digits + 4, 11)`.

    Raises:
        ValueError: more than 18 digits, whose sum may not fit 64 bits, or none.
    """

    digits: int = 15
    axis = "digits per number"
    answer = "digits"
    classes = 11

    def __post_init__(self):
        if not 1 <= self.digits <= 18:
            raise ValueError(f"digit_addition takes 1..18 digits, got digits={self.digits}")

    def steps_at(self, level):
        return 3 * level + 4

    @property
    def difficulties(self):
        return tuple(range(1, self.digits + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        low = self.digits if difficulty is None else low
        count = rng.integers(low, high + 1, size)
        smallest = np.where(count > 1, 10 ** (count - 1), 0)
        numbers = rng.integers(smallest, 10**count, (2, size))
        parts = [_digits(number) for number in numbers]
        return self.lay(high, parts, _digits(numbers.sum(axis=0)))

    def told(self, symbols):
        (between,) = np.flatnonzero(symbols == self.delimiter)
        return " + ".join(map(self.spelled, (symbols[:between], symbols[between + 1 :])))


def _digits(numbers):
    """The decimal digits of `(batch,)` numbers from the left, and how many each has."""
    powers = 10 ** np.arange(19)
    count = 1 + (numbers[:, None] >= powers[1:]).sum(axis=1)
    place = (count[:, None] - 1 - np.arange(count.max(initial=1))).clip(0)
    return numbers[:, None] // powers[place] % 10, count
