"""A grid of Gaussian filters over an image: where attention reads and writes.

Images are `(batch, height, colours * width)` here, so that both ways of a filter are one product.
"""

import math

import keras
from keras import ops

from ._base import OwnDense

RAW = 5
"""Numbers that say where a grid lies: x, y, log variance, log stride, log intensity."""

MOST_LOG = 10.0  # what is exponentiated stays within e^-10 and e^10


def grid(raw, size, height, width):
    """What the raw numbers `(batch, 5)` of a grid of `size` by `size` filters mean.

    Gregor et al., 2015, eqs. 21 to 24: raw zeros are a grid over the whole image, with filters of
    a standard deviation of 1.

    Returns:
        `(batch, 5)`: the centre's x and y, pixels being counted from 1, the stride between filters,
        their standard deviation, in pixels, and the intensity.
    """
    x, y, variance, stride, intensity = (raw[:, i : i + 1] for i in range(RAW))
    variance, stride, intensity = (
        ops.clip(z, -MOST_LOG, MOST_LOG) for z in (variance, stride, intensity)
    )
    return ops.concatenate(
        [
            (width + 1) / 2 * (x + 1),
            (height + 1) / 2 * (y + 1),
            _stride(size, height, width) * ops.exp(stride),
            ops.exp(variance / 2),
            ops.exp(intensity),
        ],
        axis=-1,
    )


def _stride(size, height, width):
    """Of a grid over the whole image."""
    return (max(height, width) - 1) / max(size - 1, 1)


def image_shape(name, shape):
    """The shape of images without the batch, for a layer by this name.

    Raises `ValueError` for any but `(batch, height, width)` and `(batch, height, width, colours)`
    of known size.
    """
    if len(shape) not in (3, 4) or None in shape[1:]:
        raise ValueError(
            f"{name} needs images of shape (batch, height, width) or (batch, height, width, "
            f"colours) of known size; got {tuple(shape)}"
        )
    return tuple(shape[1:])


def rows_of(image):
    """`(batch, height, colours * width)` of images as users have them."""
    if len(image.shape) == 3:
        return image
    height, width, colours = image.shape[1:]
    return ops.reshape(ops.transpose(image, (0, 1, 3, 2)), (-1, height, colours * width))


def pointing(units, size, height, width, name, dtype):
    """A `Dense` layer whose last numbers say where a grid lies: over the whole image, at first."""
    return OwnDense(
        units,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=Last(touching(size, height, width)),
        name=name,
        dtype=dtype,
    )


class Last(keras.initializers.Initializer):
    """Zeros, and some numbers at the end."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __call__(self, shape, dtype=None):
        zeros = ops.zeros((shape[0] - len(self.numbers),), dtype)
        return ops.concatenate([zeros, ops.convert_to_tensor(self.numbers, dtype)])


def touching(size, height, width):
    """Raw numbers of a grid over the whole image whose filters leave no gap between them.

    The paper's own start, a deviation of 1 pixel, makes 2 by 2 filters see four corners alone.
    """
    stride = _stride(size, height, width)
    return [0.0, 0.0, 2 * math.log(max(stride, 1.0) / 2), 0.0, 0.0]


def filters(grid, size, height, width):
    """Filters along y `(batch, size, height)` and x `(batch, size, width)`, eqs. 19 to 26.

    The weights of a filter sum to 1, over whatever pixels the image has: what lies outside of it
    reads the border.
    """
    x, y, stride, deviation = (grid[:, i, None, None] for i in range(4))
    return tuple(along(z, stride, deviation, size, n) for z, n in ((y, height), (x, width)))


def along(centre, stride, deviation, size, length):
    """Filters along an axis whose places are 1 to `length`, `(batch, size, length)`.

    Args:
        centre, stride, deviation: of the filters, `(batch, 1, 1)`.
        size: how many there are.
        length: of the axis.
    """
    offsets = ops.reshape(ops.arange(size, dtype=centre.dtype) - (size - 1) / 2, (-1, 1))
    places = ops.arange(1, length + 1, dtype=centre.dtype)
    distance = (places - (centre + offsets * stride)) / deviation
    return ops.softmax(-ops.square(distance) / 2, axis=-1)


def look(image, of_y, of_x):
    """What the filters see of an image, `(batch, size * colours * size)`."""
    size, width = of_x.shape[1:]
    seen = ops.reshape(of_y @ image, (-1, size * (image.shape[-1] // width), width))
    return ops.reshape(seen @ ops.transpose(of_x, (0, 2, 1)), (-1, seen.shape[1] * size))


def paint(patch, of_y, of_x):
    """The image that filters make of a patch as `look` gives it: the transposed map."""
    size, width = of_x.shape[1:]
    rows = ops.reshape(patch, (-1, patch.shape[-1] // size, size)) @ of_x
    rows = ops.reshape(rows, (-1, size, rows.shape[1] // size * width))
    return ops.transpose(of_y, (0, 2, 1)) @ rows
