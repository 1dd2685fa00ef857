"""Reads what the rooms declare without loading Keras and a backend, which take seconds.

Entries, tasks and recipes are Python that begins with `import keras`; to list them, only their
names, settings and texts are asked for. So Keras and the backends are stood in for by modules that
have every name and do nothing: classes can be derived and decorated, and nothing is computed.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types

ANEW = "PONDERZOO_ANEW"
ABSENT = ("jax", "keras", "tensorflow")


class _Everything(type):
    """The type of stand-ins: classes that have every attribute and may be called."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = _Everything(name, (), {})
        setattr(cls, name, found)
        return found

    def __call__(cls, *arguments, **options):
        # A decorator gives back what it decorates.
        decorated = len(arguments) == 1 and not options and callable(arguments[0])
        return arguments[0] if decorated else _Everything(cls.__name__, (), {})


class _Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_Everything(self.__name__, (), {}), name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        # What has a path lies in a package that is no stand-in.
        if name.partition(".")[0] in ABSENT and not path:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        if module.__name__ == "keras":
            backend = os.environ["KERAS_BACKEND"]
            module.backend = types.SimpleNamespace(backend=lambda: backend)


def stand_in():
    """Stands in for Keras and its backends in this process, unless they are loaded already.

    False where they are, or where a process like this one has begun anew.
    """
    if os.environ.get(ANEW) or sys.modules.keys() & set(ABSENT):
        return False
    sys.meta_path.insert(0, _Finder())
    return True


def stands_in():
    """Whether this process has stand-ins, and so can build nothing."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def begin_anew():
    """Runs the program from its beginning, on the same words and with Keras itself."""
    os.environ[ANEW] = "1"
    sys.stdout.flush()
    program = [sys.executable, "-m", f"{__package__}._cli"]
    os.execv(program[0], [*program, *sys.argv[1:]])
