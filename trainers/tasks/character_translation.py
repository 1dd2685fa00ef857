"""Translation of short texts, characters to characters (Kalchbrenner et al., 2016, section 5)."""

import dataclasses
import functools
from collections import Counter

import numpy as np

from .._metrics import BitsPerCharacter, TargetError
from ._character_pairs import MARKS, CharacterPairs
from .translation import Translation, bleu, tokens

PAD = 50
EXAMPLE = "Wählen Sie Extras - Optionen.", "Neues Dokument öffnen"


@dataclasses.dataclass(frozen=True)
class CharacterTranslation(CharacterPairs):
    """Translate a text of a few words, a character at a time.

    The pairs and their splits are those of the task `translation`, of at most `longest_words` words
    and marks a side, so that BLEU compares. Words and marks have a blank between them; the source
    is written small. The alphabet has `characters`: `<end>`, `<unk>` for all others, and the most
    frequent ones of training, of both sides.

    Texts are filled up to multiples of 50 characters, as in the paper.

    Inputs and targets are those of `CharacterPairs`.

    Raises:
        FileNotFoundError: the pairs are not there.
        ValueError: settings that make no task.
    """

    root: str = ""
    characters: int = 112
    longest_words: int = 8
    captions = {
        **CharacterPairs.captions,
        "greedy_decoding": "Sentences of the test split, each character the most probable after "
        "those before it; one reference, by sacrebleu.",
    }

    def __post_init__(self):
        if self.characters < 3:
            raise ValueError(f"characters must be 3 or more, got {self.characters}")
        Translation(self.root, longest=self.longest_words)

    @property
    def words(self):
        """The task on words, whose pairs these are."""
        return Translation(self.root, longest=self.longest_words)

    @property
    def corpus(self):
        """What the text may be called: a file of the user's own by its name."""
        return self.words.corpus

    def pairs(self, split="train"):
        """All of a split: a list of pairs of texts."""
        return _pairs(self.words, split)

    @property
    def alphabet(self):
        """All characters, a list; names of no characters where there are too few.

        Without the data there are such names alone, so that a model can be built.
        """
        found = _characters(self.words) if self.words.is_there else ()
        return [*MARKS, *found, *(f"<{i}>" for i in range(self.characters))][: self.characters]

    @property
    def longest(self):
        """The most characters of a source, and of a target, that may be asked for: 15 a word."""
        return (15 * self.longest_words,) * 2

    @property
    def steps(self):
        """What the lengths of a batch are multiples of, on either side."""
        return PAD, PAD

    @property
    def example(self):
        """Two sources."""
        return tuple(" ".join(tokens(text)[: self.longest_words]) for text in EXAMPLE)

    @property
    def answers(self):
        """What may be said of them."""
        return "Choose Options .", "New Document"

    def metrics(self):
        return {"character": [BitsPerCharacter(), TargetError()]}

    def report(self, model, rows=2000):
        """Plain numbers that belong beside the metrics: BLEU-4 of `translate` on the test split.

        Nothing, and a warning, where sacrebleu is not installed.
        """
        pairs = self.pairs("test")
        pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:rows]]
        said = self.translate(model, [source for source, _ in pairs])
        return bleu([" ".join(tokens(text)) for text in said], [right for _, right in pairs])


@functools.lru_cache(maxsize=8)
def _pairs(words, split):
    return [tuple(" ".join(text) for text in pair) for pair in words.pairs(split)]


@functools.lru_cache(maxsize=8)
def _characters(words):
    counts = Counter(c for pair in _pairs(words, "train") for text in pair for c in text)
    return tuple(sorted(counts, key=lambda c: (-counts[c], c)))
