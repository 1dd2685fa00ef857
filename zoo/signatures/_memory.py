"""What the tasks of `trainers/tasks/_memory.py` share: signatures of `sequence` and `lengths`.

Vectors of bits are written as words, in hexadecimal or bit by bit. Where an answer is `unsure`, the
probability that it gave to the least sure bit of a vector stands below the vector.
"""

import math

import numpy as np

from ...trainers.tasks._memory import words
from ._checks import check_lengths
from ._signature import Signature, handed_on

SURE = 0.9
MOST_STEPS = 10_000
HEXADECIMAL = "0123456789abcdef"


def read_vectors(tokens, width):
    """The bits of words, `(count, width)`; `(0, width)` where one of them is no word."""
    vectors = []
    for token in tokens:
        letters = token.lower()
        if len(letters) == width and not set(letters) - set("01"):
            vectors.append([int(letter) for letter in letters])
        elif len(letters) == -(-width // 4) and not set(letters) - set(HEXADECIMAL):
            number = int(letters, 16)
            vectors.append([number >> place & 1 for place in range(width - 1, -1, -1)])
            if number >= 1 << width:
                return np.zeros((0, width))
        else:
            return np.zeros((0, width))
    return np.array(vectors).reshape(-1, width)


def spelling(width):
    """How people write a vector, in words."""
    digits, word = -(-width // 4), some_words(1, width)[0]
    plural = "" if digits == 1 else "s"
    return f"each {width} bits as {digits} hexadecimal digit{plural} or bit by bit, such as {word}"


def some_words(count, width):
    """So many vectors in hexadecimal, for examples."""
    return words(np.random.default_rng(0).integers(0, 2, (count, width)))


def unsure(chance):
    """The line of `table` that tells where an answer, `(time, width)`, was unsure, if it was."""
    least = np.maximum(chance, 1 - chance).min(axis=-1)
    cells = [f"{chance:.2f}" if chance < SURE else "-" for chance in least]
    return [("unsure", cells)] if min(least) < SURE else []


def signatures(model, task, told):
    """`serve`: an instance of the task in, the answer out."""
    import tensorflow as tf

    def shown(value, real):
        """What a model tells of each step, heads side by side, 0 at padding.

        A row of the picture is a step, a column a slot of a head.
        """
        if len(value.shape) > 2:
            value = tf.reshape(value, (-1, tf.shape(real)[1], math.prod(value.shape[2:])))
            real = real[..., None]
        return tf.where(real, tf.cast(value, tf.float32), 0.0)

    def serve(sequence, lengths):
        steps = tf.shape(sequence)[1]
        check_lengths(lengths, sequence)
        answer = model({"sequence": sequence, "lengths": lengths})
        real = tf.sequence_mask(lengths, steps)
        bits, within = answer["bits"], real[..., None]
        return {
            "bits": tf.cast(within & (bits > 0), tf.int32),
            "probability": tf.where(within, tf.sigmoid(bits), 0.0),
            **{name: shown(value, real) for name, value in handed_on(answer, told).items()},
        }

    inputs, _ = task.batch(np.random.default_rng(0), 2)
    return {
        "serve": Signature(
            serve,
            {"sequence": ((None, None, task.channels), "float32"), "lengths": ((None,), "int32")},
            inputs,
            {
                "bits": "0 or 1, what the machine says at every step, (batch, time, outputs)",
                "probability": "of 1",
                **told,
            },
        )
    }
