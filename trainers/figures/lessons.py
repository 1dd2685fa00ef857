"""What a teacher chose, and what became of it."""

import textwrap

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ._panels import COLOURS, GREY, spelled, subplots

MOMENTS = 6  # of a grid
MOST_NAMES = 12  # that stand at an axis, or as lines in a legend


def syllabus(names, curves, steps, task):
    """Probabilities of lessons: over all of the run, or of a grid at some moments of it.

    So the paper on automated curricula draws them (Graves et al., 2017, figures 4 and 6).

    Args:
        names: of the lessons.
        curves: with `probabilities`, `(epochs, lessons)`.
        steps: updates of an epoch.
        task: with `grid` where lessons are the points of one.
    """
    chances = np.asarray(curves["probabilities"])
    if not task.grid:
        return over_time({"": chances}, names, steps, task.axis)
    (rows, height), (columns, width) = task.grid.items()
    moments = np.unique(np.linspace(0, len(chances) - 1, MOMENTS).round().astype(int))
    figure, panels = subplots(1, len(moments), size=(11, 2.6), sharey=True)
    corners = (0.5, width + 0.5, 0.5, height + 0.5)
    for panel, epoch in zip(panels, moments):
        # Each picture has its own scale: the most probable lesson is the darkest.
        panel.imshow(
            chances[epoch].reshape(height, width), cmap="Blues", vmin=0, origin="lower",
            extent=corners, aspect="auto",
        )  # fmt: skip
        most = f"{chances[epoch].max():.0%} at most"
        panel.set_title(f"after {(epoch + 1) * steps:,}: {most}", fontsize=8)
        panel.set_xlabel(columns)
        panel.grid(False)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
    panels[0].set_ylabel(rows)
    return figure


def over_time(runs, names, steps, axis):
    """Probabilities of lessons over updates, a panel for each of several runs by name.

    Args:
        runs: dict: name -> `(epochs, lessons)`.
        names: of the lessons.
        steps: updates of an epoch.
        axis: what the lessons are, in words.
    """
    figure, panels = subplots(1, len(runs), size=(max(6, 2.6 * len(runs)), 3.4), sharey=True)
    # Of one lesson alone and of all alike, by their roots, both are to be seen.
    scale = PowerNorm(0.5, 0, max(np.max(chances) for chances in runs.values()))
    for panel, (name, chances) in zip(panels, runs.items()):
        chances = np.asarray(chances)
        extent = (0, len(chances) * steps, -0.5, len(names) - 0.5)
        shown = panel.imshow(
            chances.T, cmap="Blues", norm=scale, origin="lower", extent=extent, aspect="auto"
        )
        panel.set_title(textwrap.fill(spelled(name), 24), fontsize=8)
        panel.set_xlabel("updates")
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(False)
    places = np.unique(np.linspace(0, len(names) - 1, min(MOST_NAMES, len(names))).astype(int))
    panels[0].set_yticks(places, [spelled(names[place]) for place in places])
    panels[0].set_ylabel(axis)
    figure.colorbar(shown, ax=panels[-1], label="probability", pad=0.02)
    return figure


def lesson_curves(names, curves, solved, task):
    """The error of every lesson over updates, from the first one, light, to the last, dark."""
    errors, updates = np.asarray(curves["errors"]), np.asarray(curves["updates"])
    figure, (panel,) = subplots(size=(6, 4))
    shades = np.linspace(0.25, 1, len(names))
    for place, shade in enumerate(shades):
        label = spelled(names[place]) if len(names) <= MOST_NAMES else None
        line = {"color": COLOURS[0], "alpha": shade, "lw": 1.0, "label": label}
        panel.plot(updates, errors[:, place], **line)
    panel.plot(updates, errors.mean(axis=1), color=COLOURS[1], lw=2, label="mean")
    panel.axhline(solved, color=GREY, ls="--", lw=1, label="solved below")
    panel.set(xlabel="updates", ylabel=spelled(task.measured[0]), ylim=(0, None))
    panel.legend(frameon=False, fontsize=7, ncols=2)
    return figure


def in_time(runs, solved, task):
    """Several runs, by their signals, as the steps that they processed go on.

    Left the mean error of all lessons, in the middle that of the last lesson, and at the right the
    share of lessons that are solved; each as the mean of the runs of a signal, with a line of its
    own for every run.

    Args:
        runs: dict: signal -> list of runs, `(steps, errors)`: `(looks,)` and `(looks, lessons)`.
        solved: the error below which a lesson is solved.
        task: with the name of the error.
    """
    figure, panels = subplots(1, 3, size=(13, 4))
    shown = {
        f"{spelled(task.measured[0])}, mean of lessons": lambda errors: errors.mean(axis=1),
        f"{spelled(task.measured[0])}, last lesson": lambda errors: errors[:, -1],
        "lessons solved": lambda errors: (errors < solved).mean(axis=1),
    }
    for panel, (label, told) in zip(panels, shown.items()):
        for colour, (signal, found) in zip(COLOURS * 9, runs.items()):
            for number, (steps, errors) in enumerate(found):
                name = spelled(signal) if number == 0 else None
                panel.plot(steps, told(np.asarray(errors)), color=colour, lw=1.2, label=name)
        if panel is not panels[-1]:
            # From far above what counts as solved to just below it: decades down to there.
            panel.set_yscale("symlog", linthresh=solved)
        panel.set(xlabel="steps processed", ylabel=label, ylim=(0, None))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
    panels[-1].legend(frameon=False, fontsize=8, loc="center right")
    return figure
