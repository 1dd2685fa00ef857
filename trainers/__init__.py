"""Tasks, and the ways of learning them."""

import inspect
from typing import Any

from . import _rooms
from . import tasks as _tasks
from ._fit import fit
from ._process_group import ProcessGroup
from ._recipe import Recipe, parse_as
from ._syllabus import Curriculum
from ._task import Task
from ._teacher import Teacher

__all__ = [
    "Curriculum",
    "ProcessGroup",
    "Recipe",
    "Task",
    "Teacher",
    "fit",
    "parse_as",
    "task",
    "tasks",
]
_ROOM = _tasks.__name__


def tasks() -> list[str]:
    """Names of all tasks: one a public file of `tasks/`, and those that other packages add."""
    return _rooms.names(_ROOM)


def task(name: str, **config: Any) -> Task:
    """Builds the task `name`. Raises `ValueError` for an unknown name or field, or a bad value."""
    module = _rooms.find(_ROOM, name, "task")
    (kind,) = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Task) and c.__module__ == module.__name__
    ]
    known = list(kind.__dataclass_fields__)
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ValueError(f"task {name} has no setting {unknown[0]!r}; it has {known}")
    made = kind(**config)
    for field, value in config.items():
        default = kind.__dataclass_fields__[field].default
        if type(default) is int and value < (least := kind.least.get(field, min(default, 1))):
            raise ValueError(f"{field} must be {least} or more, got {value!r}")
    return made
