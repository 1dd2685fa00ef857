"""Backpropagation through time within a budget of memory."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.export import _cli
from ponderzoo.layers import (
    DRAW,
    NTM,
    RAM,
    AssociativeLSTM,
    DeepLSTM,
    GlimpseLSTM,
    GridLSTM,
    PeepholeLSTM,
    Reencoder,
    RematRNN,
    WindowLSTM,
    hidden_state_forwards,
    internal_state_forwards,
    least_budget,
    optimal_schedule,
    plan_memory,
)
from ponderzoo.layers._budgeted import budgeted_recurrence
from ponderzoo.layers._scan import recurrence

# Forward operations for 2, 3, 4, 5, 6, 8 and 10 steps with 1 to 4 slots, by hand.
HIDDEN = [[3, 3, 3, 3], [6, 5, 5, 5], [10, 8, 7, 7], [15, 11, 10, 9], [21, 14, 13, 12]]
HIDDEN += [[36, 22, 19, 18], [55, 30, 25, 24]]
INTERNAL = [[3, 2, 2, 2], [6, 4, 3, 3], [10, 6, 5, 4], [15, 8, 7, 6], [21, 11, 9, 8]]
INTERNAL += [[36, 17, 13, 12], [55, 24, 18, 16]]


@pytest.mark.parametrize(("strategy", "table"), [("hidden", HIDDEN), ("internal", INTERNAL)])
def test_few_steps_take_as_many_forwards_as_by_hand(strategy, table):
    found = optimal_schedule(10, 4, strategy).forwards
    np.testing.assert_array_equal(found[[2, 3, 4, 5, 6, 8, 10], 1:], table)


def test_dynamic_programs_agree_with_their_closed_forms():
    hidden, internal = (optimal_schedule(120, 20, s).forwards for s in ("hidden", "internal"))
    for t in range(121):
        for m in range(1, 21):
            assert hidden[t, m] == hidden_state_forwards(t, m)
            assert internal[t, m] == internal_state_forwards(t, m)


@pytest.mark.parametrize(
    ("slots", "hidden", "internal"),
    [
        (1, 500_500, 500_500),
        (2, 29_820, 28_864),
        (5, 7284, 6292),
        (10, 4636, 3640),
        (20, 3747, 2750),
        (32, 3405, 2408),
        (50, 2948, 1950),
    ],
)
def test_a_thousand_steps_take_as_many_forwards_as_published(slots, hidden, internal):
    assert hidden_state_forwards(1000, slots) == hidden
    assert internal_state_forwards(1000, slots) == internal


def test_mixed_states_are_never_worse_than_either_kind():
    hidden, internal = (optimal_schedule(60, 40, s).forwards for s in ("hidden", "internal"))
    for alpha in (1, 2, 5):
        mixed = optimal_schedule(60, 40, "mixed", alpha).forwards
        assert (mixed[:, 1:] <= hidden[:, 1:]).all()
        room = np.arange(alpha, 41) // alpha
        assert (mixed[:, alpha:] <= optimal_schedule(60, 40).forwards[:, alpha:]).all()
        if alpha == 1:
            np.testing.assert_array_equal(mixed[:, 1:], np.minimum(hidden, internal)[:, 1:])
        else:
            assert (mixed[:, alpha:] <= internal[:, room] + 1e9 * (room == 0)).mean() > 0.5


def test_a_thousand_steps_mixed_take_as_many_forwards_as_published():
    forwards = optimal_schedule(1000, 50, "mixed", 5).forwards
    assert [forwards[1000, m] for m in (25, 50)] == [3222, 2723]


def walk(moves, alpha=1, begin=1):
    """Carries moves out: the order of differentiated steps, forward operations, most slots used."""
    stack, live, most, forwards = [("hidden", 0)], begin, begin, 0
    order, top, recorded = [], 0, {}
    for name, step, count in moves:
        if name in ("advance", "record"):
            if step != top:
                kind, place = stack[-1]
                top = place if kind == "hidden" else place + 1
            assert step == top
            top, forwards = step + count, forwards + count
            recorded = {step: count} if name == "record" else {}
        elif name in ("push", "keep"):
            kind = "hidden" if name == "push" else "internal"
            assert (step in recorded) if name == "keep" else step == top
            stack.append((kind, step))
            live += 1 if name == "push" else alpha
            most = max(most, live)
        elif name == "back":
            count = recorded.get(step, 1)
            assert step in recorded or ("internal", step) in stack
            order += range(step + count - 1, step - 1, -1)
        else:
            kind, place = stack.pop()
            assert place == step
            live -= 1 if kind == "hidden" else alpha
    return order, forwards, most


@pytest.mark.parametrize("strategy", ["hidden", "internal", "mixed"])
def test_moves_take_as_many_forwards_and_slots_as_the_plan_says(strategy):
    alpha = 3 if strategy == "mixed" else 1
    schedule = optimal_schedule(30, 9, strategy, alpha)
    for length in (0, 1, 2, 7, 30):
        for slots in (1, 2, 4, 9):
            # Where slots hold internal states alone, that before the first step is in none.
            begin = 0 if strategy == "internal" else 1
            order, forwards, most = walk(schedule.moves(length, slots), alpha, begin)
            assert order == list(range(length - 1, -1, -1))
            assert forwards == schedule.forwards[length, slots]
            assert most <= slots


def test_plans_keep_to_budgets_and_say_what_they_take():
    for length, budget in [(1, 5), (7, 21), (100, 60), (100, 120), (1000, 145), (1000, 2500)]:
        plan = plan_memory(length, 1, 5, budget)
        order, forwards, most = walk(plan.moves())
        assert order == list(range(length - 1, -1, -1))
        assert forwards == plan.forwards
        assert most <= max(plan.slots, 1)
        assert plan.bytes <= budget
        assert plan.length == plan.block * plan.blocks + plan.recorded


def test_five_percent_of_memory_costs_less_than_a_third_more_time():
    plan = plan_memory(1000, hidden_bytes=1000, internal_bytes=5000, budget=250_000)
    assert plan.bytes <= 0.05 * plan.plain_bytes
    assert plan.time_ratio < 4 / 3
    assert plan_memory(1000, 1000, 5000, budget=5_000_000).strategy == "plain"


def test_the_least_budget_for_a_slowdown_is_the_least():
    plan = least_budget(1000, 1000, 5000, slowdown=0.33)
    assert plan.time_ratio <= 1.33
    assert plan_memory(1000, 1000, 5000, plan.bytes - 1).time_ratio > 1.33


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: plan_memory(1000, 1000, 5000, 1000), "the least is 21000"),
        (lambda: plan_memory(0, 1, 1, 1), "length must be at least 1; got 0"),
        (lambda: optimal_schedule(3, 3, "all"), "strategy must be one of hidden, internal, mixed"),
        (lambda: hidden_state_forwards(3, 0), "slots must be at least 1; got 0"),
        (lambda: least_budget(3, 1, 1, -1), "slowdown must be 0 or more; got -1"),
        (lambda: PeepholeLSTM(3, memory_budget=0), "positive number of bytes or None; got 0"),
        (
            lambda: answers_of(PeepholeLSTM(3, memory_budget=9), tf.ones((1, 4, 2)), None),
            "too small",
        ),
        (
            lambda: DRAW(4, 2, 1, memory_budget=9)(tf.ones((1, 2, 2)), tf.range(1), training=True),
            "too small",
        ),
        (
            lambda: GlimpseLSTM(2, 4, 1, memory_budget=9)(tf.ones((1, 2, 2)), training=True),
            "too small",
        ),
        (lambda: RematRNN("lstm", 100), "cell must be a Keras layer with a state_size"),
    ],
)
def test_what_cannot_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def test_the_program_plans(capsys, tmp_path):
    words = "plan --length 1000 --hidden_bytes 1000 --alpha 5 --budget 250e3"
    file = tmp_path / "plan.png"

    def run(*words):
        return _cli._run(_cli._parser().parse_args(words))

    assert not run(*words.split(), "--json", "--moves", "--figure", str(file))
    told = json.loads(capsys.readouterr().out)
    plan = plan_memory(1000, 1000, 5000, 250_000)
    assert told["forwards"] == plan.forwards and told["bytes"] == plan.bytes
    assert told["moves"] == [list(move) for move in plan.moves()]
    assert told["by_internal_states"] == 1.95
    assert file.read_bytes().startswith(b"\x89PNG")
    assert run(*words.split()[:5]) == 1
    assert "plan takes either --budget or --slowdown" in capsys.readouterr().err


class Counted:
    """`h = tanh(x + h w)`, whose steps are counted by the number that stands behind each input."""

    def __init__(self):
        self.taken = []

    def forward(self, weights, row, h):
        x, number = row
        self.taken.append(int(number))
        new = tf.tanh(x + h @ weights)
        return new, [new], h

    def prepare(self, weights):
        return tf.transpose(weights)

    def stored(self, rows, h, answers, records, d_answers):
        return (), (answers[0], d_answers[0])

    def backward(self, transposed, d_h, _, ahead):
        h, d = ahead
        d_x = (d_h + d) * (1 - h * h)
        return d_x @ transposed, d_x

    def gradients(self, weights, rows, h, answers, records, d_x):
        before = records if tf.is_tensor(records) else records.stack()
        return (d_x, None), tf.einsum("tbi,tbj->ij", before, d_x)


@pytest.mark.parametrize(("steps", "budget"), [(1, 200), (9, 250), (23, 300), (23, 800)])
def test_steps_are_taken_as_often_as_planned(steps, budget):
    step, batch, units = Counted(), 1, 2
    x = tf.constant(np.random.default_rng(0).normal(size=(steps, batch, units)))
    weights = tf.constant(np.random.default_rng(1).normal(size=(units, units)))
    h = tf.zeros((batch, units), tf.float64)
    found = {}
    for name, options in {"plain": None, "budgeted": budget}.items():
        with tf.GradientTape() as tape:
            tape.watch([x, weights, h])
            given = step, (x, tf.range(steps)), weights, h
            if options:
                (outputs,), end = budgeted_recurrence(*given, options)
            else:
                (outputs,), end = recurrence(*given, steps)
            loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(end)
        step.taken, before = [], step.taken
        found[name] = [outputs, end, *tape.gradient(loss, [x, weights, h])]
        taken = before + step.taken
    for a, b in zip(found["plain"], found["budgeted"]):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    # A row is x and a number; answers, records and cotangents are of the size of h.
    hidden, internal = 16, 2 * (16 + 4) + 2 * 16 + 16 + 16
    # Twice a step is taken to see how large it is.
    assert len(taken) - 2 == plan_memory(steps, hidden, internal, budget).forwards


def cell_in_half_the_gates():
    return keras.layers.LSTMCell(3, recurrent_activation="hard_sigmoid", dtype="float64")


LAYERS = {
    "lstm": (PeepholeLSTM, {"units": 3, "bidirectional": True}, 4000),
    "deep": (DeepLSTM, {"units": 3, "layers": 2, "skips": True}, 5000),
    "ntm": (NTM, {"units": 3, "memory_slots": 4, "word_size": 2, "return_sequences": True}, 6000),
    "trace": (
        NTM,
        {"units": 3, "controller": "feedforward", "memory_slots": 4, "word_size": 2},
        9000,
    ),
    "associative": (AssociativeLSTM, {"units": 4, "copies": 2, "return_sequences": True}, 5000),
    "grid": (GridLSTM, {"units": 3, "layers": 2}, 12_000),
    "lstm cell": (RematRNN, {"cell": keras.layers.LSTMCell}, 2000),
    "gru cell": (RematRNN, {"cell": keras.layers.GRUCell}, 2000),
    "any cell": (RematRNN, {"cell": cell_in_half_the_gates}, 1500),
}


def pair_of(name):
    """A float64 layer without and with a budget that is about a third of what it would take."""
    cls, options, budget = LAYERS[name]
    options = {"return_state": True, "dtype": "float64", **options}
    if name == "trace":
        options["return_trace"] = True
    if cls is RematRNN:
        make = options.pop("cell")
        cells = [
            make() if make is cell_in_half_the_gates else make(3, dtype="float64") for _ in "ab"
        ]
        pair = [cls(cell, b, **options) for cell, b in zip(cells, (None, budget))]
    else:
        pair = [cls(**options), cls(memory_budget=budget, **options)]
    for layer in pair:
        layer.build((None, None, 2))
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    return pair


def answers_of(layer, x, mask):
    """Outputs and the gradients of a sum of all of them by the input and all weights."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = keras.tree.flatten(layer(x, mask=mask, training=True))
        loss = tf.add_n([tf.reduce_sum(tf.cast(y, "float64") ** 3) for y in outputs])
    return outputs, tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("is_masked", [False, True], ids=["whole", "masked"])
def test_a_budget_changes_no_value_and_no_gradient(name, is_masked):
    x = np.random.default_rng(7).normal(size=(2, 6, 2))
    mask = np.random.default_rng(8).random((2, 6)) < 0.7 if is_masked else None
    expected, found = (answers_of(layer, x, mask) for layer in pair_of(name))
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(found)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("is_masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("cls", "options", "budget"),
    [
        (WindowLSTM, {"components": 2, "clip_derivatives": 0.1, "return_state": True}, 1500),
        (Reencoder, {"tied": True}, 20_000),
    ],
    ids=["window", "reencoder"],
)
def test_a_budget_changes_nothing_of_layers_over_two_sequences(cls, options, budget, is_masked):
    random = np.random.default_rng(7)
    x, text = (tf.constant(random.normal(size=(2, n, 2))) for n in (5, 3))
    masks = [[[True] * 4 + [False], [True, False] * 2 + [True]], [[True, True, False]] * 2]
    if cls is Reencoder:
        masks = [[5, 2]]
    found = []
    for memory_budget in (None, budget):
        layer = cls(3, memory_budget=memory_budget, dtype="float64", **options)
        layer.build(x.shape, text.shape)
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(np.random.default_rng(i).normal(size=weight.shape))
        with tf.GradientTape() as tape:
            tape.watch([x, text])
            given = [tf.constant(y) for y in masks] if is_masked else []
            outputs = keras.tree.flatten(layer(x, text, *given, training=True))
            loss = tf.add_n([tf.reduce_sum(y**3) for y in outputs])
        weights = [v.value for v in layer.trainable_variables]
        found.append([*outputs, *tape.gradient(loss, [x, text, *weights])])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("cls", "options", "budget"),
    [
        (DRAW, {"latent_size": 2, "read_patch": 2, "write_patch": 2}, 10_000),
        (DRAW, {"latent_size": 2}, 10_000),
        (GlimpseLSTM, {"patch": 2}, 5000),
        (RAM, {"patch": 2, "glimpse_units": 3}, 5000),
    ],
    ids=["attention", "whole", "glimpses", "places"],
)
def test_a_budget_changes_nothing_of_layers_that_look_at_an_image(cls, options, budget):
    image = tf.constant(np.random.default_rng(7).random((2, 4, 3)))
    given = [image] if cls is GlimpseLSTM else [image, tf.range(2)]
    steps = "steps" if cls is DRAW else "glimpses"
    found = []
    for memory_budget in (None, budget):
        layer = cls(units=3, memory_budget=memory_budget, dtype="float64", **{steps: 7}, **options)
        layer.build(image.shape)
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(np.random.default_rng(i).normal(size=weight.shape))
        with tf.GradientTape() as tape:
            tape.watch(image)
            outputs = layer(*given, training=True)
            loss = tf.add_n([tf.reduce_sum(y**3) for y in outputs.values()])
        weights = [v.value for v in layer.trainable_variables]
        found.append([*outputs.values(), *tape.gradient(loss, [image, *weights])])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_sequences_fit_a_budget(length):
    plain, budgeted = pair_of("lstm")
    x = np.random.default_rng(7).normal(size=(2, length, 2))
    for a, b in zip(*(keras.tree.flatten(answers_of(y, x, None)) for y in (plain, budgeted))):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_graph_plans_for_lengths_that_it_learns_when_it_runs(jit):
    layers = []
    for budget in (None, 2000):
        layer = PeepholeLSTM(3, dtype="float64", memory_budget=budget)
        layer.build((None, None, 2))
        layers.append(layer)
    layers[1].set_weights(layers[0].get_weights())
    signature = [tf.TensorSpec((None, None, 2), tf.float64)]
    run = tf.function(
        lambda x: answers_of(layers[1], x, None),
        input_signature=signature,
        autograph=False,
        jit_compile=jit,
    )
    for length in (13, 1):
        x = np.random.default_rng(7).normal(size=(2, length, 2))
        expected, found = answers_of(layers[0], x, None), run(tf.constant(x))
        for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(found)):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_dropout_is_the_same_when_a_step_is_taken_again():
    def layer_of(budget):
        keras.utils.set_random_seed(5)
        cell = keras.layers.GRUCell(3, dropout=0.5, recurrent_dropout=0.5, seed=1, dtype="float64")
        layer = RematRNN(cell, budget, dtype="float64")
        layer.build((None, None, 2))
        return layer

    x = np.random.default_rng(7).normal(size=(2, 9, 2))
    expected, found = (answers_of(layer_of(budget), x, None) for budget in (None, 1500))
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(found)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def jax_answers():
    """Compares the gradient within a budget with the plain one, for a fresh process."""
    import jax

    x = np.random.default_rng(7).normal(size=(2, 11, 2)).astype("float32")
    for make in (
        lambda budget: PeepholeLSTM(3, memory_budget=budget),
        lambda budget: RematRNN(keras.layers.GRUCell(3), budget, return_sequences=True),
    ):
        found = []
        for budget in (None, 1500):
            layer = make(budget)
            layer.build(x.shape)
            weights = found[0][0] if found else [v.value for v in layer.trainable_variables]

            def loss(weights, x, layer=layer):
                fixed = [v.value for v in layer.non_trainable_variables]
                return (layer.stateless_call(weights, fixed, x, training=True)[0] ** 3).sum()

            found.append((weights, jax.jit(jax.grad(loss, argnums=(0, 1)))(weights, x)))
        for a, b in zip(*(keras.tree.flatten(gradient) for _, gradient in found)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_jax_keeps_to_a_budget_too(fresh):
    pytest.importorskip("jax", reason="JAX is not installed")
    fresh("import test_memory_budget; test_memory_budget.jax_answers()", backend="jax")
