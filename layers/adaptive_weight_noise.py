"""Gaussian noise on the weights of a layer, as strong for each as the data allow."""

import math
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import serializable, sum_dtype
from ._noisy import NoisyWeights


@serializable
class AdaptiveWeightNoise(NoisyWeights):
    """A layer whose weights are distributions, learnt by their description length (Graves, 2011).

    Every weight has a Gaussian posterior with a mean, which is the layer's own variable, and a
    standard deviation s, learnt as its logarithm. A call with `training=True` draws all weights
    from it, the same ones for all rows of the batch; otherwise the layer runs with the means. What
    the weights cost beside the data is the divergence of the posterior from a Gaussian prior, whose
    mean m and variance v are the best ones for all weights of the layer at every update:

        m = mean(mean_i)
        v = mean(s_i^2 + (mean_i - m)^2)
        complexity = sum_i log(sqrt(v) / s_i) + ((mean_i - m)^2 + s_i^2 - v) / 2 v

    in nats. Its share of a training example, `complexity / examples`, is added as a loss while the
    layer is trained, so the loss of the data must be the mean over the rows of a batch, of nats a
    row. The loss of the data has the curvature of its squared gradient,

        d/d mean_i = g_i
        d/d s_i^2 = rows * g_i^2 / 2

    with g the gradient at the weights that were drawn. That is exact for a batch of one row; for
    more, the gradients of rows count as if they had a mean of 0. A replica has its own rows.

    Where the paper has one prior for a whole network, each layer that is wrapped has its own here.

    Args:
        layer: the layer, or a block of layers.
        examples: rows of the training set.
        stddev: of all weights at first; the paper's is 0.075.
        seed: of the noise.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: what the layer takes; its further arguments by name.
        training: whether to draw the weights.

    Returns:
        What the layer returns.

    Raises:
        ValueError: `examples` or `stddev` is not more than 0.

    Attributes:
        active: a scalar that is not trained, 1 or 0; with 0 the weights are their means and cost
            nothing.

    Example:
        >>> layer = AdaptiveWeightNoise(keras.layers.Dense(4), examples=100)
        >>> layer(keras.ops.ones((2, 3))).shape
        TensorShape([2, 4])

    Reference:
        Graves, "Practical Variational Inference for Neural Networks", 2011; Graves, "Generating
        Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850, section 3.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        examples: float,
        stddev: float = 0.075,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, seed, **kwargs)
        for name, value in (("examples", examples), ("stddev", stddev)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be more than 0; got {value!r}")
        self.examples, self.stddev = float(examples), float(stddev)

    def build(self, input_shape):
        super().build(input_shape)
        start = keras.initializers.Constant(math.log(self.stddev))
        self.log_stddevs = [
            self.add_weight(v.shape, start, dtype=v.dtype, name=f"log_stddev_{i}")
            for i, v in enumerate(self.layer.trainable_variables)
        ]

    def call(self, inputs, training=False, **kwargs):
        outputs = super().call(inputs, training=training, **kwargs)
        if training:
            self.add_loss(backend.value(self.active) * self.complexity() / self.examples)
        return outputs

    def disturbed(self, rows):
        active = backend.value(self.active)
        rows = ops.cast(rows, active.dtype) * active
        return [
            _drawn(backend.value(mean), backend.value(log_stddev), self.noise(mean), rows)
            for mean, log_stddev in self._weights
        ]

    @property
    def _weights(self):
        return [*zip(self.layer.trainable_variables, self.log_stddevs, strict=True)]

    @property
    def posterior(self):
        """Means and logarithms of standard deviations of all weights, a list of pairs of tensors.

        They are float32, or float64 where the weights are.
        """
        return [
            [ops.cast(backend.value(x), sum_dtype(x.dtype)) for x in pair] for pair in self._weights
        ]

    def complexity(self):
        """What all weights cost, in nats, `()` float32, or float64 where they are."""
        # The prior is the best one: where it moves the complexity does not, and its second term is
        # 0.
        posterior = self.posterior
        variance = _mean(ops.exp(2 * s) + ops.square(m) for m, s in _centred(posterior))
        return sum(ops.sum(ops.log(variance) / 2 - s) for _, s in posterior)

    def complexity_gain(self, before):
        """By what `complexity` is more than it was, in nats, `()`, told apart where that is little.

        Args:
            before: the `posterior` that was.
        """
        now, then = _centred(self.posterior), _centred(before)
        variance = _mean(ops.exp(2 * s) + ops.square(m) for m, s in then)
        more = _mean(
            ops.expm1(2 * (s - s_then)) * ops.exp(2 * s_then) + (m - m_then) * (m + m_then)
            for (m, s), (m_then, s_then) in zip(now, then, strict=True)
        )
        return sum(
            ops.sum(ops.log1p(more / variance) / 2 - (s - s_then))
            for (_, s), (_, s_then) in zip(now, then, strict=True)
        )

    def get_config(self):
        return {**super().get_config(), "examples": self.examples, "stddev": self.stddev}


def _mean(tensors):
    """Of all entries of several tensors."""
    tensors = list(tensors)
    return sum(map(ops.sum, tensors)) / sum(math.prod(x.shape) for x in tensors)


def _centred(posterior):
    """The same with means from which their own mean is taken away."""
    middle = _mean(mean for mean, _ in posterior)
    return [(mean - middle, log_stddev) for mean, log_stddev in posterior]


def _drawn(mean, log_stddev, noise, rows):
    """`mean + exp(log_stddev) * noise`, with the gradients that `AdaptiveWeightNoise` says."""

    def primal(mean, log_stddev, noise, rows):
        return (mean + ops.exp(log_stddev) * noise,)

    def forward(mean, log_stddev, noise, rows):
        return primal(mean, log_stddev, noise, rows), (log_stddev, rows)

    def backward(residuals, cotangents):
        (gradient,), (log_stddev, rows) = cotangents, residuals
        return gradient, rows * ops.square(ops.exp(log_stddev) * gradient), None, None

    (weights,) = backend.differentiable(primal, forward, backward)(
        mean, log_stddev, noise, ops.cast(rows, mean.dtype)
    )
    return weights
