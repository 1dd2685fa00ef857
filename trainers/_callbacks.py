"""What happens between two epochs: the state that a killed run resumes from, and the event file."""

import io
import json
import math
import os
import time

import keras
import numpy as np

from ..layers import WeightNoise
from ._evaluate import evaluate
from ._files import write_file


class Checkpoint(keras.callbacks.Callback):
    """Keeps the whole state of a run in one file, replaced at the end of every epoch.

    The state is every variable of model and optimizer, bit for bit, and `record`, a dict of plain
    types that travels along. `keras.callbacks.BackupAndRestore` overwrites its files in place, so a
    kill in the middle of a write would lose the run.
    """

    def __init__(self, path, record):
        super().__init__()
        self.path, self.record = path, record

    @property
    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def restore(self, model):
        """Loads the state where there is one, into a compiled model, and updates `record`."""
        self.set_model(model)
        model.optimizer.build(model.trainable_variables)
        if not os.path.exists(self.path):
            return
        with np.load(self.path) as state:
            self.record.update(json.loads(str(state["record"])))
            for index, variable in enumerate(self._variables):
                variable.assign(state[str(index)])

    def on_epoch_end(self, epoch, logs=None):
        arrays = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(self._variables)}
        buffer = io.BytesIO()
        np.savez(buffer, record=json.dumps(self.record), **arrays)
        write_file(self.path, buffer.getvalue())


class Clock(keras.callbacks.Callback):
    """Sets the stream to the epoch and books time and learning curve in `record`."""

    def __init__(self, stream, record):
        super().__init__()
        self.stream, self.record = stream, record

    def on_epoch_begin(self, epoch, logs=None):
        self.stream.epoch = epoch
        self.stream.seconds = 0.0
        self._start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._start[0]
        self.record["epoch"] = epoch + 1
        self.record["seconds"] += seconds
        self.record["cpu_seconds"] += time.process_time() - self._start[1]
        self.record["data_seconds"] += self.stream.seconds
        updates = (epoch + 1) * len(self.stream)
        self.record["history"].append({"updates": updates, "seconds": seconds, **logs})


class Noise(keras.callbacks.Callback):
    """Lets the model's `WeightNoise` layers begin to make noise with epoch `first`."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def on_epoch_begin(self, epoch, logs=None):
        for layer in self.model._flatten_layers():
            if isinstance(layer, WeightNoise):
                layer.active.assign(float(epoch >= self.first))


class Best(keras.callbacks.Callback):
    """Measures the validation split after every epoch and keeps the best weights so far.

    The best are those of the least error, the first metric of the task's first target. They stand
    in a file of their own, and their error in `record["best"]`.
    """

    def __init__(self, path, task, record, rows):
        super().__init__()
        self.path, self.task, self.record, self.rows = path, task, record, rows
        ((self.output, (self.metric, *_)), *_) = task.metrics().items()

    def on_epoch_end(self, epoch, logs=None):
        if not self.rows:
            return
        found = evaluate(self.model, self.task, "validation", self.rows)
        logs |= {f"validation_{name}": value for name, value in found.items()}
        error = found[self.metric.name]
        if error < self.record.get("best", math.inf):
            weights = {str(i): w for i, w in enumerate(self.model.get_weights())}
            buffer = io.BytesIO()
            np.savez(buffer, **weights)
            write_file(self.path, buffer.getvalue())
            self.record["best"] = error

    def restore(self, model):
        """Gives the model its best weights where there are any."""
        if self.rows and os.path.exists(self.path):
            with np.load(self.path) as weights:
                model.set_weights([weights[str(i)] for i in range(len(weights.files))])


class StopAtNaN(keras.callbacks.Callback):
    """Raises `FloatingPointError` as soon as the loss is not a finite number."""

    async_safe = True

    def __init__(self, steps):
        super().__init__()
        self.steps, self.epoch = steps, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            update = self.epoch * self.steps + batch + 1
            raise FloatingPointError(
                f"the loss is {logs['loss']} at update {update}; "
                "try a lower learning_rate, a smaller clipnorm or another seed"
            )
