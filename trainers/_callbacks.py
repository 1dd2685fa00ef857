"""What happens between two epochs: the state that a killed run resumes from, and the event file."""

import contextlib
import math
import time

import keras

from ..layers._noisy import NoisyWeights
from ._files import read_arrays, reading, write_arrays

BEST_REMEDY = "restore it from a copy, or train in another run_dir"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the whole state of a run at the end of every epoch.

    The state is every variable of a compiled model and its optimizer, bit for bit, and where the
    syllabus stands.
    """

    def __init__(self, run, model, syllabus):
        super().__init__()
        self.run, self.syllabus = run, syllabus
        model.optimizer.build(model.trainable_variables)
        self.variables = [*model.variables, *model.optimizer.variables]

    def restore(self, recipe):
        """Begins the run, where it stood if it is not new."""
        self.run.begin(recipe, self.variables)
        record = self.run.record
        if "level" in record:  # of a run that is older than other syllabuses
            record["syllabus"] = {"level": record.pop("level")}
        if self.syllabus:
            self.syllabus.state.update(record.get("syllabus", {}))

    def on_epoch_end(self, epoch, logs=None):
        if self.syllabus:
            self.run.record["syllabus"] = self.syllabus.state
        self.run.group.compare(self.model)
        self.run.save(self.variables)


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
    """Lets layers with noise on their weights begin to make it with epoch `first`."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def on_epoch_begin(self, epoch, logs=None):
        for layer in self.model._flatten_layers():
            if isinstance(layer, NoisyWeights):
                layer.active.assign(float(epoch >= self.first))


class Best(keras.callbacks.Callback):
    """Measures the validation split after every epoch and keeps the best weights so far.

    The best are those of the least error, the first metric of the task's first target. They stand
    in a file of their own, and their error in `record["best"]`.
    """

    def __init__(self, run, task, rows):
        super().__init__()
        self.path = run.place("backup", "best.npz")
        self.task, self.record, self.measures, self.rows = task, run.record, run.measures, rows

    def on_epoch_end(self, epoch, logs=None):
        if not self.rows:
            return
        with averaged(self.model):
            found = self.task.measure(self.model, "validation", self.rows, self.measures)
            error = found[self.task.measured[0]]
            if error < self.record.get("best", math.inf):
                weights = {str(i): w for i, w in enumerate(self.model.get_weights())}
                write_arrays(self.path, weights)
                self.record["best"] = error
        logs |= {f"validation_{name}": value for name, value in found.items()}

    def restore(self, model):
        """Gives the model its best weights where there are any."""
        if weights := self.read():
            with reading(self.path, BEST_REMEDY):
                model.set_weights([weights[str(i)] for i in range(len(weights))])

    def read(self):
        """The best weights by their numbers, none where there are none yet.

        Raises `OSError` or `ValueError` where the file of those that were found is lost or damaged.
        """
        return read_arrays(self.path, BEST_REMEDY) if self.rows and "best" in self.record else {}


@contextlib.contextmanager
def averaged(learner):
    """Gives a learner the running averages of its weights meanwhile, where its optimizer has any.

    They are what the model will have in the end, and so what is to be measured.
    """
    if not learner.optimizer.use_ema:
        yield
        return
    variables = learner.trainable_variables
    learnt = [keras.ops.convert_to_numpy(x) for x in variables]
    learner.optimizer.finalize_variable_values(variables)
    for variable in variables:
        # An array of its own: Keras on JAX gives away those of the model that it measures.
        variable.assign(keras.ops.convert_to_numpy(variable))
    yield
    for variable, value in zip(variables, learnt):
        variable.assign(value)


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
