"""The loop of ways of learning in which a model plays what it learns of."""

import numpy as np

from ..layers import jit_in_graphs
from ._callbacks import Clock, StopAtNaN, averaged
from ._events import Board


def learn(learner, stream, model, task, recipe, run, after=lambda update: None):
    """Learns what a stream plays, epoch by epoch, from where a run stands.

    At the end the weights are their running averages, where the recipe has any.

    Args:
        learner: `keras.Model` that makes the loss of what the stream gives.
        stream: `stream[index]`, what is learnt of, and `len(stream)` of an epoch; `epoch` and
            `seconds`, as `Clock` has them; `returns`, a list of those of the games that have ended;
            `begin(arrays)` and `save(variables)`, its share of the run's state; `logs()`.
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
                loss = learner.train_on_batch(stream[index])
                guard.on_train_batch_end(index, {"loss": loss})
                after(epoch * recipe.steps + index)
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
