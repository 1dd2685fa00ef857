"""Images in, codes out, and what the images cost given them."""

import numpy as np

from ...trainers._evaluate import telling
from ...trainers._task import NATS
from ._checks import check_ink
from ._signature import Signature

CODE = {"code": "the numbers that are said of the image, (batch, numbers)"}


def signatures(model, task, told):
    """`serve`: what images cost given their codes; `encode`: the codes."""
    import tensorflow as tf

    shape, _ = task.input_spec["image"]
    costs, codes = telling(model, NATS), telling(model, "code")

    def ask(model, image):
        check_ink(image)
        given = {"image": image, "seed": tf.zeros((tf.shape(image)[0],), "int32")}
        return model({name: given[name] for name in model.input})

    def serve(image):
        return {"nats": tf.cast(ask(costs, image)[NATS], tf.float32)}

    def encode(image):
        return {"code": tf.cast(ask(codes, image)["code"], tf.float32)}

    given, sample = {"image": ((None, *shape), "float32")}, np.random.default_rng(0)
    sample = task.inputs_without_data(sample, 2)
    nats = {"nats": "minus the image's log-probability given its code, (batch,)"}
    return {
        "serve": Signature(serve, given, sample, nats, images=("image",)),
        "encode": Signature(encode, given, sample, CODE, images=("image",)),
    }


def notation(task):
    """None: nobody writes an image."""
    return {}
