"""Learning from examples: model, task and recipe in, run directory out."""

import dataclasses
import os
import sys
import time

import keras
import numpy as np

from .._callbacks import Best, Checkpoint, Clock, Noise, StopAtNaN
from .._evaluate import evaluate
from .._events import Board, EventFile
from .._files import write_json
from .._machine import keep_freed_memory
from .._metrics import AtCap, MeanLoss, Ponder
from .._run import draw, facts, save
from .._syllabus import Curriculum
from .._weights import take_weights


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
