"""Points in, what they cost out; seeds in, points out."""

import numpy as np
from ponderzoo.zoo.signatures._signature import Signature


def signatures(model, task, told):
    """`serve`: the nats of points; `sample`: points of seeds."""
    import tensorflow as tf

    def serve(points):
        return {
            "nats": model({"points": points, "seed": tf.zeros_like(points[:, 0], "int32")})["nats"]
        }

    def sample(seed):
        points = tf.zeros((tf.shape(seed)[0], 2))
        return {"points": model({"points": points, "seed": seed})["sample"]}

    return {
        "serve": Signature(
            serve,
            {"points": ((None, 2), "float32")},
            task.batch(np.random.default_rng(0), 2)[0],
            {"nats": "-log of the density, (batch,)"},
        ),
        "sample": Signature(
            sample,
            {"seed": ((None,), "int32")},
            {"seed": np.array([1, -2], "int32")},
            {"points": "a sample a seed, (batch, 2)"},
        ),
    }


def notation(task):
    """None: nobody writes points."""
    return {}
