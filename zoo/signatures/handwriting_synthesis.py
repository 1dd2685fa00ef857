"""Strokes and their text in, what they cost and what is expected of the pen next."""

from ._pen import pen_notation, pen_signatures


def signatures(model, task, told):
    """`serve`: points and the text they write in, their costs and the next point out."""
    return pen_signatures(model, task, told)


def notation(task):
    """Strokes as an SVG path, then `=` and the text."""
    return pen_notation(task)
