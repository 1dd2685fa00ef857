"""The pictures of the ACT paper (Graves, 2016, section 3).

Every function returns a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

COLOURS = ("#1f5fa8", "#d95f02", "#2a8c5a", "#8e4ea8", "#b8860b", "#555555")
GREY = "#8a8a8a"
LONG = 24  # characters; longer names stand below the picture


def _panels(rows=1, columns=1, size=(10, 4), **sharing):
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **sharing)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes.ravel()


def _percent(axis):
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axis.set_ylim(bottom=0)


def small_png(figure, most=80_000):
    """The content of a PNG file of few colours and, if that is needed, of few dots.

    Raises `ValueError` where that is more than `most` bytes all the same.
    """
    for dpi in (100, 80, 60):
        packed = packed_png(figure, dpi)
        if len(packed) <= most:
            return packed
    raise ValueError(f"the figure needs {len(packed)} bytes as a PNG file, {most} at most")


def packed_png(figure, dpi, colours=128):
    """The content of a PNG file of so many colours."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(colours).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def difficulty(sweeps, axis, metric="sequence_error"):
    """Ponder and error against difficulty as the paper draws them for every synthetic task.

    Where no model ponders, the error alone.

    Args:
        sweeps: what `sweep` returns, or a dict of several of them by name.
        axis: what difficulty counts, `task.axis`.
        metric: name of the error.
    """
    sweeps = sweeps if isinstance(sweeps, dict) else {"": sweeps}
    ponders = any("ponder" in point for points in sweeps.values() for point in points)
    figure, panels = _panels(1, 1 + ponders, size=(10 if ponders else 6, 4))
    error = panels[-1]
    for colour, (name, points) in zip(COLOURS, sweeps.items()):
        level = [point["difficulty"] for point in points]
        wrong = [point[metric] for point in points]
        error.plot(level, wrong, color=colour, label=name, marker="o", markersize=3)
        if ponders:
            mean = np.array([point.get("ponder", 1.0) for point in points])
            spread = np.array([point.get("ponder_std", 0.0) for point in points])
            band = (mean - spread, mean + spread)
            panels[0].fill_between(level, *band, color=colour, alpha=0.15, lw=0)
            panels[0].plot(level, mean, color=colour, label=name, marker="o", markersize=3)
    if ponders:
        panels[0].set(ylabel="updates N per input\n(mean ± standard deviation)", ylim=(0, None))
    error.set(ylabel=_spelled(metric))
    if metric.endswith("error"):
        _percent(error)
    for panel in panels:
        panel.set_xlabel(axis)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if any(sweeps):
        error.legend(frameon=False)
    return figure


def penalties(rows, metric="sequence_error"):
    """Error against time penalty, and against ponder.

    Args:
        rows: dicts with `time_penalty`, `ponder` and the metric, one a run. The runs without ACT
            have `time_penalty` None and show as a dashed line.
        metric: name of the error.
    """
    is_error = metric.endswith("error")
    runs = [row for row in rows if row["time_penalty"] is not None]
    plain = [row[metric] for row in rows if row["time_penalty"] is None]
    tau = np.array([row["time_penalty"] for row in runs])
    wrong = np.array([row[metric] for row in runs])
    updates = np.array([row["ponder"] for row in runs])

    figure, (left, right) = _panels(1, 2, size=(10.5, 4))
    each = np.unique(tau)
    left.scatter(tau, wrong, s=18, color=COLOURS[0], alpha=0.45, lw=0, label="one run", zorder=3)
    means = [wrong[tau == value].mean() for value in each]
    left.plot(each, means, color=COLOURS[0], marker="o", markersize=5, label="mean of seeds")
    if (each > 0).all():
        left.set_xscale("log")
    elif (each > 0).any():
        left.set_xscale("symlog", linthresh=each[each > 0].min())
    left.set(xlabel="time penalty τ", ylabel=_spelled(metric))
    shown = right.scatter(updates, wrong, c=tau, s=26, cmap="viridis", norm=_scale(each), zorder=3)
    right.set(xlabel="updates N per input (mean of a run)", ylabel=_spelled(metric))
    figure.colorbar(shown, ax=right, label="time penalty τ", pad=0.02)
    for panel in (left, right):
        if plain:
            mean = np.mean(plain)
            label = f"no ACT ({mean:.1%})" if is_error else f"no ACT ({mean:.3g})"
            panel.axhline(np.mean(plain), color=GREY, ls="--", lw=1.2, label=label)
        if is_error:
            _percent(panel)
    left.legend(frameon=False)
    return figure


def _scale(values):
    return "log" if (values > 0).all() and len(values) > 1 else "linear"


def ponder_over_text(text, updates, rho, bits, entropy):
    """Three aligned rows above a text: N as bars with N + R as a line, surprise, and entropy.

    Args:
        text: bytes that were read, best 60 to 150 of them.
        updates: `(bytes,)`, N at each byte.
        rho: `(bytes,)`, N + R at each byte.
        bits: `(bytes,)`, -log2 of the probability that the following byte was given.
        entropy: `(bytes,)`, entropy of the prediction of the following byte, in bits.
    """
    place = np.arange(len(text))
    width = max(6.0, 0.115 * len(text) + 1.0)
    figure, panels = _panels(3, 1, size=(width, 4.8), sharex=True)
    words = ("updates N\nline: N + R", "surprise\nin bits", "entropy\nin bits")
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
        figure, (bars,) = _panels(size=(width, 3.4))
        lowest = bars
    else:
        size = {"size": (width, 4.6), "height_ratios": [2.4, 1]}
        figure, (bars, lowest) = _panels(2, 1, sharex=True, **size)
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


def learning_curves(histories, metric=None):
    """Error, and ponder and the curriculum's difficulty where there are any, against updates.

    Args:
        histories: dict, name of a run -> list of dicts with `updates` and metrics, `history.json`.
        metric: name of the left panel's metric, or how it ends. By default "bits_per_sequence",
            "sequence_error" or "bits_per_character", the first that a history has.
    """
    first = next(iter(histories.values()))[0]
    default = ("bits_per_sequence", "sequence_error", "bits_per_character", "error", "loss")
    wanted = (metric,) if metric else default
    names = [key for end in wanted for key in first if key.endswith(end) and key != "val_loss"]
    if not names:
        raise ValueError(f"the histories have no metric {metric!r}; they have {sorted(first)}")
    panels = [names[0]]
    panels += [n for n in [next((k for k in first if k.endswith("ponder")), None)] if n]
    panels += ["difficulty"] if "difficulty" in first else []
    figure, axes = _panels(1, len(panels), size=((5.2, 10.4, 13)[len(panels) - 1], 4))
    for axis, key in zip(axes, panels):
        for colour, (name, history) in zip(COLOURS * 99, histories.items()):
            points = [(row["updates"], row[key]) for row in history if key in row]
            if points:
                axis.plot(*zip(*points), color=colour, label=name, lw=1.4)
        axis.set_xlabel("updates")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_formatter(_thousands)
    axes[0].set_ylabel(_spelled(panels[0]))
    if panels[0].endswith(("error", "error_rate")):
        _percent(axes[0])
    for axis, key in zip(axes[1:], panels[1:]):
        axis.set_ylabel("difficulty (curriculum)" if key == "difficulty" else "updates N per input")
    where = {}
    if max(map(len, histories)) > LONG:
        where = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.18), "fontsize": 7}
    axes[0].legend(frameon=False, **where)
    return figure


def _thousands(value, _):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _spelled(key):
    for end in ("bits_per_sequence", "sequence_error", "bits_per_character", "error", "loss"):
        if key.endswith(end):
            return end.replace("_", " ")
    return key.replace("_", " ")
