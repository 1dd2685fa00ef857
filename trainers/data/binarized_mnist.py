"""Binarized MNIST: the fixed binarisation that densities of images are compared on.

Salakhutdinov and Murray (2008) drew it once; Larochelle's files, `binarized_mnist_train.amat` and
so on, have an image a line, its 784 pixels as 0 and 1 with spaces between. They cannot be
downloaded here: `root=` names a directory with your own. 50,000 images are for training, 10,000 for
validation and 10,000 for the test.
"""

import os

import numpy as np

from . import _store
from .mnist import ENDS

PARTS = {"train": "train", "validation": "valid", "test": "test"}
SIZE = 28
REMEDY = (
    "the binarisation of Larochelle cannot be downloaded by this release; root= names a directory "
    "with your own binarized_mnist_train.amat, binarized_mnist_valid.amat and "
    "binarized_mnist_test.amat, plain or packed by gzip, bzip2, xz or zip"
)


def path(cache_dir=None):
    """The directory in which the files are looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "binarized_mnist")


def available(cache_dir=None):
    """Whether the three files are there."""
    return all(_find(path(cache_dir), part) for part in PARTS.values())


def fetch(cache_dir=None):
    """The directory of the files. Raises `RuntimeError` where none are: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def load(folder):
    """The images of a directory that holds the three files.

    Returns:
        Dict: split -> `(count, 28, 28)` uint8, 0 or 1.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is something else.
    """
    found = {}
    for split, part in PARTS.items():
        file = _find(folder, part)
        if not file:
            raise FileNotFoundError(f"no binarized_mnist_{part}.amat in {folder}; {REMEDY}")
        found[split] = read(file)
    return found


def _find(folder, part):
    names = (os.path.join(folder, f"binarized_mnist_{part}.amat{end}") for end in ENDS)
    return next(filter(os.path.isfile, names), None)


def read(file):
    """The images of one file, plain or packed, `(count, 28, 28)` uint8.

    Raises `ValueError` where it holds something else.
    """
    content = _store.unpacked(file)
    lines = content.split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    # Digits and single spaces are read at once; what else there may be between them is not usual.
    symbols = np.frombuffer(b"".join(line.translate(None, b" \t\r") for line in lines), np.uint8)
    pixels = symbols - ord("0")
    expected = SIZE * SIZE * len(lines)
    if len(pixels) != expected or (pixels > 1).any():
        raise ValueError(
            f"{file} must hold lines of {SIZE * SIZE} pixels, 0 or 1; got {len(lines)} lines with "
            f"{len(pixels)} symbols, and it begins {content[:16]!r}"
        )
    return pixels.reshape(-1, SIZE, SIZE)


def sample(folder):
    """Writes three files of the same form, with a few images of chance, for tests."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("valid", 20), ("test", 20)):
        pixels = rng.integers(0, 2, (count, SIZE * SIZE))
        text = "\n".join(" ".join(map(str, row)) for row in pixels)
        _store.write(f"{text}\n".encode(), os.path.join(folder, f"binarized_mnist_{part}.amat"))
