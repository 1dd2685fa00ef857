"""Files that are written whole or not at all, and directories that are held alone."""

import contextlib
import fcntl
import json
import os


def write_file(path, content):
    """Writes bytes or text whole or not at all: beside `path`, to the disk, and renamed."""
    data = content.encode() if isinstance(content, str) else content
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    beside = f"{path}.part"
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path, value):
    """`write_file` for a value of plain types."""
    write_file(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def alone(run_dir):
    """Holds the run directory's lock, which the kernel frees however the holder ends."""
    path = os.path.join(run_dir, "backup", "lock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {run_dir}") from None
        yield


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
