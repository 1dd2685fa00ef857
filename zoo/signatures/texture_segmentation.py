"""Pictures in colour in, the texture of every pixel out."""

import numpy as np

from ._checks import check_range
from ._signature import Signature, handed_on

MOST_PIXELS = 200_000  # of all pictures of a request


def signatures(model, task, told):
    """`serve`: pictures in, textures of their pixels out."""
    import tensorflow as tf

    def serve(image):
        check_range("image", image, 0.0, 1.0)
        pixels = tf.reduce_prod(tf.shape(image)[:3])
        tf.debugging.Assert(
            pixels <= MOST_PIXELS,
            [f"image must have {MOST_PIXELS} pixels or fewer in all, got", pixels],
        )
        answer = model({"image": image})
        probability = tf.nn.softmax(answer["label"])
        return {
            "label": tf.argmax(probability, axis=-1, output_type=tf.int32),
            "certainty": tf.reduce_max(probability, axis=-1),
            **handed_on(answer, told),
        }

    return {
        "serve": Signature(
            serve,
            {"image": ((None, None, None, 3), "float32")},
            task.inputs_without_data(np.random.default_rng(0), 2),
            {
                "label": "the number of the texture of every pixel, (batch, height, width)",
                "certainty": "its probability, (batch, height, width)",
                **told,
            },
            images=("image",),
            levels=2,  # from 0 to 1
            maps=("label", "certainty"),
        )
    }


def notation(task):
    """None: nobody writes an image."""
    return {}
