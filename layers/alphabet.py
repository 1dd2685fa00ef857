"""Bytes of which a model knows a few."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ._base import serializable

BYTES = 256


@serializable
class Alphabet(keras.layers.Layer):
    """The logits of all bytes, of the logits of a few of them.

    Args:
        letters: the bytes that are known, characters of Latin-1, in the order of their logits.
        unknown: the logit of all other bytes.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: `(..., letters)`.

    Returns:
        `(..., 256)`.

    Raises:
        ValueError: there are no letters, a letter comes twice or is no byte, or there are more or
            fewer logits than letters.

    Example:
        >>> Alphabet("ab")(keras.ops.ones((2, 3, 2))).shape
        TensorShape([2, 3, 256])
    """

    def __init__(self, letters: str, unknown: float = -20.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        codes = [ord(letter) for letter in letters]
        if not codes or len({*codes}) < len(codes) or max(codes) >= BYTES:
            raise ValueError(
                f"letters must be one or more characters of Latin-1, none twice; got {letters!r}"
            )
        self.letters, self.unknown = letters, float(unknown)
        self._places = np.full(BYTES, len(codes), "int32")
        self._places[codes] = np.arange(len(codes))
        self.supports_masking = True

    def build(self, logits_shape):
        if logits_shape[-1] != len(self.letters):
            raise ValueError(
                f"Alphabet wants the logits of {len(self.letters)} letters; got a shape of "
                f"{tuple(logits_shape)}"
            )

    def call(self, logits):
        others = ops.full_like(logits[..., :1], self.unknown)
        return ops.take(ops.concatenate([logits, others], axis=-1), self._places, axis=-1)

    def compute_output_shape(self, logits_shape):
        return (*logits_shape[:-1], BYTES)

    def get_config(self):
        return {**super().get_config(), "letters": self.letters, "unknown": self.unknown}
