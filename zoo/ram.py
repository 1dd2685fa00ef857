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


def build_acting(task, patch, scales, units, glimpse_units, policy, deviation):
    """An agent that sees of a frame what it looks at (section 4.2).

    A game begins with a glimpse at the middle.

    Args:
        task: an `Acting` task of frames with one plane.
        patch, scales, glimpse_units, policy, deviation: as of `RAM`.
        units: of the glimpse vector and of the core, an LSTM.

    Returns:
        `keras.Model`, a step: `frames`, `seed` and the state, `h`, `c` and where a learned policy
        looks, `place`, in; `policy`, `value`, the state, `looked`, where it looked, and of a
        learned policy `log_chance` out.
    """
    shape, dtype = task.input_spec["frames"]
    frames = keras.Input(shape, dtype=dtype, name="frames")
    seed = keras.Input((), dtype="int32", name="seed")
    learned, ink = policy == "learned", keras.layers.Rescaling(1 / 255, name="ink")
    sizes = patch, scales, units, glimpse_units
    ram = RAM(1, *sizes, "lstm", policy, deviation, return_state=True, name="ram")
    state = {"h": (units,), "c": (units,), **({"place": (2,)} if learned else {})}
    state = {name: keras.Input(size, name=name) for name, size in state.items()}
    found = ram(
        ink(frames)[..., 0],
        seed,
        drawn=True,
        place=state.get("place"),
        initial_state=[state["h"], state["c"]],
    )
    hidden, after = found["outputs"][:, 0], {name: found[name] for name in ("h", "c")}
    told = {"looked": found["places"][:, 0]}
    if learned:
        sample, mean = ops.stop_gradient(found["next_sample"]), found["next_mean"]
        told["log_chance"] = -ops.sum(ops.square((sample - mean) / deviation), axis=-1) / 2
        after["place"], value = ops.clip(sample, -1, 1), found["next_baseline"]
    else:
        value = keras.layers.Dense(1, name="value")(ops.stop_gradient(hidden))[:, 0]
    logits = keras.layers.Dense(len(task.actions), name="policy", dtype="float32")(hidden)
    return keras.Model(
        {"frames": frames, "seed": seed, **state},
        {"policy": logits, "value": value, **told, **after},
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

register(
    Entry(
        name="ram_catch",
        paper=PAPER,
        task="catch",
        task_config={"frames": 1},
        build=build_acting,
        config={name: CONFIG[name] for name in ("scales", "units", "glimpse_units", "policy")}
        | {"patch": 6, "deviation": 0.1},
        train={
            "learning": "actor_critic",
            "learning_rate": 1e-3,
            "learning_rate_schedule": "linear",
            "batch_size": 64,
            "unroll": 23,
            "discount": 1.0,
            "most_advantage": 0.0,
            "updates": 20_000,
            "steps_per_epoch": 500,
            "clipnorm": 1.0,
            "evaluation_rows": 1000,
        },
        baseline="random places",
        plain={"policy": "random"},
        told={"looked": "where it looked, x and y from -1 to 1, (batch, 2)"},
        paper_result="about 85 % of the balls caught",
        small={"patch": 2, "units": 8, "glimpse_units": 4},
        small_task={"size": 8},
    )
)
