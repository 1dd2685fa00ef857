"""What the figures share.

Every figure is a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

COLOURS = ("#1f5fa8", "#d95f02", "#2a8c5a", "#8e4ea8", "#12a5b5", "#555555")
GREY = "#8a8a8a"


def subplots(rows=1, columns=1, size=(10, 4), **sharing):
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **sharing)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes.ravel()


def in_percent(axis):
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axis.set_ylim(bottom=0)


def small_png(figure, most=80_000):
    """The content of a PNG file of few colours and, if `most` bytes need that, of few dots."""
    for dpi in (100, 80, 60):
        packed = packed_png(figure, dpi)
        if len(packed) <= most:
            break
    return packed


def packed_png(figure, dpi, colours=128):
    """The content of a PNG file of so many colours."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(colours).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def spelled(key):
    """A measure's name in words; one that has its output's name says it once."""
    half = key[: len(key) // 2]
    key = half if key == f"{half}_{half}" else key
    ends = ("bits_per_sequence", "sequence_error", "bits_per_character", "phoneme_error_rate")
    for end in (*ends, "error", "loss"):
        if key.endswith(end) and not key.startswith("validation_"):
            return end.replace("_", " ")
    return key.replace("_", " ")
