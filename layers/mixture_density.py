"""Densities over the next point of a pen: a mixture of Gaussians, and whether the stroke ends."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import RowLoss, bound, serializable, sum_dtype, whole
from ._distributions import bernoulli, bivariate_gaussian, mixture

# Without bounds the density of points that repeat themselves, or lie on a line, would have none.
LEAST_LOG_SIGMA = -7.0
MOST_RHO_HAT = 8.0


def mixture_components(parameters: Any, bias: Any = 0.0) -> dict[str, Any]:
    """What a network's outputs say of the next point (Graves, 2013, eqs. 15 to 22).

    Args:
        parameters: `(..., 6 * M + 1)`: the logit of no end of stroke, then for M components their
            logits, means along x and along y, logarithms of the standard deviations along x and
            along y, and what the correlations are the hyperbolic tangents of.
        bias: b of eqs. 61 and 62, 0 or more, a number or `(...)`: the larger, the neater.

    Returns:
        Dict: `end`, `(...)`, the logit of the stroke's end; and, each `(..., M)`, `log_pi`,
        normalised, `mean_x`, `mean_y`, `log_sigma_x`, `log_sigma_y` and `rho_hat`.

    Raises:
        ValueError: the last axis is no such size.
    """
    parameters = ops.convert_to_tensor(parameters)
    size = parameters.shape[-1]
    if size is None or size % 6 != 1 or size < 7:
        raise ValueError(f"parameters must be 6 * M + 1 numbers of a point; got {size}")
    count = size // 6
    pi, mean_x, mean_y, sigma_x, sigma_y, rho = (
        parameters[..., 1 + i * count : 1 + (i + 1) * count] for i in range(6)
    )
    bias = ops.cast(bias, parameters.dtype)[..., None]
    sigma_x, sigma_y = (ops.maximum(s, LEAST_LOG_SIGMA) - bias for s in (sigma_x, sigma_y))
    pi = pi * (1 + bias)
    return {
        "end": -parameters[..., 0],
        "log_pi": pi - ops.logsumexp(pi, axis=-1, keepdims=True),
        "mean_x": mean_x,
        "mean_y": mean_y,
        "log_sigma_x": sigma_x,
        "log_sigma_y": sigma_y,
        "rho_hat": ops.clip(rho, -MOST_RHO_HAT, MOST_RHO_HAT),
    }


def mixture_density_loss(points: Any, parameters: Any) -> Any:
    """Nats by point (Graves, 2013, eq. 26).

    Args:
        points: `(..., 3)`: offsets along x and y, and 1 where the stroke ends, else 0; -1 there
            stands for a point that is not scored.
        parameters: `(..., 6 * M + 1)`, as in `mixture_components`.

    Returns:
        `(...)`, float64 for float64 parameters and float32 for all others; 0 where nothing is
        scored, whatever the other numbers are.

    Raises:
        ValueError: shapes do not fit.
    """
    parameters = ops.convert_to_tensor(parameters)
    parameters = ops.cast(parameters, sum_dtype(parameters.dtype))
    points = ops.cast(points, parameters.dtype)
    if points.shape[-1] != 3:
        raise ValueError(f"a point must be 3 numbers, x, y and end; got {points.shape[-1]}")
    is_scored = points[..., 2] >= 0
    points = ops.where(is_scored[..., None], points, 0.0)
    parameters = ops.where(is_scored[..., None], parameters, 0.0)
    part = mixture_components(parameters)
    densities = bivariate_gaussian(
        points[..., 0, None] - part["mean_x"],
        points[..., 1, None] - part["mean_y"],
        part["log_sigma_x"],
        part["log_sigma_y"],
        part["rho_hat"],
    )
    likelihood = mixture(part["log_pi"], densities) + bernoulli(part["end"], points[..., 2])
    return ops.where(is_scored, -likelihood, 0.0)


def mixture_mean(parameters: Any) -> Any:
    """The mean of the next point's offsets, `(..., 2)`, of parameters as `mixture_components`."""
    part = mixture_components(parameters)
    pi = ops.exp(part["log_pi"])
    return ops.stack([ops.sum(pi * part[name], axis=-1) for name in ("mean_x", "mean_y")], axis=-1)


def mixture_sample(parameters: Any, uniforms: Any, normals: Any, bias: Any = 0.0) -> Any:
    """Draws the next point.

    Args:
        parameters: `(batch, 6 * M + 1)`, as in `mixture_components`.
        uniforms: `(batch, 2)`, numbers of chance in [0, 1): for the component, and for the end.
        normals: `(batch, 2)`, of the standard normal distribution.
        bias: `(batch,)` or a number, as in `mixture_components`.

    Returns:
        `(batch, 3)`: offsets along x and y, and 1 where the stroke ends, else 0.
    """
    part = mixture_components(parameters, bias)
    below = ops.cumsum(ops.exp(part["log_pi"]), axis=-1)
    # Rounding may leave the sum of all below 1: the last component that has any weight is taken.
    chosen = ops.cast(below <= uniforms[:, :1] * below[:, -1:], "int32")
    count = part["log_pi"].shape[-1]
    chosen = ops.minimum(ops.sum(chosen, axis=-1, keepdims=True), count - 1)
    one = {
        name: ops.take_along_axis(x, chosen, axis=-1)[:, 0]
        for name, x in part.items()
        if name != "end"
    }
    rho = ops.tanh(one["rho_hat"])
    rest = 1 / ops.cosh(one["rho_hat"])  # sqrt(1 - rho^2)
    x = one["mean_x"] + ops.exp(one["log_sigma_x"]) * normals[:, 0]
    turned = rho * normals[:, 0] + rest * normals[:, 1]
    y = one["mean_y"] + ops.exp(one["log_sigma_y"]) * turned
    end = ops.cast(uniforms[:, 1] < ops.sigmoid(part["end"]), x.dtype)
    return ops.stack([x, y, end], axis=-1)


@serializable
class MixtureDensityLoss(RowLoss):
    """Nats of each row's points, added up, averaged over rows (Graves, 2013, eq. 26).

    Densities may be above 1, so that the loss may be below 0.

    Args:
        reduction: of the losses of the rows, as Keras names them.
        name: of the loss.

    Call arguments:
        y_true: `(batch, ..., 3)` and y_pred: `(batch, ..., 6 * M + 1)`, as in
            `mixture_density_loss`.

    Example:
        >>> points = keras.ops.array([[[0.5, 0.0, 1.0], [0.0, 0.0, -1.0]]])
        >>> round(float(MixtureDensityLoss()(points, keras.ops.zeros((1, 2, 13)))), 4)
        2.656
    """

    def __init__(
        self, reduction: str = "sum_over_batch_size", name: str = "mixture_density", **kwargs: Any
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true, y_pred):
        nats = mixture_density_loss(y_true, y_pred)
        return ops.sum(nats, axis=list(range(1, len(nats.shape))))


@serializable
class MixtureDensity(keras.layers.Dense):
    """The linear outputs of which a density over the next point is made, `6 * M + 1` of them.

    Args:
        components: M, Gaussians of the mixture.
        clip_derivatives: bound of the loss's derivatives by each output (Graves, 2013, section
            4.2), or 0 for none.
        **kwargs: of `keras.layers.Dense`, but its units.

    Call arguments:
        inputs: `(..., features)`.

    Returns:
        `(..., 6 * M + 1)`, as in `mixture_components`.

    Raises:
        ValueError: `components` is no whole number from 1 on, or the bound is below 0.

    Example:
        >>> MixtureDensity(2)(keras.ops.ones((2, 3, 4))).shape
        TensorShape([2, 3, 13])
    """

    def __init__(
        self, components: int = 20, clip_derivatives: float = 100.0, **kwargs: Any
    ) -> None:
        self.components = whole("components", components, 1)
        super().__init__(6 * self.components + 1, **kwargs)
        self.clip_derivatives = bound("clip_derivatives", clip_derivatives)

    def call(self, inputs, training=None):
        outputs = super().call(inputs, training=training)
        if not self.clip_derivatives:
            return outputs
        most = self.clip_derivatives

        def cut(_, cotangents):
            return (ops.clip(cotangents[0], -most, most),)

        clip = backend.differentiable(lambda x: (x,), lambda x: ((x,), ()), cut)
        return clip(outputs)[0]

    def get_config(self):
        config = super().get_config()
        del config["units"]
        return {
            **config,
            "components": self.components,
            "clip_derivatives": self.clip_derivatives,
        }
