"""Gradients of samples of mixtures: by hand, by numerical inversion, and as means they estimate."""

import json

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from ponderzoo import zoo
from ponderzoo.layers import MixtureSample, mixture_draw, mixture_log_prob, mixture_path
from ponderzoo.layers._distributions import FAMILIES

SCIPY = {
    "gaussian": scipy.stats.norm,
    "laplace": scipy.stats.laplace,
    "logistic": scipy.stats.logistic,
}
each_family = pytest.mark.parametrize("family", FAMILIES)


def parameters(rows=5, count=3, size=2, full=False, spread=1.0, seed=0):
    """Logits, means and scales of mixtures, float64."""
    rng = np.random.default_rng(seed)
    scales = 0.3 * rng.normal(size=(rows, count, size, *[size] * full)) - 0.2
    return rng.normal(size=(rows, count)), spread * rng.normal(size=(rows, count, size)), scales


def points_of(logits, means, scales, seed=0, family="gaussian"):
    seeds = np.arange(len(logits), dtype="int32") + 1000 * seed
    return mixture_draw(logits, means, scales, seeds, family)[0].numpy()


def factor_of(scales):
    """The factors of scales, lower triangular, by numpy."""
    if scales.ndim == 3:
        return np.exp(scales)[..., None] * np.eye(scales.shape[-1])
    diagonal = np.einsum("bkii->bki", scales)
    return np.tril(scales, -1) + np.exp(diagonal)[..., None] * np.eye(scales.shape[-1])


def conditionals(points, logits, means, scales, family):
    """Density and distribution of each coordinate given those before, `(batch, D)` (section 2)."""
    law, weights = SCIPY[family], scipy.special.softmax(logits, axis=-1)
    slopes = np.linalg.inv(factor_of(scales))
    density, below = [], []
    z = np.einsum("bkij,bkj->bki", slopes, points[:, None] - means)
    for d in range(points.shape[1]):
        each = law.pdf(z[..., d]) * slopes[..., d, d]
        density.append((weights * each).sum(axis=1))
        below.append((weights * law.cdf(z[..., d])).sum(axis=1))
        weights = weights * each / np.maximum(density[-1], 1e-300)[:, None]
    return np.stack(density, axis=1), np.stack(below, axis=1)


def inverted(uniform, logits, means, scales, family):
    """The points of uniform numbers, by bisection of one conditional distribution after another."""
    points = np.zeros_like(uniform)
    for d in range(uniform.shape[1]):
        low, high = np.full(len(points), -60.0), np.full(len(points), 60.0)
        for _ in range(80):
            points[:, d] = (low + high) / 2
            _, below = conditionals(points, logits, means, scales, family)
            is_low = below[:, d] < uniform[:, d]
            low, high = np.where(is_low, points[:, d], low), np.where(is_low, high, points[:, d])
    return points


def gradients(weights, points, *given, run=lambda f: f, family="gaussian"):
    """Of the weighed sum of points of the quantile transform, by logits, means and scales."""

    def pulled(weights, points, *given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            moved = mixture_path(points, *given, family)
            total = tf.reduce_sum(moved * weights)
        return moved, tape.gradient(total, given)

    tensors = [tf.constant(x) for x in (weights, points, *given)]
    moved, found = run(pulled)(*tensors)
    np.testing.assert_array_equal(moved, points)
    return [x.numpy() for x in found]


def forward(weights, points, logits, means, scales):
    """The same of Gaussians by the forward recursion of section 2, one parameter after another."""
    _, count, size = means.shape
    sigma = np.exp(scales)
    z = (points[:, None] - means) / sigma
    f, cdf = scipy.stats.norm.pdf(z) / sigma, scipy.stats.norm.cdf(z)
    chances = scipy.special.softmax(logits, axis=-1)

    def moved(by_weights, by_cdf, by_log):
        p, by_p, total = chances, by_weights, 0.0
        for d in range(size):
            change = p * (by_p - (p * by_p).sum(axis=1, keepdims=True))
            density = (p * f[..., d]).sum(axis=1)
            dx = -(change * cdf[..., d] + p * by_cdf[..., d]).sum(axis=1) / density
            total = total + weights[:, d] * dx
            by_p = by_p - z[..., d] / sigma[..., d] * dx[:, None] + by_log[..., d]
            p = p * f[..., d] / density[:, None]
        return total

    zero, answers = np.zeros_like(means), [np.zeros_like(x) for x in (logits, means, scales)]
    for k in range(count):
        one = np.eye(count)[k] - chances[:, k : k + 1]
        answers[0][:, k] = moved(one, zero, zero)
        for d in range(size):
            here = np.zeros_like(means)
            here[:, k, d] = 1
            answers[1][:, k, d] = moved(0 * logits, -here * f, here * z / sigma)
            answers[2][:, k, d] = moved(0 * logits, -here * f * z * sigma, here * (z**2 - 1))
    return answers


# Exact: by hand, and by the quantile transform itself.


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_gradient_is_that_of_the_forward_recursion(count, size):
    given = parameters(count=count, size=size)
    points, weights = points_of(*given), np.random.default_rng(1).normal(size=(5, size))
    found, expected = gradients(weights, points, *given), forward(weights, points, *given)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@each_family
@pytest.mark.parametrize("full, size", [(False, 2), (True, 2), (True, 3)])
def test_the_gradient_is_that_of_points_at_given_uniform_numbers(family, full, size):
    """Also where components have covariances, and where Gaussians are something else."""
    given = parameters(full=full, size=size)
    points = points_of(*given, family=family)
    _, uniform = conditionals(points, *given, family)
    np.testing.assert_allclose(inverted(uniform, *given, family), points, atol=1e-10)
    rng = np.random.default_rng(2)
    weights, step = rng.normal(size=points.shape), 1e-5
    found = gradients(weights, points, *given, family=family)
    for place, gradient in enumerate(found):
        direction = rng.normal(size=gradient.shape)
        moved = []
        for sign in (1, -1):
            changed = list(given)
            changed[place] = given[place] + sign * step * direction
            moved.append((weights * inverted(uniform, *changed, family)).sum(axis=1))
        slope = (moved[0] - moved[1]) / (2 * step)
        axes = tuple(range(1, gradient.ndim))
        np.testing.assert_allclose((gradient * direction).sum(axis=axes), slope, atol=3e-7)


def test_the_jacobian_that_is_served_is_that_of_points_at_given_uniform_numbers():
    """By finite differences of the numerical inversion, a logit after the other."""
    entry = zoo.info("mixture_fit")
    model = zoo.build("mixture_fit", components=3)
    serve = entry.signatures(model, zoo.task_of(entry))["draw"]
    given = parameters(rows=6, count=3)
    names = "logits", "means", "log_deviations"
    inputs = {name: tf.constant(x, "float32") for name, x in zip(names, given)}
    found = serve.function(**inputs, seed=tf.range(6))
    given = [inputs[name].numpy().astype("float64") for name in names]
    logits, *rest = given
    _, uniform = conditionals(found["sample"].numpy().astype("float64"), *given, "gaussian")

    def at(logits):
        return inverted(uniform, logits, *rest, "gaussian")

    expected = [(at(logits + way) - at(logits - way)) / 2e-5 for way in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(
        found["jacobian"].numpy(), np.stack(expected, axis=-1), rtol=1e-3, atol=1e-4
    )
    log_prob = np.log(np.prod(conditionals(found["sample"].numpy(), *given, "gaussian")[0], axis=1))
    np.testing.assert_allclose(found["log_prob"].numpy(), log_prob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["logits", "means", "log_deviations"])
def test_a_mixture_that_is_served_is_of_finite_numbers(name):
    entry = zoo.info("mixture_fit")
    draw = entry.signatures(zoo.build("mixture_fit"), zoo.task_of(entry))["draw"]
    inputs = {key: tf.constant(value) for key, value in draw.sample.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must be finite, got"):
        draw.function(**inputs | {name: inputs[name] * np.nan})


def test_one_coordinate_has_the_closed_form():
    logits, means, scales = parameters(size=1)
    points = points_of(logits, means, scales)
    z = (points[:, None] - means)[..., 0] / np.exp(scales[..., 0])
    each, below = scipy.stats.norm.pdf(z) / np.exp(scales[..., 0]), scipy.stats.norm.cdf(z)
    chances = scipy.special.softmax(logits, axis=-1)
    density, total = ((chances * x).sum(axis=1, keepdims=True) for x in (each, below))
    share = chances * each / density
    found = gradients(np.ones_like(points), points, logits, means, scales)
    np.testing.assert_allclose(found[0], -chances * (below - total) / density, atol=1e-12)
    np.testing.assert_allclose(found[1][..., 0], share, atol=1e-12)
    np.testing.assert_allclose(found[2][..., 0], share * z * np.exp(scales[..., 0]), atol=1e-12)


@each_family
@pytest.mark.parametrize("full", [False, True])
def test_shifting_all_means_shifts_the_point_and_shifting_all_logits_does_nothing(family, full):
    given = parameters(count=4, size=3, full=full)
    points = points_of(*given, family=family)
    for d in range(3):
        weights = np.eye(3)[[d] * 5]
        logits, means, _ = gradients(weights, points, *given, family=family)
        np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(means.sum(axis=1), weights, atol=1e-12)


@each_family
@pytest.mark.parametrize("implicit", [False, True])
def test_one_component_is_a_location_and_a_scale(family, implicit):
    logits, means, scales = map(tf.constant, parameters(count=1))
    with tf.GradientTape() as tape:
        tape.watch((logits, means, scales))
        points, chosen = mixture_draw(logits, means, scales, np.arange(5), family, implicit)
        total = tf.reduce_sum(points)
    found = tape.gradient(total, (logits, means, scales))
    assert not chosen.numpy().any() and not found[0].numpy().any()
    np.testing.assert_allclose(found[1], np.ones((5, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found[2], points[:, None] - means, rtol=1e-11)


def test_equal_components_have_weights_without_effect():
    logits, means, scales = parameters()
    means, scales = means[:, :1] + 0 * means, scales[:, :1] + 0 * scales
    points = points_of(logits, means, scales)
    assert np.abs(gradients(np.ones((5, 2)), points, logits, means, scales)[0]).max() < 1e-13


# What is drawn.


@each_family
@pytest.mark.parametrize("full", [False, True])
def test_points_are_distributed_as_they_should_be(family, full):
    given = [np.repeat(x, 4000, axis=0) for x in parameters(rows=1, full=full)]
    points, chosen = mixture_draw(*given, np.arange(4000), family)
    chances = scipy.special.softmax(given[0][0])
    counts = np.bincount(chosen, minlength=3)
    assert scipy.stats.chisquare(counts, 4000 * chances).pvalue > 1e-4
    _, uniform = conditionals(points.numpy(), *given, family)
    for some in uniform.T:
        assert scipy.stats.kstest(some, "uniform").pvalue > 1e-4


@each_family
@pytest.mark.parametrize("full", [False, True])
def test_the_density_is_the_product_of_the_conditional_ones(family, full):
    given = parameters(size=3, full=full)
    points = points_of(*given, family=family)
    density, _ = conditionals(points, *given, family)
    found = mixture_log_prob(points, *given, family)
    np.testing.assert_allclose(found, np.log(density).sum(axis=1), rtol=1e-11)


def test_a_point_depends_on_its_own_seed_alone():
    given = parameters(rows=4)
    seeds = np.array([7, 7, 8, -1])
    together, chosen = mixture_draw(*given, seeds)
    for row in range(4):
        alone, one = mixture_draw(*(x[row : row + 1] for x in given), seeds[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-12)
        assert one[0] == chosen[row]


# Means of functions, whose gradients are estimated without bias.


@pytest.mark.parametrize("implicit", [False, True])
def test_gradients_are_those_of_the_mean(implicit):
    """Within 4 standard errors, by means of batches, for all parameters."""
    rows, batches = 20_000, 30
    logits, means, scales = parameters(rows=1, size=4, spread=0.7)
    matrix = np.array(
        [[1.0, 0.5, 0.0, 0.2], [0.5, -0.6, 0.3, 0.0], [0, 0.3, 0.8, -0.4], [0.2, 0, -0.4, 1]]
    )

    @tf.function
    def estimate(seed, *given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            wide = [tf.repeat(x, rows, axis=0) for x in given]
            points, _ = mixture_draw(*wide, seed, implicit=implicit)
            mean = tf.reduce_mean(tf.einsum("bi,ij,bj->b", points, matrix, points))
        return tape.gradient(mean, given)

    given = [tf.constant(x) for x in (logits, means, scales)]
    found = [estimate(tf.range(rows) + number * rows, *given) for number in range(batches)]
    chances = scipy.special.softmax(logits[0])
    each = np.einsum("ki,ij,kj->k", means[0], matrix, means[0])
    each += np.exp(2 * scales[0]) @ np.diag(matrix)
    expected = (
        chances * (each - chances @ each),
        2 * chances[:, None] * means[0] @ matrix,
        2 * chances[:, None] * np.exp(2 * scales[0]) * np.diag(matrix),
    )
    for place, truth in enumerate(expected):
        some = np.stack([np.asarray(one[place])[0] for one in found])
        error = some.std(axis=0, ddof=1) / np.sqrt(batches)
        assert (np.abs(some.mean(axis=0) - truth) < 4 * error).all()
        assert (error < 0.05).all()


def test_where_components_overlap_it_varies_less_than_score_functions():
    """Here alone: between modes that are far apart the inverse of the density has no bound."""
    rows = 20_000
    one = parameters(rows=1, size=4, spread=0.5)
    given = [tf.constant(np.repeat(x, rows, axis=0)) for x in one]
    with tf.GradientTape() as tape:
        tape.watch(given)
        points, chosen = mixture_draw(*given, np.arange(rows))
        cost = tf.reduce_sum(tf.square(points), axis=1)
    path = tape.gradient(cost, given[0]).numpy()
    with tf.GradientTape() as tape:
        tape.watch(given)
        log_prob = mixture_log_prob(tf.stop_gradient(points), *given)
    cost = (cost - tf.reduce_mean(cost)).numpy()[:, None]
    marginal = cost * tape.gradient(log_prob, given[0]).numpy()
    discrete = cost * (np.eye(3)[chosen] - scipy.special.softmax(one[0], axis=-1))
    assert (path.std(axis=0) < 0.7 * marginal.std(axis=0)).all()
    assert (path.std(axis=0) < 0.7 * discrete.std(axis=0)).all()


# In float32, in every mode, and at the edges.

MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


@each_family
@pytest.mark.parametrize("full", [False, True])
def test_float32_in_every_mode_has_the_gradient_of_float64(family, full):
    given = parameters(rows=40, count=4, size=3, full=full)
    points = points_of(*given, family=family).astype("float32")
    arrays = [np.float32(x) for x in (np.ones_like(points), points, *given)]
    truth = gradients(*map(np.float64, arrays), family=family)
    for run in MODES.values():
        for found, expected in zip(gradients(*arrays, run=run, family=family), truth, strict=True):
            assert found.dtype == "float32"
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found, expected, atol=2e-5 * scale)


@pytest.mark.parametrize("scale", [-4.0, -8.0, -10.0])
def test_a_narrow_component_far_away_costs_no_digits(scale):
    *given, scales = parameters(rows=20, count=3, size=4)
    scales[:, 1, 2] = scale
    points = points_of(*given, np.zeros_like(scales)).astype("float32")
    arrays = [np.float32(x) for x in (np.ones_like(points), points, *given, scales)]
    truth = gradients(*map(np.float64, arrays))
    for found, expected in zip(gradients(*arrays), truth, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("far", [5.0, 7.0])
def test_tails_keep_their_digits(side, far):
    """Where the distribution is 1 but for 1e-7 or 1e-12, and so is that of every component."""
    logits = np.array([[0.0, 0.5, -1.0]])
    means, scales = np.array([[[0.0], [0.1], [-0.2]]]), np.array([[[0.0], [0.05], [0.1]]])
    points = np.array([[side * far]])
    truth = gradients(np.ones((1, 1)), points, logits, means, scales)
    by_hand = forward(np.ones((1, 1)), points, logits, means, scales)
    if side < 0:  # on the other side float64 has none left
        np.testing.assert_allclose(truth[0], by_hand[0], rtol=1e-9)
    arrays = [np.float32(x) for x in (np.ones((1, 1)), points, logits, means, scales)]
    for found, expected in zip(gradients(*arrays), truth, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_tails_are_mirrored():
    given = parameters(rows=8, size=2)
    points = 4 * np.random.default_rng(3).normal(size=(8, 2))
    one = gradients(np.ones((8, 2)), points, *given)
    other = gradients(-np.ones((8, 2)), -points, given[0], -given[1], given[2])
    for found, expected, sign in zip(one, other, (1, -1, 1), strict=True):
        np.testing.assert_allclose(found, sign * expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("logit", [-30.0, -200.0, -1e9])
def test_a_weight_next_to_nothing_does_no_harm(logit):
    logits, means, scales = parameters()
    logits[:, 1] = logit
    points = points_of(logits, means, scales)
    found = gradients(np.ones((5, 2)), points, logits, means, scales)
    keep = [0, 2]
    rest = gradients(np.ones((5, 2)), points, *(x[:, keep] for x in (logits, means, scales)))
    for one, other in zip(found, rest, strict=True):
        np.testing.assert_allclose(one[:, keep], other, atol=1e-9)
        assert np.abs(one[:, 1]).max() < 1e-9


def test_between_modes_that_are_far_apart_gradients_are_large_and_finite():
    logits, scales = np.zeros((1, 2), "float32"), np.zeros((1, 2, 2), "float32")
    means = np.array([[[-30.0, -30.0], [30.0, 30.0]]], "float32")
    for place in (0.0, 29.0, 60.0, 1e4):
        points = np.full((1, 2), place, "float32")
        for found in gradients(np.ones((1, 2), "float32"), points, logits, means, scales):
            assert np.isfinite(found).all()


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("full", [False, True])
def test_no_row_and_one_row(rows, full):
    given = [np.float32(x[:rows]) for x in parameters(full=full)]
    points = points_of(*given)
    assert points.shape == (rows, 2)
    found = gradients(np.ones_like(points), points, *given)
    assert [x.shape for x in found] == [x.shape for x in given]
    assert mixture_log_prob(points, *given).shape == (rows,)


@pytest.mark.parametrize(
    "logits, means, scales",
    [((2, 3), (2, 4, 2), (2, 4, 2)), ((2, 3), (2, 3, 2), (2, 3)), ((3,), (2, 3, 2), (2, 3, 2))],
)
def test_shapes_that_do_not_fit_are_named(logits, means, scales):
    given = np.zeros(logits), np.zeros(means), np.zeros(scales)
    with pytest.raises(ValueError, match=r"a mixture must have logits \(batch, K\).*got \(\("):
        mixture_draw(*given, np.arange(2))
    with pytest.raises(ValueError, match=r"family must be one of .*'cauchy'"):
        MixtureSample("cauchy")


def test_the_layer_without_weight_gradients_leaves_logits_alone():
    logits, means, scales = map(tf.constant, parameters())
    for learns in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            layer = MixtureSample(weight_gradients=learns, dtype="float64")
            point, log_prob, _ = layer(logits, means, scales, tf.range(5))
            total = tf.reduce_sum(point) + tf.reduce_sum(log_prob)
        assert (tape.gradient(total, logits) is not None) == learns


def test_the_gradient_by_the_path_alone_has_no_variance_at_the_optimum():
    """Where q is p, log q - log p is 0 everywhere, and so is its slope by the point."""
    given = [tf.constant(x) for x in parameters()]
    for path_only, still in ((True, True), (False, False)):
        with tf.GradientTape() as tape:
            tape.watch(given)
            layer = MixtureSample(path_only=path_only, implicit=True, dtype="float64")
            point, log_q, _ = layer(*given, tf.range(5))
            log_p = mixture_log_prob(point, *map(tf.stop_gradient, given))
            total = tf.reduce_sum(log_q - log_p)
        largest = max(float(tf.reduce_max(tf.abs(x))) for x in tape.gradient(total, given))
        assert (largest < 1e-12) == still


JAX = """
import json
import jax

jax.config.update("jax_enable_x64", True)
import numpy as np
from test_mixture_gradients import parameters
from ponderzoo.layers import mixture_draw, mixture_path

answers = {}
for full in (False, True):
    given = parameters(full=full)
    points, _ = mixture_draw(*given, np.arange(5))

    def total(*given):
        return mixture_path(points, *given).sum()

    found = jax.jit(jax.grad(total, (0, 1, 2)))(*given)
    answers[full] = [np.asarray(x).tolist() for x in (points, *found)]
print(json.dumps([answers[False], answers[True]]))
"""


def test_jax_has_the_same_points_and_gradients(fresh):
    said = json.loads(fresh(JAX, backend="jax").splitlines()[-1])
    for full, (points, *found) in zip((False, True), said, strict=True):
        given = parameters(full=full)
        np.testing.assert_allclose(points, points_of(*given), rtol=1e-6)
        truth = gradients(np.ones((5, 2)), np.array(points), *given)
        for one, other in zip(found, truth, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


def test_it_costs_no_more_operations_for_more_coordinates():
    """The graph of 64 coordinates is that of 4: a loop, and no Jacobian."""

    def count(size):
        given = [tf.constant(np.float32(x)) for x in parameters(size=size)]

        def pulled(points, *given):
            with tf.GradientTape() as tape:
                tape.watch(given)
                total = tf.reduce_sum(mixture_path(points, *given))
            return tape.gradient(total, given)

        points = tf.zeros((5, size))
        graph = tf.function(pulled).get_concrete_function(points, *given).graph
        return len(graph.get_operations())

    assert count(64) == count(4)
