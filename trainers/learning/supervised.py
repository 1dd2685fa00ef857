"""Learning from examples, by Keras's own loop; a model may give its loss itself."""

import dataclasses
import sys
import time

import keras
import numpy as np

from ...layers import jit_in_graphs
from .. import _recipe
from .._callbacks import Best, Checkpoint, Clock, Noise, StopAtNaN
from .._evaluate import suited
from .._events import Board
from .._metrics import MeanLoss, OwnLoss
from .._process_group import ProcessGroup
from .._syllabus import Lessons
from .._task import NATS
from .._weights import begun

LOOKED_AT = 12  # batches, for shapes that differ


@dataclasses.dataclass(frozen=True)
class Recipe(_recipe.Recipe):
    """How a model learns from examples.

    Attributes:
        curriculum: error of an epoch under which the task, easiest at first, gets harder by one
            level; 0 for full difficulty from the start.
        curriculum_start: difficulty to begin with, where that is not the easiest.
        rehearsal: whether a curriculum goes on showing the levels that are behind, too.
        validation_rows: rows of the validation split that are measured after every epoch; the
            weights of the least error, the task's first metric, are those of the run. 0 measures
            nothing, and the last weights are those of the run.
        noise_from: share of the updates after which `WeightNoise` layers begin to make noise.
    """

    limits = {
        **_recipe.Recipe.limits,
        **dict.fromkeys(
            ("curriculum", "curriculum_start", "validation_rows"), _recipe.NOT_NEGATIVE
        ),
        "noise_from": _recipe.SHARE,
    }

    by_rows = True

    curriculum: float = 0.0
    curriculum_start: int = 0
    rehearsal: bool = True
    validation_rows: int = 0
    noise_from: float = 0.0

    def check(self, task):
        task.syllabus(self)


class Batches(keras.utils.PyDataset):
    """The stream of a task as a model takes it, with a clock.

    A model that takes chance gets a seed for every row, where the task gives none. Keras wants
    targets and outputs of one structure; an output without a target gets an idle one. Before an
    epoch begins, it takes the shapes of all batches from the first two; where rows have lengths,
    or shapes differ soon, the second one has a place more along every axis that the task leaves
    open. Of every batch it gives the rows that are a process's of its group.
    """

    def __init__(self, stream, model, group=None):
        super().__init__()
        self.group = group or ProcessGroup()
        self.stream, self.inputs, self.outputs = stream, list(model.input), list(model.output)
        self.epoch, self.seconds, self.begun = 0, 0.0, False

    def __len__(self):
        return len(self.stream)

    def on_epoch_begin(self):
        self.begun = True

    def __getitem__(self, index):
        batch = self._drawn(index)
        return self._wider(batch) if index and not self.begun else batch

    def _wider(self, batch):
        """A batch, with a place more along every axis left open, if shapes may differ."""
        specs = self.stream.task.input_spec, self.stream.task.target_spec
        if not any(None in shape for spec in specs for shape, _ in spec.values()):
            return batch
        if "lengths" not in specs[0]:
            shapes = _shapes(batch)
            if all(_shapes(self._drawn(index)) == shapes for index in range(LOOKED_AT)):
                return batch

        def wider(array, shape):
            return np.pad(array, [(0, 0), *((0, int(size is None)) for size in shape)])

        return tuple(
            {key: wider(x, spec[key][0]) if key in spec else x for key, x in part.items()}
            for part, spec in zip(batch, specs)
        )

    def _drawn(self, index):
        start = time.perf_counter()
        self.stream.epoch = self.epoch
        inputs, targets = self.stream[index]
        inputs = suited(inputs, self.inputs, *self.stream.path(index))
        idle = np.zeros((len(next(iter(inputs.values()))), 1), "float32")
        targets = {name: targets.get(name, idle) for name in self.outputs}
        self.seconds += time.perf_counter() - start
        return self.group.rows((inputs, targets))


def _shapes(batch):
    return [array.shape for array in keras.tree.flatten(batch)]


def train(build, task, recipe, run, learner=lambda model: model):
    """`fit` of a run that is not finished yet, which this process holds.

    `learner(model)` has the model's weights, and learns in its place.
    """
    model = begun(build, task, recipe, run)
    learner = learner(model)
    compile_model(learner, task, recipe, run.measures(model))
    run.group.train(learner)
    syllabus = task.syllabus(recipe)
    stream = task.dataset("train", recipe.batch_size, recipe.steps, recipe.seed)
    batches = Batches(stream, learner, run.group)
    checkpoint = Checkpoint(run, learner, syllabus)
    board = [Board(run, task, recipe)] if run.group.leads else []
    checkpoint.restore(recipe)
    best = Best(run, task, recipe.validation_rows if run.group.leads else 0)
    best.read()  # a damaged file is refused now, and not after days
    lessons = [Lessons(stream, syllabus, run.record["history"])] if syllabus else []
    jit = jit_in_graphs(recipe.jit_compile)
    try:
        learner.fit(
            batches,
            epochs=recipe.epochs,
            initial_epoch=run.record["epoch"],
            shuffle=False,
            callbacks=[
                *lessons,
                Noise(recipe.noise_from * recipe.epochs),
                best,
                Clock(batches, run.record),
                StopAtNaN(recipe.steps),
                *board,
                checkpoint,
            ],
            verbose=(1 if sys.stdout.isatty() else 2) if run.group.leads else 0,
        )
    except FloatingPointError as error:
        run.fail(recipe, error)
        raise
    else:
        best.restore(learner)
        return run.finish(model, task, recipe)
    finally:
        jit_in_graphs(jit)


def compile_model(model, task, recipe, measures):
    """Compiles with the losses and metrics of the task and of what the model tells of itself.

    Where the task has no loss, the model's own, its output `nats`, is what is learned.
    """
    loss = task.loss()
    metrics = {name: list(some) for name, some in task.metrics().items()}
    for name, function in loss.items():
        metrics.setdefault(name, []).append(MeanLoss(function))
    model.compile(
        optimizer=recipe.make_optimizer(),
        loss=loss or {NATS: OwnLoss()},
        metrics={**metrics, **measures},
        jit_compile=recipe.jit_compile,
    )
