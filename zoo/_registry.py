"""What an entry is, and how entries are found."""

import dataclasses
import difflib
import functools
import inspect
import os
from collections.abc import Callable

import keras

from .. import layers  # noqa: F401, so that `keras.saving.load_model` knows their classes
from ..trainers import Task, _rooms
from ..trainers._files import read_json
from .signatures._checks import finite

PRETRAINED = os.path.join(os.path.dirname(__file__), "pretrained")
_entries = {}


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper; `mechanism` is what its models are called beside others."""

    mechanism: str
    title: str
    authors: str
    year: int
    arxiv: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of a paper on a task, with the recipe that trains it.

    Attributes:
        name: `<model>_<task>[_<size>]`, lower case.
        paper: `Paper`.
        task: name of a task in `trainers`, with `task_config` its fields.
        build: `build(task, **config) -> keras.Model`.
        config: keyword arguments of `build`, plain types.
        train: the recipe, plain types (see `ponderzoo.trainers.fit`).
        paper_result: what the paper reports on the task, in a few words.
        baseline: what the paper compares with, where that is another machine, as "LSTM"; empty for
            the same model without the paper's mechanism, which has the same size.
        measures: `measures(model) -> {output: [metric]}`: what a model tells of itself beside its
            answers, by metrics with `words` and, where they are means of many numbers, `values`.
        trade_off: a setting that trades error for a measure, and that measure, by their names.
        plain: the settings of `config` that leave the paper's mechanism out.
        told: outputs that signatures hand on beside their answers, where the model has them: name
            -> what it means.
        small: settings of `config` that make a model small enough for tests.
        small_task: likewise settings of `task_config`.
        own_signatures: `own_signatures(model, task) -> {name: Signature}`, the first of them
            `serve`, in the place of those of the task.
        own_notation: likewise `own_notation(task) -> {name: Notation}`.
    """

    name: str
    paper: Paper
    task: str
    build: Callable
    config: dict = dataclasses.field(default_factory=dict)
    task_config: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)
    paper_result: str = ""
    baseline: str = ""
    measures: Callable = lambda model: {}
    trade_off: tuple = ()
    plain: dict = dataclasses.field(default_factory=dict)
    told: dict = dataclasses.field(default_factory=dict)
    small: dict = dataclasses.field(default_factory=dict)
    small_task: dict = dataclasses.field(default_factory=dict)
    own_signatures: Callable | None = None
    own_notation: Callable | None = None

    def signatures(self, model, task):
        """What the model serves: name -> `Signature`; the first is `serve`.

        All of them refuse infinities and what is no number.
        """
        if self.own_signatures:
            served = self.own_signatures(model, task)
        else:
            told = {name: self.told[name] for name in self.told if name in model.output}
            served = self._room.signatures(model, task, told)
        return {name: finite(signature) for name, signature in served.items()}

    def notation(self, task):
        """How people write the inputs of signatures, where they can: name -> `Notation`."""
        if self.own_notation:
            return self.own_notation(task)
        return {} if self.own_signatures else self._room.notation(task)

    @property
    def _room(self):
        """The file of the task's signatures."""
        return _rooms.find(f"{__package__}.signatures", self.task, "task with signatures")

    @property
    def notes(self):
        """Markdown for the card: what was tried, and where this departs from the paper."""
        path = os.path.join(os.path.dirname(__file__), "notes", f"{self.name}.md")
        return open(path, encoding="utf-8").read() if os.path.exists(path) else ""

    @property
    def directory(self):
        """Where the pretrained files stand."""
        return os.path.join(PRETRAINED, self.name)

    def _read(self, file):
        path = os.path.join(self.directory, file)
        return open(path, encoding="utf-8").read() if os.path.exists(path) else ""

    @property
    def metrics(self):
        """The measured numbers of the pretrained weights, or an empty dict."""
        path = os.path.join(self.directory, "metrics.json")
        return read_json(path) if os.path.exists(path) else {}

    @property
    def card(self):
        """The model card, markdown."""
        return self._read("card.md")

    @property
    def figures(self):
        """Directory of the pictures that the card shows."""
        return os.path.join(self.directory, "figures")

    def origin(self, task):
        """Plain values that tell where a model comes from: its task, paper and best picture."""
        purpose = " ".join(inspect.getdoc(type(task)).partition("\n\n")[0].split())
        found = sorted(os.listdir(self.figures)) if os.path.isdir(self.figures) else []
        names = [name for name, kind in map(os.path.splitext, found) if kind == ".png"]
        # Those of the task show what its models do.
        picture = next((name for name in (*task.captions, *names) if name in names), None)
        return {
            "task": self.task,
            "purpose": purpose,
            "paper": dataclasses.asdict(self.paper),
            **({"picture": f"figures/{picture}.png"} if picture else {}),
        }

    @property
    def bytes(self):
        """Size of the pretrained `.keras` file, 0 where there is none."""
        path = os.path.join(self.directory, "model.keras")
        return os.path.getsize(path) if os.path.exists(path) else 0


def register(entry):
    """Adds an entry; a name may be taken once."""
    if entry.name in _entries:
        raise ValueError(f"entry {entry.name!r} is registered already")
    _entries[entry.name] = entry
    return entry


@functools.cache
def _discover():
    for name in _rooms.names(__package__):
        _rooms.find(__package__, name, "paper")


def info(name: str) -> Entry:
    """The `Entry` of a name. Raises `ValueError` with the closest names where there is none."""
    _discover()
    if name not in _entries:
        # Other zoos have addresses, as `hf://keras/act_parity`.
        close = difflib.get_close_matches(str(name).rpartition("/")[2], _entries, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"no entry is called {name!r}.{hint} `zoo.list()` or `ponderzoo list` gives all names."
        )
    return _entries[name]


def list_entries(paper: str | None = None, task: str | None = None) -> list[str]:
    """Names of all entries, sorted.

    `paper` (arXiv id or part of the title) and `task` narrow the list.
    """
    _discover()
    return sorted(
        entry.name
        for entry in _entries.values()
        if (
            paper is None
            or paper == entry.paper.arxiv
            or paper.lower() in entry.paper.title.lower()
        )
        and (task is None or task == entry.task)
    )


def task_of(entry: Entry, **overrides: object) -> Task:
    """The entry's task object."""
    from ..trainers import task

    return task(entry.task, **{**entry.task_config, **overrides})


def build(name: str, **overrides: object) -> keras.Model:
    """An untrained model of the entry; `overrides` are keyword arguments of its `build`."""
    entry = info(name)
    unknown = sorted(set(overrides) - set(entry.config))
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {sorted(entry.config)}")
    return entry.build(task_of(entry), **{**entry.config, **overrides})


def path(name: str) -> str:
    """The pretrained `.keras` file. Raises `FileNotFoundError` where the entry ships no weights."""
    file = os.path.join(info(name).directory, "model.keras")
    if not os.path.exists(file):
        raise FileNotFoundError(
            f"{name} ships no weights; `ponderzoo train {name} --run_dir runs/{name}` makes some, "
            f"and then runs/{name} may stand in the place of the name"
        )
    return file


def load(name: str) -> keras.Model:
    """The `keras.Model` of an entry, pretrained, or of a run directory.

    Raises:
        FileNotFoundError: there are no weights (yet).
        ValueError: there is no such entry or run, or a file is damaged.
    """
    from ._trained import Trained

    return Trained.find(name).load()
