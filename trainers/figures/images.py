"""Sheets of images in grey.

Every function returns a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import numpy as np

from ._panels import subplots


def sheet(kinds, columns=16):
    """Images side by side, those of each further kind right below those of the one before.

    Args:
        kinds: list of `(count, height, width)`, 0 (paper) to 1 (ink), all of one shape.
        columns: how many images stand across.
    """
    count, height, width = np.shape(kinds[0])
    columns = max(1, min(columns, count))
    lines = -(-count // columns)
    gap, high = 2, len(kinds) * height + 2
    page = np.zeros((lines * high + gap * lines, columns * (width + gap)))
    for place in range(count):
        line, column = divmod(place, columns)
        for number, images in enumerate(kinds):
            top, left = line * (high + gap) + number * height, column * (width + gap)
            page[top : top + height, left : left + width] = images[place]
    figure, (panel,) = subplots(size=(0.6 * columns, 0.6 * columns * len(page) / page.shape[1]))
    panel.imshow(1 - page, cmap="gray", vmin=0, vmax=1)
    panel.axis("off")
    return figure
