"""Mixtures in the plane, and how much their gradients vary.

Every function returns a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import numpy as np
from keras import ops

from ...layers import _backend as backend
from ...layers import mixture_draw, mixture_log_prob
from ._panels import COLOURS, subplots

EXTENT = 4.5
ROWS = 20_000
DISTANCES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)


def densities(mixtures, masses):
    """Densities side by side, the means of their components marked.

    Args:
        mixtures: dict: name -> weights `(K,)`, means `(K, 2)` and deviations `(K, 2)`.
        masses: dict: name -> those of the quadrants, `(4,)`, counterclockwise from the upper right.
    """
    figure, panels = subplots(1, len(mixtures), size=(4 * len(mixtures), 4))
    line = np.linspace(-EXTENT, EXTENT, 160)
    places = np.stack(np.meshgrid(line, line), axis=-1)
    for panel, (name, mixture) in zip(panels, mixtures.items()):
        weights, means, deviations = (np.asarray(x, float) for x in mixture)
        z = (places[:, :, None] - means) / deviations
        each = np.exp(-0.5 * (z**2).sum(axis=-1)) / (2 * np.pi * deviations.prod(axis=-1))
        panel.imshow(each @ weights, origin="lower", extent=[-EXTENT, EXTENT] * 2, cmap="Blues")
        panel.scatter(*means.T, s=200 * weights, color=COLOURS[1], zorder=3)
        for mass, place in zip(masses[name], ((1, 1), (-1, 1), (-1, -1), (1, -1))):
            x, y = 0.75 * EXTENT * np.array(place)
            panel.text(x, y, f"{mass:.3f}", ha="center", va="center", fontsize=9)
        panel.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT))
        panel.set_title(name, fontsize=10)
        panel.grid(False)
    return figure


def variances(components=3, size=4):
    """How the gradient of the logits by one sample varies, by how far components are apart."""
    rng = np.random.default_rng(0)
    logits, places = rng.normal(size=components) / 2, rng.normal(size=(components, size))
    functions = {
        "quadratic": lambda x: ops.sum(ops.square(x), axis=-1),
        "with bounds": lambda x: ops.sin(ops.sum(x, axis=-1)),
    }
    figure, panels = subplots(1, 2, size=(10, 4), sharey=True)
    for panel, (title, function) in zip(panels, functions.items()):
        found = [_deviations(function, logits, places * far) for far in DISTANCES]
        for colour, name in zip(COLOURS, found[0]):
            panel.plot(DISTANCES, [one[name] for one in found], "o-", color=colour, label=name)
        panel.set(title=title, xlabel="deviation of the means; that of the components is 1")
        panel.set(yscale="log")
    panels[0].set_ylabel("standard deviation of the gradient")
    panels[0].legend(frameon=False)
    return figure


def _deviations(function, logits, means):
    """Standard deviations of estimates by one sample, the mean over the logits."""
    wide = [
        ops.convert_to_tensor(np.repeat(np.float32(x)[None], ROWS, axis=0))
        for x in (logits, means, 0 * means)
    ]
    seed = ops.arange(ROWS, dtype="int32")
    points, chosen = mixture_draw(*wide, seed)

    def by_point(logits):
        return function(mixture_draw(logits, *wide[1:], seed)[0])

    def by_density(logits):
        return mixture_log_prob(points, logits, *wide[1:])

    one = ops.ones_like(wide[0][:, 0])
    path, score = (
        ops.convert_to_numpy(backend.vjp(f, wide[0])[1](one)[0]) for f in (by_point, by_density)
    )
    value = ops.convert_to_numpy(function(points))
    value = (value - value.mean())[:, None]
    pi = np.exp(logits) / np.exp(logits).sum()
    choice = np.eye(len(logits))[ops.convert_to_numpy(chosen)] - pi
    estimates = {
        "quantile transform": path,
        "score function of the density": value * score,
        "score function of the choice": value * choice,
    }
    return {name: float(x.std(axis=0).mean()) for name, x in estimates.items()}
