"""The door to training: model, task and recipe in, run directory out."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from . import _rooms
from ._evaluate import nothing
from ._process_group import ProcessGroup
from ._recipe import Recipe
from ._run import FollowedRun, Run
from ._task import Task


def fit(
    build: Callable[[], keras.Model],
    task: Task,
    recipe: Mapping[str, Any],
    run_dir: str | os.PathLike,
    description: Mapping[str, Any] | None = None,
    find: Callable[[str], str] = os.fspath,
    measures: Callable[[keras.Model], dict[str, list]] = nothing,
    group: ProcessGroup | None = None,
) -> dict[str, Any]:
    """Trains a model and fills its run directory; a run that was killed goes on where it stood.

    A resumed run ends with the same weights, bit for bit, as one that was never interrupted.

    Args:
        build: gives the untrained `keras.Model`, whose outputs are a dict.
        task: a `Task`.
        recipe: dict with the fields of a `Recipe`, values as such or as text; `learning` names the
            way of learning, a file of `learning/`.
        run_dir: where `config.json`, `logs/`, `backup/`, `figures/`, `model.keras`,
            `history.json` and `metrics.json` go.
        description: dict of plain types for `config.json`: "entry" and "config" of the model; and
            "defaults", which the settings of a model have in a run that is older than they are.
        find: gives the path of what a recipe's `start` names.
        measures: `measures(model)` gives metrics of what a model tells of itself, lists by the
            names of outputs.
        group: the processes that train the run together, each of which calls this with a
            `ProcessGroup` of its own; None for this one alone.

    Returns:
        The metrics, as in `metrics.json`. A finished run returns them at once.

    Raises:
        ValueError: for a bad recipe, one that does not suit the task, for a damaged file, and for
            a `run_dir` that holds a run with another configuration or that another process is
            training in.
        OSError: a file cannot be read or written.
        FloatingPointError: where the loss stops being a number.

    Where another process of the group is gone, this one says so and ends.
    """
    recipe = Recipe.parse(recipe)
    recipe.check(task)
    group = group or ProcessGroup()
    group.check(recipe)
    way = _rooms.find(f"{__package__}.learning", recipe.learning, "way of learning")
    kind, rest = Run if group.leads else FollowedRun, {"find": find, "measures": measures}
    held = kind.hold(run_dir, task, recipe, description or {}, group=group, **rest)
    with group.joined(), held as run:
        there = group.share({"asked": run.asked, "finished": run.finished})
        run.follow(there["asked"])
        return there["finished"] or group.share(way.train(build, task, recipe, run))
