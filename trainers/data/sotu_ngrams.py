"""SOTU-ngrams: texts that Kneser-Ney models of the State of the Union addresses made up.

Eleven models of characters are counted on 2 million characters of the addresses of training
(`sotu`), in small letters, with spaces, full stops and commas: those by which 0, 1, ... 10
characters decide on the next one. Each has made a corpus of 7,000 texts of 150 characters, 1
million in all. The more characters decide, the more there is to learn of a corpus, and the less
each character costs who knows the model: `bits`, which is measured, is what no other model can
undercut but by chance.

The paper counts its models on the King James Bible (Graves et al., 2017, section 4.1), so costs do
not compare with those there.

Reference: Kneser and Ney, "Improved Backing-off for M-gram Language Modeling", 1995; Chen and
Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998, section 3 (the
interpolated form, with one discount for each order).
"""

import functools
import io
import os

import numpy as np

from . import _store, sotu

EDITION = 1
SEED = 1
ALPHABET = "abcdefghijklmnopqrstuvwxyz ,."
MOST = 10
ROWS, LENGTH = 7000, 150
COUNTED = 2_000_000  # characters
SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
EXAMPLES = (MOST + 1) * round(SHARES["train"][1] * ROWS)  # texts of training
BITS = 5  # of a character within a number that stands for several


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "sotu_ngrams.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Makes the corpora where they are not there yet, and returns their path.

    It downloads the addresses (39 MB) where they are not there, counts and writes for two minutes,
    and stores 8 MB. The same version of numpy writes the same.

    Raises `RuntimeError` where npm is missing or fails, with its words, and `ValueError` where the
    addresses are others.
    """
    if not available(cache_dir):
        addresses = sotu.addresses("train", sotu.fetch(cache_dir)).values()
        codes = coded(" ".join(addresses))[:COUNTED]
        _store.write(pack(*corpora(codes, MOST, ROWS, LENGTH)), path(cache_dir))
    return path(cache_dir)


def load(path, split):
    """The texts of a split, `(orders, rows, characters)` uint8, places in `ALPHABET`; and `bits`.

    Raises `FileNotFoundError` where there are none, and `ValueError` where they are damaged.
    """
    found, bits = _read(path, os.path.getmtime(path) if os.path.exists(path) else 0)
    low, high = (round(share * found.shape[1]) for share in SHARES[split])
    return found[:, low:high], bits


@functools.lru_cache(maxsize=2)
def _read(path, changed):
    with _store.made(path, "sotu_ngrams", EDITION, "texts") as file:
        texts, bits = file["texts"], file["bits"]
        if texts.ndim != 3 or len(bits) != len(texts) or texts.max() >= len(ALPHABET):
            raise ValueError(f"texts of shape {texts.shape}, and bits of {len(bits)}")
        return texts, bits


def sample(folder):
    """Writes a file of the same form, of few and short texts, for tests."""
    codes = np.random.default_rng(0).integers(0, len(ALPHABET), 500)
    content = pack(*corpora(codes, MOST, 20, LENGTH))
    _store.write(content, os.path.join(folder, "sotu_ngrams.npz"))


def coded(text):
    """A text as places in `ALPHABET`: what is not in it is a space, and of spaces there is one."""
    kept = "".join(c if c in ALPHABET else " " for c in text.lower())
    places = {character: place for place, character in enumerate(ALPHABET)}
    return np.array([places[c] for c in " ".join(kept.split())], "int64")


def corpora(codes, most, rows, length):
    """Texts of the models of all orders up to `most`, and what a character costs each in bits.

    Returns:
        `(orders, rows, length)` uint8; `(orders,)` float64.
    """
    model, texts, bits = KneserNey(codes, most), [], []
    for order in range(most + 1):
        rng = np.random.default_rng([SEED, order])
        made, nats = model.write(order, rows, length, rng)
        texts.append(made.astype("uint8"))
        bits.append(nats.mean() / np.log(2))
    return np.stack(texts), np.array(bits)


def pack(texts, bits):
    """The bytes of the file."""
    stream = io.BytesIO()
    np.savez_compressed(stream, texts=texts, bits=bits, edition=np.array(EDITION))
    return stream.getvalue()


class KneserNey:
    """Interpolated Kneser-Ney models of all orders up to `most`, of whole numbers below 29.

    By a model of order n the n symbols before decide. Its counts are those of n + 1 symbols in the
    text, and below them, of fewer, in how many ways they can be begun.

    Args:
        codes: the text, `(symbols,)`, longer than `most`.
        most: the highest order.
    """

    def __init__(self, codes, most):
        self.codes, self.symbols = codes, len(ALPHABET)
        counted = [_counted(_grams(codes, order + 1)) for order in range(most + 2)]
        self.highest = counted[: most + 1]
        # A gram can be begun in as many ways as there are longer ones that end in it.
        self.lower = [
            _counted(longer.grams & ((1 << BITS * (order + 1)) - 1))
            for order, longer in enumerate(counted[1:])
        ]

    def _tables(self, order):
        """What is looked up, one after the other, from the highest order down."""
        return [self.highest[order], *reversed(self.lower[:order])]

    def probabilities(self, order, before, symbol):
        """Of symbols after others, `(batch,)`, by the model of an order.

        Args:
            before: `(batch,)`, the symbols before as numbers, as `_grams` makes them.
            symbol: `(batch,)`.
        """
        found = np.full(len(symbol), 1 / self.symbols)
        for places, table in enumerate(reversed(self._tables(order))):
            context = before & ((1 << BITS * places) - 1)
            first, last = table.range_of(context)
            total = table.total[last] - table.total[first]
            count = table.count_of((context << BITS) | symbol)
            kept = np.maximum(count - table.discount, 0) + table.discount * (last - first) * found
            found = np.where(total > 0, kept / np.maximum(total, 1), found)
        return found

    def write(self, order, rows, length, rng):
        """Texts that a model makes, and what each of their symbols costs.

        Every one goes on from a place of the text that is drawn by chance.

        Returns:
            `(rows, length)` places in the alphabet; nats of the same shape.
        """
        start = rng.integers(0, len(self.codes) - order, rows)
        before = np.zeros(rows, "int64")
        for place in range(order):
            before = before << BITS | self.codes[start + place]
        texts, nats = np.zeros((rows, length), "int64"), np.zeros((rows, length))
        for place in range(length):
            symbol = self._drawn(order, before, rng)
            nats[:, place] = -np.log(self.probabilities(order, before, symbol))
            texts[:, place] = symbol
            before = (before << BITS | symbol) & ((1 << BITS * order) - 1)
        return texts, nats

    def _drawn(self, order, before, rng):
        """A symbol for each row: by its counts or, for the share that is taken off them, by those
        of the next lower order.
        """
        symbol, left = np.zeros(len(before), "int64"), np.arange(len(before))
        for places, table in zip(range(order, -1, -1), self._tables(order)):
            context = before[left] & ((1 << BITS * places) - 1)
            first, last = table.range_of(context)
            total = table.total[last] - table.total[first]
            at = table.total[first] + (rng.random(len(left)) * total).astype("int64")
            gram = np.searchsorted(table.total, at, "right") - 1
            gram = gram.clip(0, len(table.grams) - 1)
            kept = (total > 0) & (rng.random(len(left)) >= table.discount / table.counts[gram])
            symbol[left[kept]] = table.grams[gram[kept]] & ((1 << BITS) - 1)
            left = left[~kept]
        symbol[left] = rng.integers(0, self.symbols, len(left))
        return symbol


class _Table:
    """Grams in ascending order, and how many there are of each.

    Attributes:
        total: `(grams + 1,)`, how many there are before each.
        discount: D = n1 / (n1 + 2 n2), of those that are there once and twice.
    """

    def __init__(self, grams, counts):
        self.grams, self.counts = grams, counts
        self.total = np.concatenate([[0], counts.cumsum()])
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        self.discount = once / (once + 2 * twice) if once and twice else 0.5

    def range_of(self, context):
        """The first gram that goes on from a context, and the one behind the last."""
        edges = [np.searchsorted(self.grams, (context + i) << BITS) for i in (0, 1)]
        return edges[0], edges[1]

    def count_of(self, gram):
        """How many there are of a gram."""
        place = np.searchsorted(self.grams, gram).clip(0, len(self.grams) - 1)
        return np.where(self.grams[place] == gram, self.counts[place], 0)


def _grams(codes, size):
    """All runs of so many symbols, each as one number, the first symbol the highest."""
    count = len(codes) - size + 1
    grams = np.zeros(count, "int64")
    for place in range(size):
        grams = grams << BITS | codes[place : place + count]
    return grams


def _counted(grams):
    found, counts = np.unique(grams, return_counts=True)
    return _Table(found, counts.astype("int32"))
