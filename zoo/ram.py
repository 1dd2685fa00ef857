"""Recurrent Models of Visual Attention (Mnih et al., 2014)."""

import keras
from keras import ops

from ..layers import RAM, Reinforce
from ..layers._base import whole
from ..trainers._metrics import MeanOutput
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="RAM",
    title="Recurrent Models of Visual Attention",
    authors="Volodymyr Mnih, Nicolas Heess, Alex Graves, Koray Kavukcuoglu",
    year=2014,
    arxiv="1406.6247",
)
MACHINES = "ram", "dense", "convolutional"
CLASSES = 10


def build(
    task,
    machine,
    glimpses,
    patch,
    scales,
    units,
    glimpse_units,
    core,
    policy,
    deviation,
    policy_weight,
):
    """The classifier of section 4.1, or what it is compared with there.

    Args:
        task: `ClutteredDigits`.
        machine: "ram"; or "dense", two hidden layers of rectified units, or "convolutional", 16
            filters of 10 by 10 pixels with a stride of 5 and a hidden layer, both of which see the
            whole image.
        glimpses, patch, scales, glimpse_units, core, policy: as of `RAM`.
        units: of the glimpse vector and the core, or of each hidden layer.
        deviation, policy_weight: as of `Reinforce`.

    Returns:
        `keras.Model`: `image` and, for RAM, `seed` in; the logits `digit` out. Without training
        RAM looks at the means of places, after a first one of chance; `drawn_digit` are logits by
        places that are drawn, and `probability_steps`, `places`, `read_windows`, `glimpses` and,
        of a learned policy, `baselines` say how it came to the former.

    Raises:
        ValueError: there is no such machine, core or policy.
    """
    if machine not in MACHINES:
        raise ValueError(f"machine must be one of {', '.join(MACHINES)}; got {machine!r}")
    # Looked at whatever the machine is, so that no setting goes wrong unseen.
    ram = RAM(glimpses, patch, scales, units, glimpse_units, core, policy, deviation, name="ram")
    reinforce = Reinforce(deviation, policy_weight, name="reinforce")
    image = keras.Input(task.input_spec["image"][0], name="image")
    digit = keras.layers.Dense(CLASSES, name="digit", dtype="float32")
    if machine != "ram":
        hidden = _whole_image(machine, image, whole("units", units, 1))
        return keras.Model({"image": image}, {"digit": digit(hidden)})
    seed = keras.Input((), dtype="int32", name="seed")
    found = ram(image, seed)
    steps = digit(found["outputs"])
    logits = steps[:, -1]
    told = {}
    if "means" in found:
        logits = reinforce(logits, found["means"], found["samples"], found["baselines"])
        told["baselines"] = found["baselines"]
    return keras.Model(
        {"image": image, "seed": seed},
        {
            "digit": logits,
            "drawn_digit": digit(ram(image, seed, drawn=True)["outputs"][:, -1]),
            "probability_steps": ops.softmax(steps),
            "places": found["places"],
            "read_windows": _windows(found["places"], ram),
            "glimpses": found["glimpses"],
            **told,
        },
    )


def _whole_image(machine, image, units):
    """The last hidden layer of a network without attention."""
    layers = keras.layers
    if machine == "dense":
        hidden = layers.Dense(units, "relu", name="first")(layers.Flatten(name="pixels")(image))
    else:
        hidden = layers.Reshape((*image.shape[1:], 1), name="plane")(image)
        hidden = layers.Conv2D(16, 10, 5, activation="relu", name="filters")(hidden)
        hidden = layers.Flatten(name="features")(hidden)
    return layers.Dense(units, "relu", name="hidden")(hidden)


def _windows(places, ram):
    """Windows as tasks have them (`Digits`), one for each square of the retina."""
    height, width = ram.image_shape[:2]
    middle = (places + 1) / 2 * ops.array([width - 1, height - 1], places.dtype) + 0.5
    # Two alike for x and y: Keras takes what has one for a bias, where there are two squares.
    cell = ops.array([[2.0**scale] * 2 for scale in range(ram.scales)], places.dtype)
    half = (ram.patch - 1) / 2 * cell
    corners = [middle[:, :, None] - half, middle[:, :, None] + half]
    # A cell is a filter that weighs all places within it alike.
    filters = cell * ops.array([12**-0.5, 0], places.dtype) + ops.array([0, 1], places.dtype)
    return ops.concatenate([*corners, filters + ops.zeros_like(corners[0])], axis=-1)


def _measures(model):
    if "baselines" not in model.output:
        return {}
    return {"baselines": [MeanOutput("expected_reward", "reward that baselines expect")]}


CONFIG = {
    "machine": "ram",
    "glimpses": 6,
    "patch": 12,
    "scales": 3,
    "units": 256,
    "glimpse_units": 128,
    "core": "relu",
    "policy": "learned",
    "deviation": 0.1,
    "policy_weight": 0.01,
}
TRAIN = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "linear",
    "clipnorm": 10.0,
    "updates": 80_000,
    "steps_per_epoch": 500,
}
TOLD = {
    "probability_steps": "of each digit after each glimpse, (batch, glimpses, 10)",
    "places": "where it looked, x and y from -1, the middle of the first pixels, to 1, that of the "
    "last, (batch, glimpses, 2)",
    "glimpses": "what it saw, the narrowest square first, (batch, glimpses, scales, height, width)",
    "baselines": "the chance to be right that was expected before each place but the first was "
    "chosen, (batch, glimpses - 1)",
}
COMMON = {
    "paper": PAPER,
    "task": "cluttered_digits",
    "build": build,
    "train": TRAIN,
    "baseline": "random places",
    "measures": _measures,
    "plain": {"policy": "random"},
    "told": TOLD,
    "small": {"glimpses": 3, "patch": 3, "scales": 2, "units": 8, "glimpse_units": 4},
    "small_task": {"size": 28, "pieces": 1},
}

register(
    Entry(
        **COMMON,
        name="ram_digits",
        task_config={"size": 28, "pieces": 0},
        config={**CONFIG, "patch": 8, "scales": 1},
        paper_result="1.12 % wrong with 6 glimpses; 1.21 % of a convolutional network",
    )
)

register(
    Entry(
        **COMMON,
        name="ram_translated",
        task_config={"size": 60, "pieces": 0},
        config=CONFIG,
        paper_result="1.22 % wrong with 6 glimpses; 1.62 % of a convolutional network",
    )
)

register(
    Entry(
        **COMMON,
        name="ram_cluttered",
        task_config={"size": 60, "pieces": 4},
        config=CONFIG,
        paper_result="4.08 % wrong with 6 glimpses; 8.09 % of a convolutional network",
    )
)
