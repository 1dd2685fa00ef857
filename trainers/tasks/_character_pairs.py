"""What the tasks share that make one text of another, a character at a time."""

import dataclasses
import functools
import math

import numpy as np
from keras import ops

from ...layers import _backend as backend
from .._describe import verdict
from .._evaluate import outputs_of
from .._task import Listed
from ..figures.text import drawn_saliency
from ._pairs import END, INPUTS, MARKS, SIDES, UNKNOWN, lay_pairs
from ._text import costs

SHARE = 0.99


@dataclasses.dataclass(frozen=True)
class CharacterPairs(Listed):
    """Say a text after another, a character at a time.

    Subclasses provide `pairs(split)`, a list of pairs of texts; `alphabet`, of which the first two
    are `MARKS`; `longest`, the most characters of a source and of a target; `example`, two sources,
    and `answers`, what may be said of them.

    Both sides of a batch are filled up to the next multiple of `steps` (of a source, and of a
    target with its end), and rows are drawn with others that are filled up alike.

    Inputs: `source`, `(batch, source)` int32, places in the alphabet, 0 behind the end; `lengths`,
    `(batch,)` int32; `target`, `(batch, target)` int32, `<end>` and then the characters of the
    target. Targets: `character`, `(batch, target)` int32, the characters and then `<end>`, -1
    behind it. The model output `character` is logits, `(batch, target, characters)`.
    """

    captions = {
        "saliency": "Norms of the gradients of each character's log-probability by the vectors of "
        "the characters that were read and of those that were said before, each line by its "
        "largest.",
    }

    def pairs(self, split="train"):
        """All of a split: a list of pairs of texts."""
        raise NotImplementedError

    @property
    def alphabet(self):
        """All characters, a list."""
        raise NotImplementedError

    @property
    def longest(self):
        """The most characters of a source, and of a target."""
        raise NotImplementedError

    @property
    def steps(self):
        """What the lengths of a batch are multiples of, on either side."""
        source, target = self.longest
        return source, target + 1

    @property
    def classes(self):
        """How many characters there are."""
        return len(self.alphabet)

    @property
    def input_spec(self):
        return INPUTS

    @property
    def target_spec(self):
        return {"character": ((None,), "int32")}

    def examples(self, split="train"):
        """How many pairs a split has."""
        return len(self.pairs(split))

    def unfolding(self, share=SHARE):
        """`(ratio, extra)`: where targets end by the lengths of their sources, in training.

        `ratio` is the slope of the line through both with the least squares, in tenths, and at
        least one; `extra` lifts it over as large a share of the targets, with their ends.
        """
        source, target = _lengths(self, "train")
        target = target + 1
        slope = np.polyfit(source, target, 1)[0] if len(set(source)) > 1 else 0.0
        tenths = max(1, round(10 * slope))
        left = np.sort(target - tenths * source / 10)
        lifted = left[min(len(left) - 1, int(share * len(left)))]
        return tenths / 10, max(0, math.ceil(lifted))

    def code(self, pairs, steps=None):
        """`(inputs, targets)` of pairs of texts, filled up to multiples of `steps`."""
        places = _places(tuple(self.alphabet))
        read, said = ([[places.get(c, UNKNOWN) for c in x] for x in side] for side in zip(*pairs))
        sizes = max(map(len, read)), 1 + max(map(len, said))
        sizes = [-(-n // step) * step for n, step in zip(sizes, steps or self.steps)]
        inputs, right = lay_pairs(read, said, sizes)
        return inputs, {"character": right}

    def rows(self, chosen, split="train"):
        """`(inputs, targets)` of pairs by their numbers."""
        pairs = self.pairs(split)
        return self.code([pairs[i] for i in chosen])

    def batch(self, rng, size, difficulty=None, split="train"):
        kinds = self._kinds(split)
        if not size:
            empty = {"source": (0, 1), "lengths": (0,), "target": (0, 1)}
            inputs = {name: np.zeros(shape, "int32") for name, shape in empty.items()}
            return inputs, {"character": np.zeros((0, 1), "int32")}
        # One at random decides how far all are filled up: every pair is as frequent as any other.
        alike = np.flatnonzero(kinds == kinds[rng.integers(len(kinds))])
        return self.rows(rng.choice(alike, size), split)

    def _kinds(self, split):
        source, target = _lengths(self, split)
        first, second = self.steps
        return -(-source // first) * 1000 + -(-(target + 1) // second)

    def read(self, places):
        """The text of places in the alphabet."""
        return "".join(self.alphabet[place] for place in places)

    def translate(self, model, sources, batch_size=50):
        """The most probable character after the most probable so far, up to `<end>`; texts."""
        said, order = {}, sorted(range(len(sources)), key=lambda i: len(sources[i]))
        for first in range(0, len(order), batch_size):
            # A last batch that repeats its own rows keeps the shape, and so the compiled graph.
            chosen = np.resize(order[first : first + batch_size], batch_size)
            inputs, _ = self.code([(sources[i], "") for i in chosen])
            longest = self.longest[1] + 1
            step = self.steps[1]
            target = np.zeros((batch_size, -(-longest // step) * step), "int32")
            for place in range(longest):
                seen = target[:, : (place // step + 1) * step]
                logits = outputs_of(model, {**inputs, "target": seen})["character"][:, place]
                if place + 1 < target.shape[1]:
                    target[:, place + 1] = logits.argmax(axis=-1)
                if np.all(np.any(target[:, 1 : place + 2] == END, axis=1)):
                    break
            ended = np.pad(target[:, 1:], ((0, 0), (0, 1))) == END
            for i, row, end in zip(chosen, target, ended.argmax(axis=1)):
                said[i] = self.read(row[1 : 1 + end])
        return [said[i] for i in range(len(sources))]

    def describe(self, inputs, targets, outputs):
        """`forty-two -> 42; said 47 (1 of 3 wrong), 3.20 bits`.

        Every character is said after the right ones before it.
        """
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            text = self.read(inputs["source"][row, :length])
            logits = outputs["character"][row]
            said = logits.argmax(axis=-1)
            if targets is None:
                chance = 2 ** -costs(said[:1], logits[:1])[0]
                lines.append(f"{text}; begins {self.read(said[:1])} ({chance:.2f})")
                continue
            right = targets["character"][row]
            scored = right >= 0
            texts = [self.read(x[scored]).removesuffix(MARKS[END]) for x in (right, said)]
            mark = verdict((said != right)[scored].sum(), scored.sum())
            bits = costs(right, logits).sum()
            lines.append(f"{text} -> {texts[0]}; said {texts[1]}{mark}, {bits:.2f} bits")
        return lines

    def figures(self, model):
        """Matplotlib figures by name: `saliency`."""
        pairs = self.pairs("test")
        pair = max(pairs[:: max(1, len(pairs) // 50)], key=lambda pair: sum(map(len, pair)))
        return {"saliency": drawn_saliency(*saliency(model, self, pair), *pair)}

    def inputs_without_data(self, rng, size):
        """Inputs of chance, which need no text."""
        source, target = self.longest
        lengths = rng.integers(1, source + 1, size, "int32")
        read = rng.integers(2, self.classes, (size, source), "int32")
        said = np.pad(rng.integers(2, self.classes, (size, target), "int32"), ((0, 0), (1, 0)))
        read = np.where(np.arange(source) < lengths[:, None], read, 0).astype("int32")
        return {"source": read, "lengths": lengths, "target": said}


def gradient_norms(model, inputs, right, chosen):
    """How much the log-probability of characters moves with the vectors of those that were read.

    Args:
        model: whose layers `source_words` and `target_words` give these vectors, which `net` and
            `head` make logits of.
        inputs: a batch of them.
        right: `(batch, target)`, the characters; where they are not chosen they may be anything.
        chosen: `(batch, target)` boolean, which of them count.

    Returns:
        Norms of the gradients by the vectors of the source, `(batch, source)`, and by those of the
        target, `(batch, target)`.
    """
    words = [model.get_layer(f"{side}_words") for side in SIDES]
    net, head = model.get_layer("net"), model.get_layer("head")
    lengths = ops.cast(inputs["lengths"], "int32")
    label = ops.maximum(right, 0)[..., None]

    def chances(*vectors):
        logits = head(net(*vectors, lengths))
        logp = ops.take_along_axis(ops.log_softmax(logits), label, axis=-1)[..., 0]
        return ops.sum(ops.where(chosen, logp, ops.zeros_like(logp)), axis=1)

    vectors = (words(ops.convert_to_tensor(inputs[side])) for side, words in zip(SIDES, words))
    total, pull = backend.vjp(chances, *vectors)
    return [ops.sqrt(ops.sum(ops.square(x), axis=-1)) for x in pull(ops.ones_like(total))]


def saliency(model, task, pair):
    """The heat maps of a pair of texts (Kalchbrenner et al., 2016, figure 6).

    Returns:
        `gradient_norms` of each character of the target and of its end by the characters of the
        source, `(target + 1, source)`, and by `<end>` and the characters of the target before it,
        `(target + 1, target + 1)`.
    """
    rows = len(pair[1]) + 1
    inputs, targets = task.code([pair] * rows)
    right = targets["character"]
    chosen = np.arange(right.shape[1]) == np.arange(rows)[:, None]
    source, target = map(np.asarray, gradient_norms(model, inputs, right, chosen))
    return source[:, : len(pair[0])], target[:, :rows]


@functools.lru_cache(maxsize=8)
def _places(alphabet):
    return {character: place for place, character in enumerate(alphabet)}


@functools.lru_cache(maxsize=8)
def _lengths(task, split):
    """Characters of all sources of a split and of all targets."""
    return np.array([[len(text) for text in pair] for pair in task.pairs(split)]).T
