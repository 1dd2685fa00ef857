"""What a model is shown, and when: a syllabus is asked for lessons and told how they went."""

from collections.abc import Callable
from typing import Any

import keras


class Syllabus:
    """Decides on lessons; a lesson is what `Task.batch` gets as difficulty.

    Attributes:
        state: dict of plain types, kept with the run, from which it goes on.
    """

    def __init__(self, **state):
        self.state = state

    def next(self, update):
        """The lesson of an update; None for the whole task."""
        raise NotImplementedError

    def report(self, before, after, cost):
        """Takes the error before and after a lesson (None where unknown), and what it took."""
        raise NotImplementedError

    def told(self):
        """Numbers by name that curves show of where it stands."""
        return {}


class Threshold(Syllabus):
    """Levels of difficulty, the easiest first; harder by one after an error below `error`.

    `state["level"]` is the place of the hardest level that is shown, None for the whole task.

    Args:
        levels: a task's `difficulties`.
        error: of the task's own unit, the first metric of its first output.
        start: level to begin with, where that is not the easiest.
        rehearsal: whether easier levels are shown as well.
    """

    def __init__(self, levels, error, start=0, rehearsal=True):
        first = min(sum(level < start for level in levels), len(levels) - 1)
        super().__init__(level=first)
        self.levels, self.error, self.rehearsal = levels, error, rehearsal

    def next(self, update):
        level = self.state["level"]
        if level is None:
            return None
        return self.levels[0 if self.rehearsal else level], self.levels[level]

    def report(self, before, after, cost):
        level = self.state["level"]
        if level is not None:
            level += after < self.error
            self.state["level"] = level if level < len(self.levels) - 1 else None

    def told(self):
        level = self.state["level"]
        return {"difficulty": self.levels[-1 if level is None else level]}


class Lessons(keras.callbacks.Callback):
    """Asks a syllabus before every epoch, and tells it the error of the epoch after that."""

    def __init__(self, stream, syllabus, history):
        super().__init__()
        self.stream, self.syllabus, self.history = stream, syllabus, history
        ((output, (error, *_)), *_) = stream.task.metrics().items()
        self.names = (f"{output}_{error.name}", error.name)

    def on_epoch_begin(self, epoch, logs=None):
        self.stream.lesson = self.syllabus.next(epoch * len(self.stream))

    def on_epoch_end(self, epoch, logs=None):
        logs |= self.syllabus.told()
        before = self._error(self.history[-1]) if self.history else None
        self.syllabus.report(before, self._error(logs), len(self.stream))

    def _error(self, logs):
        return next(logs[name] for name in self.names if name in logs)


class Curriculum(keras.callbacks.Callback):
    """Has a teacher choose a lesson for every epoch of `fit`, of whatever model.

    Progress is what the lesson did to the loss on a fresh batch of it: the self prediction gain of
    Graves et al. (2017).

    Args:
        teacher: a `Teacher`.
        show: called with a lesson, which the data are to be of from then on.
        probe: called with a lesson, gives a batch of it, `(x, y)`.

    Example:
        >>> model.fit(data, epochs=50, callbacks=[Curriculum(teacher, data.show, data.batch)])
    """

    def __init__(
        self,
        teacher: Syllabus,
        show: Callable[[Any], None],
        probe: Callable[[Any], tuple[Any, Any]],
    ) -> None:
        super().__init__()
        self.teacher, self.show, self.probe = teacher, show, probe

    def on_epoch_begin(self, epoch, logs=None):
        lesson = self.teacher.next(epoch)
        self.show(lesson)
        self._batch = self.probe(lesson)
        self._before = self._loss()

    def on_epoch_end(self, epoch, logs=None):
        self.teacher.report(self._before, self._loss(), self.params["steps"] or 1)

    def _loss(self):
        x, y = self._batch
        return self.model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
