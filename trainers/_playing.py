"""The loop of ways of learning in which a model plays what it learns of."""

import contextlib
import time

import numpy as np

from ..layers import jit_in_graphs
from ._callbacks import Clock, StopAtNaN, averaged
from ._events import Board


class Stream:
    """What is learnt of: `stream[index]` of an epoch, as games are played or lessons chosen.

    All chance depends on the recipe's seed and on what was played, or updated, before.

    Attributes:
        epoch: set by the trainer.
        seconds: what batches and numbers took since they were set to 0.
        returns: of the games that have ended since they were taken away.
    """

    def __init__(self, model, task, recipe, run):
        self.model, self.task, self.recipe, self.run = model, task, recipe, run
        self.epoch, self.seconds, self.returns = 0, 0.0, []

    def __len__(self):
        return self.recipe.steps

    def __getitem__(self, index):
        raise NotImplementedError

    def begin(self, arrays):
        """Goes on from the arrays that were saved, or begins where there are none."""
        raise NotImplementedError

    def save(self, variables):
        """Keeps all that it takes to go on from here."""
        raise NotImplementedError

    def logs(self):
        """Plain numbers of an epoch."""
        return {}

    def update(self, index):
        """The number of an update of this epoch, counted from the first."""
        return self.epoch * len(self) + index

    def chance(self, *what):
        return np.random.default_rng([self.recipe.seed, *what])

    @contextlib.contextmanager
    def timed(self):
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


def learn(learner, stream, model, task, recipe, run, after=lambda update: None):
    """Learns what a stream plays, epoch by epoch, from where a run stands.

    At the end the weights are their running averages, where the recipe has any.

    Args:
        learner: `keras.Model` that makes the loss of what the stream gives.
        stream: `Stream`, what is learnt of.
        model: which is measured.
        task: an `Acting` task.
        recipe: with `validation_rows`.
        run: `Run`, which this process holds.
        after: called with the number of an update behind it.

    Raises:
        FloatingPointError: the loss is no number any more.
    """
    learner.compile(recipe.make_optimizer(), jit_compile=recipe.jit_compile)
    learner.optimizer.build(learner.trainable_variables)
    variables = [*learner.variables, *learner.optimizer.variables]
    clock, guard = Clock(stream, run.record), StopAtNaN(recipe.steps)
    board = Board(run, task, recipe)
    board.set_model(model)
    stream.begin(run.begin(recipe, variables))
    board.on_train_begin()
    jit = jit_in_graphs(recipe.jit_compile)
    try:
        for epoch in range(run.record["epoch"], recipe.epochs):
            clock.on_epoch_begin(epoch)
            guard.on_epoch_begin(epoch)
            learner.reset_metrics()
            for index in range(recipe.steps):
                with stream.timed():
                    batch = stream[index]
                loss = learner.train_on_batch(batch)
                guard.on_train_batch_end(index, {"loss": loss})
                after(stream.update(index))
            with stream.timed():
                logs = {"loss": float(loss), **stream.logs(), **_gained(stream)}
            if recipe.validation_rows:
                with averaged(learner):
                    found = task.measure(model, "validation", recipe.validation_rows, run.measures)
                logs |= {f"validation_{name}": value for name, value in found.items()}
            clock.on_epoch_end(epoch, logs)
            board.on_epoch_end(epoch, logs)
            stream.save(variables)
            told = "  ".join(f"{name} {value:.4g}" for name, value in logs.items())
            print(f"update {(epoch + 1) * recipe.steps}  {told}", flush=True)
        learner.optimizer.finalize_variable_values(learner.trainable_variables)
    except FloatingPointError as error:
        run.fail(recipe, error)
        raise
    finally:
        jit_in_graphs(jit)


def _gained(stream):
    """The mean return of the games that have ended in an epoch, where there are any."""
    gained, stream.returns = stream.returns, []
    return {"mean_return": float(np.mean(gained))} if gained else {}
