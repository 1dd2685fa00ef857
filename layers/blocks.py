"""Images by blocks of points."""

from typing import Any

import keras
from keras import ops

from ._base import serializable, whole
from ._padding import longer


@serializable
class Blocks(keras.layers.Layer):
    """Gathers each block of an image's points into one (Graves and Schmidhuber, 2008, section 2.2).

    With a layer of units behind it, it makes images smaller between layers that scan them. What is
    missing of a block at the lower or the right border is zero.

    Args:
        height, width: points of a block, down and across.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        image: `(batch, height, width, features)`.

    Returns:
        `(batch, blocks down, blocks across, points of a block * features)`.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        What masked points hold is gathered as it is, and no mask is handed on: how many blocks are
        real, whoever builds the model knows.

    Example:
        >>> Blocks(2, 3)(keras.ops.ones((1, 4, 7, 5))).shape
        TensorShape([1, 2, 3, 30])

    Reference:
        Graves and Schmidhuber, "Offline Handwriting Recognition with Multidimensional Recurrent
        Neural Networks", 2008.
    """

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width = whole("height", height, 1), whole("width", width, 1)
        self.supports_masking = True

    def call(self, image):
        for axis, size in ((1, self.height), (2, self.width)):
            image = longer(image, axis, -ops.shape(image)[axis] % size)
        batch, rows, columns, features = ops.shape(image)
        down, across = rows // self.height, columns // self.width
        parts = ops.reshape(image, (batch, down, self.height, across, self.width, features))
        parts = ops.transpose(parts, (0, 1, 3, 2, 4, 5))
        size = self.height * self.width * image.shape[-1]
        return ops.reshape(parts, (batch, down, across, size))

    def compute_output_spec(self, image):
        batch, rows, columns, features = image.shape
        down, across = (
            None if count is None else -(-count // size)
            for count, size in ((rows, self.height), (columns, self.width))
        )
        size = self.height * self.width * features
        return keras.KerasTensor((batch, down, across, size), dtype=self.compute_dtype)

    def compute_mask(self, image, mask=None):
        return None

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}
