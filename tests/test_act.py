"""ACT against the equations of the paper, read plainly in `reference.py`."""

import dataclasses
import doctest
import functools
import itertools
import json
from collections.abc import Callable

import keras
import numpy as np
import ponderzoo.layers
import pytest
import reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from ponderzoo import layers
from ponderzoo.layers import ACT, _halting_loop

ROWS, STEPS, FEATURES, CAP = 5, 4, 3, 5
EXACT, SINGLE = 1e-12, 1e-5  # relative to the largest entry


# Cells, each with its plain reading.


@keras.saving.register_keras_serializable("tests")
class SubLSTM(keras.layers.LSTMCell):
    """Not the type that the fast step knows."""


@keras.saving.register_keras_serializable("tests")
class SubGRU(keras.layers.GRUCell):
    """Likewise."""


@keras.saving.register_keras_serializable("tests")
class SubRNN(keras.layers.SimpleRNNCell):
    """Likewise."""


@keras.saving.register_keras_serializable("tests")
class TwoSpeed(keras.layers.Layer):
    """A user's own cell: two states of different sizes and an output that is neither."""

    def __init__(self, fast, slow, units, **kwargs):
        super().__init__(**kwargs)
        self.fast, self.slow, self.units = fast, slow, units
        self.state_size, self.output_size = [fast, slow], units

    def build(self, shape):
        self.inward = self.add_weight((shape[-1] + self.fast + self.slow, self.fast))
        self.slowing = self.add_weight((self.fast, self.slow))
        self.outward = self.add_weight((self.fast + self.slow, self.units))
        self.rate = self.add_weight((), initializer="ones", trainable=False)

    def call(self, inputs, states, training=False):
        fast, slow = states
        fast = ops.tanh(ops.concatenate([inputs, fast, slow], axis=-1) @ self.inward)
        slow = slow + 0.25 * self.rate * (ops.tanh(fast @ self.slowing) - slow)
        return ops.concatenate([fast, slow], axis=-1) @ self.outward, [fast, slow]

    def get_config(self):
        return {**super().get_config(), "fast": self.fast, "slow": self.slow, "units": self.units}


def two_speed(weights, x, state):
    inward, slowing, outward = weights
    fast = tf.tanh(tf.concat([x, *state], axis=-1) @ inward)
    slow = state[1] + 0.25 * (tf.tanh(fast @ slowing) - state[1])
    return tf.concat([fast, slow], axis=-1) @ outward, [fast, slow]


def stacked(weights, x, state):
    y, first = reference.lstm(weights[:3], x, state[:2])
    y, second = reference.gru(weights[3:], y, state[2:])
    return y, [*first, *second]


@keras.saving.register_keras_serializable("tests")
class Playlist(keras.layers.Layer):
    """Its output after the n-th update of an input is its n-th weight, whatever the input."""

    def __init__(self, length, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.state_size, self.output_size = length, 1

    def build(self, shape):
        self.tracks = self.add_weight((self.length, 1))

    def call(self, inputs, states):
        flag = inputs[:, -1:]
        first = ops.cast(ops.arange(self.length) == 0, flag.dtype)
        place = flag * first + (1 - flag) * ops.roll(states[0], 1, axis=-1)
        return place @ self.tracks, [place]


@keras.saving.register_keras_serializable("tests")
class Odd(keras.layers.Layer):
    """A cell whose weights are used in every way but the usual one."""

    state_size = 4

    def build(self, shape):
        self.inward = self.add_weight((shape[-1], 4))
        self.twice = self.add_weight((4, 4))  # in two products and transposed
        self.one = self.add_weight((1,))  # a bias that is broadcast
        self.scale = self.add_weight((4,))  # added to a weight, multiplied
        self.unused = self.add_weight((3, 2))
        self.number = self.add_weight(())

    def call(self, inputs, states):
        (h,) = states
        z = inputs @ self.inward + (h @ self.twice) @ self.twice + self.one
        z = z + h @ ops.transpose(self.twice) + h @ (self.twice + self.scale)
        h = ops.tanh(0.6 * z * self.scale + self.number)
        return h, [h]


def odd(weights, x, state):
    inward, twice, one, scale, _, number = weights
    (h,) = state
    z = x @ inward + h @ twice @ twice + one + h @ tf.transpose(twice) + h @ (twice + scale)
    h = tf.tanh(0.6 * z * scale + number)
    return h, [h]


@keras.saving.register_keras_serializable("tests")
class OneBias(keras.layers.Layer):
    """A cell with a bias that all units share."""

    state_size = 4

    def build(self, shape):
        self.kernel = self.add_weight((shape[-1] + 4, 4))
        self.bias = self.add_weight((1,))

    def call(self, inputs, states):
        h = ops.tanh(ops.concatenate([inputs, *states], axis=-1) @ self.kernel + self.bias)
        return h, [h]


def one_bias(weights, x, state):
    h = tf.tanh(tf.concat([x, *state], axis=-1) @ weights[0] + weights[1])
    return h, [h]


@dataclasses.dataclass(frozen=True)
class Kind:
    make: Callable
    plain: Callable
    fill: int = 0  # seed of the weights: N takes all values from 1 to the cap


L = keras.layers
KINDS = {
    "lstm": Kind(lambda **o: L.LSTMCell(4, **o), reference.lstm, 5),
    "gru": Kind(lambda **o: L.GRUCell(4, **o), reference.gru, 1),
    "rnn": Kind(lambda **o: L.SimpleRNNCell(4, **o), reference.simple_rnn, 5),
    "sub_lstm": Kind(lambda **o: SubLSTM(4, **o), reference.lstm, 5),
    "sub_gru": Kind(lambda **o: SubGRU(4, **o), reference.gru, 1),
    "sub_rnn": Kind(lambda **o: SubRNN(4, **o), reference.simple_rnn, 5),
    "stacked": Kind(
        lambda **o: L.StackedRNNCells([L.LSTMCell(4, **o), L.GRUCell(3, **o)], **o), stacked, 23
    ),
    "own": Kind(lambda **o: TwoSpeed(3, 2, 4, **o), two_speed),
    "odd": Kind(lambda **o: Odd(**o), odd, 54),
    "one_bias": Kind(lambda **o: OneBias(**o), one_bias, 1),
}


# A layer, its inputs, and a scalar of everything that it answers.


def draw(seed, *shape, scale=1.0):
    """Numbers that float32 holds exactly."""
    return scale * np.random.default_rng(seed).normal(size=shape).astype("float32").astype(
        "float64"
    )


def fill(layer, seed):
    """The same weights for every dtype; N then differs from input to input."""
    for i, variable in enumerate(layer.cell.trainable_variables):
        variable.assign(draw([seed, i], *variable.shape, scale=0.6))
    layer.halting.kernel.assign(draw([seed, 99], *layer.halting.kernel.shape, scale=4))
    layer.halting.bias.assign([-1.0])


def make(kind, dtype="float64", max_ponder=CAP, cell=None, **options):
    keras.utils.set_random_seed(1)
    options = {"return_sequences": True, "return_state": True, "return_ponder": True, **options}
    layer = ACT(cell or KINDS[kind].make(dtype=dtype), max_ponder, dtype=dtype, **options)
    layer.build((None, None, FEATURES))
    if cell is None:
        fill(layer, KINDS[kind].fill)
    return layer


def sizes(layer):
    return keras.tree.flatten(layer.cell.state_size)


def problem(layer, rows=ROWS, steps=STEPS, seed=10):
    """An input, a state, and a cotangent for outputs, states and R."""
    x = draw([seed, 0], rows, steps, FEATURES)
    state = [draw([seed, 1, i], rows, size) for i, size in enumerate(sizes(layer))]
    units = layer.halting.kernel.shape[0]
    shapes = [(rows, steps, units), *((rows, size) for size in sizes(layer)), (rows, steps)]
    return x, state, [draw([seed, 2, i], *shape) for i, shape in enumerate(shapes)]


def scalar(outputs, cotangents):
    """A sum over outputs, states and R; N comes with a weight too, which must not matter."""
    *outputs, updates, remainder = outputs
    pairs = zip([*outputs, remainder], cotangents)
    total = sum(ops.sum(ops.cast(a, "float64") * ops.cast(b, "float64")) for a, b in pairs)
    return total + 1000 * ops.cast(ops.sum(updates), "float64")


def runner(layer, cotangents, mode="eager", mask=None, training=True):
    """A function of x and states that gives outputs and gradients.

    The gradients are by x, the states, the weights of the cell and those of the halting unit.
    """
    dtype = layer.compute_dtype

    def both(mask, x, *state):
        with tf.GradientTape() as tape:
            tape.watch([x, *state])
            outputs = layer(x, mask=mask, initial_state=list(state), training=training)
            loss = scalar(outputs, cotangents)
        return outputs, tape.gradient(loss, [x, *state, *layer.trainable_variables])

    jit = "xla" in mode
    if "dynamic" in mode:
        specs = [tf.TensorSpec([None, None], "bool"), tf.TensorSpec([None, None, FEATURES], dtype)]
        specs += [tf.TensorSpec([None, size], dtype) for size in sizes(layer)]
        if mask is None:
            unmasked = tf.function(
                functools.partial(both, None), input_signature=specs[1:], jit_compile=jit
            )
            both = lambda mask, *tensors: unmasked(*tensors)  # noqa: E731
        else:
            both = tf.function(both, input_signature=specs, jit_compile=jit)
    elif mode != "eager":
        both = tf.function(both, jit_compile=jit)

    def run(x, *state):
        tensors = [tf.constant(a, dtype) for a in (x, *state)]
        outputs, gradients = both(None if mask is None else tf.constant(mask), *tensors)
        return [np.asarray(a) for a in outputs], [np.asarray(a) for a in gradients]

    return run


def evaluate(layer, problem, mode="eager", mask=None, training=True):
    """Outputs and gradients of a problem."""
    x, state, cotangents = problem
    return runner(layer, cotangents, mode, mask, training)(x, *state)


def read(layer, plain, problem, lengths=None, place=None):
    """`evaluate` by the plain equations; `place` maps the outputs before the scalar is taken."""
    x, state, cotangents = problem
    tensors = [tf.constant(a) for a in (x, *state)]
    weights = [tf.constant(np.float64(v)) for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([*tensors, *weights])
        *cell, kernel, bias = weights
        outputs, states, updates, remainder = reference.act(
            plain,
            cell,
            (kernel, bias),
            tensors[0],
            tensors[1:],
            layer.max_ponder,
            layer.epsilon,
            lengths,
        )
        outputs = [outputs, *states, updates, remainder]
        if place:
            outputs = place(outputs)
        loss = scalar(outputs, cotangents)
    gradients = tape.gradient(loss, [*tensors, *weights], unconnected_gradients="zero")
    return [np.asarray(a) for a in outputs], [np.asarray(a) for a in gradients]


@functools.cache
def read_kind(name):
    layer = make(name)
    return read(layer, KINDS[name].plain, problem(layer))


def assert_close(found, expected, tolerance, at_least=0.0):
    """The norm of an error stays within `tolerance` of that of the array, or of `at_least`."""
    for part, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert len(ours) == len(theirs)
        for i, (a, b) in enumerate(zip(ours, theirs)):
            assert a.shape == b.shape
            error = np.linalg.norm(np.float64(a) - b)
            largest = max(np.linalg.norm(np.float64(b)), at_least)
            assert error <= tolerance * (largest or 1), (("outputs", "gradients")[part], i, error)


# The equations.


def test_updates_of_the_cases_run_from_one_to_the_cap():
    updates = [read_kind(name)[0][-2] for name in KINDS]
    assert set(np.concatenate(updates, axis=None)) == set(range(1, CAP + 1))
    assert all(len(set(some.flat)) > 2 for some in updates)


@pytest.mark.parametrize("name", KINDS)
def test_equals_the_equations_in_float64(name):
    layer = make(name)
    assert_close(evaluate(layer, problem(layer)), read_kind(name), EXACT)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "stacked", "own", "odd", "one_bias"])
def test_equals_the_equations_in_a_graph_of_any_batch_and_time(name):
    layer = make(name)
    assert_close(evaluate(layer, problem(layer), "dynamic"), read_kind(name), EXACT)


@pytest.mark.parametrize("error, updates", [(0.0, 1), (-(2.0**-23), 2), (2.0**-23, 1)], ids=str)
def test_at_the_threshold_a_row_halts_or_goes_on_as_on_either_side(monkeypatch, error, updates):
    """Processors round a sigmoid differently; what follows is right for the number that it gave."""

    def halves(dtype, epsilon):
        layer = make("rnn", dtype, epsilon=epsilon)
        for variable in layer.halting.trainable_variables:
            variable.assign(np.zeros(variable.shape))
        return layer

    exact = halves("float64", 0.5 + (1e-9 if updates == 1 else -1e-9))
    expected = evaluate(exact, problem(exact))
    assert np.all(expected[0][-2] == updates)
    sigmoid = ops.sigmoid
    monkeypatch.setattr(ops, "sigmoid", lambda x: sigmoid(x) * (1 + error))
    found = evaluate(halves("float32", 0.5), problem(exact))
    for part in range(2):
        assert_close(found[part], expected[part], 1e-5)


@pytest.mark.parametrize("name", ["lstm", "odd"])
def test_equals_the_equations_under_xla(name):
    layer = make(name)
    assert_close(evaluate(layer, problem(layer), "xla"), read_kind(name), EXACT)


@pytest.mark.parametrize(
    "name, mode",
    [*((name, "eager") for name in KINDS), ("gru", "xla"), ("stacked", "xla"), ("own", "xla")],
)
def test_equals_the_equations_in_float32(name, mode):
    layer = make(name, "float32")
    outputs, gradients = evaluate(layer, problem(layer), mode)
    expected_outputs, expected_gradients = read_kind(name)
    # A bias may have a gradient near zero, a sum that cancels: relative to the whole gradient.
    whole = np.linalg.norm([np.linalg.norm(g) for g in expected_gradients])
    assert_close((outputs, []), (expected_outputs, []), SINGLE)
    assert_close(([], gradients), ([], expected_gradients), SINGLE, at_least=whole)


@pytest.mark.parametrize(
    "name, mode",
    [
        *itertools.product(["gru", "own"], ["eager", "dynamic"]),
        ("lstm", "xla"),
    ],
)
def test_chunks_that_are_computed_again_change_nothing(name, mode):
    layer = make(name, memory_budget=1)
    assert read_kind(name)[0][-2].sum(axis=1).max() > 8  # more updates than a chunk holds
    assert_close(evaluate(layer, problem(layer), mode), read_kind(name), EXACT)


@pytest.mark.parametrize(
    "name, mode, budget",
    [
        *itertools.product(["lstm", "own"], ["eager"], [1, 2**27]),
        ("lstm", "graph", 1),
        ("own", "graph", 2**27),
        ("gru", "xla", 2**27),
        ("own", "xla", 1),
        ("rnn", "dynamic xla", 2**27),
    ],
)
def test_rows_that_finish_early_change_nothing_for_the_others(name, mode, budget, monkeypatch):
    monkeypatch.setattr(_halting_loop, "FEWEST_ROWS", 1)
    monkeypatch.setattr(_halting_loop, "FEWEST_UPDATES", 1)
    layer = make(name, memory_budget=budget)
    if mode == "eager":  # a mask covers more, and both take twice as long to compile
        assert_close(evaluate(layer, problem(layer), mode), read_kind(name), EXACT)
    task, lengths = problem(layer, rows=9), np.array([4, 0, 1, 2, 4, 1, 3, 0, 3])
    mask = np.arange(STEPS) < lengths[:, None]
    expected = read(layer, KINDS[name].plain, task, lengths, spread(mask))
    assert_close(evaluate(layer, task, mode, mask), expected, EXACT)


@pytest.mark.parametrize("name", ["lstm", "own"])
def test_one_input_a_row_ends_in_segments_too(name, monkeypatch):
    monkeypatch.setattr(_halting_loop, "FEWEST_ROWS", 1)
    monkeypatch.setattr(_halting_loop, "FEWEST_UPDATES", 1)
    layer = make(name)
    task = problem(layer, rows=12, steps=1)
    assert len(np.unique(evaluate(layer, task)[0][-2])) > 2
    expected = read(layer, KINDS[name].plain, task)
    assert_close(evaluate(layer, task, "graph"), expected, EXACT)
    assert_close(evaluate(layer, task, training=False), expected, EXACT)


@pytest.mark.parametrize("budget", [1, 2**27])
@pytest.mark.parametrize("steps, cap", [(1, 7), (1, 8), (1, 9), (2, 8), (17, 1), (8, 3), (5, 5)])
def test_any_number_of_updates_fills_blocks_and_chunks(steps, cap, budget):
    layer = make("rnn", max_ponder=cap, memory_budget=budget)
    layer.halting.kernel.assign(layer.halting.kernel * 0.01)
    layer.halting.bias.assign([-3.0])
    task = problem(layer, rows=2, steps=steps)
    found = evaluate(layer, task)
    assert np.all(found[0][-2] == cap)
    assert_close(found, read(layer, reference.simple_rnn, task), EXACT)


@pytest.mark.parametrize("name, mode", [("lstm", "eager"), ("own", "dynamic"), ("rnn", "xla")])
def test_gradient_does_not_depend_on_training(name, mode):
    layer = make(name)
    assert_close(evaluate(layer, problem(layer), mode, training=False), read_kind(name), EXACT)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_cells_without_bias_take_both_steps_alike(name):
    found = []
    for kind in (name, f"sub_{name}"):
        layer = make(kind, cell=KINDS[kind].make(use_bias=False, dtype="float64"))
        fill(layer, 3)
        assert len(layer.cell.trainable_variables) == 2
        found.append(evaluate(layer, problem(layer)))
    assert_close(found[0], found[1], EXACT)


@pytest.mark.parametrize(
    "cell",
    [
        L.LSTMCell(4, activation="relu", dtype="float64"),
        L.LSTMCell(4, recurrent_activation="hard_sigmoid", dtype="float64"),
        L.GRUCell(4, reset_after=False, dtype="float64"),
        L.SimpleRNNCell(4, activation="softsign", dtype="float64"),
    ],
    ids=["relu", "hard_sigmoid", "reset_before", "softsign"],
)
def test_cells_with_other_formulas_keep_them(cell):
    layer = make(None, cell=cell, max_ponder=1)
    x, _, _ = problem(layer)
    flagged = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    expected = L.RNN(cell, return_sequences=True, dtype="float64")(flagged)
    np.testing.assert_allclose(layer(x)[0], expected, atol=EXACT)


def test_gradient_passes_a_frozen_cell():
    layer = make("own")
    count = len(layer.cell.trainable_variables)
    layer.cell.trainable = False
    outputs, gradients = evaluate(layer, problem(layer))
    all_outputs, all_gradients = read_kind("own")
    expected = all_gradients[: -count - 2] + all_gradients[-2:]
    assert_close((outputs, gradients), (all_outputs, expected), EXACT)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(shapes, st.floats(0.001, 0.6), st.integers(0, 2**16))
def test_any_shape_and_epsilon_follow_the_equations(shape, epsilon, seed):
    rows, steps, cap = shape
    layer = make("rnn", max_ponder=cap, epsilon=epsilon)
    fill(layer, seed)
    task = problem(layer, rows, steps, seed)
    assert_close(evaluate(layer, task), read(layer, reference.simple_rnn, task), 1e-9)


def test_halting_probabilities_and_remainder_sum_to_one():
    layer = make("gru")
    x, state, _ = problem(layer, steps=1)
    _, _, updates, remainder = layer(x, initial_state=state)
    assert len(set(np.ravel(updates))) > 2
    for row in range(ROWS):
        now, total = [state[0][row : row + 1]], 0.0
        n = int(updates[row, 0])
        for update in range(n):
            flag = np.full((1, 1), float(update == 0))
            y, now = layer.cell(np.concatenate([x[row : row + 1, 0], flag], axis=-1), now)
            last = float(ops.sigmoid(layer.halting(y))[0, 0])
            total += last if update < n - 1 else 0.0
        assert total + float(remainder[row, 0]) == pytest.approx(1, abs=EXACT)
        assert total < 0.99
        assert n == CAP or total + last >= 0.99


# The ponder cost.


def playlist(h, max_ponder, **options):
    """A layer that halts with the probabilities `h`, one after the other, and their logits."""
    dtype = options.get("dtype", "float64")
    logits = np.log(h) - np.log1p(-np.asarray(h))
    cell = Playlist(len(h), dtype=dtype)
    layer = ACT(cell, max_ponder, return_ponder=True, **{"dtype": dtype, **options})
    layer.build((None, None, 1))
    cell.tracks.assign(logits[:, None])
    layer.halting.kernel.assign([[1.0]])
    layer.halting.bias.assign([0.0])
    return layer, logits


@pytest.mark.parametrize(
    "h, cap, n",
    [
        ([0.3, 0.4, 0.2, 0.5, 0.5], 5, 4),  # halts on its own
        ([0.3, 0.4, 0.2, 0.5, 0.5], 3, 3),  # is stopped by the cap
        ([0.995, 0.5], 5, 1),  # halts at once
        ([0.1, 0.1], 1, 1),
    ],
)
def test_ponder_cost_pushes_on_all_halting_values_but_the_last(h, cap, n):
    layer, logits = playlist(h, cap, time_penalty=0.5)
    with tf.GradientTape() as tape:
        answer, updates, remainder = layer(np.zeros((2, 1, 1)))
        (cost,) = layer.losses
    before = np.arange(len(h)) < n - 1
    assert np.all(np.asarray(updates) == n)
    np.testing.assert_allclose(remainder, 1 - np.sum(np.where(before, h, 0)), atol=EXACT)
    p = np.where(before, h, 0) + (np.arange(len(h)) == n - 1) * float(remainder[0, 0])
    np.testing.assert_allclose(answer, np.full((2, 1), p @ logits), atol=EXACT)
    np.testing.assert_allclose(cost, 0.5 * (n + remainder[0, 0]), atol=EXACT)
    slope = np.asarray(h) * (1 - np.asarray(h))
    found = tape.gradient(cost, layer.cell.tracks)[:, 0]
    np.testing.assert_allclose(found, np.where(before, -0.5 * slope, 0), atol=EXACT)


def test_data_term_compares_each_result_with_the_last():
    h, n = [0.3, 0.4, 0.2, 0.5], 4
    layer, y = playlist(h, 9, time_penalty=0.0)
    with tf.GradientTape() as tape:
        answer, updates, _ = layer(np.zeros((1, 1, 1)))
    assert float(updates[0, 0]) == n
    p = np.array([*h[:3], 1 - sum(h[:3])])
    through_halting = (y - y[n - 1]) * np.multiply(h, np.subtract(1, h))
    found = tape.gradient(answer, layer.cell.tracks)[:, 0]
    np.testing.assert_allclose(found, p + through_halting, atol=EXACT)


@pytest.mark.parametrize("name", ["lstm", "own"])
def test_ponder_cost_gradient_is_the_slope_between_jumps(name):
    layer = make(name, time_penalty=0.7)
    x, state, _ = problem(layer)
    x, state = tf.constant(x), [tf.constant(s) for s in state]
    with tf.GradientTape() as tape:
        updates = layer(x, initial_state=state)[-2]
        (cost,) = layer.losses
    variables = layer.trainable_variables
    gradients = tape.gradient(cost, variables)
    step = 1e-6
    for i, (variable, gradient) in enumerate(zip(variables, gradients)):
        middle, direction = np.asarray(variable), draw([7, i], *variable.shape)
        costs = []
        for sign in (1, -1):
            variable.assign(middle + sign * step * direction)
            assert np.array_equal(layer(x, initial_state=state)[-2], updates)  # no jump in between
            costs.append(float(layer.losses[0]))
        variable.assign(middle)
        slope = (costs[0] - costs[1]) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=1e-6, abs=1e-8)
    assert any(np.any(np.asarray(g) != 0) for g in gradients)


@pytest.mark.parametrize("training", [True, False])
def test_loss_is_time_penalty_times_the_mean_ponder_of_a_sequence(training):
    layer = make("lstm", time_penalty=0.3)
    x, state, _ = problem(layer)
    mask = np.arange(STEPS) < np.array([4, 2, 0, 3, 1])[:, None]
    *_, updates, remainder = layer(x, mask=mask, initial_state=state, training=training)
    (loss,) = layer.losses
    assert np.all((np.asarray(updates) > 0) == mask) and np.all((np.asarray(remainder) > 0) == mask)
    np.testing.assert_allclose(loss, 0.3 * np.mean(np.sum(updates + remainder, axis=1)), atol=EXACT)


def test_no_penalty_adds_no_loss():
    layer = make("lstm", time_penalty=0.0)
    layer(problem(layer)[0])
    assert layer.losses == []


# The cell without pondering.


@pytest.mark.parametrize("how", ["halts at once", "cap of one"])
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "stacked", "own"])
def test_one_update_per_input_is_the_plain_recurrent_layer(name, how):
    layer = make(name, max_ponder=1 if how == "cap of one" else CAP)
    if how == "halts at once":
        layer.halting.kernel.assign(0 * layer.halting.kernel)
        layer.halting.bias.assign([np.log(0.99 / 0.01) + 1e-9])
    x, state, cotangents = problem(layer)
    mask = draw(4, ROWS, STEPS) > -0.5
    mask[:2, 0] = True, False
    found = evaluate(layer, (x, state, cotangents), mask=mask)
    assert np.array_equal(found[0][-2], mask) and np.array_equal(found[0][-1], mask)

    plain = L.RNN(layer.cell, return_sequences=True, return_state=True, dtype="float64")
    tensors = [tf.constant(a) for a in (x, *state)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        flagged = ops.concatenate([tensors[0], ops.ones_like(tensors[0][..., :1])], axis=-1)
        given = keras.tree.pack_sequence_as(layer.cell.state_size, tensors[1:])
        given = given if isinstance(given, (list, tuple)) else [given]
        outputs, *states = plain(flagged, initial_state=given, mask=tf.constant(mask))
        outputs = [outputs, *keras.tree.flatten(states)]
        loss = scalar([*outputs, tf.zeros(()), tf.zeros(())], [*cotangents[:-1], np.zeros(())])
    gradients = tape.gradient(loss, [*tensors, *layer.cell.trainable_variables])
    expected = [np.asarray(a) for a in outputs], [np.asarray(a) for a in gradients]
    assert_close((found[0][:-2], found[1][:-2]), expected, EXACT)


# Masks and edges.


def spread(mask):
    """From the outputs of the real steps at the front to those of all steps: masked ones repeat."""
    rank = np.cumsum(mask, axis=1) - 1

    def place(outputs):
        y, *states, updates, remainder = outputs
        seen = (rank >= 0)[..., None].astype("float64")
        y = tf.gather(y, np.maximum(rank, 0), batch_dims=1) * seen
        at = np.maximum(rank, 0)
        updates, remainder = (
            tf.gather(tf.constant(a, tf.float64), at, batch_dims=1) * mask
            for a in (updates, remainder)
        )
        return [y, *states, updates, remainder]

    return place


HOLES = np.array([[1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0]], bool)
PREFIX = np.arange(STEPS) < np.array([4, 3, 0, 1, 2])[:, None]


@pytest.mark.parametrize(
    "name, mask, mode",
    [
        *itertools.product(["lstm", "own"], ["holes", "prefix"], ["eager"]),
        ("own", "holes", "dynamic"),
        ("gru", "holes", "xla"),
    ],
)
def test_masked_steps_count_as_if_they_were_not_there(name, mask, mode):
    layer, mask = make(name), {"holes": HOLES, "prefix": PREFIX}[mask]
    x, state, cotangents = problem(layer)
    found = evaluate(layer, (x, state, cotangents), mode, mask=mask)
    order = np.argsort(~mask, axis=1, kind="stable")
    front = np.take_along_axis(x, order[..., None], axis=1)
    outputs, gradients = read(
        layer, KINDS[name].plain, (front, state, cotangents), mask.sum(axis=1), spread(mask)
    )
    back = np.argsort(order, axis=1)
    gradients[0] = np.take_along_axis(gradients[0], back[..., None], axis=1)
    assert_close(found, (outputs, gradients), EXACT)
    assert not np.any(found[1][0][~mask])


def test_rows_of_masked_steps_alone_keep_their_state():
    layer = make("lstm")
    x, state, _ = problem(layer)
    y, h, c, updates, remainder = layer(x, mask=np.zeros((ROWS, STEPS), bool), initial_state=state)
    for zero in (y, updates, remainder):
        assert not np.any(zero)
    assert np.array_equal(h, state[0]) and np.array_equal(c, state[1])


@pytest.mark.parametrize("name, mode", [("lstm", "eager"), ("own", "eager"), ("lstm", "graph")])
def test_rows_do_not_depend_on_their_batch(name, mode):
    layer = make(name, "float32")
    x, state, cotangents = problem(layer)
    mask = PREFIX | (np.arange(STEPS) < 1)
    outputs, gradients = evaluate(layer, (x, state, cotangents), mode, mask=mask)
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = x[one], [s[one] for s in state], [c[one] for c in cotangents]
        found = evaluate(layer, alone, "eager", mask=mask[one])
        assert_close([found[0]], [[a[one] for a in outputs]], 1e-6, at_least=1)
        by_inputs = [a[one] for a in gradients[: 1 + len(state)]]
        assert_close([found[1][: len(by_inputs)]], [by_inputs], SINGLE)


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_one_row_and_one_step_follow_the_equations(mode):
    layer = make("gru")
    task = problem(layer, rows=1, steps=1)
    assert_close(evaluate(layer, task, mode), read(layer, reference.gru, task), EXACT)


EMPTY = [("lstm", "eager"), ("own", "eager"), ("own", "graph"), ("lstm", "dynamic")]


@pytest.mark.parametrize("name, mode", EMPTY)
def test_a_sequence_of_no_steps_returns_the_state(name, mode):
    layer = make(name)
    task = problem(layer, steps=0)
    outputs, gradients = evaluate(layer, task, mode)
    y, *state, updates, remainder = outputs
    assert y.shape == (ROWS, 0, 4) and updates.shape == remainder.shape == (ROWS, 0)
    for found, start, slope, cotangent in zip(state, task[1], gradients[1:], task[2][1:]):
        assert np.array_equal(found, start) and np.array_equal(slope, cotangent)
    assert all(not np.any(g) for g in gradients[1 + len(state) :])


def test_last_output_of_no_steps_is_zero():
    layer = make("lstm", return_sequences=False)
    y, *_ = layer(np.zeros((ROWS, 0, FEATURES)))
    assert np.array_equal(y, np.zeros((ROWS, 4)))


@pytest.mark.parametrize("name, mode", EMPTY)
def test_a_batch_of_no_rows_returns_no_rows(name, mode):
    layer = make(name)
    outputs, gradients = evaluate(layer, problem(layer, rows=0), mode)
    assert outputs[0].shape == (0, STEPS, 4) and outputs[-1].shape == (0, STEPS)
    assert all(not np.any(g) for g in gradients)


def test_a_batch_of_no_rows_costs_nothing():
    layer = make("lstm")
    layer(problem(layer, rows=0)[0])
    assert float(layer.losses[0]) == 0


def test_initial_state_may_be_nested_as_the_cell_has_it():
    layer = make("stacked")
    x, (h, c, g), _ = problem(layer)
    flat = layer(x, initial_state=[h, c, g])
    nested = layer(x, initial_state=[[h, c], g])
    for a, b in zip(flat, nested, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["lstm", "own"])
def test_state_starts_at_zero(name):
    layer = make(name)
    x, state, _ = problem(layer)
    for a, b in zip(layer(x), layer(x, initial_state=[0 * s for s in state]), strict=True):
        assert np.array_equal(a, b)


def test_a_sequence_may_be_continued_from_its_state():
    layer = make("lstm")
    x, state, _ = problem(layer)
    whole, h, c, *_ = layer(x, initial_state=state)
    first, *middle, _, _ = layer(x[:, :3], initial_state=state)
    last, *end, _, _ = layer(x[:, 3:], initial_state=middle)
    np.testing.assert_allclose(np.concatenate([first, last], axis=1), whole, atol=EXACT)
    np.testing.assert_allclose(end, [h, c], atol=EXACT)


# What is returned.


FLAGS = list(itertools.product([False, True], repeat=3))


@pytest.mark.parametrize("sequences, state, ponder", FLAGS)
def test_returns_what_is_asked_for(sequences, state, ponder):
    layer = make("lstm")
    x, _, _ = problem(layer)
    y, h, c, updates, remainder = layer(x, mask=HOLES)
    expected = [y if sequences else y[:, -1]]
    expected += ([h, c] if state else []) + ([updates, remainder] if ponder else [])
    other = make(
        "lstm", return_sequences=sequences, return_state=state, return_ponder=ponder, time_penalty=0
    )
    found = other(x, mask=HOLES)
    assert isinstance(found, tuple) == (len(expected) > 1)
    for a, b in zip(keras.tree.flatten(found), expected, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("sequences, state, ponder", FLAGS)
@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_symbolic_outputs_are_those_of_a_call(sequences, state, ponder, dtype):
    for name in ("lstm", "stacked", "own"):
        layer = ACT(
            KINDS[name].make(dtype=dtype),
            return_sequences=sequences,
            return_state=state,
            return_ponder=ponder,
            dtype=dtype,
        )
        symbolic = keras.tree.flatten(layer(keras.Input((None, FEATURES))))
        real = keras.tree.flatten(layer(np.ones((2, 3, FEATURES), "float32")))
        specs = keras.tree.flatten(layer.compute_output_spec(keras.KerasTensor((2, 3, FEATURES))))
        for a, spec, b in zip(symbolic, specs, real, strict=True):
            assert spec.shape == b.shape
            assert len(a.shape) == len(b.shape) and a.shape[-1] in (None, b.shape[-1])
            assert {a.dtype, spec.dtype} == {keras.backend.standardize_dtype(b.dtype)}


def test_mask_travels_through_a_model():
    inputs = keras.Input((None, FEATURES))
    y, updates, _ = ACT(L.GRUCell(4), return_sequences=True, return_ponder=True)(
        L.Masking()(inputs)
    )
    model = keras.Model(inputs, [L.GRU(3)(y), updates])
    x = draw(3, 2, 4, FEATURES).astype("float32")
    x[0, 2:] = 0
    short, _ = model(x[:1, :2])
    full, updates = model(x)
    np.testing.assert_allclose(full[:1], short, atol=1e-6)
    assert np.array_equal(np.asarray(updates) > 0, [[1, 1, 0, 0], [1, 1, 1, 1]])


# Precision.


@pytest.mark.parametrize(
    "name, dtype, mode",
    [
        ("lstm", "mixed_float16", "eager"),
        ("gru", "mixed_bfloat16", "eager"),
        ("sub_lstm", "mixed_float16", "eager"),
        ("own", "mixed_bfloat16", "eager"),
        ("gru", "mixed_bfloat16", "xla"),
        ("own", "mixed_float16", "dynamic"),
    ],
)
def test_mixed_precision_stays_near_and_sums_in_float32(name, dtype, mode):
    layer = make(name, dtype)
    layer.halting.kernel.assign(0.1 * layer.halting.kernel)  # far from jumps
    task = problem(layer)
    task = task[0] / 4, *task[1:]
    found = evaluate(layer, task, mode)
    y, *states, updates, remainder = found[0]
    assert {layer.compute_dtype} == {a.dtype.name for a in (y, *states)}
    assert {"float32"} == {a.dtype.name for a in (updates, remainder)}
    assert all(g.dtype == "float32" for g in found[1][1 + len(states) :])
    expected = read(layer, KINDS[name].plain, task)
    assert np.array_equal(updates, expected[0][-2])
    assert_close(found, expected, 0.02 if dtype == "mixed_float16" else 0.1, at_least=1)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float32"])
def test_many_small_halting_values_add_up_in_float32(dtype):
    logit, cap = -4.5, 100  # a number of all three dtypes
    h = 1 / (1 + np.exp(-logit))
    layer, _ = playlist([h] * cap, cap, dtype=dtype)
    layer.cell.tracks.assign(np.full((cap, 1), logit))
    _, updates, remainder = layer(np.zeros((1, 1, 1)))
    n = int(np.ceil(0.99 / h))
    assert float(updates[0, 0]) == n < cap
    assert float(remainder[0, 0]) == pytest.approx(1 - (n - 1) * h, abs=1e-5)


@pytest.mark.parametrize(
    "of_layer, of_cell", [("mixed_bfloat16", "float32"), ("float32", "mixed_bfloat16")]
)
@pytest.mark.parametrize("name", ["lstm", "own"])
def test_cell_and_layer_may_have_different_policies(name, of_layer, of_cell):
    layer = make(name, of_layer, cell=KINDS[name].make(dtype=of_cell))
    fill(layer, 0)
    layer.halting.kernel.assign(0.1 * layer.halting.kernel)
    task = problem(layer)
    found = evaluate(layer, task)
    assert found[0][0].dtype.name == layer.compute_dtype and found[0][-1].dtype == "float32"
    assert_close(found, read(layer, KINDS[name].plain, task), 0.1, at_least=1)


def test_global_policy_reaches_layer_and_cell(policy):
    policy("mixed_float16")
    layer = ACT(L.LSTMCell(4), return_ponder=True)
    y, updates, remainder = layer(np.ones((2, 3, 2), "float32"))
    assert (y.dtype, updates.dtype, remainder.dtype) == (tf.float16, tf.float32, tf.float32)
    assert {v.dtype for v in layer.trainable_variables} == {"float32"}


# Dropout.


def dropping(name, seed=7, dtype="float64"):
    drop = {"dropout": 0.4, "recurrent_dropout": 0.3, "seed": seed, "dtype": dtype}
    if name == "stacked":
        cell = L.StackedRNNCells([L.LSTMCell(4, **drop), L.GRUCell(3, **drop)], dtype=dtype)
    else:
        cell = KINDS[name].make(**drop)
    layer = make(name, dtype, cell=cell)
    fill(layer, 0)
    return layer


def generators(cell):
    return [c.seed_generator for c in getattr(cell, "cells", [cell])]


def rewind(layer, states):
    """The same random numbers once more."""
    for generator, state in zip(generators(layer.cell), states):
        generator.state.assign(state)


@pytest.mark.parametrize(
    "name, mode",
    [
        *((name, "dynamic") for name in ("lstm", "gru", "rnn", "stacked")),
        ("gru", "xla"),
    ],
)
def test_gradient_is_that_of_the_masks_drawn(name, mode):
    layer = dropping(name)
    x, state, cotangents = problem(layer)
    run = runner(layer, cotangents, mode)
    start = [np.asarray(g.state) for g in generators(layer.cell)]
    outputs, gradients = run(x, *state)
    step = 1e-6

    def value(inputs=(x, *state)):
        rewind(layer, start)
        found, _ = run(*inputs)
        assert np.array_equal(found[-2], outputs[-2])  # the same masks, and no jump in between
        return float(scalar([*found[:-2], 0, found[-1]], cotangents))

    def check(move, gradient, seed):
        direction = draw([5, seed], *gradient.shape)
        slope = (move(step * direction) - move(-step * direction)) / (2 * step)
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-5, abs=1e-7)

    inputs = [x, *state]
    for i in range(len(inputs)):
        check(
            lambda d, i=i: value([a + d if i == k else a for k, a in enumerate(inputs)]),
            gradients[i],
            i,
        )
    for i, variable in enumerate(layer.trainable_variables, len(inputs)):
        middle = np.asarray(variable)

        def move(d, variable=variable, middle=middle):
            variable.assign(middle + d)
            return value()

        check(move, gradients[i], i)
        variable.assign(middle)


def dropped(kernel, mask):
    """A kernel that reads its input through a mask, or through one for each gate."""
    masks = mask if isinstance(mask, list) else [mask]
    gates = tf.split(kernel, len(masks), axis=1)
    return tf.concat([tf.transpose(m) * gate for m, gate in zip(masks, gates)], axis=1)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_masks_stay_for_the_whole_sequence(name):
    """Equal to the equations with one mask for all inputs and one for all states of a row."""
    layer = dropping(name)
    x, state, cotangents = problem(layer)
    start = [np.asarray(g.state) for g in generators(layer.cell)]
    found = evaluate(layer, (x, state, cotangents))
    rewind(layer, start)
    drawn = layer.cell
    drawn.reset_dropout_mask()
    drawn.reset_recurrent_dropout_mask()
    of_input = drawn.get_dropout_mask(tf.ones((ROWS, FEATURES + 1), tf.float64))
    of_state = drawn.get_recurrent_dropout_mask(tf.ones((ROWS, 4), tf.float64))
    drawn.reset_dropout_mask()
    drawn.reset_recurrent_dropout_mask()
    assert set(np.round(np.ravel(of_input), 6)) == {0.0, np.round(1 / 0.6, 6)}
    masks = of_input, of_state
    for row in range(ROWS):
        one = slice(row, row + 1)

        def masked(weights, x, state, row=row):
            a, b = (keras.tree.map_structure(lambda m: m[row : row + 1], m) for m in masks)
            kernel, recurrent, *bias = weights
            return KINDS[name].plain([dropped(kernel, a), dropped(recurrent, b), *bias], x, state)

        alone = x[one], [s[one] for s in state], [c[one] for c in cotangents]
        outputs, gradients = read(layer, masked, alone)
        inputs = 1 + len(state)
        assert_close(
            ([o[one] for o in found[0]], [g[one] for g in found[1][:inputs]]),
            (outputs, gradients[:inputs]),
            EXACT,
        )


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_every_call_draws_its_own_masks(mode):
    layer = dropping("lstm", dtype="float32")
    x, _, _ = problem(layer)
    call = functools.partial(layer, training=True)
    call = tf.function(call) if mode == "graph" else call
    x = tf.constant(x)
    first, second = call(x)[0], call(x)[0]
    assert not np.allclose(first, second)


@pytest.mark.parametrize("name", ["lstm", "stacked"])
def test_nothing_is_dropped_at_inference(name):
    layer, without = dropping(name), make(name)
    fill(without, 0)
    task = problem(layer)
    layer(task[0], training=True)
    found = evaluate(layer, task, training=False)
    assert_close(found, evaluate(without, task, training=False), EXACT)


def test_masks_of_a_graph_stay_in_it():
    layer = dropping("gru")
    x, state, cotangents = problem(layer)
    expected = evaluate(layer, (x, state, cotangents), training=False)
    run = runner(layer, cotangents, "graph")
    run(x, *state)
    assert_close(evaluate(layer, (x, state, cotangents), training=False), expected, EXACT)
    layer(x, initial_state=state, training=True)
    run(x, *state)


# Saving, settings, errors.


def test_config_holds_plain_types_and_comes_back():
    layer = ACT(
        [L.LSTMCell(4), L.GRUCell(3)],
        max_ponder=7,
        epsilon=0.05,
        time_penalty=0.2,
        return_sequences=True,
        return_state=True,
        return_ponder=True,
        memory_budget=1000,
        name="thinker",
        dtype="mixed_bfloat16",
    )
    config = json.loads(json.dumps(layer.get_config()))
    again = ACT.from_config(config)
    assert again.get_config() == layer.get_config()
    assert again.dtype_policy.name == "mixed_bfloat16" and again.name == "thinker"
    registered = keras.saving.serialize_keras_object(layer)
    assert (registered["registered_name"], registered["class_name"]) == ("ponderzoo>ACT", "ACT")


@pytest.mark.parametrize("name", ["lstm", "stacked", "own"])
def test_saved_model_gives_the_same_numbers(name, tmp_path):
    inputs = keras.Input((None, FEATURES), name="sequence")
    layer = make(name, "float32")
    model = keras.Model(inputs, layer(inputs))
    fill(layer, 0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = problem(layer)[0].astype("float32")
    for a, b in zip(model(x), loaded(x), strict=True):
        assert np.array_equal(a, b)


def test_halting_bias_starts_at_one():
    layer = ACT(L.LSTMCell(4))
    layer.build((None, None, 3))
    assert np.array_equal(layer.halting.bias, [1.0])
    assert layer.cell.kernel.shape[0] == 4  # the features and the flag


@pytest.mark.parametrize(
    "options, text",
    [
        ({"cell": L.Dense(3)}, "cell must be a Keras layer with a state_size"),
        ({"cell": "lstm"}, "cell must be a Keras layer with a state_size"),
        ({"max_ponder": 0}, "max_ponder must be a whole number from 1 on; got 0"),
        ({"max_ponder": 1.5}, "max_ponder must be a whole number from 1 on; got 1.5"),
        ({"epsilon": 0}, "epsilon must lie between 0 and 1, both excluded; got 0"),
        ({"epsilon": 1}, "epsilon must lie between 0 and 1, both excluded; got 1"),
        ({"epsilon": float("nan")}, "epsilon must lie between 0 and 1"),
        ({"time_penalty": -0.1}, "time_penalty must be 0 or more; got -0.1"),
        ({"time_penalty": float("nan")}, "time_penalty must be 0 or more"),
        ({"memory_budget": 0}, "memory_budget must be a positive number of bytes; got 0"),
    ],
)
def test_wrong_settings_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        ACT(**{"cell": L.LSTMCell(2), **options})


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
def test_wrong_rank_is_named(shape):
    with pytest.raises(
        ValueError, match=r"ACT needs a sequence of shape \(batch, time, features\)"
    ):
        ACT(L.LSTMCell(2))(np.zeros(shape, "float32"))


@pytest.mark.parametrize("features", [FEATURES - 1, FEATURES + 1])
@pytest.mark.parametrize("name", ["lstm", "own"])
def test_another_number_of_features_is_refused(name, features):
    layer = make(name)
    with pytest.raises(ValueError, match=f"value {FEATURES}.*, {features}\\)"):
        layer(np.zeros((2, STEPS, features)))


@keras.saving.register_keras_serializable("tests")
class Lazy(L.Layer):
    """A cell that leaves it to its first call to build what it consists of."""

    state_size = 3

    def __init__(self, rate=0.0):
        super().__init__()
        self.dense, self.noise = L.Dense(3), L.Dropout(rate)

    def call(self, inputs, states, training=False):
        h = self.dense(ops.concatenate([inputs, states[0]], axis=-1))
        return self.noise(h, training=training), [h]


def test_a_cell_may_build_itself_on_its_first_call():
    layer = ACT(Lazy(), max_ponder=1)
    x = draw(0, 2, STEPS, FEATURES).astype("float32")
    found = layer(x)
    assert len(layer.trainable_variables) == 4
    flagged = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    np.testing.assert_allclose(found, L.RNN(layer.cell)(flagged), atol=SINGLE)


def test_a_cell_with_randomness_of_its_own_is_refused():
    layer = ACT(Lazy(0.5))
    with pytest.raises(ValueError, match="draws random numbers"):
        layer(np.ones((2, 3, 4), "float32"), training=True)


# Training, the other backend, the examples.


def test_fit_learns_the_same_with_and_without_xla():
    x = draw(1, 24, STEPS, FEATURES).astype("float32")
    y = draw(2, 24, 4).astype("float32")
    histories = []
    for jit in (False, True):
        layer = make(
            "lstm", "float32", return_sequences=False, return_state=False, return_ponder=False
        )
        inputs = keras.Input((None, FEATURES))
        model = keras.Model(inputs, layer(inputs))
        model.compile(optimizer=keras.optimizers.SGD(0.02), loss="mse", jit_compile=jit)
        histories.append(
            model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]
        )
    assert histories[0][-1] < histories[0][0]
    np.testing.assert_allclose(*histories, rtol=1e-5)


JAX_CASES = ["lstm", "gru", "rnn", "own", "stacked", "lstm masked", "own in chunks"]
JAX_CASES += ["lstm masked in segments", "own in segments"]


def case_of_both(case):
    name, *more = case.split()
    options = {"memory_budget": 1} if "chunks" in more else {}
    return make(name, "float32", time_penalty=0.5, **options), HOLES if "masked" in more else None


def answer_in_jax(path):
    """Outputs, gradients and losses of all cases, in a process with Keras on JAX."""
    import jax

    assert keras.backend.backend() == "jax"
    answers = {}
    for case in JAX_CASES:
        _halting_loop.FEWEST_ROWS = 1 if "segments" in case else ROWS
        _halting_loop.FEWEST_UPDATES = 1
        layer, mask = case_of_both(case)
        x, state, cotangents = (
            jax.numpy.asarray(a) if isinstance(a, np.ndarray) else [jax.numpy.asarray(b) for b in a]
            for a in problem(layer)
        )
        fixed = [v.value for v in layer.non_trainable_variables]

        def loss(weights, x, state, layer=layer, mask=mask, fixed=fixed, cotangents=cotangents):
            outputs, _, losses = layer.stateless_call(
                weights, fixed, x, mask=mask, initial_state=state, training=True, return_losses=True
            )
            *rest, _, remainder = outputs
            total = sum(ops.sum(a * b) for a, b in zip([*rest, remainder], cotangents))
            return total, (outputs, losses)

        run = jax.jit(jax.value_and_grad(loss, argnums=(1, 2, 0), has_aux=True))
        weights = [v.value for v in layer.trainable_variables]
        (_, (outputs, losses)), gradients = run(weights, x, state)
        for kind, arrays in {"o": outputs, "g": gradients, "l": losses}.items():
            for i, array in enumerate(keras.tree.flatten(arrays)):
                answers[f"{case}/{kind}/{i}"] = np.asarray(array)
    np.savez(path, **answers)


@pytest.fixture(scope="session")
def jax_answers(fresh, tmp_path_factory):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path_factory.mktemp("jax") / "answers.npz"
    fresh("import sys, test_act; test_act.answer_in_jax(sys.argv[1])", path, backend="jax")
    return dict(np.load(path))


@pytest.mark.parametrize("case", JAX_CASES)
def test_jax_gives_the_same_numbers(case, jax_answers):
    layer, mask = case_of_both(case)
    task = problem(layer)
    outputs, gradients = evaluate(layer, task, mask=mask)
    layer(task[0].astype("float32"), mask=mask, initial_state=task[1])
    expected = {"o": outputs, "g": gradients, "l": [np.asarray(loss) for loss in layer.losses]}
    for kind, arrays in expected.items():
        found = [jax_answers[f"{case}/{kind}/{i}"] for i in range(len(arrays))]
        assert f"{case}/{kind}/{len(arrays)}" not in jax_answers
        assert_close([found], [arrays], SINGLE)


PUBLIC = {n: c for n, c in vars(layers).items() if not n.startswith("_") and isinstance(c, type)}


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_in_docstrings_are_right(name):
    cls = PUBLIC[name]
    module = __import__(cls.__module__, fromlist=["_"])
    finder = doctest.DocTestFinder(recurse=False)
    tests = [t for t in finder.find(cls, name, module, dict(vars(module))) if t.examples]
    assert tests, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        assert runner.run(test).failed == 0


def test_public_layers_are_found():
    assert {"ACT", "SequenceMask"} <= set(PUBLIC)
    assert ponderzoo.layers.ACT is ACT


def test_a_list_of_cells_computes_in_the_dtype_of_the_layer():
    cells = [keras.layers.LSTMCell(3, dtype="float64"), keras.layers.GRUCell(2, dtype="float64")]
    layer = ACT(cells, dtype="float64", max_ponder=3, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    output = layer(x)
    assert layer.cell.compute_dtype == output.dtype == "float64"
    found = tf.function(layer)(x, training=True)
    np.testing.assert_allclose(found, output, rtol=1e-12)
