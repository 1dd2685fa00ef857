"""DRAW: A Recurrent Neural Network for Image Generation (Gregor et al., 2015)."""

import keras
import numpy as np
from keras import ops

from ..layers import DRAW, GlimpseLSTM
from ..layers._distributions import bernoulli, gaussian_kl, gaussian_log_ratio
from ._registry import Entry, Paper, register
from .signatures import binary_digits
from .signatures._checks import check_ink, check_range
from .signatures._signature import Signature

PAPER = Paper(
    mechanism="DRAW",
    title="DRAW: A Recurrent Neural Network for Image Generation",
    authors="Karol Gregor, Ivo Danihelka, Alex Graves, Danilo Jimenez Rezende, Daan Wierstra",
    year=2015,
    arxiv="1502.04623",
)


def build(task, steps, units, latent_size, read_patch, write_patch):
    """The generative model of section 2, with a bound by one sample (eqs. 9 to 12).

    Args:
        task: `BinaryDigits`.
        steps: T, 64 in the paper.
        units: of each LSTM, 256 in the paper.
        latent_size: latents of a step, 100 in the paper.
        read_patch, write_patch: filters along a side, 2 and 5 in the paper; 0 for no attention.

    Returns:
        `keras.Model`: `image` and `seed` in; the outputs that the task asks for, `kl` by step, out.
    """
    draw = DRAW(steps, units, latent_size, read_patch or None, write_patch or None, name="draw")
    return around(draw, task)


def around(draw, task):
    """The model of a layer, as `build` gives it."""
    image = keras.Input(task.input_spec["image"][0], name="image")
    seed = keras.Input((), dtype="int32", name="seed")
    found, fresh = draw(image, seed), draw(None, seed)
    canvas = found["canvases"][:, -1]
    reconstruction = -ops.sum(bernoulli(canvas, image), axis=(1, 2))
    mean, log_deviation, latents = (found[x] for x in ("mean", "log_deviation", "latents"))
    kl = ops.sum(gaussian_kl(mean, log_deviation), axis=-1)
    noise = (latents - mean) * ops.exp(-log_deviation)
    log_ratio = gaussian_log_ratio(latents, noise, log_deviation)
    windows = {}
    if draw.attention:
        windows = {
            "read_windows": _rectangles(found["read_windows"], draw.read_patch),
            "write_windows": _rectangles(found["write_windows"], draw.write_patch),
            "sample_windows": _rectangles(fresh["write_windows"], draw.write_patch),
        }
    return keras.Model(
        {"image": image, "seed": seed},
        {
            "nats": reconstruction + ops.sum(kl, axis=-1),
            "reconstruction": reconstruction,
            "kl": kl,
            "log_weight": ops.sum(log_ratio, axis=(1, 2)) - reconstruction,
            "mean": ops.sigmoid(canvas),
            "steps": ops.sigmoid(found["canvases"]),
            "sample": ops.sigmoid(fresh["canvases"][:, -1]),
            "sample_steps": ops.sigmoid(fresh["canvases"]),
            **windows,
        },
    )


def _rectangles(windows, patch):
    """Windows as tasks have them (`Digits`), of grids of so many filters along a side."""
    x, y, stride, *rest = ops.split(windows, windows.shape[-1], axis=-1)
    half = stride * (patch - 1) / 2
    # A pixel's middle is its number, counted from 1; it begins half a pixel before.
    sides = [x - half, y - half, x + half, y + half]
    return ops.concatenate([*(side - 0.5 for side in sides), *rest], axis=-1)


def signatures(model, task):
    """What the task serves, and `interpolate`: images between two, by means of their latents."""
    import tensorflow as tf

    draw = model.get_layer("draw")
    # Files of weights may be older than some of the outputs.
    served = binary_digits.signatures(around(draw, task), task, {})

    def interpolate(image, other, shares):
        check_ink(image)
        check_ink(other)
        check_range("shares", shares, 0, 1)
        middle = tf.zeros((tf.shape(image)[0], draw.steps, draw.latent_size))
        first, last = (draw.reconstruct(x, middle)["latents"][:, None] for x in (image, other))
        latents = first + shares[:, :, None, None] * (last - first)
        made = draw.generate(tf.reshape(latents, (-1, draw.steps, draw.latent_size)))
        found = tf.sigmoid(made["canvases"][:, -1])
        return {"between": tf.reshape(found, (*tf.unstack(tf.shape(shares)), *found.shape[1:]))}

    pixels, _ = served["serve"].inputs["image"]
    images = served["serve"].sample["image"]
    shares = np.linspace([0, 1], [1, 0], 6, axis=1, dtype="float32")
    served["interpolate"] = Signature(
        interpolate,
        {
            "image": (pixels, "float32"),
            "other": (pixels, "float32"),
            "shares": ((None, None), "float32"),
        },
        {"image": images, "other": images[::-1].copy(), "shares": shares},
        {
            "between": "the chance of each pixel to be 1, so far on the way from the image to the "
            "other as shares say, 0 to 1, (batch, shares, height, width)"
        },
        images=("image", "other", "between"),
    )
    return served


def build_reader(task, glimpses, units, patch):
    """DRAW that reads only, and says what it saw after the last glimpse (section 4.1).

    Args:
        task: `ClutteredDigits`.
        glimpses: how often it looks, 8 in the paper.
        units: of the LSTM, 256 in the paper.
        patch: filters along a side, 12 in the paper.

    Returns:
        `keras.Model`: `image` in; the logits `digit`, and `read_windows`, where it looked, out.
    """
    image = keras.Input(task.input_spec["image"][0], name="image")
    found = GlimpseLSTM(units, glimpses, patch, name="glimpses")(image)
    digit = keras.layers.Dense(10, name="digit")(found["outputs"][:, -1])
    windows = _rectangles(found["windows"], patch)
    return keras.Model({"image": image}, {"digit": digit, "read_windows": windows})


CONFIG = {"steps": 10, "units": 256, "latent_size": 32, "read_patch": 5, "write_patch": 5}
SMALL = {"steps": 2, "units": 8, "latent_size": 3}
TRAIN = {
    "batch_size": 100,
    "learning_rate": 1e-3,
    "learning_rate_schedule": "cosine",
    "clipnorm": 10.0,
    "updates": 15_000,
    "steps_per_epoch": 500,
}
SMALL_TASK = {"samples": 5, "images": 4}

register(
    Entry(
        name="draw_digits",
        paper=PAPER,
        task="binary_digits",
        build=build,
        config=CONFIG,
        train=TRAIN,
        paper_result="on binarized MNIST at most 80.97 nats, with 64 steps",
        own_signatures=signatures,
        own_notation=binary_digits.notation,
        small={**SMALL, "read_patch": 2, "write_patch": 2},
        small_task=SMALL_TASK,
    )
)

register(
    Entry(
        name="draw_digits_whole",
        paper=PAPER,
        task="binary_digits",
        build=build,
        config={**CONFIG, "units": 112, "read_patch": 0, "write_patch": 0},
        train={**TRAIN, "updates": 36_000},
        paper_result="on binarized MNIST at most 87.40 nats without attention (from memory)",
        own_signatures=signatures,
        own_notation=binary_digits.notation,
        small=SMALL,
        small_task=SMALL_TASK,
    )
)

register(
    Entry(
        name="draw_cluttered",
        paper=PAPER,
        task="cluttered_digits",
        build=build_reader,
        config={"glimpses": 6, "units": 192, "patch": 12},
        train={**TRAIN, "updates": 20_000},
        paper_result="on 100 by 100 pixels with 8 pieces 3.36 % wrong (from memory)",
        small={"glimpses": 2, "units": 8, "patch": 3},
        small_task={"size": 28, "pieces": 1},
    )
)
