"""Variable assignment (Danihelka et al., 2016)."""

import dataclasses
import re

import numpy as np

from .._difficulty import levels
from ._text import LETTERS, TextTask, joined

MOST = 10


@dataclasses.dataclass(frozen=True)
class VariableAssignment(TextTask):
    """Tell the value of a variable that was set among others: `s(ml,a),s(qc,n),q(ml)a`.

    1 to `variables` statements set variables, and a query asks for one of them. The one letter that
    follows is the value, and the only character that is scored. The paper leaves open how rows are
    drawn: here the number of variables is uniform, so is the length of every name, 1 to
    `name_length`, and so are letters and the variable asked for. No name occurs twice; values may
    be equal. Difficulty is how many variables are set.

    Inputs: `sequence`, `(batch, longest)` int32, `lengths`, `(batch,)`, targets and output as in
    `TextTask`, over an alphabet of small letters, comma and parentheses.

    Raises:
        ValueError: more than 10 variables, for which there may be too few names of one letter.
    """

    variables: int = 4
    name_length: int = 4
    axis = "variables"
    alphabet = LETTERS + "(),"
    most_answered = 1
    rules = "statements and a query, such as 's(ml,a),s(qc,n),q(ml)'"

    def __post_init__(self):
        if not 1 <= self.variables <= MOST or self.name_length < 1:
            raise ValueError(
                f"variable_assignment takes 1 to {MOST} variables and names of 1 letter or more, "
                f"got variables={self.variables}, name_length={self.name_length}"
            )

    @property
    def longest(self):
        return self.variables * (self.name_length + 6) + self.name_length + 3

    @property
    def difficulties(self):
        return tuple(range(1, self.variables + 1))

    @property
    def example(self):
        several = "s(ml,a),s(qc,n),q(ml)" if min(self.variables, self.name_length) > 1 else ""
        return (several or "s(m,a),q(m)", "s(b,x),q(b)")

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        count = rng.integers(low, high + 1, size)
        names, sizes = self._names(rng, size)
        values = rng.integers(0, len(LETTERS), (size, self.variables, 1))
        asked = rng.integers(0, count)
        row, letter = np.arange(size), np.arange(self.name_length)
        real = (np.arange(self.variables) < count[:, None])[..., None]
        written = letter < sizes[..., None]
        statements = joined(
            (self.code("s("), real, False),
            (names, written & real, False),
            (self.code(","), real, False),
            (values, real, False),
            (self.code("),"), real, False),
        )
        return self.rows(
            statements,
            (self.code("q("), True, False),
            (names[row, asked], written[row, asked], False),
            (self.code(")"), True, False),
            (values[row, asked], True, True),
        )

    def _names(self, rng, size):
        """Names `(size, variables, name_length)` and their lengths, no two of a row the same."""
        shape = (size, self.variables)
        names, sizes = np.zeros((*shape, self.name_length), int), np.zeros(shape, int)
        left = np.arange(size)
        while len(left):
            sizes[left] = rng.integers(1, self.name_length + 1, (len(left), self.variables))
            drawn = rng.integers(0, len(LETTERS), (len(left), *names.shape[1:]))
            # The letters behind a name's end are all the same, so that equal names are equal rows.
            there = np.arange(self.name_length) < sizes[left, :, None]
            names[left] = np.where(there, drawn, -1)
            same = (names[left][:, :, None] == names[left][:, None]).all(axis=-1)
            left = left[same.sum(axis=(1, 2)) > self.variables]
        return names.clip(0), sizes

    def solve(self, text):
        if not re.fullmatch(r"(s\([a-z]+,[a-z]\),)*q\([a-z]+\)", text):
            return None
        told = dict(re.findall(r"s\(([a-z]+),([a-z])\)", text))
        return told.get(text[text.rindex("(") + 1 : -1])
