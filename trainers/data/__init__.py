"""Data sets: one a public file of this folder, each with `fetch`, `available` and `path`."""

from .. import _rooms


def list():
    """Names of all data sets."""
    return _rooms.names(__name__)


def dataset(name):
    """The module of a data set. Raises `ValueError` with all names for an unknown one."""
    return _rooms.find(__name__, name, "data set")


def fetch(name, cache_dir=None):
    """Fetches a data set into the cache where it is not there yet; returns its path."""
    return dataset(name).fetch(cache_dir)
