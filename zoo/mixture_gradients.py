"""Stochastic Backpropagation through Mixture Density Distributions (Graves, 2016)."""

import math

import keras
from keras import ops

from ..layers import MixtureSample
from ..layers._base import whole
from ..layers._distributions import LOG_TWO_PI, bernoulli
from ..trainers._metrics import MeanOutput
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="mixture gradients",
    title="Stochastic Backpropagation through Mixture Density Distributions",
    authors="Alex Graves",
    year=2016,
    arxiv="1607.05690",
)
PERPLEXITY = "components in use, by the perplexity of the weights"


def build_fit(task, components, implicit, weight_gradients):
    """A mixture of Gaussians in the plane with nothing before it.

    Args:
        task: `FourGaussians`.
        components: K.
        implicit: whether means and deviations get the gradient of the quantile transform, too.
        weight_gradients: whether the weights learn, or stay alike.

    Returns:
        `keras.Model`: `seed` in; the outputs that the task asks for, with `component` and
        `perplexity`, out.
    """
    count = whole("components", components, 1)
    seed = keras.Input((), dtype="int32", name="seed")
    nothing = ops.zeros_like(seed)

    def learnt(name, shape, start):
        # The only row of a table, for every row of the batch.
        table = keras.layers.Embedding(1, math.prod(shape), start, name=name)
        return ops.reshape(table(nothing), (-1, *shape))

    logits = learnt("logits", (count,), "zeros")
    means = learnt("means", (count, 2), keras.initializers.RandomNormal(stddev=1.5))
    scales = learnt("scales", (count, 2), keras.initializers.Constant(0.5))
    sampler = MixtureSample(implicit=implicit, weight_gradients=weight_gradients, name="mixture")
    sample, log_prob, component = sampler(logits, means, scales, seed)
    outputs = {
        "nats": log_prob - task.log_prob(sample),
        "sample": sample,
        "component": component,
        **_weights(logits),
        "means": means,
        "deviations": ops.exp(scales),
    }
    return keras.Model({"seed": seed}, outputs)


def build_digits(task, components, dimensions, units, implicit, weight_gradients):
    """A variational autoencoder whose posterior is a mixture of Gaussians.

    The bound is that of one sample: no KL of a mixture has a closed form.

    Args:
        task: `BinaryDigits`.
        components: K; 1 is the ordinary machine.
        dimensions: of what is said of an image.
        units: of both hidden layers of encoder and decoder.
        implicit, weight_gradients: as in `build_fit`.

    Returns:
        `keras.Model`: `image` and `seed` in; the outputs that the task asks for, with `component`,
        `weights` and `perplexity`, out.
    """
    count, size = whole("components", components, 1), whole("dimensions", dimensions, 1)
    sides, _ = task.input_spec["image"]
    image = keras.Input(sides, name="image")
    seed = keras.Input((), dtype="int32", name="seed")
    hidden = keras.layers.Flatten(name="pixels")(image)
    for number in range(2):
        hidden = keras.layers.Dense(units, "relu", name=f"encoder_{number}")(hidden)

    def head(name, shape, **options):
        dense = keras.layers.Dense(math.prod(shape), name=name, dtype="float32", **options)
        return ops.reshape(dense(hidden), (-1, *shape))

    # All begin around one mean: a decoder that reads several codes soon knows but one of them.
    spread = keras.initializers.RandomNormal(stddev=0.5)
    logits = head("logits", (count,), kernel_initializer="zeros")
    means = head("mean", (1, size)) + head(
        "means", (count, size), kernel_initializer="zeros", bias_initializer=spread
    )
    scales = head("scales", (count, size), bias_initializer=keras.initializers.Constant(-0.5))
    sampler = MixtureSample(implicit=implicit, weight_gradients=weight_gradients, name="posterior")
    code, log_posterior, component = sampler(logits, means, scales, seed)

    decoder = keras.Sequential(name="decoder")
    for number in range(2):
        decoder.add(keras.layers.Dense(units, "relu", name=f"decoder_{number}"))
    decoder.add(keras.layers.Dense(math.prod(sides), name="ink", dtype="float32"))
    decoder.add(keras.layers.Reshape(sides, name="drawn", dtype="float32"))
    ink = decoder(code)
    standard = ops.zeros_like(means[:, :1])
    fresh, *_ = MixtureSample(name="prior")(standard[:, :, 0], standard, standard, seed)

    reconstruction = -ops.sum(bernoulli(ink, image), axis=(1, 2))
    log_prior = -0.5 * ops.sum(ops.square(code) + LOG_TWO_PI, axis=-1)
    kl = log_posterior - log_prior
    outputs = {
        "nats": reconstruction + kl,
        "reconstruction": reconstruction,
        "kl": kl,
        "mean": ops.sigmoid(ink),
        "sample": ops.sigmoid(decoder(fresh)),
        "component": component,
        **_weights(logits),
    }
    return keras.Model({"image": image, "seed": seed}, outputs)


def _weights(logits):
    log_weights = logits - ops.logsumexp(logits, axis=-1, keepdims=True)
    weights = ops.exp(log_weights)
    entropy = -ops.sum(weights * log_weights, axis=-1)
    return {"weights": weights, "perplexity": ops.exp(entropy)}


def _measures(model):
    return {"perplexity": [MeanOutput("perplexity", PERPLEXITY)]}


register(
    Entry(
        name="mixture_fit",
        paper=PAPER,
        task="four_gaussians",
        build=build_fit,
        config={"components": 8, "implicit": False, "weight_gradients": True},
        train={
            "batch_size": 256,
            "learning_rate": 1e-2,
            "learning_rate_schedule": "cosine",
            "clipnorm": 10.0,
            "updates": 6000,
            "steps_per_epoch": 100,
            "evaluation_rows": 200_000,
        },
        paper_result="none: the paper has no experiments",
        baseline="alike weights",
        measures=_measures,
        plain={"weight_gradients": False},
        small={"components": 2},
    )
)

register(
    Entry(
        name="mixture_vae_digits",
        paper=PAPER,
        task="binary_digits",
        build=build_digits,
        config={
            "components": 5,
            "dimensions": 8,
            "units": 384,
            "implicit": False,
            "weight_gradients": True,
        },
        train={
            "batch_size": 128,
            "learning_rate": 1e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.5,
            "clipnorm": 10.0,
            "updates": 6000,
            "steps_per_epoch": 200,
        },
        paper_result="none: the paper has no experiments",
        baseline="one component",
        measures=_measures,
        plain={"components": 1},
        told={
            "component": "the component that what is said of the image came of, (batch,)",
            "weights": "those of the components, (batch, K)",
        },
        small={"components": 2, "dimensions": 3, "units": 8},
        small_task={"samples": 5, "images": 4},
    )
)
