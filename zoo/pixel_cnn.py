"""Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from ..layers import GatedPixelCNN
from ..layers._base import whole
from ..layers._distributions import bernoulli
from ._networks import image_decoder, image_encoder
from ._registry import Entry, Paper, register
from .signatures import digit_reconstruction, labelled_digits
from .signatures._checks import check_ink, check_range, check_temperature
from .signatures._drawing import image_of, text_of
from .signatures._notation import Notation, expected, whole_numbers
from .signatures._signature import Signature

PAPER = Paper(
    mechanism="Gated PixelCNN",
    title="Conditional Image Generation with PixelCNN Decoders",
    authors="Aaron van den Oord, Nal Kalchbrenner, Oriol Vinyals, Lasse Espeholt, Alex Graves, "
    "Koray Kavukcuoglu",
    year=2016,
    arxiv="1606.05328",
)
CHANCE = {"seed": ((None,), "int32"), "temperature": ((None,), "float32")}
"""The inputs that images are made by."""


def build(task, filters, layers, head, kernel_size=3):
    """The odds of each pixel given those before it (section 2).

    Args:
        task: `BinaryDigits`.
        filters: p, features of each stack.
        layers: how many there are.
        head: units between the last stack and the odds.
        kernel_size: of all layers but the first.

    Returns:
        `keras.Model`: `image` and `seed` in; the outputs that the task asks for out.
    """
    image = keras.Input(task.input_spec["image"][0], name="image")
    seed = keras.Input((), dtype="int32", name="seed")
    pixels = GatedPixelCNN(filters, layers, kernel_size, head=head, name="pixels")
    ink = pixels(image)
    costs = _costs(ink, image)
    nats = ops.sum(costs, axis=(1, 2))
    kl, half = ops.zeros_like(nats), ops.full_like(seed, math.prod(image.shape[1:]) // 2)
    return keras.Model(
        {"image": image, "seed": seed},
        {
            "nats": nats + kl,
            "reconstruction": nats,
            "kl": kl,
            "bits": costs / math.log(2),
            "mean": ops.sigmoid(ink),
            "sample": ops.cast(pixels(None, seed=seed), "float32"),
            "completed": ops.cast(pixels(image, seed=seed, known=half), "float32"),
        },
    )


def build_by_class(task, filters, layers, head, kernel_size=3):
    """The same given what the image shows: a vector of 0 and a single 1 (section 2.3).

    Args:
        task: `LabelledDigits`.
        filters, layers, head, kernel_size: as in `build`.

    Returns:
        `keras.Model`: `image`, `digit` and `seed` in; the outputs that the task asks for out.
    """
    image = keras.Input(task.input_spec["image"][0], name="image")
    digit = keras.Input((), dtype="int32", name="digit")
    seed = keras.Input((), dtype="int32", name="seed")
    pixels = GatedPixelCNN(filters, layers, kernel_size, head=head, name="pixels")
    one = ops.one_hot(digit, task.classes)
    ink = pixels(image, one)
    return keras.Model(
        {"image": image, "digit": digit, "seed": seed},
        {
            "nats": ops.sum(_costs(ink, image), axis=(1, 2)),
            "mean": ops.sigmoid(ink),
            "sample": ops.cast(pixels(None, one, seed=seed), "float32"),
        },
    )


def build_colour(task, filters, layers, head, joint_colours):
    """The same in colour: red, then green, then blue, each by the odds of all of its levels.

    Args:
        task: `ColourPatches`.
        filters, layers, head: as in `build`, multiples of 3.
        joint_colours: whether a pixel's colours see those of them that come before.

    Returns:
        `keras.Model`: `image` and `seed` in; the outputs that the task asks for out.
    """
    shape, dtype = task.input_spec["image"]
    image = keras.Input(shape, dtype=dtype, name="image")
    seed = keras.Input((), dtype="int32", name="seed")
    pixels = GatedPixelCNN(
        filters,
        layers,
        head=head,
        levels=task.levels,
        joint_colours=joint_colours,
        name="pixels",
    )
    nats = _costs(pixels(image), image)
    return keras.Model(
        {"image": image, "seed": seed},
        {"nats": ops.sum(nats, axis=(1, 2, 3)), "sample": pixels(None, seed=seed)},
    )


def build_autoencoder(task, filters, layers, head, code_size, units, maps, kernel_size=3):
    """A PixelCNN that makes an image of what an encoder says of it (section 2.4).

    Both learn at once, by what the image costs given its code.

    Args:
        task: `DigitReconstruction`.
        filters, head, kernel_size: as in `build`.
        layers: as in `build`; 0 for a decoder of convolutions, to which pixels are independent
            given the code, so that it makes what a squared error would make: a mean.
        code_size: m, numbers of a code.
        units: features of the encoder's first convolution; its second one has twice as many.
        maps: features of maps of the image's size that convolutions make of the code for the
            PixelCNN to see (eq. 5); 0 for the code itself, the same at all places (eq. 4).

    Returns:
        `keras.Model`: `image` and, with a PixelCNN, `seed` in; the outputs that the task asks for
        out.
    """
    layers, code_size = whole("layers", layers, 0), whole("code_size", code_size, 1)
    units, maps = whole("units", units, 1), whole("maps", maps, 0)
    image = keras.Input(task.input_spec["image"][0], name="image")
    code = image_encoder(image.shape[1:], code_size, units)(image)
    if not layers:
        ink = image_decoder(image.shape[1:], code_size, units, 1)(code)[..., 0]
        nats = ops.sum(_costs(ink, image), axis=(1, 2))
        outputs = {"nats": nats, "code": code, "sample": ops.sigmoid(ink)}
        return keras.Model({"image": image}, outputs)
    seed = keras.Input((), dtype="int32", name="seed")
    pixels = GatedPixelCNN(filters, layers, kernel_size, head=head, name="pixels")
    seen = {"condition": code}
    if maps:
        seen = {"maps": image_decoder(image.shape[1:], code_size, units, maps)(code)}
    nats = ops.sum(_costs(pixels(image, **seen), image), axis=(1, 2))
    made = ops.cast(pixels(None, seed=seed, **seen), "float32")
    outputs = {"nats": nats, "code": code, "sample": made}
    return keras.Model({"image": image, "seed": seed}, outputs)


def _costs(logits, image):
    """Minus the log-probability of each of an image's levels given those before, in nats."""
    if len(logits.shape) == len(image.shape):
        return -bernoulli(logits, ops.cast(image, logits.dtype))
    return ops.sparse_categorical_crossentropy(image, logits, from_logits=True)


class _Served:
    """What a `GatedPixelCNN` serves, as functions of a graph.

    `given` are the inputs that a signature has beside those that are named, and `seen(**given)` is
    what the PixelCNN sees besides the image: its condition and its maps, by their names.
    """

    def __init__(self, pixels, seen=dict):
        self.pixels, self.seen = pixels, seen
        self.shape = (None, *pixels.image_shape)
        self.kind = "float32" if pixels.levels == 2 else "int32"
        self.unit = "bits_per_pixel" if len(self.shape) == 3 else "bits_per_dimension"

    def check(self, image):
        if self.kind == "float32":
            check_ink(image)
        else:
            check_range("image", image, 0, self.pixels.levels - 1)

    def score(self, image, **given):
        """What images cost, by image and by pixel."""
        import tensorflow as tf

        self.check(image)
        nats = _costs(self.pixels(image, **self.seen(**given)), image)
        bits, axes = nats / math.log(2), range(1, len(self.shape))
        means = tf.reduce_mean(bits, axis=axes)
        return {"nats": tf.reduce_sum(nats, axis=axes), self.unit: means, "bits": bits}

    def serve(self, image, **given):
        """What images cost."""
        found = self.score(image, **given)
        return {name: found[name] for name in ("nats", self.unit)}

    def generate(self, seed, temperature, **given):
        """New images."""
        import tensorflow as tf

        nothing = tf.zeros((tf.shape(seed)[0], *self.shape[1:]), self.kind)
        return self.complete(nothing, tf.zeros_like(seed), seed, temperature, **given)

    def complete(self, image, rows, seed, temperature, **given):
        """Images whose first rows are kept."""
        import tensorflow as tf

        self.check(image)
        height, width = self.shape[1:3]
        check_range("rows", rows, 0, height)
        check_temperature(temperature)
        asked = {"image": image, "known": width * rows, "temperature": temperature}
        image, odds = self.pixels.generate(seed, **asked, **self.seen(**given))
        by_row = -tf.reduce_sum(odds, axis=range(2, len(self.shape)))
        nats = tf.where(tf.range(height) >= rows[:, None], by_row, 0)
        return {"image": tf.cast(image, self.kind), "nats": tf.reduce_sum(nats, axis=1)}


SCORED = {
    "nats": "minus the image's log-probability, (batch,)",
    "bits_per_pixel": "the same in bits by pixel, (batch,)",
    "bits_per_dimension": "the same in bits by pixel and colour, (batch,)",
    "bits": "what each pixel costs given those before it, in bits, of the image's shape",
}
MADE = {
    "image": "pixels, of the shape and the levels that images have",
    "nats": "minus the log-probability of the pixels that were made, (batch,)",
}


def signatures(model, task):
    """`serve` and `score`: what images cost; `generate` and `complete`: images that are made."""
    served = _Served(model.get_layer("pixels"))
    return _signatures(served, task.inputs_without_data(np.random.default_rng(0), 2)["image"])


def _signatures(served, images, given=(), sample=()):
    """Those of all that a PixelCNN serves; `given` and `sample` are of further inputs."""
    given, sample = dict(given), dict(sample)
    seen = {"image": (served.shape, served.kind), **given}
    rows, half = {"rows": ((None,), "int32")}, served.shape[1] // 2
    chance = {"seed": np.array([1, 2], "int32"), "temperature": np.array([1, 0.7], "float32")}
    some = {"image": images, **sample}
    part = {**some, "rows": np.array([half, half - 1], "int32"), **chance}
    coloured = len(served.shape) == 4
    shown = {"images": ("image",), "levels": served.pixels.levels if coloured else 0}
    maps = shown if coloured else {"images": ("image", "bits")}
    cost = {name: SCORED[name] for name in ("nats", served.unit)}
    told = {**cost, "bits": SCORED["bits"]}
    if not coloured:
        told["bits"] += ", in whose picture a bit or more is black"
    return {
        "serve": Signature(served.serve, seen, some, cost, **shown),
        "score": Signature(served.score, seen, some, told, **maps),
        "generate": Signature(
            served.generate, {**given, **CHANCE}, {**sample, **chance}, MADE, **shown
        ),
        "complete": Signature(served.complete, {**seen, **rows, **CHANCE}, part, MADE, **shown),
    }


def signatures_by_class(model, task):
    """The same given a digit, and `classify`: which digit it is, by the likelihood of each."""
    import tensorflow as tf

    def seen(digit):
        check_range("digit", digit, 0, task.classes - 1)
        return {"condition": tf.one_hot(digit, task.classes)}

    sample = task.inputs_without_data(np.random.default_rng(0), 2)
    image, given = sample.pop("image"), {"digit": ((None,), "int32")}
    served = _Served(model.get_layer("pixels"), seen)
    classify = labelled_digits.signatures(model, task, {})["classify"]
    return {**_signatures(served, image, given, sample), "classify": classify}


def signatures_of_codes(model, task):
    """`serve` and `encode`; `decode`, `reconstruct` and `interpolate`: images made of codes.

    Where pixels are independent given the code, there is no chance, and images are their chances.
    """
    import tensorflow as tf

    encoder, shape = model.get_layer("encoder"), task.input_spec["image"][0]
    layers = {layer.name: layer for layer in model.layers}
    pixels, decoder = layers.get("pixels"), layers.get("decoder")
    chance = CHANCE if pixels else {}

    def make(code, **chance):
        if not pixels:
            return tf.sigmoid(decoder(code))[..., 0]
        seen = {"maps": decoder(code)} if decoder else {"condition": code}
        return _Served(pixels, lambda: seen).generate(**chance)["image"]

    def encoded(image):
        check_ink(image)
        return encoder(image)

    def decode(code, **chance):
        return {"image": make(code, **chance)}

    def reconstruct(image, **chance):
        code = encoded(image)
        return {"image": make(code, **chance), "code": code}

    def interpolate(image, other, shares, **chance):
        check_range("shares", shares, 0, 1)
        first, last = (encoded(x)[:, None] for x in (image, other))
        code = first + shares[:, :, None] * (last - first)
        # One chance for all of a row, so that nothing but the code changes from image to image.
        chance = {name: tf.repeat(x, tf.shape(shares)[1]) for name, x in chance.items()}
        made = make(tf.reshape(code, (-1, code.shape[-1])), **chance)
        return {"between": tf.reshape(made, (*tf.unstack(tf.shape(shares)), *shape))}

    rng = np.random.default_rng(0)
    images = task.inputs_without_data(rng, 2)["image"]
    size = encoder.output_shape[-1]
    seeds = {"seed": np.array([1, 2], "int32"), "temperature": np.array([1, 0.7], "float32")}
    seeds = {name: seeds[name] for name in chance}
    asked, code = ((None, *shape), "float32"), ((None, size), "float32")
    shares = np.linspace([0, 1], [1, 0], 5, axis=1, dtype="float32")
    made = {"image": "an image that is made of the code, (batch, height, width)"}
    return {
        **digit_reconstruction.signatures(model, task, {}),
        "decode": Signature(
            decode,
            {"code": code, **chance},
            {"code": rng.normal(size=(2, size)).astype("float32"), **seeds},
            made,
            images=("image",),
        ),
        "reconstruct": Signature(
            reconstruct,
            {"image": asked, **chance},
            {"image": images, **seeds},
            {**made, **digit_reconstruction.CODE},
            images=("image",),
        ),
        "interpolate": Signature(
            interpolate,
            {"image": asked, "other": asked, "shares": ((None, None), "float32"), **chance},
            {"image": images, "other": images[::-1].copy(), "shares": shares, **seeds},
            {
                "between": "images made of codes so far on the way from the image's to the other's "
                "as shares say, 0 to 1, (batch, shares, height, width)"
            },
            images=("image", "other", "between"),
        ),
    }


def notation(task):
    """For `generate` a whole number, the seed of an image, made at a temperature of 1."""

    def read(texts):
        seed = whole_numbers(texts, "a whole number, the seed of an image")
        return {"seed": seed, "temperature": np.ones(len(seed), "float32")}

    def picture(inputs, outputs):
        rows = zip(outputs["image"], inputs["seed"])
        return [image_of(image, f"seed {seed}") for image, seed in rows]

    return {"generate": Notation(("7", "8"), read, _show, picture, in_pictures=True)}


def notation_in_colour(task):
    """As `notation`, of pictures in colour."""
    written = notation(task)["generate"]

    def show(inputs, outputs):
        size, unit = math.prod(outputs["image"].shape[1:]), math.log(2)
        return [f"{n / unit / size:.2f} bits a pixel's colour" for n in outputs["nats"]]

    def picture(inputs, outputs):
        light = outputs["image"] / (task.levels - 1)
        return [image_of(x, f"seed {seed}") for x, seed in zip(light, inputs["seed"])]

    return {"generate": dataclasses.replace(written, show=show, picture=picture)}


def notation_by_class(task):
    """For `generate` a digit, made at a temperature of 1 by the row's number as its seed."""
    wanted = f"a digit of 0 to {task.classes - 1}"

    def read(texts):
        digit = whole_numbers(texts, wanted)
        for text, value in zip(texts, digit):
            if not 0 <= value < task.classes:
                raise expected(wanted, text)
        seed = np.arange(1, len(digit) + 1, dtype="int32")
        return {"digit": digit, "seed": seed, "temperature": np.ones(len(digit), "float32")}

    def picture(inputs, outputs):
        rows = zip(outputs["image"], inputs["digit"])
        return [image_of(image, f"digit {digit}") for image, digit in rows]

    return {"generate": Notation(("3", "8"), read, _show, picture, in_pictures=True)}


def _show(inputs, outputs):
    return [text_of(image) for image in outputs["image"]]


SIZES = {"filters": 24, "layers": 7, "head": 64, "kernel_size": 5}
SMALL = {"filters": 4, "layers": 2, "head": 4, "kernel_size": 3}
TRAIN = {
    "batch_size": 16,
    "optimizer": "muon",
    "learning_rate": 1e-2,
    "learning_rate_schedule": "cosine",
    "updates": 6_000,
    "steps_per_epoch": 500,
}

register(
    Entry(
        name="pixelcnn_digits",
        paper=PAPER,
        task="binary_digits",
        build=build,
        config=SIZES,
        task_config={"samples": 0},
        train=TRAIN,
        paper_result="no digits in the paper",
        own_signatures=signatures,
        own_notation=notation,
        small=SMALL,
    )
)

register(
    Entry(
        name="pixelcnn_classes",
        paper=PAPER,
        task="labelled_digits",
        build=build_by_class,
        config=SIZES,
        train={**TRAIN, "updates": 4_500},
        paper_result="no digits in the paper",
        own_signatures=signatures_by_class,
        own_notation=notation_by_class,
        small=SMALL,
        small_task={"images": 20},
    )
)

register(
    Entry(
        name="pixelcnn_colour",
        paper=PAPER,
        task="colour_patches",
        build=build_colour,
        config={"filters": 48, "layers": 6, "head": 96, "joint_colours": True},
        train={**TRAIN, "optimizer": "adam", "learning_rate": 2e-3, "updates": 5_000},
        paper_result="on CIFAR-10 3.03 bits a pixel's colour, of 256 levels",
        baseline="colours apart",
        plain={"joint_colours": False},
        own_signatures=signatures,
        own_notation=notation_in_colour,
        small={"filters": 6, "layers": 2, "head": 6},
        small_task={"size": 6, "levels": 4},
    )
)

register(
    Entry(
        name="pixelcnn_autoencoder",
        paper=PAPER,
        task="digit_reconstruction",
        build=build_autoencoder,
        config={**SIZES, "code_size": 10, "units": 16, "maps": 8},
        train={**TRAIN, "start": "pixelcnn_digits", "updates": 2_000},
        paper_result="no number in the paper; images that mean the same, not means of images",
        baseline="independent pixels",
        plain={"layers": 0},
        own_signatures=signatures_of_codes,
        small={**SMALL, "code_size": 3, "units": 2},
    )
)
