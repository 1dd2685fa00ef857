"""Models that were trained: of run directories and of entries."""

import dataclasses
import os
import shlex

import numpy as np

from ..trainers import Recipe
from ..trainers import task as find_task
from ..trainers._files import read_json, reading
from ..trainers._run import METRICS_REMEDY, complete
from ..trainers._weights import read_model
from ._registry import info, list_entries, task_of
from ._registry import path as shipped
from ._settings import changes, model_defaults

MOST_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Trained:
    """The model of a run directory, or the pretrained one of an entry.

    Attributes:
        directory: where the files stand.
        entry: the `Entry` that was trained.
        task: the `Task` that it was trained on.
        config: the content of `config.json`, empty for an entry without files; a setting that is
            younger than the file has its default.
    """

    directory: str
    entry: object
    task: object
    config: dict

    @classmethod
    def find(cls, name):
        """Of a run directory, or of an entry by its name.

        Raises `ValueError` where `name` is neither, or where its `config.json` is damaged.
        """
        is_directory = os.path.isdir(name) and name not in list_entries()
        if is_directory or _has_config(name):
            return cls(*_read(os.path.normpath(name)))
        entry = info(name)
        if _has_config(entry.directory):
            return cls(*_read(entry.directory))
        return cls(entry.directory, entry, task_of(entry), {})

    @property
    def name(self):
        """The entry's name, under which the model is served."""
        return self.entry.name

    def load(self):
        """The `keras.Model`.

        Raises `FileNotFoundError` where there is none (yet), `ValueError` where it is damaged.
        """
        path = os.path.join(self.directory, "model.keras")
        if not os.path.exists(path):
            if not self.config:
                shipped(self.name)  # raises, too
            raise FileNotFoundError(
                f"{self.directory} has no model.keras yet; training the run to its end makes one"
            )
        return read_model(path)


@dataclasses.dataclass(frozen=True)
class Run(Trained):
    """A finished run directory, or what was published of one; `metrics` are those it ended with."""

    metrics: dict

    @classmethod
    def read(cls, directory):
        """Raises `ValueError` where there is no run, or one that failed or is not finished."""
        fields = _read(directory)
        finished = os.path.join(directory, "metrics.json")
        if not os.path.exists(finished):
            raise ValueError(f"{directory} holds a run that is not finished: no metrics.json")
        metrics = read_json(finished, METRICS_REMEDY)
        if "failed" in metrics:
            raise ValueError(f"{directory} holds a failed run: {metrics['failed']}")
        return cls(*fields, metrics)

    @property
    def recipe(self):
        """The `Recipe` that it was trained by."""
        return Recipe.parse(self.config["train"])

    @property
    def kind(self):
        """What runs have in common that differ in their seed, and perhaps in their length."""
        told_apart = {name: getattr(self.recipe, name) for name in self.recipe.told_apart}
        return {key: self.config[key] for key in ("config", "task_config")}, told_apart

    @property
    def history(self):
        """The learning curve: not too many rows, five digits."""
        return self.histories[0]

    @property
    def histories(self):
        """Its learning curve and, where it is published with one, its baseline's."""
        path = os.path.join(self.directory, "history.json")
        found = read_json(path, METRICS_REMEDY)
        with reading(path, METRICS_REMEDY):
            found = list(found.values()) if isinstance(found, dict) else [found]
            return [
                [{key: float(f"{x:.5g}") for key, x in row.items()} for row in thinned(rows)]
                for rows in found
            ]

    @property
    def settings(self):
        """What differs from the registered entry, in the words that `--set` takes.

        Raises `ValueError` where the run has a setting that is unknown now.
        """
        groups = {"model": "config", "recipe": "train", "task": "task_config"}
        try:
            return changes(self.entry, {group: self.config[key] for group, key in groups.items()})
        except ValueError as error:
            raise ValueError(f"{self.directory} cannot be repeated: {error}") from error

    def command(self, run_dir=None):
        """The line that repeats the run."""
        words = ["ponderzoo", "train", self.entry.name]
        words += ["--run_dir", run_dir] if run_dir else []
        words += ["--set", *self.settings] if self.settings else []
        return f"KERAS_BACKEND={self.metrics['backend']} {shlex.join(words)}"


def _has_config(directory):
    return os.path.exists(os.path.join(directory, "config.json"))


def _read(directory):
    """The fields of `Trained` for a directory. Raises `ValueError` where it holds no run."""
    if not _has_config(directory):
        raise ValueError(f"{directory} holds no run: it has no config.json")
    path = os.path.join(directory, "config.json")
    config = read_json(path)
    try:
        entry = info(config["entry"])
        task = find_task(config["task"], **config["task_config"])
        return directory, entry, task, complete(config, task, model_defaults(entry))
    except (AttributeError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no config.json of a run ({what})") from error


def thinned(rows):
    """`MOST_POINTS` of the rows or fewer, with the first and the last."""
    kept = np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int)
    return [rows[index] for index in kept]
