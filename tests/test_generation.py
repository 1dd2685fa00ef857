"""Text of "Generating Sequences With Recurrent Neural Networks": what the paper claims of it."""

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
from ponderzoo.layers import AdaptiveWeightNoise

# Adaptive weight noise.


def noisy(examples=50, dtype="float64", inner=None, inputs=3):
    layer = AdaptiveWeightNoise(
        inner or keras.layers.Dense(4, dtype=dtype), examples, seed=1, dtype=dtype
    )
    layer.build((None, inputs))
    rng = np.random.default_rng(0)
    for mean, log_stddev in zip(layer.layer.trainable_variables, layer.log_stddevs):
        mean.assign(rng.normal(size=mean.shape))
        log_stddev.assign(rng.uniform(-3, 0, size=mean.shape))
    return layer


def posterior(layer):
    """Means and standard deviations of all weights, one behind the other."""
    means, logs = (
        np.concatenate([np.ravel(v) for v in some])
        for some in (layer.layer.trainable_variables, layer.log_stddevs)
    )
    return means, np.exp(logs)


def divergence(mean, stddev, m, v):
    """In nats, of independent Gaussians from N(m, v) (Graves, 2011)."""
    return np.sum(np.log(np.sqrt(v) / stddev) + ((mean - m) ** 2 + stddev**2 - v) / (2 * v))


def test_complexity_is_the_least_divergence_from_any_prior():
    layer = noisy()
    mean, stddev = posterior(layer)
    best = scipy.optimize.minimize(
        lambda x: divergence(mean, stddev, x[0], np.exp(x[1])), [1.0, 1.0], tol=1e-12
    )
    np.testing.assert_allclose(layer.complexity(), best.fun, rtol=1e-9)
    samples = mean + stddev * np.random.default_rng(2).normal(size=(200_000, mean.size))
    m, v = best.x[0], np.exp(best.x[1])
    logs = np.log(np.sqrt(v) / stddev) - ((samples - mean) / stddev) ** 2 / 2
    drawn = np.sum(logs + (samples - m) ** 2 / (2 * v), axis=1)
    assert abs(np.mean(drawn) - best.fun) < 5 * np.std(drawn) / np.sqrt(len(drawn))


def test_complexity_has_the_gradients_of_the_paper():
    layer = noisy()
    with tf.GradientTape() as tape:
        complexity = layer.complexity()
    variables = [*layer.layer.trainable_variables, *layer.log_stddevs]
    found = np.concatenate([np.ravel(g) for g in tape.gradient(complexity, variables)])
    mean, stddev = posterior(layer)
    m = mean.mean()
    v = np.mean(stddev**2 + (mean - m) ** 2)
    by_variance = (1 / v - 1 / stddev**2) / 2
    np.testing.assert_allclose(
        found, np.concatenate([(mean - m) / v, 2 * stddev**2 * by_variance]), rtol=1e-9
    )


def learn(layer, x, function=lambda step: step):
    """Output, losses and gradients of half the output's squares, the mean over rows."""

    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
            loss = tf.reduce_sum(y**2) / 2 / len(x)
        variables = [*layer.layer.trainable_variables, *layer.log_stddevs]
        return y, layer.losses, tape.gradient(loss, variables)

    return function(step)(tf.constant(x))


MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", MODES)
def test_weights_are_drawn_and_learn_by_the_squared_gradient(mode, dtype):
    rows = 1 if mode == "eager" else 3
    x = np.random.default_rng(3).normal(size=(rows, 3)).astype(dtype)
    y, (loss,), (kernel, bias, *logs) = learn(noisy(dtype=dtype), x, MODES[mode])
    same = noisy(dtype=dtype)  # whose generator begins again
    if mode == "eager":  # XLA has random numbers of its own
        drawn = [
            mean + np.exp(log) * same.noise(mean)
            for mean, log in zip(same.layer.trainable_variables, same.log_stddevs)
        ]
        np.testing.assert_allclose(y, x @ drawn[0] + drawn[1], rtol=1e-5)
    assert np.max(np.abs(y - same(x))) > 0.1
    np.testing.assert_allclose(kernel, x.T @ np.asarray(y) / rows, rtol=1e-4)
    np.testing.assert_allclose(bias, np.mean(y, axis=0), rtol=1e-4)
    for gradient, log, found in zip((kernel, bias), same.log_stddevs, logs):
        by_variance = rows * np.square(gradient) / 2
        np.testing.assert_allclose(found, 2 * np.exp(2 * np.asarray(log)) * by_variance, rtol=1e-4)
    np.testing.assert_allclose(loss, same.complexity() / 50, rtol=1e-5)


def test_the_mean_is_what_is_tested_and_what_an_inactive_layer_learns():
    layer, x = noisy(), np.ones((2, 3))
    exact = layer.layer(x)
    np.testing.assert_array_equal(layer(x), exact)
    assert not layer.losses
    layer.active.assign(0)
    y, (loss,), (*_, log, _) = learn(layer, x)
    np.testing.assert_array_equal(y, exact)
    assert loss == 0 and not np.any(log)


@pytest.mark.parametrize("bad", [{"examples": 0}, {"examples": 5, "stddev": 0.0}])
def test_impossible_noise_is_refused(bad):
    with pytest.raises(ValueError, match="must be more than 0; got 0"):
        AdaptiveWeightNoise(keras.layers.Dense(1), **bad)
