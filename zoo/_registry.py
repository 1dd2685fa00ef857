"""What an entry is, and how entries are found."""

import dataclasses
import difflib
import functools
import importlib.metadata
import json
import os
import pkgutil
from collections.abc import Callable

from .. import layers  # noqa: F401, so that `keras.saving.load_model` knows their classes
from ..trainers._weights import read_model

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
        signatures: `signatures(model, task) -> {name: Signature}`; the first is `serve`.
        paper_result: what the paper reports on the task, in a few words.
        baseline: what the paper compares with, where that is another machine, as "LSTM"; empty for
            the same model without the paper's mechanism, which has the same size.
        notes: markdown for the card: what was tried, where this departs from the paper.
        notation: `notation(task) -> {name: Notation}` (see `_notation`), for the signatures whose
            inputs people can write.
    """

    name: str
    paper: Paper
    task: str
    build: Callable
    signatures: Callable
    config: dict = dataclasses.field(default_factory=dict)
    task_config: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)
    paper_result: str = ""
    baseline: str = ""
    notes: str = ""
    notation: Callable = lambda task: {}

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
        return json.loads(self._read("metrics.json") or "{}")

    @property
    def card(self):
        """The model card, markdown."""
        return self._read("card.md")

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
    package = __package__
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if not module.name.startswith("_") and not module.ispkg:
            importlib.import_module(f"{package}.{module.name}")
    for point in importlib.metadata.entry_points(group="ponderzoo.zoo"):
        point.load()


def info(name):
    """The `Entry` of a name. Raises `ValueError` with the closest names where there is none."""
    _discover()
    if name not in _entries:
        close = difflib.get_close_matches(str(name), _entries, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"no entry is called {name!r}.{hint} `zoo.list()` or `ponderzoo list` gives all names."
        )
    return _entries[name]


def list_entries(paper=None, task=None):
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


def task_of(entry, **overrides):
    """The entry's task object."""
    from ..trainers import task

    return task(entry.task, **{**entry.task_config, **overrides})


def build(name, **overrides):
    """An untrained model of the entry; `overrides` are keyword arguments of its `build`."""
    entry = info(name)
    unknown = sorted(set(overrides) - set(entry.config))
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {sorted(entry.config)}")
    return entry.build(task_of(entry), **{**entry.config, **overrides})


def path(name):
    """The pretrained `.keras` file. Raises `FileNotFoundError` where the entry ships no weights."""
    file = os.path.join(info(name).directory, "model.keras")
    if not os.path.exists(file):
        raise FileNotFoundError(
            f"{name} ships no weights; train it with `ponderzoo train {name} --run_dir runs/{name}`"
        )
    return file


def load(name):
    """The pretrained `keras.Model`."""
    return read_model(path(name))
