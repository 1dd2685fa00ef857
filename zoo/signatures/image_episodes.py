"""Episodes of images in, what they cost to a memory of them out."""

import numpy as np

from ...trainers.tasks.image_episodes import PARTS
from ._checks import check_ink, check_lengths
from ._signature import Signature, handed_on

COST = {
    "nats": "minus a bound of the log-probability given the memory, by one sample, an image, "
    "(batch,)",
    "reconstruction": "the part of it that is for the pixels, (batch,)",
    "kl_codes": "the part of it that is for the code, (batch,)",
    "kl_addresses": "the part of it that is for its place in the memory, (batch,)",
    "kl_memory": "nats an image that tell the memory from an empty one, (batch,)",
}


def signatures(model, task, told):
    """`serve`: what the images of episodes cost, and how they are made again."""
    import tensorflow as tf

    def serve(image, lengths, seed):
        check_ink(image)
        check_lengths(lengths, image, "images")
        real = tf.sequence_mask(lengths, tf.shape(image)[1], tf.float32)
        given = {"image": image, "written": real, "seed": seed}
        answer = model({name: given[name] for name in model.input})
        count = tf.cast(tf.maximum(lengths, 1), tf.float32)
        parts = {
            name: tf.reduce_sum(real * tf.cast(answer[name], tf.float32), axis=1) / count
            for name in PARTS
        }
        return {
            "nats": sum(parts.values()),
            **parts,
            "kl_memory": tf.cast(answer["kl_memory"], tf.float32),
            "mean": tf.cast(answer["mean"], tf.float32),
            **handed_on(answer, told),
        }

    inputs = {"image": ((None, None, 28, 28), "float32"), "lengths": ((None,), "int32")}
    sample = {
        "image": task.inputs_without_data(np.random.default_rng(0), 2)["image"],
        "lengths": np.array([2, 1], "int32"),
        "seed": np.array([1, 2], "int32"),
    }
    means = {"mean": "the chance of each pixel to be 1, (batch, images, 28, 28)"}
    return {
        "serve": Signature(
            serve, {**inputs, "seed": ((None,), "int32")}, sample, {**COST, **means, **told}
        )
    }


def notation(task):
    """None: nobody writes images."""
    return {}
