"""Texts in, their translations out, by characters."""

from ...trainers.tasks._character_pairs import SIDES
from ._character_pairs import pair_notation, pair_signatures
from .translation import BLANK, MARK


def signatures(model, task, told):
    """`serve`: texts in, their translations out; `score`: what they cost; `saliency`."""
    import tensorflow as tf

    def spaced(texts):
        """With a blank between words and marks, as `tokens` tells them apart."""
        texts = tf.strings.regex_replace(texts, *BLANK)
        texts = tf.strings.regex_replace(texts, *MARK)
        return tf.strings.strip(tf.strings.regex_replace(texts, " +", " "))

    def small(texts):
        return spaced(tf.strings.lower(texts, "utf-8"))

    return pair_signatures(model, task, told, clean=dict(zip(SIDES, (small, spaced))))


def notation(task):
    """Texts as they are."""
    return pair_notation(task)
