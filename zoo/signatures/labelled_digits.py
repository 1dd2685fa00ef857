"""Images and digits in, what the images cost out; and the digit by what they cost given each."""

import numpy as np

from ...trainers._evaluate import telling
from ...trainers._task import NATS
from ._checks import check_ink, check_range
from ._signature import Signature

DIGITS = tuple("0123456789")


def signatures(model, task, told):
    """`serve`: what images cost given their digit; `classify`: which digit they are, by that."""
    import tensorflow as tf

    costs = telling(model, NATS)

    def nats(image, digit):
        given = {"image": image, "digit": digit, "seed": digit}
        return tf.cast(costs({name: given[name] for name in model.input})[NATS], tf.float32)

    def serve(image, digit):
        check_ink(image)
        check_range("digit", digit, 0, len(DIGITS) - 1)
        return {"nats": nats(image, digit)}

    def classify(image):
        check_ink(image)
        digit = tf.tile(tf.range(len(DIGITS)), tf.shape(image)[:1])
        by_digit = tf.reshape(nats(tf.repeat(image, len(DIGITS), axis=0), digit), (-1, len(DIGITS)))
        return {
            "digit": tf.argmin(by_digit, axis=-1, output_type=tf.int32),
            "probability": tf.nn.softmax(-by_digit),
            "nats": by_digit,
        }

    asked = {name: ((None, *shape), dtype) for name, (shape, dtype) in task.input_spec.items()}
    sample = task.inputs_without_data(np.random.default_rng(0), 2)
    image = {"image": asked["image"]}
    return {
        "serve": Signature(
            serve,
            asked,
            sample,
            {"nats": "minus the image's log-probability given the digit, (batch,)"},
            images=("image",),
        ),
        "classify": Signature(
            classify,
            image,
            {"image": sample["image"]},
            {
                "digit": "the one that the image costs least of, 0 to 9, (batch,)",
                "probability": "of each digit, all of them being as probable beforehand, (batch, "
                "10)",
                "nats": "minus the image's log-probability given each digit, (batch, 10)",
            },
            {"probability": DIGITS, "nats": DIGITS},
            images=("image",),
        ),
    }


def notation(task):
    """None: nobody writes an image."""
    return {}
