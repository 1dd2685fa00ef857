"""What a command is, how commands are found, and what they share."""

import dataclasses
import functools
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable

from .. import _outline
from .._session import quiet

PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]
PICTURES = "pictures"  # the folder of those that nobody names one for
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
        needs: what is imported first: "" for nothing, "names" to read what entries and tasks
            declare, "keras" to look, or "all".
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
    """An argument of a command, as `add_argument` of argparse takes it.

    `completer` is that of argcomplete. An option with `_` may be written with `-`, too.
    """
    return names, options


@functools.cache
def find_commands():
    """All `Command`s that the public files of this folder declare, by their places."""
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__package__}.{module.name}")
    return sorted(_commands, key=lambda one: one.place)


def entry_names(prefix, **_):
    """Names of entries, for shells to complete."""
    import_backend("names")
    from ... import zoo

    return [name for name in zoo.list() if name.startswith(prefix)]


def entry_names_and_files(prefix, **options):
    """`entry_names`, and files."""
    from argcomplete.completers import FilesCompleter

    return [*entry_names(prefix), *FilesCompleter()(prefix, **options)]


NAME = argument(
    "name", metavar="NAME", help="an entry, as in `ponderzoo list`", completer=entry_names
)
NAME_OR_RUN = argument(
    "name",
    metavar="NAME-or-RUN",
    help="an entry or a run directory",
    completer=entry_names_and_files,
)
AS_JSON = argument("--json", action="store_true", help="print JSON, for programs")


def import_backend(needs):
    """Imports what a command needs without its banner, see `Command.needs`."""
    if needs == "keras" and importlib.util.find_spec("jax"):
        # Half as long as TensorFlow takes.
        os.environ.setdefault("KERAS_BACKEND", "jax")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND must be tensorflow or jax, got {backend!r}")
    if needs == "names" and (_outline.stands_in() or _outline.stand_in()):
        return
    if needs and _outline.stands_in():
        _outline.begin_anew()
    if needs:
        with quiet():
            # To train on JAX, too, Keras loads TensorFlow.
            importlib.import_module("tensorflow" if needs == "all" else "keras")


def counted(things):
    """Yields things; people at a terminal read which one it is, and how many there are."""
    things = list(things)
    for number, thing in enumerate(things, start=1):
        if sys.stderr.isatty():
            print(f"{thing} ({number} of {len(things)})", file=sys.stderr, flush=True)
        yield thing


def print_values(values):
    """Prints a dict of plain values, one a line."""
    for key, value in values.items():
        print(f"  {key:24} {value:.6g}" if isinstance(value, float) else f"  {key:24} {value}")


def write_pictures(pictures, folder, name):
    """Writes `Picture`s as files of a folder, and prints their names."""
    from ...trainers._files import write_file

    for number, picture in enumerate(pictures, start=1):
        stem = os.path.join(folder, name if len(pictures) == 1 else f"{name}-{number}")
        write_file(f"{stem}.svg", picture.svg.encode())
        write_file(f"{stem}.png", picture.png)
        if picture.gif:
            write_file(f"{stem}.gif", picture.gif)
        print(f"picture   {stem}.svg and .png" + (", its steps .gif" if picture.gif else ""))
