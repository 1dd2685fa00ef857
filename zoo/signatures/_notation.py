"""How people write the inputs of a signature and read its answers."""

import dataclasses
from collections.abc import Callable

import numpy as np

WIDTH = 70  # of text


@dataclasses.dataclass(frozen=True)
class Notation:
    """Text in and text out for one signature, a row each; pictures, where no text says it.

    Attributes:
        example: a request as people write it: two texts or more.
        read: `read(texts)` gives the dict of input arrays. Raises `ValueError`, which says what was
            expected and what came.
        show: `show(inputs, outputs)` gives a list of texts, of as many lines as it takes.
        picture: None, or `picture(inputs, outputs)`, which gives a list of `_drawing.Picture`.
        in_pictures: whether answers are pictures in the first place, which are written also where
            nobody says to which directory.
    """

    example: tuple
    read: Callable
    show: Callable
    picture: Callable | None = None
    in_pictures: bool = False

    @property
    def sample(self):
        """The example as arrays."""
        return self.read(self.example)


def expected(what, text):
    """The `ValueError` of `read`."""
    return ValueError(f"expected {what}; got {text!r}")


def whole_numbers(texts, what):
    """Texts as whole numbers, `(batch,)` int32; `what` says which are expected."""
    numbers = []
    for text in texts:
        try:
            numbers.append(np.int32(int(text)))
        except (OverflowError, ValueError) as error:
            raise expected(what, text) from error
    return np.array(numbers, "int32")


def pad(rows, fill, dtype):
    """Lists of unequal length, of values or of arrays of one shape, as `(array, lengths)`."""
    array = np.full((len(rows), max(map(len, rows)), *np.shape(rows[0])[1:]), fill, dtype)
    for row, values in enumerate(rows):
        array[row, : len(values)] = values
    return array, np.array([len(values) for values in rows], "int32")


def table(lines):
    """Lines `(name, cells, note)`, the note optional, their cells under each other.

    Long lines are broken, all of them at the same cell.
    """
    lines = list(lines)
    width = 2 + max(len(cell) for _, cells, *_ in lines for cell in cells)
    most = max(1, WIDTH // width)
    told = []
    for start in range(0, max(len(cells) for _, cells, *_ in lines), most):
        for name, cells, *note in lines:
            if start < max(1, len(cells)):
                note = note if len(cells) <= start + most else []
                part = (f"{cell:>{width}}" for cell in cells[start : start + most])
                told.append("".join([f"{name:10}", *part, *note]).rstrip())
    return "\n".join(told)


def updates(outputs, row, steps):
    """The updates of the first steps of a row, written, where the model counts them."""
    return [f"{n:.0f}" for n in outputs["updates"][row, :steps]] if "updates" in outputs else []


def verdict(right):
    """What stands behind an answer."""
    return "   right" if right else "   wrong"


def over_text(content, lines, title="text"):
    """A text with a digit for each character in the lines under it, broken where it is long.

    Args:
        content: bytes.
        lines: dict: name -> a number for each byte. A character gets the sum of its bytes', rounded
            and written as `+` above 9; where that is no number, nothing.
        title: the name of the text's own line.
    """
    characters = content.decode(errors="surrogateescape")
    ends = np.cumsum([len(c.encode(errors="surrogateescape")) for c in characters])
    cells = {title: [_glyph(c) for c in characters]}
    for name, numbers in lines.items():
        parts = np.split(np.asarray(numbers, float), ends[:-1]) if characters else ()
        cells[name] = [_digit(part.sum()) for part in parts]
    blocks = [
        "\n".join(
            f"{name:10}{''.join(line[start : start + WIDTH])}".rstrip()
            for name, line in cells.items()
        )
        for start in range(0, max(1, len(characters)), WIDTH)
    ]
    return "\n".join(blocks)


def _glyph(character):
    if character < " ":
        return chr(0x2400 + ord(character))
    return character if character.isprintable() else "�"


def _digit(number):
    if np.isnan(number):
        return " "
    return str(round(number)) if round(number) < 10 else "+"
