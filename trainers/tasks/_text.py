"""What the tasks on short texts share (Danihelka et al., 2016)."""

import numpy as np

from .._describe import verdict
from .._evaluate import outputs_of
from .._metrics import BitsPerSequence, SequenceError, TargetError
from .._task import Task
from ..figures.text import surprise

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"


class TextTask(Task):
    """Texts are read a character at a step, and some of the characters that follow are scored.

    Inputs: `sequence`, `(batch, time)` int32, places in the task's `alphabet`, 0 behind the end;
    `lengths`, `(batch,)` int32. Targets: `next`, `(batch, time)` int32, the character after that of
    the step where it is scored, else -1. The model output `next` is logits, `(batch, time,
    classes)`.

    Subclasses provide
      `alphabet`    all characters.
      `longest`     steps of the longest text.
      `most_answered`, `stop`    the characters of the longest answer, and the one that ends an
                    answer, or nothing.
      `example`     two texts that ask for an answer.
      `rules`       what such a text looks like, in words.
      `solve(text)` the answer to a text, or None where it asks for none.
      `difficulties`, `axis`, `batch`.
    """

    stop = ""

    @property
    def alphabet(self):
        """All characters."""
        raise NotImplementedError

    @property
    def longest(self):
        """Steps of the longest text."""
        raise NotImplementedError

    @property
    def classes(self):
        """How many characters there are."""
        return len(self.alphabet)

    @property
    def input_spec(self):
        return {"sequence": ((None,), "int32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"next": ((None,), "int32")}

    def solve(self, text):
        """The answer to a text, or None where it asks for none."""
        raise NotImplementedError

    def code(self, characters):
        """Places of characters in the alphabet."""
        return np.array([self.alphabet.index(character) for character in characters])

    def spelled(self, codes):
        """The text of places in the alphabet."""
        return "".join(self.alphabet[code] for code in codes)

    def rows(self, *pieces):
        """`(inputs, targets)` of pieces of text that follow one another, as in `joined`."""
        codes, there, scored = joined(*pieces)
        order = np.argsort(~there, axis=1, kind="stable")[:, : self.longest + 1]
        codes, there, scored = (
            np.take_along_axis(x, order, axis=1) for x in (codes, there, scored & there)
        )
        codes = np.where(there, codes, 0).astype("int32")
        lengths = there.sum(axis=1, dtype="int32") - 1
        # What is read ends one character before the text does.
        sequence = np.where(np.arange(self.longest) < lengths[:, None], codes[:, :-1], 0)
        target = np.where(scored, codes, -1)[:, 1:]
        inputs = {"sequence": sequence.astype("int32"), "lengths": lengths}
        return inputs, {"next": target.astype("int32")}

    def metrics(self):
        return {"next": [SequenceError(), TargetError(), BitsPerSequence()]}

    def describe(self, inputs, targets, outputs):
        """`s(ml,a),s(qc,n),q(ml) -> a; answered n (1 of 1 wrong), 3.20 bits`."""
        lines = []
        for row, steps in enumerate(inputs["lengths"]):
            text = self.spelled(inputs["sequence"][row, :steps])
            logits = outputs["next"][row, :steps]
            if targets is None:
                cost = costs(logits.argmax(axis=-1), logits)[-1]
                best = self.spelled(logits[-1:].argmax(axis=-1))
                lines.append(f"{text}; answered {best} ({2**-cost:.2f})")
                continue
            target, answer = targets["next"][row, :steps], logits.argmax(axis=-1)
            scored, bits = target >= 0, costs(target, logits).sum()
            lines.append(
                f"{text} -> {self.spelled(target[scored])}; answered "
                f"{self.spelled(answer[scored])}"
                f"{verdict((answer != target)[scored].sum(), scored.sum())}, {bits:.2f} bits"
            )
        return lines

    def figures(self, model):
        """Matplotlib figures by name: `surprise`, a text with its costs."""
        inputs, targets = self.batch(np.random.default_rng(0), 16)
        row, steps = inputs["lengths"].argmax(), inputs["lengths"].max()
        target = targets["next"][row, :steps]
        bits = costs(target, outputs_of(model, inputs)["next"][row, :steps])
        text = self.spelled(inputs["sequence"][row, :steps])
        return {"surprise": surprise(text, target, bits)}


def joined(*pieces):
    """Pieces of text one behind the other.

    Args:
        pieces: triples of arrays that broadcast to `(batch, ..., width)`, with a width for each
            piece: places in the alphabet; which of them are there; which of those are scored.

    Returns:
        Such a triple, `(batch, width)`.
    """
    pieces = [tuple(map(np.asarray, piece)) for piece in pieces]
    ahead = np.broadcast_shapes(*(part.shape[:-1] for piece in pieces for part in piece))
    widths = [np.broadcast_shapes(*(part.shape[-1:] for part in piece)) for piece in pieces]
    return tuple(
        np.concatenate(
            [np.broadcast_to(part, ahead + width) for part, width in zip(parts, widths)], axis=-1
        ).reshape(ahead[0], -1)
        for parts in zip(*pieces)
    )


def digits_of(values, most):
    """The digits of whole numbers from 0 on, the highest first.

    Args:
        values: `(batch,)`, below `10**most`.
        most: digits of the longest.

    Returns:
        `(batch, most)`, and which of them are written: no zeros in front.
    """
    powers = 10 ** np.arange(most - 1, -1, -1)
    digits = values[:, None] // powers
    return digits % 10, (digits > 0) | (powers == 1)


def costs(target, logits):
    """-log2 of the probabilities of targets, 0 where they are -1; float64.

    Args:
        target: `(..., )` int.
        logits: `(..., classes)`.
    """
    logits = np.asarray(logits, "float64")
    logits = logits - logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits).sum(axis=-1))
    given = np.take_along_axis(logits, np.maximum(target, 0)[..., None], axis=-1)[..., 0]
    return np.where(target >= 0, total - given, 0) / np.log(2)
