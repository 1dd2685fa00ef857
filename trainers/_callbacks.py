"""What happens between two epochs: the state that a killed run resumes from, and the event file."""

import contextlib
import io
import json
import math
import os
import time
import wave

import keras
import numpy as np

from ..layers import WeightNoise
from ._evaluate import evaluate

EVENTS = "events.out.tfevents.ponderzoo"
EVENT_DPI, EVENT_COLOURS = 60, 32
EVENT_AUDIO_BYTES = 100_000
DESCRIBED = 8  # rows in words and pictures


def write_file(path, content):
    """Writes bytes or text whole or not at all: beside `path`, to the disk, and renamed."""
    data = content.encode() if isinstance(content, str) else content
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    beside = f"{path}.part"
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path, value):
    """`write_file` for a value of plain types."""
    write_file(path, json.dumps(value, indent=2) + "\n")


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


class Curriculum(keras.callbacks.Callback):
    """Makes the task harder by one level after an epoch whose error was below `error`.

    The error is the task's own, the first metric of its first target. `record["level"]` is where
    the run stands, None at full difficulty.
    """

    def __init__(self, stream, record, error):
        super().__init__()
        self.stream, self.record, self.error = stream, record, error
        ((output, metrics), *_) = stream.task.metrics().items()
        self.names = (f"{output}_{metrics[0].name}", metrics[0].name)

    def on_epoch_begin(self, epoch, logs=None):
        self.stream.level = self.record["level"]

    def on_epoch_end(self, epoch, logs=None):
        level, levels = self.record["level"], self.stream.task.difficulties
        if self.error:
            logs["difficulty"] = levels[-1 if level is None else level]
        if level is not None:
            reached = next(logs[name] for name in self.names if name in logs)
            level += reached < self.error
            self.record["level"] = level if level < len(levels) - 1 else None


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


class EventFile:
    """One TensorBoard event file, written without TensorFlow: the same on both backends."""

    def __init__(self, directory, size=0):
        """Opens the file and drops what a killed run wrote after `size` bytes."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        os.makedirs(directory, exist_ok=True)
        self._file = open(os.path.join(directory, EVENTS), "ab")  # noqa: SIM115
        self._file.truncate(size)
        self._records = RecordWriter(self._file)
        if size == 0:
            self._write(file_version="brain.Event:2")

    def _write(self, **fields):
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())

    def scalar(self, tag, value, step):
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self._write(step=step, summary=scalar_pb(tag, value))

    def histogram(self, tag, values, step, buckets=30):
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self._write(step=step, summary=histogram_pb(tag, values, buckets=buckets))

    def text(self, tag, lines, step):
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._write(step=step, summary=text_pb(tag, "\n".join(f"    {line}" for line in lines)))

    def image(self, tag, png, step):
        """`png` is the content of a PNG file."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        width, height = (str(int.from_bytes(png[i : i + 4], "big")) for i in (16, 20))
        tensor = make_tensor_proto([width.encode(), height.encode(), png])
        metadata = create_summary_metadata(display_name=tag, description="")
        value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
        self._write(step=step, summary=Summary(value=[value]))

    def figure(self, tag, figure, step):
        """A matplotlib figure, as a small PNG file."""
        from ._figures import packed_png

        self.image(tag, packed_png(figure, EVENT_DPI, EVENT_COLOURS), step)

    def audio(self, tag, sounds, step):
        """Wav files of 8 bits, each as loud as can be, of (samples a second, samples)."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.audio.metadata import Encoding, create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        wavs = [[wav(rate, samples), b""] for rate, samples in sounds]
        metadata = create_summary_metadata(tag, "", Encoding.Value("WAV"))
        value = Summary.Value(tag=tag, tensor=make_tensor_proto(wavs), metadata=metadata)
        self._write(step=step, summary=Summary(value=[value]))

    def hparams(self, values):
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._write(summary=hparams_pb(values))

    def flush(self):
        """Flushes to the disk and returns the size in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self):
        self._file.close()


def wav(rate, samples):
    """The content of a wav file of 8 bits, as loud as can be."""
    loudest = max(np.abs(samples).max(initial=0), 1e-9)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 1, rate, len(samples), "NONE", ""))
        file.writeframes(np.rint(128 + 127 * (samples / loudest)).astype("uint8").tobytes())
    return stream.getvalue()


class Board(keras.callbacks.Callback):
    """Fills the event file: scalars every epoch; ponder histograms and described rows at times.

    A task may have `sounds(inputs)`, which gives (samples a second, samples) of each row, and
    `snapshot(inputs, targets, outputs)`, which gives matplotlib figures by name. The former, as far
    as they are small, are heard from the beginning; the latter are drawn where rows are described.
    """

    def __init__(self, events, task, record, epochs, steps, histograms, rows=64):
        super().__init__()
        self.events, self.task, self.record = events, task, record
        self.epochs, self.steps, self.histograms = epochs, steps, histograms
        self.inputs, self.targets = task.dataset("validation", rows, 1)[0]

    def _due(self, epoch, times):
        return times and (epoch * times) // self.epochs != ((epoch - 1) * times) // self.epochs

    def on_train_begin(self, logs=None):
        if self.histograms and hasattr(self.task, "sounds") and not self.record["event_bytes"]:
            sounds = self.task.sounds(self.inputs)
            ends = np.cumsum([len(samples) for _, samples in sounds])
            self.events.audio("sounds", sounds[: sum(ends <= EVENT_AUDIO_BYTES)], 0)

    def on_epoch_end(self, epoch, logs=None):
        done, step = epoch + 1, (epoch + 1) * self.steps
        if self._due(done, 500):
            for tag, value in logs.items():
                self.events.scalar(tag, value, step)
        if self._due(done, self.histograms):
            self._look(done, step)
        self.record["event_bytes"] = self.events.flush()

    def _look(self, done, step):
        ponders = "updates" in self.model.output
        described = self._due(done, min(self.histograms, 5))
        if not ponders and not described:
            return
        few = slice(None if ponders else DESCRIBED)
        outputs = self.model.predict_on_batch({k: v[few] for k, v in self.inputs.items()})
        if ponders:
            updates = outputs["updates"]
            self.events.histogram("ponder", updates[updates > 0], step)
        if described:
            every = self.inputs, self.targets, outputs
            first = [{k: v[:DESCRIBED] for k, v in some.items()} for some in every]
            with contextlib.suppress(NotImplementedError):
                self.events.text("examples", self.task.describe(*first), step)
            if hasattr(self.task, "snapshot"):
                for name, figure in self.task.snapshot(*first).items():
                    self.events.figure(f"examples/{name}", figure, step)
