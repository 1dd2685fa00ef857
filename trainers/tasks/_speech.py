"""What tasks of speech share: a data set, its alphabet, and batches of like length.

Data sets of speech hand on `Utterance` (`data/_speech.py`), with an alphabet `PHONEMES` and a
`RATE` in their module; label 0 is the blank. Batches are of utterances of like length, since XLA
compiles once for each of `buckets` shapes. Models take raw audio, and are sure of blank at padded
frames (`SureOfBlank`), so that the losses of lattices need no lengths.
"""

import dataclasses
import functools

import numpy as np

from .._difficulty import levels
from .._task import Listed
from ..data import dataset
from ._buckets import grouped

BLANK = 0


@functools.cache
def _splits(data, root, most):
    if most:
        splits = _splits(data, root, 0)
        chosen = np.random.default_rng(0).permutation(len(splits["train"]))[:most]
        return splits | {"train": [splits["train"][number] for number in chosen]}
    module = dataset(data)
    splits = {"train": [], "validation": [], "test": []}
    for utterance in module.load(root or module.path()):
        splits[utterance.split].append(utterance)
    return splits


@functools.cache
def _groups(data, root, most, split, buckets):
    """`grouped` of a split's utterances, by samples and labels."""
    utterances = _splits(data, root, most)[split]
    return grouped([(len(u.audio), len(u.phonemes)) for u in utterances], buckets)


@dataclasses.dataclass(frozen=True)
class SpeechTask(Listed):
    """A task on utterances with phonemes.

    `data` names the data set: `tts_phones`, synthetic speech, or `asterisk`, prompts of one woman
    with machine-made labels, both of which `ponderzoo data fetch` makes; or `timit`, whose copy
    `root` names. Labels are the data set's phonemes, silence included, from 1 on in the order of
    its alphabet; 0 is the blank of CTC and transducers.

    Rows of training are drawn so that all utterances are as likely, and the rows of a batch are of
    like length: `buckets` groups are padded alike. `most` is how many utterances of training there
    are, chosen by chance, the same for every run; 0 for all.

    Subclasses say what `rows(chosen, split, rng=None)` are.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: there is no such data set.
    """

    data: str = "tts_phones"
    root: str = ""
    buckets: int = 4
    most: int = 0

    def __post_init__(self):
        dataset(self.data)

    @property
    def phonemes(self):
        """The alphabet, a tuple of str; label `i + 1` is its phoneme `i`."""
        return tuple(dataset(self.data).PHONEMES)

    @property
    def rate(self):
        """Samples of the audio a second."""
        return dataset(self.data).RATE

    @property
    def classes(self):
        """How many labels there are, with the blank."""
        return len(self.phonemes) + 1

    @property
    def corpus(self):
        """What the data may be called."""
        return {"tts_phones": "TTS-Phones", "asterisk": "Asterisk-aligned", "timit": "TIMIT"}.get(
            self.data, self.data
        )

    def utterances(self, split="train"):
        """All utterances of a split."""
        return _splits(self.data, self.root, self.most)[split]

    def examples(self, split="train"):
        """How many utterances a split has."""
        return len(self.utterances(split))

    def longest(self, chosen, split):
        """Samples and labels of the longest utterance in the groups of utterances."""
        _, part_of, sizes = _groups(self.data, self.root, self.most, split, self.buckets)
        return np.max([sizes[part_of[number]] for number in chosen], axis=0)

    def labels(self, chosen, split="train"):
        """The labels of utterances, `(batch, longest)` int32, -1 behind the last."""
        numbers = {phoneme: number for number, phoneme in enumerate(self.phonemes, start=1)}
        found = np.full((len(chosen), self.longest(chosen, split)[1]), -1, "int32")
        for row, number in zip(found, chosen):
            spoken = self.utterances(split)[number].phonemes
            row[: len(spoken)] = [numbers[phoneme] for phoneme in spoken]
        return found

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        parts, part_of, _ = _groups(self.data, self.root, self.most, split, self.buckets)
        part = parts[part_of[rng.integers(len(part_of))]]
        return self.rows(rng.choice(part, size), split, rng if split == "train" else None)

    def spelled(self, labels):
        """The phonemes of labels, those below 1 left out, between blanks."""
        return " ".join(self.phonemes[label - 1] for label in labels if label > BLANK)
