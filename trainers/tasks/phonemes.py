"""Phoneme recognition from speech (Graves and others, 2006 to 2013)."""

import contextlib
import dataclasses

import keras
import numpy as np
from keras import ops

from ...layers import CTCLoss, ctc_beam_search, ctc_prefix_search
from ...layers._backend import vjp
from .._describe import verdict
from .._edit_metrics import CTCErrorRate, EditErrorRate, edit_distance
from .._evaluate import outputs_of
from ..data._phones import PHONES, class_map
from ._speech import BLANK, SpeechTask

SCALE = 2.0**15  # of int16 audio
BEAM = 20  # hypotheses of the beam search that is reported
DECODED = 100  # utterances of the test split that all decoders read
# Probability of blank at which prefix search cuts. The paper's 0.9999 leaves pieces of unfamiliar
# voices so long that the search does not end.
CUT = 0.99


@dataclasses.dataclass(frozen=True)
class Phonemes(SpeechTask):
    """Tell the phonemes of an utterance in their order; when they are said is not told.

    TIMIT's 61 phonemes are scored in 39 classes. Audio of training is played faster or slower by up
    to the share `speed`, which moves pitch and formants as another speaker would, and louder or
    softer by up to `level` dB. Data, `buckets` and `most` are as in `SpeechTask`.

    Inputs: `audio`, `(batch, samples)` float32, -1 to 1; `lengths`, `(batch,)` int32, samples.
    Targets: `phonemes`, `(batch, longest)` int32, -1 behind the last. The model output `phonemes`
    is the logits of CTC, `(batch, frames, classes)`, sure of the blank at padded frames.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: there is no such data set, or `speed` is no such share.
    """

    speed: float = 0.0
    level: float = 0.0
    evaluation_batch = 20
    captions = {
        "speakers": "Errors by speaker, on the splits that training does not see.",
        "decoders": "Ways to read phonemes off the same outputs, on the first "
        f"{DECODED} utterances of the test split.",
        "spikes": "The probabilities of phonemes over an utterance of the test split, and its "
        "spectrogram; the dotted line is the blank's. What was heard stands at its spike, and "
        "above it in grey what is said and when.",
        "sensitivity": "The gradient of the log-probability of a phoneme, at the frame of its "
        "spike, by all inputs of the utterance: what comes long before and after counts as well.",
        "confusions": "How often each phoneme of the test split, a row, was heard as each, a "
        "column; shares of the row.",
    }

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.speed < 1:
            raise ValueError(f"speed must be a share from 0 to below 1, got {self.speed}")

    @property
    def input_spec(self):
        return {"audio": ((None,), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"phonemes": ((None,), "int32")}

    @property
    def _folded(self):
        """The classes by which labels are scored where those are not the labels."""
        return class_map((None, *self.phonemes)) if self.data == "timit" else None

    def rows(self, chosen, split="train", rng=None):
        """Utterances by their numbers, `(batch,)`, padded to the longest of their groups.

        Where there is an `rng`, played at another speed and level.
        """
        varied = rng is not None and (self.speed or self.level)
        samples, _ = self.longest(chosen, split)
        if varied:
            samples = int(samples / (1 - self.speed)) + 1
        audio = np.zeros((len(chosen), samples), "float32")
        lengths = np.zeros(len(chosen), "int32")
        for row, number in enumerate(chosen):
            played = self.utterances(split)[number].audio / SCALE
            if varied:
                speed = 1 + rng.uniform(-self.speed, self.speed)
                places = np.arange(int(len(played) / speed)) * speed
                played = np.interp(places, np.arange(len(played)), played)
                played = played * 10 ** (rng.uniform(-self.level, self.level) / 20)
            lengths[row] = len(played)
            audio[row, : lengths[row]] = played
        labels = self.labels(chosen, split)
        return {"audio": audio, "lengths": lengths}, {"phonemes": labels}

    def prepare(self, model, rows=400):
        """Lets the layer `normalization` adapt to what `features` makes of the training data."""
        features, normalization = (model.get_layer(n) for n in ("features", "normalization"))
        stream = self.dataset("train", 20, rows // 20)
        inputs = (stream[i][0] for i in range(len(stream)))
        normalization.adapt(features(x["audio"], x["lengths"]) for x in inputs)

    def loss(self):
        return {"phonemes": CTCLoss(blank=BLANK)}

    def metrics(self):
        return {"phonemes": [CTCErrorRate(BLANK, self._folded, name="phoneme_error_rate")]}

    def heard(self, outputs):
        """The labels `(batch, frames)` of the best path, -1 where there is none."""
        metric = CTCErrorRate(BLANK)
        return np.asarray(metric.decode(np.asarray(outputs["phonemes"], "float32")))

    def describe(self, inputs, targets, outputs):
        """`2.1 s: pau sh iy s ao -> heard pau sh iy s aa (1 of 5 wrong)`."""
        lines = []
        for row, labels in enumerate(self.heard(outputs)):
            seconds, heard = inputs["lengths"][row] / self.rate, self.spelled(labels)
            if targets is None:
                lines.append(f"{seconds:.1f} s: heard {heard}")
                continue
            truth = targets["phonemes"][row]
            wrong = int(
                edit_distance(*(ops.convert_to_tensor(x[None]) for x in (truth, labels)))[0]
            )
            lines.append(
                f"{seconds:.1f} s: {self.spelled(truth)} -> heard {heard}"
                f"{verdict(wrong, (truth >= 0).sum())}"
            )
        return lines

    def sounds(self, inputs):
        """(Samples a second, samples) of each row, for the event file."""
        return [(self.rate, row[:n]) for row, n in zip(inputs["audio"], inputs["lengths"])]

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of the first row by name: `spikes` where frames have probabilities."""
        labels = targets["phonemes"][0]
        spoken = [self.phonemes[label - 1] for label in labels if label > BLANK]
        if outputs["phonemes"].ndim < 3:
            return {}
        return {"spikes": self._spikes(inputs, outputs, spoken)}

    def _spikes(self, inputs, outputs, spoken, ends=None):
        """The picture of the first row."""
        from ..figures.speech import spikes

        return spikes(
            inputs["audio"][0],
            self.rate,
            inputs["lengths"][0] / self.rate,
            np.asarray(ops.softmax(outputs["phonemes"][0])),
            ("", *self.phonemes),
            _moments(self.heard(outputs)[0]),
            spoken,
            ends,
        )

    def figures(self, model, rows=200):
        """Matplotlib figures by name; those of `captions` that suit the model."""
        figures = {"confusions": self._confusions(model, min(rows, self.examples("test")))}
        if len(model.output["phonemes"].shape) == 3:
            figures |= self._figures_of_frames(model)
        return figures

    def _confusions(self, model, rows):
        from .._evaluate import answers
        from ..figures.speech import aligned, confusions

        stream = self.dataset("test", self.evaluation_batch, -(-rows // self.evaluation_batch))
        names, classes = ("", *self.phonemes), np.arange(self.classes)
        if self._folded:
            names, classes = PHONES[39], np.array(self._folded)
        pairs = []
        for _, targets, outputs in answers(
            model, map(stream.__getitem__, range(len(stream))), rows
        ):
            for both in zip(targets["phonemes"], self.heard(outputs)):
                said, heard = (classes[row[row > BLANK]] for row in both)
                pairs += aligned(said[said >= 0], heard[heard >= 0])
        return confusions(np.array(pairs, int).reshape(-1, 2), names)

    def _figures_of_frames(self, model):
        """Those of one utterance of the test split, of middling length."""
        from ..figures.speech import sensitivity

        utterance, inputs = self._middling()
        seconds = len(utterance.audio) / self.rate
        outputs = outputs_of(model, inputs)
        said = (utterance.phonemes, utterance.ends)
        figures = {"spikes": self._spikes(inputs, outputs, *said)}
        if heard := _moments(self.heard(outputs)[0]):
            frame, label = heard[len(heard) // 2]
            gradient = _gradient(model, inputs, frame, label)
            name = self.phonemes[label - 1]
            figures["sensitivity"] = sensitivity(gradient, frame, seconds, name, *said)
        return figures

    def _middling(self):
        """An utterance of the test split, of middling length, and the inputs of a batch of it."""
        utterances = self.utterances("test")
        number = np.argsort([len(u.audio) for u in utterances])[len(utterances) // 2]
        inputs, _ = self.rows([number], "test")
        inputs["audio"] = inputs["audio"][:, : inputs["lengths"][0]]
        return utterances[number], inputs

    def decoders(self, model, inputs, outputs):
        """Pairs of the name of a way to read off labels, and lists of labels of each row.

        None in the place of those where a search does not end, as prefix search need not.
        """
        logits = np.asarray(outputs["phonemes"], "float32")
        frames = np.full(len(logits), logits.shape[1])
        yield "best path", self.heard(outputs)
        labels, *_ = ctc_beam_search(logits, frames, BEAM, BLANK)
        yield f"beam of {BEAM}", np.asarray(labels)[:, 0]
        found = None
        with contextlib.suppress(RuntimeError):
            found = [labels for labels, _ in ctc_prefix_search(logits, frames, BLANK, CUT)]
        yield f"prefix search, cut at {CUT:.0%} blank", found

    def report(self, model):
        """`speakers`: the error of every speaker apart; `decoders`: that of every decoder."""
        return {"speakers": self._speakers(model), "decoders": self._decoded(model)}

    def _decoded(self, model):
        metrics, endless, count = {}, set(), min(DECODED, self.examples("test"))
        for first in range(0, count, self.evaluation_batch):
            inputs, targets = self.rows(range(count)[first : first + self.evaluation_batch], "test")
            outputs = outputs_of(model, inputs)
            for name, rows in self.decoders(model, inputs, outputs):
                if rows is None:
                    endless.add(name)
                    continue
                metric = metrics.setdefault(name, EditErrorRate(self._folded))
                longest = max(1, *map(len, rows))
                filled = [np.pad(row, (0, longest - len(row)), constant_values=-1) for row in rows]
                metric.update_state(targets["phonemes"], np.array(filled, "int32"))
        return {
            name: {"utterances": count, "phoneme_error_rate": float(metric.result())}
            for name, metric in metrics.items()
            if name not in endless
        }

    def _speakers(self, model):
        ((output, (metric, *_)),) = self.metrics().items()
        found = {}
        for split in ("validation", "test"):
            by_speaker = {}
            for number, utterance in enumerate(self.utterances(split)):
                by_speaker.setdefault(utterance.speaker, []).append(number)
            for speaker, numbers in by_speaker.items():
                metric.reset_state()
                for first in range(0, len(numbers), self.evaluation_batch):
                    inputs, targets = self.rows(
                        numbers[first : first + self.evaluation_batch], split
                    )
                    outputs = outputs_of(model, inputs)
                    metric.update_state(targets[output], outputs[output])
                error = {metric.name: float(metric.result())}
                found[f"{speaker} ({split})"] = {"utterances": len(numbers), **error}
        return found

    def inputs_without_data(self, rng, size):
        """A quarter of a second of noise, which needs no files."""
        samples = self.rate // 4
        audio = 0.1 * rng.normal(size=(size, samples)).astype("float32")
        return {"audio": audio, "lengths": np.full(size, samples, "int32")}


def _moments(labels):
    """Pairs of frame and label of a row of `heard`."""
    return [(frame, labels[frame]) for frame in np.flatnonzero(labels > BLANK)]


def _gradient(model, inputs, frame, label):
    """Of the log-probability of a label at a frame by the normalized inputs of the first row."""
    layer, normalization = (model.get_layer(name) for name in ("features", "normalization"))
    network = keras.Model(layer.output, model.output["phonemes"])
    features, frames = layer(inputs["audio"], inputs["lengths"])

    def chance(features):
        return ops.log_softmax(network([features, frames]))[0, frame, label]

    _, pull = vjp(chance, features)
    gradient = pull(ops.ones(()))[0][0] * normalization.standard_deviation
    return ops.convert_to_numpy(gradient)
