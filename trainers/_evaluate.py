"""Measuring a model on a task: the error metrics, the ponder, and both against difficulty."""

import keras
import numpy as np

from ._metrics import AtCap, Ponder
from ._task import SPLITS


def evaluate(model, task, split="test", rows=10_000, batch_size=None, seed=0):
    """The metrics of a task on fresh rows of a split, `batch_size` or as many as suit it at once.

    Returns:
        Dict of floats: the task's metrics by name, and `ponder` and `at_cap` where the model gives
        `updates` (`at_cap` where a layer of it has a `max_ponder`).
    """
    batch_size = batch_size or task.evaluation_batch
    stream = task.dataset(split, batch_size, -(-rows // batch_size), seed)
    metrics = task.metrics()
    caps = [layer.max_ponder for layer in model.layers if hasattr(layer, "max_ponder")]
    for _, targets, outputs in _answers(model, (stream[i] for i in range(len(stream))), rows):
        if "updates" in outputs and "updates" not in metrics:
            metrics["updates"] = [Ponder()] + [AtCap(max(caps)) for _ in caps[:1]]
        _count(metrics, targets, outputs)
    return _read(metrics)


def sweep(model, task, rows=1000, batch_size=None, seed=0):
    """Error and ponder at every difficulty of a task.

    Returns:
        A list of dicts of plain numbers: `difficulty`, `rows`, the task's metrics by name, and
        where the model gives them `ponder` and `ponder_std` (mean and standard deviation of the
        updates N of the real steps) and `remainder` (mean R).
    """
    points, batch_size = [], batch_size or task.evaluation_batch
    for difficulty in task.difficulties:
        rng = np.random.default_rng([seed, SPLITS["test"], difficulty])
        batches = (
            task.batch(rng, batch_size, difficulty, "test") for _ in range(0, rows, batch_size)
        )
        metrics, updates, remainder = task.metrics(), [], []
        for _, targets, outputs in _answers(model, batches, rows):
            _count(metrics, targets, outputs)
            if "updates" in outputs:
                real = outputs["updates"] > 0
                updates.append(outputs["updates"][real])
                remainder.append(outputs.get("remainder", np.full(real.shape, np.nan))[real])
        point = {"difficulty": difficulty, "rows": rows, **_read(metrics)}
        if updates:
            steps = np.concatenate(updates).astype("float64")
            point["ponder"], point["ponder_std"] = float(steps.mean()), float(steps.std())
            point["remainder"] = float(np.concatenate(remainder).mean())
        points.append(point)
    return points


def _answers(model, batches, rows):
    """Yields `(inputs, targets, outputs)`; the model sees full batches, the last yield is cut."""
    for inputs, targets in batches:
        outputs = {k: np.asarray(v) for k, v in model.predict_on_batch(inputs).items()}
        yield tuple({k: v[:rows] for k, v in d.items()} for d in (inputs, targets, outputs))
        rows -= len(next(iter(inputs.values())))


def _count(metrics, targets, outputs):
    for name, some in metrics.items():
        for metric in some:
            metric.update_state(targets.get(name), outputs[name])


def _read(metrics):
    return {
        metric.name: float(keras.ops.convert_to_numpy(metric.result()))
        for some in metrics.values()
        for metric in some
    }
