"""Models that were trained: of run directories and of entries."""

import dataclasses
import json
import os
import shlex

import numpy as np

from ..trainers import Recipe
from ..trainers import task as find_task
from ..trainers._files import read_json
from ..trainers._weights import read_model
from ._registry import info, task_of


@dataclasses.dataclass(frozen=True)
class _Trained:
    """The model of a run directory, or the pretrained one of an entry."""

    name: str
    entry: object
    task: object
    directory: str

    @classmethod
    def find(cls, name):
        """Raises `ValueError` where `name` is neither."""
        from .. import trainers, zoo

        is_run = os.path.exists(os.path.join(name, "config.json"))
        if os.path.isdir(name) and not is_run and name not in zoo.list():
            raise ValueError(f"{name} holds no run: it has no config.json")
        directory = os.path.normpath(name) if is_run else zoo.info(name).directory
        path = os.path.join(directory, "config.json")
        if not os.path.exists(path):
            entry = zoo.info(name)
            return cls(name, entry, zoo.task_of(entry), directory)
        with open(path, encoding="utf-8") as file:
            try:
                config = json.load(file)
                task = trainers.task(config["task"], **config["task_config"])
                return cls(config["entry"], zoo.info(config["entry"]), task, directory)
            except (KeyError, TypeError, UnicodeDecodeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise ValueError(f"{path} is no config.json of a run ({what})") from error

    def load(self):
        """The model.

        Raises `FileNotFoundError` where there is none (yet), `ValueError` where it is damaged.
        """
        from ..trainers._weights import read_model

        path = os.path.join(self.directory, "model.keras")
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"{self.directory} has no model.keras; `ponderzoo train {self.name}` makes one"
            )
        return read_model(path)


MOST_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run directory."""

    directory: str
    entry: object
    task: object
    config: dict
    metrics: dict

    @classmethod
    def read(cls, directory):
        """Raises `ValueError` where there is no run, or one that failed or is not finished."""
        finished = os.path.join(directory, "metrics.json")
        if not os.path.exists(os.path.join(directory, "config.json")):
            raise ValueError(f"{directory} holds no run: it has no config.json")
        if not os.path.exists(finished):
            raise ValueError(f"{directory} holds a run that is not finished: no metrics.json")
        metrics = read_json(finished)
        if "failed" in metrics:
            raise ValueError(f"{directory} holds a failed run: {metrics['failed']}")
        config = read_json(os.path.join(directory, "config.json"))
        # A setting that is younger than the run had its default's effect.
        config["train"] = dataclasses.asdict(Recipe()) | config["train"]
        task = find_task(config["task"], **config["task_config"])
        return cls(directory, info(config["entry"]), task, config, metrics)

    def load(self):
        return read_model(os.path.join(self.directory, "model.keras"))

    @property
    def measures(self):
        """Names of the measured metrics; the first is the task's own error."""
        names = [metric.name for some in self.task.metrics().values() for metric in some]
        return [name for name in (*names, "ponder", "at_cap") if name in self.metrics]

    @property
    def history(self):
        """The learning curve: not too many rows, five digits."""
        return self.histories[0]

    @property
    def histories(self):
        """Its learning curve and, where it is published with one, its baseline's."""
        found = read_json(os.path.join(self.directory, "history.json"))
        found = list(found.values()) if isinstance(found, dict) else [found]
        return [
            [{key: float(f"{value:.5g}") for key, value in row.items()} for row in _thinned(rows)]
            for rows in found
        ]

    @property
    def settings(self):
        """What differs from the registered entry, in the words that `--set` takes."""
        groups = {
            "model": (self.config["config"], self.entry.config),
            "recipe": (self.config["train"], dataclasses.asdict(Recipe.parse(self.entry.train))),
            "task": (self.config["task_config"], dataclasses.asdict(task_of(self.entry))),
        }
        keys = [key for mine, _ in groups.values() for key in mine]
        changed = []
        for group, (mine, registered) in groups.items():
            for key, value in mine.items():
                if key not in registered:
                    raise ValueError(f"{self.directory} has a {group}.{key}, which is unknown now")
                if value != json.loads(json.dumps(registered[key])):
                    name = key if keys.count(key) == 1 else f"{group}.{key}"
                    text = str(value) if isinstance(value, (str, int, float)) else json.dumps(value)
                    changed.append(f"{name}={text}")
        return changed

    def command(self, run_dir=None):
        """The line that repeats the run."""
        words = ["ponderzoo", "train", self.entry.name]
        words += ["--run_dir", run_dir] if run_dir else []
        words += ["--set", *self.settings] if self.settings else []
        return f"KERAS_BACKEND={self.metrics['backend']} {shlex.join(words)}"


def _thinned(rows):
    """`MOST_POINTS` of the rows or fewer, with the first and the last."""
    kept = np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int)
    return [rows[index] for index in kept]
