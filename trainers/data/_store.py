"""Where fetched data stands, and how a file gets there whole or not at all."""

import hashlib
import os


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
