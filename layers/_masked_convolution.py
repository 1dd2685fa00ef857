"""Convolutions that see no later place, over all places at once and a place at a time.

What comes before the places that are given is handed in and handed out: zeros where nothing does.
So the same function reads a whole sequence, a part of one, or the next place of it.
"""

import numpy as np
from keras import ops


def convolve(x, before, kernel, dilation=1):
    """A convolution whose last tap stands at the place itself, along the one axis of places.

    Args:
        x: `(batch, places, features)`.
        before: `(batch, (taps - 1) * dilation, features)`, what came before.
        kernel: `(taps, features, units)`.
        dilation: places from one tap to the next.

    Returns:
        `(batch, places, units)`; and what comes before the places behind these.
    """
    window = ops.concatenate([before, x], axis=1)
    if x.shape[1] == 1:
        # A convolution of one place costs a runtime more than the product that it is.
        taps, features, units = kernel.shape
        seen = ops.reshape(window[:, ::dilation], (-1, taps * features))
        y = (seen @ ops.reshape(kernel, (taps * features, units)))[:, None]
    else:
        y = ops.conv(window, kernel, 1, "valid", dilation_rate=dilation)
    return y, window[:, ops.shape(x)[1] :]


def convolve_rows(x, above, kernel):
    """A convolution whose last row of taps stands on the row itself, centred along the other axis.

    Args:
        x: `(batch, rows, columns, features)`.
        above: `(batch, rows of taps - 1, columns, features)`, the rows above.
        kernel: `(rows of taps, columns of taps, features, units)`, odd columns.

    Returns:
        `(batch, rows, columns, units)`; and the rows above those that come behind these.
    """
    window, side = ops.concatenate([above, x], axis=1), kernel.shape[1] // 2
    wide = ops.pad(window, [(0, 0), (0, 0), (side, side), (0, 0)])
    return ops.conv(wide, kernel, 1, "valid"), window[:, ops.shape(x)[1] :]


def colour_mask(features, units, colours, parts=1, strict=False):
    """Which features of a place may be seen by which units, `(features, units)` of 0 and 1.

    Features are of the colours in turn, as many of each; so are the units, or each of `parts` equal
    parts of them. A unit sees features of its own colour and those before, or, where it is strict,
    those before alone.
    """
    of_feature = np.arange(features) * colours // features
    of_unit = np.tile(np.arange(units // parts) * colours // (units // parts), parts)
    sees = of_feature[:, None] < of_unit if strict else of_feature[:, None] <= of_unit
    return sees.astype("float32")
