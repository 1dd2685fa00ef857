"""A text in, a line of handwriting out."""

import numpy as np

from ._notation import Notation, expected
from ._pen import (
    EXAMPLE,
    MOST_CHARACTERS,
    MOST_POINTS,
    SCORED,
    WANTED,
    WRITTEN,
    Pen,
    drawn,
    read_paths,
    sample_points,
    show_scores,
    signature,
)

POINTS_PER_CHARACTER = 50  # the limit where none is given
ENDED = {
    "ended": "whether the window left the text before the limit of points was reached, (batch,)",
    "window": "the weights of the characters of `prime_text` and `text`, and of a place behind "
    "them, when each point was drawn, (batch, most, characters + 1)",
}


def encoded(texts):
    """Texts as bytes, `(texts,)`."""
    content = np.empty(len(texts), object)
    content[:] = [text.encode(errors="replace") for text in texts]
    return content


def signatures(model, task, told):
    """`serve` writes, `write` writes in somebody's hand, `score` says what given points cost."""
    import tensorflow as tf

    pen = Pen(model, task)

    def serve(text, bias, seed):
        symbols, characters = pen.symbols(text)
        most = tf.minimum(POINTS_PER_CHARACTER * characters, MOST_POINTS)
        nothing = tf.zeros((tf.shape(text)[0], 0, 3))
        return answer(symbols, characters, bias, seed, most, nothing, tf.zeros_like(characters))

    def write(text, bias, seed, most, prime, prime_text, lengths):
        symbols, characters = pen.symbols(tf.strings.join([prime_text, text]))
        return answer(symbols, characters, bias, seed, most, prime, lengths)

    def answer(*given):
        points, window, ended = pen.write(*given)
        return {**points, "ended": ended, "window": window}

    def score(points, text, lengths):
        symbols, _ = pen.symbols(text)
        scores, window = pen.score(points, symbols, lengths)
        return {**scores, "window": window}

    points, lengths = sample_points()
    given = {
        "text": encoded(["ab", "c"]),
        "bias": np.array([0.0, 1.0], "float32"),
        "seed": np.array([1, 2], "int32"),
    }
    primed = {
        **given,
        "most": np.array([12, 8], "int32"),
        "prime": points,
        "prime_text": encoded(["of ", "we "]),
        "lengths": lengths,
    }
    scored = {name: primed[name] for name in ("text", "lengths")}
    window = {
        "window": "the weights of the characters at each point, (batch, time, characters + 1)"
    }
    return {
        "serve": signature(serve, given, {**WRITTEN, **ENDED}),
        "write": signature(write, primed, {**WRITTEN, **ENDED}),
        "score": signature(score, {"points": points, **scored}, {**SCORED, **window}),
    }


def notation(task):
    """A text, which is written at a bias of 0.5; for `score` an SVG path, then `=` and its text."""

    def read(texts):
        for text in texts:
            if not 0 < len(text) <= MOST_CHARACTERS:
                raise expected(f"a text of 1 to {MOST_CHARACTERS} characters", text)
        return {
            "text": encoded(texts),
            "bias": np.full(len(texts), 0.5, "float32"),
            "seed": np.arange(1, len(texts) + 1, dtype="int32"),
        }

    def show(inputs, outputs):
        lines = []
        for row, text in enumerate(inputs["text"]):
            count = outputs["count"][row]
            strokes = int(np.sum(outputs["points"][row, :count, 2]))
            why = "the window left the text" if outputs["ended"][row] else "the limit was reached"
            lines.append(f"{text.decode()!r}: {count} points in {strokes} strokes, then {why}")
        return lines

    def picture(inputs, outputs):
        return drawn(outputs, [text.decode() for text in inputs["text"]])

    def read_scored(texts):
        parts = [text.partition("=") for text in texts]
        for text, (_, equals, _) in zip(texts, parts):
            if not equals:
                raise expected(f"{WANTED}, then = and the text", text)
        points, lengths = read_paths([path for path, _, _ in parts])
        written = encoded([text.strip() for _, _, text in parts])
        return {"points": points, "lengths": lengths, "text": written}

    scored = tuple(f"{path} = {text}" for path, text in zip(EXAMPLE, "t-"))
    return {
        "serve": Notation(("Dear reader,", "to the last letter"), read, show, picture),
        "score": Notation(scored, read_scored, show_scores),
    }
