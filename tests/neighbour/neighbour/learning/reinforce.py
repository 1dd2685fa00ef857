"""REINFORCE (Williams, 1992) with the mean of recent returns as baseline."""

import dataclasses
import time

import keras
import numpy as np
from ponderzoo.trainers import _recipe


@dataclasses.dataclass(frozen=True)
class Recipe(_recipe.Recipe):
    """How an agent learns.

    Attributes:
        recent: how many of the last returns the baseline is the mean of.
    """

    recent: int = 200


def train(build, task, recipe, run):
    """Plays `batch_size` games an update; the state of a run has the recent returns besides."""
    keras.utils.set_random_seed(recipe.seed)
    model = build()
    model.compile(
        optimizer=recipe.make_optimizer(),
        loss={"policy": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        jit_compile=recipe.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    recent = run.begin(recipe, variables).get("recent", np.zeros(recipe.recent))
    record = run.record
    while record["epoch"] < recipe.epochs:
        start = time.perf_counter(), time.process_time()
        returns = []
        for update in range(record["epoch"] * recipe.steps, (record["epoch"] + 1) * recipe.steps):
            seen, moved, gained = play(model, task, recipe, update)
            advantage = np.repeat(gained - recent.mean(), len(moved) // len(gained))
            model.train_on_batch(
                {"field": seen}, {"policy": moved}, sample_weight={"policy": advantage}
            )
            recent = np.concatenate([recent, gained])[-recipe.recent :]
            returns.append(gained.mean())
        record["epoch"] += 1
        seconds = time.perf_counter() - start[0]
        record["seconds"] += seconds
        record["cpu_seconds"] += time.process_time() - start[1]
        logs = {"mean_return": float(np.mean(returns))}
        updates = record["epoch"] * recipe.steps
        record["history"].append({"updates": updates, "seconds": seconds, **logs})
        run.events.scalar("mean_return", logs["mean_return"], updates)
        run.save(variables, {"recent": recent})
    return run.finish(model, task, recipe)


def play(model, task, recipe, update):
    """Fields and moves of whole games, one game after the other, and the games' returns."""
    rng = np.random.default_rng([recipe.seed, update])
    state = task.start(rng, recipe.batch_size)
    field, done = task.observation(state), np.zeros(len(state), bool)
    fields, moves, gained = [], [], np.zeros(len(state))
    while not done.all():
        policy = np.asarray(model.predict_on_batch({"field": field})["policy"], "float64")
        noise = rng.gumbel(size=policy.shape)
        fields.append(field)
        moves.append((policy + noise).argmax(axis=-1))
        state, field, reward, done = task.step(state, moves[-1], rng)
        gained += reward
    ordered = (np.stack(x, axis=1).reshape(-1, *x[0].shape[1:]) for x in (fields, moves))
    return *ordered, gained
