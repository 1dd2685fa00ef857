"""Learning from running text, whose states go on from batch to batch and whose gradients end."""

import dataclasses

from .._state import Stateful
from . import supervised


@dataclasses.dataclass(frozen=True)
class Recipe(supervised.Recipe):
    """How a model learns from examples of which each goes on with the one before."""

    by_rows = False  # states of rows are part of the run's state

    def check(self, task):
        super().check(task)
        if not task.continues:
            raise ValueError(
                f"the rows of the task {task.name} do not go on with those of the batch before: "
                'learning must be "supervised"'
            )


def train(build, task, recipe, run):
    """`fit` of a run that is not finished yet; see `supervised.train`."""
    return supervised.train(build, task, recipe, run, lambda m: Stateful(m, recipe.batch_size))
