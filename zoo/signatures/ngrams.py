"""Bits in, the probability of the next bit out."""

import numpy as np

from ...trainers.tasks.ngrams import optimal
from ._memory import MOST_STEPS, signatures
from ._notation import Notation, expected, over_text, pad

__all__ = ["notation", "signatures"]


def notation(task):
    """The bits so far, as `0110100`; the answer is the probability that a 1 comes next.

    Under each bit stands its `chance`, the probability of 1 that was given to it, in tenths.
    """

    def read(texts):
        rows = []
        for text in texts:
            letters = "".join(text.split())
            if set(letters) - set("01") or not 0 < len(letters) < MOST_STEPS:
                raise expected("bits, such as 0110100", text)
            rows.append(np.array([0, *map(int, letters)], "float32")[:, None])
        sequence, lengths = pad(rows, 0, "float32")
        return {"sequence": sequence, "lengths": lengths}

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
