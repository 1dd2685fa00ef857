"""Images in, digits out: what all tasks on digits serve."""

import numpy as np

from . import _windows
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: images in, digits out."""
    import tensorflow as tf

    shape, _ = task.input_spec["image"]

    def serve(image):
        least, largest = tf.reduce_min(image), tf.reduce_max(image)
        tf.debugging.Assert(
            (least >= 0) & (largest <= 1),
            ["image must be of values 0 to 1; the least and the largest are", least, largest],
        )
        answer = model({"image": image})
        probability = tf.nn.softmax(answer["digit"])
        digit = tf.argmax(probability, axis=-1, output_type=tf.int32)
        return {"digit": digit, "probability": probability, **handed_on(answer, told)}

    told = {**told, **{k: _windows.MEANINGS[k] for k in _windows.OVER if k in model.output}}
    shown = _windows.shown(told)
    return {
        "serve": Signature(
            serve,
            {"image": ((None, *shape), "float32")},
            task.inputs_without_data(np.random.default_rng(0), 2),
            {"digit": "0 to 9, (batch,)", "probability": "of each digit, (batch, 10)", **told},
            {"probability": tuple("0123456789"), **shown["names"]},
            images=("image",),
            over=shown["over"],
        )
    }


def notation(task):
    """None: nobody writes an image."""
    return {}
