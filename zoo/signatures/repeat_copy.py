"""Vectors of bits in, the same vectors several times out."""

import re

import numpy as np

from ...trainers.tasks._memory import words
from ._memory import MOST_STEPS, read_vectors, signatures, some_words, spelling, unsure
from ._notation import Notation, expected, pad, table, verdict

__all__ = ["notation", "signatures"]


def notation(task):
    """Vectors and how often to say them, as `35 e2 x3`."""

    def read(texts):
        vectors, repeats = zip(*(_vectors_and_repeats(task, text) for text in texts))
        inputs, _ = task.lay(*pad(vectors, 0, "float32"), np.array(repeats))
        return inputs

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
                lines += unsure(chance[part])
            texts.append(table(lines))
        return texts

    example = (
        f"{' '.join(some_words(3, task.bits))} x2",
        f"{' '.join(some_words(1, task.bits))} x4",
    )
    return {"serve": Notation(example, read, show)}


def _vectors_and_repeats(task, text):
    *tokens, times = text.split() or [""]
    vectors = read_vectors(tokens, task.bits)
    count, repeats = len(vectors), int(times[1:]) if re.fullmatch("x[0-9]{1,5}", times) else 0
    if not 0 < count * repeats <= MOST_STEPS - count:
        what = f"vectors, {spelling(task.bits)}, and then how often to say them, such as x3"
        raise expected(what, text)
    return vectors, repeats


def _said(bits):
    """The words of an answer with its end markers, and whether it ends well, with nothing else."""
    vectors, ended = words(bits[:, :-1]), bits[:, -1] > 0
    said = [f"{vector}(end)" if end else vector for vector, end in zip(vectors, ended)]
    said[-1] = {True: "end", False: "no end"}[bool(ended[-1])]
    if ended[-1] and bits[-1, :-1].any():
        said[-1] = f"{vectors[-1]}(end)"
    return said, said[-1] == "end"
