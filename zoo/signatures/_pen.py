"""Points of a pen in: their units, and how people write strokes."""

import numpy as np

from ...layers.mixture_density import mixture_components, mixture_density_loss, mixture_mean
from ...trainers.data._hand import polylines
from ._checks import check_lengths
from ._notation import Notation, expected, pad
from ._signature import Signature, handed_on

EXAMPLE = ("M 0 0 L 0.05 -0.15 L 0.1 -0.3 L 0.15 -0.45 M 0.02 -0.2 L 0.2 -0.2", "M 0 0 L 0.1 0")
WANTED = "strokes as an SVG path, such as 'M 0 0 L 0.1 -0.2 M 0.2 0 L 0.3 0', of two points or more"


def symbols_of(text, task):
    """Symbols `(batch, longest)` int32 of texts `(batch,)` in a graph, 0 behind the last."""
    import tensorflow as tf

    codes = tf.strings.unicode_decode(text, "UTF-8").to_tensor(-1)
    found = codes[..., None] == tf.constant([ord(character) for character in task.alphabet])
    place = tf.argmax(found, axis=-1, output_type=tf.int32) + 1
    symbols = tf.where(tf.reduce_any(found, axis=-1), place, task.other)
    return tf.where(codes < 0, 0, symbols)


def normalised(points, lengths, task):
    """Points `(batch, time, 3)` in the task's unit, in a graph; 0, 0, -1 behind the last."""
    import tensorflow as tf

    check_lengths(lengths, points, "points")
    mean, deviation = task.offsets.astype("float32")
    scaled = tf.concat([(points[..., :2] - mean) / deviation, points[..., 2:]], axis=-1)
    there = tf.sequence_mask(lengths, tf.shape(points)[1])[..., None]
    return tf.where(there, scaled, tf.constant([0.0, 0.0, -1.0]))


def pen_signatures(model, task, told):
    """`serve`: what points cost, and what is expected next; of a task that gives a text, of it."""
    import tensorflow as tf

    given = {"text": ((None,), "string")} if "text" in task.input_spec else {}

    def serve(points, lengths, **text):
        points = normalised(points, lengths, task)
        before = tf.where(points[..., 2:] < 0.0, 0.0, points)
        inputs = {"points": tf.pad(before, [[0, 0], [1, 0], [0, 0]])}
        if text:
            inputs["text"] = symbols_of(text["text"], task)
        answer = model(inputs)
        parameters = answer["points"]
        last = tf.gather(parameters, lengths, batch_dims=1)
        mean, deviation = task.offsets.astype("float32")
        return {
            "nats": mixture_density_loss(points, parameters[:, :-1]),
            "next": mixture_mean(last) * deviation + mean,
            "end": tf.sigmoid(mixture_components(last)["end"]),
            **handed_on(answer, told),
        }

    outputs = {
        "nats": "minus the log density of each point, in normalised units, (batch, points); 0 "
        "behind the last",
        "next": "the mean of what is expected to follow, right and up, (batch, 2)",
        "end": "the probability that the stroke ends there, (batch,)",
        **told,
    }
    inputs = {"points": ((None, None, 3), "float32"), "lengths": ((None,), "int32"), **given}
    return {"serve": Signature(serve, inputs, pen_notation(task)["serve"].sample, outputs)}


def pen_notation(task):
    """Strokes as an SVG path, its unit that of the data; behind it the text, where one is given."""
    with_text = "text" in task.input_spec
    example = tuple(f"{path} {name}" for path, name in zip(EXAMPLE, ("= t", "= -")))

    def read(texts):
        rows = [_parted(text) if with_text else (text, "") for text in texts]
        points, lengths = pad([points_of(path) for path, _ in rows], 0, "float32")
        inputs = {"points": points, "lengths": lengths}
        if with_text:
            inputs["text"] = np.array([text for _, text in rows], object)
        return inputs

    def show(inputs, outputs):
        told = []
        for row, count in enumerate(inputs["lengths"]):
            nats, (right, up) = outputs["nats"][row, :count].mean(), outputs["next"][row]
            told.append(
                f"cost      {nats:.2f} nats a point\n"
                f"next      {right:+.3f} {-up:+.3f}, and the stroke ends with "
                f"{outputs['end'][row]:.2f}"
            )
        return told

    return {"serve": Notation(example if with_text else EXAMPLE, read, show)}


def _parted(text):
    path, equals, written = text.partition("=")
    if not equals:
        raise expected(f"{WANTED}, then = and the text", text)
    return path, written.strip()


def points_of(path):
    """Points `(points, 3)` of an SVG path, whose places go right and down; the first is left out.

    Raises `ValueError` where there are not two places or more.
    """
    try:
        strokes = polylines(path)
    except (ValueError, IndexError) as error:
        raise expected(WANTED, path) from error
    if sum(map(len, strokes)) < 2:
        raise expected(WANTED, path)
    places = np.concatenate(strokes) * (1, -1)
    ends = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in strokes])
    return np.column_stack([np.diff(places, axis=0), ends[1:]]).astype("float32")
