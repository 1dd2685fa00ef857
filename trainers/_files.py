"""Files that are written whole or not at all, read or refused; directories that are held alone."""

import contextlib
import fcntl
import hashlib
import io
import json
import os

import numpy as np

CHECKSUM = "checksum"


def write_file(path, content, mode=0o666):
    """Writes bytes or text whole or not at all: beside `path`, to the disk, and renamed.

    `mode` says who may read the file, from its first byte on, less what the umask takes away.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = f"{path}.part"
    with naming(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(beside)
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(beside)
            raise


@contextlib.contextmanager
def naming(path):
    """Gives an `OSError` that names no file, as that of a full disk, the name of this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def write_json(path, value):
    """`write_file` for a value of plain types."""
    write_file(path, json.dumps(value, indent=2) + "\n")


def write_checked_json(path, value):
    """`write_json` for a dict, with a checksum that `read_json` looks at and takes away."""
    write_json(path, {**value, CHECKSUM: _checksum(value)})


def write_arrays(path, arrays):
    """`write_file` for named arrays, as an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_file(path, buffer.getvalue())


@contextlib.contextmanager
def locked(path, busy=None):
    """Holds the lock of a file, which the kernel frees however the holder ends.

    Waits while another holds it, or raises `ValueError(busy)` where that is given.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise ValueError(busy) from None
        if busy and not os.fstat(file.fileno()).st_nlink:  # removed by who held it
            raise ValueError(busy)
        yield


@contextlib.contextmanager
def alone(run_dir):
    """Holds a run directory's lock. Raises `ValueError` where another process does.

    Directories that were made for it go again where nothing else came into them.
    """
    path = os.path.join(run_dir, "backup", "lock")
    made, parent = [], os.path.dirname(path)
    while parent and not os.path.exists(parent):
        made.append(parent)
        parent = os.path.dirname(parent)
    with locked(path, busy=f"another process is training in {run_dir}"):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if made and os.listdir(made[0]) == [os.path.basename(path)]:
                    os.remove(path)
                    for directory in made:
                        os.rmdir(directory)


def read_json(path, remedy="restore it from a copy"):
    """A value of plain types, of `write_json` or `write_checked_json`.

    Raises:
        OSError: there is no such file, or it cannot be opened.
        ValueError: it is damaged, which `remedy` tells what to do about; in one line.
    """
    with open(path, "rb") as file, reading(path, remedy):
        value = json.loads(file.read().decode())
        if isinstance(value, dict):
            written = value.pop(CHECKSUM, None)
            if written is not None and written != _checksum(value):
                raise ValueError("its numbers do not fit its checksum")
        return value


def read_arrays(path, remedy="restore it from a copy"):
    """The arrays of an npz file by their names; raises as `read_json` does."""
    with open(path, "rb") as file, reading(path, remedy), np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


@contextlib.contextmanager
def reading(path, remedy):
    """Raises `ValueError` in one line, with a remedy, for whatever a damaged file leads to."""
    try:
        if os.path.getsize(path) == 0:
            raise ValueError("it is empty")
        yield
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"{path} is damaged or cut off ({what}); {remedy}") from error


def _checksum(value):
    text = json.dumps(json.loads(json.dumps(value)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
