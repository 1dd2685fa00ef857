"""Wikipedia character prediction (Graves, 2016, section 3.5)."""

import bz2
import dataclasses
import functools
import json
import lzma
import os

import numpy as np

from .._difficulty import levels
from .._evaluate import outputs_of
from .._metrics import BitsPerCharacter, TargetError
from .._task import Task
from ..data import _store, enwiki


@functools.cache
def _bytes(path):
    return np.frombuffer(_store.text(path), np.uint8)


@dataclasses.dataclass(frozen=True)
class Characters(Task):
    """Predict the next byte of Wikipedia's raw markup.

    A row is `length` consecutive bytes from anywhere in the split, of which the first `context` are
    read, and what follows them is not scored (Kalchbrenner et al., 2016, section 4). `root` is the
    user's own copy of enwik8, the file or its directory, split 90 : 5 : 5 as is usual; any other
    file is split in the same proportions. Without it the text is enwiki-6M, an excerpt of another
    dump, which `ponderzoo data fetch enwiki` downloads: bits per character on it do not compare
    with the paper's.

    Inputs: `sequence`, `(batch, length)` int32, bytes. Targets: `next`, `(batch, length)` int32.
    The model output `next` is logits, `(batch, length, 256)`.

    Raises:
        FileNotFoundError: the text is not there.
        ValueError: all of a row is context.
    """

    length: int = 100
    root: str = ""
    context: int = 0
    captions = {
        "compression": "In bits per character, on one stretch of the test split: the model, each "
        "byte behind 100 to 300 others, and bzip2 -9 and xz -9e on the same bytes and on the whole "
        "text.",
        "by_class": "By the kind of byte that was read; the bits are those of the next byte.",
        "ponder_over_text": "Ponder, surprise at the next byte and entropy of its prediction over "
        "a passage of the test split; spaces are shaded.",
    }
    called = {"rho": "N + R"}
    classes = 256

    def __post_init__(self):
        if self.context >= self.length:
            raise ValueError(
                f"context must be less than the length of {self.length}, got {self.context}"
            )

    @property
    def input_spec(self):
        return {"sequence": ((None,), "int32")}

    @property
    def target_spec(self):
        return {"next": ((None,), "int32")}

    @property
    def corpus(self):
        """What the text may be called: enwik8 is a file of that name and of 100,000,000 bytes."""
        if not self.root:
            return "enwiki-6M"
        name, size = os.path.basename(self._path), os.path.getsize(self._path)
        return name if name != "enwik8" or size == 100_000_000 else f"enwik8 ({size} bytes)"

    @property
    def _path(self):
        path = self.root or enwiki.path()
        if self.root and os.path.isdir(path):
            path = os.path.join(path, "enwik8")
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"no text at {path}; `ponderzoo data fetch enwiki` downloads 6 MB of Wikipedia, or "
                "root= names your own enwik8, the file or its directory"
            )
        return path

    def text(self, split="train"):
        """The bytes of a split, or of "all" of the file: a uint8 array, a read-only view."""
        content = _bytes(self._path)
        if split == "all":
            return content
        if not self.root:
            first, last = enwiki.SPLITS[split]
        else:
            shares = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}[split]
            first, last = (len(content) * share // 100 for share in shares)
        if last - first <= self.length:
            raise ValueError(
                f"the {split} split of {self._path} has {last - first} bytes, too few for a window "
                f"of {self.length} and the byte after it"
            )
        return content[first:last]

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        text = self.text(split)
        first = rng.integers(0, len(text) - self.length, (size, 1))
        window = text[first + np.arange(self.length + 1)].astype("int32")
        following = np.where(np.arange(self.length) < self.context, -1, window[:, 1:])
        return {"sequence": window[:, :-1]}, {"next": following.astype("int32")}

    def metrics(self):
        return {"next": [BitsPerCharacter(), TargetError()]}

    def describe(self, inputs, targets, outputs):
        """`"the French Rev" -> "o" (0.97), was "o"; 2.31 bits per character, 1.40 steps a byte`."""
        lines = []
        logp = log_softmax(outputs["next"])
        for row, sequence in enumerate(inputs["sequence"]):
            best = logp[row, -1].argmax()
            line = f"{quote(sequence[-60:])} -> {quote(best)} ({np.exp(logp[row, -1, best]):.2f})"
            if targets:
                bits = surprise(outputs["next"][row], targets["next"][row])[self.context :].mean()
                line += f", was {quote(targets['next'][row, -1])}; {bits:.2f} bits per character"
            if "updates" in outputs:
                line += f", {outputs['updates'][row].mean():.2f} steps a byte"
            lines.append(line)
        return lines

    def figures(self, model, size=120):
        """Matplotlib figures by name: `ponder_over_text` where the model ponders."""
        from ..figures.ponder import ponder_over_text

        text = self.text("test")
        first = len(text) // 2
        read = trace(model, text[first : first + size + 1])
        return {"ponder_over_text": ponder_over_text(**read)} if "rho" in read else {}

    def report(self, model):
        """Plain numbers that belong beside the metrics."""
        return {
            "corpus": self.corpus,
            "compression": compression(model, self),
            "by_class": bytes_by_class(model, self),
        }

    def inputs_without_data(self, rng, size):
        """Inputs of chance bytes, which need no text."""
        return {"sequence": rng.integers(32, 127, (size, min(self.length, 24)), "int32")}


def trace(model, text):
    """What a model does at every byte of a text but the last.

    Returns:
        Dict of `text` (the bytes read) and arrays of its length: `bits`, -log2 of the probability
        that the next byte was given; `entropy` of that prediction, in bits; and, where the model
        ponders, `updates`, N, and `rho`, N + R.
    """
    text = np.frombuffer(bytes(text), np.uint8).astype("int32")
    outputs = outputs_of(model, {"sequence": text[None, :-1]})
    logp = log_softmax(outputs["next"][0]) / np.log(2)
    read = {
        "text": bytes(text[:-1].astype(np.uint8)),
        "bits": -logp[np.arange(len(logp)), text[1:]],
        "entropy": -(np.exp2(logp) * logp).sum(axis=-1),
    }
    if "updates" in outputs:
        read["updates"] = outputs["updates"][0]
        read["rho"] = read["updates"] + outputs["remainder"][0]
    return read


def classes(sequence):
    """Kinds of bytes in `(batch, time)`: dict of boolean `(batch, time - 1)`, from the second on.

    Letters are those of ASCII; one that follows a letter is inside a word.
    """
    upper = sequence & ~32
    letter = (upper >= ord("A")) & (upper <= ord("Z"))
    here, letter, follows = sequence[:, 1:], letter[:, 1:], letter[:, :-1]
    kinds = {
        "space": here == ord(" "),
        "newline": here == ord("\n"),
        "full stop": here == ord("."),
        "comma": here == ord(","),
        "<": here == ord("<"),
        "[": here == ord("["),
        "digit": (here >= ord("0")) & (here <= ord("9")),
        "first letter": letter & ~follows,
        "inside a word": letter & follows,
    }
    kinds["other"] = ~np.any(list(kinds.values()), axis=0)
    kinds["all"] = np.ones_like(letter)
    return kinds


def bytes_by_class(model, task, split="test", rows=1000, batch_size=50, seed=0):
    """Ponder and surprise by the kind of byte that was read.

    Returns:
        Dict, kind of byte -> dict of floats: `share` of all bytes, `bits_per_character` of the byte
        that follows, and `ponder` (mean N) and `rho` (mean N + R) where the model ponders. Kinds
        that did not occur are left out.
    """
    stream = task.dataset(split, batch_size, -(-rows // batch_size), seed)
    sums = {}
    for inputs, targets in (stream[i] for i in range(len(stream))):
        outputs = outputs_of(model, inputs)
        values = {"share": np.ones(inputs["sequence"].shape)}
        values["bits_per_character"] = surprise(outputs["next"], targets["next"])
        if "updates" in outputs:
            values["ponder"] = outputs["updates"]
            values["rho"] = outputs["updates"] + outputs["remainder"]
        scored = targets["next"][:, 1:] >= 0
        for kind, chosen in classes(inputs["sequence"]).items():
            found = sums.setdefault(kind, dict.fromkeys(values, 0.0))
            for name, value in values.items():
                found[name] += float(value[:, 1:][chosen & scored].sum(dtype="float64"))
    total = sums["all"]["share"]
    return {
        kind: {n: v / (total if n == "share" else found["share"]) for n, v in found.items()}
        for kind, found in sums.items()
        if found["share"]
    }


def compression(model, task, split="test", size=200_000, window=300, context=100, batch_size=50):
    """Bits per character on the first `size` bytes of a split, beside those of bzip2 -9 and xz -9e.

    The stretch is read in rows of `window` bytes, each from the zero state, and what follows the
    first `context` of a row is not counted, so that every byte has as many before it: the same for
    all models, whatever rows they learnt from. bzip2 and xz have not seen the training text, and
    gain from a longer one: `whole_bzip2` and `whole_xz` are theirs on the whole file.

    Returns:
        Dict of plain numbers: `bytes`, `bits_per_character`, `bzip2`, `xz`, `whole_bytes`,
        `whole_bzip2`, `whole_xz`, in bits per character but for the two sizes.
    """
    text = task.text(split)
    window = min(window, len(text) - 1)
    context = min(context, window // 3)
    step = window - context
    rows = min(size, len(text) - 1 - context) // step
    size, bits = rows * step, 0.0
    places = step * np.arange(rows)[:, None] + np.arange(window)
    read, given = (text[places + i].astype("int32") for i in (0, 1))
    for first in range(0, rows, batch_size):
        # A last batch that repeats its own rows keeps the shape, and so the compiled graph.
        chosen = np.resize(np.arange(first, min(first + batch_size, rows)), batch_size)
        fresh = min(batch_size, rows - first)
        logits = outputs_of(model, {"sequence": read[chosen]})["next"]
        bits += surprise(logits, given[chosen])[:fresh, context:].sum()
    first = context + 1
    alone, whole = text[first : first + size].tobytes(), task.text("all").tobytes()
    return {
        "bytes": size,
        "bits_per_character": float(bits / size),
        **_packed(alone, ""),
        "whole_bytes": len(whole),
        **_packed(whole, "whole_"),
    }


def _packed(content, prefix):
    bzip2, xz = bz2.compress(content, 9), lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    sizes = {"bzip2": bzip2, "xz": xz}
    return {prefix + name: 8 * len(packed) / len(content) for name, packed in sizes.items()}


def surprise(logits, given):
    """-log2 of the probability of the bytes that were given, `(batch, time)` float64."""
    logp = np.take_along_axis(log_softmax(logits), given[..., None], axis=-1)
    return -logp[..., 0] / np.log(2)


def log_softmax(logits):
    """Natural logarithms of the probabilities, float64."""
    logits = np.asarray(logits, "float64")
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def quote(content):
    """Bytes as a person reads them: UTF-8 where it is, the rest and control characters escaped."""
    text = bytes(np.atleast_1d(content).astype(np.uint8)).decode("utf-8", "backslashreplace")
    return json.dumps(text, ensure_ascii=False)
