"""The Associative LSTM against a plain reading of the paper's equations in complex numbers."""

import doctest
import json

import keras
import numpy as np
import ponderzoo.layers
import pytest
import tensorflow as tf
from keras import ops
from numeric import assert_close, draw, evaluate, scalar
from ponderzoo.layers import ACT, AssociativeLSTM, AssociativeLSTMCell

ROWS, STEPS, FEATURES, UNITS = 3, 5, 2, 6
EXACT, SINGLE = 1e-10, 1e-5  # relative to the largest entry
HOLES = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)


# A plain reading: one row, one step, one copy at a time.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_bound(z):
    return np.array([x / max(1.0, abs(x)) for x in z])


def plain(layer, sequence, mask=None):
    """Outputs `(batch, time, units)`, h and c of all copies, complex `(batch, copies, half)`."""
    cell = layer.cell
    kernel, recurrent, bias = (
        np.float64(x) for x in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    half, copies = cell.units // 2, cell.copies
    orders = [np.arange(half), *([] if copies == 1 else np.asarray(cell.permutations))]
    outputs, states, memories = [], [], []
    for row, sequence_of_row in enumerate(np.float64(sequence)):
        h, c, answers = np.zeros(cell.units), np.zeros((copies, half), complex), []
        for t, x in enumerate(sequence_of_row):
            if mask is None or mask[row, t]:
                z = x @ kernel + bias
                z[: recurrent.shape[1]] += h @ recurrent
                forget, enter, leave = (sigmoid(a) for a in np.split(z[: 3 * half], 3))
                pairs = np.split(z[3 * half :], 6)
                key, out_key, update = (
                    plain_bound(pairs[i] + 1j * pairs[i + 1]) for i in (0, 2, 4)
                )
                c = np.array(
                    [forget * c[s] + key[orders[s]] * enter * update for s in range(copies)]
                )
                read = sum(out_key[orders[s]] * c[s] for s in range(copies)) / copies
                read = leave * plain_bound(read)
                h = np.concatenate([read.real, read.imag])
            answers.append(h)
        outputs.append(answers)
        states.append(h)
        memories.append(c)
    return np.array(outputs), np.array(states), np.array(memories)


# Layers and their numbers.


def fill(layer, scale=0.9):
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(draw([0, i], *variable.shape, scale=scale))
    return layer


def make(copies=3, dtype="float64", **options):
    options = {"return_sequences": True, "return_state": True, **options}
    layer = AssociativeLSTM(UNITS, copies, dtype=dtype, **options)
    layer.build((None, None, FEATURES))
    return fill(layer)


def loop_of(layer):
    """The same numbers in Keras's own loop."""
    cell = AssociativeLSTMCell.from_config(layer.cell.get_config())
    loop = keras.layers.RNN(
        cell, return_sequences=True, return_state=True, dtype=layer.dtype_policy.name
    )
    loop.build((None, None, FEATURES))
    loop.set_weights(layer.get_weights())
    return loop


def sequence(rows=ROWS, steps=STEPS):
    return draw(10, rows, steps, FEATURES)


def as_complex(c, copies):
    """A state as the plain reading has it."""
    real, imaginary = np.moveaxis(np.reshape(c, (len(c), 2, copies, UNITS // 2)), 1, 0)
    return real + 1j * imaginary


# The equations.


@pytest.mark.parametrize("mask", [None, HOLES], ids=["full", "holes"])
@pytest.mark.parametrize("candidate", [False, True])
@pytest.mark.parametrize("copies", [1, 2, 5])
def test_follows_the_equations(copies, candidate, mask):
    layer = make(copies, use_recurrent_candidate=candidate)
    output, h, c = layer(sequence(), mask=mask)
    expected = plain(layer, sequence(), mask)
    assert_close([output, h], expected[:2], EXACT)
    assert np.max(np.abs(as_complex(c, copies) - expected[2])) < EXACT


def test_float32_follows_the_equations_as_well():
    layer = make(dtype="float32")
    assert_close(layer(sequence())[0], plain(layer, sequence())[0], SINGLE)


@pytest.mark.parametrize("mask", [None, HOLES], ids=["full", "holes"])
@pytest.mark.parametrize("copies", [1, 3])
def test_is_what_the_cell_does_in_the_loop_of_keras(copies, mask):
    layer = make(copies)
    expected = evaluate(loop_of(layer), sequence(), mask=mask)
    assert_close(evaluate(layer, sequence(), mask=mask), expected, EXACT)


@pytest.mark.parametrize(
    "copies, mode, mask, training",
    [
        (3, "xla", HOLES, True),
        (3, "graph", None, True),
        (3, "graph", HOLES, False),
    ],
)
def test_all_modes_give_the_same_numbers(copies, mode, mask, training):
    layer = make(copies)
    expected = evaluate(layer, sequence(), mask=mask)
    assert_close(evaluate(layer, sequence(), mode, mask, training), expected, EXACT)


@pytest.mark.parametrize("scale", [0.3, 0.9, 4.0])
@pytest.mark.parametrize("copies", [1, 3])
def test_gradient_is_the_slope(copies, scale):
    """Small numbers stay within the unit circle, where `bound` does nothing; large ones do not."""
    layer, x = fill(make(copies), scale), tf.constant(sequence(2, 4))

    def value():
        return scalar(layer(x))

    with tf.GradientTape() as tape:
        total = value()
    variables, step = layer.trainable_variables, 1e-6
    for i, gradient in enumerate(tape.gradient(total, variables)):
        middle, direction = np.asarray(variables[i]), draw([7, i], *variables[i].shape)
        ends = []
        for sign in (1, -1):
            variables[i].assign(middle + sign * step * direction)
            ends.append(float(value()))
        variables[i].assign(middle)
        slope = float(np.sum(gradient * direction))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("error", [0.0, -(2.0**-23), 2.0**-23], ids=["own", "less", "more"])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("scale", [0.05, 0.9])
def test_float32_has_the_gradient_of_float64(monkeypatch, scale, mode, error):
    """Also where a processor rounds `rsqrt(1.0)` to 0.9999999 or to 1.0000001."""
    exact = evaluate(fill(make(), scale), sequence())
    rsqrt = ops.rsqrt
    monkeypatch.setattr(ops, "rsqrt", lambda x: rsqrt(x) * (1 + error))
    assert_close(evaluate(fill(make(dtype="float32"), scale), sequence(), mode), exact, SINGLE)


# The memory.


def store_and_retrieve(copies, items, values, half=300, rows=6, seed=0):
    """What the cell's memory gives back for each of `items` random keys, and what was stored."""
    cell = AssociativeLSTMCell(2 * half, copies, dtype="float64")
    cell.build((None, 1))
    rng = np.random.default_rng(seed)
    keys = np.exp(2j * np.pi * rng.random((items, rows, half)))
    stored = values(rng, (items, rows, half))
    open_, shut = np.full((rows, half), 50.0), np.full((rows, half), -50.0)

    def step(enter, leave, key, out_key, update, memory):
        numbers = [key.real, key.imag, out_key.real, out_key.imag, update.real, update.imag]
        z = np.concatenate([open_, enter, leave, *numbers], axis=-1)
        return cell.access(tf.constant(z), memory, *cell.orders())

    memory = cell.split(cell.get_initial_state(rows)[1])
    for key, value in zip(keys, stored):
        _, memory = step(open_, shut, key, 0 * key, value, memory)
    found = []
    for key in keys:
        # No conjugate is taken in reading: a key that retrieves is the conjugate itself.
        h, memory = step(shut, open_, 0 * key, key.conj(), 0 * key, memory)
        real, imaginary = np.split(np.asarray(h), 2, axis=-1)
        found.append(real + 1j * imaginary)
    return np.array(found), stored


def disc(rng, shape):
    """Values so small that what is read stays within the bound."""
    return 0.01 * np.sqrt(rng.random(shape)) * np.exp(2j * np.pi * rng.random(shape))


@pytest.mark.parametrize("copies", [1, 4, 8, 20])
@pytest.mark.parametrize("items", [1, 2, 20])
def test_noise_grows_with_items_and_falls_with_copies(copies, items):
    """The squared error of n values that are stored is (n - 1) / copies of their mean square."""
    found, stored = store_and_retrieve(copies, items, disc)
    error = np.mean(np.abs(found - stored) ** 2) / np.mean(np.abs(stored) ** 2)
    # Two random permutations agree in one of their 300 places, where copies do not help.
    expected = (items - 1) / copies * (1 + (copies - 1) / 300)
    assert error == pytest.approx(expected, rel=0.05, abs=1e-20)


def test_copies_in_the_same_order_are_one_copy():
    one, three = make(1), make(3)
    three.set_weights([*one.get_weights(), np.tile(np.arange(UNITS // 2), (2, 1))])
    output, h, c = three(sequence())
    expected, h1, c1 = one(sequence())
    assert_close([output, h], [expected, h1], EXACT)
    assert np.max(np.abs(as_complex(c, 3) - as_complex(c1, 1))) < EXACT


def test_permutations_are_permutations_and_come_from_the_seed():
    def drawn(seed):
        cell = AssociativeLSTMCell(64, 5, permutation_seed=seed)
        cell.build((None, 1))
        return np.asarray(cell.permutations)

    one, same, other = drawn(0), drawn(0), drawn(1)
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert np.array_equal(np.sort(one), np.tile(np.arange(32), (4, 1)))
    assert len(np.unique(one, axis=0)) == 4


def test_bound_keeps_moduli_up_to_one():
    output, _, c = make(4)(100 * sequence(steps=40))
    half = UNITS // 2
    assert np.max(np.hypot(output[..., :half], output[..., half:])) <= 1 + 1e-12
    assert np.max(np.abs(as_complex(c, 4))) <= 40


# Parameters.


@pytest.mark.parametrize("features, units", [(2, 6), (10, 128)])
def test_parameters_do_not_depend_on_the_copies(features, units):
    for copies in (1, 4, 8):
        layer = AssociativeLSTM(units, copies)
        layer.build((None, None, features))
        count = sum(int(np.prod(v.shape)) for v in layer.trainable_variables)
        assert count == 3.5 * units**2 + 4.5 * units * features + 4.5 * units


def test_the_paper_s_networks_differ_by_as_many_parameters_as_ours():
    """65,505 and, with LSTM, 72,993: the cells differ, all else is the same."""
    associative, lstm = AssociativeLSTM(128, 8), keras.layers.LSTM(128)
    for layer in (associative, lstm):
        layer.build((None, None, 10))
    count = sum(int(np.prod(v.shape)) for v in associative.trainable_variables)
    assert lstm.count_params() - count == 72_993 - 65_505


def test_the_update_sees_h_only_where_that_is_asked_for():
    plain_, asked = make(), make(use_recurrent_candidate=True)
    assert plain_.cell.recurrent_kernel.shape == (UNITS, 7 * UNITS // 2)
    assert asked.cell.recurrent_kernel.shape == (UNITS, 9 * UNITS // 2)


def test_the_forget_gate_begins_with_its_bias():
    for forget_bias in (0.0, 1.5):
        cell = AssociativeLSTMCell(UNITS, forget_bias=forget_bias, bias_initializer="ones")
        cell.build((None, FEATURES))
        forget, rest = np.split(np.asarray(cell.bias), [UNITS // 2])
        assert np.all(forget == 1 + forget_bias) and np.all(rest == 1)


@pytest.mark.parametrize(
    "wrong, said",
    [({"units": 5}, "even number"), ({"units": 0}, "even"), ({"units": 4, "copies": 0}, "copies")],
)
def test_wrong_sizes_are_refused(wrong, said):
    with pytest.raises(ValueError, match=f"{said}.* got"):
        AssociativeLSTM(**wrong)


# Masks, edges, states.


def test_masked_steps_count_as_if_they_were_not_there():
    layer, x = make(), sequence()
    output, *states = layer(x, mask=HOLES)
    for row, real in enumerate(HOLES):
        alone, *end = layer(x[row : row + 1, real])
        assert_close(np.asarray(output)[row, real], alone[0], EXACT)
        assert_close([s[row : row + 1] for s in states], end, EXACT)
    assert np.array_equal(output[0, 1], output[0, 0]) and not np.any(output[2])


def test_a_sequence_may_be_continued_from_its_state():
    layer, x = make(), sequence()
    whole, *end = layer(x)
    first, *middle = layer(x[:, :2])
    last, *last_end = layer(x[:, 2:], initial_state=middle)
    assert_close([np.concatenate([first, last], axis=1), *last_end], [whole, *end], EXACT)


@pytest.mark.parametrize("rows, steps", [(1, 1), (1, 3), (ROWS, 1)])
def test_one_row_and_one_step_follow_the_equations(rows, steps):
    layer = make()
    assert_close(layer(sequence(rows, steps))[0], plain(layer, sequence(rows, steps))[0], EXACT)
    last = make(return_sequences=False)(sequence(rows, steps))[0]
    assert_close(last, plain(layer, sequence(rows, steps))[1], EXACT)


@pytest.mark.parametrize("copies", [1, 3])
def test_a_graph_of_any_batch_and_time_takes_all(copies):
    layer = make(copies)
    spec = tf.TensorSpec([None, None, FEATURES], "float64")
    run = tf.function(lambda x: layer(x), input_signature=[spec])
    for rows, steps in ((ROWS, STEPS), (1, 1), (2, 0), (0, 2)):
        x = sequence(rows, steps)
        assert_close(run(x), layer(x), EXACT)


@pytest.mark.parametrize("training", [True, False])
def test_a_sequence_of_no_steps_returns_the_state(training):
    layer = make()
    (output, h, c), gradients = evaluate(layer, sequence(2, 0), training=training)
    assert output.shape == (2, 0, UNITS) and not np.any(h) and not np.any(c)
    assert all(not np.any(g) for g in gradients)
    start = [draw(1, 2, UNITS), draw(2, 2, 3 * UNITS)]
    assert_close(layer(sequence(2, 0), initial_state=start)[1:], start, EXACT)


# Precision.


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_the_memory_in_float32(dtype):
    layer, exact = make(dtype=dtype), make(dtype="float32")
    output, h, c = layer(sequence())
    assert output.dtype == h.dtype == layer.compute_dtype and c.dtype == "float32"
    assert_close(np.float32(output), exact(sequence())[0], 0.1)
    gradients = evaluate(layer, sequence())[1]
    assert all(np.all(np.isfinite(np.float32(g))) for g in gradients)
    assert all(g.dtype == "float32" for g in gradients[1:])
    assert_close(np.float32(loop_of(layer)(sequence())[0]), np.float32(output), 0.1)


def test_large_inputs_and_weights_give_finite_gradients():
    layer = fill(make(dtype="float32"), scale=30.0)
    outputs, gradients = evaluate(layer, 1e4 * sequence(steps=8))
    assert all(np.all(np.isfinite(x)) for x in (*outputs, *gradients))


# Among other layers, in files and on the other backend.


def test_act_ponders_over_it():
    act = ACT(AssociativeLSTMCell(UNITS, 3), max_ponder=3, return_ponder=True)
    with tf.GradientTape() as tape:
        output, updates, _ = act(sequence().astype("float32"))
        total = ops.sum(output) + act.losses[0]
    gradients = tape.gradient(total, act.trainable_variables)
    assert np.all(np.asarray(updates) >= 1)
    assert all(g is not None and np.all(np.isfinite(g)) for g in gradients)


def test_comes_back_from_its_config():
    options = {"use_recurrent_candidate": True, "forget_bias": 2.0, "permutation_seed": 3}
    layer = make(4, kernel_initializer="he_normal", **options)
    for one in (layer, layer.cell):
        config = json.loads(json.dumps(one.get_config()))
        assert options.items() <= config.items()
        again = type(one).from_config(config)
        assert json.loads(json.dumps(again.get_config())) == config


def test_files_keep_the_permutations(tmp_path):
    inputs = keras.Input((None, FEATURES))
    layer = AssociativeLSTM(UNITS, 3)
    model = keras.Model(inputs, layer(inputs))
    order = np.roll(np.arange(UNITS // 2), 1)
    layer.cell.permutations.assign(np.stack([order, order[::-1]]))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(again.layers[-1].cell.permutations, layer.cell.permutations)
    x = sequence().astype("float32")
    assert_close(again(x), model(x), 1e-7)


def test_weights_fit_another_number_of_copies():
    one, eight = make(1), make(8)
    for a, b in zip(eight.trainable_variables, one.trainable_variables):
        a.assign(b)
    assert np.all(np.isfinite(eight(sequence())[0]))


JAX = f"""
import json
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from ponderzoo.layers import AssociativeLSTM

def draw(seed, *shape, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=shape)

x, mask = draw(10, {ROWS}, {STEPS}, {FEATURES}), np.array({HOLES.astype(int).tolist()}, bool)
layer = AssociativeLSTM({UNITS}, 3, dtype="float64", return_sequences=True, return_state=True)
layer.build((None, None, {FEATURES}))
weights = [draw([0, i], *v.shape, scale=0.9) for i, v in enumerate(layer.trainable_variables)]
fixed = [v.value for v in layer.non_trainable_variables]

def total(x, weights):
    outputs, _ = layer.stateless_call(weights, fixed, x, mask=mask, training=True)
    return sum((a * draw([20, i], *a.shape)).sum() for i, a in enumerate(outputs)), outputs

(_, outputs), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(x, weights)
_, eager = total(x, weights)
empty, _ = layer.stateless_call(weights, fixed, x[:, :0])
assert empty[0].shape == ({ROWS}, 0, {UNITS})
answers = [*outputs, gradients[0], *gradients[1], *eager]
print(json.dumps([np.asarray(a).tolist() for a in answers]))
"""


def test_jax_gives_the_same_numbers_compiled_or_not(fresh):
    pytest.importorskip("jax", reason="JAX is not installed")
    found = json.loads(fresh(JAX, backend="jax").splitlines()[-1])
    outputs, gradients = evaluate(make(), sequence(), mask=HOLES)
    for a, b in zip(found, [*outputs, *gradients, *outputs], strict=True):
        assert_close(np.array(a), b, SINGLE)


def test_docstring_examples_run():
    module = ponderzoo.layers.associative_lstm
    found = doctest.testmod(module, globs={**vars(module)})
    assert found.attempted >= 4 and not found.failed
