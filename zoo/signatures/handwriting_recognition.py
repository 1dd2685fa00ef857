"""Strokes in, the text that was read in them out."""

from ...layers import ctc_best_path
from ._checks import check_lengths
from ._notation import Notation, pad, table
from ._pen import EXAMPLE, points_of
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: points in, their text out, and where each character was read."""
    import tensorflow as tf

    characters = tf.constant(("", *task.alphabet, "\N{WHITE SQUARE}"))

    mean, deviation = task.offsets.astype("float32")

    def serve(points, lengths):
        check_lengths(lengths, points, "points")
        scaled = tf.concat([(points[..., :2] - mean) / deviation, points[..., 2:]], axis=-1)
        there = tf.sequence_mask(lengths, tf.shape(points)[1])
        points = tf.where(there[..., None], scaled, 0.0)
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

    def read(paths):
        points, lengths = pad([points_of(path) for path in paths], 0, "float32")
        return {"points": points, "lengths": lengths}

    def show(inputs, outputs):
        told = []
        for text, places in zip(outputs["text"], outputs["places"]):
            read = [*text.decode()]
            # A text of nothing has no table.
            lines = [("read", read), ("at point", [f"{x}" for x in places[: len(read)]])]
            told.append(table(lines) if read else "read      nothing")
        return told

    return {"serve": Notation(EXAMPLE, read, show)}
