"""Multi-dimensional recurrent networks (Graves, Fernández and Schmidhuber, 2007)."""

import keras
from keras import ops

from ..layers import MDLSTM, Blocks, SequenceMask, SureOfBlank
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
    """A network that labels every pixel of a digit (section 4.2), or what it is compared with.

    Args:
        task: `DigitSegmentation`.
        machine: "mdlstm", as `build_labeller` makes it; or "convolutional", the classifier of
            Simard et al. (2003), whose one answer for the image is that of all pixels but for the
            background, which it tells by their ink.
        units, stable, clip_derivatives, initial_range: as there.

    Returns:
        `keras.Model`: `image` in; `label`, logits `(batch, height, width, classes)`, out.

    Raises:
        ValueError: there is no such machine, and settings below 0.
    """
    if machine not in MACHINES:
        raise ValueError(f"machine must be one of {', '.join(MACHINES)}; got {machine!r}")
    # Made whatever the machine is, so that no setting goes wrong unseen.
    labeller = build_labeller(task, units, stable, clip_derivatives, initial_range)
    if machine == "mdlstm":
        return labeller
    image = keras.Input(task.input_spec["image"][0], name="image")
    pixels = ops.expand_dims(image, -1)
    return keras.Model({"image": image}, {"label": _of_the_image(pixels, task.classes)})


def build_labeller(task, units, stable, clip_derivatives, initial_range, multidirectional=True):
    """A network that labels every pixel: a layer of cells from all corners, and a softmax.

    Args:
        task: a task whose images get a label for every pixel.
        units, stable, clip_derivatives, multidirectional: as of `MDLSTM`.
        initial_range: weights begin uniform between minus this and this.

    Returns:
        `keras.Model`: `image` in; `label`, logits `(batch, height, width, classes)`, out.

    Raises:
        ValueError: settings are below 0.
    """
    bound = not_negative("initial_range", initial_range)

    def uniform():
        return keras.initializers.RandomUniform(-bound, bound)

    cells = MDLSTM(
        units,
        multidirectional,
        stable=stable,
        clip_derivatives=clip_derivatives,
        kernel_initializer=uniform(),
        recurrent_initializer=uniform(),
        bias_initializer=uniform(),
        name="cells",
    )
    readout = keras.layers.Dense(
        task.classes, kernel_initializer=uniform(), name="label", dtype="float32"
    )
    shape, _ = task.input_spec["image"]
    image = keras.Input(shape, name="image")
    pixels = image if len(shape) == 3 else ops.expand_dims(image, -1)
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


def build_reader(task, blocks, units, features):
    """A network that reads lines (Graves and Schmidhuber, 2008).

    Its cells scan the image from all corners, level by level; between two levels blocks of points
    become one, with a layer of tanh units. What the last level puts out is summed over each column
    of points, which are the frames of CTC.

    Args:
        task: `LineRecognition`.
        blocks: points down and across that become one before each level, a pair for each.
        units: of the `MDLSTM` of each level.
        features: tanh units before each level but the first.

    Returns:
        `keras.Model`: `image` and `lengths` in; `text`, logits `(batch, frames, classes)`, out,
        sure of the blank, class 0, behind the end of a line.

    Raises:
        ValueError: levels differ in number.
    """
    if not len(blocks) == len(units) == len(features) + 1:
        raise ValueError(
            "blocks and units need an entry for each level, and features one less; got "
            f"{len(blocks)}, {len(units)} and {len(features)}"
        )
    (height, _), _ = task.input_spec["image"]
    image = keras.Input((height, None), name="image")
    lengths = keras.Input((), dtype="int32", name="lengths")
    there = SequenceMask()(ops.transpose(image, (0, 2, 1)), lengths)
    ink = image * ops.cast(there, image.dtype)[:, None]  # whatever is behind the end of a line
    hidden, columns = ops.expand_dims(ink, -1), lengths
    for level, ((down, across), size) in enumerate(zip(blocks, units)):
        hidden = Blocks(down, across, name=f"blocks_{level}")(hidden)
        columns = -(-columns // across)
        if level:
            tanh = keras.layers.Dense(features[level - 1], "tanh", name=f"features_{level}")
            hidden = tanh(hidden)
        mask = SequenceMask()(ops.transpose(hidden, (0, 2, 1, 3)), columns)
        mask = ops.repeat(ops.expand_dims(mask, 1), hidden.shape[1], axis=1)
        hidden = MDLSTM(size, name=f"cells_{level}")(hidden, mask=mask)
    readout = keras.layers.Dense(task.classes, name="readout", dtype="float32")
    logits = readout(ops.sum(hidden, axis=1))
    return keras.Model(
        {"image": image, "lengths": lengths}, {"text": SureOfBlank()(logits, columns)}
    )


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
            "optimizer": "muon",
            "learning_rate": 1e-2,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 4_000,
            "steps_per_epoch": 500,
            "validation_rows": 1000,
            "jit_compile": False,
        },
        baseline="convolutional network",
        plain={"machine": "convolutional"},
        paper_result="0.4 % of the pixels wrong, 3.8 % in warped images; 0.9 % of the images, "
        "7.1 % of warped ones; 0.9 % and 11.3 % of a convolutional network (from memory)",
        small={"units": 3},
    )
)

register(
    Entry(
        name="mdrnn_textures",
        paper=PAPER,
        task="texture_segmentation",
        build=build_labeller,
        config={
            "units": 25,
            "stable": False,
            "clip_derivatives": 0.0,
            "initial_range": 0.3,
            "multidirectional": True,
        },
        train={
            "batch_size": 8,
            "learning_rate": 1e-2,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 10_000,
            "steps_per_epoch": 500,
            "validation_rows": 20,
            "evaluation_rows": 150,
            "jit_compile": False,
        },
        baseline="the same from one corner alone",
        plain={"multidirectional": False},
        paper_result="7.1 % of the pixels wrong on Air Freight (from memory)",
        small={"units": 2},
    )
)

register(
    Entry(
        name="mdrnn_lines",
        paper=PAPER,
        task="line_recognition",
        build=build_reader,
        config={
            "blocks": [[2, 2], [4, 1], [4, 1]],
            "units": [2, 10, 50],
            "features": [6, 20],
        },
        train={
            "batch_size": 16,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 8000,
            "steps_per_epoch": 250,
            "validation_rows": 200,
            "evaluation_rows": 600,
            "jit_compile": False,
        },
        paper_result="no number; the paper labels pixels",
        small={"units": [1, 2, 3], "features": [2, 2]},
    )
)
