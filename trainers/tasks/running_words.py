"""Text prediction, a word at a time, as a text runs on (Graves, 2013, section 3.1)."""

import dataclasses
import functools
import os
from collections import Counter

import numpy as np

from .._metrics import Perplexity, TargetError
from ..data import sotu
from ._running import Running
from .characters import log_softmax

MARKS = sotu.UNKNOWN, sotu.END
FILES = {"train": "train", "validation": "valid", "test": "test"}


@dataclasses.dataclass(frozen=True)
class RunningWords(Running):
    """Predict the next word of a text that is read from its beginning to its end.

    The text is SOTU-10k, the State of the Union addresses in the form of the Penn Treebank's files,
    of 10,000 words, which `ponderzoo data fetch sotu` downloads; perplexities on it do not compare
    with those on the Penn Treebank. `root` is a directory with the user's own `ptb.train.txt`,
    `ptb.valid.txt` and `ptb.test.txt`, or others of the form `NAME.train.txt`: a sentence a line.

    There are `words` of them: `<unk>`, `<eos>`, the end of a sentence, which is read and scored as
    others are, and the most frequent ones of training; all others are `<unk>`.

    Models read on from segment to segment, and begin anew after `reset` of them. They are measured
    in the same way, and also while they go on learning (dynamic evaluation).

    Inputs: `sequence`, `(batch, length)` int32, places in the vocabulary. Targets: `next`,
    `(batch, length)` int32. The model output `next` is logits, `(batch, length, classes)`.

    Raises:
        FileNotFoundError: the text is not there.
        ValueError: `words` is less than 3.
    """

    words: int = 10_000
    length: int = 50
    reset: int = 100
    root: str = ""
    dynamic_rate: float = 1e-4
    dynamic_momentum: float = 0.9
    evaluation_batch = 16

    def __post_init__(self):
        if self.words < 3:
            raise ValueError(f"words must be 3 or more, got {self.words}")

    @property
    def corpus(self):
        return words_of("train", self.root)[0]

    @property
    def vocabulary(self):
        """The `words`; names of no words where there are too few.

        Without the text there are such names alone, so that a model can be built.
        """
        found = _frequent(self.root) if self.root or sotu.available() else ()
        names = (f"<{i}>" for i in range(self.words))
        return [*MARKS, *found, *names][: self.words]

    @property
    def classes(self):
        return self.words

    def codes(self, split):
        return _codes(split, self.root, self.words)

    def metrics(self):
        return {"next": [Perplexity(), TargetError()]}

    def describe(self, inputs, targets, outputs):
        """`... state of the -> union (0.97), was union; 12.3 perplexity`."""
        lines, logp, words = [], log_softmax(outputs["next"]), self.vocabulary
        for row, sequence in enumerate(inputs["sequence"]):
            best = logp[row, -1].argmax()
            read = " ".join(words[code] for code in sequence[-10:])
            line = f"{read} -> {words[best]} ({np.exp(logp[row, -1, best]):.2f})"
            if targets:
                said = targets["next"][row]
                nats = -logp[row, np.arange(len(said)), said].mean()
                line += f", was {words[said[-1]]}; {np.exp(nats):.1f} perplexity"
            lines.append(line)
        return lines


def words_of(split, root=""):
    """A text of words and what it is called: SOTU-10k, or a file of `root`.

    Raises `FileNotFoundError` where it is not there.
    """
    if not root:
        return "SOTU-10k", sotu.ten_thousand()[split]
    end = f".{FILES[split]}.txt"
    there = sorted(os.listdir(root)) if os.path.isdir(root) else []
    names = [name for name in there if name.endswith(end)]
    if not names:
        raise FileNotFoundError(
            f"no file *{end} in {root}, where there is {there[:8] or 'nothing'}; root= names a "
            "directory with your own ptb.train.txt, ptb.valid.txt and ptb.test.txt, or `ponderzoo "
            "data fetch sotu` downloads another text"
        )
    name = "ptb" + end if "ptb" + end in names else names[0]
    with open(os.path.join(root, name), encoding="utf-8") as file:
        return name.removesuffix(end), file.read()


def _listed(split, root):
    """All words of a split, the ends of sentences among them."""
    return words_of(split, root)[1].replace("\n", f" {sotu.END} ").split()


@functools.cache
def _frequent(root):
    counts = Counter(_listed("train", root))
    return tuple(sorted(counts.keys() - {*MARKS}, key=lambda word: (-counts[word], word)))


@functools.cache
def _codes(split, root, words):
    known = [*MARKS, *_frequent(root)][:words]
    places = {word: place for place, word in enumerate(known)}
    return np.array([places.get(word, 0) for word in _listed(split, root)], "int32")


@functools.cache
def letters_of(split, root=""):
    """The text of `words_of` as bytes, a uint8 array."""
    return np.frombuffer(words_of(split, root)[1].encode(), np.uint8)
