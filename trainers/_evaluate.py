"""Measuring a model on a task: once, for the run, its card and its pictures."""

import keras
import numpy as np

from ._task import SPLITS, seeds


def nothing(model):
    """The measures of a model that tells nothing of itself."""
    return {}


def measure(model, task, rows=10_000, measures=nothing):
    """All numbers and pictures of a model on the test split of a task.

    Returns:
        The metrics of `task.measure` with `parameters`, the task's `report` and, where there are
        levels of difficulty, `difficulty`, as `difficulty_sweep` has it; and matplotlib figures by
        name: the task's own, and `difficulty`.
    """
    metrics = task.measure(model, "test", rows, measures)
    metrics |= {"parameters": model.count_params(), **task.report(model)}
    if task.difficulties:
        metrics["difficulty"] = difficulty_sweep(model, task, min(rows, 1000), measures=measures)
    return metrics, figures_of(model, task, measures, metrics.get("difficulty"))


def figures_of(model, task, measures=nothing, sweep=None):
    """The task's own figures and, of tasks with levels, that of the sweep of difficulty."""
    figures = task.figures(model)
    if task.difficulties:
        sweep = sweep or difficulty_sweep(model, task, measures=measures)
        figures["difficulty"] = drawn_difficulty({"": sweep}, task, words_of(measures(model)))
    return figures


def drawn_difficulty(sweeps, task, words):
    """The figure of difficulty sweeps by the names of models; the first metric is the error."""
    from .figures.curves import difficulty

    return difficulty(sweeps, task.axis, task.measured[0], words)


def words_of(measures):
    """What cards and pictures call measures, by their names."""
    return {metric.name: metric.words for some in measures.values() for metric in some}


def evaluate(model, task, split="test", rows=10_000, batch_size=None, seed=0, measures=nothing):
    """The metrics of a task on fresh rows of a split, `batch_size` or as many as suit it at once.

    Returns:
        Dict of floats: the task's metrics by name, then those of `measures(model)`.
    """
    batch_size = batch_size or task.evaluation_batch
    stream = task.dataset(split, batch_size, -(-rows // batch_size), seed)
    metrics = {**task.metrics(), **measures(model)}
    for _, targets, outputs in answers(model, (stream[i] for i in range(len(stream))), rows):
        count(metrics, targets, outputs)
    return read(metrics)


def difficulty_sweep(model, task, rows=1000, batch_size=None, seed=0, measures=nothing):
    """What `evaluate` gives, at every difficulty of a task.

    Returns:
        A list of dicts of plain numbers: `difficulty`, `rows`, the metrics by name, and for a
        measure that is a mean over `values` their standard deviation as `<name>_std`.
    """
    points, batch_size = [], batch_size or task.evaluation_batch
    for difficulty in task.difficulties:
        rng = np.random.default_rng([seed, SPLITS["test"], difficulty])
        batches = (
            task.batch(rng, batch_size, difficulty, "test") for _ in range(0, rows, batch_size)
        )
        own = measures(model)
        metrics, values = {**task.metrics(), **own}, {}
        for _, targets, outputs in answers(model, batches, rows):
            count(metrics, targets, outputs)
            for metric, found in values_of(own, outputs):
                values.setdefault(metric.name, []).append(found)
        spread = {
            f"{name}_std": float(np.concatenate(found).astype("float64").std())
            for name, found in values.items()
        }
        points.append({"difficulty": difficulty, "rows": rows, **read(metrics), **spread})
    return points


def lesson_errors(model, task, lessons, rows=100, seed=0):
    """The task's first metric on fresh rows of every lesson, `(lessons,)`."""
    errors, size = [], min(rows, task.evaluation_batch)
    for number, lesson in enumerate(lessons):
        rng = np.random.default_rng([seed, SPLITS["validation"], number])
        batches = (task.batch(rng, size, lesson, "validation") for _ in range(0, rows, size))
        metrics = task.metrics()
        for _, targets, outputs in answers(model, batches, rows):
            count(metrics, targets, outputs)
        errors.append(next(iter(read(metrics).values())))
    return np.array(errors)


def outputs_of(model, inputs, seed=0):
    """The outputs of a model for a batch, a dict of numpy arrays.

    A Keras model gets what `asked` says.
    """
    inputs = asked(model, inputs, seed)
    return {name: np.asarray(value) for name, value in model.predict_on_batch(inputs).items()}


def asked(model, inputs, seed=0):
    """What a model is asked with, by name.

    A Keras model gets those of the inputs that it has; where it takes chance, `seed`, and the
    inputs have none, the rows get seeds that `seed` decides; and where it keeps a state that they
    do not have, it begins anew.
    """
    if not isinstance(model, keras.Model):
        return inputs
    inputs = {**no_state(model, len(next(iter(inputs.values())))), **inputs}
    return suited(inputs, model.input, seed)


def no_state(model, rows):
    """What a model begins with that keeps a state: zeros for each of its inputs that it puts out.

    Such a model takes a step, `(batch, ...)`, and gives for the next one what it gets here.
    """
    inputs, outputs = (getattr(model, name, None) for name in ("input", "output"))
    if not (isinstance(inputs, dict) and isinstance(outputs, dict)):
        return {}
    shapes = {name: tuple(x.shape[1:]) for name, x in inputs.items() if name in outputs}
    known = {name: shape for name, shape in shapes.items() if None not in shape}
    return {name: np.zeros((rows, *shape), "float32") for name, shape in known.items()}


def telling(model, *names):
    """A model that computes no more of its outputs than those of `names` that it has."""
    if not isinstance(model, keras.Model):
        return model
    return keras.Model(model.input, {x: model.output[x] for x in names if x in model.output})


def suited(inputs, names, *seed):
    """Those of the inputs that have one of `names`, with seeds where chance is asked for."""
    if "seed" in names and "seed" not in inputs:
        inputs = {**inputs, "seed": seeds(len(next(iter(inputs.values()))), *seed)}
    return {name: value for name, value in inputs.items() if name in names}


def answers(model, batches, rows):
    """Yields `(inputs, targets, outputs)`; the model sees full batches, the last yield is cut."""
    for number, (inputs, targets) in enumerate(batches):
        outputs = outputs_of(model, inputs, number)
        yield tuple({k: v[:rows] for k, v in d.items()} for d in (inputs, targets, outputs))
        rows -= len(next(iter(inputs.values())))


def count(metrics, targets, outputs):
    """Updates metrics, lists by the name of an output."""
    for name, some in metrics.items():
        for metric in some:
            metric.update_state(targets.get(name), outputs[name])


def read(metrics):
    """The results of metrics as floats by their names."""
    return {
        metric.name: float(keras.ops.convert_to_numpy(metric.result()))
        for some in metrics.values()
        for metric in some
    }


def values_of(measures, outputs):
    """Pairs of a measure and the numbers that it is the mean of, where it says which those are."""
    for name, some in measures.items():
        for metric in some:
            if metric.values:
                yield metric, metric.values(outputs[name])
