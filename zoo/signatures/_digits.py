"""Images in, digits out: what all tasks on digits serve."""

import numpy as np

from . import _windows
from ._signature import Signature, handed_on

DIGITS = tuple("0123456789")
SEEDS = np.array([7, 8], "int32")  # of a sample


def signatures(model, task, told):
    """`serve`: images in, digits out; with `seed` where the model takes chance."""
    import tensorflow as tf

    shape, _ = task.input_spec["image"]

    def serve(image, seed=None):
        least, largest = tf.reduce_min(image), tf.reduce_max(image)
        tf.debugging.Assert(
            (least >= 0) & (largest <= 1),
            ["image must be of values 0 to 1; the least and the largest are", least, largest],
        )
        given = {"image": image, "seed": seed}
        answer = model({name: given[name] for name in model.input})
        probability = tf.nn.softmax(answer["digit"])
        digit = tf.argmax(probability, axis=-1, output_type=tf.int32)
        return {"digit": digit, "probability": probability, **handed_on(answer, told)}

    told = {**told, **{k: _windows.MEANINGS[k] for k in _windows.OVER if k in model.output}}
    meanings = {"digit": "0 to 9, (batch,)", "probability": "of each digit, (batch, 10)", **told}
    shown = _windows.shown(told)
    asked = {"image": ((None, *shape), "float32"), "seed": ((None,), "int32")}
    sample = task.inputs_without_data(np.random.default_rng(0), 2) | {"seed": SEEDS}
    return {
        "serve": Signature(
            serve,
            {name: asked[name] for name in model.input},
            {name: sample[name] for name in model.input},
            meanings,
            {**{k: DIGITS for k in meanings if "probability" in k}, **shown["names"]},
            images=("image",),
            over=shown["over"],
        )
    }


def notation(task):
    """None: nobody writes an image."""
    return {}
