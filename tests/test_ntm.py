"""The Neural Turing Machine against a plain reading of the paper's equations in numpy."""

import doctest
import functools
import json

import keras
import numpy as np
import ponderzoo.layers
import pytest
import tensorflow as tf
from keras import ops
from numeric import assert_close, draw, evaluate, scalar
from ponderzoo.layers import ACT, NTM, NTMCell

L = keras.layers
ROWS, STEPS, FEATURES, UNITS = 3, 4, 2, 5
SIZES = {"memory_slots": 6, "word_size": 3}
EXACT, SINGLE = 1e-10, 1e-5  # relative to the largest entry


# A plain reading: one row at a time, one head at a time, one slot at a time.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def softmax(x):
    return np.exp(x) / np.sum(np.exp(x))


def cosine(u, v):
    """Equation 6, with both lengths softened."""
    return u @ v / (np.sqrt(u @ u + 1e-6) * np.sqrt(v @ v + 1e-6))


def plain_address(memory, before, key, strength, gate, shift, power):
    """Equations 5 to 9."""
    slots, farthest = len(memory), len(shift) // 2
    content = softmax(np.array([strength * cosine(key, word) for word in memory]))
    gated = gate * content + (1 - gate) * before
    turned = np.zeros(slots)
    for i in range(slots):
        for j in range(slots):
            for distance in range(-farthest, farthest + 1):
                if (i - j - distance) % slots == 0:
                    turned[i] += gated[j] * shift[distance + farthest]
    return turned**power / np.sum(turned**power)


def plain_heads(raw, reads, writes, word, shifts):
    """The parameters of read and of write heads, by their places in the layer `heads`."""
    heads, place, told = reads + writes, 0, [{} for _ in range(reads + writes)]
    squashed = {
        "key": (word, np.tanh),
        "strength": (1, softplus),
        "gate": (1, sigmoid),
        "shift": (shifts, softmax),
        "power": (1, lambda x: 1 + softplus(x)),
    }
    for name, (size, squash) in squashed.items():
        for head in range(heads):
            value = squash(raw[place : place + size])
            told[head][name] = value if name in ("key", "shift") else value[0]
            place += size
    changes = [{} for _ in range(writes)]
    for name, squash in (("erase", sigmoid), ("add", np.tanh)):
        for head in range(writes):
            changes[head][name] = squash(raw[place : place + word])
            place += word
    assert place == len(raw)
    return told[:reads], told[reads:], changes


def plain_lstm(weights, x, state):
    kernel, recurrent, bias = weights
    i, f, g, o = np.split(x @ kernel + state[0] @ recurrent + bias, 4)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, [h, c]


def plain_feedforward(weights, x, state):
    return np.tanh(x @ weights[0] + weights[1]), []


def plain_ntm(cell, sequence):
    """Outputs `(batch, time, size)` and a trace, from the numbers of a cell."""
    lstm = hasattr(cell.controller, "state_size")
    weights = [np.float64(x) for x in cell.controller.trainable_variables]
    kernel, bias = (np.float64(x) for x in (cell.heads.kernel, cell.heads.bias))
    outputs, trace = [], {"memory": [], "read_weights": [], "write_weights": []}
    for row in np.float64(sequence):
        memory = np.full((cell.memory_slots, cell.word_size), 1e-6)
        if cell.learned_memory is not None:
            memory = np.float64(cell.learned_memory).reshape(cell.word_size, -1).T
        at = [np.eye(cell.memory_slots)[0]] * (cell.read_heads + cell.write_heads)
        state = [np.float64(x) for x in cell.initial_state]
        reads = np.float64(cell.initial_reads)
        answers, kept = [], {name: [] for name in trace}
        for x in row:
            step = plain_lstm if lstm else plain_feedforward
            h, state = step(weights, np.concatenate([x, reads]), state)
            readers, writers, changes = plain_heads(
                h @ kernel + bias,
                cell.read_heads,
                cell.write_heads,
                cell.word_size,
                2 * cell.shift_range + 1,
            )
            writing = [
                plain_address(memory, before, **head)
                for before, head in zip(at[cell.read_heads :], writers)
            ]
            memory = memory.copy()
            for w, change in zip(writing, changes):
                for i in range(cell.memory_slots):
                    memory[i] *= 1 - w[i] * change["erase"]
            for w, change in zip(writing, changes):
                for i in range(cell.memory_slots):
                    memory[i] += w[i] * change["add"]
            reading = [
                plain_address(memory, before, **head)
                for before, head in zip(at[: cell.read_heads], readers)
            ]
            reads = np.concatenate(
                [sum(w[i] * memory[i] for i in range(cell.memory_slots)) for w in reading]
            )
            at = [*reading, *writing]
            answers.append(np.concatenate([h, reads]))
            for name, value in zip(kept, (memory, reading, writing)):
                kept[name].append(np.array(value))
        outputs.append(answers)
        for name, values in kept.items():
            trace[name].append(values)
    return np.array(outputs), {name: np.array(values) for name, values in trace.items()}


# Layers and their numbers.


@keras.saving.register_keras_serializable("tests")
class Leaky(L.Layer):
    """A user's own cell, whose output is not its state."""

    state_size, output_size = 4, UNITS

    def build(self, shape):
        self.inward = self.add_weight((shape[-1] + 4, 4))
        self.outward = self.add_weight((4, UNITS))

    def call(self, inputs, states):
        h = 0.5 * states[0] + ops.tanh(ops.concatenate([inputs, *states], axis=-1) @ self.inward)
        return ops.tanh(h) @ self.outward, [h]


CONTROLLERS = {
    "lstm": lambda dtype: (UNITS, "lstm"),
    "feedforward": lambda dtype: (UNITS, "feedforward"),
    "gru": lambda dtype: (None, L.GRUCell(UNITS, dtype=dtype)),
    "rnn": lambda dtype: (None, L.SimpleRNNCell(UNITS, dtype=dtype)),
    "stacked": lambda dtype: (None, [L.LSTMCell(4, dtype=dtype), L.GRUCell(UNITS, dtype=dtype)]),
    "own": lambda dtype: (None, Leaky(dtype=dtype)),
}
HEADS = [
    {},
    {"read_heads": 2, "write_heads": 3, "initial_memory": "learned"},
    {"read_heads": 3, "write_heads": 1, "shift_range": 2},
    {"shift_range": 0, "initial_memory": "learned"},
]
MANY = {"read_heads": 2, "write_heads": 2, "initial_memory": "learned"}
HOLES = np.array([[1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)


def fill(layer, seed=0):
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(draw([seed, i], *variable.shape, scale=0.7))
    return layer


def make(kind="lstm", dtype="float64", **options):
    options = {"return_sequences": True, "return_state": True, **SIZES, **options}
    layer = NTM(*CONTROLLERS[kind](dtype), dtype=dtype, **options)
    layer.build((None, None, FEATURES))
    return fill(layer)


def loop_of(layer, kind):
    """The same numbers in Keras's own loop."""
    dtype = layer.dtype_policy.name
    config = layer.cell.get_config()
    config.pop("units"), config.pop("controller"), config.pop("dtype")
    cell = NTMCell(*CONTROLLERS[kind](dtype), dtype=dtype, **config)
    loop = L.RNN(cell, return_sequences=True, return_state=True, dtype=dtype)
    loop.build((None, None, FEATURES))
    loop.set_weights(layer.get_weights())
    return loop


def sequence(rows=ROWS, steps=STEPS):
    return draw(10, rows, steps, FEATURES)


# The equations.


@pytest.mark.parametrize("dtype, tolerance", [("float64", EXACT), ("float32", SINGLE)])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("kind", ["lstm", "feedforward"])
def test_follows_the_equations(kind, heads, dtype, tolerance):
    layer = make(kind, dtype, return_state=False, return_trace=True, **heads)
    outputs, trace = layer(sequence())
    expected, expected_trace = plain_ntm(layer.cell, sequence())
    assert_close(outputs, expected, tolerance)
    assert_close({name: trace[name] for name in expected_trace}, expected_trace, tolerance)


@pytest.mark.parametrize(
    "kind, mask", [("lstm", None), ("own", None), *((kind, HOLES) for kind in CONTROLLERS)]
)
def test_is_what_the_cell_does_in_the_loop_of_keras(kind, mask):
    layer = make(kind, **MANY)
    expected = evaluate(loop_of(layer, kind), sequence(), mask=mask)
    assert_close(evaluate(layer, sequence(), mask=mask), expected, EXACT)


@pytest.mark.parametrize(
    "kind, mode, mask, training",
    [
        ("lstm", "xla", HOLES, True),
        ("stacked", "graph", None, True),
        ("feedforward", "graph", HOLES, False),
        ("own", "eager", None, False),
    ],
)
def test_all_modes_give_the_same_numbers(kind, mode, mask, training):
    layer = make(kind)
    expected = evaluate(layer, sequence(), mask=mask)
    assert_close(evaluate(layer, sequence(), mode, mask, training), expected, EXACT)


def test_gradient_is_the_slope():
    layer = make("lstm", return_trace=True, read_heads=2, write_heads=2, initial_memory="learned")
    x = tf.constant(sequence(2, 3))
    mask = tf.constant([[True, False, True], [True, True, True]])

    def value():
        return scalar(layer(x, mask=mask))

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
        assert np.any(np.asarray(gradient) != 0), variables[i].path


# Properties of addressing and writing.


def address(before, memory=None, **told):
    """One head of a cell of six slots, by the arguments of `NTMCell.address`."""
    cell = NTMCell(1, "feedforward", dtype="float64", **SIZES)
    memory = draw(3, 6, 3) if memory is None else memory
    told = {
        "keys": np.ones(3),
        "strengths": 1.0,
        "gates": 0.0,
        "shifts": np.array([0.0, 1.0, 0.0]),
        "powers": 1.0,
        **told,
    }
    told = {name: tf.constant(np.asarray(x, "float64")[None, None]) for name, x in told.items()}
    memory, before = tf.constant(memory.T[None]), tf.constant(before[None, None])
    return np.asarray(cell.address(memory, before, **told))[0, 0]


@pytest.mark.parametrize("slot", range(6))
@pytest.mark.parametrize("distance", [-2, -1, 0, 1, 2])
def test_shifts_rotate_with_wrap(slot, distance):
    found = address(np.eye(6)[slot], shifts=np.eye(5)[distance + 2])
    np.testing.assert_allclose(found, np.eye(6)[(slot + distance) % 6], atol=EXACT)


@pytest.mark.parametrize("slot", range(6))
def test_a_strong_key_finds_its_word(slot):
    memory = draw(3, 6, 3)
    found = address(np.eye(6)[0], memory, keys=0.1 * memory[slot], strengths=500.0, gates=1.0)
    assert np.argmax(found) == slot and found[slot] > 0.9


def test_strength_and_length_of_a_key_act_as_the_cosine_says():
    memory, key = draw(3, 6, 3), draw(4, 3)
    cosines = memory @ key / np.linalg.norm(memory, axis=1) / np.linalg.norm(key)
    for factor in (1.0, 3.0):
        found = address(np.eye(6)[0], memory, keys=factor * key, strengths=2.0, gates=1.0)
        np.testing.assert_allclose(found, softmax(2 * cosines), atol=1e-5)


def test_gate_mixes_content_and_the_weighting_before():
    before = softmax(draw(5, 6))
    open_, shut, half = (address(before, gates=gate) for gate in (1.0, 0.0, 0.5))
    np.testing.assert_allclose(shut, before, atol=EXACT)
    np.testing.assert_allclose(half, (open_ + before) / 2, atol=EXACT)


def test_powers_sharpen():
    before = softmax(draw(5, 6))
    peaks = [address(before, powers=power).max() for power in (1.0, 2.0, 5.0, 21.0)]
    assert peaks[0] == pytest.approx(before.max()) and peaks == sorted(peaks) and peaks[-1] > 0.99


@pytest.mark.parametrize("kind", ["lstm", "feedforward"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weightings_sum_to_one(kind, dtype):
    layer = make(kind, dtype, return_trace=True, **MANY)
    trace = layer(10 * sequence(steps=30))[-1]
    for name in ("read_weights", "write_weights", "read_shifts", "write_shifts"):
        assert np.all(np.asarray(trace[name]) >= 0)
        np.testing.assert_allclose(np.sum(trace[name], axis=-1), 1, atol=1e-6)
    assert np.all(np.asarray(trace["read_powers"]) >= 1)
    assert np.all(np.asarray(trace["read_strengths"]) > 0)
    for name in ("read_gates", "erases"):
        assert np.all((np.asarray(trace[name]) > 0) & (np.asarray(trace[name]) < 1))


def test_writing_does_not_depend_on_the_order_of_heads():
    cell = NTMCell(UNITS, write_heads=3, dtype="float64", **SIZES)
    raw, state = draw(1, ROWS, cell.heads.units), draw(2, ROWS, 1 + 3, 6)
    weights = np.exp(state) / np.exp(state).sum(axis=-1, keepdims=True)
    memory, order = draw(3, ROWS, 3, 6), np.array([2, 0, 1])
    parts = np.split(raw, np.cumsum(cell.parameter_sizes)[:-1], axis=-1)

    def reordered(part, heads):
        by_head = part.reshape(ROWS, heads, -1)
        front = by_head[:, : heads - 3]
        return np.concatenate([front, by_head[:, heads - 3 :][:, order]], axis=1).reshape(ROWS, -1)

    other = [reordered(part, 4 if i < 5 else 3) for i, part in enumerate(parts)]
    one = cell.access(tf.constant(raw), [weights[:, :1], weights[:, 1:], memory])
    two = cell.access(
        tf.constant(np.concatenate(other, axis=-1)),
        [weights[:, :1], weights[:, 1:][:, order], memory],
    )
    assert_close(two[0], one[0], EXACT)
    assert_close(two[1][2], one[1][2], EXACT)
    assert_close(two[1][1], np.asarray(one[1][1])[:, order], EXACT)


def test_what_is_written_can_be_read_at_once():
    layer = make(return_trace=True, return_state=False)
    _, trace = layer(sequence())
    expected = np.asarray(trace["read_weights"]) @ np.asarray(trace["memory"])
    np.testing.assert_allclose(trace["reads"], expected, atol=EXACT)


# Stability.


@pytest.mark.parametrize("limit", [20.0, None])
def test_a_thousand_extremes_give_finite_values_and_gradients(limit):
    rows = 1000
    cell = NTMCell(UNITS, read_heads=2, write_heads=2, head_limit=limit, **SIZES)
    rng = np.random.default_rng(0)
    scales = 10.0 ** rng.uniform(-3, 4, size=(rows, 1))
    raw = scales * rng.normal(size=(rows, cell.heads.units))
    lengths = 10.0 ** rng.uniform(-30, 6, size=(rows, 1, 1))
    memory = lengths * rng.normal(size=(rows, 3, 6)) * (rng.random((rows, 1, 6)) < 0.7)
    at = np.eye(6)[rng.integers(6, size=(rows, 4))]
    tensors = [tf.constant(x, "float32") for x in (raw, at[:, :2], at[:, 2:], memory)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        reads, memories = cell.access(tensors[0], tensors[1:])
        total = scalar([reads, *memories])
    for x in (reads, *memories, *tape.gradient(total, tensors)):
        assert np.all(np.isfinite(x))
    for weights in memories[:2]:
        np.testing.assert_allclose(np.sum(weights, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "feedforward"])
def test_large_inputs_and_weights_give_finite_gradients(kind):
    layer = make(kind, "float32", **MANY)
    for variable in layer.trainable_variables:
        variable.assign(30 * variable)
    outputs, gradients = evaluate(layer, 1e4 * sequence(steps=8))
    assert all(np.all(np.isfinite(x)) for x in (*outputs, *gradients))


# Masks, edges, states.


def test_masked_steps_count_as_if_they_were_not_there():
    layer, x = make(return_trace=True, **MANY), sequence()
    output, *states, trace = layer(x, mask=HOLES)
    for row, real in enumerate(HOLES):
        alone, *end, alone_trace = layer(x[row : row + 1, real])
        np.testing.assert_allclose(np.asarray(output)[row, real], alone[0], atol=EXACT)
        assert_close([s[row : row + 1] for s in states], end, EXACT)
        for name, values in trace.items():
            assert_close(np.asarray(values)[row, real], alone_trace[name][0], EXACT)
        first = np.argmax(real) if real.any() else STEPS
        assert not np.any(np.asarray(output)[row, :first])
    assert np.array_equal(output[0, 1], output[0, 0])
    assert np.array_equal(trace["memory"][0, 1], trace["memory"][0, 0])
    assert not np.any(trace["read_keys"][0, 1])


def test_a_sequence_may_be_continued_from_its_state():
    layer, x = make(**MANY), sequence()
    whole, *end = layer(x)
    first, *middle = layer(x[:, :1])
    last, *last_end = layer(x[:, 1:], initial_state=middle)
    assert_close([np.concatenate([first, last], axis=1), *last_end], [whole, *end], EXACT)


@pytest.mark.parametrize("rows, steps", [(1, 1), (1, 3), (ROWS, 1)])
def test_one_row_and_one_step_follow_the_equations(rows, steps):
    layer = make()
    found, *_ = layer(sequence(rows, steps))
    assert_close(found, plain_ntm(layer.cell, sequence(rows, steps))[0], EXACT)


def dynamic(layer):
    spec = tf.TensorSpec([None, None, FEATURES], layer.compute_dtype)
    return tf.function(lambda x: layer(x), input_signature=[spec])


@pytest.mark.parametrize("kind", ["lstm", "own"])
def test_a_graph_of_any_batch_and_time_takes_all(kind):
    layer = make(kind, return_trace=True, **MANY)
    run = dynamic(layer)
    for rows, steps in ((ROWS, STEPS), (1, 1), (2, 0), (0, 2)):
        x = sequence(rows, steps)
        assert_close(run(x), layer(x), EXACT)


@pytest.mark.parametrize("training", [True, False])
def test_a_sequence_of_no_steps_returns_the_state(training):
    layer = make()
    start = layer.cell.get_initial_state(2)
    (output, *states), gradients = evaluate(layer, sequence(2, 0), "eager", training=training)
    assert output.shape == (2, 0, layer.cell.output_size)
    assert_close(states, start, EXACT)
    last = make(return_sequences=False)(sequence(2, 0))[0]
    assert np.array_equal(last, np.zeros((2, layer.cell.output_size)))
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_weightings_start_on_the_first_slot_and_memory_as_asked():
    for start in ("constant", "learned"):
        layer = make(initial_memory=start)
        *_, read_weights, write_weights, memory = layer.cell.get_initial_state(2)
        for weights in (read_weights, write_weights):
            assert np.array_equal(weights, np.eye(6)[[0, 0]])
        names = {v.name for v in layer.trainable_variables}
        assert ("initial_memory" in names) == (start == "learned")
        assert np.all(np.asarray(memory) == 1e-6) == (start == "constant")


def test_weights_fit_another_number_of_slots():
    layer = make()
    larger = make(memory_slots=50)
    larger.set_weights(layer.get_weights())
    assert np.all(np.isfinite(larger(sequence())[0]))


# What is returned.


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("flags", range(8))
def test_returns_what_is_asked_for_and_says_so(flags, dtype):
    options = {
        "return_sequences": bool(flags & 1),
        "return_state": bool(flags & 2),
        "return_trace": bool(flags & 4),
    }
    layer = make("lstm", dtype, **MANY, **options)
    x = sequence().astype("float32")
    found = layer(x)
    parts = 1 + 6 * options["return_state"] + options["return_trace"]
    assert len(found) == parts if parts > 1 else not isinstance(found, tuple)
    specs = layer.compute_output_spec(keras.KerasTensor(x.shape))
    symbolic = layer(keras.Input((None, FEATURES)))
    keras.tree.assert_same_structure(found, specs)
    for a, spec, b in zip(*(keras.tree.flatten(s) for s in (symbolic, specs, found))):
        assert spec.shape == b.shape and len(a.shape) == len(b.shape)
        assert a.dtype == spec.dtype == keras.backend.standardize_dtype(b.dtype)


def test_a_trace_of_some_names_is_that_part_of_the_whole_and_has_its_gradients():
    names = ["memory", "write_gates", "reads", "read_weights"]
    whole, part = (make(return_trace=asked, **MANY) for asked in (True, names))
    x, found = sequence(), []
    for layer in (whole, part):
        with tf.GradientTape() as tape:
            *outputs, trace = layer(x, training=True)
            trace = {name: trace[name] for name in names}
            total = scalar([*outputs, *trace.values()])
        found.append((trace, tape.gradient(total, layer.trainable_variables)))
    assert list(layer(x)[-1]) == names
    for a, b in zip(*map(keras.tree.flatten, found), strict=True):
        np.testing.assert_allclose(a, b, atol=EXACT)


def test_a_trace_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"names among .*read_weights.*; got \['weights'\]"):
        NTM(4, return_trace=["weights"])


def test_mask_travels_through_a_model():
    inputs = keras.Input((None, FEATURES))
    layer = NTM(4, return_sequences=True, return_trace=True, **SIZES)
    output, trace = layer(L.Masking()(inputs))
    model = keras.Model(inputs, [L.GRU(3)(output), trace["read_weights"]])
    x = sequence().astype("float32")
    x[0, 2:] = 0
    assert_close(model(x)[0][:1], model(x[:1, :2])[0], 1e-6)


# Precision.


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["lstm", "stacked"])
def test_mixed_precision_addresses_in_float32(kind, dtype):
    layer = make(kind, dtype, return_trace=True, **MANY)
    exact = make(kind, "float32", return_trace=True, **MANY)
    output, *states, trace = layer(sequence())
    assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
    assert {"float32"} == {x.dtype.name for x in (*states[-3:], *trace.values())}
    np.testing.assert_allclose(np.sum(trace["read_weights"], axis=-1), 1, atol=1e-6)
    assert_close(
        np.float32(output), exact(sequence())[0], 0.02 if dtype == "mixed_float16" else 0.1
    )
    gradients = evaluate(layer, sequence())[1]
    assert all(np.all(np.isfinite(np.float32(g))) for g in gradients)
    assert all(g.dtype == "float32" for g in gradients[1:])


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_cell_under_mixed_precision_runs_in_the_loop_of_keras(dtype):
    layer = make("lstm", dtype)
    loop = loop_of(layer, "lstm")
    assert_close(np.float32(loop(sequence())[0]), np.float32(layer(sequence())[0]), 0.1)


# Among other layers.


@pytest.mark.parametrize("kind", ["lstm"])
def test_act_ponders_over_a_turing_machine(kind):
    layer = make(kind)
    cell = loop_of(make(kind), kind).cell
    once = ACT(NTMCell.from_config(cell.get_config()), max_ponder=1, return_sequences=True)
    flagged = np.concatenate([sequence(), np.ones((ROWS, STEPS, 1))], axis=-1)
    once.build((None, None, FEATURES))
    plain = NTM.from_config({**layer.get_config(), "return_state": False})
    plain.build((None, None, FEATURES + 1))
    fill(plain)
    once.cell.set_weights(plain.cell.get_weights())
    assert once.cell.dtype_policy.name == "float64"
    assert_close(once(sequence()), plain(flagged), 1e-6)
    ponder = ACT(once.cell, max_ponder=3, return_ponder=True)
    with tf.GradientTape() as tape:
        output, updates, _ = ponder(sequence().astype("float32"))
        total = ops.sum(output) + ponder.losses[0]
    gradients = tape.gradient(total, ponder.trainable_variables)
    assert np.all(np.asarray(updates) >= 1)
    assert all(g is not None and np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("mode", ["graph"])
def test_gradient_is_that_of_the_dropout_masks_drawn(mode):
    drop = L.LSTMCell(UNITS, dropout=0.4, recurrent_dropout=0.3, seed=7, dtype="float64")
    layer = NTM(controller=drop, return_sequences=True, dtype="float64", **SIZES)
    layer.build((None, None, FEATURES))
    fill(layer)
    state = np.asarray(drop.seed_generator.state)
    outputs, gradients = evaluate(layer, sequence(), mode)
    kernel, step, direction = drop.kernel, 1e-6, draw(5, *drop.kernel.shape)
    middle, ends = np.asarray(kernel), []
    for sign in (1, -1):
        drop.seed_generator.state.assign(state)
        kernel.assign(middle + sign * step * direction)
        ends.append(float(scalar([layer(sequence(), training=True)])))
    kernel.assign(middle)
    position = 1 + [v is kernel for v in layer.trainable_variables].index(True)
    slope = np.sum(gradients[position] * direction)
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)
    assert not np.allclose(outputs[0], layer(sequence()))


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_comes_back_from_its_config(kind):
    layer = make(kind, **MANY, head_limit=None, kernel_initializer="he_normal")
    for one in (layer, layer.cell):
        config = json.loads(json.dumps(one.get_config()))
        again = type(one).from_config(config)
        assert json.loads(json.dumps(again.get_config())) == config
    again = NTM.from_config(layer.get_config())
    again.build((None, None, FEATURES))
    again.set_weights(layer.get_weights())
    assert_close(again(sequence()), layer(sequence()), EXACT)


def test_an_export_needs_no_compiler():
    graph = dynamic(make("lstm", "float32")).get_concrete_function().graph
    functions = graph.as_graph_def().library.function
    nodes = [*graph.as_graph_def().node, *(n for f in functions for n in f.node_def)]
    attributes = {name for x in (*nodes, *functions) for name in x.attr}
    assert "_XlaMustCompile" not in attributes


# Errors.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "units must be a whole number from 1 on; got None"),
        ({"units": 0}, "units must be a whole number from 1 on; got 0"),
        ({"units": 4, "memory_slots": 2.5}, "memory_slots must be a whole number .* got 2.5"),
        ({"units": 4, "word_size": 0}, "word_size must be .* got 0"),
        ({"units": 4, "read_heads": 0}, "read_heads must be .* got 0"),
        ({"units": 4, "write_heads": -1}, "write_heads must be .* got -1"),
        ({"units": 4, "shift_range": -1}, "shift_range must be .* got -1"),
        ({"units": 4, "shift_range": 2, "memory_slots": 4}, "less than half .* got 2 with 4 slots"),
        ({"units": 4, "controller": "gru"}, "'lstm', 'feedforward', a Keras .* got 'gru'"),
        ({"units": 4, "controller": L.LSTMCell(4)}, "units must be None .* got 4"),
        ({"units": 4, "initial_memory": "random"}, "'constant' or 'learned'; got 'random'"),
        ({"units": 4, "head_limit": 0}, "head_limit must be a positive .* got 0"),
    ],
)
@pytest.mark.parametrize("cls", [NTM, NTMCell])
def test_errors_say_what_is_expected(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


def test_inputs_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, time, features\).*\(2, 3\)"):
        NTM(4, **SIZES)(np.zeros((2, 3)))


# Backends.


@functools.cache
def jax_case():
    """Code that prints outputs and gradients of a layer on JAX, eagerly and compiled."""
    return f"""
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import keras, numpy as np
from ponderzoo.layers import NTM

def draw(seed, *shape, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=shape)

x = draw(10, {ROWS}, {STEPS}, {FEATURES})
mask = np.array({HOLES.astype(int).tolist()}, bool)
layer = NTM({UNITS}, dtype="float64", return_sequences=True, return_state=True, **{SIZES!r})
layer.build((None, None, {FEATURES}))
weights = [draw([0, i], *v.shape, scale=0.7) for i, v in enumerate(layer.trainable_variables)]
fixed = [v.value for v in layer.non_trainable_variables]

def total(x, weights):
    outputs, _ = layer.stateless_call(weights, fixed, x, mask=mask, training=True)
    return sum((a * draw([20, i], *a.shape)).sum() for i, a in enumerate(outputs)), outputs

(_, outputs), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(x, weights)
_, eager = total(x, weights)
answers = [*outputs, gradients[0], *gradients[1], *eager]
answers = [np.asarray(a).tolist() for a in answers]
print(json.dumps(answers))
"""


def test_jax_gives_the_same_numbers_compiled_or_not(fresh):
    pytest.importorskip("jax", reason="JAX is not installed")
    found = json.loads(fresh(jax_case(), backend="jax").splitlines()[-1])
    outputs, gradients = evaluate(make(), sequence(), mask=HOLES)
    for a, b in zip(found, [*outputs, *gradients, *outputs], strict=True):
        assert_close(np.array(a), b, SINGLE)  # on JAX keras.ops.tanh rounds to float32


def test_docstring_examples_run():
    found = doctest.testmod(ponderzoo.layers.ntm, globs={**vars(ponderzoo.layers.ntm)})
    assert found.attempted >= 4 and not found.failed
