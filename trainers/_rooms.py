"""How the files of a folder are found, those of other packages beside its own."""

import difflib
import importlib
import importlib.metadata
import pkgutil


def names(package):
    """Names of the public files of a package, and of what the entry points of its name add.

    Another package adds a file to `ponderzoo.trainers.tasks`, say, by an entry point of that group,
    whose name is the file's and whose value is the module.
    """
    return sorted({*_own(package), *_added(package)})


def find(package, name, what):
    """The module of that name; `what` says what it would be, in words.

    Raises `ValueError` with the closest name and all of them where there is none.
    """
    if name in _own(package):
        return importlib.import_module(f"{package}.{name}")
    added = _added(package)
    if name in added:
        return added[name].load()
    there = names(package)
    close = difflib.get_close_matches(str(name), there, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"no {what} is called {name!r}; {hint}there are {there}")


def _own(package):
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return [file.name for file in files if not file.name.startswith("_") and not file.ispkg]


def _added(package):
    return {point.name: point for point in importlib.metadata.entry_points(group=package)}
