"""Files that are written whole or not at all, and directories that are held alone."""

import contextlib
import fcntl
import json
import os


def write_file(path, content, mode=0o666):
    """Writes bytes or text whole or not at all: beside `path`, to the disk, and renamed.

    `mode` says who may read the file, from its first byte on, less what the umask takes away.
    """
    data = content.encode() if isinstance(content, str) else content
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    beside = f"{path}.part"
    with contextlib.suppress(FileNotFoundError):
        os.remove(beside)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path, value):
    """`write_file` for a value of plain types."""
    write_file(path, json.dumps(value, indent=2) + "\n")


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
        yield


def alone(run_dir):
    """Holds a run directory's lock. Raises `ValueError` where another process does."""
    path = os.path.join(run_dir, "backup", "lock")
    return locked(path, busy=f"another process is training in {run_dir}")


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
