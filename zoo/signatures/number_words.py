"""Numbers in words in, their digits out, or the other way round."""

from ._character_pairs import pair_notation, pair_signatures


def signatures(model, task, told):
    """`serve`: numbers in, how they are written otherwise out; `score`; `saliency`."""
    return pair_signatures(model, task, told, known=True)


def notation(task):
    """Numbers as the task writes them."""
    return pair_notation(task, what="characters of a number as the task writes it", known=True)
