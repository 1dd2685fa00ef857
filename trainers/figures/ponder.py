"""Ponder over a text and over the steps of a row (Graves, 2016, section 3)."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._panels import COLOURS, GREY, subplots


def ponder_over_text(text, updates, rho, bits, entropy, words="updates N\nline: N + R"):
    """Three aligned rows above a text: N as bars with N + R as a line, surprise, and entropy.

    Args:
        text: bytes that were read, best 60 to 150 of them.
        updates: `(bytes,)`, N at each byte.
        rho: `(bytes,)`, N + R at each byte.
        bits: `(bytes,)`, -log2 of the probability that the following byte was given.
        entropy: `(bytes,)`, entropy of the prediction of the following byte, in bits.
        words: what the first row shows.
    """
    place = np.arange(len(text))
    width = max(6.0, 0.115 * len(text) + 1.0)
    figure, panels = subplots(3, 1, size=(width, 4.8), sharex=True)
    words = words, "surprise\nin bits", "entropy\nin bits"
    for panel, values, word, colour in zip(panels, (rho, bits, entropy), words, COLOURS):
        for gap in place[[byte in b" \n" for byte in text]]:
            panel.axvspan(gap - 0.5, gap + 0.5, color="#f0f0f0", lw=0)
        panel.plot(place, values, color=colour, lw=1.3, marker=".", markersize=4)
        panel.set_ylabel(word)
        panel.set_xlim(-0.5, len(text) - 0.5)
        panel.tick_params(axis="x", length=0)
    panels[0].bar(place, updates, width=0.7, color=COLOURS[0], alpha=0.35, lw=0)
    panels[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    for panel, values in zip(panels, (rho, bits, entropy)):
        panel.set_ylim(0, 1.08 * max(1.0, *values))
    panels[-1].set_xticks(place, [_glyph(byte) for byte in text])
    panels[-1].tick_params(axis="x", labelfontfamily="monospace", labelsize=9, pad=4)
    panels[-1].set_xlabel(
        "byte read (¶ newline, · byte outside ASCII; spaces are shaded)", labelpad=6
    )
    return figure


def _glyph(byte):
    # A lone dollar sign would open mathematics.
    special = {10: "¶", 32: " ", 36: r"\$"}
    return special.get(int(byte), chr(byte) if 32 < byte < 127 else "·")


def ponder_per_step(values, updates, remainder, labels=None):
    """N and R at every input step, above what was shown.

    Args:
        values: `(time,)` numbers drawn as stems under the bars, NaN for none; or None.
        updates: `(time,)`, N.
        remainder: `(time,)`, R.
        labels: `time` words under the bars.
    """
    steps = np.arange(len(updates))
    longest = max((len(str(label)) for label in labels or [""]), default=0)
    width = min(16.0, max(5.0, 1.6 + len(steps) * max(0.35, 0.1 * longest)))
    if values is None:
        figure, (bars,) = subplots(size=(width, 3.4))
        lowest = bars
    else:
        size = {"size": (width, 4.6), "height_ratios": [2.4, 1]}
        figure, (bars, lowest) = subplots(2, 1, sharex=True, **size)
        shown = np.isfinite(np.asarray(values, "float64"))
        lowest.axhline(0, color=GREY, lw=0.8)
        lowest.vlines(steps[shown], 0, np.asarray(values)[shown], color=COLOURS[2], lw=1.5)
        lowest.plot(steps[shown], np.asarray(values)[shown], "o", color=COLOURS[2], markersize=4)
        lowest.set_ylabel("value")
    bars.bar(steps, updates, color=COLOURS[0], width=0.72, label="updates N")
    bars.bar(steps, remainder, bottom=updates, color=COLOURS[1], width=0.72, label="remainder R")
    bars.set_ylabel("ponder N + R")
    bars.margins(y=0.12)
    bars.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    lowest.set_xlabel("input step")
    if labels is not None:
        lowest.set_xticks(steps, labels)
    else:
        lowest.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
