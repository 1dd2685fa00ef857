"""Pairs of texts as arrays: one is read, the other is said behind it."""

import numpy as np

END, UNKNOWN = 0, 1
MARKS = ("<end>", "<unk>")
SIDES = ("source", "target")
INPUTS = {"source": ((None,), "int32"), "lengths": ((), "int32"), "target": ((None,), "int32")}


def lay_pairs(read, said, sizes):
    """The inputs of a model, and what it should say.

    Args:
        read, said: lists of lists of places in a vocabulary, a pair a row.
        sizes: steps of a source, and of a target with its end.

    Returns:
        `{"source": (batch, sizes[0]), "lengths": (batch,), "target": (batch, sizes[1])}`, filled up
        with `END`, which stands in front of each target, too; and `(batch, sizes[1])`, the targets
        with their ends, -1 behind. All int32.
    """
    source = np.full((len(read), sizes[0]), END, "int32")
    right = np.full((len(read), sizes[1]), -1, "int32")
    for row, (one, other) in enumerate(zip(read, said)):
        source[row, : len(one)], right[row, : len(other) + 1] = one, [*other, END]
    target = np.pad(np.maximum(right[:, :-1], END), ((0, 0), (1, 0)), constant_values=END)
    lengths = np.array([len(x) for x in read], "int32")
    return {"source": source, "lengths": lengths, "target": target}, right
