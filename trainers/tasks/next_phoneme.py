"""The next phoneme after those before it, without sound (Graves, Mohamed and Hinton, 2013)."""

import dataclasses

import numpy as np

from .._describe import verdict
from .._metrics import BitsPerCharacter, TargetError
from ._speech import BLANK, SpeechTask


@dataclasses.dataclass(frozen=True)
class NextPhoneme(SpeechTask):
    """Tell each phoneme of an utterance by those before it, as the prediction network is trained.

    Of the data only the labels are read, see `SpeechTask`.

    Inputs: `labels`, `(batch, longest)` int32, the null symbol, 0, then all phonemes but the last.
    Targets: `next`, `(batch, longest)` int32, all phonemes, -1 behind the last. The model output
    `next` is logits `(batch, longest, classes)`.
    """

    evaluation_batch = 50
    captions = {
        "counts": "What counts of the training split tell: of single phonemes, and of phonemes "
        "after the one and the two before, one added to each.",
    }

    @property
    def input_spec(self):
        return {"labels": ((None,), "int32")}

    @property
    def target_spec(self):
        return {"next": ((None,), "int32")}

    def rows(self, chosen, split="train", rng=None):
        """Utterances by their numbers, `(batch,)`, padded to the longest of their groups."""
        spoken = self.labels(chosen, split)
        before = np.pad(np.maximum(spoken, 0), ((0, 0), (1, 0)), constant_values=BLANK)[:, :-1]
        return {"labels": before.astype("int32")}, {"next": spoken}

    def metrics(self):
        return {"next": [TargetError(), BitsPerCharacter(name="bits_per_phoneme")]}

    def describe(self, inputs, targets, outputs):
        """`pau sh iy; expected ch iy aa (2 of 3 wrong)`: the phonemes, and what was expected."""
        lines = []
        for row, logits in enumerate(outputs["next"]):
            answer = np.argmax(logits, axis=-1)
            if targets is None:
                lines.append(f"expected {self.spelled(answer)}")
                continue
            truth = targets["next"][row]
            count = int((truth >= 0).sum())
            wrong = int((answer != truth)[:count].sum())
            said, expected = self.spelled(truth[:count]), self.spelled(answer[:count])
            lines.append(f"{said}; expected {expected}{verdict(wrong, count)}")
        return lines

    def report(self, model):
        """`counts`: bits per phoneme of the test split by how often phonemes follow one another."""
        found = {}
        for before, name in enumerate(("alone", "after one", "after two")):
            counts = np.ones([self.classes] * (before + 1))
            np.add.at(counts, self._runs("train", before), 1)
            chances = counts / counts.sum(axis=-1, keepdims=True)
            bits = -np.log2(chances[self._runs("test", before)])
            found[name] = {"bits_per_phoneme": float(bits.mean())}
        return {"counts": found}

    def _runs(self, split, before):
        """Every phoneme of a split behind so many before it, the null symbol before the first."""
        labels = self.labels(range(self.examples(split)), split)
        labels = np.pad(labels, ((0, 0), (before, 0)), constant_values=BLANK)
        scored = labels[:, before:] >= 0
        ends = [labels.shape[1] - before + k for k in range(before + 1)]
        return tuple(labels[:, k:end][scored] for k, end in enumerate(ends))

    def inputs_without_data(self, rng, size):
        """Three phonemes."""
        return {"labels": rng.integers(1, self.classes, (size, 3), "int32")}
