"""What a command is, how commands are found, and what they share."""

import dataclasses
import functools
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable

from .._session import quiet

PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]
ERRORS = (ValueError, ArithmeticError, OSError, ImportError, RuntimeError)

_commands = []


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the program `ponderzoo`, or a group of commands.

    Attributes:
        words: what is typed: "train", or "data list" in the group "data".
        text: the help; its first sentence stands in the list of commands.
        place: commands are listed by it.
        function: takes the parsed arguments and gives the exit code, None for 0; None in a group.
        arguments: what `argument` makes.
        needs: what is imported first: "" for nothing, "keras" to look, or "all".
        intermixed: whether positional arguments may stand behind options, too.
    """

    words: str
    text: str
    place: int
    function: Callable | None = None
    arguments: tuple = ()
    needs: str = "all"
    intermixed: bool = False


def command(words, *arguments, place, needs="all", intermixed=False):
    """Makes a command of the function below, whose docstring is the help; see `Command`."""

    def declare(function):
        text = " ".join(line.strip() for line in function.__doc__.strip().splitlines())
        _commands.append(Command(words, text, place, function, arguments, needs, intermixed))
        return function

    return declare


def group(words, text, place):
    """A group of commands, which must have a lower place than they."""
    _commands.append(Command(words, text, place))


def argument(*names, **options):
    """An argument of a command, as `add_argument` of argparse takes it."""
    return names, options


@functools.cache
def find_commands():
    """All `Command`s that the public files of this folder declare, by their places."""
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__package__}.{module.name}")
    return sorted(_commands, key=lambda one: one.place)


NAME = argument("name", metavar="NAME", help="an entry, as in `ponderzoo list`")
NAME_OR_RUN = argument("name", metavar="NAME-or-RUN", help="an entry or a run directory")


def import_backend(needs):
    """Imports what a command needs without its banner: nothing, "keras" to look, or "all"."""
    if needs == "keras" and importlib.util.find_spec("jax"):
        # Half as long as TensorFlow takes.
        os.environ.setdefault("KERAS_BACKEND", "jax")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND must be tensorflow or jax, got {backend!r}")
    if needs:
        with quiet():
            # To train on JAX, too, Keras loads TensorFlow.
            importlib.import_module("keras" if needs == "keras" else "tensorflow")


def print_values(values):
    """Prints a dict of plain values, one a line."""
    for key, value in values.items():
        print(f"  {key:24} {value:.6g}" if isinstance(value, float) else f"  {key:24} {value}")
