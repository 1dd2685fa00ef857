"""Pictures of handwriting, and of what networks expect of a pen.

A line is a list of strokes, each `(points, 2)` of places, right and up. Every function returns a
matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import numpy as np

from ._panels import COLOURS, GREY, subplots

WIDTH = 12.0  # inches of a picture
DOTS = 900  # of a density, across
FAR = 4.0  # standard deviations at which a Gaussian is over
LEAST = 0.01  # weight of a component that is drawn
INK = {"color": "black", "lw": 1.1, "solid_capstyle": "round", "solid_joinstyle": "round"}


def lines(rows):
    """Lines of handwriting, one under the other at one scale.

    Args:
        rows: pairs of a title and a line.
    """
    rows = list(rows)
    boxes = [_box(strokes) for _, strokes in rows]
    widest = max([box[2] - box[0] for box in boxes], default=1.0)
    heights = [0.25 + WIDTH * (box[3] - box[1]) / widest for box in boxes]
    size = {"size": (WIDTH, max(1.0, sum(heights))), "height_ratios": heights or None}
    figure, panels = subplots(max(1, len(rows)), 1, **size)
    for panel, box, (title, strokes) in zip(panels, boxes, rows):
        _write(panel, strokes)
        panel.set(xlim=(box[0], box[0] + widest), ylim=(box[1], box[3]))
        panel.set_title(title, fontsize=8, loc="left", color=GREY, pad=2)
    for panel in panels[len(rows) :]:
        panel.axis("off")
    return figure


def beside(columns):
    """Lines of handwriting in columns, as real ones beside samples.

    Args:
        columns: dict: title -> list of lines.
    """
    count = max(1, max(map(len, columns.values()), default=1))
    size = (WIDTH, 0.3 + 0.75 * count)
    figure, panels = subplots(count, max(1, len(columns)), size=size)
    for number, (title, some) in enumerate(columns.items()):
        for place in range(count):
            panel = panels[place * len(columns) + number]
            panel.axis("off")
            if place < len(some):
                _write(panel, some[place])
            if not place:
                panel.set_title(title, fontsize=9, loc="left")
    return figure


def density(points, mixture, offsets):
    """Where a pen was expected, and whether it would be lifted (Graves, 2013, figure 10).

    Args:
        points: `(points, 3)`, the normalised points of a line.
        mixture: dict of arrays, as `mixture_components` gives them: what was expected of each.
        offsets: mean and standard deviation of offsets, `(2, 2)`, by which they were normalised.
    """
    mean, deviation = np.asarray(offsets, float)
    moved = np.asarray(points, float)[:, :2] * deviation + mean
    before = np.vstack([np.zeros((1, 2)), np.cumsum(moved, axis=0)[:-1]])
    low, high = _bounds([np.vstack([before, before[-1:] + moved[-1:]])], margin=0.25)
    dot = max((high - low)[0] / DOTS, 1e-9)
    seen = np.zeros(np.maximum(1, np.ceil((high - low) / dot).astype(int))[::-1])
    for place, start in enumerate(before):
        part = {name: np.asarray(x, float)[place] for name, x in mixture.items()}
        for component in np.flatnonzero(part["log_pi"] > np.log(LEAST)):
            _add(
                seen,
                low,
                dot,
                start,
                {n: x[..., component] for n, x in part.items() if n != "end"},
                offsets,
            )
    height = min(6.0, max(1.0, WIDTH * seen.shape[0] / seen.shape[1]))
    size = {"size": (WIDTH, height + 1.6), "height_ratios": [height, 1.2]}
    figure, (above, below) = subplots(2, 1, **size)
    extent = (low[0], low[0] + dot * seen.shape[1], low[1], low[1] + dot * seen.shape[0])
    top = np.percentile(seen[seen > 0], 99) if (seen > 0).any() else 1.0
    above.imshow(
        np.sqrt(np.minimum(seen, top)),
        origin="lower",
        extent=extent,
        cmap="inferno",
        aspect="equal",
    )
    above.grid(False)
    above.axis("off")
    ends = 0.5 * (1 + np.tanh(np.asarray(mixture["end"], float) / 2))
    below.fill_between(np.arange(len(ends)), ends, color=COLOURS[0], lw=0, step="mid")
    came = np.flatnonzero(np.asarray(points)[:, 2] > 0.5)
    below.plot(came, np.full(len(came), 1.08), ".", color=COLOURS[1], ms=3)
    below.set(xlabel="point", ylabel="end of\nstroke", ylim=(0, 1.15), xlim=(-0.5, len(ends) - 0.5))
    below.set_yticks([0, 0.5, 1])
    return figure


def _add(seen, low, dot, start, part, offsets):
    """Adds one Gaussian to a picture, in its dots around the middle."""
    mean, deviation = np.asarray(offsets, float)
    centre = start + np.array([part["mean_x"], part["mean_y"]]) * deviation + mean
    sigma = np.exp([part["log_sigma_x"], part["log_sigma_y"]]) * deviation
    sigma = np.maximum(sigma, dot / 2)  # what is narrower than a dot fills it
    first = np.floor((centre - FAR * sigma - low) / dot).astype(int)
    last = np.ceil((centre + FAR * sigma - low) / dot).astype(int) + 1
    first, last = np.maximum(first, 0), np.minimum(last, seen.shape[::-1])
    if (first >= last).any():
        return
    x, y = (
        (low[i] + dot * (np.arange(first[i], last[i]) + 0.5) - centre[i]) / sigma[i] for i in (0, 1)
    )
    rho = np.tanh(part["rho_hat"])
    rest = (1 - rho) * (1 + rho)
    z = (x**2)[None, :] + (y**2)[:, None] - 2 * rho * x[None, :] * y[:, None]
    height = np.exp(part["log_pi"]) / (2 * np.pi * sigma.prod() * np.sqrt(rest))
    seen[first[1] : last[1], first[0] : last[0]] += height * np.exp(-z / (2 * rest))


def window(text, weights, strokes):
    """What of a text is looked at while it is written (Graves, 2013, figure 13).

    Args:
        text: the characters.
        weights: `(points, characters)` or with a place more, that behind the last character.
        strokes: what was written.
    """
    weights = np.asarray(weights, float)
    tall = min(9.0, max(2.0, 0.16 * weights.shape[1]))
    size = {"size": (WIDTH, tall + 1.4), "height_ratios": [tall, 1.2]}
    figure, (above, below) = subplots(2, 1, **size)
    shown = above.imshow(
        weights.T, aspect="auto", cmap="Greys", vmin=0, interpolation="nearest", origin="lower"
    )
    figure.colorbar(shown, ax=above, pad=0.01, aspect=30, label="weight")
    above.grid(False)
    names = [*text.replace(" ", "\N{OPEN BOX}"), "end"][: weights.shape[1]]
    above.set_yticks(range(len(names)), names, fontsize=7)
    above.set(xlabel="point", ylabel="character", ylim=(-0.5, weights.shape[1] - 0.5))
    _write(below, strokes)
    return figure


def _write(panel, strokes):
    """Draws a line in a panel of its own."""
    for stroke in strokes:
        panel.plot(*np.asarray(stroke, float).reshape(-1, 2).T, **INK)
    panel.grid(False)
    panel.axis("off")
    panel.set_aspect("equal")


def _box(strokes):
    return np.concatenate(_bounds(strokes))


def _bounds(strokes, margin=0.05):
    """The corners of what is drawn, with a margin, a share of its height."""
    places = np.concatenate([np.zeros((1, 2)), *(np.reshape(s, (-1, 2)) for s in strokes)])
    low, high = places.min(axis=0), places.max(axis=0)
    margin = max(margin * (high - low)[1], 1e-3)
    return low - margin, high + margin
