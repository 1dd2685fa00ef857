"""Data sets: one a public file of this folder, each with `fetch`, `available` and `path`."""

import difflib
import importlib
import pkgutil


def list():
    """Names of all data sets."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def dataset(name):
    """The module of a data set. Raises `ValueError` with all names for an unknown one."""
    if name not in list():
        close = difflib.get_close_matches(str(name), list(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no data set is called {name!r}; {hint}there are {list()}")
    return importlib.import_module(f"{__name__}.{name}")


def fetch(name, cache_dir=None):
    """Fetches a data set into the cache where it is not there yet; returns its path."""
    return dataset(name).fetch(cache_dir)
