"""DRAW against the paper's equations, read plainly and a pixel at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import DRAW, GlimpseLSTM, _chance, _filterbank
from ponderzoo.layers._affine import AffineStep
from ponderzoo.layers._budgeted import budgeted_recurrence
from ponderzoo.layers._scan import recurrence

KINDS = {"attention": (2, 3), "one filter": (1, 1), "whole": (None, None)}
SHAPES = {"grey": (6, 5), "colours": (5, 6, 3)}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def layer_of(kind, shape, dtype="float64", steps=3):
    """A layer whose weights are all of chance, none zero."""
    keras.utils.set_random_seed(0)
    layer = DRAW(steps, 4, 3, *KINDS[kind], dtype=dtype)
    layer.build((None, *shape))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    return layer


def sigmoid(x):
    return 1 / (1 + tf.exp(-x))


def lstm(cell, x, h, c):
    z = x @ cell.kernel.value + h @ cell.recurrent_kernel.value + cell.bias.value
    i, f, g, o = tf.split(z, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tf.tanh(g)
    return sigmoid(o) * tf.tanh(c), c


def dense(layer, x):
    return x @ layer.kernel.value + layer.bias.value


def bank(raw, size, height, width):
    """Eqs. 19 to 26: the filters along y and x and the intensity, one filter at a time."""
    x, y, variance, stride, intensity = tf.unstack(raw, axis=-1)
    x, y = (width + 1) / 2 * (x + 1), (height + 1) / 2 * (y + 1)
    stride = (max(height, width) - 1) / max(size - 1, 1) * tf.exp(stride)
    found = []
    for centre, length in ((y, height), (x, width)):
        rows = []
        for i in range(1, size + 1):
            mean = centre + (i - size / 2 - 0.5) * stride
            pixels = tf.range(1, length + 1, dtype=raw.dtype)
            weights = tf.exp(-((pixels - mean[:, None]) ** 2) / (2 * tf.exp(variance)[:, None]))
            rows.append(weights / tf.reduce_sum(weights, axis=-1, keepdims=True))
        found.append(tf.stack(rows, axis=1))
    return *found, tf.exp(intensity)


def plain(layer, image, noise):
    """Eqs. 3 to 8 and 20 to 29 in a Python loop: canvases, means, logarithms of deviations."""
    batch, (height, width, *rest) = len(image), image.shape[1:]
    image = image if rest else image[..., None]
    canvas = tf.repeat(layer.first_canvas.value[None], batch, axis=0)
    canvas = tf.transpose(tf.reshape(canvas, (batch, height, -1, width)), (0, 1, 3, 2))
    h_dec, c_dec, h_enc, c_enc = (
        tf.repeat(x.value[None], batch, axis=0) for x in layer.first_state
    )

    def flat(x, order):
        return tf.reshape(tf.transpose(x, order), (batch, -1))

    canvases, means, logs = [], [], []
    for t in range(noise.shape[1]):
        missing = image - sigmoid(canvas)
        both = tf.concat([image, missing], axis=-1)
        if layer.attention:
            of_y, of_x, intensity = bank(dense(layer.look, h_dec), layer.read_patch, height, width)
            seen = tf.einsum("bnh,bhwc,bmw->bncm", of_y, both, of_x)
            seen = intensity[:, None] * tf.reshape(seen, (batch, -1))
        else:
            seen = tf.concat([flat(image, (0, 1, 3, 2)), flat(missing, (0, 1, 3, 2))], axis=-1)
        h_enc, c_enc = lstm(layer.encoder, tf.concat([seen, h_dec], axis=-1), h_enc, c_enc)
        mean, log_deviation = tf.split(dense(layer.infer, h_enc), 2, axis=-1)
        h_dec, c_dec = lstm(layer.decoder, mean + tf.exp(log_deviation) * noise[:, t], h_dec, c_dec)
        written = dense(layer.write, h_dec)
        if layer.attention:
            size = layer.write_patch
            of_y, of_x, intensity = bank(written[:, -5:], size, height, width)
            patch = tf.reshape(written[:, :-5], (batch, size, -1, size))
            added = tf.einsum("bnh,bncm,bmw->bhwc", of_y, patch, of_x)
            canvas = canvas + added / intensity[:, None, None, None]
        else:
            added = tf.reshape(written, (batch, height, -1, width))
            canvas = canvas + tf.transpose(added, (0, 1, 3, 2))
        canvases.append(canvas if rest else canvas[..., 0])
        means.append(mean)
        logs.append(log_deviation)
    return [tf.stack(some, axis=1) for some in (canvases, means, logs)]


def given(shape, steps=3, batch=2):
    rng = np.random.default_rng(2)
    return tf.constant(rng.random((batch, *shape))), tf.constant(rng.normal(size=(batch, steps, 3)))


def cost(outputs):
    return sum(tf.reduce_sum(tf.sin(x + i)) for i, x in enumerate(outputs))


@each_kind
@each_shape
def test_values_and_gradients_are_those_of_the_equations(kind, shape):
    layer, (image, noise) = layer_of(kind, shape), given(shape)
    weights = [v.value for v in layer.trainable_variables]
    results = []
    for of in (plain, lambda layer, *inputs: pick(layer.reconstruct(*inputs, training=True))):
        with tf.GradientTape() as tape:
            tape.watch([image, noise])
            outputs = of(layer, image, noise)
            value = cost(outputs)
        results.append([*outputs, *tape.gradient(value, [image, noise, *weights])])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def pick(found):
    return [found[name] for name in ("canvases", "mean", "log_deviation")]


@pytest.mark.parametrize("kind", ["attention", "whole"])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_single_precision_learns_as_double_does(kind, mode):
    shape = (6, 5)
    results = []
    for dtype in ("float64", "float32"):
        layer, inputs = layer_of(kind, shape, dtype), given(shape)
        layer.set_weights(layer_of(kind, shape).get_weights())
        image, noise = (tf.cast(x, dtype) for x in inputs)

        def gradient(image, noise, layer=layer):
            with tf.GradientTape() as tape:
                value = cost(pick(layer.reconstruct(image, noise, training=True)))
            return value, tape.gradient(value, [v.value for v in layer.trainable_variables])

        if mode != "eager" and dtype == "float32":
            gradient = tf.function(gradient, jit_compile=mode == "xla")
        results.append(tf.nest.flatten(gradient(image, noise)))
    for expected, found in zip(*results):
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)


def jax_answers(path):
    """What `test_jax_gives_the_same_numbers` wants to see, computed on Keras's JAX backend."""
    import jax

    layer, (image, noise) = layer_of("attention", (5, 6, 3), "float32"), given((5, 6, 3))
    weights = [v.value for v in layer.trainable_variables]

    def value(weights, image, noise):
        with keras.StatelessScope(state_mapping=[*zip(layer.trainable_variables, weights)]):
            found = layer.reconstruct(image, noise, training=True)
        return sum(jax.numpy.sum(jax.numpy.sin(x + i)) for i, x in enumerate(pick(found)))

    with np.load(path) as given_weights:
        weights = [jax.numpy.asarray(given_weights[f"arr_{i}"]) for i in range(len(weights))]
    inputs = [jax.numpy.asarray(x.numpy(), "float32") for x in (image, noise)]
    found = jax.jit(jax.value_and_grad(value))(weights, *inputs)
    np.savez(path, *[np.asarray(x) for x in jax.tree.leaves(found)])


def test_jax_gives_the_same_numbers(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    layer, (image, noise) = layer_of("attention", (5, 6, 3)), given((5, 6, 3))
    weights, path = [v.value for v in layer.trainable_variables], tmp_path / "answers.npz"
    np.savez(path, *[np.float32(x) for x in weights])
    fresh("import sys, test_draw; test_draw.jax_answers(sys.argv[1])", path, backend="jax")
    with tf.GradientTape() as tape:
        value = cost(plain(layer, image, noise))
    expected = [value, *tape.gradient(value, weights)]
    with np.load(path) as found:
        for i, x in enumerate(expected):
            scale = max(1, np.abs(x).max())
            np.testing.assert_allclose(found[f"arr_{i}"], x, rtol=0, atol=2e-5 * scale)


@each_kind
def test_the_decoder_alone_paints_what_the_whole_did(kind):
    layer, (image, _) = layer_of(kind, (6, 5)), given((6, 5))
    found = layer(image, np.array([3, 4]))
    again = layer.generate(found["latents"])
    np.testing.assert_allclose(again["canvases"], found["canvases"], atol=1e-12)
    for name in set(again) - {"canvases"}:
        np.testing.assert_allclose(again[name], found[name], atol=1e-12)


def test_seeds_alone_make_images_in_a_model_too():
    layer = layer_of("attention", (6, 5), "float32")
    seed = keras.Input((), dtype="int32", name="seed")
    model = keras.Model(seed, layer(None, seed))
    found = model(np.array([5, 6]))
    again = layer.generate(_chance.normal(np.array([6]), (3, 3)))
    np.testing.assert_allclose(found["canvases"][1:], again["canvases"], atol=1e-6)
    assert set(found) == {"canvases", "latents", "write_windows"}


def test_latents_learn_through_the_decoder():
    layer, latents = layer_of("attention", (6, 5)), given((6, 5))[1]

    def value(latents):
        return cost([layer.generate(latents, training=True)["canvases"]])

    with tf.GradientTape() as tape:
        tape.watch(latents)
        total = value(latents)
    slope = tape.gradient(total, latents)
    way = np.random.default_rng(5).normal(size=latents.shape)
    beside = (value(latents + 1e-6 * way) - value(latents - 1e-6 * way)) / 2e-6
    np.testing.assert_allclose(np.sum(slope * way), beside, rtol=1e-6)


def test_an_image_and_its_seed_decide_whatever_stands_beside_them():
    layer = layer_of("attention", (6, 5))
    image = given((6, 5), batch=3)[0]
    three = layer(image, np.array([1, 2, 1]))
    alone = layer(image[2:], np.array([1]))
    for name, x in alone.items():
        np.testing.assert_allclose(x[0], three[name][2], atol=1e-12)
    noise = _chance.normal(np.array([1]), (3, 3), dtype="float64")
    drawn = alone["mean"] + np.exp(alone["log_deviation"]) * noise
    np.testing.assert_allclose(alone["latents"], drawn, atol=1e-12)
    assert np.abs(three["latents"][0] - layer(image, np.array([4, 2, 1]))["latents"][0]).max() > 0.1


@pytest.mark.parametrize("batch, steps", [(0, 2), (1, 1)])
def test_the_least_of_everything(batch, steps):
    layer = layer_of("attention", (1, 1), steps=steps)
    with tf.GradientTape() as tape:
        found = layer(np.ones((batch, 1, 1)), np.arange(batch), training=True)
        value = tf.reduce_sum(found["canvases"])
    assert found["canvases"].shape == (batch, steps, 1, 1)
    gradients = tape.gradient(value, [v.value for v in layer.trainable_variables])
    assert all(np.isfinite(g).all() for g in gradients if g is not None)


def test_more_steps_are_no_larger_graph():
    def nodes(steps):
        layer, image = layer_of("attention", (6, 5), "float32", steps), given((6, 5))[0]

        @tf.function
        def gradient(image):
            with tf.GradientTape() as tape:
                value = cost(pick(layer(image, np.arange(2), training=True)))
            return tape.gradient(value, [v.value for v in layer.trainable_variables])

        graph = gradient.get_concrete_function(tf.cast(image, "float32")).graph.as_graph_def()
        return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)

    assert nodes(3) == nodes(64)


# The reader alone.


def read_plainly(layer, image):
    """Eqs. 19 to 27 in a Python loop, the outputs of all glimpses."""
    h, c = (tf.repeat(x.value[None], len(image), axis=0) for x in layer.first_state)
    outputs = []
    for _ in range(layer.glimpses):
        of_y, of_x, intensity = bank(dense(layer.look, h), layer.patch, *image.shape[1:3])
        seen = tf.einsum("bnh,bhwc,bmw->bncm", of_y, image, of_x)
        seen = intensity[:, None] * tf.reshape(seen, (len(image), -1))
        h, c = lstm(layer.cell, seen, h, c)
        outputs.append(h)
    return tf.stack(outputs, axis=1)


def test_glimpses_have_the_values_and_gradients_of_the_equations():
    layer, (image, _) = GlimpseLSTM(4, 3, 2, dtype="float64"), given((5, 6, 3))
    layer.build(image.shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    weights, results = [v.value for v in layer.trainable_variables], []
    for of in (read_plainly, lambda layer, x: layer(x, training=True)["outputs"]):
        with tf.GradientTape() as tape:
            tape.watch(image)
            outputs = of(layer, image)
            value = cost([outputs])
        results.append([outputs, *tape.gradient(value, [image, *weights])])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_a_window_follows_what_the_map_says():
    layer = GlimpseLSTM(4, 2, 3)
    image = np.zeros((1, 11, 21), "float32")
    layer.build(image.shape)
    layer.look.kernel.assign(np.zeros((4, 5)))
    layer.look.bias.assign([0.5, -0.5, 0, -np.log(10), 0])
    x, y, stride, deviation, intensity = np.asarray(layer(image)["windows"])[0, 1]
    np.testing.assert_allclose([x, y, stride], [16.5, 3, 1], rtol=1e-6)
    assert (deviation, intensity) == (1, 1)


# Filters.


def test_filters_weigh_pixels_whose_sum_is_one_even_off_the_image():
    rng = np.random.default_rng(3)
    grid = _filterbank.grid(5 * rng.normal(size=(50, 5)).astype("float32"), 4, 9, 7)
    for some, length in zip(_filterbank.filters(grid, 4, 9, 7), (9, 7)):
        assert some.shape == (50, 4, length)
        np.testing.assert_allclose(np.sum(some, axis=-1), 1, rtol=1e-5)


def test_a_grid_far_outside_reads_the_border():
    image = np.zeros((1, 4, 3))
    image[0, -1] = 7, 8, 9
    below = _filterbank.grid(np.array([[0.0, 50, -20, -20, 0]]), 2, 4, 3)
    seen = _filterbank.look(image, *_filterbank.filters(below, 2, 4, 3))
    np.testing.assert_allclose(seen, [[8, 8, 8, 8]], atol=1e-6)


def test_raw_zeros_lay_the_grid_over_the_whole_image():
    x, y, stride, deviation, intensity = _filterbank.grid(np.zeros((1, 5)), 4, 28, 28)[0]
    assert (x, y, deviation, intensity) == (14.5, 14.5, 1, 1)
    np.testing.assert_allclose(x + stride * (np.arange(4) - 1.5), [1, 10, 19, 28])


def test_painting_is_looking_turned_round():
    rng = np.random.default_rng(4)
    grid = _filterbank.grid(rng.normal(size=(2, 5)), 3, 6, 5)
    both = _filterbank.filters(grid, 3, 6, 5)
    image, patch = rng.normal(size=(2, 6, 2 * 5)), rng.normal(size=(2, 3 * 2 * 3))
    seen, painted = _filterbank.look(image, *both), _filterbank.paint(patch, *both)
    np.testing.assert_allclose(
        np.sum(seen * patch, axis=-1), np.sum(painted * image, axis=(1, 2)), rtol=1e-10
    )


def test_two_by_two_filters_are_not_blind_at_first():
    """With a deviation of 1 pixel they would see the corners alone."""
    layer = DRAW(1, 4, 2, read_patch=2, write_patch=2)
    layer.build((None, 28, 28))
    raw = layer.look.bias[None]
    of_y, of_x = _filterbank.filters(_filterbank.grid(raw, 2, 28, 28), 2, 28, 28)
    image = np.zeros((1, 28, 28), "float32")
    image[:, 10:18, 10:18] = 1
    assert np.min(_filterbank.look(image, of_y, of_x)) > 0.05


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 0}, "steps must be a whole number from 1 on; got 0"),
        ({"units": 2.5}, "units must be a whole number"),
        ({"latent_size": True}, "latent_size must be a whole number"),
        ({"read_patch": 0}, "read_patch must be a whole number from 1 on; got 0"),
        ({"write_patch": None}, "two sizes, or None for no attention; got 2 and None"),
    ],
)
def test_arguments_that_mean_nothing_are_named(changes, words):
    arguments = {"steps": 2, "units": 3, "latent_size": 2, "read_patch": 2, "write_patch": 2}
    with pytest.raises(ValueError, match=words):
        DRAW(**{**arguments, **changes})


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, None), (2, 3, 4, 5, 6)])
def test_images_of_no_known_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"images of shape .* of known size; got"):
        DRAW(2, 3, 2).build(shape)


# Steps of affine maps.


def test_a_map_may_be_taken_twice_in_a_step_and_within_a_budget():
    def step(affine, row, state, constants):
        x = tf.tanh(affine("in", row[0], state[0]))
        x = tf.sin(affine("in", row[0], x)) * constants[0]
        return [x], [affine("out", x)]

    rng = np.random.default_rng(6)
    draw = lambda *shape: tf.constant(rng.normal(size=shape) / 2)  # noqa: E731
    rows, state, constant = draw(5, 2, 3), draw(2, 4), draw(2, 4)
    kernels = {"in": (draw(7, 4), draw(4)), "out": (draw(4, 2), draw(2))}

    def unrolled(rows, kernels, state, constant):
        def affine(name, *parts):
            return tf.concat(parts, axis=-1) @ kernels[name][0] + kernels[name][1]

        found = []
        for row in tf.unstack(rows):
            (state,), (answer,) = step(affine, [row], [state], [constant])
            found.append(answer)
        return tf.stack(found), state

    def looped(rows, kernels, state, constant):
        given = AffineStep(step), [rows], (kernels, [constant]), ([state], [constant])
        (answers,), ((state,), _) = recurrence(*given, 5)
        return answers, state

    def budgeted(rows, kernels, state, constant):
        given = AffineStep(step), [rows], (kernels, [constant]), ([state], [constant])
        (answers,), ((state,), _) = budgeted_recurrence(*given, 2000)
        return answers, state

    results = []
    for of in (unrolled, looped, budgeted):
        with tf.GradientTape() as tape:
            tensors = [rows, kernels, state, constant]
            tape.watch(tensors)
            outputs = of(*tensors)
            value = cost(outputs)
        results.append([*outputs, *tf.nest.flatten(tape.gradient(value, tensors))])
    for found in results[1:]:
        for a, b in zip(found, results[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
