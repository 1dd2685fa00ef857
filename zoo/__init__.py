"""The model zoo: `list`, `info`, `load`, `build`, `path`."""

from ._registry import build, info, load, path, task_of
from ._registry import list_entries as list

__all__ = ["build", "info", "list", "load", "path", "task_of"]

_ELSEWHERE = {"from_preset": "load", "load_model": "load", "presets": "list", "list_models": "list"}


def __getattr__(name):
    if name in _ELSEWHERE:
        raise AttributeError(f"{__name__} has no {name}; it is called zoo.{_ELSEWHERE[name]} here")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
