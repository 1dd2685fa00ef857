"""Phoneme recognition by transducers (Graves, 2012; Graves, Mohamed and Hinton, 2013)."""

import dataclasses

import numpy as np

from ..layers import TransducerLoss
from ._edit_metrics import EditErrorRate
from .phonemes import BLANK, Phonemes


@dataclasses.dataclass(frozen=True)
class PhonemeTransduction(Phonemes):
    """`Phonemes` for networks that also read the phonemes so far.

    Inputs: those of `Phonemes`, and `labels`, `(batch, longest)` int32, the phonemes to put out,
    -1 behind the last. Targets: `phonemes` and `lattice`, the same. Model outputs: `lattice`,
    logits `(batch, frames, longest + 1, classes)`, sure of the blank at padded frames; and
    `phonemes`, the labels that the network finds without being told any, `(batch, most)` int32,
    -1 behind the last.
    """

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

    def inputs_without_data(self, rng, size):
        """As in `Phonemes`, with three phonemes."""
        labels = rng.integers(1, self.classes, (size, 3), "int32")
        return {**super().inputs_without_data(rng, size), "labels": labels}
