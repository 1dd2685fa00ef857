"""The run directory: who holds it, the state it goes on from, and how it ends."""

import contextlib
import dataclasses
import io
import json
import os

import keras
import numpy as np

from ._evaluate import measure, nothing
from ._events import EventFile
from ._files import alone, read_json, write_file, write_json
from ._machine import commit, hardware
from ._recipe import Recipe

STATE = os.path.join("backup", "state.npz")
ARRAY = "array/"


class Run:
    """A run directory that this process holds; whatever way of learning fills it.

    Attributes:
        directory: where everything goes.
        find: gives the path of what a recipe's `start` names.
        measures: `measures(model)`, the metrics of what a model tells of itself.
        record: dict of plain types that is kept with the state: `history`, a dict of numbers an
            epoch, with `epoch`, how many there were; what they took, in seconds; and more.
        events: the `EventFile`, once the run has begun.
    """

    def __init__(self, directory, find=os.fspath, measures=nothing):
        self.directory, self.find, self.measures = directory, find, measures
        self.record = {"epoch": 0, "event_bytes": 0, "history": []}
        self.record |= {"seconds": 0.0, "cpu_seconds": 0.0, "data_seconds": 0.0}
        self.events = None

    @classmethod
    @contextlib.contextmanager
    def hold(cls, directory, task, recipe, description, **rest):
        """Holds a directory, whose `config.json` is written or compared.

        Raises `ValueError` where it holds another run, or another process holds it.
        """
        with alone(directory):
            claim(directory, task, recipe, description)
            yield cls(directory, **rest)

    def place(self, *names):
        """A path within the directory."""
        return os.path.join(self.directory, *names)

    @property
    def is_new(self):
        """Whether there is no state to go on from."""
        return not os.path.exists(self.place(STATE))

    @property
    def finished(self):
        """The metrics of a finished run, None before; raises `FloatingPointError` if it failed."""
        path = self.place("metrics.json")
        if not os.path.exists(path):
            return None
        metrics = read_json(path)
        if "failed" in metrics:
            said = f"{metrics['failed']} ({self.directory} holds this failed run)"
            raise FloatingPointError(said)
        return metrics

    def begin(self, recipe, variables):
        """Takes up the state where there is one, and the event file where it stood.

        Args:
            recipe: the `Recipe`.
            variables: all that a way of learning changes, in an order that stays.

        Returns:
            The named arrays that `save` was given, none for a new run.
        """
        arrays = {}
        if not self.is_new:
            with np.load(self.place(STATE)) as state:
                self.record.update(json.loads(str(state["record"])))
                for index, variable in enumerate(variables):
                    variable.assign(state[str(index)])
                named = [name for name in state.files if name.startswith(ARRAY)]
                arrays = {name.removeprefix(ARRAY): state[name] for name in named}
        self.events = EventFile(self.place("logs"), self.record["event_bytes"])
        if not self.record["event_bytes"]:
            self.events.hparams(dataclasses.asdict(recipe))
        return arrays

    def save(self, variables, arrays=()):
        """Replaces the state: one file, so that a kill in the middle of it loses nothing.

        `keras.callbacks.BackupAndRestore` overwrites its files in place.
        """
        self.record["event_bytes"] = self.events.flush()
        named = {f"{ARRAY}{name}": array for name, array in dict(arrays).items()}
        numbered = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
        buffer = io.BytesIO()
        np.savez(buffer, record=json.dumps(self.record), **numbered, **named)
        write_file(self.place(STATE), buffer.getvalue())

    def fail(self, recipe, error):
        """Ends the run without a model."""
        write_json(self.place("metrics.json"), {"failed": str(error), "seed": recipe.seed})

    def finish(self, model, task, recipe):
        """Writes weights, measures the model, draws, and writes the metrics, last of all.

        Returns:
            The metrics, as in `metrics.json`.
        """
        from .figures._panels import small_png

        save(model, self.directory)
        metrics, figures = _measured(model, task, recipe, self.measures)
        metrics |= facts(recipe, self.record)
        for name, figure in figures.items():
            write_file(self.place("figures", f"{name}.png"), small_png(figure))
            self.events.figure(f"figures/{name}", figure, recipe.updates)
        self.events.close()
        write_json(self.place("history.json"), self.record["history"])
        write_json(self.place("metrics.json"), metrics)
        return metrics


def _measured(model, task, recipe, measures):
    if recipe.figures:
        return measure(model, task, recipe.evaluation_rows, measures)
    return task.measure(model, "test", recipe.evaluation_rows, measures), {}


def claim(run_dir, task, recipe, description):
    """Writes `config.json`, or raises `ValueError` where there is one that differs."""
    config = {
        "entry": description.get("entry"),
        "task": task.name,
        "task_config": dataclasses.asdict(task),
        "config": description.get("config", {}),
        "train": dataclasses.asdict(recipe),
        "backend": keras.backend.backend(),
    }
    config = json.loads(json.dumps(config))
    path = os.path.join(run_dir, "config.json")
    if not os.path.exists(path):
        write_json(path, config)
        return
    there = complete(read_json(path), task, description.get("defaults", {}))
    there, asked = flatten(there), flatten(config)
    differing = sorted(key for key in there | asked if there.get(key) != asked.get(key))
    if differing:
        pairs = [f"{k}: {there.get(k)!r} there, {asked.get(k)!r} asked" for k in differing]
        raise ValueError(
            f"{run_dir} holds another run ({'; '.join(pairs)}); choose another run_dir"
        )


def complete(config, task, model):
    """The content of a `config.json` with the settings that are younger than it.

    Such a setting had its default's effect, and not that of the value registered today.

    Args:
        config: the content, read from JSON.
        task: a task of the same name, which knows the defaults of its fields.
        model: defaults of the settings of the model.
    """
    fields = {field.name: field.default for field in dataclasses.fields(task)}
    fields = {key: value for key, value in fields.items() if value is not dataclasses.MISSING}
    younger = {"config": model, "train": Recipe.defaults(config["train"]), "task_config": fields}
    return config | {key: defaults | config[key] for key, defaults in younger.items()}


def flatten(tree, prefix=""):
    """`{"a": {"b": 1}}` to `{"a.b": 1}`."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def save(model, run_dir):
    """Writes `model.keras` without optimizer and compile settings, whole or not at all."""
    # A clone would be compiled as well.
    clean = type(model).from_config(model.get_config())
    clean.set_weights(model.get_weights())
    beside = os.path.join(run_dir, "backup", "model.keras")
    clean.save(beside)
    with open(beside, "rb") as file:
        write_file(os.path.join(run_dir, "model.keras"), file.read())
    os.remove(beside)


def facts(recipe, record):
    """What a reader needs to judge the numbers: size of the run, time, machine, commit."""
    rates = [recipe.steps * recipe.batch_size / h["seconds"] for h in record["history"]]
    return {
        "seed": recipe.seed,
        "updates": recipe.updates,
        "batch_size": recipe.batch_size,
        "minutes": round(record["seconds"] / 60, 2),
        "cpu_minutes": round(record["cpu_seconds"] / 60, 2),
        "examples_per_second": round(float(np.median(rates)), 1),
        "data_share": round(record["data_seconds"] / record["seconds"], 4),
        "hardware": hardware(record["cpu_seconds"] / record["seconds"]),
        "backend": keras.backend.backend(),
        "commit": commit(),
        "train": record["history"][-1],
    }
