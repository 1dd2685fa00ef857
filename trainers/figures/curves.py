"""Error against difficulty, time penalty and updates."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._panels import COLOURS, GREY, _panels, _percent, _spelled

LONG = 24  # characters; longer names stand below the picture


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
