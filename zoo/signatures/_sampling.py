"""The loop in which a model reads what it says, and how it chooses what to say."""

import numpy as np

from ...layers import _chance
from ._checks import check_range, check_temperature

ASKED = {
    "prompt": ((None,), "string"),
    "length": ((None,), "int32"),
    "temperature": ((None,), "float32"),
    "seed": ((None,), "int32"),
}
"""The inputs of a signature that goes on with a prompt."""


def prompts(content, length, temperature):
    """`ASKED` for prompts: so long for all of them, and each with a seed of its own."""
    rows = len(content)
    return {
        "prompt": content,
        "length": np.full(rows, length, "int32"),
        "temperature": np.full(rows, temperature, "float32"),
        "seed": np.arange(1, rows + 1, dtype="int32"),
    }


def sample_of(asked):
    """The same of two prompts as a sample request: short, and unlike one another."""
    return {
        **asked,
        "length": np.array([8, 5], "int32"),
        "temperature": np.array([0.0, 0.7], "float32"),
        "seed": np.array([1, 2], "int32"),
    }


def unroll(step, last, state, draw, longest, told=(), dtype="int32", shape=()):
    """Says something `longest` times, and reads it.

    Args:
        step: `step(said, state)` reads what was said, `(batch, *shape)`; it gives what is to be
            known of the next, the state behind it, and a dict of further numbers `(batch,)`.
        last: what is known of the first that is said.
        state: a nest of tensors, the state behind what was read so far.
        draw: `draw(place, last)` chooses what is said.
        longest: a whole number, which may be a tensor.
        told: names of the further numbers.
        dtype, shape: of what is said, without the batch.

    Returns:
        What was said, `(batch, longest, *shape)`, and a dict of the further numbers, `(batch,
        longest)`.
    """
    import tensorflow as tf

    def body(place, last, state, said, numbers):
        chosen = draw(place, last)
        last, state, more = step(chosen, state)
        numbers = {name: x.write(place, more[name]) for name, x in numbers.items()}
        return place + 1, last, state, said.write(place, chosen), numbers

    said = tf.TensorArray(dtype, longest, element_shape=[None, *shape])
    numbers = {name: tf.TensorArray("float32", longest, element_shape=[None]) for name in told}
    *_, said, numbers = tf.while_loop(
        lambda place, *_: place < longest, body, (0, last, state, said, numbers)
    )
    rest = range(2, 2 + len(shape))
    said = tf.transpose(said.stack(), [1, 0, *rest])
    return said, {name: tf.transpose(x.stack()) for name, x in numbers.items()}


def drawn(logp, temperature, seed, place):
    """A symbol for each row, `(batch,)` int32, by the row's seed and the place in its text.

    `logp`, `(batch, symbols)`, is divided by the row's temperature; 0 takes the most probable one,
    the first of equals.
    """
    uniform = _chance.uniform(seed, (1,), start=place, dtype="float32")
    return _chance.choose(logp, temperature, uniform[:, 0])


def check_sampling(length, temperature, most):
    """Asserts in a graph that so much may be asked for."""
    check_range("length", length, 0, most)
    check_temperature(temperature)
