"""The run directory: who holds it, the state it goes on from, and how it ends."""

import contextlib
import dataclasses
import json
import os

import keras
import numpy as np

from ._evaluate import measure, nothing
from ._events import EventFile
from ._files import (
    alone,
    naming,
    read_arrays,
    read_json,
    reading,
    write_arrays,
    write_checked_json,
    write_file,
    write_json,
)
from ._machine import commit, hardware
from ._process_group import ProcessGroup
from ._recipe import Recipe

STATE = os.path.join("backup", "state.npz")
ARRAY = "array/"
STATE_REMEDY = "restore it from a copy, or remove it to begin the run anew"
CONFIG_REMEDY = "restore it from a copy, or choose another run_dir"
METRICS_REMEDY = "remove it, and training again as before measures the run anew"


class Run:
    """A run directory that this process holds; whatever way of learning fills it.

    Attributes:
        directory: where everything goes.
        find: gives the path of what a recipe's `start` names.
        measures: `measures(model)`, the metrics of what a model tells of itself.
        group: the `ProcessGroup` that trains it, which begins with what this process has.
        record: dict of plain types that is kept with the state: `history`, a dict of numbers an
            epoch, with `epoch`, how many there were; what they took, in seconds; and more.
        config: the content of `config.json`, which is written when the run begins.
        events: the `EventFile`, once the run has begun.
    """

    def __init__(self, directory, find=os.fspath, measures=nothing, group=None):
        self.directory, self.find, self.measures = directory, find, measures
        self.group = group or ProcessGroup()
        self.record = {"epoch": 0, "event_bytes": 0, "history": []}
        self.record |= {"seconds": 0.0, "cpu_seconds": 0.0, "data_seconds": 0.0}
        self.config, self.events, self._differing = {}, None, []

    @classmethod
    @contextlib.contextmanager
    def hold(cls, directory, task, recipe, description, **rest):
        """Holds a directory for a run, which writes there once it begins.

        A finished run is not held, so that it may be read where nothing can be written. Raises
        `ValueError` where the directory holds another run, or another process holds it.
        """
        run = cls(directory, **rest)
        run.config = config_of(task, recipe, description)
        run.compare(task, description)
        if run.finished:
            yield run
            return
        with alone(directory):
            run.compare(task, description)
            yield run

    def compare(self, task, description):
        """Raises `ValueError` where the directory belongs to a run of another configuration.

        It belongs to a run that has finished an epoch, and to one that has failed until another
        configuration is asked for.
        """
        path, self._differing = self.place("config.json"), []
        ended = os.path.exists(self.place("metrics.json"))
        if not os.path.exists(path) or (self.is_new and not ended):
            return
        there = read_json(path, CONFIG_REMEDY)
        with reading(path, CONFIG_REMEDY):
            there = complete(there, task, description.get("defaults", {}))
        self._differing = differences(there, self.config)
        if self._differing and not (self.is_new and self._failure()):
            raise ValueError(
                f"{self.directory} holds another run ({'; '.join(self._differing)}); to go on with "
                "that run ask for what is there, to begin another choose another run_dir"
            )

    @property
    def asked(self):
        """What all processes of a group are started with, a dict of plain types."""
        return {**self.config, "num_processes": self.group.num_processes}

    def follow(self, asked):
        """Raises `ValueError` in all processes where one was asked for other than process 0.

        Args:
            asked: the `asked` of process 0.
        """
        differing = differences(asked, self.asked)
        if others := self.group.where(differing):
            own = f" ({'; '.join(differing)})" if differing else ""
            raise ValueError(
                f"process {', '.join(map(str, others))} was started with other settings than "
                f"process 0{own}; start all with the same"
            )

    def _failure(self):
        """What a run failed of, in words, None where it did not."""
        return read_json(self.place("metrics.json"), METRICS_REMEDY).get("failed")

    def place(self, *names):
        """A path within the directory."""
        return os.path.join(self.directory, *names)

    @property
    def is_new(self):
        """Whether there is no state to go on from."""
        return not os.path.exists(self.place(STATE))

    @property
    def finished(self):
        """The metrics of a finished run, None before and where a failed one is to be replaced.

        Raises `FloatingPointError` where the run that is asked for failed.
        """
        path = self.place("metrics.json")
        if not os.path.exists(path):
            return None
        metrics = read_json(path, METRICS_REMEDY)
        if "failed" not in metrics:
            return metrics
        if self._differing:
            return None
        raise FloatingPointError(f"{metrics['failed']} ({self.directory} holds this failed run)")

    def begin(self, recipe, variables):
        """Takes up the state where there is one, and the event file where it stood.

        Args:
            recipe: the `Recipe`.
            variables: all that a way of learning changes, in an order that stays.

        Returns:
            The named arrays that `save` was given, none for a new run.
        """
        arrays, path = {}, self.place(STATE)
        if self.is_new:
            self.record["groups"] = True  # older runs go on with curves without groups
            for left in ("metrics.json", os.path.join("backup", "best.npz")):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self.place(left))
        else:
            state = read_arrays(path, STATE_REMEDY)
            with reading(path, STATE_REMEDY):
                self._take(state, variables)
                named = [name for name in state if name.startswith(ARRAY)]
                arrays = {name.removeprefix(ARRAY): state[name] for name in named}
        if self.is_new or not os.path.exists(self.place("config.json")):
            write_checked_json(self.place("config.json"), self.config)
        self.events = EventFile(self.place("logs"), self.record["event_bytes"])
        if self.events.is_new:
            self.events.hparams(dataclasses.asdict(recipe))
        self.group.share_arrays(self._state(variables))
        return arrays

    def _take(self, state, variables):
        self.record.update(json.loads(str(state["record"])))
        self._assign(state, variables)

    def _assign(self, state, variables):
        for index, variable in enumerate(variables):
            variable.assign(state[str(index)])

    def _state(self, variables):
        numbered = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
        return {"record": json.dumps(self.record), **numbered}

    def save(self, variables, arrays=()):
        """Replaces the state: one file, so that a kill in the middle of it loses nothing.

        `keras.callbacks.BackupAndRestore` overwrites its files in place.
        """
        self.record["event_bytes"] = self.events.flush()
        named = {f"{ARRAY}{name}": array for name, array in dict(arrays).items()}
        state = self._state(variables)
        write_arrays(self.place(STATE), {**state, **named})
        self.group.share_arrays(state)

    def fail(self, recipe, error):
        """Ends the run without a model."""
        failed = {"failed": str(error), "seed": recipe.seed}
        write_checked_json(self.place("metrics.json"), failed)

    def finish(self, model, task, recipe, told=(), drawn=()):
        """Writes weights, measures the model, draws, and writes the metrics, last of all.

        Args:
            told, drawn: further metrics and matplotlib figures by name, which the way of learning
                has of the run.

        Returns:
            The metrics, as in `metrics.json`.
        """
        from .figures._panels import small_png

        save(model, self.directory)
        metrics, figures = _measured(model, task, recipe, self.measures)
        metrics |= {**dict(told), **facts(recipe, self.record)}
        if self.group.num_processes > 1:
            metrics["num_processes"] = self.group.num_processes
        figures |= dict(drawn) if recipe.figures else {}
        for name, figure in figures.items():
            write_file(self.place("figures", f"{name}.png"), small_png(figure))
            self.events.figure(f"figures/{name}", figure, recipe.updates)
        self.events.close()
        write_json(self.place("history.json"), self.record["history"])
        write_checked_json(self.place("metrics.json"), metrics)
        return metrics


class FollowedRun(Run):
    """A run that process 0 of a `ProcessGroup` holds, as the others see it, who write nothing.

    They begin, and go on after every save, with process 0's state, bit for bit: other processors
    round otherwise.
    """

    is_new, finished = False, None

    @classmethod
    @contextlib.contextmanager
    def hold(cls, directory, task, recipe, description, **rest):
        """As `Run.hold`, without a look at the directory."""
        run = cls(directory, **rest)
        run.config = config_of(task, recipe, description)
        yield run

    def begin(self, recipe, variables):
        self._take(self.group.share_arrays({}), variables)
        return {}

    def save(self, variables, arrays=()):
        self._assign(self.group.share_arrays({}), variables)

    def fail(self, recipe, error):
        pass

    def finish(self, model, task, recipe, told=(), drawn=()):
        pass


def _measured(model, task, recipe, measures):
    if recipe.figures:
        return measure(model, task, recipe.evaluation_rows, measures)
    return task.measure(model, "test", recipe.evaluation_rows, measures), {}


def config_of(task, recipe, description):
    """The content of `config.json`."""
    config = {
        "entry": description.get("entry"),
        "task": task.name,
        "task_config": dataclasses.asdict(task),
        "config": description.get("config", {}),
        "train": dataclasses.asdict(recipe),
        "backend": keras.backend.backend(),
    }
    return json.loads(json.dumps(config))


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


def differences(there, asked):
    """What the contents of two `config.json` differ in, in words."""
    there, asked = flatten(there), flatten(asked)
    keys = sorted(key for key in there | asked if there.get(key) != asked.get(key))
    return [f"{key}: {there.get(key)!r} there, {asked.get(key)!r} asked" for key in keys]


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
    with naming(beside):
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
