"""A mixture density, fitted to points."""

import keras
from ponderzoo.trainers._metrics import MeanOutput
from ponderzoo.zoo._registry import Entry, Paper, register

from ..layers.mixture import Mixture

PAPER = Paper("mixture", "Mixture density networks", "Christopher Bishop", 1994, "")


def build(task, components):
    """`points` and `seed` in; `nats`, of them `choice`, and `sample` out."""
    points = keras.Input((2,), name="points")
    seed = keras.Input((), dtype="int32", name="seed")
    nats, choice, sample = Mixture(components, name="mixture")(points, seed)
    outputs = {"nats": nats, "choice": choice, "sample": sample}
    return keras.Model({"points": points, "seed": seed}, outputs)


register(
    Entry(
        name="mixture_points",
        paper=PAPER,
        task="points",
        build=build,
        config={"components": 12},
        train={
            "learning_rate": 0.02,
            "updates": 500,
            "steps_per_epoch": 100,
            "batch_size": 64,
            "evaluation_rows": 500,
        },
        measures=lambda model: {"choice": [MeanOutput("choice")]},
    )
)
