"""Memorization (Kalchbrenner, Danihelka and Graves, 2015, section 4.2)."""

import dataclasses

from .._difficulty import levels
from ._symbols import SymbolTask


@dataclasses.dataclass(frozen=True)
class Memorization(SymbolTask):
    """Repeat a sequence of random symbols after it was read.

    A row is a delimiter, exactly `length` symbols, and delimiters while the symbols are written, of
    which the first is due at the delimiter behind the last symbol read. Difficulty is how many
    symbols there are.

    Inputs: `sequence`, `(batch, 2 * length + 2)` int32, 0 to `symbols`, which is the delimiter.
    Targets: `symbols`, of that shape, int32, -1 is not scored. The model output `symbols` is
    logits, `(batch, 2 * length + 2, symbols + 1)`.

    Raises:
        ValueError: no symbols to read, or none to choose from.
    """

    length: int = 20
    symbols: int = 64
    axis = "symbols to memorize"
    answer = "symbols"
    gap = " "

    def __post_init__(self):
        if min(self.length, self.symbols) < 1:
            raise ValueError(
                "memorization takes a length of 1 or more and 1 symbol or more, got "
                f"length={self.length}, symbols={self.symbols}"
            )

    @property
    def classes(self):
        return self.symbols + 1

    def steps_at(self, level):
        return 2 * level + 2

    @property
    def difficulties(self):
        return tuple(range(1, self.length + 1))

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        low = self.length if difficulty is None else low
        count = rng.integers(low, high + 1, size)
        read = rng.integers(0, self.symbols, (size, high), dtype="int32"), count
        return self.lay(high, [read], read)
