"""What a network says of frames that are padding."""

from typing import Any

import keras

from ._base import serializable, whole
from .ctc_loss import sure_of_blank


@serializable
class SureOfBlank(keras.layers.Layer):
    """Makes the frames beyond a row's length sure of blank, as the losses of lattices want them.

    Such frames change the probability of no labelling, so that `CTCLoss` and `TransducerLoss` need
    no lengths.

    Args:
        blank: the class that stands for no label.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: `(batch, time, ..., classes)`.
        lengths: `(batch,)` integers, frames of each row.

    Returns:
        `(batch, time, ..., classes)`: at padding 0 for blank, and -1e30 (-65504 in float16) for all
        other classes.

    Example:
        >>> layer, logits = SureOfBlank(), keras.ops.ones((1, 2, 2))
        >>> layer(logits, keras.ops.array([2])).shape
        TensorShape([1, 2, 2])
        >>> layer(logits, keras.ops.array([1]))[0, 1, 0]
        <tf.Tensor: shape=(), dtype=float32, numpy=0.0>
    """

    def __init__(self, blank: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blank = whole("blank", blank, 0)
        self.supports_masking = True

    def call(self, logits, lengths, mask=None):
        return sure_of_blank(logits, lengths, self.blank)

    def compute_output_spec(self, logits, lengths, mask=None):
        return keras.KerasTensor(logits.shape, dtype=self.compute_dtype)

    def compute_mask(self, logits, lengths, mask=None):
        # What is told of padding is meant to be read.
        return None

    def get_config(self):
        return {**super().get_config(), "blank": self.blank}
