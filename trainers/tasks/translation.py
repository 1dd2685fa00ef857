"""Translation of short texts (Kalchbrenner, Danihelka and Graves, 2015, section 4.4)."""

import dataclasses
import functools
import hashlib
import os
import re
import warnings
from collections import Counter

import numpy as np

from .._describe import verdict
from .._difficulty import levels
from .._evaluate import outputs_of
from .._metrics import BitsPerCharacter, TargetError
from .._task import Task
from ..data import libreoffice_help
from ..figures.text import drawn_influence
from ._pairs import END, INPUTS, MARKS, SIDES, UNKNOWN, lay_pairs
from ._text import costs


@dataclasses.dataclass(frozen=True)
class Translation(Task):
    """Translate a text of a few words, a word at a time.

    The pairs are German and English paragraphs and headings of LibreOffice's help, which `ponderzoo
    data fetch libreoffice_help` makes; `root` is the user's own file of lines `source<TAB>target`,
    or a directory with a `libreoffice-help.tsv`. The paper's text, travel phrases in Chinese and
    English, is another one, and its numbers do not compare.

    Words and punctuation marks are told apart by `tokens`, and those of the source written small.
    Each side has `words` of them: `<end>`, which also begins a target, `<unk>` for all others, and
    the most frequent ones of training. Pairs of more than `longest` words on either side are left
    out. A twentieth of the sources is the validation split, another the test split, by a hash.

    Inputs: `source`, `(batch, source)` int32, places in the source's list of words, 0 behind the
    end; `lengths`, `(batch,)` int32, words of each source; `target`, `(batch, target)` int32,
    `<end>` and then the words of the target. Targets: `word`, `(batch, target)` int32, the words
    and then `<end>`, -1 behind it. The model output `word` is logits, `(batch, target, words)`.

    Difficulty is the words of the longer side.

    Raises:
        FileNotFoundError: the pairs are not there.
        ValueError: no pair has the difficulty, or settings that make no task.
    """

    root: str = ""
    words: int = 4000
    longest: int = 8
    axis = "words of the longer side"
    captions = {
        "greedy_decoding": "Sentences of the test split, each word the most probable after those "
        "before it; one reference, by sacrebleu.",
        "influence": "How many bits a word of the translation costs more where a word of the "
        "source is not known, in a pair of the test split.",
    }

    def __post_init__(self):
        if self.words < 3 or self.longest < 1:
            raise ValueError(
                "translation takes 3 words or more a side and texts of 1 word or more, got "
                f"words={self.words}, longest={self.longest}"
            )

    @property
    def input_spec(self):
        return INPUTS

    @property
    def target_spec(self):
        return {"word": ((None,), "int32")}

    @property
    def difficulties(self):
        return tuple(range(1, self.longest + 1))

    @property
    def corpus(self):
        """What the text may be called: a file of the user's own by its name."""
        return os.path.basename(self._path) if self.root else "LibreOffice help, German to English"

    @property
    def is_there(self):
        """Whether the pairs are there."""
        return os.path.isfile(self._path)

    @property
    def _path(self):
        path = self.root or libreoffice_help.path()
        return os.path.join(path, libreoffice_help.FILE) if os.path.isdir(path) else path

    def vocabulary(self, side):
        """The `words` of "source" or "target"; names of no words where there are too few.

        Without the data there are such names alone, so that a model can be built.
        """
        found = self._text.words[side] if self.is_there else []
        return [*MARKS, *found, *(f"<{i}>" for i in range(self.words))][: self.words]

    def pairs(self, split="train"):
        """All of a split, the shortest first: list of pairs of tuples of words."""
        return self._text.pairs[split]

    @property
    def _text(self):
        return _read(self._path, self.longest)

    def code(self, pairs, width=None):
        """`(inputs, targets)` of pairs of words, for sides of at most `width` words."""
        width = self.longest if width is None else width
        places = [{word: i for i, word in enumerate(self.vocabulary(side))} for side in SIDES]
        read, said = (
            [[known.get(word, UNKNOWN) for word in pair[side]] for pair in pairs]
            for side, known in enumerate(places)
        )
        inputs, words = lay_pairs(read, said, (width, width + 1))
        return inputs, {"word": words}

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        pairs = self.pairs(split)
        first, last = np.searchsorted(self._text.sizes[split], [low, high + 1])
        if first == last and size:
            raise ValueError(
                f"the {split} split of {self._path} has no pair with {self.axis} from {low} to "
                f"{high}"
            )
        chosen = rng.integers(first, last, size) if size else []
        return self.code([pairs[i] for i in chosen], high)

    def metrics(self):
        return {"word": [BitsPerCharacter("bits_per_word"), TargetError()]}

    def read(self, side, places):
        """The words of places in the list of a side, with a blank between them."""
        words = self.vocabulary(side)
        return " ".join(words[place] for place in places)

    def translate(self, model, source, lengths):
        """The most probable word after the most probable words so far, up to `<end>`.

        Returns:
            List of lists of places in the target's list of words, without `<end>`.
        """
        target = np.zeros((len(source), self.longest + 1), "int32")
        inputs = {"source": source, "lengths": lengths, "target": target}
        for place in range(1, self.longest + 1):
            logits = outputs_of(model, inputs)["word"]
            target[:, place] = logits[:, place - 1].argmax(axis=-1)
        ended = np.pad(target[:, 1:], ((0, 0), (0, 1))) == END
        return [row[1 : 1 + end].tolist() for row, end in zip(target, ended.argmax(axis=1))]

    def describe(self, inputs, targets, outputs):
        """`datei öffnen -> Open a file; said Open the file (1 of 4 wrong), 3.20 bits`.

        Every word is said after the right ones before it.
        """
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            text = self.read("source", inputs["source"][row, :length])
            logits = outputs["word"][row]
            said = logits.argmax(axis=-1)
            if targets is None:
                chance = 2 ** -costs(said[:1], logits[:1])[0]
                lines.append(f"{text}; begins {self.read('target', said[:1])} ({chance:.2f})")
                continue
            right = targets["word"][row]
            scored = right >= 0
            words = [self.read("target", x[scored]).removesuffix(" <end>") for x in (right, said)]
            mark = verdict((said != right)[scored].sum(), scored.sum())
            lines.append(
                f"{text} -> {words[0]}; said {words[1]}{mark}, {costs(right, logits).sum():.2f} "
                "bits"
            )
        return lines

    def figures(self, model):
        """Matplotlib figures by name: `influence`."""
        read, said = self.pairs("test")[-1]
        figure = drawn_influence(influence(model, self, (read, said)), read, [*said, MARKS[END]])
        return {"influence": figure}

    def report(self, model, rows=2000, batch_size=50):
        """Plain numbers that belong beside the metrics: BLEU-4 of `translate` on the test split.

        Nothing, and a warning, where sacrebleu is not installed.
        """
        pairs = self.pairs("test")
        pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:rows]]
        said = []
        for first in range(0, len(pairs), batch_size):
            # A last batch that repeats its own rows keeps the shape, and so the compiled graph.
            some = pairs[first : first + batch_size]
            inputs, _ = self.code((some * batch_size)[:batch_size])
            answers = self.translate(model, inputs["source"], inputs["lengths"])
            said += [self.read("target", answer) for answer in answers[: len(some)]]
        return bleu(said, [" ".join(text) for _, text in pairs])

    def inputs_without_data(self, rng, size):
        """Inputs of chance, which need no text."""
        shape = (size, self.longest)
        lengths = rng.integers(1, self.longest + 1, size, "int32")
        source = rng.integers(2, self.words, shape, "int32")
        target = np.pad(rng.integers(2, self.words, shape, "int32"), ((0, 0), (1, 0)))
        source = np.where(np.arange(self.longest) < lengths[:, None], source, 0)
        return {"source": source.astype("int32"), "lengths": lengths, "target": target}


def tokens(text):
    """The words of a text; every character that is neither letter, digit nor `_` is one of its own.

    >>> tokens("Choose File - Open...")
    ['Choose', 'File', '-', 'Open', '.', '.', '.']
    """
    return re.sub(r"([^\w\s])", r" \1 ", text).split()


def bleu(said, right):
    """BLEU-4 of texts whose words have blanks between them, for a report.

    Nothing, and a warning, where sacrebleu is not installed.
    """
    try:
        import sacrebleu
    except ImportError:
        warnings.warn("BLEU is measured by sacrebleu: `pip install sacrebleu`", stacklevel=3)
        return {}
    found = sacrebleu.corpus_bleu(said, [right], tokenize="none", force=True)
    return {"greedy_decoding": {"translations": len(said), "bleu_4": float(found.score)}}


def influence(model, task, pair):
    """What each word of a source is worth to each word of its translation.

    Returns:
        `(target, source)`: bits that a word, `<end>` the last, costs more after the source with
        `<unk>` in the place of the other word.
    """
    inputs, targets = task.code([pair] * (len(pair[0]) + 1))
    source = inputs["source"]
    np.fill_diagonal(source[1:], UNKNOWN)
    bits = costs(targets["word"], outputs_of(model, inputs)["word"])
    return (bits[1:] - bits[0]).T[: len(pair[1]) + 1]


def _level(pair):
    return max(map(len, pair))


def _split(source):
    """Of twenty sources one is for validation, one for test."""
    number = int(hashlib.sha256(source.encode()).hexdigest(), 16) % 20
    return {0: "validation", 1: "test"}.get(number, "train")


@dataclasses.dataclass(frozen=True)
class _Text:
    """What a file holds: by split the pairs and their levels, by side the words of training."""

    pairs: dict
    sizes: dict
    words: dict


@functools.cache
def _read(path, longest):
    found = {"train": {}, "validation": {}, "test": {}}
    for source, target in libreoffice_help.load(path):
        pair = tuple(tokens(source.lower())), tuple(tokens(target))
        if all(pair) and _level(pair) <= longest:
            found[_split(" ".join(pair[0]))][pair] = None
    pairs = {split: sorted(some, key=_level) for split, some in found.items()}
    sizes = {split: [_level(pair) for pair in some] for split, some in pairs.items()}
    words = {}
    for number, side in enumerate(SIDES):
        counts = Counter(word for pair in pairs["train"] for word in pair[number])
        words[side] = sorted(counts, key=lambda word: (-counts[word], word))
    return _Text(pairs, sizes, words)
