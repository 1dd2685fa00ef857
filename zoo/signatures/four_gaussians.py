"""Seeds in, points out; and mixtures in, points with their gradient out."""

import numpy as np

from ...layers import mixture_draw, mixture_log_prob
from ._signature import Signature

FITTED = {
    "sample": "a point a seed, (batch, 2)",
    "component": "which component it was drawn of, (batch,)",
    "nats": "by how much it is more probable to the model than to the task, (batch,)",
}


def signatures(model, task, told):
    """`serve`: points of the model's mixture; `draw`: of any other, with the Jacobian."""
    import tensorflow as tf

    count = model.output["weights"].shape[-1]

    def serve(seed):
        answer = model({"seed": seed})
        return {name: answer[name] for name in FITTED}

    def draw(logits, means, log_deviations, seed):
        rows = []
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            sample, component = mixture_draw(logits, means, log_deviations, seed)
            coordinates = tf.unstack(sample, axis=-1)
        for coordinate in coordinates:
            rows.append(tape.gradient(coordinate, logits))
        log_prob = mixture_log_prob(sample, logits, means, log_deviations)
        each = [
            mixture_log_prob(
                sample, logits[:, :1], means[:, k : k + 1], log_deviations[:, k : k + 1]
            )
            for k in range(count)
        ]
        return {
            "sample": sample,
            "component": component,
            "responsibilities": tf.nn.softmax(logits + tf.stack(each, axis=-1)),
            "log_prob": log_prob,
            "jacobian": tf.stack(rows, axis=1),
        }

    shapes = {"logits": (count,), "means": (count, 2), "log_deviations": (count, 2)}
    rng = np.random.default_rng(0)
    sample = {name: rng.normal(size=(2, *s)).astype("float32") for name, s in shapes.items()}
    seeds = {"seed": np.array([1, 2], "int32")}
    specs = {name: ((None, *shape), "float32") for name, shape in shapes.items()}
    asked = {"seed": ((None,), "int32")}
    return {
        "serve": Signature(serve, asked, seeds, {**FITTED, **told}),
        "draw": Signature(
            draw,
            {**specs, **asked},
            {**sample, **seeds},
            {
                "sample": "a point a row, (batch, 2)",
                "component": "which component it was drawn of, (batch,)",
                "responsibilities": "the probability of each component given the point, (batch, K)",
                "log_prob": "the log-density of the point, nats, (batch,)",
                "jacobian": "how the point moves with each logit by the quantile transform, "
                "(batch, 2, K)",
            },
        ),
    }


def notation(task):
    """None: nobody writes seeds of points."""
    return {}
