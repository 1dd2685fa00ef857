"""Associative Compression Networks for Representation Learning (Graves et al., 2018)."""

import keras
import numpy as np
from keras import ops

from ..layers import AssociativePrior, CodeStore, GatedPixelCNN, GaussianSample, _chance
from ..layers._base import whole
from ..layers._distributions import FAMILIES, bernoulli
from ..layers._scan import scan, stacked
from ._networks import image_decoder, image_encoder
from ._registry import Entry, Paper, register
from .signatures import numbered_digits
from .signatures._checks import check_ink, check_range, greatest
from .signatures._signature import Signature

PAPER = Paper(
    mechanism="ACN",
    title="Associative Compression Networks for Representation Learning",
    authors="Alex Graves, Jacob Menick, Aaron van den Oord",
    year=2018,
    arxiv="1804.02476",
)
MOST_DREAMT = 8  # images of a dream that a signature makes
SHOWN = 5  # neighbours that a signature tells


def build(task, code_size, neighbours, prior_units, filters, layers, units, maps, kernel_size=3):
    """An autoencoder whose codes are told by the code of an image like the one that is told.

    The code is the mean of a Gaussian of unit variance (section 3).

    Args:
        task: `NumberedDigits`.
        code_size: numbers of a code.
        neighbours: K; 0 for none, which leaves a variational autoencoder of the same networks, with
            variances that are learned.
        prior_units: of the hidden layers of what a neighbour's code tells.
        filters, layers: of the Gated PixelCNN that draws. Without layers convolutions draw all
            pixels at once, independent given the code.
        units: features of the encoder's first convolution; its second one has twice as many.
        maps: features of maps of the image's size that convolutions make of the code for the
            PixelCNN to see.
        kernel_size: of all layers of the PixelCNN but the first.

    Returns:
        `keras.Model`: `image`, `index` and `seed` in; the outputs that the task asks for out, but
        `neighbour` and `dream` without neighbours.
    """
    code_size, neighbours = whole("code_size", code_size, 1), whole("neighbours", neighbours, 0)
    filters, layers = whole("filters", filters, 1), whole("layers", layers, 0)
    units, maps = whole("units", units, 1), whole("maps", maps, 1)
    kernel_size = whole("kernel_size", kernel_size, 1)
    image = keras.Input(task.input_spec["image"][0], name="image")
    index = keras.Input((), dtype="int32", name="index")
    seed = keras.Input((), dtype="int32", name="seed")
    shape = task.input_spec["image"][0]
    found = image_encoder(shape, code_size if neighbours else 2 * code_size, units)(image)
    draw = GaussianSample(stream="code", name="sample")
    if neighbours:
        code, log_deviation = found, ops.zeros_like(found)
    else:
        code, log_deviation = ops.split(found, 2, axis=-1)
    sample, kl, log_weight = draw(code, log_deviation, seed)
    drawer = _Drawer(
        image_decoder(shape, code_size, units, maps if layers else 1),
        GatedPixelCNN(filters, layers, kernel_size, name="pixels") if layers else None,
    )
    reconstruction = drawer.cost(image, sample)
    outputs = {"code": code, "reconstruction": reconstruction}
    outputs["mean"] = drawer.draw(sample, seed)
    if not neighbours:
        nothing = ops.zeros_like(code)
        fresh, _, _ = GaussianSample(stream="fresh", name="fresh")(nothing, nothing, seed)
        nats = reconstruction + kl
        outputs |= {"nats": nats, "kl": kl, "unordered_nats": nats}
        outputs |= {
            "log_weight": log_weight - reconstruction,
            "sample": drawer.draw(fresh, seed),
        }
        return keras.Model({"image": image, "index": index, "seed": seed}, outputs)
    store = CodeStore(task.items, neighbours, code_dtype="float16", name="store")
    prior = AssociativePrior(prior_units, name="prior")
    near = store(code, index, seed, sample)
    # The logarithm of what its own Gaussian makes of the sample.
    own = ops.sum(FAMILIES["gaussian"].log_prob(sample), axis=-1) - log_weight
    _, log_prior = prior(near["neighbour"], sample)
    kl, alone = own - log_prior, own - near["log_density"]
    outputs |= {"nats": reconstruction + kl, "kl": kl, "unordered_nats": reconstruction + alone}
    outputs |= {"log_weight": -kl - reconstruction, "neighbour": near["number"]}
    for name, start in (("sample", store(seed=seed)["neighbour"]), ("dream", code)):
        outputs[name] = drawer.draw(prior(start, seed=seed)[0], seed)
    return keras.Model({"image": image, "index": index, "seed": seed}, outputs)


class _Drawer:
    """Makes images of codes: pixel by pixel, or, without `pixels`, as the chances of all of them.

    Both are layers.
    """

    def __init__(self, decoder, pixels):
        self.decoder, self.pixels = decoder, pixels

    def cost(self, image, code):
        """What the pixels of an image cost to its code, in nats, `(batch,)`."""
        seen = self.decoder(code)
        logits = self.pixels(image, maps=seen) if self.pixels else seen[..., 0]
        return -ops.sum(bernoulli(logits, image), axis=(1, 2))

    def draw(self, code, seed):
        """Images of codes, `(batch, height, width)`, or the chances of their pixels."""
        seen = self.decoder(code)
        if self.pixels:
            return ops.cast(self.pixels(None, maps=seen, seed=seed), "float32")
        return ops.sigmoid(seen[..., 0])


def signatures(model, task):
    """Those of the task and `encode`; with neighbours `daydream`, too."""
    import tensorflow as tf

    served = numbered_digits.signatures(model, task, {})
    layers = {layer.name: layer for layer in model.layers}
    encoder, drawer = layers["encoder"], _Drawer(layers["decoder"], layers.get("pixels"))
    shape, _ = served["serve"].inputs["image"]
    images, numbers = {"image": (shape, "float32")}, ((None,), "int32")
    sample, with_store = served["serve"].sample, "neighbour" in model.output

    def encode(image):
        check_ink(image)
        code = tf.cast(encoder(image), tf.float32)
        if not with_store:
            return {"code": code[:, : code.shape[1] // 2]}
        number, distance = layers["store"].nearest(code, SHOWN)
        return {"code": code, "neighbours": number, "distances": tf.sqrt(distance)}

    means = {"code": "numbers that tell the image, (batch, code size)"}
    near = {
        "neighbours": "numbers of the images of training whose codes are nearest, the nearest "
        f"first, (batch, {SHOWN})",
        "distances": f"how far their codes are, (batch, {SHOWN})",
    }
    served["encode"] = Signature(
        encode,
        images,
        {"image": sample["image"]},
        {**means, **(near if with_store else {})},
        images=("image",),
    )
    if not with_store:
        return served
    prior = layers["prior"]

    def daydream(image, steps, seed):
        check_ink(image)
        check_range("steps", steps, 1, MOST_DREAMT)

        def dream(before, *_):
            number, image = before
            code, chance = tf.cast(encoder(image), tf.float32), _chance.fold(seed, number)
            made = drawer.draw(prior(code, seed=chance)[0], chance)
            made = tf.where((number < steps)[:, None, None], made, image)
            return (number + 1, made), [made, code]

        _, found = scan(dream, (tf.constant(0), image), greatest(steps, 1, MOST_DREAMT))
        frames, codes = (tf.experimental.numpy.moveaxis(x, 0, 1) for x in stacked(found))
        return {"frames": tf.concat([image[:, None], frames], axis=1), "codes": codes}

    served["daydream"] = Signature(
        daydream,
        {**images, "steps": numbers, "seed": numbers},
        {**sample, "steps": np.array([2, 1], "int32")},
        {
            "frames": "the image, and those to which one leads after the other by a code that the "
            "code of the one before leads to, those behind the last as the last, (batch, steps + 1,"
            " height, width)",
            "codes": "of all of them but the last, (batch, steps, code size)",
        },
        images=("image", "frames"),
    )
    return served


register(
    Entry(
        name="acn_digits",
        paper=PAPER,
        task="numbered_digits",
        task_config={"samples": 20, "images": 100},
        build=build,
        config={
            "code_size": 16,
            "neighbours": 5,
            "prior_units": 256,
            "filters": 16,
            "layers": 4,
            "units": 16,
            "maps": 8,
            "kernel_size": 3,
        },
        train={
            "batch_size": 32,
            "optimizer": "muon",
            "learning_rate": 1e-2,
            "learning_rate_schedule": "cosine",
            "clipnorm": 10.0,
            "updates": 8_000,
            "steps_per_epoch": 500,
        },
        paper_result="on binarized MNIST 73.9 nats beside a neighbour and 80.9 alone; 1.5 % of the "
        "codes' classes wrong",
        baseline="VAE",
        plain={"neighbours": 0},
        own_signatures=signatures,
        own_notation=numbered_digits.notation,
        small={"code_size": 3, "neighbours": 2, "prior_units": 4, "layers": 0, "units": 2},
        small_task={"items": 10, "samples": 2, "images": 2},
    )
)
