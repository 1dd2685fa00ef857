"""Texts of Kneser-Ney models of many orders (Graves et al., 2017, section 4.1)."""

import dataclasses
import os

import numpy as np

from .._difficulty import levels
from .._metrics import BitsPerCharacter, TargetError
from ..data import sotu_ngrams
from ._text import TextTask


@dataclasses.dataclass(frozen=True)
class NgramTexts(TextTask):
    """Predict the characters of texts that n-gram models made up.

    The texts are SOTU-ngrams, which `ponderzoo data fetch sotu_ngrams` makes, of the models of
    order 0 to `orders`; `root` is the file, or a directory with it, elsewhere. Of 150 characters
    the first `burn_in` are read and not scored. Difficulty is the order: how many characters decide
    on the next one. The last lesson has the most to tell, and is enough to learn all others.

    Inputs: `sequence`, `(batch, 149)` int32, `lengths`, `(batch,)`, targets and output as in
    `TextTask`, over an alphabet of small letters, space, comma and full stop.

    Raises:
        FileNotFoundError: the texts are not there.
        ValueError: there is no such order, or no character is scored.
    """

    orders: int = sotu_ngrams.MOST
    burn_in: int = 50
    root: str = ""
    axis = "characters that decide"
    alphabet = sotu_ngrams.ALPHABET
    longest = sotu_ngrams.LENGTH - 1
    most_answered = 40
    rules = "small letters, spaces, commas and full stops, such as 'the state of the un'"
    example = ("the state of the un", "the congress of the")

    def __post_init__(self):
        if not 1 <= self.orders <= sotu_ngrams.MOST:
            raise ValueError(f"orders must be 1 to {sotu_ngrams.MOST}, got {self.orders}")
        if not 1 <= self.burn_in <= self.longest:
            raise ValueError(f"burn_in must be 1 to {self.longest}, got {self.burn_in}")

    @property
    def corpus(self):
        return "SOTU-ngrams, made by Kneser-Ney models of the State of the Union addresses"

    @property
    def path(self):
        """The file of the texts."""
        inside = os.path.join(self.root, "sotu_ngrams.npz")
        return inside if os.path.isdir(self.root) else self.root or sotu_ngrams.path()

    @property
    def difficulties(self):
        return tuple(range(self.orders + 1))

    def metrics(self):
        return {"next": [BitsPerCharacter(), TargetError()]}

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        texts, _ = sotu_ngrams.load(self.path, split)
        order = rng.integers(low, high + 1, size)
        return self.lay(texts[order, rng.integers(0, texts.shape[1], size)])

    def lay(self, texts):
        """Rows of texts, `(batch, 150)`, places in the alphabet."""
        scored = np.arange(texts.shape[1]) >= self.burn_in
        return self.rows((texts, True, scored))

    def inputs_without_data(self, rng, size):
        """Inputs of chance, which need no text."""
        return self.lay(rng.integers(0, self.classes, (size, sotu_ngrams.LENGTH)))[0]

    def solve(self, text):
        return None

    def report(self, model):
        """`sources`: bits of a character by order, and what it costs who knows the source."""
        from .._evaluate import lesson_errors

        bits = lesson_errors(model, self, self.lessons.values(), 250)
        _, least = sotu_ngrams.load(self.path, "test")
        known = zip(self.lessons, bits, least)
        return {
            "sources": {
                f"order {order}": {"bits_per_character": float(a), "of_the_source": float(b)}
                for order, a, b in known
            }
        }
