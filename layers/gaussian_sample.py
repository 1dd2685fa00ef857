"""A sample of a Gaussian that moves with its mean and deviation, and what it says of the prior."""

import math
from typing import Any

import keras
from keras import ops

from . import _chance
from ._base import serializable, sum_dtype
from ._distributions import gaussian_kl, gaussian_log_ratio


@serializable
class GaussianSample(keras.layers.Layer):
    """Draws of a diagonal Gaussian by its noise, `mean + deviation * e`, beside a prior.

    This is the sampler of variational autoencoders (Kingma and Welling, 2014, section 2.4). The
    last axis is that of the Gaussian.

    Args:
        prior_deviation: of the prior, in all dimensions.
        stream: a name that sets its chance apart from that of others with the same seed.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        mean: `(batch, ..., size)`.
        log_deviation: `(batch, ..., size)`, the logarithm of the standard deviation.
        seed: `(batch,)` integers, the chance of each row.
        prior_mean: `(batch, ..., size)`, or None for 0.

    Returns:
        `(sample, kl, log_weight)`, float64 for float64 and float32 for all other dtypes:
        `(batch, ..., size)`; `(batch, ...)`, KL(Gaussian || prior) in nats; and `(batch, ...)`, by
        how much the sample is more probable to the prior than to the Gaussian, in nats, whose mean
        is minus the KL.

    Raises:
        ValueError: `prior_deviation` is not above 0.

    Example:
        >>> ones = keras.ops.ones((2, 3, 4))
        >>> sample, kl, log_weight = GaussianSample()(ones, ones, keras.ops.arange(2))
        >>> sample.shape, kl.shape
        (TensorShape([2, 3, 4]), TensorShape([2, 3]))

    Reference:
        Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114.
    """

    def __init__(self, prior_deviation: float = 1.0, stream: str = "", **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if not prior_deviation > 0:
            raise ValueError(f"prior_deviation must be above 0; got {prior_deviation!r}")
        self.prior_deviation, self.stream = float(prior_deviation), stream

    def build(self, *shapes):
        pass

    def call(self, mean, log_deviation, seed, prior_mean=None):
        dtype = sum_dtype(self.compute_dtype)
        mean, log_deviation = ops.cast(mean, dtype), ops.cast(log_deviation, dtype)
        prior = ops.zeros_like(mean) if prior_mean is None else ops.cast(prior_mean, dtype)
        shape = ops.shape(mean)[1:]
        noise = _chance.normal(_chance.fold(seed, self.stream), shape, dtype=dtype)
        sample = mean + ops.exp(log_deviation) * noise
        # As the prior has it, which is standard then.
        moved, found = ((x - prior) / self.prior_deviation for x in (mean, sample))
        log_deviation = log_deviation - math.log(self.prior_deviation)
        kl = gaussian_kl(moved, log_deviation)
        log_weight = gaussian_log_ratio(found, noise, log_deviation)
        return sample, ops.sum(kl, axis=-1), ops.sum(log_weight, axis=-1)

    def compute_output_spec(self, mean, log_deviation, seed, prior_mean=None):
        dtype = sum_dtype(self.compute_dtype)
        shapes = mean.shape, mean.shape[:-1], mean.shape[:-1]
        return tuple(keras.KerasTensor(shape, dtype=dtype) for shape in shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "prior_deviation": self.prior_deviation,
            "stream": self.stream,
        }
