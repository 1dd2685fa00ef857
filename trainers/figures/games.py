"""Games that are played: their frames, and what was expected at each."""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from ._panels import COLOURS, subplots

MOST = 10  # frames that are shown


def coloured(frames):
    """Pictures `(..., height, width, 3)`, 0 to 1, of frames `(..., height, width, planes)` uint8.

    One plane is drawn as ink on paper, of several planes each in a colour of its own. The frames
    may be tensors.
    """
    planes = frames.shape[-1]
    colours = [(0, 0, 0)] if planes == 1 else [*map(to_rgb, COLOURS)]
    ink, picture = frames / 255, np.ones(3)
    for plane, colour in enumerate(np.resize(colours, (planes, 3))):
        picture = picture + ink[..., plane, None] * (colour - picture)
    return picture


def drawn_game(task, frames, values):
    """Frames of a game, evenly spaced, and over all of it what its model expected.

    So the paper on DQN draws values (Mnih et al., 2013, figure 3).

    Args:
        task: an `Acting` task.
        frames: `(steps, height, width, planes)` uint8.
        values: `(steps,)`.
    """
    shown = np.unique(np.linspace(0, len(frames) - 1, min(MOST, len(frames))).round().astype(int))
    figure, panels = subplots(2, len(shown), size=(10, 3.4), height_ratios=(1, 1.4))
    for panel, step in zip(panels, shown):
        panel.imshow(coloured(frames[step]), interpolation="nearest")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_xlabel(f"{step}", fontsize=8)
        panel.spines[["top", "right"]].set_visible(True)
    for panel in panels[len(shown) :]:
        panel.remove()
    below = figure.add_subplot(panels[0].get_gridspec()[1, :])
    below.spines[["top", "right"]].set_visible(False)
    below.plot(np.arange(len(values)), values, color=COLOURS[0], lw=1.4)
    below.plot(shown, values[shown], "o", color=COLOURS[0], markersize=4)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set(xlabel="step", ylabel="largest value")
    return figure
