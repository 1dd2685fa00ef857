"""Phoneme recognition by transducers (Graves, 2012; Graves, Mohamed and Hinton, 2013)."""

import dataclasses

import keras
import numpy as np
from keras import ops

from ...layers import TransducerLoss, transducer_arcs, transducer_beam_search
from .._edit_metrics import EditErrorRate
from .._evaluate import outputs_of
from ._speech import BLANK
from .phonemes import Phonemes

BEAM = 4  # hypotheses of the beam search that is reported


@dataclasses.dataclass(frozen=True)
class PhonemeTransduction(Phonemes):
    """`Phonemes` for networks that also read the phonemes so far.

    Inputs: those of `Phonemes`, and `labels`, `(batch, longest)` int32, the phonemes to put out,
    -1 behind the last. Targets: `phonemes` and `lattice`, the same. Model outputs: `lattice`,
    logits `(batch, frames, longest + 1, classes)`, sure of the blank at padded frames; and
    `phonemes`, the labels that the network finds without being told any, `(batch, most)` int32,
    -1 behind the last.
    """

    captions = {
        **Phonemes.captions,
        "lattice": "How probable it is that the alignment of an utterance of the test split passes "
        "each node of the lattice, frame and phonemes put out, on its way from the bottom left to "
        "the top right; white lines are where phonemes end. Dark dots are where it puts them out.",
    }

    @property
    def input_spec(self):
        return {**super().input_spec, "labels": ((None,), "int32")}

    @property
    def target_spec(self):
        return {"phonemes": ((None,), "int32"), "lattice": ((None,), "int32")}

    def rows(self, chosen, split="train", rng=None):
        """As in `Phonemes`."""
        inputs, targets = super().rows(chosen, split, rng)
        labels = targets["phonemes"]
        return {**inputs, "labels": labels}, {**targets, "lattice": labels}

    def loss(self):
        return {"lattice": TransducerLoss(blank=BLANK)}

    def metrics(self):
        return {"phonemes": [EditErrorRate(self._folded, name="phoneme_error_rate")]}

    def heard(self, outputs):
        """The labels `(batch, most)` that the network found, -1 behind the last."""
        return np.asarray(outputs["phonemes"])

    def decoders(self, model, inputs, outputs):
        """As in `Phonemes`; the model has layers `features`, `transcription` and `transducer`."""
        layer = model.get_layer("transducer").layer
        decoder = layer.decoder()
        network = keras.Model(model.input, model.get_layer("transcription").output)
        rows = ops.stop_gradient(layer.from_transcription(network(inputs)))
        _, frames = model.get_layer("features")(inputs["audio"], inputs["lengths"])
        yield "greedy", self.heard(outputs)
        found = transducer_beam_search(
            *(decoder.predict, decoder.join, decoder.initial_state, rows, frames),
            width=BEAM,
            blank=BLANK,
        )
        yield f"beam of {BEAM}", [best[0] for best, *_ in found]

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of the first row by name: `lattice`."""
        spoken = self.spelled(targets["phonemes"][0]).split()
        return {"lattice": self._lattice(inputs, outputs, spoken)}

    def _lattice(self, inputs, outputs, spoken, ends=None):
        """The picture of the first row, whose labels are the phonemes that are spoken."""
        from ..figures.speech import lattice

        labels = np.asarray(inputs["labels"])[:1, : len(spoken)]
        logits = np.asarray(outputs["lattice"])[:1, :, : len(spoken) + 1]
        lengths = (np.array([n]) for n in (logits.shape[1], len(spoken)))
        arcs = transducer_arcs(logits, labels, *lengths, BLANK)
        return lattice(
            inputs["audio"][0],
            self.rate,
            inputs["lengths"][0] / self.rate,
            *(np.asarray(x[0]) for x in arcs),
            spoken,
            ends,
        )

    def figures(self, model, rows=200):
        """As in `Phonemes`, and `lattice`."""
        utterance, inputs = self._middling()
        outputs = outputs_of(model, inputs)
        figure = self._lattice(inputs, outputs, utterance.phonemes, utterance.ends)
        return {**super().figures(model, rows), "lattice": figure}

    def inputs_without_data(self, rng, size):
        """As in `Phonemes`, with three phonemes."""
        labels = rng.integers(1, self.classes, (size, 3), "int32")
        return {**super().inputs_without_data(rng, size), "labels": labels}
