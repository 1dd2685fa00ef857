"""Pictures of what networks hear in speech, and by what.

Every function returns a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import numpy as np
from matplotlib import colormaps

from ._panels import COLOURS, GREY, subplots

WINDOW, STEP = 0.025, 0.005
DECIBELS, GREYS = 60, 8
SHOWN = 0.1
FAINTEST = 1e-8


def spikes(audio, rate, seconds, posteriors, names, heard, spoken=(), ends=None):
    """Probabilities of phonemes over time, above the spectrogram (Graves et al., 2006, figure 1).

    Args:
        audio: `(samples,)`, as the network read it.
        rate: samples a second.
        seconds: how much of the audio is shown.
        posteriors: `(frames, classes)`, at frames that stand evenly over the audio; class 0 is the
            blank, a dotted line.
        names: a word for each class.
        heard: pairs of frame and class.
        spoken: the phonemes that are said.
        ends: when each of them ends, in seconds; None where nobody knows, and they are the title.
    """
    width = min(16.0, max(6.0, 1 + 4.5 * seconds))
    size = {"size": (width, 4.6), "height_ratios": [1.6, 1]}
    figure, (curves, below) = subplots(2, 1, sharex=True, **size)
    moments = times(len(posteriors), len(audio) / rate)
    curves.plot(moments, posteriors[:, 0], color=GREY, lw=1, ls=":")
    colours = {}
    for label in 1 + np.flatnonzero(posteriors[:, 1:].max(axis=0, initial=0) > SHOWN):
        colours[label] = COLOURS[len(colours) % (len(COLOURS) - 1)]
        curves.plot(moments, posteriors[:, label], color=colours[label], lw=1.2)
    for place, (frame, label) in enumerate(heard):
        style = {"color": colours.get(label, "black"), "ha": "center", "fontsize": 8}
        curves.text(moments[frame], (1.03, 1.1)[place % 2], names[label], **style)
    curves.set(ylabel="probability", ylim=(0, 1.2 if ends is None else 1.3))
    curves.set_yticks([0, 0.5, 1])
    if ends is None:
        curves.set_title(" ".join(spoken), fontsize=9, loc="left")
    else:
        _said(curves, spoken, ends, 1.21)
        for end in ends[:-1]:
            below.axvline(end, color="white", lw=0.5)
    _spectrogram(below, audio, rate)
    below.set(xlabel="seconds", ylabel="kHz", xlim=(0, max(seconds, STEP)))
    return figure


def sensitivity(gradient, frame, seconds, name, spoken=(), ends=None):
    """What of the input one output hangs on (Graves, Mohamed and Hinton, 2013, figure 3).

    Args:
        gradient: `(frames, features)`, of a log-probability by the inputs in standard deviations.
        frame: whose log-probability it is.
        seconds: how long the utterance is.
        name: the phoneme whose log-probability it is.
        spoken, ends: the phonemes that are said, and when each of them ends, in seconds.
    """
    width = min(16.0, max(6.0, 1 + 4.5 * seconds))
    size = {"size": (width, 4.6), "height_ratios": [1, 2.2]}
    figure, (above, map_) = subplots(2, 1, sharex=True, **size)
    moment = times(len(gradient), seconds)[frame]
    strength = np.sqrt(np.square(gradient).sum(axis=1))
    above.plot(times(len(gradient), seconds), strength, color=COLOURS[0], lw=1.2)
    above.set(ylabel="size of\nthe gradient", ylim=(0, 1.35 * max(strength.max(), 1e-9)))
    if ends is not None:
        _said(above, spoken, ends, 1.2 * max(strength.max(), 1e-9))
    above.set_title(f"gradient of log P({name}) at {moment:.2f} s, the dashed line", fontsize=9)
    most = max(np.abs(gradient).max(), 1e-9)
    extent = (0, seconds, -0.5, gradient.shape[1] - 0.5)
    scale = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    shown = map_.imshow(gradient.T, origin="lower", aspect="auto", extent=extent, **scale)
    figure.colorbar(shown, ax=map_, label="gradient by the feature", pad=0.02, aspect=30)
    for panel in (above, map_):
        panel.axvline(moment, color="black", lw=0.8, ls="--")
    map_.grid(False)
    map_.set(xlabel="seconds", ylabel="feature", xlim=(0, seconds))
    return figure


def lattice(audio, rate, seconds, by_blank, by_label, spoken, ends=None):
    """Where the alignment of an utterance goes, above the spectrogram (Graves, 2012, section 2.4).

    Args:
        audio: `(samples,)`, as the network read it.
        rate: samples a second.
        seconds: how much of the audio is shown.
        by_blank, by_label: `(frames, labels + 1)`, how probable it is that it leaves each node by
            each arc, as `transducer_arcs` gives them, at frames that stand evenly over the audio.
        spoken: the phonemes that are said.
        ends: when each of them ends, in seconds, or None where nobody knows.
    """
    frames, columns = by_blank.shape
    width, height = min(16.0, max(6.0, 1 + 4.5 * seconds)), min(12.0, max(4.0, 1 + 0.16 * columns))
    size = {"size": (width, height + 1.5), "height_ratios": [height, 1.5]}
    figure, (panel, below) = subplots(2, 1, sharex=True, **size)
    total = len(audio) / rate
    scale = {"cmap": "viridis", "vmin": np.log10(FAINTEST), "vmax": 0, "interpolation": "nearest"}
    shown = panel.imshow(
        np.log10(np.clip(by_blank + by_label, FAINTEST, 1).T),
        origin="lower",
        aspect="auto",
        extent=(0, total, -0.5, columns - 0.5),
        **scale,
    )
    ticks = np.arange(np.log10(FAINTEST), 1, 2)
    bar = figure.colorbar(shown, ax=panel, ticks=ticks, pad=0.02, shrink=0.6, aspect=30)
    bar.set_label("probability that the alignment passes", fontsize=8)
    bar.ax.set_yticklabels([f"$10^{{{tick:.0f}}}$" for tick in ticks], fontsize=8)
    frame, place = np.nonzero(by_label > SHOWN)
    sizes = 14 * by_label[frame, place]
    moments = times(frames, total)[frame]
    panel.scatter(moments, place + 0.5, s=sizes, color="black", linewidths=0)
    for end in () if ends is None else ends[:-1]:
        for both in (panel, below):
            both.axvline(end, color="white", lw=0.4)
    panel.grid(False)
    panel.set_yticks(np.arange(len(spoken)) + 0.5, spoken, fontsize=7)
    panel.set(ylabel="put out, from the bottom up", ylim=(-0.5, columns - 0.5))
    _spectrogram(below, audio, rate)
    below.set(xlabel="seconds", ylabel="kHz", xlim=(0, max(seconds, STEP)))
    return figure


def confusions(pairs, names):
    """How often each phoneme that was said, a row, was heard as each, a column; in shares of rows.

    Args:
        pairs: `(count, 2)` integers, classes said and heard, -1 for none; see `aligned`.
        names: a word for each class.
    """
    none, counts = len(names), np.zeros((len(names) + 1,) * 2, int)
    np.add.at(counts, tuple(np.where(pairs < 0, none, pairs).T), 1)
    used = [i for i in range(none) if counts[i].sum() + counts[:, i].sum()] + [none]
    counts = counts[np.ix_(used, used)]
    said = counts.sum(axis=1, keepdims=True)
    words = [*(names[i] for i in used[:-1]), "none"]
    size = 2 + 0.17 * len(words)
    figure, (panel,) = subplots(size=(size + 0.6, size))
    # Roots, or else one would only see what is right.
    shown = panel.imshow(np.sqrt(counts / np.maximum(said, 1)), cmap="Blues", vmin=0, vmax=1)
    ticks = np.sqrt([0, 0.01, 0.05, 0.2, 0.5, 1])
    bar = figure.colorbar(shown, ax=panel, ticks=ticks, pad=0.02, shrink=0.6, aspect=30)
    bar.set_label("share of what was said", fontsize=8)
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"], fontsize=8)
    panel.grid(False)
    places = range(len(words))
    panel.set_xticks(places, words, fontsize=7, rotation=90)
    panel.set_yticks(places, words, fontsize=7)
    panel.set(xlabel="heard", ylabel="said")
    wrong = counts.sum() - np.trace(counts)
    panel.set_title(
        f"{wrong:,} of {counts[:-1].sum():,} phonemes wrong: {counts[-1].sum():,} put in, "
        f"{counts[:, -1].sum():,} left out",
        fontsize=9,
    )
    return figure


def aligned(said, heard):
    """What was heard for what was said, by the fewest insertions, deletions and substitutions.

    Args:
        said, heard: sequences of classes.

    Returns:
        List of pairs (class said, class heard), -1 for none.
    """
    cost = np.zeros((len(said) + 1, len(heard) + 1), int)
    cost[:, 0], cost[0] = np.arange(len(said) + 1), np.arange(len(heard) + 1)
    for i, one in enumerate(said, start=1):
        for j, other in enumerate(heard, start=1):
            both = cost[i - 1, j - 1] + (one != other)
            cost[i, j] = min(both, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    pairs, i, j = [], len(said), len(heard)
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (said[i - 1] != heard[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((said[i], heard[j]))
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
            pairs.append((said[i], -1))
        else:
            j -= 1
            pairs.append((-1, heard[j]))
    return pairs[::-1]


def times(frames, seconds):
    """The middles of frames that stand evenly over so many seconds."""
    return (np.arange(frames) + 0.5) * seconds / max(frames, 1)


def _said(panel, phonemes, ends, height):
    """Phonemes at their times, at a height of the panel."""
    starts = [0, *ends[:-1]]
    for phoneme, start, end in zip(phonemes, starts, ends):
        middle = (start + end) / 2
        panel.text(middle, height, phoneme, color=GREY, ha="center", fontsize=7.5)
        panel.axvline(end, color="#e6e6e6", lw=0.8, zorder=0)


def _spectrogram(panel, audio, rate):
    window = round(WINDOW * rate)
    panel.grid(False)
    if len(audio) < window:
        return
    shape = {"NFFT": window, "noverlap": window - round(STEP * rate), "pad_to": 512}
    # Far below anything that was recorded, so that silence has a logarithm.
    floor = 1e-7 * np.random.default_rng(0).normal(size=len(audio))
    # Few greys make small files.
    shape["cmap"] = colormaps["Greys"].resampled(GREYS)
    power, *_, image = panel.specgram(audio + floor, Fs=rate / 1000, **shape)
    loudest = 10 * np.log10(power.max())
    image.set_clim(loudest - DECIBELS, loudest)
    left, right, *heights = image.get_extent()
    image.set_extent((left / 1000, right / 1000, *heights))
