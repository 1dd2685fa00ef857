"""Samples of mixture densities that also the weights of the mixture get gradients of.

The multivariate quantile transform makes a sample of uniform numbers, coordinate by coordinate.
Differentiated implicitly it says how a sample moves with the parameters, whatever has drawn it; its
inverse is never computed (Graves, 2016).
"""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from . import _chance
from ._base import serializable, sum_dtype
from ._distributions import FAMILIES, mixture
from ._scan import scan, stacked

# Conditional densities below count as such where they are divided by: between modes that are far
# apart, and in tails, the inverse has no bound.
LEAST_LOG_DENSITY = {"float32": -30.0, "float64": -300.0}
SHAPES = "logits (batch, K), means (batch, K, D), and scales (batch, K, D) or (batch, K, D, D)"


def mixture_draw(
    logits: Any,
    means: Any,
    scales: Any,
    seed: Any,
    family: str = "gaussian",
    implicit: bool = False,
) -> tuple[Any, Any]:
    """Draws a point a row of a mixture, with gradients for all of its parameters.

    The component is chosen first, and the point drawn of it. The logits get the gradient of the
    quantile transform, with its path over earlier coordinates. Means and scales get the gradient of
    the component that was chosen; or, `implicit`, that of the quantile transform as well, which
    moves all components by their responsibilities. Both are unbiased for the mean of any function
    of the point, and neither is the derivative of the point at a given seed. It costs a product of
    rows, components and coordinates, and no Jacobian. Second derivatives are not those of anything.

    Their variance is low where components overlap. Between components that are far apart the
    density is next to nothing, its inverse is not, and a score function varies less.

    Args:
        logits: `(batch, K)`, of the weights.
        means: `(batch, K, D)`.
        scales: `(batch, K, D)`, logarithms of the scales; or `(batch, K, D, D)`, factors whose
            lower triangle counts, with the logarithm of the diagonal on the diagonal: a point is
            the mean and the factor times standard numbers, so that the covariance of a Gaussian is
            the factor times its transpose.
        seed: `(batch,)` integers, or seeds of `_chance.fold`.
        family: of `layers._distributions.FAMILIES`: "gaussian", "laplace" or "logistic".
        implicit: see above.

    Returns:
        The points, `(batch, D)`, and the components that were chosen, `(batch,)` int32.

    Raises:
        ValueError: shapes do not fit, or there is no such family.

    Reference:
        Graves, "Stochastic Backpropagation through Mixture Density Distributions", 2016,
        arXiv:1607.05690.
    """
    one, logits, means, scales = _checked(family, logits, means, scales)
    count, size = means.shape[1:]
    choice = logits + _chance.gumbel(_chance.fold(seed, "component"), (count,), dtype=logits.dtype)
    chosen = ops.argmax(choice, axis=-1)
    noise = one.draw(_chance.fold(seed, "noise"), (size,), logits.dtype)
    only = ops.one_hot(chosen, count, dtype=logits.dtype)
    mean, scale = (ops.einsum("bk,bk...->b...", only, x) for x in (means, scales))
    if len(scale.shape) == 2:
        moved = ops.exp(scale) * noise
    else:
        moved = ops.einsum("bij,bj->bi", _triangle(scale), noise)
    point = mean + moved
    # What is implicit does not come by way of the component.
    point = ops.stop_gradient(point) if implicit else point
    return _attached(one, point, logits, means, scales, implicit), ops.cast(chosen, "int32")


def mixture_path(
    points: Any,
    logits: Any,
    means: Any,
    scales: Any,
    family: str = "gaussian",
) -> Any:
    """Points of a mixture, whatever has drawn them, with the gradient of the quantile transform.

    Args:
        points: `(batch, D)`, themselves without a gradient.
        logits, means, scales, family: as in `mixture_draw`.

    Returns:
        The points.

    Raises:
        ValueError: as `mixture_draw`.
    """
    one, logits, means, scales = _checked(family, logits, means, scales)
    points = ops.stop_gradient(ops.cast(points, logits.dtype))
    return _attached(one, points, logits, means, scales, True)


def mixture_log_prob(
    points: Any, logits: Any, means: Any, scales: Any, family: str = "gaussian"
) -> Any:
    """Log-density of points under mixtures, nats, `(batch,)`.

    Args:
        points: `(batch, D)`.
        logits, means, scales, family: as in `mixture_draw`.

    Raises:
        ValueError: as `mixture_draw`.
    """
    one, logits, means, scales = _checked(family, logits, means, scales)
    z, log_slopes, _ = _standard(ops.cast(points, logits.dtype), means, scales)
    return mixture(logits, ops.sum(one.log_prob(z) + log_slopes, axis=-1))


def _checked(family, logits, means, scales):
    """The family, and the parameters in the dtype of sums."""
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {sorted(FAMILIES)}, got {family!r}")
    parameters = [ops.convert_to_tensor(x) for x in (logits, means, scales)]
    shapes = logits, means, scales = tuple(tuple(x.shape) for x in parameters)
    if (
        len(logits) != 2
        or len(means) != 3
        or means[1] != logits[1]
        or scales[1:] not in (means[1:], (*means[1:], means[2]))
        or not all(means[1:])
    ):
        raise ValueError(f"a mixture must have {SHAPES}; got {shapes}")
    dtype = sum_dtype(parameters[0].dtype)
    return FAMILIES[family], *(ops.cast(x, dtype) for x in parameters)


def _triangle(scales):
    """The factor, `(..., D, D)`, without the logarithm on its diagonal."""
    eye = ops.eye(scales.shape[-1], dtype=scales.dtype)
    return ops.tril(scales, -1) + eye * ops.exp(scales * eye)


def _standard(points, means, scales):
    """The standard numbers that points are under each component, `(batch, K, D)`.

    Behind them the logarithms of how they grow with their own coordinate, and how they change with
    all of them, `(batch, K, D, D)`, or None where with none but their own.
    """
    away = points[:, None] - means
    if len(scales.shape) == 3:
        return away * ops.exp(-scales), -scales, None
    eye = ops.eye(scales.shape[-1], dtype=scales.dtype)
    slopes = ops.solve_triangular(
        _triangle(scales), ops.broadcast_to(eye, ops.shape(scales)), lower=True
    )
    return ops.einsum("bkij,bkj->bki", slopes, away), -ops.sum(scales * eye, axis=-1), slopes


def _attached(family, point, logits, means, scales, implicit):
    """The point, with the gradients that its own do not have."""
    z, log_slopes, slopes = _standard(ops.stop_gradient(point), means, scales)
    if not implicit:
        z, log_slopes = ops.stop_gradient(z), ops.stop_gradient(log_slopes)
    slopes = () if slopes is None else (ops.stop_gradient(slopes),)
    path = backend.differentiable(
        lambda point, *_: (point,),
        lambda *tensors: ((tensors[0],), tensors[1:]),
        lambda tensors, cotangents: _backward(family, cotangents[0], *tensors),
        save=False,
    )
    return path(point, logits, z, log_slopes, *slopes)[0]


def _backward(family, cotangent, logits, z, log_slopes, slopes=None):
    """Cotangents of the arguments of `_attached`'s path, the last coordinate first.

    With p the weights of the components before coordinate d, which Bayes' rule gives of those
    before d - 1, and with f and F density and distribution of coordinate d, `dx = -dF / f`. What
    goes back through x into F is `-total / f`; what goes back through the weights behind d into
    their logarithms, `weights`, adds to that of x by the slope of the components' log-densities.
    """
    log_prob, pull = backend.vjp(family.log_prob, z)
    (bend,) = pull(ops.ones_like(z))  # the slope of the log-density by z
    log_each = log_prob + log_slopes
    # Not the sum up to here less this one, which would round as the largest of them does.
    before = ops.pad(ops.cumsum(log_each[..., :-1], axis=-1), [(0, 0), (0, 0), (1, 0)])
    log_p = logits[..., None] + before
    log_p = log_p - ops.logsumexp(log_p, axis=1, keepdims=True)
    log_density = ops.logsumexp(log_p + log_each, axis=1, keepdims=True)
    share = ops.exp(log_p + log_each - log_density)
    p = ops.exp(log_p)
    # F of a component less F of all: of the two tails that say it, the one that is not close to 1.
    below, above = (family.cdf(side * z) for side in (1, -1))
    low, high = (ops.sum(p * tail, axis=1, keepdims=True) for tail in (below, above))
    excess = ops.where(low < high, below - low, high - above)
    least = LEAST_LOG_DENSITY[keras.backend.standardize_dtype(z.dtype)]
    by_weights = excess * ops.exp(log_p - ops.maximum(log_density, least))
    by_place = bend * ops.exp(log_slopes)
    into_z = share * ops.exp(-log_slopes)

    size = z.shape[-1]
    ahead = [ops.moveaxis(x, -1, 0) for x in (by_weights, by_place, into_z, bend)]
    if slopes is not None:
        # Not with its own coordinate, which `total` has already.
        ahead.append(ops.moveaxis(slopes * (1 - ops.eye(size, dtype=z.dtype)), 2, 0))

    def step(carry, rows, _):
        weights, rest = carry
        place, (by_weights, by_place, into_z, bend, *others) = rows
        here = ops.sum(rest * place, axis=-1)
        total = here[:, None] + ops.sum(weights * by_place, axis=-1, keepdims=True)
        of_z = weights * bend - total * into_z
        for other in others:
            rest = rest + ops.einsum("bk,bkd->bd", of_z, other)
        return (weights - total * by_weights, rest), (of_z, weights)

    places = ops.eye(size, dtype=z.dtype)
    (weights, _), answers = scan(
        step, (ops.zeros_like(logits), cotangent), size, (places, tuple(ahead)), reverse=True
    )
    of_z, of_slopes = (ops.moveaxis(x, 0, -1) for x in stacked(answers))
    given = cotangent, weights, of_z, of_slopes
    return given if slopes is None else (*given, ops.zeros_like(slopes))


@serializable
class MixtureSample(keras.layers.Layer):
    """A point a row of a mixture density, with gradients for its weights (Graves, 2016).

    See `mixture_draw`. Sums are float32 under mixed precision.

    Args:
        family: "gaussian", "laplace" or "logistic".
        implicit: whether means and scales get the gradient of the quantile transform, too, and not
            that of the component that was chosen.
        weight_gradients: without them the logits get no gradient at all, as an ablation.
        path_only: whether the gradient of `log_prob` is that by way of the point alone. What it
            leaves out has mean 0 where `log_prob` is averaged, and leaves no variance where the
            mixture is what it is to become.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: `(batch, K)`.
        means: `(batch, K, D)`.
        scales: `(batch, K, D)` or `(batch, K, D, D)`, as in `mixture_draw`.
        seed: `(batch,)` int, which decides the point.

    Returns:
        The point, `(batch, D)`; its log-density under the mixture, `(batch,)`, nats; and the
        component that was chosen, `(batch,)` int32.

    Raises:
        ValueError: shapes do not fit, or there is no such family.

    Example:
        >>> scales, seed = keras.ops.zeros((2, 3, 4)), keras.ops.array([1, 2])
        >>> means = keras.ops.ones((2, 3, 4))
        >>> MixtureSample()(keras.ops.ones((2, 3)), means, scales, seed)[0].shape
        TensorShape([2, 4])

    Reference:
        Graves, "Stochastic Backpropagation through Mixture Density Distributions", 2016,
        arXiv:1607.05690.
    """

    gradient_of_mean = True

    def __init__(
        self,
        family: str = "gaussian",
        implicit: bool = False,
        weight_gradients: bool = True,
        path_only: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {sorted(FAMILIES)}, got {family!r}")
        self.family, self.implicit = family, bool(implicit)
        self.weight_gradients, self.path_only = bool(weight_gradients), bool(path_only)

    def call(self, logits, means, scales, seed):
        logits = logits if self.weight_gradients else ops.stop_gradient(logits)
        point, chosen = mixture_draw(logits, means, scales, seed, self.family, self.implicit)
        parameters = logits, means, scales
        if self.path_only:
            parameters = map(ops.stop_gradient, parameters)
        return point, mixture_log_prob(point, *parameters, self.family), chosen

    def compute_output_spec(self, logits, means, scales, seed):
        dtype = sum_dtype(logits.dtype)
        rows = means.shape[0]
        return (
            keras.KerasTensor((rows, means.shape[-1]), dtype),
            keras.KerasTensor((rows,), dtype),
            keras.KerasTensor((rows,), "int32"),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "family": self.family,
            "implicit": self.implicit,
            "weight_gradients": self.weight_gradients,
            "path_only": self.path_only,
        }
