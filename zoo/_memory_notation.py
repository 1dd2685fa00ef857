"""Notation for the tasks of `trainers/_memory.py`: signatures of `sequence` and `lengths`.

Vectors of bits are written as words, in hexadecimal or bit by bit. Where an answer is `unsure`, the
probability that it gave to the least sure bit of a vector stands below the vector.
"""

import itertools
import re

import numpy as np

from ..trainers._memory import words
from ._notation import Notation, expected, over_text, table, verdict

SURE = 0.9
MOST_STEPS = 10_000
HEXADECIMAL = "0123456789abcdef"


def copy_notation(task):
    """Vectors as `35 e2 0f`."""
    start = int(task.markers)

    def read(texts):
        return _stack([_copy_row(task, text) for text in texts])

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            count = (steps - 1) // 2 - start
            shown = words(inputs["sequence"][row, start : start + count, : task.bits])
            answered = row, slice(start + count + 1, start + 2 * count + 1), slice(task.bits)
            copied = words(outputs["bits"][answered])
            lines = [("vectors", shown), ("copied", copied, verdict(copied == shown))]
            texts.append(table([*lines, *_unsure(outputs["probability"][answered])]))
        return texts

    example = tuple(" ".join(_some_words(count, task.bits)) for count in (5, 2))
    return {"serve": Notation(example, read, show)}


def _copy_row(task, text):
    vectors = _vectors(text.split(), task.bits)
    count, start = len(vectors), int(task.markers)
    if not 0 < count <= MOST_STEPS // 2:
        raise expected(f"vectors with spaces between, {_spelling(task.bits)}", text)
    row = np.zeros((2 * count + 1 + 2 * start, task.channels), "float32")
    row[start : start + count, : task.bits] = vectors
    row[start + count, -1] = 1
    if task.markers:
        row[0, -2] = 1
    return row


def repeat_copy_notation(task):
    """Vectors and how often to say them, as `35 e2 x3`."""

    def read(texts):
        return _stack([_repeat_row(task, text) for text in texts])

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            sequence = inputs["sequence"][row, :steps]
            count = int(sequence[:, -2].argmax())
            repeats = (steps - count - 2) // count
            shown = words(sequence[:count, : task.bits])
            said, ended = _said(outputs["bits"][row, count + 1 : steps])
            right = ended and said[:-1] == shown * repeats
            chance = outputs["probability"][row, count + 1 : steps]
            lines = [("vectors", [*shown, f"x{repeats}"])]
            starts = range(0, repeats * count, count)
            for start in starts:
                last = start == starts[-1]
                # Behind the last repetition stands the end.
                part = slice(start, start + count + last)
                note = [verdict(right)] if last else []
                lines.append(("" if start else "said", said[part], *note))
                lines += _unsure(chance[part])
            texts.append(table(lines))
        return texts

    example = (
        f"{' '.join(_some_words(3, task.bits))} x2",
        f"{' '.join(_some_words(1, task.bits))} x4",
    )
    return {"serve": Notation(example, read, show)}


def _repeat_row(task, text):
    *tokens, times = text.split() or [""]
    vectors = _vectors(tokens, task.bits)
    count, repeats = len(vectors), int(times[1:]) if re.fullmatch("x[0-9]{1,5}", times) else 0
    if not 0 < count * repeats <= MOST_STEPS - count:
        what = f"vectors, {_spelling(task.bits)}, and then how often to say them, such as x3"
        raise expected(what, text)
    row = np.zeros((count * (repeats + 1) + 2, task.channels), "float32")
    row[:count, : task.bits] = vectors
    row[count, -2:] = 1, task.normalised(repeats)
    return row


def _said(bits):
    """The words of an answer with its end markers, and whether it ends well, with nothing else."""
    vectors, ended = words(bits[:, :-1]), bits[:, -1] > 0
    said = [f"{vector}(end)" if end else vector for vector, end in zip(vectors, ended)]
    said[-1] = {True: "end", False: "no end"}[bool(ended[-1])]
    if ended[-1] and bits[-1, :-1].any():
        said[-1] = f"{vectors[-1]}(end)"
    return said, said[-1] == "end"


def associative_recall_notation(task):
    """Items and the one that is asked for, as `2a.01.3f 17.3f.22 ? 2a.01.3f`."""
    each = task.vectors + 1

    def read(texts):
        return _stack([_recall_row(task, text) for text in texts])

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            first = steps - task.vectors
            shown = inputs["sequence"][row, : first - 1, : task.bits].reshape(-1, each, task.bits)
            *items, asked = (".".join(words(chunk[1:])) for chunk in shown)
            recalled = ".".join(words(outputs["bits"][row, first:steps]))
            follow = [after for item, after in itertools.pairwise(items) if item == asked]
            lines = [("items", items), ("asked", [asked])]
            lines.append(("recalled", [recalled], verdict(recalled in follow)))
            doubts = _unsure(outputs["probability"][row, first:steps])
            lines += [(name, [" ".join(cells)]) for name, cells in doubts]
            texts.append(table(lines))
        return texts

    example = []
    for count in (3, 2):
        spelled = _some_words(count * task.vectors, task.bits)
        items = [
            ".".join(spelled[start : start + task.vectors])
            for start in range(0, len(spelled), task.vectors)
        ]
        example.append(f"{' '.join(items)} ? {items[0]}")
    return {"serve": Notation(tuple(example), read, show)}


def _recall_row(task, text):
    shown, mark, asked = text.partition("?")
    items = [_vectors(item.split("."), task.bits) for item in [*shown.split(), asked.strip()]]
    whole = all(len(item) == task.vectors for item in items)
    if not mark or not whole or not 2 < len(items) <= MOST_STEPS // (task.vectors + 1):
        raise expected(_recall_rules(task), text)
    *items, asked = (item.tolist() for item in items)
    if asked not in items[:-1]:
        raise expected("to be asked for an item that another one follows", text)
    each = task.vectors + 1
    row = np.zeros(((len(items) + 2) * each, task.channels), "float32")
    for start, item in zip(range(0, len(row), each), [*items, asked]):
        row[start + 1 : start + each, : task.bits] = item
    row[: len(items) * each : each, -2] = 1
    row[[len(items) * each, (len(items) + 1) * each], -1] = 1
    return row


def _recall_rules(task):
    return (
        f"2 items or more, each {task.vectors} vectors with dots between, {_spelling(task.bits)}, "
        "then ? and one of them"
    )


def ngrams_notation(task):
    """The bits so far, as `0110100`; the answer is the probability that a 1 comes next.

    Under each bit stands its `chance`, the probability of 1 that was given to it, in tenths.
    """
    from ..trainers.ngrams import optimal

    def read(texts):
        rows = []
        for text in texts:
            letters = "".join(text.split())
            if set(letters) - set("01") or not 0 < len(letters) < MOST_STEPS:
                raise expected("bits, such as 0110100", text)
            rows.append(np.array([0, *map(int, letters)], "float32")[:, None])
        return _stack(rows)

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            bits = inputs["sequence"][row, 1:steps, 0].astype(int)
            chance = outputs["probability"][row, :steps, 0]
            best = optimal(np.append(bits, 0)[None], task.context)[0, -1]
            tenths = np.minimum(np.floor(chance[:-1] * 10), 9)
            told = over_text("".join(map(str, bits)).encode(), {"chance": tenths}, "bits")
            texts.append(f"{told}\nnext      1 with {chance[-1]:.2f}, optimal {best:.2f}")
        return texts

    bits = np.random.default_rng(0).integers(0, 2, 30)
    example = ("01" * 12, "".join(map(str, bits)))
    return {"serve": Notation(example, read, show)}


def priority_sort_notation(task):
    """Vectors with their priorities, as `0.3:5a -0.7:0f`."""

    def read(texts):
        return _stack([_sort_row(task, text) for text in texts])

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            sequence = inputs["sequence"][row, :steps]
            count = int(sequence[:, -1].argmax())
            shown, priorities = words(sequence[:count, : task.bits]), sequence[:count, -2]
            order = np.argsort(-priorities, kind="stable")[: steps - count - 1]
            given = words(outputs["bits"][row, count + 1 : steps])
            right = given == [shown[place] for place in order]
            lines = [("vectors", shown), ("priority", [f"{p:g}" for p in priorities])]
            lines.append(("sorted", given, verdict(right)))
            doubts = _unsure(outputs["probability"][row, count + 1 : steps])
            texts.append(table([*lines, *doubts]))
        return texts

    example = []
    for count in (4, 2):
        ranks = np.random.default_rng(count).permutation(count) / count
        told = zip(ranks, _some_words(count, task.bits))
        example.append(" ".join(f"{rank:g}:{word}" for rank, word in told))
    return {"serve": Notation(tuple(example), read, show)}


def _sort_row(task, text):
    pairs = [token.partition(":") for token in text.split()]
    vectors = _vectors([word for *_, word in pairs], task.bits)
    try:
        priorities = [float(priority) for priority, *_ in pairs]
    except ValueError:
        priorities = []
    legal = len(vectors) == len(priorities) and all(abs(p) <= 1 for p in priorities)
    count = len(vectors)
    if not legal or not 0 < count <= MOST_STEPS // 2:
        what = f"vectors, {_spelling(task.bits)}, each behind its priority of -1 to 1"
        raise expected(f"{what}, such as 0.3:{_some_words(1, task.bits)[0]}", text)
    row = np.zeros((count + 1 + min(count, task.answers), task.channels), "float32")
    row[:count, : task.bits] = vectors
    row[:count, -2] = priorities
    row[count, -1] = 1
    return row


NOTATIONS = {
    "copy": copy_notation,
    "repeat_copy": repeat_copy_notation,
    "associative_recall": associative_recall_notation,
    "ngrams": ngrams_notation,
    "priority_sort": priority_sort_notation,
}


def _vectors(tokens, width):
    """The bits of words, `(count, width)`; `(0, width)` where one of them is no word."""
    vectors = []
    for token in tokens:
        letters = token.lower()
        if len(letters) == width and not set(letters) - set("01"):
            vectors.append([int(letter) for letter in letters])
        elif len(letters) == -(-width // 4) and not set(letters) - set(HEXADECIMAL):
            number = int(letters, 16)
            vectors.append([number >> place & 1 for place in range(width - 1, -1, -1)])
            if number >= 1 << width:
                return np.zeros((0, width))
        else:
            return np.zeros((0, width))
    return np.array(vectors).reshape(-1, width)


def _spelling(width):
    digits, word = -(-width // 4), _some_words(1, width)[0]
    plural = "" if digits == 1 else "s"
    return f"each {width} bits as {digits} hexadecimal digit{plural} or bit by bit, such as {word}"


def _some_words(count, width):
    return words(np.random.default_rng(0).integers(0, 2, (count, width)))


def _stack(rows):
    """Rows `(steps, channels)` as the signature takes them."""
    lengths = np.array([len(row) for row in rows], "int32")
    sequence = np.zeros((len(rows), max(lengths), rows[0].shape[1]), "float32")
    for row, steps in enumerate(rows):
        sequence[row, : len(steps)] = steps
    return {"sequence": sequence, "lengths": lengths}


def _unsure(chance):
    """The line of `table` that tells where an answer, `(time, width)`, was unsure, if it was."""
    least = np.maximum(chance, 1 - chance).min(axis=-1)
    cells = [f"{chance:.2f}" if chance < SURE else "-" for chance in least]
    return [("unsure", cells)] if min(least) < SURE else []
