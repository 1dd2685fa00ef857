"""Words and bytes in texts that a graph reads."""

import numpy as np

from ._checks import at_most

HASHES = 2**62
MOST_BYTES, MOST_WORDS = 2**15, 2**12
"""Of a text that is read to its end: some seconds, and some 100 MB."""


def codes_of(text):
    """Bytes `(batch, longest)` int32 of texts, 0 behind the last, and how many there are.

    `longest` is 1 where all texts are empty.
    """
    import tensorflow as tf

    lengths = at_most(MOST_BYTES, tf.strings.length(text), "bytes")
    longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
    return tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=longest), tf.int32), lengths


def words_of(text):
    """Words `(batch, longest)` of texts, empty behind the last, and how many there are.

    `longest` is 1 where no text has a word.
    """
    import tensorflow as tf

    split = tf.strings.split(text)
    lengths = at_most(MOST_WORDS, tf.cast(split.row_lengths(), tf.int32), "words")
    words = tf.RaggedTensor.from_row_lengths(split.values, lengths).to_tensor("")
    nothing = tf.cast(tf.shape(words)[1] == 0, tf.int32)
    return tf.pad(words, [[0, 0], [0, nothing]], constant_values=""), lengths


def lookup(words, unknown):
    """`places(texts)`: the places in a list of words of `(...)` strings, `unknown` for others.

    It is made of plain operations, where a table would be a resource that not all runtimes begin
    with.
    """
    import tensorflow as tf

    found = tf.strings.to_hash_bucket_fast(words, HASHES).numpy()
    order = np.argsort(found).astype("int32")
    hashes = found[order]

    def places(texts):
        asked = tf.strings.to_hash_bucket_fast(texts, HASHES)
        near = tf.searchsorted(hashes, tf.reshape(asked, [-1]))
        near = tf.reshape(tf.minimum(near, len(hashes) - 1), tf.shape(asked))
        return tf.where(tf.gather(hashes, near) == asked, tf.gather(order, near), unknown)

    return places
