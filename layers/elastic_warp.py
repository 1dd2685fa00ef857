"""Images bent at random."""

import math
from typing import Any

from keras import ops

from ._chance import uniform


def elastic_warp(image: Any, seed: Any, deviation: Any = 4.0, strength: Any = 34.0) -> Any:
    """Images as if their paper were of rubber (Simard, Steinkraus and Platt, 2003).

    Each pixel takes its ink from somewhere else, in between pixels by their bilinear mean, and none
    from outside. How far away is uniform between -1 and 1, down and to the right, made smooth by a
    Gaussian filter, times a strength. A row's seed alone decides it.

    Args:
        image: `(batch, height, width)`.
        seed: `(batch,)` integers.
        deviation: of the filter, in pixels, more than 0; a number or `(batch,)`.
        strength: what smooth displacements are multiplied with, likewise. In the mean square they
            are about `0.163 * strength / deviation` pixels in each direction, far from the border.

    Returns:
        `(batch, height, width)`, as `image`.

    Example:
        >>> elastic_warp(keras.ops.ones((2, 5, 4)), keras.ops.array([1, 2])).shape
        TensorShape([2, 5, 4])

    Reference:
        Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to
        Visual Document Analysis", 2003.
    """
    image = ops.convert_to_tensor(image)
    height, width = ops.shape(image)[1:]
    deviation, strength = (
        ops.reshape(ops.cast(x, image.dtype), (-1, 1, 1, 1)) for x in (deviation, strength)
    )
    rough = 2 * uniform(seed, (2, height, width), dtype=image.dtype) - 1
    smooth = ops.matmul(_filter(height, deviation), ops.matmul(rough, _filter(width, deviation)))
    down, right = ops.unstack(strength * smooth, 2, axis=1)
    rows = ops.arange(height, dtype=image.dtype)[:, None] + down
    return _at(image, rows, ops.arange(width, dtype=image.dtype) + right)


def _filter(size, deviation):
    """A Gaussian filter along an axis as a matrix."""
    places = ops.arange(size, dtype=deviation.dtype)
    far = (places[:, None] - places) / deviation
    return ops.exp(-far * far / 2) / (math.sqrt(2 * math.pi) * deviation)


def _at(image, rows, columns):
    """Bilinear means of images at places `(batch, height, width)`; around them is nothing."""
    _, height, width = shape = ops.shape(image)
    flat = ops.reshape(ops.pad(image, [(0, 0), (1, 2), (1, 2)]), (shape[0], -1))
    rows, columns = (
        ops.clip(x, -1, ops.cast(n, x.dtype)) + 1 for x, n in ((rows, height), (columns, width))
    )
    top, left = ops.floor(rows), ops.floor(columns)
    first = ops.cast(top, "int32") * (width + 3) + ops.cast(left, "int32")

    def ink(offset):
        places = ops.reshape(first + offset, (shape[0], -1))
        return ops.reshape(ops.take_along_axis(flat, places, axis=1), shape)

    below, beside = rows - top, columns - left
    upper = (1 - beside) * ink(0) + beside * ink(1)
    lower = (1 - beside) * ink(width + 3) + beside * ink(width + 4)
    return (1 - below) * upper + below * lower
