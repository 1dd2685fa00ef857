"""The supervised training loop: model, task and recipe in, run directory out."""

import os

from ._files import alone, read_json
from ._recipe import Recipe
from ._run import claim
from .learning.supervised import train


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
