"""A net that learns sums, lesson by lesson."""

import keras
from ponderzoo.zoo._registry import Entry, Paper, register

PAPER = Paper(
    "curriculum", "Learning and development in neural networks", "Jeffrey Elman", 1993, ""
)


def build(task, units):
    """`numbers` in, the logits `total` out."""
    numbers = keras.Input((task.count,), name="numbers")
    hidden = keras.layers.Dense(units, "relu", name="hidden")(numbers)
    total = keras.layers.Dense(task.classes, name="total")(hidden)
    return keras.Model({"numbers": numbers}, {"total": total})


register(
    Entry(
        name="curriculum_totals",
        paper=PAPER,
        task="totals",
        build=build,
        config={"units": 64},
        train={
            "learning_rate": 0.01,
            "curriculum": 0.2,
            "updates": 600,
            "steps_per_epoch": 60,
            "batch_size": 64,
            "evaluation_rows": 500,
        },
    )
)
