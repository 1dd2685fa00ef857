"""Text prediction, a byte at a time, as a text runs on (Graves, 2013, section 3)."""

import dataclasses

from .._metrics import BitsPerCharacter, Perplexity, TargetError
from ._running import Running
from .characters import Characters
from .running_words import letters_of, words_of

DATA = "wikipedia", "words"


@dataclasses.dataclass(frozen=True)
class RunningText(Running):
    """Predict the next byte of a text that is read from its beginning to its end.

    Models read on from segment to segment, and begin anew after `reset` of them. They are measured
    in the same way, and also while they go on learning (dynamic evaluation).

    `data` is "wikipedia", the text of the task `characters`, enwiki-6M or the user's own enwik8,
    text8 or other file (`root`), split 90 : 5 : 5, where the paper has 96 million bytes of enwik8
    for training and 4 million for validation; or "words", the text of the task `running_words`, of
    10,000 words, which is read by its letters here, so that perplexities a word compare.

    Inputs: `sequence`, `(batch, length)` int32, bytes; the paper's have 205 and 49 values. Targets:
    `next`, `(batch, length)` int32. The model output `next` is logits, `(batch, length, 256)`.

    Raises:
        FileNotFoundError: the text is not there.
        ValueError: there are no such data.
    """

    data: str = "wikipedia"
    length: int = 100
    reset: int = 100
    root: str = ""
    dynamic_rate: float = 1e-4
    dynamic_momentum: float = 0.9
    classes = 256

    def __post_init__(self):
        if self.data not in DATA:
            raise ValueError(f"data must be one of {DATA}, got {self.data!r}")

    @property
    def corpus(self):
        if self.data == "words":
            return f"{words_of('train', self.root)[0]}, by its letters"
        return self._wikipedia.corpus

    @property
    def _wikipedia(self):
        return Characters(self.length, self.root)

    def codes(self, split):
        if self.data == "words":
            return letters_of(split, self.root)
        return self._wikipedia.text(split)

    def metrics(self):
        found = [BitsPerCharacter(), TargetError()]
        return {"next": found + [Perplexity(b" \n")] * (self.data == "words")}

    def describe(self, inputs, targets, outputs):
        """`"the French Rev" -> "o" (0.97), was "o"; 2.31 bits per character`."""
        return Characters().describe(inputs, targets, outputs)
