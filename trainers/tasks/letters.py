"""Text of few letters, where words may be planned (Vezhnevets et al., 2016, section 4.1)."""

import dataclasses
import functools
from collections import Counter

import numpy as np

from .._evaluate import outputs_of
from .._task import SPLITS
from .characters import Characters, trace
from .running_words import letters_of, words_of

DATA = "addresses", "eight_words"
WORDS = "at", "bee", "cold", "dance", "if", "joy", "knot", "lemon"
WRITTEN = {"train": 200_000, "validation": 10_000, "test": 10_000}  # words
GRAM = 4  # letters of the macro-actions that are compared with the text
MOST = 20  # of them


@dataclasses.dataclass(frozen=True)
class Letters(Characters):
    """Predict the next letter of a text in small letters.

    A row is `length` consecutive letters from anywhere in the split. `data` is "addresses", the
    text of the task `running_words`, of 10,000 words or of the user's own files (`root`); or
    "eight_words", one of eight words behind the other, by chance, a space behind each. No two begin
    alike, so that whoever has read the first letter of a word knows it to its end.

    Inputs: `sequence`, `(batch, length)` int32, bytes. Targets: `next`, `(batch, length)` int32.
    The model output `next` is logits, `(batch, length, 256)`. A model that makes plans may tell
    where: `replanned`, `(batch, length)`, 1 where it did; and `chance`, `(batch, length)`, the
    probability of it, 1 where it had to be.

    `report` has `planning`, where it does: `replanned`, the share of the steps that planned;
    `length`, the mean number of steps that a plan was followed; the mean `chance` behind first
    letters of words, and elsewhere; and `rank_correlation`, Spearman's, of how often the most
    frequent macro-actions of four letters were planned with how often they are in the text.

    Raises:
        FileNotFoundError: the text is not there.
        ValueError: there are no such data.
    """

    data: str = "addresses"
    captions = {
        "planning": "Where a passage of the test split was planned again: bars, and as a line the "
        "probability; below it surprise at the next letter and entropy of its prediction.",
    }

    def __post_init__(self):
        super().__post_init__()
        if self.data not in DATA:
            raise ValueError(f"data must be one of {DATA}, got {self.data!r}")

    @property
    def corpus(self):
        if self.data == "eight_words":
            return "Eight-Words"
        return f"{words_of('train', self.root)[0]}, by its letters"

    def text(self, split="train"):
        """The letters of a split, or of "all", as bytes: a uint8 array."""
        if split == "all":
            return np.concatenate([self.text(name) for name in SPLITS])
        return _text(self.data, split, self.root)

    @property
    def entropy(self):
        """Of the source, in bits a letter, where that is known."""
        return np.log2(len(WORDS)) / np.mean([len(word) + 1 for word in WORDS])

    def report(self, model):
        """Plain numbers that belong beside the metrics."""
        found = super().report(model)
        if self.data == "eight_words":
            found["source_bits_per_character"] = float(self.entropy)
        if "replanned" in model.output:
            found["planning"] = planning(model, self)
        return found

    def figures(self, model, size=120):
        """Matplotlib figures by name: `planning` where the model plans."""
        from ..figures.ponder import ponder_over_text

        if "replanned" not in model.output:
            return {}
        text = self.text("test")
        first = len(text) // 2
        some = text[first : first + size + 1]
        read = trace(model, some)
        told = outputs_of(model, {"sequence": some[None, :-1].astype("int32")})
        planned = told["replanned"][0], told["chance"][0]
        words = "planned again\nline: chance"
        figure = ponder_over_text(read["text"], *planned, read["bits"], read["entropy"], words)
        return {"planning": figure}

    def inputs_without_data(self, rng, size):
        """Inputs of chance letters, which need no text."""
        return {"sequence": rng.integers(97, 123, (size, min(self.length, 24)), "int32")}


@functools.cache
def _text(data, split, root):
    if data == "addresses":
        return letters_of(split, root)
    rng = np.random.default_rng([len(WORDS), SPLITS[split]])
    chosen = rng.integers(0, len(WORDS), WRITTEN[split])
    return np.frombuffer("".join(WORDS[i] + " " for i in chosen).encode(), np.uint8)


def planning(model, task, split="test", rows=1000, batch_size=50, seed=0):
    """Where a model plans; see `Letters`. Its macro-actions are the letters it holds most probable.

    A plan that had to be made counts among those that were, and not to the means of `chance`.
    """
    from scipy.stats import spearmanr

    stream = task.dataset(split, batch_size, -(-rows // batch_size), seed)
    macros, sums, steps = Counter(), {"behind": [0, 0.0], "elsewhere": [0, 0.0]}, 0
    for inputs, _ in (stream[i] for i in range(len(stream))):
        told, sequence = outputs_of(model, inputs), inputs["sequence"]
        first = (sequence[:, 1:] != ord(" ")) & (sequence[:, :-1] == ord(" "))
        chance, steps = told["chance"][:, 1:], steps + sequence.size
        for name, chosen in (("behind", first), ("elsewhere", ~first)):
            free = chosen & (chance < 1)
            sums[name][0] += int(free.sum())
            sums[name][1] += float(chance[free].sum())
        said = told["next"].argmax(axis=-1).astype(np.uint8)
        for row, planned in zip(said, told["replanned"] > 0):
            for part in np.split(row, np.flatnonzero(planned))[1:]:
                macros[part.tobytes()] += 1
    behind, elsewhere = (total / max(count, 1) for count, total in sums.values())
    found = {
        "replanned": macros.total() / steps,
        "length": steps / macros.total(),
        "chance_behind_first_letters": behind,
        "chance_elsewhere": elsewhere,
    }
    grams = [(m, n) for m, n in macros.most_common() if len(m) == GRAM][:MOST]
    if len(grams) > 2:
        text = task.text(split).tobytes()
        real = [text.count(gram) for gram, _ in grams]
        correlation = spearmanr([n for _, n in grams], real).statistic
        found["rank_correlation"] = 0.0 if np.isnan(correlation) else float(correlation)
        found["most_frequent"] = " | ".join(gram.decode("latin-1") for gram, _ in grams[:8])
    return found
