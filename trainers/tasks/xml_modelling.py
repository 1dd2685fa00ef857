"""XML modelling (Danihelka et al., 2016)."""

import dataclasses
import re

import numpy as np

from .._difficulty import levels
from .._metrics import BitsPerCharacter, SequenceError, TargetError
from ._text import LETTERS, TextTask, joined


@dataclasses.dataclass(frozen=True)
class XmlModelling(TextTask):
    """Close the tags of random XML: `<xkw><svgq></svgq></xkw><oqa>` and so on.

    A text opens tags with random names of `shortest` to `longest_name` letters and closes them, at
    most `depth` of them open at once. The next tag opens or closes with equal chance where both can
    be. The text is cut after `length` characters and the one that follows. Scored are the names of
    closing tags and the `>` behind them, which are all that can be known; the slash cannot. The
    paper does not tell the length, nor how tags are drawn. Difficulty is the depth that is allowed.

    Inputs: `sequence`, `(batch, length)` int32, `lengths`, `(batch,)`, all `length`, targets and
    output as in `TextTask`, over an alphabet of small letters, `<`, `/` and `>`.

    Raises:
        ValueError: sizes that do not give a text; the message says which.
    """

    depth: int = 4
    shortest: int = 2
    longest_name: int = 10
    length: int = 100
    axis = "depth"
    alphabet = LETTERS + "</>"
    stop = ">"
    example = ("<xkw><svgq></", "<ab></ab><mmo></")
    rules = "small letters, '<', '/' and '>', such as '<xkw><svgq></'"

    def __post_init__(self):
        if self.depth < 1 or not 1 <= self.shortest <= self.longest_name or self.length < 1:
            raise ValueError(
                "xml_modelling takes depth and length from 1 on and 1 <= shortest <= longest_name, "
                f"got depth={self.depth}, length={self.length}, shortest={self.shortest}, "
                f"longest_name={self.longest_name}"
            )

    @property
    def longest(self):
        return self.length

    @property
    def most_answered(self):
        return self.longest_name + 1

    @property
    def difficulties(self):
        return tuple(range(1, self.depth + 1))

    def metrics(self):
        return {"next": [BitsPerCharacter(), TargetError(), SequenceError()]}

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        allowed = rng.integers(self.depth if difficulty is None else low, high + 1, size)
        tags = self.length // (self.shortest + 2) + 2
        letters = rng.integers(0, len(LETTERS), (size, tags, self.longest_name))
        sizes = rng.integers(self.shortest, self.longest_name + 1, (size, tags))
        opens, which = nest(rng.random((size, tags)) < 0.5, allowed)

        row, letter = np.arange(size)[:, None], np.arange(self.longest_name)
        names, there = letters[row, which], letter < sizes[row, which, None]
        closes = ~opens[..., None]
        return self.rows(
            joined(
                (self.code("<"), True, False),
                (self.code("/"), closes, False),
                (names, there, closes),
                (self.code(">"), True, closes),
            )
        )

    def solve(self, text):
        if not text.endswith("</"):
            return None
        names = []
        for slash, name in re.findall(r"<(/?)([a-z]+)>", text):
            if not slash:
                names.append(name)
            elif not names or names.pop() != name:
                return None
        return f"{names[-1]}>" if names else None


def nest(coins, allowed):
    """Which tags of a row open, and which tag each has the name of.

    Args:
        coins: `(batch, tags)` boolean, whether a tag opens where it may close as well.
        allowed: `(batch,)`, how many tags may be open at once.

    Returns:
        `opens` and `which`, `(batch, tags)`; `which` is the tag's own place where it opens, and
        where it closes the place of the one that it closes.
    """
    size, tags = coins.shape
    row, height = np.arange(size), np.zeros(size, int)
    pending = np.zeros((size, max(allowed) + 1), int)
    opens, which = np.zeros((size, tags), bool), np.zeros((size, tags), int)
    for i in range(tags):
        opening = (height == 0) | (coins[:, i] & (height < allowed))
        # The place above the highest is written in vain where a tag closes.
        pending[row, height] = i
        which[:, i] = np.where(opening, i, pending[row, height - 1])
        opens[:, i], height = opening, height + np.where(opening, 1, -1)
    return opens, which
