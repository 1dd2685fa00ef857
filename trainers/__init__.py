"""Tasks and the training loop."""

import difflib
import importlib
import inspect
import pkgutil

from . import tasks as _tasks
from ._fit import fit
from ._recipe import Recipe, parse_as
from ._task import Task

_path = _tasks.__path__
__all__ = ["Recipe", "Task", "fit", "parse_as", "task", "tasks"]


def tasks():
    """Names of all tasks: one a public file of `tasks/`."""
    return sorted(m.name for m in pkgutil.iter_modules(_path) if not m.name.startswith("_"))


def task(name, **config):
    """Builds the task `name`. Raises `ValueError` for an unknown name or field."""
    if name not in tasks():
        close = difflib.get_close_matches(str(name), tasks(), n=1)
        raise ValueError(
            f"no task is called {name!r}"
            + (f"; did you mean {close[0]!r}?" if close else f"; there are {tasks()}")
        )
    module = importlib.import_module(f"{__name__}.tasks.{name}")
    (kind,) = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Task) and c.__module__ == module.__name__
    ]
    known = list(kind.__dataclass_fields__)
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ValueError(f"task {name} has no setting {unknown[0]!r}; it has {known}")
    return kind(**config)
