"""Phonemes in, the next one out."""

import numpy as np

from ._signature import Signature, handed_on
from ._words import words_of


def labels_of(phonemes, task):
    """Labels `(batch, longest)` int32 of texts `(batch,)`, -1 behind the last, in a graph."""
    import tensorflow as tf

    # No label is the empty one, which fills up.
    names = tf.constant(("", *task.phonemes))
    words, _ = words_of(phonemes)
    same = words[..., None] == names
    tf.debugging.Assert(
        tf.reduce_all(tf.reduce_any(same, axis=-1)),
        [f"phonemes must be of {' '.join(task.phonemes)}, blanks between them, got", phonemes],
    )
    places = tf.reduce_sum(tf.where(same, tf.range(task.classes), 0), axis=-1)
    return tf.where(places > 0, places, -1)


def signatures(model, task, told):
    """`serve`: phonemes in, what follows them out, and how probable they were."""
    import tensorflow as tf

    names = tf.constant(("", *task.phonemes))

    def serve(phonemes):
        labels = labels_of(phonemes, task)
        before = tf.pad(tf.maximum(labels, 0), ((0, 0), (1, 0)))
        answer = model({"labels": before})
        chances = tf.nn.log_softmax(answer["next"])
        # Blank follows nothing, and is never the answer.
        count = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1)
        last = tf.gather(chances, count, batch_dims=1)[:, 1:]
        given = tf.gather(chances[:, :-1], tf.maximum(labels, 0), batch_dims=2)
        bits = -tf.where(labels >= 0, given, 0.0) / tf.math.log(2.0)
        return {
            "next": tf.gather(names, 1 + tf.argmax(last, axis=-1)),
            "probability": tf.exp(tf.reduce_max(last, axis=-1)),
            "bits": tf.reduce_sum(bits, axis=1),
            **handed_on(answer, told),
        }

    sample = np.array([" ".join(task.phonemes[:3]), task.phonemes[1]], object)
    return {
        "serve": Signature(
            serve,
            {"phonemes": ((None,), "string")},
            {"phonemes": sample},
            {
                "next": "the most probable phoneme after them, (batch,)",
                "probability": "of that one, (batch,)",
                "bits": "-log2 of the probability of the phonemes themselves, (batch,)",
                **told,
            },
        )
    }


def notation(task):
    """None."""
    return {}
