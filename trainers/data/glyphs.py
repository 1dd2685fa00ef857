"""Glyphs: 103 characters in black and white, 28 x 28 pixels, by 64 fonts of handwriting.

A font stands for a person who draws. Its outlines (SIL Open Font License; Apache-2.0 those of
homemade-apple, permanent-marker, rochester, rock-salt, satisfy, schoolbell and yellowtail) are in
an npm package of Fontsource each. They are letters that still differ when they are of one size,
digits, marks, and the Cyrillic letters of the fonts that have them. Each is drawn ten times, by a
hand that leans, turns, sways and presses a little differently every time.

`train`, `validation` and `test` have fonts and characters of their own, about 7, 1 and 2 of ten:
who is tested draws what was never seen. Images of a font of one split and a character of another
are in none. This is no Omniglot, and numbers on the two cannot be compared: people who draw differ
more than fonts do, and these alphabets are two.
"""

import functools
import io
import os
import tarfile
import tempfile

import numpy as np
from PIL import Image, ImageFilter, ImageFont

from . import _packages, _store

SCOPE, VERSION = "@fontsource/", "5.3.0"
FONTS = (
    *("alex-brush", "allura", "amatic-sc", "annie-use-your-telescope", "architects-daughter"),
    *("bad-script", "caveat", "caveat-brush", "cedarville-cursive", "chilanka", "comic-neue"),
    *("condiment", "cookie", "corinthia", "courgette", "covered-by-your-grace", "damion"),
    *("dancing-script", "delicious-handrawn", "delius", "ephesis", "gloria-hallelujah"),
    *("gochi-hand", "grand-hotel", "great-vibes", "handlee", "herr-von-muellerhoff"),
    *("homemade-apple", "indie-flower", "italianno", "itim", "kalam", "kaushan-script", "licorice"),
    *("mansalva", "marck-script", "monsieur-la-doulaise", "montecarlo", "mr-de-haviland"),
    *("ms-madi", "neucha", "oooh-baby", "pacifico", "parisienne", "patrick-hand"),
    *("permanent-marker", "pinyon-script", "reenie-beanie", "rochester", "rock-salt", "sacramento"),
    *("satisfy", "schoolbell", "shadows-into-light", "short-stack", "smooch", "sriracha"),
    *("sue-ellen-francisco", "swanky-and-moo-moo", "tangerine", "the-girl-next-door", "vibur"),
    *("whisper", "yellowtail"),
)
OTHER_VERSIONS = {"condiment": "4.5.1", "montecarlo": "5.2.8"}
CAPITALS = "amatic-sc", "permanent-marker", "rock-salt"  # whose small letters are large ones
SCRIPTS = {
    "latin": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt&?!@#$%€£¥¢§©®¿µ½¶{}<±÷«ßÆæŒØþðçÑÅé",
    "cyrillic": "БГДЖЗИЛПФЦЧШЩЪЫЬЭЮЯбф",
}
SYMBOLS = "".join(SCRIPTS.values())
"""The characters, in the order of their numbers."""

SIZE = 1_914_408
SHA256 = "e850810258ef307ee9f4397e68793ffa4b24d3761f9089cce687f0e7588e33ba"
EDITION = 1
SEED = 1
SPLITS = "train", "validation", "test"
TENTHS = tuple(SPLITS[number] for number in (0, 0, 2, 0, 0, 1, 0, 0, 2, 0))
DRAWINGS = 10
SIDE, FINE, EM = 28, 4, 160  # pixels of an image, parts of a pixel's side, the size of a font
LARGEST = 22.0  # pixels of the longer side of a glyph
NIB = 0.6  # pixels
SMALLEST = 0.75  # of the height of a digit: what is smaller is not made larger


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "glyphs.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Draws the glyphs where they are not there yet, and returns their path.

    It downloads 64 packages (15 MB), draws for a minute, and stores 3 MB. The same versions
    of numpy and Pillow draw the same.

    Raises `RuntimeError` where npm is missing or fails, with its words, and `ValueError` where the
    fonts are others.
    """
    if not available(cache_dir):
        files = {name: files_of(name) for name in FONTS}
        content = b"".join(part for parts in files.values() for part in parts.values())
        _store.check(content, SIZE, SHA256, "the fonts of glyphs")
        outlines = {name: outlines_of(parts, name) for name, parts in files.items()}
        _store.write(pack(*drawn(outlines)), path(cache_dir))
    return path(cache_dir)


def files_of(name):
    """The font files of a package, by their scripts."""
    version, found = OTHER_VERSIONS.get(name, VERSION), {}
    with tempfile.TemporaryDirectory() as folder:
        package = _packages.npm(f"{SCOPE}{name}@{version}", folder)
        with tarfile.open(package) as archive:
            there = archive.getnames()
            for script in SCRIPTS:
                member = f"package/files/{name}-{script}-400-normal.woff"
                if member in there:
                    found[script] = archive.extractfile(member).read()
    return found


def outlines_of(files, name):
    """The glyphs of a font.

    Args:
        files: dict: script, a key of `SCRIPTS`, -> content of a font file.
        name: of the font, for errors and for `CAPITALS`.

    Returns:
        Dict: character -> (ink, `(height, width)` float32 from 0 to 1, without margins; the side in
        pixels of the square that is to have `LARGEST` of an image's).

    Raises:
        ValueError: a file is no font.
    """
    found = {}
    for script, content in files.items():
        try:
            plain = ImageFont.Layout.BASIC
            font = ImageFont.truetype(io.BytesIO(content), EM, layout_engine=plain)
        except OSError as error:
            raise ValueError(f"the font {name} cannot be read: {error}") from error
        least = SMALLEST * max(_ink(font, "0").shape)
        nothing = _ink(font, "\U0010ffff")
        for symbol in SCRIPTS[script]:
            ink = _ink(font, symbol)
            there = ink.size and not np.array_equal(ink, nothing)
            if there and not (symbol.islower() and name in CAPITALS):
                side = max(*ink.shape, least)
                found[symbol] = inked(ink, side), side
    return found


def _ink(font, symbol):
    mask = font.getmask(symbol, mode="L")
    image = Image.frombytes("L", mask.size, bytes(mask))
    return np.asarray(image.crop(image.getbbox() or (0, 0, 0, 0)), "float32") / 255


def inked(ink, side):
    """The ink of a glyph by a pen with a nib: thin lines of a font would break in small images."""
    around = int(NIB / 2 * side / LARGEST)
    framed = Image.fromarray(np.pad(ink, around))
    return np.asarray(framed.filter(ImageFilter.MaxFilter(2 * around + 1)))


def drawn(outlines, drawings=DRAWINGS):
    """All images, in an order of chance.

    Args:
        outlines: dict: name of the font -> what `outlines_of` returns, in the order of `FONTS`.
        drawings: how often each glyph is drawn.

    Returns:
        Images `(count, 28, 28)` bool, numbers of their symbols and of their fonts `(count,)`.
    """
    rng, images, numbers = np.random.default_rng(SEED), [], []
    for drawer, glyphs in enumerate(outlines.values()):
        for symbol, (ink, side) in glyphs.items():
            number = SYMBOLS.index(symbol)
            if split_of(number) == split_of(drawer):
                images.append(draw(ink, side, drawings, rng))
                numbers += [(number, drawer)] * drawings
    order = rng.permutation(len(numbers))
    symbols, drawers = np.array(numbers, "uint8").T
    return np.concatenate(images)[order], symbols[order], drawers[order]


def split_of(number):
    """The split of a symbol or a font by its number."""
    return TENTHS[number % len(TENTHS)]


def draw(ink, side, count, rng):
    """Drawings of a glyph by a hand that is never the same, `(count, 28, 28)` bool.

    `ink`, `(height, width)`, is as `outlines_of` gives it, and as much of it as `side` says fills
    `LARGEST` pixels of the image. A drawing leans, turns, is narrower or wider, smaller, beside the
    middle, sways by about half a pixel, and the pen is thinner or thicker.
    """
    style = functools.partial(rng.uniform, size=(count, 1, 1))
    turn, slant, aspect, scale = (
        style(*limits) for limits in ((-0.15, 0.15), (-0.2, 0.2), (-0.1, 0.1), (0.85, 1))
    )
    # Where on the glyph each part of a pixel has its ink from.
    place = (np.arange(SIDE * FINE) + 0.5) / FINE - SIDE / 2
    right, below = place[None, None], place[None, :, None]
    right, below = right + _sway(below, style), below + _sway(right, style)
    right, below = (
        (right * np.cos(turn) + below * np.sin(turn)) * np.exp(aspect),
        (below * np.cos(turn) - right * np.sin(turn)) * np.exp(-aspect),
    )
    pixel = side / (LARGEST * scale)
    rows, columns = (
        np.clip(np.floor(line * pixel + extent / 2), -1, extent).astype("int32") + 1
        for line, extent in zip((below, right + slant * below), ink.shape)
    )
    fine = np.pad(ink, 1)[rows, columns]
    grey = fine.reshape(count, SIDE, FINE, SIDE, FINE).mean(axis=(2, 4))
    return grey > style(0.25, 0.5) * grey.max(axis=(1, 2), keepdims=True)


def _sway(line, style):
    """How far a drawing is astray along a line, in pixels: a shift, and a wave as long as it is."""
    wave = np.sin(2 * np.pi * (line / style(20, 40) + style(0, 1)))
    return style(-1, 1) + style(0, 0.8) * wave


def pack(images, symbols, drawers):
    """The bytes of an `.npz` file of what `drawn` returns; the same images give the same bytes."""
    stream = io.BytesIO()
    pixels = np.packbits(images.reshape(len(images), -1), axis=1)
    np.savez(stream, edition=np.array(EDITION), pixels=pixels, symbols=symbols, drawers=drawers)
    return stream.getvalue()


def load(path):
    """The images in the file `path`, or in `glyphs.npz` in a directory.

    Returns:
        Dict: split -> (images, `(count, 28, 28)` uint8, 0 or 1; symbols, `(count,)` uint8, which
        of `SYMBOLS` each shows; drawers, `(count,)` uint8, which of `FONTS` drew it).

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, something else, or of another edition.
    """
    with _store.made(path, "glyphs", EDITION, "glyphs") as file:
        pixels, symbols, drawers = (file[name] for name in ("pixels", "symbols", "drawers"))
        if not {(len(pixels),)} == {symbols.shape, drawers.shape}:
            raise ValueError(f"{len(pixels)} images of {symbols.shape} and {drawers.shape}")
        images = np.unpackbits(pixels, axis=1, count=SIDE * SIDE).reshape(-1, SIDE, SIDE)
        splits = np.array(TENTHS)[symbols % len(TENTHS)]
    return {
        split: tuple(part[splits == split] for part in (images, symbols, drawers))
        for split in SPLITS
    }


def sample(folder):
    """Writes a file of the same form for tests, of zigzags that some made fonts draw."""
    outlines = {}
    for drawer in range(10):
        glyphs = outlines.setdefault(f"zigzag-{drawer}", {})
        for number, symbol in enumerate(SYMBOLS[:20]):
            ink = np.zeros((60, 40), "float32")
            for bit in range(5):
                left = 20 * (number >> bit & 1) + drawer
                ink[12 * bit : 12 * bit + 12, left : left + 8] = 1
            glyphs[symbol] = ink, 60.0
    _store.write(pack(*drawn(outlines, 2)), os.path.join(folder, "glyphs.npz"))
