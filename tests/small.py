"""Entries at the size of tests."""

from ponderzoo import zoo


def small_task(name, **changes):
    """An entry's task, small."""
    entry = zoo.info(name)
    return zoo.task_of(entry, **{**entry.small_task, **changes})


def small_model(name, task=None, **changes):
    """An entry's model, small and untrained, of a task or of the small one of its own."""
    entry = zoo.info(name)
    return entry.build(task or small_task(name), **{**entry.config, **entry.small, **changes})
