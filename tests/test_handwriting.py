"""What the handwriting networks say of their own mechanisms (Graves, 2013, sections 4 and 5)."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from ponderzoo.layers import (
    MixtureDensity,
    MixtureDensityLoss,
    PeepholeLSTM,
    WindowLSTM,
    mixture_components,
    mixture_density_loss,
    mixture_mean,
    mixture_sample,
)

COUNT = 3


def draw_parameters(*shape, dtype="float64"):
    return np.random.default_rng(1).normal(size=(*shape, 6 * COUNT + 1)).astype(dtype)


def draw_points(*shape):
    points = np.random.default_rng(2).normal(size=(*shape, 3))
    points[..., 2] = points[..., 2] > 0.5
    return points


def of_paper(y):
    """Eqs. 18 to 22."""
    pi, m1, m2, s1, s2, rho = np.split(y[1:], 6)
    return 1 / (1 + np.exp(y[0])), scipy.special.softmax(pi), m1, m2, np.exp(s1), np.exp(s2), rho


def density_of_paper(y, x):
    """Eq. 23, by another library."""
    end, pi, m1, m2, s1, s2, rho_hat = of_paper(y)
    rho, total = np.tanh(rho_hat), 0.0
    for j in range(COUNT):
        cross = rho[j] * s1[j] * s2[j]
        cov = [[s1[j] ** 2, cross], [cross, s2[j] ** 2]]
        total += pi[j] * scipy.stats.multivariate_normal([m1[j], m2[j]], cov).pdf(x[:2])
    return total * (end if x[2] else 1 - end)


def gradient_of_paper(y, x):
    """Eqs. 30 to 37, but for the sign of e: the paper's 1 / (1 + exp(e)) falls as e grows."""
    end, pi, m1, m2, s1, s2, rho_hat = of_paper(y)
    rho, x1, x2 = np.tanh(rho_hat), x[0] - m1, x[1] - m2
    z = (x1 / s1) ** 2 + (x2 / s2) ** 2 - 2 * rho * x1 * x2 / (s1 * s2)
    c = 1 / (1 - rho**2)
    density = np.exp(-c * z / 2) * np.sqrt(c) / (2 * np.pi * s1 * s2)
    gamma = pi * density / np.sum(pi * density)
    return np.concatenate(
        [
            [x[2] - end],
            pi - gamma,
            -gamma * c / s1 * (x1 / s1 - rho * x2 / s2),
            -gamma * c / s2 * (x2 / s2 - rho * x1 / s1),
            -gamma * (c * x1 / s1 * (x1 / s1 - rho * x2 / s2) - 1),
            -gamma * (c * x2 / s2 * (x2 / s2 - rho * x1 / s1) - 1),
            -gamma * (x1 * x2 / (s1 * s2) + rho * (1 - c * z)),
        ]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
def test_density_and_gradient_are_the_papers(way, dtype):
    parameters, points = draw_parameters(5), draw_points(5)
    run = {"eager": lambda f: f, "graph": tf.function}.get(
        way, lambda f: tf.function(f, jit_compile=True)
    )

    @run
    def step(y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            loss = mixture_density_loss(points, y)
        return loss, tape.gradient(loss, y)

    loss, gradient = step(tf.constant(parameters, dtype))
    assert loss.dtype == dtype
    pairs = list(zip(parameters, points))
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    expected = [-np.log(density_of_paper(*pair)) for pair in pairs]
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
    expected = [gradient_of_paper(*pair) for pair in pairs]
    np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=10 * tolerance)


def test_densities_of_both_ends_add_up_to_one_over_the_plane():
    grid = np.linspace(-12, 12, 241)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    total = 0.0
    for end in (0.0, 1.0):
        points = np.stack([x, y, np.full_like(x, end)], axis=-1)
        parameters = np.tile(0.5 * draw_parameters(), (len(x), 1))
        total += np.exp(-mixture_density_loss(points, parameters)).sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3], ids=str)
def test_no_output_of_a_network_makes_a_loss_or_gradient_that_is_no_number(scale):
    parameters = tf.constant(scale * draw_parameters(50, dtype="float32"))
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        loss = mixture_density_loss(np.zeros((50, 3)), tf.minimum(parameters, 80.0))
    gradient = tape.gradient(loss, parameters)
    assert not np.isnan(loss).any() and not np.isnan(gradient).any()


def test_points_that_repeat_themselves_have_a_finite_density():
    still = np.zeros((1, 6 * COUNT + 1), "float32")
    still[:, 1 + 3 * COUNT : 1 + 5 * COUNT] = -1e3  # ever smaller standard deviations
    nats = float(mixture_density_loss(np.zeros((1, 3)), still)[0])
    assert nats == pytest.approx(np.log(2 * np.pi) - 2 * 7 + np.log(2), rel=1e-5)


def test_a_row_costs_the_sum_of_the_points_that_are_scored():
    parameters, points = draw_parameters(2, 4), draw_points(2, 4)
    each = np.asarray(mixture_density_loss(points, parameters))
    points[1, 2:] = [np.nan, np.inf, -1]
    parameters[1, 2:] = np.nan
    with tf.GradientTape() as tape:
        y = tf.constant(parameters)
        tape.watch(y)
        loss = MixtureDensityLoss()(points, y)
    expected = (each[0].sum() + each[1, :2].sum()) / 2
    assert float(loss) == pytest.approx(expected)
    assert not np.any(tape.gradient(loss, y)[1, 2:])


@pytest.mark.parametrize("size", [6, 8, 1])
def test_outputs_of_another_size_are_refused(size):
    with pytest.raises(ValueError, match=rf"6 \* M \+ 1 .* got {size}"):
        mixture_components(np.zeros((2, size)))


def test_derivatives_by_the_outputs_are_bounded():
    layer, inputs = MixtureDensity(2, clip_derivatives=0.5), tf.ones((1, 2, 4))
    free = MixtureDensity(2, clip_derivatives=0.0)
    gradients = []
    for head in (layer, free):
        head.build(inputs.shape)
        head.set_weights(layer.get_weights())
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(head(inputs) * np.arange(13.0))
        gradients.append(tape.gradient(value, head.bias.value))
    np.testing.assert_allclose(gradients[1], 2 * np.arange(13.0))
    np.testing.assert_allclose(gradients[0], [0, *[1.0] * 12])


# Sampling.


def sample(bias, rows=20_000):
    rng = np.random.default_rng(3)
    parameters = np.tile(draw_parameters(dtype="float32"), (rows, 1))
    uniforms, normals = rng.uniform(size=(rows, 2)), rng.normal(size=(rows, 2))
    given = [x.astype("float32") for x in (parameters, uniforms, normals)]
    return np.asarray(mixture_sample(*given, bias)), given[0][0]


def test_samples_have_the_moments_of_the_mixture():
    points, y = sample(0.0)
    end, pi, m1, m2, s1, s2, rho = of_paper(np.float64(y))
    mean = [np.sum(pi * m1), np.sum(pi * m2)]
    np.testing.assert_allclose(mixture_mean(y[None])[0], mean, rtol=1e-5)
    np.testing.assert_allclose(points[:, :2].mean(axis=0), mean, atol=0.05)
    both = np.sum(pi * (m1 * m2 + np.tanh(rho) * s1 * s2)) - mean[0] * mean[1]
    spread = np.sum(pi * (m1**2 + s1**2)) - mean[0] ** 2
    found = np.cov(points[:, :2].T)
    assert found[0, 1] == pytest.approx(both, abs=0.1) and found[0, 0] == pytest.approx(
        spread, rel=0.1
    )
    assert points[:, 2].mean() == pytest.approx(end, abs=0.02)


def test_a_large_bias_leaves_the_mean_of_the_likeliest_component():
    points, y = sample(12.0, rows=50)
    _, pi, m1, m2, *_ = of_paper(np.float64(y))
    best = np.argmax(pi)
    np.testing.assert_allclose(points[:, :2], [[m1[best], m2[best]]] * 50, atol=1e-3)


def test_bias_is_that_of_equations_61_and_62():
    y = draw_parameters()
    plain, biased = mixture_components(y), mixture_components(y, 0.7)
    np.testing.assert_allclose(biased["log_sigma_x"], plain["log_sigma_x"] - 0.7)
    pi = scipy.special.softmax(y[1 : 1 + COUNT] * 1.7)
    np.testing.assert_allclose(np.exp(biased["log_pi"]), pi)
    np.testing.assert_allclose(biased["mean_y"], plain["mean_y"])


# The window.


def windowed(units=4, components=2, dtype="float64", **settings):
    layer = WindowLSTM(units, components, dtype=dtype, steps_per_symbol=2.0, **settings)
    layer.build((None, None, 3), (None, None, 5))
    rng = np.random.default_rng(4)
    layer.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in layer.get_weights()])
    x, text = rng.normal(size=(2, 6, 3)), np.eye(5)[rng.integers(0, 5, (2, 4))]
    return layer, tf.constant(x, dtype), tf.constant(text, dtype)


def by_equations(layer, x, text):
    """Eqs. 7 to 11 and 46 to 51, a row, a step and a place at a time."""
    kernel, recurrent, bias, window_kernel, window_bias, peep = layer.get_weights()
    units, count, found = layer.units, layer.components, []
    sigmoid = scipy.special.expit
    for row, symbols in zip(x, text):
        h, c, w, kappa = np.zeros(units), np.zeros(units), np.zeros(5), np.zeros(count)
        steps = []
        for point in row:
            z = point @ kernel + np.concatenate([h, w]) @ recurrent + bias
            i, f, g, o = np.split(z, 4)
            i, f = sigmoid(i + peep[0] * c), sigmoid(f + peep[1] * c)
            c = f * c + i * np.tanh(g)
            h = sigmoid(o + peep[2] * c) * np.tanh(c)
            alpha, beta, delta = np.split(np.exp(h @ window_kernel + window_bias), 3)
            kappa = kappa + delta
            phi = [
                sum(alpha[k] * np.exp(-beta[k] * (kappa[k] - u) ** 2) for k in range(count))
                for u in range(1, len(symbols) + 2)
            ]
            w = sum(p * symbol for p, symbol in zip(phi, symbols))
            steps.append((h, w, phi))
        found.append([np.stack(s) for s in zip(*steps)])
    return [np.stack(rows) for rows in zip(*found)]


def test_window_is_that_of_the_equations():
    layer, x, text = windowed()
    found = layer(x, text)
    for a, b in zip(found, by_equations(layer, x.numpy(), text.numpy()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_window_never_moves_back_and_begins_at_the_hoped_for_pace():
    layer = WindowLSTM(4, 10, steps_per_symbol=12.5, return_state=True)
    for steps in (1, 25):
        *_, kappa = layer(tf.zeros((1, steps, 3)), tf.zeros((1, 2, 5)))
        # Zero inputs leave h at zero, so that only the bias moves it.
        np.testing.assert_allclose(kappa, [[steps / 12.5] * 10], rtol=1e-5)
    layer, x, text = windowed(return_state=True)
    before = np.zeros((2, 2))
    for t in range(1, 7):
        *_, kappa = layer(x[:, :t], text)
        assert np.all(kappa > before)
        before = kappa


def test_reading_goes_on_where_the_states_say():
    layer, x, text = windowed(return_state=True)
    hidden, window, phi, *end = layer(x, text)
    first = layer(x[:, :2], text)
    second = layer(x[:, 2:], text, initial_state=first[3:])
    for whole, a, b in zip((hidden, window, phi), first, second):
        np.testing.assert_allclose(whole, tf.concat([a, b], axis=1), rtol=1e-12)
    for a, b in zip(end, second[3:]):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_masked_steps_and_places_might_as_well_not_be_there():
    layer, x, text = windowed(return_state=True)
    mask, places = np.ones((2, 6), bool), np.ones((2, 4), bool)
    mask[1, [1, 4, 5]], places[1, 3:] = False, False
    garbage = tf.where(mask[..., None], x, 7.0)
    found = layer(garbage, text, sequence_mask=mask, text_mask=places)
    kept = np.flatnonzero(mask[1])
    expected = layer(tf.gather(x, kept, axis=1)[1:], text[1:, :3])
    for a, b in zip(found[:2], expected):
        np.testing.assert_allclose(tf.gather(a[1], kept), b[0], rtol=1e-12)
        assert not np.any(a[1][~mask[1]])
    np.testing.assert_allclose(tf.gather(found[2][1], kept)[:, :4], expected[2][0], rtol=1e-12)
    for a, b in zip(found[3:], expected[3:]):
        np.testing.assert_allclose(a[1:], b, rtol=1e-12)


@pytest.mark.parametrize("steps, places", [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_nothing_to_read_or_to_write_is_no_error(steps, places):
    layer = WindowLSTM(4, 2, return_state=True)
    hidden, window, phi, *end = layer(tf.ones((2, steps, 3)), tf.ones((2, places, 5)))
    assert hidden.shape == (2, steps, 4) and phi.shape == (2, steps, places + 1)
    assert not steps or not places or np.any(window)
    assert [x.shape[1] for x in end] == [4, 4, 5, 2]
    assert all(steps or not np.any(x) for x in end)


def test_derivatives_by_what_enters_gates_and_window_are_bounded():
    gradients = []
    for bound in (0.0, 0.01):
        layer, x, text = windowed(clip_derivatives=bound)
        with tf.GradientTape() as tape:
            total = sum(tf.reduce_sum(y) for y in layer(x[:1, :1], text[:1], training=True))
        gradients.append(tape.gradient(total, [layer.bias.value, layer.window_bias.value]))
    for free, bounded in zip(*gradients):
        # One step of one row: the biases get these derivatives and no others.
        assert np.max(np.abs(free)) > 0.01 and np.max(np.abs(bounded)) == pytest.approx(0.01)


def test_without_a_text_it_is_a_peephole_lstm():
    layer, x, text = windowed()
    kernel, recurrent, bias, _, _, peep = layer.get_weights()
    plain = PeepholeLSTM(4, dtype="float64")
    plain.build(x.shape)
    plain.set_weights([kernel, recurrent[:4], bias, peep])
    np.testing.assert_allclose(layer(x, 0 * text)[0], plain(x), rtol=1e-12)


def test_gradient_reaches_a_text_that_is_learnt():
    """An embedding below the window is trained, as the paper's one-hot rows are not."""
    symbols = keras.Input((None,), dtype="int32")
    sequence = keras.Input((None, 3))
    text = keras.layers.Embedding(6, 5)(symbols)
    model = keras.Model([sequence, symbols], WindowLSTM(4, 2)(sequence, text)[0])
    model.compile("sgd", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit([np.ones((2, 3, 3)), np.array([[1, 2], [3, 4]])], np.ones((2, 3, 4)), verbose=0)
    changed = [np.any(a != b) for a, b in zip(before, model.get_weights())]
    assert all(changed)


JAX = """
import sys
import jax, numpy as np
from ponderzoo.layers import WindowLSTM, mixture_density_loss

given = np.load(sys.argv[1])
layer = WindowLSTM(4, 2, steps_per_symbol=2.0, clip_derivatives=0.1)
layer.build((None, None, 3), (None, None, 5))
layer.set_weights([given[f"w{i}"] for i in range(len(layer.weights))])
variables = [v.value for v in layer.trainable_variables]

def cost(variables):
    hidden, window, phi = layer.stateless_call(
        variables, [], given["x"], given["text"], training=True
    )[0]
    return (hidden**2).sum() + (window**2).sum() + (phi**2).sum()

def nats(y):
    return mixture_density_loss(given["points"], y).sum()

gradient = jax.jit(jax.grad(cost))(variables)
np.savez(sys.argv[2], *gradient, jax.jit(jax.grad(nats))(given["parameters"]))
"""


def test_jax_has_the_same_gradients(fresh, tmp_path):
    layer, x, text = windowed(dtype="float32", clip_derivatives=0.1)
    parameters, points = draw_parameters(2, 3, dtype="float32"), draw_points(2, 3)
    weights = {f"w{i}": w for i, w in enumerate(layer.get_weights())}
    given, found = tmp_path / "given.npz", tmp_path / "found.npz"
    np.savez(given, x=x, text=text, parameters=parameters, points=points, **weights)
    fresh(JAX, given, found, backend="jax")
    with tf.GradientTape() as tape:
        y = tf.constant(parameters)
        tape.watch(y)
        cost = sum(tf.reduce_sum(out**2) for out in layer(x, text, training=True))
        cost += tf.reduce_sum(mixture_density_loss(points, y))
    variables = [v.value for v in layer.trainable_variables]
    for a, b in zip(np.load(found).values(), tape.gradient(cost, [*variables, y]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
