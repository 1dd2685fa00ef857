"""The checks of inputs that signatures share."""

import dataclasses


def finite(signature):
    """The signature, but that it refuses infinities and what is no number in any of its inputs."""
    floats = [name for name, (_, dtype) in signature.inputs.items() if dtype.startswith("float")]

    def function(*in_order, **inputs):
        import tensorflow as tf

        inputs |= zip(signature.inputs, in_order)
        checks = [
            tf.debugging.Assert(
                tf.reduce_all(tf.math.is_finite(inputs[name])),
                [f"{name} must be finite, got", inputs[name]],
            )
            for name in floats
        ]
        with tf.control_dependencies(checks):
            inputs = {name: tf.identity(tensor) for name, tensor in inputs.items()}
        return signature.function(**inputs)

    return dataclasses.replace(signature, function=function) if floats else signature


def check_lengths(lengths, padded, noun="steps", axis=1):
    """Asserts in a graph that `lengths` fit `padded`, which has so many `noun` along an axis."""
    import tensorflow as tf

    steps = tf.shape(padded)[axis]
    tf.debugging.Assert(
        tf.reduce_all((lengths >= 0) & (lengths <= steps)),
        ["lengths must be 0 to", steps, f"which is how many {noun} were sent; got", lengths],
    )


def at_most(most, count, noun):
    """The counts of words or the like in texts; what a graph makes of them waits for the check."""
    import tensorflow as tf

    check = tf.debugging.Assert(
        tf.reduce_all(count <= most), [f"a text must have at most {most} {noun}, got", count]
    )
    with tf.control_dependencies([check]):
        return tf.identity(count)


def check_ink(image):
    """Asserts in a graph that images are of pixels 0 and 1."""
    import tensorflow as tf

    tf.debugging.Assert(
        tf.reduce_all((image == 0) | (image == 1)),
        ["image must be of pixels 0 and 1, got", image],
    )


def check_range(name, values, least, most):
    """Asserts in a graph that an input called `name` is from `least` to `most`."""
    import tensorflow as tf

    tf.debugging.Assert(
        tf.reduce_all((values >= least) & (values <= most)),
        [f"{name} must be {least} to {most}, got", values],
    )


def greatest(values, least, most):
    """The greatest of whole numbers, at least and at most so much whatever came.

    A graph may make room for so many before a check has refused them.
    """
    import tensorflow as tf

    return tf.clip_by_value(tf.reduce_max(tf.concat([values, [least]], axis=0)), least, most)


def check_temperature(temperature):
    """Asserts in a graph that temperatures are none below 0."""
    import tensorflow as tf

    tf.debugging.Assert(
        tf.reduce_all(temperature >= 0.0), ["temperature must be 0 or more, got", temperature]
    )
