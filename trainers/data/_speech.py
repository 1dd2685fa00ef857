"""Recorded or synthetic speech with phonemes: what all such data sets hand on."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance with its phonemes.

    Attributes:
        name: unique in its data set.
        speaker: who speaks, or which synthetic voice.
        split: "train", "validation" or "test".
        rate: samples a second.
        audio: `(samples,)` int16.
        phonemes: tuple of str, in the data set's own alphabet, silence included.
        ends: `(phonemes,)` float64, when each phoneme ends, in seconds from the start of the audio.
        text: what is said, where that is known.
    """

    name: str
    speaker: str
    split: str
    rate: int
    audio: np.ndarray
    phonemes: tuple
    ends: np.ndarray
    text: str = ""
