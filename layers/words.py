"""Words as vectors, by a list that models take along."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ._base import serializable


@serializable
class Words(keras.layers.Layer):
    """One-hot vectors of words, whose list is part of the layer's config.

    So a saved model knows the words that its inputs and outputs stand for.

    Args:
        words: list of str, each once.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        places: `(batch, time)` integers, places in the list.

    Returns:
        `(batch, time, words)`.

    Raises:
        ValueError: the list is empty, or has a word twice.

    Example:
        >>> Words(["a", "house"])(keras.ops.array([[1, 0, 0]])).shape
        TensorShape([1, 3, 2])
    """

    def __init__(self, words: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = list(words)
        if not self.words or len(set(self.words)) < len(self.words):
            raise ValueError(
                f"words must be a list of one word or more, each once; got {len(self.words)}, "
                f"{len(set(self.words))} of them distinct"
            )

    def call(self, places):
        return ops.one_hot(places, len(self.words), dtype=self.compute_dtype)

    def compute_output_spec(self, places):
        return keras.KerasTensor((*places.shape, len(self.words)), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "words": self.words}
