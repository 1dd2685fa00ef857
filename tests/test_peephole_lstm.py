"""LSTM layers with peepholes, deep stacks of them, and noise on their weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import DeepLSTM, PeepholeLSTM, WeightNoise
from scipy.special import expit as sigmoid


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def layer_of(cls, *args, features=3, **kwargs):
    """A built float64 layer, all of whose weights are random."""
    layer = cls(*args, dtype="float64", **kwargs)
    layer.build((None, None, features))
    layer.set_weights([0.7 * draw(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def oracle(sequence, kernel, recurrent, bias, peepholes, h, c):
    """One row and one direction, step by step, as the paper's equations read."""
    units = len(h)
    weights = [kernel[:, k * units : (k + 1) * units] for k in range(4)]
    inner = [recurrent[:, k * units : (k + 1) * units] for k in range(4)]
    shift = [bias[k * units : (k + 1) * units] for k in range(4)]
    outputs = []
    for x in sequence:
        a_i, a_f, a_c, a_o = (x @ weights[k] + h @ inner[k] + shift[k] for k in range(4))
        i, f = sigmoid(a_i + peepholes[0] * c), sigmoid(a_f + peepholes[1] * c)
        c = f * c + i * np.tanh(a_c)
        h = sigmoid(a_o + peepholes[2] * c) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs).reshape(-1, units), h, c


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gates_see_the_cell_as_the_equations_say(bidirectional):
    layer = layer_of(PeepholeLSTM, 4, bidirectional=bidirectional, return_state=True)
    x, start = draw(2, 6, 3), [draw(2, 4, seed=i) for i in range(4 if bidirectional else 2)]
    output, *state = layer(x, initial_state=start)
    weights = layer.get_weights()
    for row in range(2):
        expected, ends = [], []
        for d in range(1 + bidirectional):
            told = x[row, ::-1] if d else x[row]
            h, c = (s[row] for s in start[2 * d : 2 * d + 2])
            found, *end = oracle(told, *weights[d :: 1 + bidirectional], h, c)
            expected.append(found[::-1] if d else found)
            ends += end
        np.testing.assert_allclose(output[row], np.concatenate(expected, axis=-1), atol=1e-12)
        np.testing.assert_allclose([s[row] for s in state], ends, atol=1e-12)


@pytest.mark.parametrize("zero", [False, True])
def test_without_peepholes_it_is_keras_own_lstm_read_both_ways(zero):
    options = {"zero_output_for_mask": zero}
    layer = layer_of(PeepholeLSTM, 4, bidirectional=True, peepholes=False, **options)
    options |= {"return_sequences": True, "dtype": "float64"}
    x, mask = draw(3, 6, 3), np.arange(6) < np.array([[6], [4], [1]])
    mask[0, [0, 3, 5]] = False
    weights, found = layer.get_weights(), layer(x, mask=mask).numpy()
    for backwards in (False, True):
        theirs = keras.layers.LSTM(4, go_backwards=backwards, **options)
        theirs.build(x.shape)
        theirs.set_weights(weights[backwards::2])
        expected = theirs(x, mask=mask).numpy()
        expected = expected[:, ::-1] if backwards else expected
        half = found[..., 4:] if backwards else found[..., :4]
        np.testing.assert_allclose(half, expected, atol=1e-12)


def test_masked_steps_are_as_if_they_were_not_there():
    layer = layer_of(DeepLSTM, 4, layers=2, bidirectional=True, skips=True, return_state=True)
    x, mask = draw(2, 7, 3), np.array([[1, 0, 1, 1, 0, 0, 1], [0] * 7], bool)
    told = np.where(mask[..., None], x, np.nan)
    output, *state = layer(told, mask=mask)
    short, *short_state = layer(x[:1, mask[0]])
    np.testing.assert_allclose(output[0].numpy()[mask[0]], short[0], atol=1e-12)
    assert not output.numpy()[~mask].any()
    for found, expected in zip(state, short_state):
        np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
        assert not found[1].numpy().any()
    gradient = tf.GradientTape(persistent=True)
    variable = tf.constant(np.where(mask[..., None], x, 1e9))
    with gradient as tape:
        tape.watch(variable)
        loss = tf.reduce_sum(layer(variable, mask=mask, training=True)[0] ** 2)
    found = tape.gradient(loss, variable).numpy()
    assert np.isfinite(found).all() and not found[~mask].any() and found[mask].all()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_output_is_the_last_state(bidirectional):
    options = {"bidirectional": bidirectional, "return_state": True}
    layer = layer_of(PeepholeLSTM, 4, return_sequences=False, **options)
    whole = layer_of(PeepholeLSTM, 4, **options)
    x, mask = draw(2, 5, 3), np.arange(5) < np.array([[5], [3]])
    output, *state = layer(x, mask=mask)
    everything, *_ = whole(x, mask=mask)
    np.testing.assert_allclose(output, np.concatenate(state[::2], axis=-1))
    forward = everything.numpy()[[0, 1], [4, 2], :4]
    np.testing.assert_allclose(output[:, :4], forward, atol=1e-12)
    if bidirectional:
        np.testing.assert_allclose(output[:, 4:], everything[:, 0, 4:], atol=1e-12)


def test_a_sequence_may_come_in_pieces():
    layer = layer_of(DeepLSTM, 4, layers=3, return_state=True)
    x = draw(2, 9, 3)
    expected, *end = layer(x)
    pieces, state = [], None
    for piece in np.split(x, [0, 1, 4], axis=1):
        output, *state = layer(piece, initial_state=state)
        pieces.append(output)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-12)
    np.testing.assert_allclose(state, end, atol=1e-12)


@pytest.mark.parametrize("compiled, peepholes", [(False, True), (True, True), (True, False)])
def test_gradients_are_those_of_finite_differences(compiled, peepholes):
    options = {"bidirectional": True, "peepholes": peepholes, "return_state": True}
    layer = layer_of(PeepholeLSTM, 3, features=2, **options)
    x, mask = tf.constant(draw(2, 4, 2)), np.arange(4) < np.array([[4], [2]])
    start = [tf.constant(draw(2, 3, seed=i)) for i in range(4)]
    weights = [draw(2, 4, 6, seed=9), *(draw(2, 3, seed=10 + i) for i in range(4))]

    @tf.function(jit_compile=compiled)
    def value(x, *start):
        found = layer(x, mask=mask, initial_state=list(start), training=True)
        return sum(tf.reduce_sum(w * tf.sin(y)) for w, y in zip(weights, found))

    inputs = [x, *start]
    sources = inputs + [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = value(*inputs)
    gradients = tape.gradient(loss, sources)
    rng = np.random.default_rng(1)
    for place, (source, gradient) in enumerate(zip(sources, gradients)):
        towards = rng.normal(size=source.shape)
        ends = []
        for step in (1e-6, -1e-6):
            if place < len(inputs):
                moved = [v + step * towards if v is source else v for v in inputs]
                ends.append(float(value(*moved)))
            else:
                source.assign_add(step * towards)
                ends.append(float(value(*inputs)))
                source.assign_add(-step * towards)
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(np.sum(gradient * towards), slope, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("peepholes", [True, False])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mode", ["eager", "graph", "graph of any length"])
def test_float32_is_near_float64(mode, training, peepholes):
    """The runtime's kernel, and loops that are compiled within a graph, are the same layer."""
    options = {"bidirectional": True, "peepholes": peepholes}
    exact = layer_of(PeepholeLSTM, 5, **options)
    layer = PeepholeLSTM(5, **options)
    layer.build((None, None, 3))
    layer.set_weights(exact.get_weights())

    def pull(layer, x, mask):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, mask=mask, training=training)
            loss = tf.reduce_sum(output * tf.cast(tf.cos(tf.range(10.0)), output.dtype))
        return [output, *tape.gradient(loss, [x, *layer.trainable_variables])]

    free = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), tf.bool)]
    run = {
        "eager": lambda *a: pull(layer, *a),
        "graph": tf.function(lambda *a: pull(layer, *a)),
        "graph of any length": tf.function(lambda *a: pull(layer, *a), input_signature=free),
    }[mode]
    # Of one bucket, which neither of them fills.
    for steps in (5, 7) if mode == "graph of any length" else (5,):
        x, mask = draw(3, steps, 3), np.arange(steps) < np.array([[steps], [2], [0]])
        expected = pull(exact, tf.constant(x), mask)
        found = run(tf.constant(x, "float32"), tf.constant(mask))
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def operations(function):
    """Names of all operations of a concrete function and of what it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def test_a_graph_that_is_not_trained_has_the_kernel_and_nothing_that_xla_must_compile():
    layer = PeepholeLSTM(4)
    layer.build((None, None, 3))
    spec = tf.TensorSpec((None, None, 3))
    graph = tf.function(layer).get_concrete_function(spec)
    assert "BlockLSTMV2" in operations(graph) and "While" not in operations(graph)
    functions = graph.graph.as_graph_def().library.function
    assert not any(f.attr["_XlaMustCompile"].b for f in functions)
    wide = PeepholeLSTM(300)
    wide.build((None, None, 600))
    graph = tf.function(wide).get_concrete_function(tf.TensorSpec((None, None, 600)))
    assert "BlockLSTMV2" not in operations(graph)  # its weights leave the cache at every step


def test_derivatives_at_the_gates_are_bounded():
    wild = layer_of(PeepholeLSTM, 4, clip_derivatives=0.0)
    tame = layer_of(PeepholeLSTM, 4, clip_derivatives=0.5)
    x = tf.constant(draw(1, 1, 3))
    found = []
    for layer in (wild, tame):
        with tf.GradientTape() as tape:
            loss = 100 * tf.reduce_sum(layer(x, training=True))
        found.append(tape.gradient(loss, layer.biases[0].value).numpy())
    # With one step the derivative of the bias is that of what enters the gates.
    assert np.abs(found[0]).max() > 1
    assert np.abs(found[1]).max() == 0.5
    o = slice(12, 16)
    np.testing.assert_allclose(found[1][o], np.clip(found[0][o], -0.5, 0.5))


@pytest.mark.parametrize(
    "outputs, layers, units, bidirectional, weights",
    [
        (62, 1, 250, True, 780_562),
        (62, 1, 622, True, 3_793_018),
        (62, 2, 250, True, 2_284_062),
        (62, 3, 250, True, 3_787_562),
        (62, 5, 250, True, 6_794_562),
        (62, 3, 421, False, 3_786_957),
    ],
)
def test_nets_have_as_many_weights_as_the_papers(outputs, layers, units, bidirectional, weights):
    stack = DeepLSTM(units, layers, bidirectional=bidirectional)
    stack.build((None, None, 123))
    width = units * (1 + bidirectional)
    assert stack.count_params() + (width + 1) * outputs == weights


def test_the_net_of_2008_has_183080_weights():
    layer = PeepholeLSTM(128, bidirectional=True)
    layer.build((None, None, 39))
    assert layer.count_params() + 257 * 40 == 183_080


def test_directions_begin_with_weights_of_their_own():
    layer = DeepLSTM(4, layers=2, bidirectional=True, forget_bias=1.0)
    layer.build((None, None, 8))
    kernels = [k.numpy() for each in layer.layers for k in each.kernels]
    assert all(not np.array_equal(a, b) for i, a in enumerate(kernels) for b in kernels[:i])
    expected = [0] * 4 + [1] * 4 + [0] * 8
    assert all((b.numpy() == expected).all() for each in layer.layers for b in each.biases)


def test_skips_let_every_layer_see_the_input_and_be_seen():
    layer = layer_of(DeepLSTM, 4, layers=2, skips=True)
    x = draw(1, 5, 3)
    first = layer.layers[0](x)[0]
    second = layer.layers[1](np.concatenate([x, first], axis=-1))[0]
    np.testing.assert_allclose(layer(x), np.concatenate([first, second], axis=-1), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 0, 3), (0, 4, 3)])
@pytest.mark.parametrize("free", [False, True])
def test_short_and_empty_sequences(shape, free):
    layer = layer_of(DeepLSTM, 4, layers=2, bidirectional=True, return_state=True)
    spec = tf.TensorSpec([None, None, 3] if free else shape, "float64")
    output, *state = tf.function(layer, input_signature=[spec])(draw(*shape))
    assert output.shape == (*shape[:2], 8) and len(state) == 8
    assert all(s.shape == (shape[0], 4) for s in state)
    if shape[1] == 0:
        assert not np.any(state)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision_is_near_full(dtype):
    full = layer_of(PeepholeLSTM, 8, bidirectional=True)
    # Keras's default, orthogonal, cannot be drawn in bfloat16.
    half = PeepholeLSTM(8, bidirectional=True, recurrent_initializer="zeros", dtype=dtype)
    half.build((None, None, 3))
    half.set_weights(full.get_weights())
    x = draw(2, 30, 3)
    found = half(x)
    assert found.dtype == half.compute_dtype
    np.testing.assert_allclose(np.float64(found), full(x), atol=0.05)


def ragged_case():
    """A deep layer's outputs and states as a function of its input, and one; rows are masked."""
    layer = DeepLSTM(4, 2, bidirectional=True, return_state=True)
    layer.build((None, None, 3))
    layer.set_weights([draw(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    mask = np.arange(5) < np.array([[5], [0], [3]])
    return lambda x: layer(x, mask=mask, training=True), draw(3, 5, 3).astype("float32")


def jax_answers(path):
    import jax

    layer, x = ragged_case()

    def total(x):
        outputs = layer(x)
        return sum(keras.ops.sum(y**2) for y in outputs), outputs

    (_, outputs), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
    np.savez(path, *map(np.asarray, [*outputs, gradient]))


def test_jax_computes_the_same(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path / "answers.npz"
    code = "import sys, test_peephole_lstm; test_peephole_lstm.jax_answers(sys.argv[1])"
    fresh(code, path, backend="jax")
    layer, x = ragged_case()
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
        total = sum(tf.reduce_sum(y**2) for y in outputs)
    expected = [*outputs, tape.gradient(total, x)]
    with np.load(path) as answers:
        assert len(answers) == len(expected)
        for found, right in zip(answers.values(), expected):
            np.testing.assert_allclose(found, right, atol=1e-5)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"units": 0}, "units must be a whole number"),
        ({"units": 4, "clip_derivatives": -1}, "clip_derivatives"),
    ],
)
def test_bad_arguments_are_told(options, told):
    with pytest.raises(ValueError, match=told):
        PeepholeLSTM(**options)


def test_bad_inputs_are_told():
    layer = PeepholeLSTM(4, bidirectional=True)
    with pytest.raises(ValueError, match=r"\(batch, time, features\)"):
        layer.build((2, 3))
    with pytest.raises(ValueError, match="4 tensors"):
        layer(draw(2, 3, 5), initial_state=[draw(2, 4)] * 2)
    with pytest.raises(ValueError, match="layers must be a whole number"):
        DeepLSTM(4, layers=0)
    with pytest.raises(ValueError, match="stddev"):
        WeightNoise(keras.layers.Dense(2), stddev=-1)


# Weight noise.


def test_noise_has_its_deviation_and_is_new_at_every_call():
    noisy = WeightNoise(keras.layers.Dense(400, use_bias=False), stddev=0.075, seed=1)
    x = np.eye(200, dtype="float32")
    clean = noisy(x).numpy()
    first, second = (noisy(x, training=True).numpy() - clean for _ in range(2))
    assert abs(np.std(first) - 0.075) < 0.001
    assert abs(np.corrcoef(first.flat, second.flat)[0, 1]) < 0.02
    np.testing.assert_array_equal(noisy(x), clean)


def test_gradients_are_taken_at_the_disturbed_weights():
    noisy = WeightNoise(keras.layers.Dense(1, use_bias=False), stddev=1.0, seed=1)
    x = tf.ones((1, 1))
    noisy.build((None, 1))
    before = noisy.layer.kernel.numpy()
    with tf.GradientTape() as tape:
        y = noisy(x, training=True)
        loss = tf.reduce_sum(y**2) / 2
    (gradient,) = tape.gradient(loss, noisy.trainable_variables)
    np.testing.assert_allclose(gradient, y, rtol=1e-6)
    assert abs(y - before) > 1e-3
    np.testing.assert_array_equal(noisy.layer.kernel, before)


def test_noise_in_a_model_that_is_fitted(tmp_path):
    inner = keras.Sequential([keras.layers.Dense(4), keras.layers.BatchNormalization()])
    model = keras.Sequential(
        [keras.Input((3,)), WeightNoise(inner, 0.1), WeightNoise(keras.layers.Dense(1), 0.1)]
    )
    model.compile("sgd", "mse", jit_compile=True)
    x, y = draw(64, 3), draw(64, 1)
    model.fit(x, y, epochs=2, verbose=0)
    # Statistics that the layer itself gathers in training are kept.
    assert inner.layers[1].moving_mean.numpy().any()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_no_noise_leaves_a_layer_as_it_is():
    layer = keras.layers.Dense(2)
    quiet = WeightNoise(layer, stddev=0)
    x = draw(2, 3)
    np.testing.assert_array_equal(quiet(x, training=True), layer(x))
