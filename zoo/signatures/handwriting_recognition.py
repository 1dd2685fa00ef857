"""Strokes in, the text that was read in them out."""

from ...layers import ctc_best_path
from ._notation import Notation, table
from ._pen import EXAMPLE, normalised, read_paths
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: points in, their text out, and where each character was read."""
    import tensorflow as tf

    characters = tf.constant(("", *task.alphabet, "\N{WHITE SQUARE}"))

    def serve(points, lengths):
        points = normalised(points, lengths, task)
        points = tf.where(points[..., 2:] < 0.0, 0.0, points)
        answer = model({"points": points, "lengths": lengths})
        # One point more, in case there is none; it is padding.
        logits = tf.pad(answer["text"], [[0, 0], [0, 1], [0, 0]])
        symbols, places = ctc_best_path(logits, lengths)
        text = tf.strings.reduce_join(tf.gather(characters, tf.maximum(symbols, 0)), axis=-1)
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(symbols > 0, tf.int32), axis=-1))
        return {"text": text, "places": places[:, :longest], **handed_on(answer, told)}

    inputs = {"points": ((None, None, 3), "float32"), "lengths": ((None,), "int32")}
    outputs = {
        "text": "what was read, (batch,); a white square stands for other characters",
        "places": "the point at which each character was read, (batch, characters); -1 behind the "
        "last",
        **told,
    }
    return {"serve": Signature(serve, inputs, notation(task)["serve"].sample, outputs)}


def notation(task):
    """Strokes as an SVG path, in the unit of the data."""

    def show(inputs, outputs):
        told = []
        for text, places in zip(outputs["text"], outputs["places"]):
            read = [*text.decode()]
            # A text of nothing has no table.
            lines = [("read", read), ("at point", [f"{x}" for x in places[: len(read)]])]
            told.append(table(lines) if read else "read      nothing")
        return told

    return {"serve": Notation(EXAMPLE, read_paths, show)}
