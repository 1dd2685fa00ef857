"""Multi-dimensional layers against a reading of the paper's equations, point by point, in float64.

The gradient of the plain reading is TensorFlow's own.
"""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from numeric import assert_close
from ponderzoo.layers import MDLSTM, MDRNN, PeepholeLSTM

UNITS = 3
EXACT, SINGLE = 1e-11, 3e-6
SHAPES = [(2, 5, 3), (2, 1, 1), (2, 3, 4, 2), (1, 1, 5, 2), (1, 2, 1, 3, 2)]
CELLS = {
    "plain": (MDRNN, {}),
    "logistic": (MDRNN, {"activation": "sigmoid"}),
    "lstm": (MDLSTM, {}),
    "clipped": (MDLSTM, {"clip_derivatives": 0.02}),
    "stable": (MDLSTM, {"stable": True}),
    "one corner": (MDLSTM, {"multidirectional": False}),
}
JAX_CASES = [("plain", (2, 3, 4, 2)), ("lstm", (2, 3, 4, 2)), ("stable", (4, 2, 3, 2, 2))]
each_cell = pytest.mark.parametrize("cell", CELLS)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def clipped(x, bound):
    """A number whose derivative is kept within a bound."""

    @tf.custom_gradient
    def same(x):
        return tf.identity(x), lambda d: tf.clip_by_value(d, -bound, bound)

    return same(x) if bound else x


def plain_point(layer, kernel, recurrent, bias, peepholes, x, before):
    """h and c at a point, from its input and the h and c of the points before it."""
    n, units = layer.dimensions, layer.units
    hs, cs = [h for h, _ in before], [c for _, c in before]
    z = x @ kernel + bias + sum(h @ recurrent[d * units :][:units] for d, h in enumerate(hs))
    if isinstance(layer, MDRNN):
        return layer.activation(z), cs[0]
    if layer.stable:
        raw = [z[:, (3 + d) * units :][:, :units] for d in range(1, n)]
        shares = [tf.exp(a) for a in [tf.zeros_like(cs[0]), *raw]]
        cs = [sum(s * c for s, c in zip(shares, cs)) / sum(shares)]
    gates = len(cs)
    z = [z[:, k * units :][:, :units] for k in range(gates + 3)]
    bound = layer.clip_derivatives
    i = tf.sigmoid(clipped(z[0] + peepholes[0] * sum(cs), bound))
    c = i * tf.tanh(clipped(z[gates + 1], bound))
    for d in range(gates):
        c += tf.sigmoid(clipped(z[1 + d] + peepholes[1 + d] * cs[d], bound)) * cs[d]
    o = tf.sigmoid(clipped(z[gates + 2] + peepholes[gates + 1] * c, bound))
    return o * tf.tanh(c), c


def plain(layer, weights, inputs, mask=None):
    """All directions in raster order; weights as `layer.trainable_variables` are."""
    batch, *sizes, _ = inputs.shape
    directions = len(layer.kernels)
    kernels, recurrent, biases, *rest = (
        weights[k : k + directions] for k in range(0, len(weights), directions)
    )
    peepholes = rest[0] if rest else [None] * directions
    nothing = tf.zeros((batch, layer.units), "float64")
    outputs = []
    for number in range(directions):
        signs = [-1 if number >> d & 1 else 1 for d in range(len(sizes))]
        found = {}
        for place in itertools.product(*(range(size)[::sign] for size, sign in zip(sizes, signs))):
            before = [
                found.get((*place[:d], place[d] - sign, *place[d + 1 :]), (nothing, nothing))
                for d, sign in enumerate(signs)
            ]
            own = [x[number] for x in (kernels, recurrent, biases, peepholes)]
            h, c = plain_point(layer, *own, inputs[(slice(None), *place)], before)
            if mask is not None:
                there = tf.constant(mask[(slice(None), *place)], "float64")[:, None]
                h, c = h * there, c * there
            found[place] = h, c
        order = itertools.product(*map(range, sizes))
        outputs.append(tf.stack([found[place][0] for place in order], axis=1))
    return tf.reshape(tf.concat(outputs, axis=-1), (batch, *sizes, directions * layer.units))


def layer_of(cell, shape, dtype="float64", seed=0, **settings):
    """A built layer, none of whose weights are zero, and inputs."""
    keras.utils.set_random_seed(seed)
    cls, own = CELLS[cell]
    normal = keras.initializers.RandomNormal(stddev=0.5)
    layer = cls(
        UNITS,
        kernel_initializer=normal,
        recurrent_initializer=normal,
        bias_initializer=normal,
        dtype=dtype,
        **own,
        **settings,
    )
    layer.build(shape)
    return layer, np.random.default_rng(seed).normal(size=shape)


def torn(shape):
    """A mask with a hole and borders that differ from row to row."""
    mask = np.random.default_rng(5).random(shape[:-1]) < 0.7
    mask[0] = True
    return mask


def values_and_gradients(run, inputs, weights):
    """Outputs, and the gradients of a sum of them by the inputs and the weights."""
    with tf.GradientTape() as tape:
        tape.watch([inputs, *weights])
        outputs = run(inputs, weights)
        factors = tf.cos(tf.range(tf.size(outputs), dtype=outputs.dtype))
        total = tf.reduce_sum(outputs * tf.reshape(factors, tf.shape(outputs)))
    return [outputs, *tape.gradient(total, [inputs, *weights])]


def truth(layer, inputs, mask=None):
    weights = [tf.constant(w, "float64") for w in layer.get_weights()]
    inputs = tf.constant(inputs, "float64")
    return values_and_gradients(lambda x, w: plain(layer, w, x, mask), inputs, weights)


def found(layer, inputs, mask=None, training=True, way=lambda function: function):
    inputs = tf.constant(inputs, layer.compute_dtype)
    weights = [v.value for v in layer.trainable_variables]
    run = way(
        lambda x: values_and_gradients(
            lambda x, _: layer(x, mask=mask, training=training), x, weights
        )
    )
    return run(inputs)


@each_cell
@each_shape
def test_a_layer_is_its_points_in_raster_order_from_each_corner(shape, cell):
    layer, inputs = layer_of(cell, shape)
    expected = truth(layer, inputs)
    assert_close(found(layer, inputs), expected, EXACT)


@each_cell
def test_a_masked_point_is_outside_and_may_hold_anything(cell):
    layer, inputs = layer_of(cell, (3, 3, 3, 2))
    mask = torn(inputs.shape)
    expected = truth(layer, np.where(mask[..., None], inputs, 0), mask)
    inputs[~mask] = np.nan
    for training in (True, False):
        ours = found(layer, inputs, mask, training)
        assert_close(ours, expected, EXACT)
        assert not np.any(np.asarray(ours[0])[~mask])
        assert not np.any(np.asarray(ours[1])[~mask])


@pytest.mark.parametrize("cell", ["plain", "lstm", "stable"])
@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
def test_single_precision_has_the_values_and_gradients_of_float64(way, cell):
    ways = {
        "eager": lambda function: function,
        "graph": tf.function,
        "xla": lambda function: tf.function(function, jit_compile=True),
    }
    layer, inputs = layer_of(cell, (4, 3, 4, 2), "float32")
    mask = torn(inputs.shape)
    expected = truth(layer, inputs, mask)
    assert_close(found(layer, inputs, mask, way=ways[way]), expected, SINGLE)


@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both"])
def test_over_sequences_it_is_an_lstm_with_peepholes(both):
    layer, inputs = layer_of("lstm", (2, 6, 4), multidirectional=both, clip_derivatives=0.03)
    lstm = PeepholeLSTM(UNITS, bidirectional=both, clip_derivatives=0.03, dtype="float64")
    lstm.build(inputs.shape)
    lstm.set_weights(layer.get_weights())
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    assert_close(found(layer, inputs, mask), found(lstm, inputs, mask), EXACT)
    stable, _ = layer_of("stable", (2, 6, 4), multidirectional=both, clip_derivatives=0.03)
    stable.set_weights(layer.get_weights())
    assert_close([stable(inputs, mask=mask)], [lstm(inputs, mask=mask)], EXACT)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_bright_pixel_is_seen_by_all_that_lies_behind_it_from_each_corner(dimensions):
    """Section 2: with the directions of all corners a point sees the whole array."""
    sizes, place = (4, 5, 3)[:dimensions], (1, 3, 1)[:dimensions]
    layer, _ = layer_of("lstm", (1, *sizes, 1))
    black, bright = np.zeros((2, 1, *sizes, 1))
    bright[(0, *place)] = 1
    differ = np.asarray(layer(bright) != layer(black)).reshape(*sizes, -1, UNITS).any(axis=-1)
    points = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1)
    for number in range(2**dimensions):
        far = np.array([number >> d & 1 for d in range(dimensions)], bool)
        behind = np.where(far, points <= place, points >= place).all(axis=-1)
        assert np.array_equal(differ[..., number], behind)
    assert differ.any(axis=-1).all()


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8])
def test_an_image_gives_the_same_in_a_batch_of_others_of_other_sizes(rows):
    layer, inputs = layer_of("lstm", (rows, 4, 5, 2))
    rng = np.random.default_rng(1)
    heights, widths = rng.integers(1, 5, rows), rng.integers(1, 6, rows)
    mask = (np.arange(4)[:, None] < heights[:, None, None]) & (np.arange(5) < widths[:, None, None])
    together = np.asarray(layer(inputs, mask=mask))
    for row, (height, width) in enumerate(zip(heights, widths)):
        alone = layer(inputs[row : row + 1, :height, :width])
        assert_close([together[row : row + 1, :height, :width]], [alone], EXACT)
    assert not together[~mask].any()


@pytest.mark.parametrize("shape", [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 0, 2)], ids=str)
def test_nothing_in_gives_nothing_out(shape):
    layer, inputs = layer_of("lstm", shape)
    outputs, d_inputs, *gradients = found(layer, inputs)
    assert outputs.shape == (*shape[:-1], 2 ** (len(shape) - 2) * UNITS)
    assert d_inputs.shape == shape
    assert not any(np.any(g) for g in gradients)


def test_sizes_may_be_unknown_until_a_graph_runs():
    layer, _ = layer_of("lstm", (1, 1, 1, 2), "float32")
    free = tf.function(
        lambda x, mask: layer(x, mask=mask, training=True),
        input_signature=[
            tf.TensorSpec((None, None, None, 2)),
            tf.TensorSpec((None, None, None), "bool"),
        ],
    )
    for shape in [(2, 3, 4, 2), (1, 5, 2, 2), (4, 1, 1, 2), (0, 2, 2, 2), (2, 0, 3, 2)]:
        inputs, mask = np.ones(shape, "float32"), np.ones(shape[:-1], bool)
        assert_close([free(inputs, mask)], [layer(inputs)], SINGLE)


@pytest.mark.parametrize("stable", [False, True])
def test_open_forget_gates_add_up_along_all_paths_and_stable_ones_do_not(stable):
    """With f = 1 a memory counts the paths from each point before it (Leifert et al., 2016)."""
    layer = MDLSTM(1, multidirectional=False, stable=stable, forget_bias=50, dtype="float64")
    layer.build((None, None, None, 1))
    # What enters at the first point alone: the input is 1 there, and makes the candidate.
    kernel, recurrent, bias, peepholes = (np.zeros(w.shape) for w in layer.get_weights())
    candidate = 2 if stable else 3
    kernel[0, candidate], bias[[0, candidate + 1]] = 1e-3, 50
    bias[1:candidate] = 50
    layer.set_weights([kernel, recurrent, bias, peepholes])
    image = np.zeros((1, 4, 4, 1))
    image[0, 0, 0] = 1
    memory = np.arctanh(layer(image))[0, :, :, 0] / np.tanh(1e-3)
    paths = np.array([[math.comb(i + j, i) for j in range(4)] for i in range(4)])
    shares = 2.0 ** -np.add.outer(np.arange(4), np.arange(4)) if stable else 1
    expected = paths * shares
    # At the border half of a mean is the zero outside.
    assert_close([memory], [expected], 1e-4)


def test_a_budget_of_memory_changes_no_number():
    layer, inputs = layer_of("lstm", (2, 3, 9, 2))
    expected = found(layer, inputs)
    again, _ = layer_of("lstm", (2, 3, 9, 2), memory_budget=60_000)
    assert_close(found(again, inputs, way=tf.function), expected, EXACT)


def test_forget_biases_are_those_of_the_forget_gates():
    for stable, gates in ((False, 2), (True, 1)):
        layer = MDLSTM(2, stable=stable, forget_bias=1.5)
        layer.build((None, None, None, 1))
        for bias in layer.biases:
            expected = np.zeros((5, 2))
            expected[1 : 1 + gates] = 1.5
            assert np.array_equal(bias, expected.reshape(-1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16", "mixed_float16"])
def test_half_precision_loops_in_single(dtype):
    layer, inputs = layer_of("lstm", (2, 6, 7, 3), dtype)
    exact, _ = layer_of("lstm", (2, 6, 7, 3))
    exact.set_weights([np.float64(w) for w in layer.get_weights()])
    output = layer(inputs)
    assert output.dtype == layer.compute_dtype
    assert_close([output], [exact(inputs)], 2e-2)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"units": 0}, "units must be a whole number from 1 on; got 0"),
        ({"units": 2.5}, "units must be a whole number from 1 on; got 2.5"),
        ({"units": 2, "clip_derivatives": -1}, "clip_derivatives must be 0 or a bound; got -1"),
        ({"units": 2, "memory_budget": 0}, "memory_budget must be a positive number of bytes"),
    ],
)
def test_wrong_arguments_are_told(arguments, words):
    with pytest.raises(ValueError, match=words):
        MDLSTM(**arguments)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, None)])
def test_wrong_inputs_are_told(shape):
    with pytest.raises(ValueError, match=r"MDRNN needs inputs of shape .* known features; got"):
        MDRNN(2)(keras.Input(shape[1:]))


def jax_answers(path):
    """In a process of its own: outputs and gradients, compiled."""
    import jax

    assert keras.backend.backend() == "jax"
    answers = {}
    for cell, shape in JAX_CASES:
        layer, inputs = layer_of(cell, shape, "float32")

        def loss(weights, inputs, layer=layer, shape=shape):
            mask, variables = torn(shape), layer.trainable_variables
            with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
                output = layer(inputs, mask=mask, training=True)
            factors = ops.cos(ops.arange(output.size, dtype="float32"))
            return ops.sum(output * ops.reshape(factors, output.shape)), output

        weights = [v.value for v in layer.trainable_variables]
        run = jax.jit(jax.value_and_grad(loss, argnums=(1, 0), has_aux=True))
        (_, output), (d_inputs, d_weights) = run(weights, inputs.astype("float32"))
        for i, x in enumerate([*weights, output, d_inputs, *d_weights]):
            answers[f"{cell}/{i}"] = np.asarray(x)
    np.savez(path, **answers)


@pytest.fixture(scope="module")
def from_jax(fresh, tmp_path_factory):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path_factory.mktemp("jax") / "answers.npz"
    fresh("import sys, test_mdrnn; test_mdrnn.jax_answers(sys.argv[1])", path, backend="jax")
    with np.load(path) as answers:
        return dict(answers)


@pytest.mark.parametrize("cell, shape", JAX_CASES, ids=str)
def test_jax_gives_the_same_numbers(cell, shape, from_jax):
    layer, inputs = layer_of(cell, shape)
    count = len(layer.trainable_variables)
    arrays = [from_jax[f"{cell}/{i}"] for i in range(2 * count + 2)]
    layer.set_weights(arrays[:count])
    assert_close(arrays[count:], truth(layer, inputs, torn(shape)), SINGLE)
