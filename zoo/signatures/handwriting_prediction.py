"""Strokes in, what they cost and what is expected of the pen next."""

from ._pen import pen_notation, pen_signatures


def signatures(model, task, told):
    """`serve`: points in, their costs and the next one out."""
    return pen_signatures(model, task, told)


def notation(task):
    """Strokes as an SVG path."""
    return pen_notation(task)
