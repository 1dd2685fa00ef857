"""Items in, the one behind the item that is asked for out."""

import itertools

import numpy as np

from ...trainers.tasks._memory import words
from ._memory import MOST_STEPS, _some_words, _spelling, _stack, _unsure, _vectors
from ._notation import Notation, expected, table, verdict


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
