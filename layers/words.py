"""Words as vectors, by a list that models take along."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ._base import serializable, whole


@serializable
class Words(keras.layers.Layer):
    """Vectors of words, one-hot or learnt, whose list is part of the layer's config.

    So a saved model knows the words that its inputs and outputs stand for.

    Args:
        words: list of str, each once.
        units: size of learnt vectors, or 0 for one-hot ones.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        places: `(batch, time)` integers, places in the list; or, with `reverse`, `(batch, time,
            units)` of what is to be said.
        reverse: whether to give the product with the vector of each word, which are its logits, so
            that what is read and what is said share their vectors (Press and Wolf, 2017).

    Returns:
        `(batch, time, words)`, or `(batch, time, units)`; with `reverse` `(batch, time, words)`.

    Raises:
        ValueError: the list is empty, or has a word twice; or one-hot vectors are asked for logits.

    Example:
        >>> Words(["a", "house"])(keras.ops.array([[1, 0, 0]])).shape
        TensorShape([1, 3, 2])
    """

    def __init__(self, words: Sequence[str], units: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words, self.units = list(words), whole("units", units, 0)
        if not self.words or len(set(self.words)) < len(self.words):
            raise ValueError(
                f"words must be a list of one word or more, each once; got {len(self.words)}, "
                f"{len(set(self.words))} of them distinct"
            )

    def build(self, places_shape):
        if self.units:
            shape = len(self.words), self.units
            self.vectors = self.add_weight(shape, "glorot_uniform", name="vectors")

    def call(self, places, reverse=False):
        if reverse:
            return ops.matmul(places, ops.transpose(ops.cast(self.vectors, places.dtype)))
        if self.units:
            return ops.take(ops.cast(self.vectors, self.compute_dtype), places, axis=0)
        return ops.one_hot(places, len(self.words), dtype=self.compute_dtype)

    def compute_output_spec(self, places, reverse=False):
        if reverse:
            if places.shape[-1] != self.units:
                raise ValueError(
                    f"logits need {self.units or 'learnt'} numbers a word; got {places.shape[-1]}"
                )
            return keras.KerasTensor((*places.shape[:-1], len(self.words)), self.compute_dtype)
        size = self.units or len(self.words)
        return keras.KerasTensor((*places.shape, size), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "words": self.words, "units": self.units}
