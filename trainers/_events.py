"""The event file that TensorBoard reads."""

import io
import os
import struct
import time
import wave

import keras
import numpy as np

from ._evaluate import outputs_of, values_of
from ._files import naming
from ._state import BEGINS

EVENTS = "events.out.tfevents.ponderzoo"
EVENT_DPI, EVENT_COLOURS = 80, 32
EVENT_INCHES, LEAST_SHRUNK = 6.0, 0.6  # TensorBoard shows pictures some 400 dots wide
FIRST, REST = "curves", "details"  # it sorts groups by name, before "examples" and "figures"
EVENT_AUDIO_BYTES = 100_000
HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")  # length and its checksum; the data's
DESCRIBED = 8  # rows in words and pictures


class EventFile:
    """One TensorBoard event file, written without TensorFlow: the same on both backends."""

    def __init__(self, directory, size=0):
        """Opens the file and drops what a killed run wrote after `size` bytes.

        Where the file has lost some of them, it goes on after the last whole record.
        """
        from tensorboard.summary.writer.record_writer import RecordWriter

        os.makedirs(directory, exist_ok=True)
        self.path = os.path.join(directory, EVENTS)
        self._file = open(self.path, "ab")  # noqa: SIM115
        if self._file.tell() < size:
            size = whole_records(self.path)
        self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)
        self._records = RecordWriter(self._file)
        self.is_new = size == 0
        if self.is_new:
            self._write(file_version="brain.Event:2")

    def _write(self, **fields):
        from tensorboard.compat.proto.event_pb2 import Event

        with naming(self.path):
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
        """A matplotlib figure, as a small PNG file; wide ones narrow under letters that stay."""
        from .figures._panels import packed_png

        width, height = figure.get_size_inches()
        narrow = min(1.0, max(LEAST_SHRUNK, EVENT_INCHES / width))
        figure.set_size_inches(width * narrow, height * (1 + narrow) / 2)
        self.image(tag, packed_png(figure, EVENT_DPI, EVENT_COLOURS), step)
        figure.set_size_inches(width, height)

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
        with naming(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self):
        self._file.close()


def whole_records(path):
    """Size in bytes of the records at the beginning of an event file that are whole."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    with open(path, "rb") as file:
        content = file.read()
    whole = 0
    while len(content) >= whole + HEADER.size + FOOTER.size:
        length, of_length = HEADER.unpack_from(content, whole)
        end = whole + HEADER.size + length
        if masked_crc32c(content[whole : whole + 8]) != of_length:
            break
        if end + FOOTER.size > len(content):
            break
        if FOOTER.unpack_from(content, end) != (masked_crc32c(content[end - length : end]),):
            break
        whole = end + FOOTER.size
    return whole


def wav(rate, samples):
    """The content of a wav file of 8 bits, as loud as can be."""
    loudest = max(np.abs(samples).max(initial=0), 1e-9)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 1, rate, len(samples), "NONE", ""))
        file.writeframes(np.rint(128 + 127 * (samples / loudest)).astype("uint8").tobytes())
    return stream.getvalue()


class Board(keras.callbacks.Callback):
    """Fills the event file: scalars every epoch; histograms and described rows at times.

    The task's error and the first of the model's measures stand in a group that comes first. A
    task's `sounds`, as far as they are small, are heard from the beginning; its `snapshot` is
    drawn where rows are described.
    """

    def __init__(self, run, task, recipe, rows=64):
        super().__init__()
        self.run, self.measures = run, run.measures
        self.task, self.recipe, self.steps = task, recipe, recipe.steps
        self.histograms = recipe.histograms
        inputs, self.targets = task.dataset("validation", rows, 1)[0]
        self.inputs = {name: x for name, x in inputs.items() if name != BEGINS}

    @property
    def events(self):
        return self.run.events

    def on_train_begin(self, logs=None):
        self.first = self._first()
        if self.histograms and self.events.is_new:
            sounds = self.task.sounds(self.inputs)
            ends = np.cumsum([len(samples) for _, samples in sounds])
            if sounds:
                self.events.audio("sounds", sounds[: sum(ends <= EVENT_AUDIO_BYTES)], 0)

    def on_epoch_end(self, epoch, logs=None):
        done, step = epoch + 1, (epoch + 1) * self.steps
        if self.recipe.due(done, 500):
            for name, value in logs.items():
                self.events.scalar(self._tag(name), value, step)
        if self.recipe.due(done, self.histograms):
            self._look(done, step)

    def _first(self):
        """What the first curves are called, by the names that Keras gives them."""
        called = {}
        for metrics in (self.task.metrics(), self.measures(self.model)):
            for output, (metric, *_) in list(metrics.items())[:1]:
                called |= dict.fromkeys((metric.name, f"{output}_{metric.name}"), metric.name)
        measured = {*called.values(), self.task.measured[0]}
        return called | {name: name for name in map("validation_{}".format, measured)}

    def _tag(self, name):
        if not self.run.record.get("groups"):
            return name
        return f"{FIRST}/{self.first[name]}" if name in self.first else f"{REST}/{name}"

    def _look(self, done, step):
        measures, described = (
            self.measures(self.model),
            self.recipe.due(done, min(self.histograms, 5)),
        )
        if not measures and not described:
            return
        few = slice(None if measures else DESCRIBED)
        outputs = outputs_of(self.model, {k: v[few] for k, v in self.inputs.items()})
        for metric, values in values_of(measures, outputs):
            self.events.histogram(metric.name, values, step)
        if described:
            every = self.inputs, self.targets, outputs
            first = [{k: v[:DESCRIBED] for k, v in some.items()} for some in every]
            if lines := self.task.describe(*first):
                self.events.text("examples", lines, step)
            for name, figure in self.task.snapshot(*first).items():
                self.events.figure(f"examples/{name}", figure, step)
