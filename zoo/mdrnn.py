"""Multi-dimensional recurrent networks (Graves, Fernández and Schmidhuber, 2007)."""

import keras
from keras import ops

from ..layers import MDLSTM
from ..layers._base import not_negative
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="MDLSTM",
    title="Multi-Dimensional Recurrent Neural Networks",
    authors="Alex Graves, Santiago Fernández, Jürgen Schmidhuber",
    year=2007,
    arxiv="0705.2011",
)
MACHINES = "mdlstm", "convolutional"


def build(task, machine, units, stable, clip_derivatives, initial_range):
    """A network that labels every pixel (section 4), or what it is compared with.

    Args:
        task: a task whose images get a label for every pixel.
        machine: "mdlstm", cells from all four corners; or "convolutional", the classifier of Simard
            et al. (2003), whose one answer for the image is that of all pixels but for the
            background, which it tells by their ink.
        units, stable, clip_derivatives: as of `MDLSTM`.
        initial_range: weights begin uniform between minus this and this.

    Returns:
        `keras.Model`: `image` in; `label`, logits `(batch, height, width, classes)`, out.

    Raises:
        ValueError: there is no such machine, and settings below 0.
    """
    if machine not in MACHINES:
        raise ValueError(f"machine must be one of {', '.join(MACHINES)}; got {machine!r}")
    bound = not_negative("initial_range", initial_range)

    def uniform():
        return keras.initializers.RandomUniform(-bound, bound)

    # Made whatever the machine is, so that no setting goes wrong unseen.
    cells = MDLSTM(
        units,
        stable=stable,
        clip_derivatives=clip_derivatives,
        kernel_initializer=uniform(),
        recurrent_initializer=uniform(),
        bias_initializer=uniform(),
        name="cells",
    )
    shape, _ = task.input_spec["image"]
    image = keras.Input(shape, name="image")
    pixels = image if len(shape) == 3 else ops.expand_dims(image, -1)
    if machine == "convolutional":
        return keras.Model({"image": image}, {"label": _of_the_image(pixels, task.classes)})
    readout = keras.layers.Dense(
        task.classes, kernel_initializer=uniform(), name="label", dtype="float32"
    )
    return keras.Model({"image": image}, {"label": readout(cells(pixels))})


def _of_the_image(pixels, classes):
    """Logits of every pixel: those of the whole image, and the background's by the pixel's ink."""
    layers = keras.layers
    hidden = layers.Conv2D(5, 5, 2, activation="relu", name="first")(pixels)
    hidden = layers.Conv2D(50, 5, 2, activation="relu", name="second")(hidden)
    hidden = layers.Dense(100, "relu", name="hidden")(layers.Flatten(name="features")(hidden))
    answer = layers.Dense(classes - 1, name="answer")(hidden)[:, None, None]
    ink = layers.Dense(8, "relu", name="ink")(pixels)
    background = layers.Dense(1, name="background", dtype="float32")(ink)
    return ops.concatenate([answer + ops.zeros_like(background), background], axis=-1)


register(
    Entry(
        name="mdrnn_digits",
        paper=PAPER,
        task="digit_segmentation",
        build=build,
        config={
            "machine": "mdlstm",
            "units": 25,
            "stable": False,
            "clip_derivatives": 0.0,
            "initial_range": 0.1,
        },
        train={
            "batch_size": 32,
            "learning_rate": 5e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 16_000,
            "steps_per_epoch": 500,
            "validation_rows": 1000,
            "jit_compile": False,
        },
        baseline="convolutional network",
        plain={"machine": "convolutional"},
        paper_result="0.9 % of the images wrong, 7.1 % of warped ones; 0.9 % and 11.3 % of a "
        "convolutional network",
        small={"units": 3},
    )
)
