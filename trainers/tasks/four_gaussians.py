"""A density in the plane that a mixture is to become (section 6 of our notes on Graves, 2016)."""

import dataclasses
import math

import numpy as np
from keras import ops

from ...layers import mixture_log_prob
from .._difficulty import levels
from .._evaluate import outputs_of
from .._metrics import MeanOutput
from .._task import NATS, Task

PLACES = {"upper right": (2, 2), "upper left": (-2, 2), "lower left": (-2, -2)}
PLACES |= {"lower right": (2, -2)}
WEIGHTS = (0.4, 0.3, 0.2, 0.1)
DEVIATION = 0.8
TARGET = np.array(WEIGHTS), np.array([*PLACES.values()]), np.full((4, 2), DEVIATION)


@dataclasses.dataclass(frozen=True)
class FourGaussians(Task):
    """Make of chance points in the plane that are distributed as four Gaussians are.

    These stand at 2 to either side of both axes, with deviations of 0.8 and weights of 0.4, 0.3,
    0.2 and 0.1, counterclockwise from the upper right.

    Inputs: `seed`, `(batch,)` int32. There are no targets. Outputs of models: `sample`,
    `(batch, 2)`; `nats`, `(batch,)`, by how much it is more probable to the model than to the task,
    whose mean is the reverse Kullback-Leibler divergence; and, alike in all rows, `weights`,
    `(batch, K)`, `means` and `deviations`, `(batch, K, 2)`, of the model's mixture.
    """

    evaluation_batch = 10_000
    captions = {
        "fit": "The density to be had and those of models, with the mass of each quadrant and the "
        "means of the components, the larger the more they weigh.",
        "variance": "Standard deviation of the gradient of three logits by one sample, beside that "
        "of score functions, whose baseline is the mean: for a quadratic function and for one with "
        "bounds, in four dimensions, the further the components are apart.",
    }
    called = {
        "reverse_kl": "KL divergence to the target, nats",
        "largest_mass_error": "largest error of a quadrant's mass",
    }

    @property
    def corpus(self):
        return "chance alone"

    @property
    def input_spec(self):
        return {"seed": ((), "int32")}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        return {"seed": rng.integers(0, 2**31, size, "int32")}, {}

    def log_prob(self, points):
        """The log-density of points `(batch, 2)`, nats, `(batch,)`."""
        means = np.array([list(PLACES.values())], "float32")
        rows = ops.zeros_like(points[:, :1])
        given = rows + np.log(np.array([WEIGHTS], "float32")), rows[..., None] + means
        return mixture_log_prob(points, *given, rows[..., None] + math.log(DEVIATION) + 0 * means)

    def metrics(self):
        return {NATS: [MeanOutput("reverse_kl")]}

    @property
    def measured(self):
        return "reverse_kl", "largest_mass_error"

    def measure(self, model, split="test", rows=10_000, measures=None):
        found = super().measure(model, split, rows, measures)
        errors = self.masses(model) - _masses(*TARGET)
        return {**found, "largest_mass_error": float(np.abs(errors).max())}

    def masses(self, model):
        """The mass of the model's mixture in the quadrants of `PLACES`, `(4,)`."""
        return _masses(*self._mixture(model))

    def _mixture(self, model):
        found = outputs_of(model, self.batch(np.random.default_rng(0), 2)[0])
        return [found[key][0].astype("float64") for key in ("weights", "means", "deviations")]

    def describe(self, inputs, targets, outputs):
        """`1.93 -2.11 is more probable by 0.01 nats than it should be`."""
        return [
            f"{x:.2f} {y:.2f} is more probable by {nats:.2f} nats than it should be"
            for (x, y), nats in zip(outputs["sample"], outputs[NATS])
        ]

    def report(self, model):
        """`masses`: of the quadrants, after what they should be."""
        names = [f"{name} ({mass:.3f})" for name, mass in zip(PLACES, _masses(*TARGET))]
        return {"masses": dict(zip(names, map(float, self.masses(model))))}

    def figures(self, model):
        """Matplotlib figures by name: `fit` and `variance`."""
        from ..figures.mixtures import variances

        return {**self.beside({"the model": model}), "variance": variances()}

    def beside(self, models):
        """`fit`: the density to be had, and those of the models."""
        from ..figures.mixtures import densities

        found = {"to be had": TARGET, **{name: self._mixture(x) for name, x in models.items()}}
        return {"fit": densities(found, {name: _masses(*x) for name, x in found.items()})}


def _masses(weights, means, deviations):
    """Those of a mixture in the quadrants of `PLACES`."""
    erf = np.vectorize(math.erf)
    right, up = (0.5 * (1 + erf(means / deviations / math.sqrt(2)))).T
    sides = [(right if x > 0 else 1 - right, up if y > 0 else 1 - up) for x, y in PLACES.values()]
    return np.array([weights @ (across * along) for across, along in sides])
