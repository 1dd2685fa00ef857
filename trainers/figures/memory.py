"""The pictures of the NTM paper (Graves, Wayne and Danihelka, 2014, section 4).

Every function returns a matplotlib `Figure` drawn by Agg. Time runs to the right; a bit or a
probability is dark where it is 1, values of both signs are blue above and red below 0, and steps
that are not scored stay white.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ._panels import COLOURS, GREY, in_percent, spelled, subplots

WIDEST = 125


def _image(axis, values, label="", low=0.0, high=1.0, colours="Blues", first=0):
    """`(time, width)` as an image, time to the right, the row numbers from `first` on."""
    values = np.asarray(values, "float64").T
    extent = (-0.5, values.shape[1] - 0.5, first + len(values) - 0.5, first - 0.5)
    shown = axis.imshow(
        np.ma.masked_invalid(values),
        vmin=low,
        vmax=high,
        cmap=colours,
        aspect="auto",
        interpolation="nearest",
        extent=extent,
    )
    axis.grid(False)
    axis.set_yticks([])
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if label:
        axis.set_ylabel(label)
    return shown


def _empty(size):
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def scored(target, values):
    """`values` where there is a target, NaN elsewhere."""
    return np.where(np.asarray(target) >= 0, values, np.nan)


def answers(examples):
    """Targets above outputs, for sequences of several lengths (figures 4, 5 and 8).

    Args:
        examples: dict, title -> (targets, probabilities of 1), both `(time, width)` of the answer
            alone. They stand side by side as long as they fit.
    """
    lines, used = [[]], 0
    for title, (target, probability) in examples.items():
        if lines[-1] and used + len(target) > WIDEST:
            lines, used = [*lines, []], 0
        lines[-1].append((title, target, probability))
        used += len(target)
    figure = _empty((11, 2.4 * len(lines)))
    for part, line in zip(np.atleast_1d(figure.subfigures(len(lines), 1)), lines):
        widths = [max(len(target), 8) for _, target, _ in line]
        panels = part.subplots(2, len(line), squeeze=False, sharex="col", width_ratios=widths)
        for column, (title, target, probability) in enumerate(line):
            first = column == 0
            panels[0, column].set_title(title, fontsize=10)
            _image(panels[0, column], target, "targets" if first else "")
            _image(panels[1, column], probability, "outputs" if first else "")
    part.supxlabel("step of the answer", fontsize=10)
    return figure


def against(curves, trained=None):
    """Cost and wrong bits against a count, within the range of training and beyond it (figure 11).

    Args:
        curves: dict, name of a count -> points of `generalise` that differ in it: a list of dicts
            with the count by the key `x`, and the metrics.
        trained: dict, the same names -> the largest count in training.
    """
    trained = trained or {}
    figure, panels = subplots(len(curves), 2, size=(10, 3.6 * len(curves)))
    for row, (name, points) in enumerate(curves.items()):
        for column, metric in enumerate(("bits_per_sequence", "error")):
            panel = panels[2 * row + column]
            if name in trained:
                panel.axvspan(0, trained[name], color="#eef3f9", lw=0, label="range of training")
            x, y = zip(*((point["x"], point[metric]) for point in points))
            panel.plot(x, y, color=COLOURS[0], marker="o", markersize=4)
            panel.set(xlabel=name, ylabel="wrong bits" if column else spelled(metric))
            panel.set_xlim(0, 1.04 * max(x))
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            if column:
                in_percent(panel)
            panel.set_ylim(0, 1.08 * max(*y, 0.01))
        if name in trained:
            panels[2 * row].legend(frameon=False)
    return figure


def predictions(bits, predicted, optimal, width=100):
    """What is expected of each bit of a sequence, beside the optimal predictor (figure 14).

    Args:
        bits: `(time,)` of 0 and 1.
        predicted: `(time,)`, the probability of a 1 before the bit was seen.
        optimal: `(time,)`, the same of the optimal predictor.
        width: steps of a row.
    """
    rows = -(-len(bits) // width)
    figure, panels = subplots(rows, 1, size=(12, 2.3 * rows))
    for row, panel in enumerate(panels):
        here = slice(row * width, (row + 1) * width)
        time = np.arange(len(bits))[here]
        panel.plot(
            time, optimal[here], color=COLOURS[1], lw=1.2, label="optimal", drawstyle="steps-mid"
        )
        panel.plot(
            time, predicted[here], color=COLOURS[0], lw=1.2, label="model", drawstyle="steps-mid"
        )
        panel.plot(time, bits[here], ".", color=GREY, markersize=4, label="bit that came")
        panel.set(ylabel="probability of 1", ylim=(-0.05, 1.05))
        panel.set_xlim(row * width - 0.5, (row + 1) * width - 0.5)
    panels[0].legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    panels[-1].set_xlabel("step")
    return figure


def along(curves, trained, window=5):
    """What a bit costs along a sequence.

    Args:
        curves: dict, name of a predictor -> the mean cost of each step in bits, `(time,)`.
        trained: length of the sequences in training.
        window: steps that are drawn as one, their mean.
    """
    figure, (panel,) = subplots(size=(8, 3.6))
    panel.axvspan(0, trained, color="#eef3f9", lw=0, label="range of training")
    for colour, (name, cost) in zip(COLOURS, curves.items()):
        steps = np.arange(0, len(cost) - window + 1, window)
        means = [np.mean(cost[step : step + window]) for step in steps]
        panel.plot(steps + window / 2, means, color=colour, lw=1.2, label=name)
    panel.set(xlabel="step", ylabel="bits per step", xlim=(0, max(map(len, curves.values()))))
    panel.set_ylim(bottom=0)
    panel.legend(frameon=False)
    return figure


def sorting(vectors, priorities, targets, outputs):
    """Vectors with their priorities, the order that is asked for, and the answer (figure 16).

    Args:
        vectors: `(count, width)` of 0 and 1.
        priorities: `(count,)`.
        targets, outputs: `(asked, width)`, bits and probabilities of 1.
    """
    figure = _empty((10, 4.2))
    panels = figure.subplots(2, 2, height_ratios=[1, 1.4], sharex="col")
    panels[0, 0].bar(np.arange(len(vectors)), priorities, color=COLOURS[0])
    panels[0, 0].axhline(0, color=GREY, lw=0.8)
    panels[0, 0].set(ylabel="priority", ylim=(-1.05, 1.05))
    _image(panels[1, 0], vectors, "inputs")
    _image(panels[0, 1], targets, "targets")
    _image(panels[1, 1], outputs, "outputs")
    panels[1, 0].set_xlabel("step")
    panels[1, 1].set_xlabel("step of the answer")
    return figure


def uses_memory(outputs):
    """Whether a model tells where it reads and writes."""
    return "read_weights" in outputs and "write_weights" in outputs


def _in_use(used):
    """The rows of a ring that leave out its longest idle stretch, and the number of the first.

    Args:
        used: `(slots,)`, whether a row is in use.
    """
    slots, (places,) = len(used), np.nonzero(used)
    if not len(places):
        return np.arange(slots), 0
    gaps = np.diff(places, append=places[0] + slots)
    first = places[(gaps.argmax() + 1) % len(places)]
    count = slots - gaps.max() + 1
    first -= slots if first + count > slots else 0
    return np.arange(first, first + count) % slots, first


def memory_use(inputs, outputs, title=""):
    """Where a network writes and reads while it works on one sequence (figure 6).

    Left: inputs, what is added to the memory, and where. Right: outputs, what is read, and where.
    Of several heads the largest weight is shown, and the words one below the other. Only the
    stretch of the memory that was used is drawn; the memory is a ring, and rows before 0 are those
    at its end.

    Args:
        inputs: `(time, channels)`.
        outputs: dict of arrays without the batch axis: `bits`, the probabilities of 1, `(time,
            width)`, with NaN where nothing is asked for; `write_weights` and `read_weights`,
            `(time, slots)` or `(time, heads, slots)`; and, where the model gives them, `adds` and
            `reads`, `(time, word)` or `(time, heads, word)`.
    """
    flat = {k: np.asarray(v, "float64") for k, v in outputs.items()}
    weights = {}
    for name in ("write_weights", "read_weights"):
        weight = flat[name]
        weights[name] = weight.max(axis=1) if weight.ndim == 3 else weight
    rows, first = _in_use(np.max([w.max(axis=0) for w in weights.values()], axis=0) > 0.1)
    columns = (("write", "adds", inputs, "inputs"), ("read", "reads", flat["bits"], "outputs"))
    has_words = "adds" in flat and "reads" in flat
    heights = [1, 1, 2] if has_words else [1, 2]
    figure = _empty((11, 2 + sum(heights)))
    panels = figure.subplots(len(heights), 2, height_ratios=heights, sharex=True, squeeze=False)
    for column, (verb, word, values, name) in enumerate(columns):
        bound = max(1.0, np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
        signed = np.nanmin(values, initial=0.0) < 0
        _image(
            panels[0, column],
            values,
            name,
            -bound if signed else 0,
            bound,
            "RdBu" if signed else "Blues",
        )
        if has_words:
            said = flat[word].reshape(len(flat[word]), -1)
            bound = np.abs(said).max() or 1.0
            _image(panels[1, column], said, word, -bound, bound, "RdBu")
        last = panels[-1, column]
        _image(
            last,
            weights[f"{verb}_weights"][:, rows],
            f"{verb} weightings\n(memory row)",
            first=first,
        )
        last.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        last.set_xlabel("step")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
