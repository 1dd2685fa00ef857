"""The supervised training loop: model, task and recipe in, run directory out."""

import contextlib
import ctypes
import dataclasses
import fcntl
import io
import json
import math
import os
import platform
import subprocess
import sys
import time

import keras
import numpy as np

from ._archive import read_model
from ._callbacks import (
    Best,
    Board,
    Checkpoint,
    Clock,
    Curriculum,
    EventFile,
    Noise,
    StopAtNaN,
    write_file,
    write_json,
)
from ._evaluate import evaluate
from ._metrics import AtCap, MeanLoss, Ponder

OPTIMIZERS = ("adam", "adagrad", "rmsprop")
SCHEDULES = ("constant", "cosine", "linear")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        updates: optimizer steps in all; a multiple of `steps_per_epoch`, or smaller than it.
        batch_size: rows in a batch.
        optimizer: "adam", "adagrad", or "rmsprop" in the centred form with momentum of Graves
            (2013), arXiv:1308.0850, equations 38 to 41.
        learning_rate: of the optimizer, at the start.
        learning_rate_schedule: "constant", or "cosine" or "linear" from `learning_rate` down to 0.
        decay_from: share of the updates after which the learning rate begins to fall.
        beta_1, beta_2, adam_epsilon: Adam's.
        clipnorm: greatest global norm of the gradient, 0 for none.
        clipvalue: greatest size of an element of the gradient, 0 for none; where it is given,
            clipnorm does not count.
        ema: momentum of the running average of the weights that becomes the model, 0 for none.
        seed: of the initial weights and of the data.
        curriculum: error of an epoch under which the task, easiest at first, gets harder by one
            level; 0 for full difficulty from the start.
        curriculum_start: difficulty to begin with, where that is not the easiest.
        rehearsal: whether a curriculum goes on showing the levels that are behind, too.
        steps_per_epoch: updates between two checkpoints, which are also the points of the curves.
        jit_compile: whether XLA compiles the training step.
        validation_rows: rows of the validation split that are measured after every epoch; the
            weights of the least error, the task's first metric, are those of the run. 0 measures
            nothing, and the last weights are those of the run.
        start: an entry, a run or a `.keras` file, or several with commas between, whose layers
            give their weights to those of the same name.
        noise_from: share of the updates after which `WeightNoise` layers begin to make noise.
        evaluation_rows: rows of the test split that the final metrics are measured on.
        histograms: how many histograms of the ponder the event file gets, 0 for none.
        figures: whether the task's figures are drawn at the end.
    """

    updates: int = 10000
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    learning_rate_schedule: str = "constant"
    decay_from: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    adam_epsilon: float = 1e-7
    clipnorm: float = 1.0
    clipvalue: float = 0.0
    ema: float = 0.0
    seed: int = 1
    curriculum: float = 0.0
    curriculum_start: int = 0
    rehearsal: bool = True
    steps_per_epoch: int = 500
    jit_compile: bool = True
    validation_rows: int = 0
    start: str = ""
    noise_from: float = 0.0
    evaluation_rows: int = 10000
    histograms: int = 40
    figures: bool = True

    @classmethod
    def parse(cls, values):
        """A recipe from a dict whose values may be text.

        Raises:
            ValueError: for an unknown key, a value of the wrong type, or an impossible setting.
        """
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"the recipe has no setting {unknown[0]!r}; it has {sorted(known)}")
        recipe = cls(**{name: parse_as(name, known[name], values[name]) for name in values})
        if recipe.learning_rate_schedule not in SCHEDULES:
            raise ValueError(
                f"learning_rate_schedule must be one of {SCHEDULES}, "
                f"got {recipe.learning_rate_schedule!r}"
            )
        if recipe.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {recipe.optimizer!r}")
        for name in ("updates", "batch_size", "steps_per_epoch", "evaluation_rows"):
            if getattr(recipe, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(recipe, name)}")
        if recipe.updates % recipe.steps:
            raise ValueError(
                f"updates ({recipe.updates}) must be a multiple of "
                f"steps_per_epoch ({recipe.steps_per_epoch})"
            )
        return recipe

    @property
    def steps(self):
        """Updates of one epoch."""
        return min(self.steps_per_epoch, self.updates)

    @property
    def epochs(self):
        return self.updates // self.steps

    def make_optimizer(self):
        """The Keras optimizer."""
        rate = self.learning_rate
        if self.learning_rate_schedule != "constant":
            first = int(self.decay_from * self.updates)
            rate = Decay(rate, self.learning_rate_schedule, first, self.updates)
        common = {"use_ema": self.ema > 0, "ema_momentum": self.ema}
        if self.clipvalue:
            common["clipvalue"] = self.clipvalue
        elif self.clipnorm:
            common["global_clipnorm"] = self.clipnorm
        if self.optimizer == "rmsprop":
            return keras.optimizers.RMSprop(
                rate, rho=0.95, momentum=0.9, epsilon=1e-4, centered=True, **common
            )
        if self.optimizer == "adagrad":
            return keras.optimizers.Adagrad(rate, initial_accumulator_value=0.0, **common)
        return keras.optimizers.Adam(
            rate, beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.adam_epsilon, **common
        )


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """`rate` up to update `first`, then down to 0 at update `last`, along a line or a cosine."""

    def __init__(self, rate, law, first, last):
        self.rate, self.law, self.first, self.last = rate, law, first, last

    def __call__(self, step):
        left = (self.last - keras.ops.cast(step, "float32")) / max(self.last - self.first, 1)
        left = keras.ops.clip(left, 0.0, 1.0)
        if self.law == "cosine":
            left = (1 - keras.ops.cos(math.pi * left)) / 2
        return self.rate * left

    def get_config(self):
        return {"rate": self.rate, "law": self.law, "first": self.first, "last": self.last}


def parse_as(name, default, value):
    """`value`, perhaps text, in the type of `default`; raises `ValueError` where it cannot be."""
    kind, text = type(default), str(value).strip()
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind is int:
            if float(text) != int(float(text)):
                raise ValueError(text)
            return int(float(text))
        if kind in (str, float):
            return kind(text)
        parsed = json.loads(text) if isinstance(value, str) else value
        if isinstance(default, (list, tuple)) != isinstance(parsed, (list, tuple)):
            raise ValueError(text)
        return parsed if default is None else kind(parsed)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}") from None


class Batches(keras.utils.PyDataset):
    """The stream of a task, with an idle target for every model output that has none, and a clock.

    Keras wants targets and outputs of one structure; an output without a loss ignores its target.
    """

    def __init__(self, stream, outputs):
        super().__init__()
        self.stream, self.outputs = stream, outputs
        self.epoch, self.seconds = 0, 0.0

    def __len__(self):
        return len(self.stream)

    def __getitem__(self, index):
        start = time.perf_counter()
        self.stream.epoch = self.epoch
        inputs, targets = self.stream[index]
        idle = np.zeros((len(next(iter(targets.values()))), 1), "float32")
        targets = {name: targets.get(name, idle) for name in self.outputs}
        self.seconds += time.perf_counter() - start
        return inputs, targets


def fit(build, task, recipe, run_dir, description=None, find=os.fspath):
    """Trains a model and fills its run directory; a run that was killed goes on where it stood.

    A resumed run ends with the same weights, bit for bit, as one that was never interrupted.

    Args:
        build: gives the untrained `keras.Model`, whose outputs are a dict.
        task: a `Task`.
        recipe: dict with the fields of `Recipe`, values as such or as text.
        run_dir: where `config.json`, `logs/`, `backup/`, `figures/`, `model.keras`,
            `history.json` and `metrics.json` go.
        description: dict of plain types for `config.json`: "entry" and "config" of the model.
        find: gives the path of what a recipe's `start` names.

    Returns:
        The metrics, as in `metrics.json`. A finished run returns them at once.

    Raises:
        ValueError: for a bad recipe, and for a `run_dir` that holds a run with another
            configuration or that another process is training in.
        FloatingPointError: where the loss stops being a number.
    """
    recipe = Recipe.parse(recipe)
    if recipe.curriculum and not task.difficulties:
        raise ValueError(f"task {task.name} has no levels of difficulty: curriculum must be 0")
    with alone(run_dir):
        claim(run_dir, task, recipe, description or {})
        finished = os.path.join(run_dir, "metrics.json")
        if not os.path.exists(finished):
            return train(build, task, recipe, run_dir, find)
        metrics = read_json(finished)
        if "failed" in metrics:
            raise FloatingPointError(f"{metrics['failed']} ({run_dir} holds this failed run)")
        return metrics


def train(build, task, recipe, run_dir, find):
    """`fit` of a run that is not finished yet."""

    def place(*names):
        return os.path.join(run_dir, *names)

    keep_freed_memory()
    keras.utils.set_random_seed(recipe.seed)
    model = build()
    if not os.path.exists(place("backup", "state.npz")):
        task.prepare(model)
        for name in filter(None, recipe.start.split(",")):
            take_weights(model, find(name.strip()))
    compile_model(model, task, recipe)
    stream = task.dataset("train", recipe.batch_size, recipe.steps, recipe.seed)
    stream.rehearsal = recipe.rehearsal
    batches = Batches(stream, list(model.output))
    record = {"epoch": 0, "event_bytes": 0, "history": []}
    record |= {"seconds": 0.0, "cpu_seconds": 0.0, "data_seconds": 0.0}
    easier = [level for level in task.difficulties if level < recipe.curriculum_start]
    hardest = len(task.difficulties) - 1
    record["level"] = min(len(easier), hardest) if recipe.curriculum else None
    checkpoint = Checkpoint(place("backup", "state.npz"), record)
    checkpoint.restore(model)
    events = EventFile(place("logs"), record["event_bytes"])
    if not record["event_bytes"]:
        events.hparams(dataclasses.asdict(recipe))
    board = Board(events, task, record, recipe.epochs, recipe.steps, recipe.histograms)
    best = Best(place("backup", "best.npz"), task, record, recipe.validation_rows)
    try:
        model.fit(
            batches,
            epochs=recipe.epochs,
            initial_epoch=record["epoch"],
            shuffle=False,
            callbacks=[
                Curriculum(stream, record, recipe.curriculum),
                Noise(recipe.noise_from * recipe.epochs),
                best,
                Clock(batches, record),
                StopAtNaN(recipe.steps),
                board,
                checkpoint,
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except FloatingPointError as error:
        write_json(place("metrics.json"), {"failed": str(error), "seed": recipe.seed})
        raise

    best.restore(model)
    save(model, run_dir)
    metrics = {
        **evaluate(model, task, rows=recipe.evaluation_rows),
        **facts(recipe, record),
    }
    if recipe.figures:
        for name, figure in draw(model, task, place("figures")).items():
            events.figure(f"figures/{name}", figure, recipe.updates)
    events.close()
    write_json(place("history.json"), record["history"])
    write_json(place("metrics.json"), metrics)
    return metrics


def take_weights(model, start):
    """Gives the layers of a model the weights of layers of the same name in a `.keras` file.

    A name with a dot, `transducer.prediction`, is that of a layer within a layer.

    Raises:
        FileNotFoundError: there is no such file, or run.
        ValueError: no layer with weights has the name of another, or their shapes differ.
    """
    path = os.path.join(start, "model.keras") if os.path.isdir(start) else start
    there = {layer.name: layer for layer in read_model(path).layers if layer.weights}
    taken = {name: _layer(model, name) for name in there if _layer(model, name)}
    if not taken:
        names = [layer.name for layer in model.layers if layer.weights]
        raise ValueError(f"{path} has layers {sorted(there)}, and none of {sorted(names)}")
    for name, layer in taken.items():
        found = [w.shape for w in there[name].weights]
        expected = [w.shape for w in layer.weights]
        if found != expected:
            raise ValueError(
                f"the layer {name} needs weights of {expected}, and has {found} in {path}"
            )
        layer.set_weights(there[name].get_weights())


def _layer(model, name):
    """The layer of that name, with weights, or None."""
    first, *within = name.split(".")
    layer = {layer.name: layer for layer in model.layers if layer.weights}.get(first)
    for part in within:
        # What is in a wrapper, such as `WeightNoise`, has the wrapper's name.
        layer = getattr(getattr(layer, "layer", layer), part, None)
    return layer


def keep_freed_memory():
    """Has glibc keep what is freed instead of giving it back to the system.

    XLA allots the buffers of a step anew each time; where they come as fresh pages from the system,
    the page faults can take longer than the arithmetic (twice the time of a step was seen).
    """
    options = {"M_TRIM_THRESHOLD": -1, "M_TOP_PAD": -2, "M_MMAP_THRESHOLD": -3}
    sizes = {"M_TRIM_THRESHOLD": 2**31 - 1, "M_TOP_PAD": 2**28, "M_MMAP_THRESHOLD": 2**30}
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for name, option in options.items():
            library.mallopt(option, sizes[name])


@contextlib.contextmanager
def alone(run_dir):
    """Holds the run directory's lock, which the kernel frees however the holder ends."""
    path = os.path.join(run_dir, "backup", "lock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {run_dir}") from None
        yield


def compile_model(model, task, recipe):
    """Compiles with the task's losses and metrics, and those of the ponder where there is one."""
    loss = task.loss()
    metrics = {name: list(some) for name, some in task.metrics().items()}
    for name, function in loss.items():
        metrics.setdefault(name, []).append(MeanLoss(function))
    if "updates" in model.output:
        metrics["updates"] = [Ponder()]
        caps = [layer.max_ponder for layer in model.layers if hasattr(layer, "max_ponder")]
        metrics["updates"] += [AtCap(max(caps))] if caps else []
    model.compile(
        optimizer=recipe.make_optimizer(),
        loss=loss,
        metrics=metrics,
        jit_compile=recipe.jit_compile,
    )


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
    there = read_json(path)
    # A setting that is younger than the run had its default's effect.
    there["train"] = dataclasses.asdict(Recipe()) | there["train"]
    there, asked = flatten(there), flatten(config)
    differing = sorted(key for key in there | asked if there.get(key) != asked.get(key))
    if differing:
        pairs = [f"{k}: {there.get(k)!r} there, {asked.get(k)!r} asked" for k in differing]
        raise ValueError(
            f"{run_dir} holds another run ({'; '.join(pairs)}); choose another run_dir"
        )


def flatten(tree, prefix=""):
    """`{"a": {"b": 1}}` to `{"a.b": 1}`."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


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


def draw(model, task, directory):
    """Writes the task's figures as `directory/<name>.png`; returns them by name."""
    figures = task.figures(model) if hasattr(task, "figures") else {}
    for name, figure in figures.items():
        write_file(os.path.join(directory, f"{name}.png"), png(figure))
    return figures


def png(figure):
    """The content of a PNG file of a matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


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


def hardware(cores_used):
    """Model of the processor, cores used on average and there, and accelerators."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line[:10] == "model name"]
        name = (names or [name])[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = [d for d in keras.distribution.list_devices() if not d.lower().startswith("cpu")]
    return ", ".join([f"{name}, {cores_used:.1f} of {cores} cores", *devices])


def commit():
    """Commit that this code stands at, with `-dirty` where it was changed; None outside git."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        for command in (["ls-files", "--error-unmatch", "_fit.py"], ["describe", "--always"]):
            options = ["--dirty", "--abbrev=40", "--exclude=*"] if command[0] == "describe" else []
            done = subprocess.run(
                ["git", "-C", here, *command, *options], capture_output=True, text=True, check=True
            )
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
