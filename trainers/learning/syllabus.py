"""Learning by lessons that a teacher chooses: automated curricula (Graves et al., 2017)."""

import dataclasses
import os

import keras
import numpy as np
from keras import ops

from ...layers import AdaptiveWeightNoise
from ...layers import _backend as backend
from ...layers._base import sum_dtype
from .. import _recipe
from .._evaluate import lesson_errors, suited
from .._files import read_json, write_json
from .._playing import Stream, learn
from .._task import NATS
from .._teacher import Teacher
from .._weights import begun
from . import supervised

UNIFORM, TARGET = "uniform", "target"
PREDICTION_GAIN = "prediction_gain"
# Prediction gains on another batch, and of which lesson that is: of so many, after lesson `arm`.
ELSEWHERE = {
    "self_prediction_gain": lambda arm, lessons, rng: arm,
    "target_prediction_gain": lambda arm, lessons, rng: lessons - 1,
    "mean_prediction_gain": lambda arm, lessons, rng: int(rng.integers(lessons)),
}
# What grows with what was learnt, by what the update did to it.
GROWTH = {
    "l2_gain": lambda learner, weights: learner.growth(weights),
    "variational_complexity_gain": lambda learner, weights: learner.complexity_gain(weights),
}
# The same, and the prediction gain, as far as the gradient of the loss tells before the update.
BY_GRADIENT = {
    "gradient_prediction_gain": lambda learner, gradient: dot(gradient, gradient),
    "gradient_l2_gain": lambda learner, gradient: -dot(learner.values(), gradient),
    "gradient_variational_complexity_gain": lambda learner, gradient: (
        -dot(learner.gradient(learner.complexity)[1], gradient)
    ),
}
SIGNALS = (PREDICTION_GAIN, *ELSEWHERE, *GROWTH, *BY_GRADIENT, UNIFORM, TARGET)
TOLD = "syllabus.json"
FRESH = 2**32  # what is added to the seed of batches that are not learnt


@dataclasses.dataclass(frozen=True)
class Recipe(supervised.Recipe):
    """How a model learns from a teacher; as it stands, as in the paper.

    A lesson is one update. Its progress, divided by the steps of its longest row, pays the teacher
    (`Teacher`), who chooses the next one. What chance does to a batch, it does before and after.

    Attributes:
        signal: what counts as progress: what the loss of the batch loses by the update
            ("prediction_gain"), or that of another batch of the lesson, of the last lesson, or of
            any ("self_", "target_" and "mean_prediction_gain"); what the squared norm of the
            weights gains ("l2_gain"), or the complexity of `AdaptiveWeightNoise`
            ("variational_complexity_gain"); and with "gradient_" before the name what a step
            against the gradient of the batch promises of these. Or none: "uniform" gives all
            lessons alike, and "target" the last one alone.
        teacher_rate, exploration, teacher_bias: eta, epsilon and beta of the bandit.
        low_quantile, high_quantile: of past progress, where the teacher is paid -1 and 1.
        reservoir: how much past progress is kept.
        cumulative: whether a lesson has rows of all easier levels as well, where lessons are
            levels.
        weight_penalty: alpha; half of it times the squared norm of all weights is added to the
            loss.
        lesson_looks: how often the error of every lesson is measured.
        lesson_rows: on so many rows of each.
        solved: a lesson counts as solved below this error, of the task's first metric.
        validation_rows: rows of the whole task that are measured after every epoch; the last
            weights are those of the run.
    """

    limits = {
        **supervised.Recipe.limits,
        **dict.fromkeys(("lesson_looks", "lesson_rows", "reservoir"), _recipe.COUNT),
        **dict.fromkeys(("exploration", "low_quantile", "high_quantile"), _recipe.SHARE),
        **dict.fromkeys(("teacher_bias", "weight_penalty", "solved"), _recipe.NOT_NEGATIVE),
        "teacher_rate": _recipe.POSITIVE,
    }
    told_apart = (*supervised.Recipe.told_apart, "signal", "cumulative")
    by_rows = False
    captions = {
        "lessons": "At the end, and what it took until so many lessons were solved.",
        "syllabus": "How probable the teacher made every lesson, as the run went on.",
        "lesson_curves": "The error of every lesson, from the first one, light, to the last, dark.",
        "lessons_of_settings": "By the steps of all that was learnt, a line for every run.",
        "syllabus_of_settings": "How probable every lesson was, by the first seed.",
    }

    signal: str = PREDICTION_GAIN
    teacher_rate: float = 1e-3
    exploration: float = 0.05
    teacher_bias: float = 0.0
    low_quantile: float = 0.2
    high_quantile: float = 0.8
    reservoir: int = 10_000
    cumulative: bool = False
    weight_penalty: float = 0.0
    lesson_looks: int = 20
    lesson_rows: int = 100
    solved: float = 0.1
    validation_rows: int = 500

    def check(self, task):
        if self.signal not in SIGNALS:
            raise ValueError(f"signal must be one of {SIGNALS}, got {self.signal!r}")
        if len(task.lessons) < 2:
            raise ValueError(f"task {task.name} has no lessons that a teacher could choose from")
        for name in ("curriculum", "noise_from"):
            if getattr(self, name):
                raise ValueError(f"where a teacher chooses, {name} must be 0")
        self.lessons(task)
        self.teacher(task)

    def lessons(self, task):
        """The lessons of a task by name, as the recipe has them.

        Raises `ValueError` where they are to be cumulative, and are no levels.
        """
        if not self.cumulative:
            return task.lessons
        if not task.difficulties or task.grid:
            raise ValueError(f"the lessons of task {task.name} are no levels: cumulative must be 0")
        return {str(level): (task.difficulties[0], level) for level in task.difficulties}

    def teacher(self, task):
        """The `Teacher` of a task."""
        kind = LastLesson if self.signal == TARGET else Teacher
        return kind(
            self.lessons(task),
            self.teacher_rate,
            1.0 if self.signal == UNIFORM else self.exploration,
            self.teacher_bias,
            self.low_quantile,
            self.high_quantile,
            self.reservoir,
            self.seed,
        )

    def summary(self, metrics):
        names = (
            "solved",
            "error_of_lessons",
            "steps_until_half_of_lessons",
            "steps_until_last_lesson",
        )
        found = metrics.get("lessons", {})
        return {name: found[name] for name in names if name in found}

    def compared(self, kinds, task):
        """See `_recipe.Recipe`; what tells nothing of lessons does not count."""
        from ..figures.lessons import in_time, over_time

        found = {}
        for name, directories in kinds.items():
            paths = [os.path.join(directory, TOLD) for directory in directories]
            if told := [read_json(path) for path in paths if os.path.exists(path)]:
                found[name] = told
        if len(found) < 2:
            return {}
        curves = {
            name: [(np.interp(x["updates"], *_counted(x, self)), x["errors"]) for x in told]
            for name, told in found.items()
        }
        chances = {name: told[0]["probabilities"] for name, told in found.items()}
        names = next(iter(found.values()))[0]["names"]
        return {
            "lessons_of_settings": in_time(curves, self.solved, task),
            "syllabus_of_settings": over_time(chances, names, self.steps, task.axis),
        }


class LastLesson(Teacher):
    """Gives the last lesson alone."""

    @property
    def probabilities(self):
        return np.eye(len(self.lessons))[-1]


def dot(one, other):
    """The inner product of two lists of tensors."""
    pairs = [[ops.cast(x, sum_dtype(x.dtype)) for x in pair] for pair in zip(one, other)]
    return sum(ops.sum(a * b) for a, b in pairs)


class Learner(keras.Model):
    """A model with an update that tells its progress.

    Attributes:
        before, after: what progress lowers, before and after the last update; 0 where the recipe's
            signal is none.
    """

    def __init__(self, model, task, recipe):
        super().__init__()
        self.model, self.recipe, self.losses_of = model, recipe, task.loss()
        self.noisy = [x for x in model._flatten_layers() if isinstance(x, AdaptiveWeightNoise)]
        if "variational" in recipe.signal and not self.noisy:
            raise ValueError(f"{recipe.signal} needs a model with layers of AdaptiveWeightNoise")
        self.before, self.after, self._step = 0.0, 0.0, None

    def train_on_batch(self, batches):
        """The loss of a batch, which is learnt; beside it comes another one or None."""
        if self._step is None:
            variables = [*self.model.variables, *self.optimizer.variables]
            self._step = backend.updating(self._update, variables, self.jit_compile)
        loss, self.before, self.after = (float(x) for x in self._step(*batches))
        return loss

    def _update(self, batch, other):
        signal, chance = self.recipe.signal, self._chance()
        before = after = ops.zeros(())
        if other is not None:
            before = self._again(other, chance)
        weights = self.values()
        loss, gradient = self.gradient(lambda: self._loss(batch))
        if signal in BY_GRADIENT:
            before = BY_GRADIENT[signal](self, gradient)
        steps = gradient
        if self.noisy or self.recipe.weight_penalty:
            steps = [a + b for a, b in zip(gradient, self.gradient(self._cost)[1])]
        self.optimizer.apply(steps, self.model.trainable_variables)
        if other is not None:
            after = self._again(other, chance)
        elif signal in GROWTH:
            before = GROWTH[signal](self, weights)
        elif signal == PREDICTION_GAIN:
            before, after = loss, self._again(batch, chance)
        return loss, before, after

    def _loss(self, batch):
        """What the model is to lower, without what its weights cost."""
        inputs, targets = batch
        outputs = self.model(inputs, training=True)
        parts = [loss(targets[name], outputs[name]) for name, loss in self.losses_of.items()]
        if not parts:
            parts = [ops.mean(outputs[NATS])]
        return sum(parts) + sum(self.model.losses) - self._shares()

    def _again(self, batch, chance):
        """The loss of a batch by a chance that was, and after which all is as it was before."""
        now = self._chance()
        self._give(chance)
        loss = self._loss(batch)
        self._give(now)
        return loss

    def _chance(self):
        """All that changes whenever the model is trained, beside its weights."""
        return [backend.value(v) for v in self.model.non_trainable_variables]

    def _give(self, chance):
        for variable, value in zip(self.model.non_trainable_variables, chance):
            variable.assign(value)

    def gradient(self, function):
        """What a function gives, and its gradient by the weights."""
        model = self.model
        return backend.value_and_gradients(
            function, model.trainable_variables, model.non_trainable_variables
        )

    def values(self):
        """The weights as tensors."""
        return [backend.value(v) for v in self.model.trainable_variables]

    def growth(self, weights):
        """By what the squared norm of the weights is larger than it was."""
        now = self.values()
        return dot(
            [a - b for a, b in zip(now, weights)],
            [a + b for a, b in zip(now, weights)],
        )

    def complexity(self):
        """What the weights cost, in nats."""
        return sum(layer.complexity() for layer in self.noisy)

    def complexity_gain(self, weights):
        """By what the complexity is more than it was with other weights."""
        with keras.StatelessScope([*zip(self.model.trainable_variables, weights)]):
            before = [layer.posterior for layer in self.noisy]
        return sum(layer.complexity_gain(then) for layer, then in zip(self.noisy, before))

    def _shares(self):
        """What of that is the share of an example, as the layers add it to the loss."""
        return sum(backend.value(x.active) * x.complexity() / x.examples for x in self.noisy)

    def _cost(self):
        """What is added to the loss because of the weights alone."""
        values = self.values()
        return self._shares() + self.recipe.weight_penalty / 2 * dot(values, values)


class Lessons(Stream):
    """Batches of the lessons that a teacher chooses.

    Beside each comes another one, fresh, where progress is measured on that, or None.

    Attributes:
        cost: steps of the longest row of the last batch.
        curves: what is kept of the run: `probabilities` and `steps`, those of all lessons so far,
            after every epoch; `errors`, of every lesson, and `updates`, whenever they are measured.
    """

    def __init__(self, model, task, recipe, run):
        super().__init__(model, task, recipe, run)
        self.teacher = recipe.teacher(task)
        self.lessons = list(recipe.lessons(task).values())
        self.names = list(recipe.lessons(task))
        self.streams = {
            seed: task.dataset("train", recipe.batch_size, recipe.steps, seed)
            for seed in (recipe.seed, recipe.seed + FRESH)
        }
        self.cost, self.steps = 1, 0
        self.curves = {
            "probabilities": np.zeros((0, len(self.names))),
            "steps": np.zeros(0),
            "errors": np.zeros((0, len(self.names))),
            "updates": np.zeros(0),
        }

    def __getitem__(self, index):
        recipe, arm, other = self.recipe, self.teacher.arm, None
        batch = self._drawn(recipe.seed, arm, index)
        if recipe.signal in ELSEWHERE:
            rng = np.random.default_rng([recipe.seed + FRESH, self.update(index)])
            place = ELSEWHERE[recipe.signal](arm, len(self.lessons), rng)
            other = self._drawn(recipe.seed + FRESH, place, index)
        self.cost = self.task.duration(batch[0])
        return batch, other

    def _drawn(self, seed, arm, index):
        stream = self.streams[seed]
        stream.epoch, stream.lesson = self.epoch, self.lessons[arm]
        inputs, targets = stream[index]
        return suited(inputs, list(self.model.input), *stream.path(index)), targets

    def report(self, before, after):
        """Tells the teacher what came of the last batch."""
        self.steps += self.cost
        self.teacher.report(before, after, self.cost)

    def begin(self, arrays):
        if arrays:
            self.teacher.state = self.run.record["syllabus"]
            self.curves = {name: arrays[name] for name in self.curves}
            self.steps = int(self.curves["steps"][-1])

    def save(self, variables):
        self.run.record["syllabus"] = self.teacher.state
        self.run.save(variables, self.curves)

    def logs(self):
        done, told = self.epoch + 1, self.teacher.told()
        self._keep(probabilities=self.teacher.probabilities, steps=self.steps)
        if self.recipe.due(done, self.recipe.lesson_looks):
            errors = lesson_errors(self.model, self.task, self.lessons, self.recipe.lesson_rows)
            self._keep(errors=errors, updates=done * len(self))
            told |= {"solved": int((errors < self.recipe.solved).sum())}
        if self.recipe.due(done, self.recipe.histograms):
            # A histogram of lessons that were chosen, by their numbers.
            chosen = self.teacher.probabilities.cumsum().searchsorted(
                np.linspace(0, 1, 1000, False)
            )
            self.run.events.histogram("lessons", chosen.astype("float64"), done * len(self))
        return {"steps": self.steps, **told}

    def _keep(self, **rows):
        for name, row in rows.items():
            self.curves[name] = np.concatenate([self.curves[name], np.asarray(row)[None]])

    def measured(self):
        """What became of the lessons: plain numbers.

        `solved` of so many, and of those that were at some look, the updates and the steps until
        half of all, all, and the last one were solved.
        """
        steps = np.interp(self.curves["updates"], *_counted(self.curves, self.recipe))
        solved = self.curves["errors"] < self.recipe.solved
        found = {
            "lessons": len(self.names),
            "solved": int(solved[-1].sum()),
            "error_of_lessons": float(self.curves["errors"][-1].mean()),
        }
        reached = {
            "half_of_lessons": 2 * solved.sum(axis=1) >= len(self.names),
            "all_lessons": solved.all(axis=1),
            "last_lesson": solved[:, -1],
        }
        for name, when in reached.items():
            if when.any():
                found[f"updates_until_{name}"] = int(self.curves["updates"][when.argmax()])
                found[f"steps_until_{name}"] = int(steps[when.argmax()])
        return found


def train(build, task, recipe, run):
    """`fit` of a run that is not finished yet, which this process holds."""
    from ..figures.lessons import lesson_curves, syllabus

    model = begun(build, task, recipe, run)
    learner, lessons = Learner(model, task, recipe), Lessons(model, task, recipe, run)
    learn(
        learner,
        lessons,
        model,
        task,
        recipe,
        run,
        after=lambda update: lessons.report(learner.before, learner.after),
    )
    told = {name: x.tolist() for name, x in lessons.curves.items()}
    write_json(run.place(TOLD), {"names": lessons.names, **told})
    figures = {
        "syllabus": syllabus(lessons.names, lessons.curves, recipe.steps, task),
        "lesson_curves": lesson_curves(lessons.names, lessons.curves, recipe.solved, task),
    }
    return run.finish(model, task, recipe, {"lessons": lessons.measured()}, figures)


def _counted(told, recipe):
    """Updates and steps after every epoch."""
    return recipe.steps * np.arange(1, len(told["steps"]) + 1), told["steps"]
