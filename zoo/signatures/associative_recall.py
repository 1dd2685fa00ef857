"""Items in, the one behind the item that is asked for out."""

import itertools

import numpy as np

from ...trainers.tasks._memory import words
from ._memory import MOST_STEPS, read_vectors, signatures, some_words, spelling, unsure
from ._notation import Notation, expected, pad, table, verdict

__all__ = ["notation", "signatures"]


def notation(task):
    """Items and the one that is asked for, as `2a.01.3f 17.3f.22 ? 2a.01.3f`."""
    each = task.vectors + 1

    def read(texts):
        items, asked = zip(*(_items(task, text) for text in texts))
        inputs, _ = task.lay(*pad(items, 0, "float32"), np.array(asked))
        return inputs

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
            doubts = unsure(outputs["probability"][row, first:steps])
            lines += [(name, [" ".join(cells)]) for name, cells in doubts]
            texts.append(table(lines))
        return texts

    example = []
    for count in (3, 2):
        spelled = some_words(count * task.vectors, task.bits)
        items = [
            ".".join(spelled[start : start + task.vectors])
            for start in range(0, len(spelled), task.vectors)
        ]
        example.append(f"{' '.join(items)} ? {items[0]}")
    return {"serve": Notation(tuple(example), read, show)}


def _items(task, text):
    """The vectors of the items, `(items, vectors, bits)`, and which item is asked for."""
    shown, mark, asked = text.partition("?")
    items = [read_vectors(item.split("."), task.bits) for item in [*shown.split(), asked.strip()]]
    whole = all(len(item) == task.vectors for item in items)
    if not mark or not whole or not 2 < len(items) <= MOST_STEPS // (task.vectors + 1):
        raise expected(_rules(task), text)
    *items, asked = (item.tolist() for item in items)
    if asked not in items[:-1]:
        raise expected("to be asked for an item that another one follows", text)
    return np.array(items), items.index(asked)


def _rules(task):
    return (
        f"2 items or more, each {task.vectors} vectors with dots between, {spelling(task.bits)}, "
        "then ? and one of them"
    )
