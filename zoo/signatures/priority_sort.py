"""Vectors with priorities in, the vectors in their order out."""

import numpy as np

from ...trainers.tasks._memory import words
from ._memory import MOST_STEPS, read_vectors, signatures, some_words, spelling, unsure
from ._notation import Notation, expected, pad, table, verdict

__all__ = ["notation", "signatures"]


def notation(task):
    """Vectors with their priorities, as `0.3:5a -0.7:0f`."""

    def read(texts):
        vectors, priorities = zip(*(_vectors_and_priorities(task, text) for text in texts))
        (vectors, count), (priorities, _) = (pad(x, 0, "float32") for x in (vectors, priorities))
        inputs, _ = task.lay(vectors, priorities, count)
        return inputs

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
            doubts = unsure(outputs["probability"][row, count + 1 : steps])
            texts.append(table([*lines, *doubts]))
        return texts

    example = []
    for count in (4, 2):
        ranks = np.random.default_rng(count).permutation(count) / count
        told = zip(ranks, some_words(count, task.bits))
        example.append(" ".join(f"{rank:g}:{word}" for rank, word in told))
    return {"serve": Notation(tuple(example), read, show)}


def _vectors_and_priorities(task, text):
    pairs = [token.partition(":") for token in text.split()]
    vectors = read_vectors([word for *_, word in pairs], task.bits)
    try:
        priorities = [float(priority) for priority, *_ in pairs]
    except ValueError:
        priorities = []
    legal = len(vectors) == len(priorities) and all(abs(p) <= 1 for p in priorities)
    if not legal or not 0 < len(vectors) <= MOST_STEPS // 2:
        what = f"vectors, {spelling(task.bits)}, each behind its priority of -1 to 1"
        raise expected(f"{what}, such as 0.3:{some_words(1, task.bits)[0]}", text)
    return vectors, priorities
