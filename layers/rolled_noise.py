"""Noise of which a row of the batch draws little: one field, turned on for each image."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from . import _chance
from ._base import serializable

SHARE = 0.381966  # of a field, by which an image's noise is turned on from that of the one before


@serializable
class RolledNoise(keras.layers.Layer):
    """Gaussian noise on the images of an episode, by the seed of the episode.

    A row of the batch draws one field of noise as large as an image, and each of its images gets it
    rolled around by another distance. So images have noise that is theirs, up to the number of
    their pixels, for the chance of one of them: numbers of chance cost more than small networks.

    Args:
        deviation: standard deviation of the noise, 0 for none.
        stream: a name that sets its chance apart from that of others with the same seed.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        images: `(batch, time, ...)`, whose sizes behind the time are known.
        seed: `(batch,)` integers, the chance of each row.

    Returns:
        `(batch, time, ...)`, the images and the noise, in training and else.

    Raises:
        ValueError: `deviation` is below 0.

    Example:
        >>> ones = keras.ops.ones((2, 5, 8, 8))
        >>> RolledNoise(0.2)(ones, keras.ops.arange(2)).shape
        TensorShape([2, 5, 8, 8])

    Reference:
        Noise on what addresses are made of: Wu, Wayne, Graves and Lillicrap, "The Kanerva Machine:
        A Generative Distributed Memory", 2018, arXiv:1804.01756, section 4.
    """

    def __init__(self, deviation: float, stream: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not deviation >= 0:
            raise ValueError(f"deviation must be 0 or more; got {deviation!r}")
        self.deviation, self.stream = float(deviation), stream

    def build(self, *shapes):
        pass

    def call(self, images, seed):
        size, (rows, time, *_) = math.prod(images.shape[2:]), ops.shape(images)
        field = _chance.normal(_chance.fold(seed, self.stream), (size,), dtype=self.compute_dtype)
        turned = ops.arange(time)[:, None] * max(1, round(SHARE * size)) + np.arange(size)
        noise = ops.take(field, ops.reshape(turned % size, (-1,)), axis=1)
        return images + self.deviation * ops.reshape(noise, (rows, time, *images.shape[2:]))

    def compute_output_spec(self, images, seed):
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "deviation": self.deviation, "stream": self.stream}
