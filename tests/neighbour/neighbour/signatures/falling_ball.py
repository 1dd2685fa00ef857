"""Fields in, moves out."""

import numpy as np
from ponderzoo.zoo.signatures._signature import Signature


def signatures(model, task, told):
    """`serve`: what is seen in, the most probable move out."""
    import tensorflow as tf

    def serve(field):
        chances = tf.nn.softmax(model({"field": field})["policy"])
        return {"move": tf.argmax(chances, axis=-1, output_type=tf.int32) - 1, "chances": chances}

    return {
        "serve": Signature(
            serve,
            {"field": ((None, task.size, task.size), "float32")},
            task.batch(np.random.default_rng(0), 2)[0],
            {"move": "-1 left, 0 stay, 1 right, (batch,)", "chances": "of the three, (batch, 3)"},
        )
    }


def notation(task):
    """None: nobody writes fields."""
    return {}
