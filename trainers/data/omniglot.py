"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al., 2015).

The images cannot be downloaded here: `root=` names a directory with your own `images_background`
and `images_evaluation`, as zip files or unpacked, `<alphabet>/<character>/<number>_<drawer>.png`,
105 x 105 pixels. They are made smaller, to 28 x 28 pixels in black and white.

As in the literature the 30 alphabets of `images_background` are for training and the 20 others for
the test; every sixth of the former is kept for validation.
"""

import glob
import io
import os
import re
import zipfile

import numpy as np
from PIL import Image

from . import _store

PARTS = "images_background", "images_evaluation"
DRAWING = re.compile(r"(?:.*/)?([^/]+/character\d+)/\d+_(\d+)\.png")
LARGEST = 2**16
"""Bytes that the file of an image may have."""

MOST = 100_000
"""Images that a part may have."""

SIZE, SIDE = 105, 28
INK = 85  # of 255, the share of a pixel that makes it black
VALIDATION = 6
REMEDY = (
    "Omniglot cannot be downloaded by this release; root= names a directory with your own "
    "images_background and images_evaluation, as zip files or unpacked"
)


def path(cache_dir=None):
    """The directory in which the images are looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "omniglot")


def available(cache_dir=None):
    """Whether both parts are there."""
    return all(_find(path(cache_dir), part) for part in PARTS)


def fetch(cache_dir=None):
    """The directory of the images. Raises `RuntimeError` where none are: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def _find(folder, part):
    places = os.path.join(folder, part), os.path.join(folder, f"{part}.zip")
    return next(filter(os.path.exists, places), None)


def load(folder):
    """The images of a directory that holds both parts; it takes some seconds.

    Returns:
        Dict: split -> (images, `(count, 28, 28)` uint8, 0 or 1, which is ink; symbols, `(count,)`
        int32, the numbers of the characters, alphabet by alphabet; drawers, `(count,)` uint8,
        counted from 1 in each alphabet).

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a file is damaged, or something else.
    """
    drawings = []
    for part in PARTS:
        place = _find(folder, part)
        if not place:
            raise FileNotFoundError(f"no {part} or {part}.zip in {folder}; {REMEDY}")
        read = _read_folder if os.path.isdir(place) else _read_zip
        found = sorted(read(place))
        if not found:
            raise ValueError(
                f"{place} must hold images <alphabet>/<character>/<number>_<drawer>.png, and holds "
                f"none; {REMEDY}"
            )
        names = sorted({_alphabet(name) for name, _, _ in found})
        kept = set(names[VALIDATION - 1 :: VALIDATION]) if part == PARTS[0] else set()
        other = "train" if part == PARTS[0] else "test"
        for name, drawer, image in found:
            split = "validation" if _alphabet(name) in kept else other
            drawings.append((split, f"{part}/{name}", drawer, image))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(x[1] for x in drawings))}
    return {split: _arrays(drawings, split, numbers) for split in ("train", "validation", "test")}


def _alphabet(name):
    return name.rsplit("/", 1)[0]


def _arrays(drawings, split, numbers):
    some = [drawing[1:] for drawing in drawings if drawing[0] == split]
    images = [np.frombuffer(image, "uint8").reshape(SIDE, SIDE) for _, _, image in some]
    return (
        np.stack(images) if images else np.empty((0, SIDE, SIDE), "uint8"),
        np.array([numbers[name] for name, _, _ in some], "int32"),
        np.array([drawer for _, drawer, _ in some], "uint8"),
    )


def _read_folder(folder):
    """Triples of character, drawer and pixels."""
    for file in glob.iglob(os.path.join(glob.escape(folder), "*", "character*", "*.png")):
        if named := DRAWING.fullmatch(os.path.relpath(file, folder).replace(os.sep, "/")):
            with open(file, "rb") as stream:
                yield named[1], int(named[2]), _image(stream, file)


def _read_zip(file):
    try:
        with zipfile.ZipFile(file) as archive:
            named = {name: DRAWING.fullmatch(name) for name in archive.namelist()}
            if len(named) > MOST:
                raise ValueError(f"it holds {len(named)} files; at most {MOST} are expected")
            for name, parts in named.items():
                if parts:
                    with archive.open(name) as stream:
                        yield parts[1], int(parts[2]), _image(stream, f"{name} in {file}")
    except (*_store.DAMAGES, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be unpacked: {error}; {REMEDY}") from error


def _image(stream, name):
    """The small image of a PNG file, as bytes."""
    content = stream.read(LARGEST + 1)
    try:
        if len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size != (SIZE, SIZE):
                raise ValueError("it has {} x {} pixels".format(*image.size))
            ink = Image.fromarray(255 - np.asarray(image.convert("L")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} must be a PNG image of {SIZE} x {SIZE} pixels: {error}; unpack it anew"
        ) from error
    small = np.asarray(ink.resize((SIDE, SIDE), Image.Resampling.BOX))
    return (small > INK).astype("uint8").tobytes()


def sample(folder):
    """Writes images of the same form, of squares and lines by chance, for tests."""
    rng = np.random.default_rng(0)
    for part, alphabets in zip(PARTS, (6, 2)):
        for alphabet in range(alphabets):
            for character in (1, 2):
                left, top = rng.integers(10, 60, 2)
                for drawer in (1, 2, 3):
                    image = Image.new("1", (SIZE, SIZE), 1)
                    x, y = (int(place + rng.integers(-3, 4)) for place in (left, top))
                    image.paste(0, (x, y, x + 30 * character, y + 30 // character))
                    stream = io.BytesIO()
                    image.save(stream, "PNG")
                    name = f"{part[7:]}_{alphabet}/character{character:02d}/0001_{drawer:02d}.png"
                    _store.write(stream.getvalue(), os.path.join(folder, part, name))
