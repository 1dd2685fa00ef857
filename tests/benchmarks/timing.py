"""Compiled functions of layers and their CPU time, on the backend that KERAS_BACKEND names."""

import time

import keras
import numpy as np
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def compiled(function):
        return tf.function(function, jit_compile=True)

    def train_step(layer, compiled=compiled):
        """Loss and gradients of a layer's weights as a compiled function of its input."""

        def step(x):
            with tf.GradientTape() as tape:
                loss = ops.sum(ops.square(layer(x, training=True)))
            return loss, tape.gradient(loss, [v.value for v in layer.trainable_variables])

        return compiled(step)

else:
    import jax

    compiled = jax.jit

    def train_step(layer, compiled=compiled):
        fixed = [v.value for v in layer.non_trainable_variables]

        def loss(weights, x):
            return ops.sum(ops.square(layer.stateless_call(weights, fixed, x, training=True)[0]))

        # Weights that a compiled function holds as constants would make it slower.
        step = compiled(jax.value_and_grad(loss))
        return lambda x: step([v.value for v in layer.trainable_variables], x)


def repeated(function, repeats, *start):
    """A compiled loop over a function of as many tensors as it gives."""

    def body(i, *x):
        return i + 1, *function(*x)

    run = compiled(
        lambda *x: ops.while_loop(lambda i, *_: i < repeats, body, (0, *x))[1 : len(x) + 1]
    )
    return lambda: run(*start)


def milliseconds(function, *arguments):
    """CPU time of the process for one call."""
    start = time.process_time()
    keras.tree.map_structure(np.asarray, function(*arguments))
    return 1e3 * (time.process_time() - start)
