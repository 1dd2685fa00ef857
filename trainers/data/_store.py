"""Where fetched data stands, and how a file gets there whole or not at all."""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import mmap
import os
import zipfile
import zlib

import numpy as np

LARGEST = 2**32
"""Bytes that a packed file may have when it is unpacked."""

DAMAGES = zlib.error, lzma.LZMAError, zipfile.BadZipFile


def cache(cache_dir=None):
    """`cache_dir`, else the environment's PONDERZOO_DATA, else `~/.cache/ponderzoo`."""
    default = os.path.join(os.path.expanduser("~"), ".cache", "ponderzoo")
    return os.fspath(cache_dir or os.environ.get("PONDERZOO_DATA") or default)


def check(content, size, sha256, name):
    """Raises `ValueError` where the bytes are not the ones that were recorded."""
    found = len(content), hashlib.sha256(content).hexdigest()
    if found != (size, sha256):
        raise ValueError(
            f"{name} is not the file this release was made with: expected {size} bytes with sha256 "
            f"{sha256}, got {found[0]} bytes with {found[1]}"
        )


def all_there(files, folder):
    """Whether all files, name -> (bytes, sha256), are in a folder, by their sizes."""
    there = {os.path.join(folder, name): size for name, (size, _) in files.items()}
    return all(os.path.exists(file) and os.path.getsize(file) == there[file] for file in there)


def write_all(contents, files, folder):
    """Writes files, name -> bytes, into a folder, none before all are as `files` has them.

    Raises `ValueError` where one is another.
    """
    for name, content in contents.items():
        check(content, *files[name], name)
    for name, content in contents.items():
        write(content, os.path.join(folder, name))


def own(folder, is_there, remedy):
    """The folder of a data set without a download. Raises `RuntimeError` where it is not there."""
    if not is_there:
        raise RuntimeError(remedy)
    return folder


def without_last(arrays, share):
    """`train` and `validation`: arrays without their last rows, 1 of so many, and these."""
    last = len(arrays[0]) - len(arrays[0]) // share
    parts = {"train": slice(last), "validation": slice(last, None)}
    return {split: tuple(x[part] for x in arrays) for split, part in parts.items()}


@contextlib.contextmanager
def made(path, name, expected, what):
    """The `.npz` file of a data set that is made, or the one of its name in a directory, opened.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is of another edition
    or damaged, or where `what` it should hold is not found in the `with` block; both with the
    remedy.
    """
    path = os.path.join(path, f"{name}.npz") if os.path.isdir(path) else path
    check_edition(path, expected, name)
    remedy = f"`ponderzoo data fetch {name}` makes it"
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file {path}; {remedy}") from error
    except (*DAMAGES, KeyError, ValueError, TypeError, EOFError, IndexError) as error:
        raise ValueError(f"{path} is no file of {what}, or damaged: {error}; {remedy}") from error


def edition(file):
    """Which making of a data set an `.npz` file says it is: 1 where it says nothing.

    What is made, and not downloaded, changes with the program that makes it. 0 where there is no
    such file, or one that was cut.
    """
    try:
        with np.load(file, allow_pickle=False) as found:
            return int(found["edition"]) if "edition" in found else 1
    except (OSError, *DAMAGES, EOFError, TypeError, ValueError):
        return 0


def check_edition(file, expected, name):
    """Raises `ValueError` where a made file is of another edition than this release reads."""
    if (found := edition(file)) not in (0, expected):
        raise ValueError(
            f"{file} is edition {found} of {name}, and this release reads edition {expected}; "
            f"`ponderzoo data fetch {name}` makes it"
        )


def write(content, file):
    """Writes the bytes beside `file` and then moves them to it in one step."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    beside = f"{file}.{os.getpid()}.part"
    try:
        with open(beside, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    finally:
        if os.path.exists(beside):
            os.remove(beside)


def unpacked(file):
    """The bytes of a file, or of the one that is packed in it: zip, gzip, bzip2 or xz.

    Raises `ValueError` where it is damaged, a zip file of several, or larger than `LARGEST` when it
    is unpacked.
    """
    with open(file, "rb") as stream:
        start = stream.read(8)
        stream.seek(0)
        for mark, unpack in _WAYS.items():
            if start.startswith(mark):
                try:
                    with unpack(stream) as plain:
                        return _read(plain)
                except (*DAMAGES, EOFError, OSError, RuntimeError, ValueError) as error:
                    raise ValueError(f"{file} cannot be unpacked: {error}") from error
        return stream.read()


def _read(plain):
    content = bytearray()
    while part := plain.read(2**20):
        content += part
        if len(content) > LARGEST:
            raise ValueError(f"it holds more than {LARGEST} bytes, which is the most")
    return bytes(content)


@contextlib.contextmanager
def _of_zip(stream):
    with zipfile.ZipFile(stream) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise ValueError(f"a zip file must hold one file, got {len(names)}: {names[:5]}")
        with archive.open(names[0]) as plain:
            yield plain


_WAYS = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"PK\x03\x04": _of_zip,
}


def text(file):
    """The bytes of a file of text, packed or not; what is not packed stays on the disk, mapped.

    Raises `ValueError` where it is something else: text has no byte of 0.
    """
    with open(file, "rb") as stream:
        start = stream.read(8)
        if not start or start.startswith(tuple(_WAYS)):
            content = unpacked(file)
        else:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if b"\0" in content[:100_000]:
        raise ValueError(f"{file} must be text, plain or packed; it begins {content[:16]!r}")
    return content
