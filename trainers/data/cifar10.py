"""CIFAR-10: 60,000 photographs of ten kinds of things, 32 x 32 pixels (Krizhevsky, 2009).

They cannot be downloaded here: `root=` names a directory with your own, in either of the forms in
which they are given: `cifar-10-batches-bin`, or `cifar-10-batches-py`, whose files are pickles. No
code of a pickle runs here: whatever it names is replaced by containers of plain values.

The last tenth of the images of training is for validation.
"""

import io
import os
import pickle

import numpy as np

from . import _store

TRAIN, TEST = tuple(f"data_batch_{number}" for number in range(1, 6)), ("test_batch",)
FOLDERS = {"cifar-10-batches-bin": ".bin", "cifar-10-batches-py": ""}
PIXELS = 3 * 32 * 32
LARGEST = 2**26
"""Bytes that a file may have, twice as many as the real ones."""

VALIDATION = 10  # the last tenth
REMEDY = (
    "CIFAR-10 cannot be downloaded by this release; root= names a directory with your own "
    "cifar-10-batches-bin or cifar-10-batches-py"
)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def path(cache_dir=None):
    """The directory in which the files are looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "cifar10")


def available(cache_dir=None):
    """Whether the files of one of the forms are there."""
    return bool(_find(path(cache_dir)))


def fetch(cache_dir=None):
    """The directory of the files. Raises `RuntimeError` where none are: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def _find(folder):
    """The files of one form by their names, those in a folder of the form's name, or none."""
    for name, end in FOLDERS.items():
        for place in (folder, os.path.join(folder, name)):
            files = {batch: os.path.join(place, batch + end) for batch in TRAIN + TEST}
            if all(map(os.path.isfile, files.values())):
                return files
    return {}


def load(folder):
    """The images of a directory, or of the folder of a form in it.

    Returns:
        Dict: split -> (images, `(count, 32, 32, 3)` uint8; which of `CLASSES` each shows,
        `(count,)` uint8).

    Raises:
        FileNotFoundError: not all six files of a form are there.
        ValueError: a file is damaged, or something else.
    """
    files = _find(folder)
    if not files:
        there = sorted(os.listdir(folder))[:8] if os.path.isdir(folder) else "no directory"
        raise FileNotFoundError(
            f"not all of {', '.join(TRAIN + TEST)} are in {folder}, where there is {there}; "
            f"{REMEDY}"
        )
    train, test = (
        tuple(map(np.concatenate, zip(*(read(files[batch]) for batch in batches))))
        for batches in (TRAIN, TEST)
    )
    return {**_store.without_last(train, VALIDATION), "test": test}


def read(file):
    """Images `(count, 32, 32, 3)` uint8 and classes `(count,)` uint8 of a file of either form.

    Raises `ValueError` where it is something else, cut off, or larger than `LARGEST`.
    """
    if os.path.getsize(file) > LARGEST:
        raise ValueError(f"{file} has more than {LARGEST} bytes, which is the most; {REMEDY}")
    with open(file, "rb") as stream:
        content = stream.read()
    pixels, classes = (_of_records if file.endswith(".bin") else _of_pickle)(content, file)
    if classes.max(initial=0) >= len(CLASSES):
        raise ValueError(f"{file} must have classes from 0 to 9, got {classes.max()}; {REMEDY}")
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), classes


def _of_records(content, file):
    content = np.frombuffer(content, "uint8")
    if not len(content) or len(content) % (1 + PIXELS):
        raise ValueError(
            f"{file} must hold records of {1 + PIXELS} bytes, and holds {len(content)} bytes; it "
            f"is cut off, or no batch of CIFAR-10; {REMEDY}"
        )
    records = content.reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0].copy()


class _Made:
    """Stands in for what a pickle makes: it keeps what it was made and filled with."""

    def __init__(self, *args):
        self.args, self.state = args, ()

    def __setstate__(self, state):
        self.state = state


# The one in Python: that in C makes as much room as a file says, whatever its length.
class _Plain(pickle._Unpickler):
    def find_class(self, module, name):
        if (module, name) not in NAMED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Made


NAMED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def _of_pickle(packed, file):
    try:
        found = _Plain(io.BytesIO(packed), encoding="bytes").load()
        found = {name if isinstance(name, bytes) else name.encode(): x for name, x in found.items()}
        _, shape, kind, in_columns, content = found[b"data"].state
        if kind.args[0] not in ("u1", b"u1") or in_columns or shape[1:] != (PIXELS,):
            raise ValueError(f"it has an array {shape} of {kind.args[0]!r}")
        pixels = np.frombuffer(content, "uint8").reshape(shape)
        classes = np.array(found[b"labels"], "uint8")
        if classes.shape != shape[:1]:
            raise ValueError(f"it has {shape[0]} images and classes {classes.shape}")
    except Exception as error:  # a pickle can fail in any way
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{file} must be a pickle of images {PIXELS} bytes long and their classes ({what}); it "
            f"is cut off, or no batch of CIFAR-10; {REMEDY}"
        ) from error
    return pixels, classes


def sample(folder):
    """Writes six files in the binary form, with a few images of chance, for tests."""
    rng = np.random.default_rng(0)
    for batch in TRAIN + TEST:
        records = rng.integers(0, 256, (12, 1 + PIXELS), "uint8")
        records[:, 0] = np.arange(12) % len(CLASSES)
        _store.write(
            records.tobytes(), os.path.join(folder, "cifar-10-batches-bin", f"{batch}.bin")
        )
