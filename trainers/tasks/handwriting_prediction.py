"""Handwriting prediction (Graves, 2013, section 4)."""

import dataclasses

import numpy as np

from ...layers import MixtureDensityLoss
from ...layers.mixture_density import mixture_components, mixture_density_loss
from .._evaluate import outputs_of
from .._pen_metrics import NatsPerPoint, NatsPerSequence, SquaredDistance
from ..data._pen import strokes_of
from ._pen import PenTask

SHOWN = 8  # lines in a picture


@dataclasses.dataclass(frozen=True)
class HandwritingPrediction(PenTask):
    """Tell where a pen goes next, point by point, and whether it is lifted there.

    A network that was told this can write: it goes on with a point that is drawn from the density
    it gave. Data, `length` and `buckets` are as in `PenTask`.

    Inputs: `points`, `(batch, time, 3)` float32, the point before each: zeros, then the first point
    and so on, zeros behind the last. Targets: `points`, likewise, the points themselves; their
    third is -1 behind the last. The model output `points` is what `mixture_components` takes,
    `(batch, time, 6 * M + 1)`.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: there is no such data set.
    """

    captions = {
        "lines": "Lines of the test split as they were written.",
        "density": "What was expected at the points of a line of the test split, the densities of "
        "all of them added up; below it the probability that the stroke ends, where the dots are "
        "the ends that came.",
    }
    called = {
        "nats_per_point": "nats a point",
        "nats_per_sequence": "nats a line",
        "squared_distance": "squared distance of a point from what was expected",
        "floor": "nats a point that nobody can get below",
    }

    @property
    def input_spec(self):
        return {"points": ((None, 3), "float32")}

    @property
    def target_spec(self):
        return {"points": ((None, 3), "float32")}

    def rows(self, chosen, split="train"):
        """Lines by their numbers, `(batch,)`, padded to the longest of their groups."""
        points, _ = self.points(chosen, split)
        return self.lay(points), {"points": points}

    def lay(self, points):
        """The inputs that foretell points `(batch, time, 3)`, whose third is -1 behind the last."""
        before = np.pad(points[:, :-1], [(0, 0), (1, 0), (0, 0)])
        return {"points": np.where(points[..., 2:] < 0, np.float32(0), before)}

    def loss(self):
        return {"points": MixtureDensityLoss()}

    def metrics(self):
        return {"points": [NatsPerPoint(), NatsPerSequence(), SquaredDistance()]}

    def describe(self, inputs, targets, outputs):
        """`331 points in 28 strokes: -0.72 nats a point`."""
        lines = []
        for row, parameters in enumerate(outputs["points"]):
            if targets is None:
                last = mixture_components(parameters[-1])
                end = 1 / (1 + np.exp(-float(last["end"])))
                lines.append(f"{self._of(inputs, row)}the stroke ends with {end:.2f}")
                continue
            points = targets["points"][row]
            count = int((points[:, 2] >= 0).sum())
            nats = float(np.sum(mixture_density_loss(points, parameters))) / max(1, count)
            strokes = int((points[:, 2] > 0).sum())
            told = f"{count} points in {strokes} strokes: {nats:.2f} nats a point"
            lines.append(self._of(inputs, row) + told)
        return lines

    def _of(self, inputs, row):
        """What is written, in words; nothing where that is not given."""
        return f"{self.spelled(inputs['text'][row])!r}, " if "text" in inputs else ""

    def report(self, model):
        """`points`: the floor, the cost of a point of the test split as far down as it can go."""
        floor = self.floor("test")
        return {} if floor is None else {"points": {"floor": floor}}

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of the first row by name: `density`."""
        return {"density": self._density(targets["points"][0], outputs["points"][0])}

    def _density(self, points, parameters):
        from ..figures.pen import density

        there = points[:, 2] >= 0
        mixture = mixture_components(np.asarray(parameters)[there])
        mixture = {name: np.asarray(values) for name, values in mixture.items()}
        return density(points[there], mixture, self.offsets)

    def figures(self, model):
        """Matplotlib figures by name; those of `captions` that suit the model."""
        from ..figures.pen import lines

        some = self.lines("test")[:SHOWN]
        inputs, targets = self.rows(np.arange(len(some)), "test")
        written = [(line.text, strokes_of(line.points)) for line in some]
        answers = outputs_of(model, inputs)
        return {"lines": lines(written), **self.snapshot(inputs, targets, answers)}

    def inputs_without_data(self, rng, size):
        """Points of chance, which need no files."""
        points = rng.normal(size=(size, 20, 3)).astype("float32")
        points[..., 2] = points[..., 2] > 1
        return self.lay(points)
