"""An agent that learns to catch."""

import keras
from ponderzoo.zoo._registry import Entry, Paper, register

PAPER = Paper("REINFORCE", "Simple statistical gradient-following", "Ronald Williams", 1992, "")


def build(task, units):
    """Two layers over the field; `field` in, `policy` out."""
    field = keras.Input((task.size, task.size), name="field")
    hidden = keras.layers.Dense(units, "relu", name="hidden")(keras.layers.Flatten()(field))
    return keras.Model({"field": field}, {"policy": keras.layers.Dense(3, name="policy")(hidden)})


register(
    Entry(
        name="reinforce_catch",
        paper=PAPER,
        task="falling_ball",
        build=build,
        config={"units": 32},
        train={
            "learning": "reinforce",
            "learning_rate": 0.02,
            "updates": 150,
            "steps_per_epoch": 30,
            "batch_size": 32,
            "evaluation_rows": 500,
            "jit_compile": False,
        },
    )
)
