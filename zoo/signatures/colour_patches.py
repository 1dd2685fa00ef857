"""Images in colour in, what they cost out."""

import math

import numpy as np

from ...trainers._evaluate import telling
from ...trainers._task import NATS
from ._checks import check_range
from ._signature import Signature

COST = {
    "nats": "minus the image's log-probability, (batch,)",
    "bits_per_dimension": "the same in bits by pixel and colour, (batch,)",
}


def signatures(model, task, told):
    """`serve`: what images cost."""
    import tensorflow as tf

    shape, dtype = task.input_spec["image"]
    costs = telling(model, NATS)

    def serve(image):
        check_range("image", image, 0, task.levels - 1)
        given = {"image": image, "seed": tf.zeros_like(image[:, 0, 0, 0])}
        nats = tf.cast(costs({name: given[name] for name in model.input})[NATS], tf.float32)
        return {"nats": nats, "bits_per_dimension": nats / (math.prod(shape) * math.log(2))}

    sample = task.inputs_without_data(np.random.default_rng(0), 2)
    asked, shown = {"image": ((None, *shape), dtype)}, {"images": ("image",), "levels": task.levels}
    return {"serve": Signature(serve, asked, sample, COST, **shown)}


def notation(task):
    """None: nobody writes an image."""
    return {}
