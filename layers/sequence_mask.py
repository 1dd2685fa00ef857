"""Masks from lengths."""

import keras
from keras import ops

from ._base import serializable


@serializable
class SequenceMask(keras.layers.Layer):
    """The mask of padded sequences.

    Call arguments:
        sequence: `(batch, time, ...)`, for its time alone.
        lengths: `(batch,)` integers, how many steps of each row are real.

    Returns:
        `(batch, time)` boolean, True at real steps.

    Example:
        >>> SequenceMask()(keras.ops.zeros((2, 3, 1)), keras.ops.array([1, 3]))
        <tf.Tensor: shape=(2, 3), dtype=bool, numpy=
        array([[ True, False, False],
               [ True,  True,  True]])>
    """

    def call(self, sequence, lengths):
        return ops.arange(ops.shape(sequence)[1]) < ops.cast(lengths, "int32")[:, None]

    def compute_output_spec(self, sequence, lengths):
        return keras.KerasTensor(sequence.shape[:2], dtype="bool")
