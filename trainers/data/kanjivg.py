"""KanjiVG-Kana: 9,000 lines of Japanese kana, written with a pen by made hands.

The strokes, in their order and direction, are those of KanjiVG (Apel, 2009 to 2026; CC BY-SA 3.0),
which the Python package kanjivg has: its 177 hiragana and katakana. A line is 4 to 8 of them by
chance and says nothing. 1,000 hands (`_hand.Writer`) write `train`, 50 others each the lines of
`validation` and `test`; no line is in two splits. As in `stroke_fonts`, every offset has Gaussian
noise of a deviation that is known, which gives the cost of the points a floor.
"""

import os
import re
import tempfile

import numpy as np

from . import _packages, _pen, _store
from ._hand import hands_of, polylines, written

PACKAGE = "kanjivg==20260714"
SIZE = 390_348
SHA256 = "536241b6ac8cfd380965d3bae392ae70b5b243a854ac72e3c9b4a6a27a4ad5e4"
HIRAGANA, KATAKANA = ((0x3041, 0x3096), (0x30A1, 0x30FA))
ALPHABET = "".join(
    chr(code) for first, last in (HIRAGANA, KATAKANA) for code in range(first, last + 1)
) + chr(0x30FC)
OFFSETS = ((0.03369745, -0.00180018), (0.15436280, 0.12534827))
"""Mean and standard deviation of the offsets of training, right and up, in em."""

EDITION = 2
"""1 had 66 hands of training."""

SEED = 1
COUNTS = {"train": 8000, "validation": 500, "test": 500}
WRITERS = {"train": 1000, "validation": 50, "test": 50}
SHORTEST, LONGEST = 4, 8
SPEED, TREMOR = 0.09, 0.012
EM, BASELINE = 109.0, 90.0  # of the drawings


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "kanjivg.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Makes the lines where they are not there yet, and returns their path.

    It downloads 23 MB, writes for some seconds, and stores 16 MB. The same version of numpy writes
    the same.

    Raises `RuntimeError` where pip fails, with its words, and `ValueError` where the drawings are
    others.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            drawings = _drawings(_packages.pip(PACKAGE, folder))
        _store.check("".join(drawings.values()).encode(), SIZE, SHA256, PACKAGE)
        glyphs = {character: read_glyph(text) for character, text in drawings.items()}
        _store.write(_pen.pack(lines(glyphs), EDITION), path(cache_dir))
    return path(cache_dir)


def _drawings(folder):
    """The SVG files of the alphabet by their characters."""
    found = {}
    for character in ALPHABET:
        file = os.path.join(folder, "kanji", f"{ord(character):05x}.svg")
        with open(file, encoding="utf-8") as stream:
            found[character] = stream.read()
    return found


def load(path):
    """The list of all lines (`_pen.Line`) in the file `path`; a unit is the width of a character.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged.
    """
    return _pen.load(path, "kanjivg", EDITION)


def read_glyph(text):
    """The strokes of a drawing of KanjiVG, each `(points, 2)` float64, em, and its width, 1.

    Raises `ValueError` where it has none.
    """
    found = re.findall(r'<path[^>]* id="kvg:\w+-s\d+"[^>]* d="([^"]+)"', text)
    strokes = [stroke for drawn in found for stroke in polylines(drawn)]
    if not strokes:
        raise ValueError(f"expected a drawing with strokes; got {text[-60:]!r}")
    return [(stroke * (1, -1) + (0, BASELINE)) / EM for stroke in strokes], 1.0


def lines(glyphs, counts=None, writers=None):
    """All lines, generated.

    Args:
        glyphs: dict: character -> what `read_glyph` returns.
        counts: dict: split -> how many lines, `COUNTS` if None.
        writers: dict: split -> how many writers, `WRITERS` if None.
    """
    seen = set()
    for number, (split, count) in enumerate((counts or COUNTS).items()):
        rng = np.random.default_rng([SEED, number])
        hands = hands_of(
            {"kanjivg": glyphs}, split, (writers or WRITERS)[split], SPEED, TREMOR, rng
        )
        yield from written(hands, _drawn([*glyphs], count, seen, rng), split, rng)


def _drawn(characters, count, seen, rng):
    """Lines of chance that were not seen."""
    for _ in range(count):
        while (text := _line(characters, rng)) in seen:
            pass
        seen.add(text)
        yield text


def _line(characters, rng):
    chosen = rng.integers(len(characters), size=rng.integers(SHORTEST, LONGEST + 1))
    return "".join(characters[number] for number in chosen)


def sample(folder):
    """Writes a file of the same form for tests: each character is a zigzag of its own."""
    glyphs = {}
    for number, character in enumerate(ALPHABET):
        corners = [[0.1 + 0.1 * bit, 0.1 + 0.5 * (number >> bit & 1)] for bit in range(8)]
        glyphs[character] = [np.array([[0.05, 0.4], *corners])], 1.0
    made = lines(glyphs, {"train": 24, "validation": 8, "test": 8}, dict.fromkeys(COUNTS, 2))
    _store.write(_pen.pack(made, EDITION), os.path.join(folder, "kanjivg.npz"))
