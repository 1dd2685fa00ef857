"""What the tasks on running text share (Graves, 2013, section 3)."""

import dataclasses
import functools
import warnings

import keras
import numpy as np

from ...layers import jit_in_graphs
from .._difficulty import levels
from .._evaluate import count, nothing, outputs_of, read
from .._state import BEGINS, Stateful, plain
from .._task import SPLITS, Stream, Task


@dataclasses.dataclass(frozen=True)
class Running(Task):
    """Predict the next symbol of a text that is read in segments, one after the other.

    Subclasses provide `codes(split)`, the text as an array of whole numbers below `classes`, and
    fields `length`, the symbols of a segment; `reset`, after how many of them a model begins anew;
    `dynamic_rate` and `dynamic_momentum`, of the gradient descent of dynamic evaluation.

    Inputs: `sequence`, `(batch, length)` int32. Targets: `next`, `(batch, length)` int32. The model
    output `next` is logits, `(batch, length, classes)`. Batches of a stream also have `begins`,
    `(batch,)` int32, 1 for rows that do not go on with the same row of the batch before.
    """

    continues = True
    evaluation_batch = 64

    def codes(self, split):
        """The text of a split, `(symbols,)`, of whole numbers."""
        raise NotImplementedError

    @property
    def input_spec(self):
        return {"sequence": ((None,), "int32")}

    @property
    def target_spec(self):
        return {"next": ((None,), "int32")}

    def text(self, split="train"):
        """`codes`. Raises `ValueError` where they are too few for a segment."""
        codes = self.codes(split)
        if len(codes) <= self.length:
            raise ValueError(
                f"the {split} split of {self.corpus} has {len(codes)} symbols, too few for a "
                f"segment of {self.length} and the symbol after it"
            )
        return codes

    def examples(self, split="train"):
        """Segments of a split."""
        return (len(self.text(split)) - 1) // self.length

    def laid(self, codes, first):
        """`(inputs, targets)` of the segments that begin with the symbols `first`, `(batch,)`."""
        window = codes[np.asarray(first)[:, None] + np.arange(self.length + 1)].astype("int32")
        return {"sequence": window[:, :-1]}, {"next": window[:, 1:]}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        codes = self.text(split)
        return self.laid(codes, rng.integers(0, len(codes) - self.length, size))

    def dataset(self, split="train", batch_size=32, steps=1000, seed=0):
        return Segments(self, split, batch_size, steps, seed)

    def in_order(self, split):
        """The segments of a split from the first on, a row each: a `Segments` of one epoch."""
        return Segments(self, split, 1, self.examples(split), None)

    def measure(self, model, split="test", rows=10_000, measures=nothing):
        """The metrics on the first `rows` segments of a split, or all, in order.

        Between two resets a model reads on with its state, as in training, and many such stretches
        are read at once. On the test split there are also those of `dynamic`, as `dynamic_error`.
        """
        metrics = {**self.metrics(), **(measures or nothing)(model)}
        codes, rows = self.text(split), min(rows, self.examples(split))
        steps = min(self.reset, rows)
        stretches = -(-rows // steps)
        size = -(-stretches // -(-stretches // self.evaluation_batch))
        reader = _reader(plain(model), size)
        for first in range(0, stretches, size):
            for step in range(steps):
                segments = (first + np.arange(size)) * steps + step
                there = segments < rows
                if not any(there):
                    break
                inputs, targets = self.laid(codes, np.where(there, segments, 0) * self.length)
                begins = np.full(size, step == 0, "int32")
                outputs = outputs_of(reader, {**inputs, BEGINS: begins})
                scored = np.where(there[:, None], targets["next"], -1)
                count(metrics, {"next": scored}, outputs)
        found = read(metrics)
        if split == "test":
            learnt = self.dynamic(model, split, segments=rows)
            found |= {f"dynamic_{name}": value for name, value in learnt.items()}
        return found

    def dynamic(self, model, split="test", rate=None, momentum=None, segments=None):
        """The metrics of dynamic evaluation: each segment is scored, and then learnt.

        The text is read once, in order, a segment at a time, by a copy of the model, as in training
        but without noise; `model` stays as it is. XLA compiles it unless `jit_in_graphs(False)`.

        Args:
            model: a functional model.
            split: what is read.
            rate, momentum: of the descent, those of the task if None.
            segments: how many are read from the first on, all if None.
        """
        again = keras.models.clone_model(plain(model))
        again.set_weights(plain(model).get_weights())
        learner = Stateful(again, 1, trains=False)
        rate, momentum = (
            own if given is None else given
            for given, own in ((rate, self.dynamic_rate), (momentum, self.dynamic_momentum))
        )
        metrics = self.metrics()
        # What a model answers in training, before it learns, is what Keras counts.
        learner.compile(
            keras.optimizers.SGD(rate, momentum),
            self.loss(),
            metrics={name: list(some) for name, some in metrics.items()},
            jit_compile=jit_in_graphs(),
        )
        stream = self.in_order(split)
        stream.steps = min(segments or stream.steps, stream.steps)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Gradients do not exist")  # of the noise
            learner.fit(stream, shuffle=False, verbose=0)
        return read(metrics)

    @property
    def measured(self):
        static = super().measured
        return *static, *(f"dynamic_{name}" for name in static)

    def report(self, model):
        """Plain numbers that belong beside the metrics."""
        return {"corpus": self.corpus}

    def inputs_without_data(self, rng, size):
        """Inputs of chance, which need no text."""
        return {"sequence": rng.integers(0, self.classes, (size, min(self.length, 24)), "int32")}


@functools.lru_cache(maxsize=1)
def _reader(model, rows):
    """Kept, as a run measures its model after every epoch, and a new one is traced again."""
    return Stateful(model, rows)


class Segments(Stream):
    """The segments of a text, of which row i of a batch goes on with row i of the batch before.

    The rows read from places of the text that are as far from one another, all of it again and
    again. All rows begin anew with every `task.reset`th batch, and each where it comes to the end
    of the text. The seed decides where the first segment lies; without one, at the beginning.
    """

    def __getitem__(self, index):
        codes = self.task.text(self.split)
        update, length = self.epoch * self.steps + index, self.task.length
        begin, ahead = 0, 0
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, SPLITS[self.split]])
            begin = int(rng.integers(min(length, len(codes) - length)))
            ahead = int(rng.integers(len(codes)))
        segments = (len(codes) - 1 - begin) // length
        rows = np.arange(self.batch_size) * segments // self.batch_size
        places = (rows + ahead + update) % segments
        inputs, targets = self.task.laid(codes, begin + places * length)
        begins = (places == 0) | (update % self.task.reset == 0)
        return {**inputs, BEGINS: begins.astype("int32")}, targets
