"""The model zoo: `list`, `info`, `load`, `build`, `path`."""

from ._registry import build, info, load, path, task_of
from ._registry import list_entries as list

__all__ = ["build", "info", "list", "load", "path", "task_of"]
