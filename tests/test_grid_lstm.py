"""Grid LSTM against a reading of the paper's equations in numpy, block by block."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from ponderzoo.layers import GridLSTM, GridLSTMCell

UNITS = 3
EXACT, SINGLE = 1e-11, 2e-6
SHAPES = [(2, 3), (2, 5, 3), (2, 1, 3), (1, 4, 3), (2, 3, 4, 2), (2, 4, 3, 2), (1, 2, 3, 2, 2)]
SETTINGS = {
    "tied": {},
    "untied": {"tied": False},
    "priority": {"priority": [0], "tied": False},
    "plain depth": {"plain": [0], "plain_activation": "tanh"},
    "lstm form": {"hidden_form": "lstm", "priority": [0]},
    "corners": {"alternate_corners": True, "tied": False},
}
JAX_CASES = [
    ("tied", (2, 3)),
    ("untied", (2, 3)),
    ("priority", (2, 5, 3)),
    ("plain depth", (2, 5, 3)),
    ("tied", (2, 3, 4, 2)),
    ("corners", (2, 3, 4, 2)),
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_setting = pytest.mark.parametrize("setting", SETTINGS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_transform(weights, bias, seen, memory, paper):
    u, f, o, c = np.split(seen @ weights + bias, 4, axis=-1)
    memory = sigmoid(f) * memory + sigmoid(u) * np.tanh(c)
    return (np.tanh(sigmoid(o) * memory) if paper else sigmoid(o) * np.tanh(memory)), memory


def plain_block(cell, hidden, memory):
    """Section 3.1 to 3.3; `memory` has None for a plain dimension."""
    sent, kept = list(hidden), list(memory)
    for first in (True, False):
        seen = np.concatenate(hidden if first else sent, axis=-1)
        for i in range(cell.dimensions):
            if first == (i in cell.priority):
                continue
            kernel, bias = np.asarray(cell.kernels[i]), np.asarray(cell.biases[i])
            if i in cell.plain:
                sent[i] = np.tanh(seen @ kernel + bias)
            else:
                paper = cell.hidden_form == "paper"
                sent[i], kept[i] = plain_transform(kernel, bias, seen, memory[i], paper)
    return sent, kept


def plain_grid(layer, inputs):
    """The grid one block at a time, in the order of the layers and of the places in each."""
    projected = inputs @ np.asarray(layer.projection.kernel)
    batch, *places, _ = inputs.shape
    nothing = np.zeros((batch, layer.units))
    hidden, memory = projected[..., : layer.units], projected[..., layer.units :]
    for number in range(layer.layers):
        cell = layer.cells[0 if layer.tied else number]
        plain = [i in cell.plain for i in range(cell.dimensions)]
        far = [j + 1 for j in range(len(places)) if layer.alternate_corners and number >> j & 1]
        hidden, memory = np.flip(hidden, far), np.flip(memory, far) if memory.size else memory
        sent, kept = {}, {}
        for place in np.ndindex(*places):
            arrived = [hidden[:, *place]]
            held = [None if plain[0] else memory[:, *place]]
            for j in range(len(places)):
                before = tuple(p - (i == j) for i, p in enumerate(place))
                arrived.append(sent[before][j + 1] if before in sent else nothing)
                held.append(kept[before][j + 1] if before in sent else nothing)
                held[-1] = None if plain[j + 1] else held[-1]
            sent[place], kept[place] = plain_block(cell, arrived, held)
        hidden, memory = hidden.copy(), memory.copy()
        for place in sent:
            hidden[:, *place] = sent[place][0]
            if not plain[0]:
                memory[:, *place] = kept[place][0]
        hidden, memory = np.flip(hidden, far), np.flip(memory, far) if memory.size else memory
    return np.concatenate([hidden, memory], axis=-1)


def grid(shape, dtype="float64", layers=3, seed=0, **settings):
    """A built layer whose biases are not zero, and inputs."""
    keras.utils.set_random_seed(seed)
    normal = keras.initializers.RandomNormal(stddev=0.5)
    layer = GridLSTM(UNITS, layers, bias_initializer=normal, dtype=dtype, **settings)
    inputs = np.random.default_rng(seed).normal(size=shape)
    layer(inputs)
    return layer, inputs


def assert_close(found, expected, tolerance):
    found, expected = np.float64(found), np.float64(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@each_setting
@each_shape
@pytest.mark.parametrize("layers", [1, 3])
def test_the_grid_is_its_blocks_in_any_order_that_the_paper_allows(shape, setting, layers):
    layer, inputs = grid(shape, layers=layers, **SETTINGS[setting])
    assert_close(layer(inputs), plain_grid(layer, inputs), EXACT)


@each_setting
def test_a_block_reads_all_hidden_vectors_and_its_own_memory(setting):
    settings = {
        k: v for k, v in SETTINGS[setting].items() if k not in ("tied", "alternate_corners")
    }
    cell = GridLSTMCell(UNITS, 3, dtype="float64", **settings)
    rng = np.random.default_rng(0)
    hidden = [rng.normal(size=(2, UNITS)) for _ in range(3)]
    memory = [rng.normal(size=(2, UNITS)) for _ in range(3 - len(cell.plain))]
    sent, kept = cell(hidden, memory)
    expected, held = plain_block(cell, hidden, [None] * len(cell.plain) + memory)
    for found, right in zip([*sent, *kept], [*expected, *(m for m in held if m is not None)]):
        assert_close(found, right, EXACT)


def test_a_vector_through_tied_layers_is_an_lstm_without_input_over_as_many_steps():
    layer, inputs = grid((2, 4), layers=5, hidden_form="lstm")
    (cell,) = layer.cells
    lstm = keras.layers.LSTMCell(UNITS, dtype="float64")
    lstm.build((None, 1))
    # Gates here: update, forget, output, candidate; there: input, forget, candidate, output.
    u, f, o, c = np.split(np.asarray(cell.kernels[0]), 4, axis=-1)
    bu, bf, bo, bc = np.split(np.asarray(cell.biases[0]), 4)
    lstm.set_weights(
        [
            np.zeros((1, 4 * UNITS)),
            np.concatenate([u, f, c, o], axis=-1),
            np.concatenate([bu, bf, bc, bo]),
        ]
    )
    state = np.split(inputs @ np.asarray(layer.projection.kernel), 2, axis=-1)
    for _ in range(5):
        _, state = lstm(np.zeros((2, 1)), state)
    assert_close(layer(inputs), np.concatenate(state, axis=-1), EXACT)


def test_a_plain_depth_that_copies_makes_a_stacked_lstm():
    """Section 3.3: a stacked LSTM is a grid whose depth is an identity."""
    layer, inputs = grid(
        (2, 6, 4),
        layers=2,
        tied=False,
        hidden_form="lstm",
        priority=[0],
        plain=[0],
        plain_activation="linear",
    )
    hidden = inputs @ np.asarray(layer.projection.kernel)
    for cell in layer.cells:
        copies = np.concatenate([np.zeros((UNITS, UNITS)), np.eye(UNITS)])
        cell.kernels[0].assign(copies)
        cell.biases[0].assign(np.zeros(UNITS))
        u, f, o, c = np.split(np.asarray(cell.kernels[1]), 4, axis=-1)
        bu, bf, bo, bc = np.split(np.asarray(cell.biases[1]), 4)
        kernel = np.concatenate([u, f, c, o], axis=-1)
        lstm = keras.layers.LSTM(UNITS, return_sequences=True, dtype="float64")
        lstm.build(hidden.shape)
        lstm.set_weights([kernel[:UNITS], kernel[UNITS:], np.concatenate([bu, bf, bc, bo])])
        hidden = np.asarray(lstm(hidden))
    assert_close(layer(inputs), hidden, 1e-7)  # keras.layers.LSTM casts to float32 inside


def test_the_count_of_parameters_is_that_of_the_character_model():
    """Section 4.4: 16.8 million, tied, 1000 units, 205 symbols in and out, of hidden and memory."""
    units, symbols = 20, 7
    model = keras.Sequential(
        [
            keras.Input((None, symbols)),
            GridLSTM(units, layers=6, priority=[0]),
            keras.layers.Dense(symbols),
        ]
    )

    def count(d, v):
        return 2 * 4 * d * (2 * d + 1) + 2 * v * d + (2 * d + 1) * v

    assert model.count_params() == count(units, symbols)
    assert count(1000, 205) == pytest.approx(16.8e6, rel=2e-3)


def finite_differences(function, arrays, gradients, step=1e-6):
    """Compares along a random direction of each array."""
    rng = np.random.default_rng(7)
    for i, gradient in enumerate(gradients):
        direction = rng.normal(size=arrays[i].shape)
        values = []
        for sign in (1, -1):
            moved = [np.array(a) for a in arrays]
            moved[i] = moved[i] + sign * step * direction
            values.append(float(function(moved)))
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=1e-6, abs=1e-7)


@each_setting
@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3), (1, 3, 2, 2)], ids=str)
def test_gradients_are_those_of_finite_differences(shape, setting):
    layer, inputs = grid(shape, **SETTINGS[setting])
    weights = np.random.default_rng(1).normal(size=layer(inputs).shape)
    compute = tf.function(lambda x: tf.reduce_sum(layer(x, training=True) * weights))

    def value(arrays):
        layer.set_weights(arrays[1:])
        return compute(tf.constant(arrays[0]))

    arrays, given = [inputs, *layer.get_weights()], tf.constant(inputs)
    gradients = []
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(given)
            total = tf.reduce_sum(layer(given, training=training) * weights)
        watched = [given, *(v.value for v in layer.variables)]
        gradients.append([np.asarray(g) for g in tape.gradient(total, watched)])
    for stored, again in zip(*gradients):
        assert_close(stored, again, EXACT)
    finite_differences(value, arrays, gradients[0])


def test_gradients_of_masked_sequences_and_of_states():
    layer, inputs = grid((3, 4, 2), return_state=True, tied=False, priority=[0])
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
    rng = np.random.default_rng(1)
    state = [rng.normal(size=(3, 3, UNITS)) for _ in range(2)]
    outputs = layer(inputs, mask=mask, initial_state=state)
    weights = [rng.normal(size=x.shape) for x in outputs]

    def total(inputs, *state):
        outputs = layer(inputs, mask=mask, initial_state=list(state), training=True)
        return sum(tf.reduce_sum(a * b) for a, b in zip(outputs, weights))

    given = [tf.constant(x) for x in (inputs, *state)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = total(*given)
    gradients = [np.asarray(g) for g in tape.gradient(value, given)]
    finite_differences(lambda arrays: total(*arrays), [inputs, *state], gradients)


def test_masked_steps_change_nothing_and_put_out_zero():
    layer, inputs = grid((2, 6, 3), return_state=True, tied=False)
    mask = np.array([[1, 0, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1]], bool)
    output, *state = (np.asarray(x) for x in layer(inputs, mask=mask))
    for row in range(2):
        kept = layer(inputs[row : row + 1, mask[row]])
        assert_close(output[row : row + 1][:, mask[row]], kept[0], EXACT)
        assert_close([s[row] for s in state], [s[0] for s in kept[1:]], EXACT)
    assert not np.any(output[~mask])


def test_a_sequence_in_two_windows_is_the_sequence():
    layer, inputs = grid((2, 7, 3), return_state=True, tied=False, priority=[0])
    whole, *end = layer(inputs)
    first, *state = layer(inputs[:, :3])
    second, *state = layer(inputs[:, 3:], initial_state=state)
    assert_close(np.concatenate([first, second], axis=1), whole, EXACT)
    assert_close(state, end, EXACT)


def test_what_comes_later_does_not_matter():
    layer, inputs = grid((2, 6, 3), layers=4)
    changed = inputs.copy()
    changed[:, 4:] += 1
    assert_close(layer(inputs)[:, :4], layer(changed)[:, :4], 0)


def test_a_grid_over_an_image_sees_the_corner_that_it_comes_from():
    """A layer sees what lies before it in both directions, layers from all corners everything."""
    layer, inputs = grid((1, 4, 5, 2), layers=1)
    changed = inputs.copy()
    changed[0, 2, 1] += 1
    differ = np.any(np.asarray(layer(inputs)) != np.asarray(layer(changed)), axis=(0, -1))
    expected = np.zeros((4, 5), bool)
    expected[2:, 1:] = True
    assert np.array_equal(differ, expected)
    layer, _ = grid((1, 4, 5, 2), layers=4, alternate_corners=True, tied=False)
    assert np.any(np.asarray(layer(inputs)) != np.asarray(layer(changed)), axis=(0, -1)).all()


@pytest.mark.parametrize(
    "shape", [(0, 3), (0, 4, 3), (2, 0, 3), (0, 2, 3, 2), (1, 1, 1, 2)], ids=str
)
def test_nothing_in_gives_nothing_out(shape):
    layer, inputs = grid(shape)
    assert layer(inputs).shape == (*shape[:-1], 2 * UNITS)


def test_no_step_leaves_the_state():
    layer, _ = grid((2, 3, 3), return_state=True)
    state = [np.ones((2, 3, UNITS))] * 2
    output, *end = layer(np.zeros((2, 0, 3)), initial_state=state)
    assert output.shape == (2, 0, 2 * UNITS)
    assert_close(end, state, 0)


@each_setting
def test_shapes_may_be_unknown_and_xla_gives_the_same(setting):
    layer, inputs = grid((2, 5, 3), dtype="float32", **SETTINGS[setting])
    expected = plain_grid(layer, inputs)
    free = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 3), "float32")])
    assert_close(free(tf.constant(inputs, "float32")), expected, SINGLE)
    assert free(np.zeros((0, 4, 3), "float32")).shape == (0, 4, expected.shape[-1])
    assert free(np.zeros((2, 0, 3), "float32")).shape == (2, 0, expected.shape[-1])
    compiled = tf.function(layer, jit_compile=True)
    assert_close(compiled(tf.constant(inputs, "float32")), expected, SINGLE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_memory_in_single(dtype):
    layer, inputs = grid((2, 40, 3), dtype=dtype, return_state=True)
    output, _, memory = layer(inputs)
    assert output.dtype == layer.compute_dtype and layer.cells[0].block.dtype == "float32"
    exact, _ = grid((2, 40, 3), return_state=True)
    exact.set_weights([np.float64(w) for w in layer.get_weights()])
    assert_close(output, exact(inputs)[0], 0.1)
    assert np.isfinite(np.float64(memory)).all()


def test_the_policy_is_that_of_the_layer_whatever_the_model_s_is():
    layer, inputs = grid((2, 4, 3), dtype="float32", tied=False)
    again = GridLSTM.from_config(json.loads(json.dumps(layer.get_config())))
    again(inputs)
    assert {v.dtype for v in again.variables} == {"float32"}
    assert [v.path.split("/")[-2:] for v in again.variables] == [
        v.path.split("/")[-2:] for v in layer.variables
    ]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"units": 0}, "units must be a whole number from 1 on; got 0"),
        ({"units": 2.5}, "units must be a whole number from 1 on; got 2.5"),
        ({"units": 2, "layers": True}, "layers must be a whole number from 1 on; got True"),
        ({"units": 2, "priority": [-1]}, r"priority must name dimensions from 0 to .*; got \[-1\]"),
        ({"units": 2, "plain": [1, 1]}, r"plain must name dimensions .* each once; got \[1, 1\]"),
        ({"units": 2, "hidden_form": "gru"}, "hidden_form must be 'paper' or 'lstm'; got 'gru'"),
    ],
)
def test_wrong_arguments_are_told(arguments, words):
    with pytest.raises(ValueError, match=words):
        GridLSTM(**arguments)


def test_wrong_inputs_are_told():
    with pytest.raises(ValueError, match=r"needs inputs of shape \(batch, ..., features\)"):
        GridLSTM(2)(np.zeros(3))
    with pytest.raises(ValueError, match=r"priority must name dimensions from 0 to 0.*got \[1\]"):
        GridLSTM(2, priority=[1])(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"return_state needs inputs of shape \(batch, time"):
        GridLSTM(2, return_state=True)(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"a mask needs inputs of shape .* no alternate_corners"):
        GridLSTM(2, alternate_corners=True)(np.zeros((2, 3, 1)), mask=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"initial_state must have 2 tensors .* got 1"):
        GridLSTM(2)(np.zeros((2, 3, 1)), initial_state=[np.zeros((2, 1, 2))])
    with pytest.raises(
        ValueError, match="takes as many hidden vectors and 2 memories; got 2 and 1"
    ):
        GridLSTMCell(2, 2)([np.zeros((1, 2))] * 2, [np.zeros((1, 2))])


def jax_answers(path):
    """In a process of its own: outputs and gradients, compiled."""
    import jax

    assert keras.backend.backend() == "jax"
    answers = {}
    for name, shape in JAX_CASES:
        layer, inputs = grid(shape, "float32", **SETTINGS[name])

        def loss(weights, inputs, layer=layer):
            variables = layer.trainable_variables
            with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
                output = layer(inputs, training=True)
            return ops.sum(output * ops.cos(ops.arange(output.shape[-1], dtype="float32"))), output

        weights = [v.value for v in layer.trainable_variables]
        run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        (_, output), (d_weights, d_inputs) = run(weights, inputs.astype("float32"))
        for i, x in enumerate([*weights, output, *d_weights, d_inputs]):
            answers[f"{name}/{shape}/{i}"] = np.asarray(x)
    np.savez(path, **answers)


@pytest.fixture(scope="module")
def from_jax(fresh, tmp_path_factory):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path_factory.mktemp("jax") / "answers.npz"
    fresh(
        "import sys, test_grid_lstm; test_grid_lstm.jax_answers(sys.argv[1])", path, backend="jax"
    )
    with np.load(path) as answers:
        return dict(answers)


@pytest.mark.parametrize("setting, shape", JAX_CASES, ids=str)
def test_jax_gives_the_same_numbers(setting, shape, from_jax):
    layer, inputs = grid(shape, "float32", **SETTINGS[setting])
    count = len(layer.trainable_variables)
    arrays = [from_jax[f"{setting}/{shape}/{i}"] for i in range(2 * count + 2)]
    layer.set_weights(arrays[:count])
    with tf.GradientTape() as tape:
        given = tf.constant(inputs, "float32")
        tape.watch(given)
        output = layer(given, training=True)
        total = ops.sum(output * ops.cos(ops.arange(output.shape[-1], dtype="float32")))
    gradients = tape.gradient(total, [*(v.value for v in layer.trainable_variables), given])
    for found, expected in zip(arrays[count:], [output, *gradients]):
        scale = max(1.0, np.abs(expected).max())
        assert_close(found / scale, np.asarray(expected) / scale, 1e-5)
