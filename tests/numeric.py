"""Numbers that tests draw, and comparisons of what layers make of them with the truth."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops


def draw(seed, *shape, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def scalar(outputs):
    """A weighted sum of all outputs, in float64."""
    return sum(
        ops.sum(ops.cast(x, "float64") * draw([20, i], *x.shape))
        for i, x in enumerate(keras.tree.flatten(outputs))
    )


def evaluate(layer, x, mode="eager", mask=None, training=True):
    """Outputs, and the gradient of their `scalar` by input and weights.

    `mode` is eager, graph or xla.
    """

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = keras.tree.flatten(layer(x, mask=mask, training=training))
            total = scalar(outputs)
        return outputs, tape.gradient(total, [x, *layer.trainable_variables])

    mask = None if mask is None else tf.constant(mask)
    if mode != "eager":
        both = tf.function(both, jit_compile=mode == "xla")
    found = both(tf.constant(x, layer.compute_dtype))
    return [[np.asarray(a) for a in part] for part in found]


def assert_close(found, expected, tolerance):
    """Errors stay within `tolerance` of the largest entry of an array, or of 1."""
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        a, b = np.float64(np.asarray(a)), np.float64(np.asarray(b))
        assert a.shape == b.shape
        scale = max(1.0, np.max(np.abs(b), initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)
