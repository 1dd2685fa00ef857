"""Numbers as words and as digits: one from the other, a character at a time."""

import dataclasses
import functools
import hashlib

from .._metrics import BitsPerCharacter, SequenceError, TargetError
from ._character_pairs import MARKS, CharacterPairs
from ._text import DIGITS, LETTERS

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
ONES += " fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


@dataclasses.dataclass(frozen=True)
class NumberWords(CharacterPairs):
    """Write a number that is said in English words in digits, or the other way round.

    Numbers are those below `below`, one as probable as any other. A twentieth of them is the
    validation split, another the test split, by a hash: they are never trained on. `to_words` has
    digits read and words said.

    A row is right where all of its characters are, each the most probable after the right ones
    before it: then, and only then, greedy decoding says the right text.

    Inputs and targets are those of `CharacterPairs`.

    Raises:
        ValueError: settings that make no task.
    """

    below: int = 100_000
    to_words: bool = False

    def __post_init__(self):
        if not 100 <= self.below <= 1_000_000:
            raise ValueError(f"below must be from 100 to 1000000, got {self.below}")

    def pairs(self, split="train"):
        """All of a split: a list of pairs of texts."""
        return _pairs(self.below, self.to_words)[split]

    @property
    def alphabet(self):
        """All characters, a list."""
        return [*MARKS, " ", "-", *LETTERS, *DIGITS]

    @property
    def longest(self):
        """The most characters of a source, and of a target."""
        return _longest(self.below, self.to_words)

    @property
    def example(self):
        """Two sources."""
        return self._examples[0]

    @property
    def answers(self):
        """What should be said of them."""
        return self._examples[1]

    @property
    def _examples(self):
        chosen = 35_305 % self.below, 72
        sides = tuple(map(number_words, chosen)), tuple(map(str, chosen))
        return sides[::-1] if self.to_words else sides

    def metrics(self):
        return {"character": [SequenceError(), TargetError(), BitsPerCharacter()]}

    def solve(self, text):
        """What should be said of a text, or None where it is no number in the right form."""
        return _solutions(self.below, self.to_words).get(text)


def number_words(number):
    """A number below a million in English words.

    >>> number_words(35_305)
    'thirty-five thousand three hundred five'
    """
    ones = ONES.split()
    if number >= 1000:
        rest = f" {number_words(number % 1000)}" if number % 1000 else ""
        return f"{number_words(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" {number_words(number % 100)}" if number % 100 else ""
        return f"{ones[number // 100]} hundred{rest}"
    if number >= 20:
        return TENS.split()[number // 10 - 2] + (f"-{ones[number % 10]}" if number % 10 else "")
    return ones[number]


@functools.cache
def _pairs(below, to_words):
    found = {"train": [], "validation": [], "test": []}
    for number in range(below):
        digits = str(number)
        pair = number_words(number), digits
        part = int(hashlib.sha256(digits.encode()).hexdigest(), 16) % 20
        split = {0: "validation", 1: "test"}.get(part, "train")
        found[split].append(pair[::-1] if to_words else pair)
    return found


@functools.cache
def _longest(below, to_words):
    pairs = [pair for some in _pairs(below, to_words).values() for pair in some]
    return tuple(max(map(len, side)) for side in zip(*pairs))


@functools.cache
def _solutions(below, to_words):
    return dict(pair for some in _pairs(below, to_words).values() for pair in some)
