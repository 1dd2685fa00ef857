"""Points at the corners of a square: data without targets."""

import dataclasses

import numpy as np
from ponderzoo.trainers import Task
from ponderzoo.trainers._evaluate import outputs_of
from ponderzoo.trainers.figures._panels import COLOURS, subplots


@dataclasses.dataclass(frozen=True)
class Points(Task):
    """Points in the plane, 1 to either side of both axes, with noise.

    Inputs: `points`, `(batch, 2)` float32. There are no targets: models give their `nats`, and
    `sample`, `(batch, 2)`.
    """

    noise: float = 0.2
    captions = {"samples": "Points of the task, and samples of the model."}

    @property
    def input_spec(self):
        return {"points": ((2,), "float32")}

    def batch(self, rng, size, difficulty=None, split="train"):
        points = rng.choice([-1.0, 1.0], (size, 2)) + self.noise * rng.normal(size=(size, 2))
        return {"points": points.astype("float32")}, {}

    def describe(self, inputs, targets, outputs):
        return [
            f"{x:.2f} {y:.2f} costs {nats:.2f} nats"
            for (x, y), nats in zip(inputs["points"], outputs["nats"])
        ]

    def figures(self, model):
        inputs, _ = self.batch(np.random.default_rng(0), 400)
        found = outputs_of(model, inputs)["sample"]
        figure, (panel,) = subplots(size=(4, 4))
        panel.plot(*inputs["points"].T, ".", color=COLOURS[0], label="task")
        panel.plot(*found.T, ".", color=COLOURS[1], label="model")
        panel.legend()
        return {"samples": figure}
