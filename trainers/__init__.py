"""Tasks and the training loop."""

import difflib
import importlib
import inspect
import pkgutil

from ._fit import Recipe, fit, parse_as
from ._task import Task

__all__ = ["Recipe", "Task", "fit", "parse_as", "task", "tasks"]


def tasks():
    """Names of all tasks: one a public file of this room."""
    return sorted(
        m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_") and not m.ispkg
    )


def task(name, **config):
    """Builds the task `name`. Raises `ValueError` for an unknown name or field."""
    if name not in tasks():
        close = difflib.get_close_matches(str(name), tasks(), n=1)
        raise ValueError(
            f"no task is called {name!r}"
            + (f"; did you mean {close[0]!r}?" if close else f"; there are {tasks()}")
        )
    module = importlib.import_module(f"{__name__}.{name}")
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
