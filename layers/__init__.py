"""The papers' mechanisms, every public class and function of every public file by its name."""

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING


def _found():
    for file in pkgutil.iter_modules(__path__):
        if not file.name.startswith("_") and not file.ispkg:
            module = importlib.import_module(f"{__name__}.{file.name}")
            for name, thing in vars(module).items():
                is_definition = inspect.isclass(thing) or inspect.isfunction(thing)
                if is_definition and thing.__module__ == module.__name__ and name[0] != "_":
                    yield name, thing


# All found before any is bound: importing a file binds its own name, which may be a function's.
globals().update(dict(_found()))

if TYPE_CHECKING:  # which does not run this file; `ponderzoo.layers.act.ACT` has its types
    from typing import Any

    def __getattr__(name: str) -> Any: ...
