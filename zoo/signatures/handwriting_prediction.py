"""A pen that goes on with what was written, in no language."""

import numpy as np

from ._notation import Notation
from ._pen import (
    EXAMPLE,
    SCORED,
    WRITTEN,
    Pen,
    drawn,
    read_paths,
    sample_points,
    show_scores,
    signature,
)

GOES_ON = 200  # points, where people say no number


def signatures(model, task, told):
    """`serve` goes on with lines, `score` says what given points cost."""
    import tensorflow as tf

    pen = Pen(model, task)

    def without_text(rows):
        return tf.zeros((rows, 0), tf.int32), tf.fill([rows], -1)

    def serve(prime, lengths, bias, seed, most):
        text = without_text(tf.shape(prime)[0])
        return pen.write(*text, bias, seed, most, prime, lengths)[0]

    def score(points, lengths):
        symbols, _ = without_text(tf.shape(points)[0])
        return pen.score(points, symbols, lengths)[0]

    points, lengths = sample_points()
    primed = {
        "prime": points,
        "lengths": lengths,
        "bias": np.array([0.0, 1.0], "float32"),
        "seed": np.array([1, 2], "int32"),
        "most": np.array([12, 8], "int32"),
    }
    return {
        "serve": signature(serve, primed, WRITTEN),
        "score": signature(score, {"points": points, "lengths": lengths}, SCORED),
    }


def notation(task):
    """Strokes as an SVG path, gone on with for 200 points at a bias of 0.5; or what they cost."""

    def read_scored(texts):
        points, lengths = read_paths(texts)
        return {"points": points, "lengths": lengths}

    def read(texts):
        points, lengths = read_paths(texts)
        return {
            "prime": points,
            "lengths": lengths,
            "bias": np.full(len(texts), 0.5, "float32"),
            "seed": np.arange(1, len(texts) + 1, dtype="int32"),
            "most": np.full(len(texts), GOES_ON, "int32"),
        }

    def show(inputs, outputs):
        return [
            f"{count} points in {int(points[:count, 2].sum())} strokes"
            for count, points in zip(outputs["count"], outputs["points"])
        ]

    def picture(inputs, outputs):
        primes = [points[:count] for points, count in zip(inputs["prime"], inputs["lengths"])]
        return drawn(outputs, [""] * len(primes), primes)

    return {
        "serve": Notation(EXAMPLE, read, show, picture),
        "score": Notation(EXAMPLE, read_scored, show_scores),
    }
