"""Images in, the label of every pixel out, and images to try it with that are bent."""

import numpy as np

from ...layers import elastic_warp
from ...trainers.tasks.digit_segmentation import image_scores
from ._checks import check_range
from ._digits import DIGITS, SEEDS
from ._signature import Signature, handed_on

LEAST_DEVIATION, MOST_DEVIATION, MOST_STRENGTH = 1.0, 28.0, 100.0


def signatures(model, task, told):
    """`serve`: images in, labels of their pixels out; `warp`: likewise, of images that it bends."""
    import tensorflow as tf

    def labelled(image):
        answer = model({"image": image})
        scores = image_scores(answer["label"])
        probability = tf.nn.softmax(answer["label"])
        return {
            "label": tf.argmax(probability, axis=-1, output_type=tf.int32),
            "maps": tf.transpose(probability, (0, 3, 1, 2)),
            "digit": tf.argmax(scores, axis=-1, output_type=tf.int32),
            "probability": scores / tf.reduce_sum(scores, axis=-1, keepdims=True),
            **handed_on(answer, told),
        }

    def serve(image):
        check_range("image", image, 0.0, 1.0)
        return labelled(image)

    def warp(image, seed, deviation, strength):
        check_range("image", image, 0.0, 1.0)
        check_range("deviation", deviation, LEAST_DEVIATION, MOST_DEVIATION)
        check_range("strength", strength, 0.0, MOST_STRENGTH)
        bent = elastic_warp(image, seed, deviation, strength)
        return {"image": bent, **labelled(bent)}

    shape, _ = task.input_spec["image"]
    image = {"image": ((None, *shape), "float32")}
    sample = task.inputs_without_data(np.random.default_rng(0), 2)
    number = (None,), "float32"
    meanings = {
        "label": "of every pixel, 0 to 9, or 10 for the background, (batch, height, width)",
        "maps": "the probability of each digit, and then of the background, at every pixel, "
        "(batch, 11, height, width)",
        "digit": "the one with the most probability over all pixels, (batch,)",
        "probability": "each digit's share of it, (batch, 10)",
        **told,
    }
    return {
        "serve": Signature(
            serve,
            image,
            sample,
            meanings,
            {"probability": DIGITS},
            images=("image", "maps"),
            maps=("label",),
        ),
        "warp": Signature(
            warp,
            {**image, "seed": ((None,), "int32"), "deviation": number, "strength": number},
            {
                **sample,
                "seed": SEEDS,
                "deviation": np.full(2, task.deviation, "float32"),
                "strength": np.full(2, task.strength, "float32"),
            },
            {"image": "bent as the seed alone decides, (batch, height, width)", **meanings},
            {"probability": DIGITS},
            images=("image", "maps"),
            maps=("label",),
        ),
    }


def notation(task):
    """None: nobody writes an image."""
    return {}
