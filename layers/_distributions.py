"""Densities in log space, stable in float32 for whatever a network puts out."""

import dataclasses
import math
from collections.abc import Callable

from keras import ops

from . import _chance

LOG_TWO_PI = math.log(2 * math.pi)


def bivariate_gaussian(x, y, log_sigma_x, log_sigma_y, rho_hat):
    """Log-density of Gaussians in the plane at points off their mean.

    With rho = tanh(rho_hat) and r = rho_hat, 1 / (1 + rho) is (1 + exp(-2 r)) / 2 and 1 / (1 - rho)
    is (1 + exp(2 r)) / 2, so that nothing is taken from 1 and nothing is divided.

    Args:
        x, y: distances from the mean along both axes.
        log_sigma_x, log_sigma_y: logarithms of the standard deviations.
        rho_hat: of which the hyperbolic tangent is the correlation.

    Returns:
        Nats, of the shape of all arguments broadcast.
    """
    x, y = x * ops.exp(-log_sigma_x), y * ops.exp(-log_sigma_y)
    along, across = ops.square(x + y), ops.square(x - y)
    turn = ops.exp(2 * rho_hat)
    exponent = (along * (1 + 1 / turn) + across * (1 + turn)) / 8
    # log(1 - rho^2) = -2 log cosh r
    log_cosh = ops.softplus(2 * rho_hat) - rho_hat - math.log(2)
    return log_cosh - exponent - log_sigma_x - log_sigma_y - LOG_TWO_PI


def mixture(log_weights, log_densities):
    """Log-density of a mixture, over the last axis; `log_weights` need not be normalised."""
    normal = ops.logsumexp(log_weights, axis=-1)
    return ops.logsumexp(log_weights + log_densities, axis=-1) - normal


def gaussian_kl(mean, log_deviation):
    """KL of Gaussians from the standard one, in nats, of the shape of both arguments."""
    return (ops.square(mean) + ops.exp(2 * log_deviation) - 1) / 2 - log_deviation


def gaussian_log_ratio(x, noise, log_deviation):
    """By how much x is more probable to the standard Gaussian than to its own, in nats.

    Its own has the deviation exp(log_deviation), and x is noise deviations from its mean. The mean
    over x is minus `gaussian_kl`.
    """
    return log_deviation + (ops.square(noise) - ops.square(x)) / 2


def bernoulli(logit, value):
    """Log-probability of a value, 1 or 0, where that of 1 is sigmoid(logit)."""
    return -ops.softplus((1 - 2 * value) * logit)


@dataclasses.dataclass(frozen=True)
class Family:
    """A density on the line in its standard form, symmetric about 0.

    Attributes:
        log_prob: `log_prob(z)`.
        cdf: `cdf(z)`, of full relative precision below 0; above it is that of `-z` less than 1.
        draw: `draw(seed, shape, dtype)`, numbers `(batch, *shape)` as those of `_chance`.
    """

    log_prob: Callable
    cdf: Callable
    draw: Callable


def _of_uniform(quantile):
    """Draws by the quantiles of the lower half, and by a sign."""

    def draw(seed, shape, dtype):
        uniform = _chance.uniform(seed, shape, dtype=dtype)
        sign = _chance.uniform(_chance.fold(seed, "sign"), shape, dtype=dtype)
        low = quantile(uniform / 2)
        return ops.where(sign < 0.5, low, -low)

    return draw


FAMILIES = {
    "gaussian": Family(
        lambda z: -0.5 * (ops.square(z) + LOG_TWO_PI),
        lambda z: 0.5 * ops.erfc(-math.sqrt(0.5) * z),
        lambda seed, shape, dtype: _chance.normal(seed, shape, dtype=dtype),
    ),
    "laplace": Family(
        lambda z: -ops.abs(z) - math.log(2),
        lambda z: ops.where(z < 0, 0.5 * ops.exp(-ops.abs(z)), 0.5 - 0.5 * ops.expm1(-ops.abs(z))),
        _of_uniform(lambda u: ops.log(2 * u)),
    ),
    "logistic": Family(
        lambda z: -ops.abs(z) - 2 * ops.softplus(-ops.abs(z)),
        lambda z: ops.sigmoid(z),
        _of_uniform(lambda u: ops.log(u) - ops.log1p(-u)),
    ),
}
"""Those that mixtures can be made of, by their names."""
