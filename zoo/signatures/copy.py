"""Vectors of bits in, the same vectors out."""

from ...trainers.tasks._memory import words
from ._memory import MOST_STEPS, read_vectors, signatures, some_words, spelling, unsure
from ._notation import Notation, expected, pad, table, verdict

__all__ = ["notation", "signatures"]


def notation(task):
    """Vectors as `35 e2 0f`."""
    start = int(task.markers)

    def read(texts):
        inputs, _ = task.lay(*pad([_vectors(task, text) for text in texts], 0, "float32"))
        return inputs

    def show(inputs, outputs):
        texts = []
        for row, steps in enumerate(inputs["lengths"]):
            count = (steps - 1) // 2 - start
            shown = words(inputs["sequence"][row, start : start + count, : task.bits])
            answered = row, slice(start + count + 1, start + 2 * count + 1), slice(task.bits)
            copied = words(outputs["bits"][answered])
            lines = [("vectors", shown), ("copied", copied, verdict(copied == shown))]
            texts.append(table([*lines, *unsure(outputs["probability"][answered])]))
        return texts

    example = tuple(" ".join(some_words(count, task.bits)) for count in (5, 2))
    return {"serve": Notation(example, read, show)}


def _vectors(task, text):
    vectors = read_vectors(text.split(), task.bits)
    if not 0 < len(vectors) <= MOST_STEPS // 2:
        raise expected(f"vectors with spaces between, {spelling(task.bits)}", text)
    return vectors
