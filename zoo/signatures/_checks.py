"""The check of `lengths` that the signatures share."""


def check_lengths(lengths, padded, noun="steps"):
    """Asserts in a graph that `lengths` fit `padded`, `(batch, time, ...)`, of so many `noun`."""
    import tensorflow as tf

    steps = tf.shape(padded)[1]
    tf.debugging.Assert(
        tf.reduce_all((lengths >= 0) & (lengths <= steps)),
        ["lengths must be 0 to", steps, f"which is how many {noun} were sent; got", lengths],
    )
