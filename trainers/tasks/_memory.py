"""What the five tasks of the NTM paper share (Graves, Wayne and Danihelka, 2014, section 4)."""

import numpy as np

from .._describe import verdict
from .._evaluate import answers, count, outputs_of, read
from .._metrics import BitsPerSequence, SequenceError, TargetError
from .._task import SPLITS, Task

NOT_SCORED = -1.0


class MemoryTask(Task):
    """Binary vectors in, binary vectors out, some steps later.

    Inputs: `sequence`, `(batch, time, channels)` float32, bits 0 and 1 and the task's own channels;
    `lengths`, `(batch,)` int32, the steps of the row with those of the answer. Targets: `bits`,
    `(batch, time, outputs)` float32, 0, 1, or -1 at every step that is not the answer. The model
    output `bits` is the logit of 1, of the shape of the targets.

    A model may also give `read_weights` and `write_weights`, `(batch, time, slots)` or `(batch,
    time, heads, slots)`, and `reads` and `adds`, with the word in the place of the slots; then the
    figures show how it uses its memory.

    Subclasses provide
      `channels`, `outputs`    width of an input and of a target.
      `draw(rng, **counts)`    rows of given counts, each `(batch,)`, also beyond the task's own.
      `lay(...)`               rows of given contents, where people may write them.
      `typical`                dict, the counts of the row whose use of the memory is drawn.
      `beyond`                 dict, what is counted, in words -> (the most of it in training, where
                               that is a range, else None; dict: number of it -> the counts of
                               `draw`): the sweeps of `generalise`.
      `pictures(model, rows)`  figures by name.
    """

    typical = {}
    beyond = {}
    captions = {
        "generalisation": "Cost and errors within the range of training and beyond it; the picture "
        "marks where training ends.",
        "memory_use": "One row of the task, step by step: what comes in and is answered, the "
        "vectors added and read, and where the heads write and read.",
        "copies": "Targets above answers, the probability of 1, for sequences of rising length.",
        "repeats": "Targets above answers, the probability of 1, as trained and beyond.",
        "recalled": "Targets above answers, the probability of 1, for more and more items.",
        "sorted": "Inputs, targets and answers of one row.",
        "predictions": "The probability of 1 at every bit, beside that of the best estimator.",
    }

    @property
    def channels(self):
        """Width of an input."""
        raise NotImplementedError

    @property
    def outputs(self):
        """Width of a target."""
        raise NotImplementedError

    @property
    def input_spec(self):
        return {"sequence": ((None, self.channels), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"bits": ((None, self.outputs), "float32")}

    def metrics(self):
        return {"bits": [BitsPerSequence(), TargetError(), SequenceError()]}

    def draw(self, rng, **counts):
        """`(inputs, targets)` as `batch` gives them, padded to the longest row."""
        raise NotImplementedError

    def pictures(self, model, rows):
        """Matplotlib figures by name."""
        raise NotImplementedError

    def figures(self, model, rows=100):
        """The task's pictures; `generalisation`; `memory_use`, where a model gives weightings."""
        from ..figures.memory import against, memory_use, scored, uses_memory

        figures = self.pictures(model, rows)
        if self.beyond:
            trained = {axis: most for axis, (most, _) in self.beyond.items() if most}
            figures["generalisation"] = against(generalise(model, self, rows), trained)
        inputs, targets, outputs = example(model, self, **self.typical)
        if uses_memory(outputs):
            outputs["bits"] = scored(targets["bits"], outputs["bits"])
            figures["memory_use"] = memory_use(inputs["sequence"], outputs)
        return figures

    def report(self, model, rows=1000):
        """`generalisation`, cost and errors within the range of training and beyond it."""
        return {
            "generalisation": {
                f"{point['x']} {axis}": {k: v for k, v in point.items() if k != "x"}
                for axis, points in generalise(model, self, rows).items()
                for point in points
            }
        }


def widened(vectors, channels):
    """Vectors `(batch, most, width)` with so many channels, float32, 0 on those that are new."""
    more = channels - vectors.shape[-1]
    return np.pad(np.asarray(vectors, "float32"), ((0, 0), (0, 0), (0, more)))


def lay(vectors, first, count, steps, fill=0.0, period=None):
    """Vectors in their places in time.

    Args:
        vectors: `(batch, most, width)`.
        first: `(batch,)`, the step of the first vector.
        count: `(batch,)`, how many follow from there.
        steps: length of the result.
        fill: what stands at all other steps.
        period: `(batch,)`, after how many vectors they begin again.

    Returns:
        `(batch, steps, width)` float32.
    """
    index = np.arange(steps) - first[:, None]
    there = (index >= 0) & (index < count[:, None])
    index = index.clip(0) % period[:, None] if period is not None else index
    index = index.clip(0, vectors.shape[1] - 1)
    laid = vectors[np.arange(len(vectors))[:, None], index]
    return np.where(there[..., None], laid, np.float32(fill)).astype("float32")


def flag(sequence, channel, step, value=1.0):
    """Sets one channel of every row at one step of its own, in place."""
    sequence[np.arange(len(sequence)), step, channel] = value


def costs(target, logits, keep=1):
    """Cross-entropy in bits, summed over the scored targets of each row, `(batch,)` float64.

    `keep` is the number of axes that are not summed over.
    """
    target, logits = np.asarray(target, "float64"), np.asarray(logits, "float64")
    bits = np.logaddexp(0, np.where(target > 0, -logits, logits)) / np.log(2)
    return np.where(target >= 0, bits, 0).sum(axis=tuple(range(keep, target.ndim)))


def probability_of_one(logits):
    """The sigmoid, without overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(logits, "float64") / 2))


def counted(count, noun):
    """`1 item`, `2 items`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def words(bits):
    """Vectors `(count, width)` of bits or logits in hexadecimal, the first bit the highest."""
    width = bits.shape[-1]
    numbers = (bits > 0) @ (1 << np.arange(width - 1, -1, -1))
    return [f"{number:0{-(-width // 4)}x}" for number in numbers]


def marked(targets, outputs, row):
    """` (3 of 160 wrong), 4.20 bits` for a row; nothing where the targets are not known."""
    if not targets:
        return ""
    target, logits = targets["bits"][row], outputs["bits"][row]
    scored = target >= 0
    wrong = scored & ((logits > 0) != (target > 0))
    cost = costs(target[None], logits[None])[0]
    return f"{verdict(wrong.sum(), scored.sum())}, {cost:.2f} bits"


def generalise(model, task, rows=100, batch_size=50, seed=0):
    """Cost and errors of a model at the counts of `task.beyond`.

    Returns:
        Dict, what is counted -> a list of dicts of plain numbers: `x`, how many there are, `rows`,
        and the task's metrics by name.
    """
    curves = {}
    for axis, (_, points) in task.beyond.items():
        curves[axis] = []
        for x, counts in points.items():
            rng = np.random.default_rng([seed, SPLITS["test"], x])
            batches = (_draw(task, rng, batch_size, counts) for _ in range(0, rows, batch_size))
            metrics = task.metrics()
            for _, targets, outputs in answers(model, batches, rows):
                count(metrics, targets, outputs)
            curves[axis].append({"x": x, "rows": rows, **read(metrics)})
    return curves


def example(model, task, seed=0, **counts):
    """A single row and what a model makes of it.

    Returns:
        `(inputs, targets, outputs)`, dicts of arrays without the batch axis; the output `bits` is
        the probability of 1.
    """
    inputs, targets = _draw(task, np.random.default_rng(seed), 1, counts)
    outputs = outputs_of(model, inputs)
    outputs["bits"] = probability_of_one(outputs["bits"])
    return tuple({k: np.asarray(v)[0] for k, v in d.items()} for d in (inputs, targets, outputs))


def answer(model, task, seed=0, **counts):
    """Targets and probabilities of 1 at the steps of a single row's answer, `(time, width)`."""
    _, targets, outputs = example(model, task, seed, **counts)
    asked = (targets["bits"] >= 0).any(axis=-1)
    return targets["bits"][asked], outputs["bits"][asked]


def _draw(task, rng, size, counts):
    return task.draw(rng, **{name: np.full(size, count) for name, count in counts.items()})
