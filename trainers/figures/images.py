"""Sheets of images.

Every function returns a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from ._panels import COLOURS, subplots

INCHES, GAP = 0.6, 2  # of an image across, and pixels between images
PALETTE = np.array(
    [*matplotlib.colormaps["tab10"].colors, (1, 1, 1)]
)  # of labels; the last is none


def sheet(kinds, columns=16, inches=INCHES):
    """Images side by side, those of each further kind right below those of the one before.

    Args:
        kinds: list of `(count, height, width)`, 0 (paper) to 1 (ink), all of one shape; or of
            `(count, height, width, 3)`, red, green and blue from 0 to 1.
        columns: how many images stand across.
        inches: of an image across.
    """
    count, height, width, *colours = np.shape(kinds[0])
    columns = max(1, min(columns, count))
    lines = -(-count // columns)
    high = len(kinds) * height + GAP
    page = np.full((lines * (high + GAP), columns * (width + GAP), *colours), float(bool(colours)))
    for place in range(count):
        line, column = divmod(place, columns)
        for number, images in enumerate(kinds):
            top, left = line * (high + GAP) + number * height, column * (width + GAP)
            page[top : top + height, left : left + width] = images[place]
    return _shown(page, columns, inches)[0]


def labelled(images, labels, columns=16):
    """Images, and right below each the labels of its pixels, a colour for each of ten.

    Args:
        images: `(count, height, width)`, 0 (paper) to 1 (ink).
        labels: `(count, height, width)`, whole numbers from 0 on; 10 stays white.
    """
    grey = np.repeat(1 - np.asarray(images)[..., None], 3, axis=-1)
    return sheet([grey, PALETTE[labels]], columns)


def depending(images, derivatives, places, columns=16):
    """Images, and right below each how much something at one of its pixels depends on all others.

    Args:
        images: `(count, height, width)`, 0 (paper) to 1 (ink).
        derivatives: `(count, height, width)`.
        places: `(count, 2)`, row and column of the pixel, which is red.
    """
    grey = np.repeat(1 - np.asarray(images)[..., None], 3, axis=-1)
    size = np.abs(derivatives)
    size = size / np.maximum(size.max(axis=(1, 2), keepdims=True), 1e-30)
    # Roots, or little but the pixel's own neighbours would be seen.
    maps = np.repeat(1 - np.sqrt(size)[..., None], 3, axis=-1)
    for drawn in (grey, maps):
        drawn[np.arange(len(drawn)), *np.transpose(places)] = (0.85, 0.1, 0.1)
    return sheet([grey, maps], columns)


def titled(lines):
    """Images below one another, a text over each.

    Args:
        lines: pairs of a text and an image `(height, width)`, 0 (paper) to 1 (ink).
    """
    lines = list(lines)
    figure, panels = subplots(len(lines), size=(10, 0.9 * len(lines)))
    for panel, (text, image) in zip(panels, lines):
        panel.imshow(1 - image, cmap="gray", vmin=0, vmax=1)
        panel.set_title(text, fontsize=9, loc="left")
        panel.axis("off")
    return figure


def in_steps(images, windows=None, inches=INCHES):
    """Images step by step, a line each, and windows over them (Gregor et al., 2015).

    Args:
        images: `(count, steps, height, width)`, 0 (paper) to 1 (ink).
        windows: `(count, steps, 6)`, the `SIDES` of `trainers/tasks/_images.py`, or `(count, steps,
            windows, 6)`. The line of a window is the thicker the wider its filters are.
        inches: of a step across.
    """
    count, steps, height, width = np.shape(images)
    page = np.pad(images, [(0, 0), (0, 0), (0, GAP), (0, GAP)], constant_values=0.15)
    page = page.transpose(0, 2, 1, 3).reshape(count * (height + GAP), steps * (width + GAP))
    figure, panel = _shown(page, steps, inches)
    if windows is None:
        return figure
    points = 72 * inches / (width + GAP)
    windows = np.reshape(windows, (count, steps, -1, np.shape(windows)[-1]))
    for line, step, number in np.ndindex(windows.shape[:3]):
        left, top, right, bottom, deviation, _ = windows[line][step][number]
        # A pixel's middle is a whole number to a panel.
        corner = left + step * (width + GAP) - 0.5, top + line * (height + GAP) - 0.5
        style = {"edgecolor": COLOURS[1], "linewidth": max(0.5, points * deviation / 2)}
        window = Rectangle(corner, right - left, bottom - top, fill=False, alpha=0.8, **style)
        panel.add_patch(window)
        # What is outside of the image is not shown over its neighbours.
        box = (step * (width + GAP) - 0.5, line * (height + GAP) - 0.5)
        window.set_clip_path(Rectangle(box, width, height, transform=panel.transData))
    return figure


def _shown(page, columns, inches):
    """The figure of a page, and its panel."""
    width = inches * columns
    figure, (panel,) = subplots(size=(width, width * len(page) / page.shape[1]))
    panel.imshow(1 - page if page.ndim == 2 else page, cmap="gray", vmin=0, vmax=1)
    panel.axis("off")
    return figure, panel
