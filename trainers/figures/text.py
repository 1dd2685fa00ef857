"""Pictures of texts: surprise, and the influence of one text on another."""

import numpy as np


def surprise(text, target, bits):
    """A text with the cost in bits of every scored character above it.

    Args:
        text: what was read; the bar above a character is the cost of the one that follows.
        target: `(characters,)`, -1 where nothing is scored.
        bits: `(characters,)`.
    """
    from ._panels import COLOURS, subplots

    figure, (panel,) = subplots(size=(max(6.0, 0.12 * len(text) + 1.0), 2.6))
    scored, place = np.asarray(target) >= 0, 1 + np.arange(len(text))
    panel.bar(place[scored], bits[scored], color=COLOURS[0], width=0.72)
    # What costs next to nothing would not be seen.
    panel.plot(place[scored], bits[scored], "o", color=COLOURS[0], markersize=3, clip_on=False)
    panel.set(ylabel="surprise in bits", xlabel="character", xlim=(-0.5, len(text) + 0.5))
    panel.set_ylim(0, 1.08 * max(1.0, *bits))
    panel.set_xticks(np.arange(len(text)), [*text])
    panel.tick_params(axis="x", length=0, labelfontfamily="monospace", labelsize=9)
    return figure


def drawn_influence(values, columns, rows):
    """What each word read is worth to each word said.

    Args:
        values: `(rows, columns)`, in bits.
        columns: the words read.
        rows: the words said.
    """
    from ._panels import subplots

    figure, (panel,) = subplots(size=(1.5 + 0.7 * len(columns), 1.2 + 0.4 * len(rows)))
    most = max(1.0, np.abs(values).max())
    image = panel.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    panel.grid(visible=False)
    panel.set_xticks(np.arange(len(columns)), columns, rotation=45, ha="right")
    panel.set_yticks(np.arange(len(rows)), rows)
    panel.set(xlabel="source", ylabel="translation")
    figure.colorbar(image, label="bits")
    return figure


def drawn_saliency(source, target, read, said):
    """Norms of the gradients of each character of a text by those that were read.

    Each line is drawn by its largest: a character that a model is sure of has small gradients.

    Args:
        source: `(said + 1, read)`, by the characters of the source.
        target: `(said + 1, said + 1)`, by the beginning of the target and its characters.
        read, said: both texts.
    """
    from ._panels import subplots

    rows, most = [*said, "end"], np.maximum(source.max(axis=1), target.max(axis=1))[:, None]
    columns = [*read], ["begin", *said]
    widths = [max(1, len(names)) for names in columns]
    size = (2 + 0.16 * sum(widths), 1.4 + 0.16 * len(rows))
    figure, panels = subplots(1, 2, size=size, width_ratios=widths)
    for panel, values, names, title in zip(panels, (source, target), columns, ("source", "target")):
        share = values / np.maximum(most, 1e-30)
        panel.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.grid(visible=False)
        panel.set_xticks(np.arange(len(names)), names, fontsize=7)
        panel.set_yticks(np.arange(len(rows)), rows, fontsize=7)
        panel.set(xlabel=title)
    return figure
