"""Vectors of bits in, the same vectors out."""

import numpy as np

from ...trainers.tasks._memory import words
from ._memory import MOST_STEPS, _some_words, _spelling, _stack, _unsure, _vectors
from ._notation import Notation, expected, table, verdict


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
