"""Fashion-MNIST: 70,000 pictures of clothes, 28 x 28 pixels in grey (Xiao, Rasul, Vollgraf, 2017).

It has the form of MNIST, and is under the MIT licence; the files are those of Debian's package
dataset-fashion-mnist.
"""

import os
import tempfile

from . import _packages, _store, mnist

PACKAGE = "dataset-fashion-mnist"
MEMBERS = "usr/share/datasets/fashion-mnist"
FILES = {
    "train-images-idx3-ubyte.gz": (
        26_421_856,
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "train-labels-idx1-ubyte.gz": (
        29_491,
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    ),
    "t10k-images-idx3-ubyte.gz": (
        4_422_079,
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        5125,
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
}


def path(cache_dir=None):
    """The directory of the four files, there or not."""
    return os.path.join(_store.cache(cache_dir), "fashion_mnist")


def available(cache_dir=None):
    """Whether all of the four files are there, whole."""
    return _store.all_there(FILES, path(cache_dir))


def fetch(cache_dir=None):
    """Downloads the files (31 MB) where they are not there yet, and returns their directory.

    None is written before all four were found to be the recorded ones. Raises `RuntimeError` where
    apt-get is missing or fails, with its words, and `ValueError` where a file is another.
    """
    if not available(cache_dir):
        contents = {}
        with tempfile.TemporaryDirectory() as folder:
            root, _ = _packages.debian([PACKAGE], folder)
            for name in FILES:
                with open(os.path.join(root, MEMBERS, name), "rb") as file:
                    contents[name] = file.read()
        _store.write_all(contents, FILES, path(cache_dir))
    return path(cache_dir)


def load(folder):
    """As `mnist.load`.

    Raises `FileNotFoundError` where a file is missing, and `ValueError` where one is damaged.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"no Fashion-MNIST in {folder}; `ponderzoo data fetch fashion_mnist` downloads it "
            "(31 MB), or root= names a directory with your own four files"
        )
    return mnist.load(folder)
