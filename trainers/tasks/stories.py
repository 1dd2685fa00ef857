"""Small stories with a question (Weston et al., 2015; Graves et al., 2017, section 4.3)."""

import dataclasses
import functools
import random

import numpy as np

from .._metrics import TargetError
from .._task import Task
from ..data import babi
from ._buckets import halved
from ._stories import FAMILIES, MOST_WORDS, vocabulary


@dataclasses.dataclass(frozen=True)
class Stories(Task):
    """Answer a question on a story of a few statements with a word.

    There are twenty families of stories that a program tells, each of a kind of reasoning: what
    bAbI asks for, in words of our own. Numbers on them do not compare with those on bAbI, whose
    files are read where `root` is a directory with a copy of them; then the families are its tasks.
    Words are read one after the other, and the answer, which may stand for several words, is given
    at the end. A model has room for `words` of both. Lessons are families.

    Inputs: `sequence`, `(batch, time)` int32, places in the vocabulary, 0 behind the end;
    `lengths`, `(batch,)` int32. Targets: `answer`, `(batch,)` int32. The model output `answer` is
    logits, `(batch, classes)`.

    Raises:
        FileNotFoundError: there is no copy of bAbI in `root`.
        ValueError: a file there is damaged, or there are more words than there is room for.
    """

    words: int = 256
    root: str = ""
    axis = "families of stories"
    captions = {"families": "The share of wrong answers to the questions of every family."}

    @property
    def corpus(self):
        return f"bAbI, from {self.root}" if self.root else super().corpus

    @property
    def families(self):
        """Names of the families."""
        return tuple(_told(self.root)["train"]) if self.root else tuple(FAMILIES)

    @property
    def vocabulary(self):
        """All words, and all answers; names of no words where there is more room."""
        found = _vocabulary(self.root)
        if len(found) > self.words:
            raise ValueError(f"words must be {len(found)} or more, got {self.words}")
        return (*found, *(f"<{place}>" for place in range(len(found), self.words)))

    @property
    def longest(self):
        """Words of the longest story with its question."""
        return _longest(self.root)

    @property
    def classes(self):
        return self.words

    @property
    def input_spec(self):
        return {"sequence": ((None,), "int32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"answer": ((), "int32")}

    @property
    def lessons(self):
        return {name: name for name in self.families}

    def metrics(self):
        return {"answer": [TargetError()]}

    def batch(self, rng, size, difficulty=None, split="train"):
        if difficulty is not None and difficulty not in self.families:
            raise ValueError(f"a family must be one of {self.families}, got {difficulty!r}")
        given = [difficulty] if difficulty else self.families
        return self.lay(
            [self.one(rng, given[rng.integers(len(given))], split) for _ in range(size)]
        )

    def one(self, rng, family, split):
        """Words and answer of a question of a family."""
        if self.root:
            told = _told(self.root)[split][family]
            return told[rng.integers(len(told))]
        return worded(*FAMILIES[family](random.Random(int(rng.integers(2**62)))))

    def lay(self, rows):
        """Rows of pairs of words and answers."""
        place = _places(self.root)
        lengths = np.array([len(words) for words, _ in rows], "int32")
        # A step of training is compiled for every length: rows of a few lengths are enough.
        sequence = np.zeros((len(rows), halved(self.longest, max(lengths))), "int32")
        for row, (words, _) in enumerate(rows):
            sequence[row, : len(words)] = [place[word] for word in words]
        answer = np.array([place[answer] for _, answer in rows], "int32")
        return {"sequence": sequence, "lengths": lengths}, {"answer": answer}

    def describe(self, inputs, targets, outputs):
        """`anna ran to the shed . where is anna ? -> shed; answered attic (0.61), wrong`."""
        lines, words = [], self.vocabulary
        for row, steps in enumerate(inputs["lengths"]):
            logits = np.asarray(outputs["answer"][row], "float64")
            chance = np.exp(logits - logits.max())
            best, sure = chance.argmax(), chance.max() / chance.sum()
            told = " ".join(words[code] for code in inputs["sequence"][row, :steps])
            line = f"answered {words[best]} ({sure:.2f})"
            if targets:
                right = targets["answer"][row]
                mark = "" if best == right else ", wrong"
                line = f"{told} -> {words[right]}; {line}{mark}"
            else:
                line = f"{told}; {line}"
            lines.append(line)
        return lines

    def report(self, model):
        """`families`, the error of each."""
        from .._evaluate import lesson_errors

        errors = lesson_errors(model, self, self.families, 250)
        named = zip(self.families, errors)
        return {"families": {name.replace("_", " "): {"error": float(e)} for name, e in named}}


def worded(statements, question, answer):
    """The words of a story with its question, and the answer."""
    told = [word for statement in statements for word in (*statement.split(), ".")]
    return [*told, *question.split(), "?"], answer


@functools.cache
def _told(root):
    return babi.load(root)


@functools.cache
def _vocabulary(root):
    if not root:
        return vocabulary()
    pairs = [pair for tasks in _told(root).values() for told in tasks.values() for pair in told]
    return tuple(sorted({word for words, answer in pairs for word in (*words, answer)}))


@functools.cache
def _places(root):
    return {word: place for place, word in enumerate(_vocabulary(root))}


@functools.cache
def _longest(root):
    if not root:
        return MOST_WORDS
    tasks = _told(root).values()
    return max(len(words) for some in tasks for told in some.values() for words, _ in told)
