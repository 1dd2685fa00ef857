"""What the tasks of `trainers/tasks/_memory.py` share: signatures of `sequence` and `lengths`.

Vectors of bits are written as words, in hexadecimal or bit by bit. Where an answer is `unsure`, the
probability that it gave to the least sure bit of a vector stands below the vector.
"""

import numpy as np

from ...trainers.tasks._memory import words
from ._checks import check_lengths
from ._signature import Signature

SURE = 0.9
MOST_STEPS = 10_000
HEXADECIMAL = "0123456789abcdef"


def _vectors(tokens, width):
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


def _spelling(width):
    digits, word = -(-width // 4), _some_words(1, width)[0]
    plural = "" if digits == 1 else "s"
    return f"each {width} bits as {digits} hexadecimal digit{plural} or bit by bit, such as {word}"


def _some_words(count, width):
    return words(np.random.default_rng(0).integers(0, 2, (count, width)))


def _stack(rows):
    """Rows `(steps, channels)` as the signature takes them."""
    lengths = np.array([len(row) for row in rows], "int32")
    sequence = np.zeros((len(rows), max(lengths), rows[0].shape[1]), "float32")
    for row, steps in enumerate(rows):
        sequence[row, : len(steps)] = steps
    return {"sequence": sequence, "lengths": lengths}


def _unsure(chance):
    """The line of `table` that tells where an answer, `(time, width)`, was unsure, if it was."""
    least = np.maximum(chance, 1 - chance).min(axis=-1)
    cells = [f"{chance:.2f}" if chance < SURE else "-" for chance in least]
    return [("unsure", cells)] if min(least) < SURE else []


TRACE = ("read_weights", "write_weights", "reads", "adds")


def signatures(model, task):
    """`serve`: an instance of the task in, the answer and what the heads did out."""
    import tensorflow as tf

    remembers = "read_weights" in model.output

    def serve(sequence, lengths):
        steps = tf.shape(sequence)[1]
        check_lengths(lengths, sequence)
        answer = model({"sequence": sequence, "lengths": lengths})
        real = tf.sequence_mask(lengths, steps)
        probability = tf.where(real[..., None], tf.sigmoid(answer["bits"]), 0.0)
        answered = {"bits": tf.cast(probability > 0.5, tf.int32), "probability": probability}
        if not remembers:
            return answered
        # Heads side by side: a row of the picture is a step, a column a slot of a head.
        flat = {
            name: tf.reshape(answer[name], (-1, steps, np.prod(answer[name].shape[2:])))
            for name in TRACE
        }
        shown = {
            name: tf.where(real[..., None], tf.cast(value, tf.float32), 0.0)
            for name, value in flat.items()
        }
        return {**answered, **shown}

    outputs = {
        "bits": "0 or 1, what the machine says at every step, (batch, time, outputs)",
        "probability": "of 1",
    }
    if remembers:
        outputs |= {
            "read_weights": "where each head reads, (batch, time, heads * slots)",
            "write_weights": "where each head writes, (batch, time, heads * slots)",
            "reads": "the vectors read, (batch, time, heads * word size)",
            "adds": "the vectors added to memory, (batch, time, heads * word size)",
        }
    inputs, _ = task.batch(np.random.default_rng(0), 2)
    return {
        "serve": Signature(
            serve,
            {"sequence": ((None, None, task.channels), "float32"), "lengths": ((None,), "int32")},
            inputs,
            outputs,
        )
    }
