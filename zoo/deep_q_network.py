"""Playing Atari with Deep Reinforcement Learning (Mnih et al., 2013)."""

import keras
from keras import ops

from ..trainers._metrics import MeanOutput
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="DQN",
    title="Playing Atari with Deep Reinforcement Learning",
    authors="Volodymyr Mnih, Koray Kavukcuoglu, David Silver, Alex Graves, Ioannis Antonoglou, "
    "Daan Wierstra, Martin Riedmiller",
    year=2013,
    arxiv="1312.5602",
)
NETWORKS = {
    "2013": ((16, 8, 4), (32, 4, 2)),
    "2015": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    "small": ((16, 3, 1),),
}
"""Filters, their side and their stride, of the layers over frames."""


def build(task, network, units):
    """The network of section 4.1: what each action is worth, of the last frames, at once.

    Args:
        task: an `Acting` task.
        network: "2013", 16 filters and 32; "2015", of the paper in Nature; or "small", 16 filters
            of 3 by 3, for worlds of ten places a side.
        units: of the layer above them, 256 in the paper of 2013, 512 in that of 2015.

    Returns:
        `keras.Model`: `frames` in, `values` by action and the largest, `value`, out.

    Raises:
        ValueError: there is no such network, or frames are too small for it.
    """
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}; got {network!r}")
    shape, dtype = task.input_spec["frames"]
    frames = keras.Input(shape, dtype=dtype, name="frames")
    hidden = keras.layers.Rescaling(1 / 255, name="ink")(frames)
    for number, (filters, side, stride) in enumerate(NETWORKS[network]):
        if min(hidden.shape[1:3]) < side:
            raise ValueError(
                f"frames of {shape[0]} by {shape[1]} are too small for the network {network}"
            )
        layer = keras.layers.Conv2D(filters, side, stride, activation="relu", name=f"see_{number}")
        hidden = layer(hidden)
    hidden = keras.layers.Flatten(name="seen")(hidden)
    hidden = keras.layers.Dense(units, "relu", name="hidden")(hidden)
    values = keras.layers.Dense(len(task.actions), name="values", dtype="float32")(hidden)
    return keras.Model({"frames": frames}, {"values": values, "value": ops.max(values, axis=-1)})


def _measures(model):
    return {"value": [MeanOutput("value", "largest value, mean of states met at random")]}


TRAIN = {
    "learning": "q_learning",
    "optimizer": "rmsprop",
    "momentum": 0.0,
    "learning_rate": 5e-3,
    "learning_rate_schedule": "linear",
    "clipnorm": 0.0,
    "actors": 8,
    "evaluation_rows": 1000,
}

register(
    Entry(
        name="dqn_catch",
        paper=PAPER,
        task="catch",
        task_config={"size": 10},
        build=build,
        config={"network": "small", "units": 64},
        train={
            **TRAIN,
            "updates": 60_000,
            "steps_per_epoch": 1000,
            "replay_capacity": 20_000,
            "epsilon_frames": 10_000,
        },
        paper_result="not played in the paper",
        measures=_measures,
        small={"units": 8},
        small_task={"size": 5},
    )
)

register(
    Entry(
        name="dqn_breakout_small",
        paper=PAPER,
        task="breakout_small",
        build=build,
        config={"network": "small", "units": 128},
        train={
            **TRAIN,
            "learning_rate": 1e-3,
            "updates": 200_000,
            "steps_per_epoch": 2000,
            "steps_per_update": 2,
            "replay_start": 5000,
            "replay_capacity": 100_000,
            "epsilon_frames": 100_000,
        },
        paper_result="Breakout of Atari: 168, mean return",
        measures=_measures,
        small={"units": 8},
    )
)

register(
    Entry(
        name="dqn_pong",
        paper=PAPER,
        task="atari",
        build=build,
        config={"network": "2013", "units": 256},
        train={
            **TRAIN,
            "discount": 0.99,
            "learning_rate": 2.5e-4,
            "updates": 200_000,
            "steps_per_epoch": 5000,
            "steps_per_update": 4,
            "replay_start": 5000,
            "replay_capacity": 100_000,
            "epsilon_frames": 600_000,
            "validation_rows": 8,
            "evaluation_rows": 32,
        },
        paper_result="20, mean score",
        measures=_measures,
        small={"units": 8},
    )
)
