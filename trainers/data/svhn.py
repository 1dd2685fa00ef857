"""SVHN: house numbers cut into their digits, 32 x 32 pixels in colour (Netzer et al., 2011).

They cannot be downloaded here: `root=` names a directory with your own `train_32x32.mat` and
`test_32x32.mat`, files of MATLAB that scipy reads. The last tenth of the images of training is for
validation.
"""

import io
import os
import zlib

import numpy as np

from . import _store

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
SHAPE = 32, 32, 3
VALIDATION = 10  # the last tenth
HEAD, COMPRESSED = 128, 15  # of a file of MATLAB: bytes before its parts, and a kind of these
REMEDY = (
    "SVHN cannot be downloaded by this release; root= names a directory with your own "
    "train_32x32.mat and test_32x32.mat"
)


def path(cache_dir=None):
    """The directory in which the files are looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "svhn")


def available(cache_dir=None):
    """Whether both files are there."""
    return all(os.path.isfile(os.path.join(path(cache_dir), name)) for name in FILES.values())


def fetch(cache_dir=None):
    """The directory of the files. Raises `RuntimeError` where none are: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def load(folder):
    """The images of a directory that holds both files.

    Returns:
        Dict: split -> (images, `(count, 32, 32, 3)` uint8; digits, `(count,)` uint8, 0 to 9).

    Raises:
        FileNotFoundError: a file is missing.
        RuntimeError: there is no scipy.
        ValueError: a file is damaged, or something else.
    """
    found = {}
    for part, name in FILES.items():
        file = os.path.join(folder, name)
        if not os.path.isfile(file):
            raise FileNotFoundError(f"no {name} in {folder}; {REMEDY}")
        found[part] = read(file)
    return {**found, **_store.without_last(found["train"], VALIDATION)}


def read(file):
    """Images `(count, 32, 32, 3)` uint8 and digits `(count,)` uint8 of one file.

    Raises `RuntimeError` where there is no scipy, and `ValueError` where the file is something
    else, cut off, or larger than `_store.LARGEST` when it is unpacked.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise RuntimeError(f"scipy reads {file}, and is not there: `pip install scipy`") from error
    try:
        found = loadmat(_inflated(file), variable_names=["X", "y"])
        images, digits = np.asarray(found["X"]), np.asarray(found["y"])
        shapes = (*SHAPE, digits.size), (digits.size, 1)
        if (images.shape, digits.shape) != shapes or images.dtype != np.uint8:
            raise ValueError(f"X is {images.shape} of {images.dtype}, and y {digits.shape}")
        if digits.size and not 1 <= digits.min() <= digits.max() <= 10:
            raise ValueError(f"y is {digits.min()} to {digits.max()}")
    except Exception as error:  # scipy fails in many ways
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{file} must hold X, 32 x 32 x 3 x count of uint8, and y, as many digits from 1 to 10 "
            f"({what}); it is cut off, or no file of SVHN; {REMEDY}"
        ) from error
    # 10 is the digit 0.
    return np.ascontiguousarray(np.moveaxis(images, 3, 0)), (digits[:, 0] % 10).astype("uint8")


def _inflated(file):
    """The file of MATLAB without compression, so that it is known before how large it becomes."""
    with open(file, "rb") as stream:
        content = memoryview(stream.read(_store.LARGEST + 1))
    order = {b"IM": "<u4", b"MI": ">u4"}.get(bytes(content[HEAD - 2 : HEAD]))
    if not order:
        raise ValueError("it has no head of a file of MATLAB of version 5")
    parts, place = [content[:HEAD]], HEAD
    while place < len(content):
        kind, size = np.frombuffer(content, order, 2, place).tolist()
        part = content[place : place + 8 + size]
        if len(part) < 8 + size:
            raise ValueError(f"a part of {size} bytes has {len(part) - 8}")
        if kind == COMPRESSED:
            left = max(_store.LARGEST - sum(map(len, parts)), 0)
            unpacker = zlib.decompressobj()
            part = unpacker.decompress(part[8:], left + 1)
            if len(part) > left:
                raise ValueError(f"it holds more than {_store.LARGEST} bytes, which is the most")
            if not unpacker.eof:
                raise ValueError("a compressed part is cut off")
        parts.append(part)
        place += 8 + size
    return io.BytesIO(b"".join(parts))


def sample(folder):
    """Writes two files of the same form, with a few images of chance, for tests."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    for name, count in zip(FILES.values(), (40, 20)):
        images = rng.integers(0, 256, (*SHAPE, count), "uint8")
        stream = io.BytesIO()
        digits = (1 + np.arange(count, dtype="uint8") % 10)[:, None]
        savemat(stream, {"X": images, "y": digits}, do_compression=True)
        _store.write(stream.getvalue(), os.path.join(folder, name))
