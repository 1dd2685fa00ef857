"""Error, and what models tell of themselves, against difficulty, a setting and updates."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._panels import COLOURS, GREY, in_percent, spelled, subplots

LONG = 24  # characters; longer names stand below the picture


def difficulty(sweeps, axis, metric="sequence_error", words=None):
    """Error against difficulty, beside the first measure that has a standard deviation.

    So the paper on ACT draws the ponder for every synthetic task (Graves, 2016).

    Args:
        sweeps: what `difficulty_sweep` returns, or a dict of several of them by name.
        axis: what difficulty counts, `task.axis`.
        metric: name of the error.
        words: dict, what a measure is called, by its name.
    """
    sweeps = sweeps if isinstance(sweeps, dict) else {"": sweeps}
    names = dict.fromkeys(key for points in sweeps.values() for point in points for key in point)
    told = next((name.removesuffix("_std") for name in names if name.endswith("_std")), None)
    figure, panels = subplots(1, 1 + bool(told), size=(10 if told else 6, 4))
    error = panels[-1]
    for colour, (name, points) in zip(COLOURS, sweeps.items()):
        level = [point["difficulty"] for point in points]
        wrong = [point[metric] for point in points]
        error.plot(level, wrong, color=colour, label=name, marker="o", markersize=3)
        if told and told in points[0]:
            mean = np.array([point[told] for point in points])
            spread = np.array([point.get(f"{told}_std", 0.0) for point in points])
            band = (mean - spread, mean + spread)
            panels[0].fill_between(level, *band, color=colour, alpha=0.15, lw=0)
            panels[0].plot(level, mean, color=colour, label=name, marker="o", markersize=3)
    if told:
        called = (words or {}).get(told) or spelled(told)
        panels[0].set(ylabel=f"{called}\n(mean ± standard deviation)", ylim=(0, None))
    error.set(ylabel=spelled(metric))
    if metric.endswith("error"):
        in_percent(error)
    for panel in panels:
        panel.set_xlabel(axis)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if any(sweeps):
        error.legend(frameon=False)
    return figure


def trade_off(rows, setting, measure, metric="sequence_error", words=None, without="without"):
    """Error against a setting that trades it for a measure, and against that measure.

    Args:
        rows: dicts with the setting, the measure and the metric, one a run. The runs without the
            paper's mechanism have None for the setting and show as a dashed line.
        setting: name of the setting, as "time_penalty".
        measure: name of the measure, as "ponder".
        metric: name of the error.
        words: dict, what setting and measure are called, by their names.
        without: what the runs without the mechanism are called, with their task if it is another.
    """
    called = {name: (words or {}).get(name) or spelled(name) for name in (setting, measure)}
    is_error = metric.endswith("error")
    runs = [row for row in rows if row[setting] is not None]
    plain = [row[metric] for row in rows if row[setting] is None]
    values, wrong, told = (
        np.array([row[name] for row in runs]) for name in (setting, metric, measure)
    )
    figure, (left, right) = subplots(1, 2, size=(10.5, 4))
    each = np.unique(values)
    left.scatter(values, wrong, s=18, color=COLOURS[0], alpha=0.45, lw=0, label="one run", zorder=3)
    means = [wrong[values == value].mean() for value in each]
    left.plot(each, means, color=COLOURS[0], marker="o", markersize=5, label="mean of seeds")
    if (each > 0).all():
        left.set_xscale("log")
    elif (each > 0).any():
        left.set_xscale("symlog", linthresh=each[each > 0].min())
    left.set(xlabel=called[setting], ylabel=spelled(metric))
    points = {"s": 26, "cmap": "viridis", "norm": _scale(each), "zorder": 3}
    shown = right.scatter(told, wrong, c=values, **points)
    right.set(xlabel=f"{called[measure]}, mean of a run", ylabel=spelled(metric))
    figure.colorbar(shown, ax=right, label=called[setting], pad=0.02)
    for panel in (left, right):
        if plain:
            mean = np.mean(plain)
            label = f"{without} ({mean:.1%})" if is_error else f"{without} ({mean:.3g})"
            panel.axhline(mean, color=GREY, ls="--", lw=1.2, label=label)
        if is_error:
            in_percent(panel)
    left.legend(frameon=False)
    return figure


def _scale(values):
    return "log" if (values > 0).all() and len(values) > 1 else "linear"


def learning_curves(histories, metric=None, words=None):
    """Error, a measure, and the curriculum's difficulty where there are any, against updates.

    Args:
        histories: dict, name of a run -> list of dicts with `updates` and metrics, `history.json`.
        metric: name of the left panel's metric, or how it ends. By default "bits_per_sequence",
            "sequence_error" or "bits_per_character", the first that a history has.
        words: dict, what the measures of a model are called, by their names; the first is drawn.
    """
    first = next(iter(histories.values()))[0]
    default = ("bits_per_sequence", "sequence_error", "bits_per_character", "error", "loss")
    wanted = (metric,) if metric else default
    names = [key for end in wanted for key in first if key.endswith(end) and key != "val_loss"]
    if not names:
        raise ValueError(f"the histories have no metric {metric!r}; they have {sorted(first)}")
    panels = [names[0]]
    told = {key: words[name] for name in words or {} for key in first if key.endswith(name)}
    panels += list(told)[:1]
    panels += ["difficulty"] if "difficulty" in first else []
    figure, axes = subplots(1, len(panels), size=((5.2, 10.4, 13)[len(panels) - 1], 4))
    for axis, key in zip(axes, panels):
        for colour, (name, history) in zip(COLOURS * 99, histories.items()):
            points = [(row["updates"], row[key]) for row in history if key in row]
            if points:
                axis.plot(*zip(*points), color=colour, label=name, lw=1.4)
        axis.set_xlabel("updates")
        if axis.dataLim.ymin >= 0:  # returns of games may be less
            axis.set_ylim(bottom=0)
        axis.xaxis.set_major_formatter(_thousands)
    axes[0].set_ylabel(spelled(panels[0]))
    if panels[0].endswith(("error", "error_rate")):
        in_percent(axes[0])
    for axis, key in zip(axes[1:], panels[1:]):
        axis.set_ylabel(told.get(key, "difficulty (curriculum)"))
        if key == "difficulty":
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    where = {}
    if max(map(len, histories)) > LONG:
        where = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.18), "fontsize": 7}
    axes[0].legend(frameon=False, **where)
    return figure


def _thousands(value, _):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
