"""The five tasks of the ACT paper against plain oracles, and their losses, metrics and pictures."""

import io
import json
import math
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from ponderzoo import trainers
from ponderzoo.trainers._describe import after, verdict
from ponderzoo.trainers._evaluate import difficulty_sweep, evaluate, figures_of
from ponderzoo.trainers._metrics import (
    AtCap,
    BitsPerCharacter,
    Ponder,
    SequenceCrossentropy,
    SequenceError,
    StepMean,
    TargetError,
)
from ponderzoo.trainers.figures import curves, ponder, text

SYNTHETIC = ("addition", "logic", "parity", "sort")
bounded = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)

# The table of the paper, as printed: for every PQ the truth of NOR, Xq, ABJ, XOR, NAND, AND, XNOR,
# if/then, then/if, OR.
PRINTED = {
    (1, 1): "F   F  F   F   F    T   T      T       T     T",
    (1, 0): "F   F  T   T   T    F   F      F       T     T",
    (0, 1): "F   T  F   T   T    F   F      T       F     T",
    (0, 0): "T   F  F   F   T    F   T      T       T     F",
}
GATES = {
    0: lambda p, q: not (p or q),
    1: lambda p, q: not p and q,
    2: lambda p, q: p and not q,
    3: lambda p, q: p != q,
    4: lambda p, q: not (p and q),
    5: lambda p, q: p and q,
    6: lambda p, q: p == q,
    7: lambda p, q: not p or q,
    8: lambda p, q: not q or p,
    9: lambda p, q: p or q,
}


def draw(name, size=64, seed=0, difficulty=None, **config):
    task = trainers.task(name, **config)
    return task, *task.batch(np.random.default_rng(seed), size, difficulty)


def assert_uniform(values, levels, least=1e-4):
    counts = [np.sum(values == level) for level in levels]
    assert sum(counts) == np.size(values)
    assert scipy.stats.chisquare(counts).pvalue > least


def digits_of(vector):
    """One-hot chunks of ten as a list of digits; a chunk of zeros ends the number for good."""
    chunks = vector.reshape(-1, 10)
    used = [chunk.any() for chunk in chunks]
    assert used == sorted(used, reverse=True)
    for chunk in chunks:
        assert sorted(chunk)[:-1] == [0] * 9 and chunk.max() in (0, 1)
    return [int(chunk.argmax()) for chunk in chunks if chunk.any()]


# --- what every task keeps -----------------------------------------------------------------------


def test_tasks_are_found_by_their_files():
    assert {*SYNTHETIC, "characters"} <= set(trainers.tasks())
    assert all(trainers.task(name).name == name for name in SYNTHETIC)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_batches_follow_the_specification(name):
    task, inputs, targets = draw(name, 7)
    for arrays, specification in ((inputs, task.input_spec), (targets, task.target_spec)):
        assert arrays.keys() == specification.keys()
        for key, (shape, dtype) in specification.items():
            assert arrays[key].dtype == dtype
            assert arrays[key].shape[0] == 7 and arrays[key].ndim == 1 + len(shape)
            assert all(wanted in (None, n) for wanted, n in zip(shape, arrays[key].shape[1:]))
    assert task.loss().keys() == task.metrics().keys() == targets.keys()
    assert next(iter(task.metrics().values()))[0].name == "sequence_error"


@pytest.mark.parametrize("name", SYNTHETIC)
def test_shapes_do_not_depend_on_the_draw(name):
    task = trainers.task(name)
    for difficulty in (None, task.difficulties[0], task.difficulties[-1], task.difficulties[:2]):
        for seed in range(5):
            _, inputs, targets = draw(name, 3, seed, difficulty)
            shapes = [a.shape for a in (*inputs.values(), *targets.values())]
            _, inputs, targets = draw(name, 3)
            assert shapes == [a.shape for a in (*inputs.values(), *targets.values())]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_stream_depends_on_seed_split_and_index_alone(name):
    task = trainers.task(name)
    streams = [task.dataset("train", 4, 10, seed) for seed in (0, 0, 1)]
    streams.append(task.dataset("test", 4, 10, 0))
    streams[1][0]
    same, again, other_seed, other_split = (s[3][0]["sequence"] for s in streams)
    np.testing.assert_array_equal(same, again)
    assert (same != other_seed).any() and (same != other_split).any()
    streams[0].epoch = 1
    long = task.dataset("train", 4, 100, 0)
    np.testing.assert_array_equal(streams[0][3][0]["sequence"], long[13][0]["sequence"])


@pytest.mark.parametrize("name", SYNTHETIC)
@pytest.mark.parametrize("wrong", [0, 1000, (5, 2), (1, 1000)])
def test_levels_that_do_not_exist_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"task {name} has .* from .* got"):
        draw(name, 2, difficulty=wrong)


def test_unknown_names_and_fields_are_refused():
    with pytest.raises(ValueError, match="did you mean 'parity'"):
        trainers.task("party")
    with pytest.raises(ValueError, match="no setting 'bit'"):
        trainers.task("parity", bit=3)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_batch_of_32_takes_well_below_a_millisecond(name):
    task, rng = trainers.task(name), np.random.default_rng(0)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        task.batch(rng, 32)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


# --- parity --------------------------------------------------------------------------------------


@bounded
@given(seed=seeds, bits=st.integers(1, 70), prefix=st.booleans())
def test_parity_counts_the_plus_ones(seed, bits, prefix):
    _, inputs, targets = draw("parity", 5, seed, bits=bits, prefix=prefix)
    for row, parity in zip(inputs["sequence"], targets["parity"]):
        values = row[0].tolist()
        assert set(values) <= {-1, 0, 1} and any(values)
        assert parity.tolist() == [values.count(1) % 2]
        if prefix:
            count = bits - values.count(0)
            assert all(values[:count]) and not any(values[count:])


def test_parity_sets_any_number_of_bits_equally_often():
    _, inputs, targets = draw("parity", 30000, 1)
    sequence = inputs["sequence"][:, 0]
    assert_uniform((sequence != 0).sum(axis=1), range(1, 65))
    assert_uniform(np.nonzero(sequence)[1], range(64))
    assert_uniform(sequence[sequence != 0], (-1, 1))
    assert_uniform(targets["parity"], (0, 1))


def test_parity_difficulty_is_the_number_of_set_bits():
    for level in (1, 17, 64):
        assert ((draw("parity", 50, 0, level)[1]["sequence"] != 0).sum(axis=-1) == level).all()
    counts = (draw("parity", 5000, 0, (3, 6))[1]["sequence"] != 0).sum(axis=-1)
    assert_uniform(counts, range(3, 7))


# --- logic ---------------------------------------------------------------------------------------


def decode(vector):
    return [int(chunk.argmax()) for chunk in vector[2:].reshape(-1, 10) if chunk.any()]


def chain(gates, older, newer, apply):
    for gate in gates:
        older, newer = newer, int(apply(gate, newer, older))
    return newer


def test_the_gates_are_those_of_the_printed_table():
    for (p, q), row in PRINTED.items():
        assert [bool(GATES[g](p, q)) for g in range(10)] == [c == "T" for c in row.split()]


@bounded
@given(seed=seeds, gates=st.integers(1, 12), length=st.integers(1, 10))
def test_logic_evaluates_the_gates_along_the_sequence(seed, gates, length):
    _, inputs, targets = draw("logic", 5, seed, gates=gates, length=length)
    for sequence, steps, truth in zip(inputs["sequence"], inputs["lengths"], targets["truth"]):
        assert 1 <= steps <= length
        last = int(sequence[0, 0])
        for vector, target in zip(sequence[:steps], truth):
            chunks = vector[2:].reshape(gates, 10)
            used = chunks.sum(axis=1).tolist()
            assert used == sorted(used, reverse=True) and set(used) <= {0, 1} and used[0] == 1
            last = chain(decode(vector), last, int(vector[1]), lambda g, p, q: GATES[g](p, q))
            assert target == last
        assert not sequence[1:, 0].any(), "only the first vector shows b_0"
        assert not sequence[steps:].any() and (truth[steps:] == -1).all()


def test_logic_takes_the_newer_bit_as_p():
    """One gate, ABJ = P and not Q, is true where b_1 is 1 and b_0 is 0."""
    _, inputs, targets = draw("logic", 4000, 0, 1)
    seen = set()
    for sequence, truth in zip(inputs["sequence"], targets["truth"]):
        if decode(sequence[0]) == [2]:
            older, newer = sequence[0, :2]
            seen.add((older, newer))
            assert truth[0] == (newer == 1 and older == 0)
    assert len(seen) == 4


def test_logic_draws_lengths_gates_and_bits_uniformly():
    _, inputs, _ = draw("logic", 4000, 2)
    assert_uniform(inputs["lengths"], range(1, 11))
    real = np.arange(10) < inputs["lengths"][:, None]
    chunks = inputs["sequence"][..., 2:].reshape(4000, 10, 10, 10)
    assert_uniform(chunks.any(axis=-1).sum(axis=-1)[real], range(1, 11))
    assert_uniform(chunks.argmax(axis=-1)[chunks.any(axis=-1)], range(10))
    assert_uniform(inputs["sequence"][real][:, 1], (0, 1))
    assert_uniform(inputs["sequence"][:, 0, 0], (0, 1))


def test_logic_difficulty_fixes_the_gates_at_sequences_of_5():
    for level in (1, 10):
        _, inputs, _ = draw("logic", 40, 0, level)
        assert (inputs["lengths"] == 5).all()
        assert {len(decode(v)) for s in inputs["sequence"] for v in s[:5]} == {level}
    assert (draw("logic", 40, 0, 2, length=3)[1]["lengths"] == 3).all()
    _, inputs, _ = draw("logic", 200, 0, (2, 3))
    steps = zip(inputs["sequence"], inputs["lengths"])
    assert {len(decode(v)) for s, n in steps for v in s[:n]} == {2, 3}
    assert set(inputs["lengths"]) == set(range(1, 11))


# --- addition ------------------------------------------------------------------------------------


@bounded
@given(seed=seeds, numbers=st.integers(1, 10), digits=st.integers(1, 17))
def test_addition_sums_up(seed, numbers, digits):
    _, inputs, targets = draw("addition", 5, seed, numbers=numbers, digits=digits)
    for sequence, steps, target in zip(inputs["sequence"], inputs["lengths"], targets["sum"]):
        assert 1 <= steps <= numbers
        total = 0
        for time_step in range(steps):
            read = digits_of(sequence[time_step])
            assert 1 <= len(read) <= digits
            total += int("".join(map(str, read)))
            written = [int(c) for c in str(total)]
            if time_step:
                assert target[time_step].tolist() == written + [10] * (digits + 1 - len(written))
        assert (target[0] == -1).all() and (target[steps:] == -1).all()
        assert not sequence[steps:].any()


def test_addition_draws_lengths_and_digits_uniformly():
    _, inputs, targets = draw("addition", 6000, 3)
    assert_uniform(inputs["lengths"], range(1, 6))
    chunks = inputs["sequence"].reshape(6000, 5, 5, 10)
    count = chunks.any(axis=-1).sum(axis=-1)
    assert_uniform(count[count > 0], range(1, 6))
    assert_uniform(chunks.argmax(axis=-1)[chunks.any(axis=-1)], range(10))
    first = chunks[..., 0, :].argmax(axis=-1)[count > 1]
    assert 0.08 < (first == 0).mean() < 0.12, "leading zeros occur"
    assert targets["sum"].max() == 10 and (targets["sum"][:, 1:, 0] != 10).all()


def test_addition_writes_a_sum_of_zero():
    task = trainers.task("addition", numbers=2, digits=1)
    inputs, targets = task.batch(np.random.default_rng(0), 500)
    zero = (inputs["sequence"][:, :, 0] == 1).all(axis=1)
    assert zero.any() and (targets["sum"][zero, 1] == [0, 10]).all()


def test_addition_difficulty_fixes_the_digits_at_sequences_of_3():
    for level in (1, 5):
        _, inputs, _ = draw("addition", 40, 0, level)
        assert (inputs["lengths"] == 3).all()
        assert {len(digits_of(v)) for s in inputs["sequence"] for v in s[:3]} == {level}
    _, inputs, _ = draw("addition", 300, 0, (2, 3))
    used = inputs["sequence"].reshape(300, 5, 5, 10).any(axis=-1).sum(axis=-1)
    assert set(used.ravel()) == {0, 2, 3} and set(inputs["lengths"]) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("config", [{"numbers": 11}, {"numbers": 0}, {"digits": 18}])
def test_addition_refuses_sums_that_do_not_fit(config):
    with pytest.raises(ValueError, match=r"1\.\.10 numbers of 1\.\.17 digits"):
        trainers.task("addition", **config)


# --- sort ----------------------------------------------------------------------------------------


@bounded
@given(seed=seeds, numbers=st.integers(2, 20))
def test_sort_asks_for_the_indices_in_ascending_order(seed, numbers):
    _, inputs, targets = draw("sort", 5, seed, numbers=numbers)
    for sequence, steps, order in zip(inputs["sequence"], inputs["lengths"], targets["order"]):
        count = steps // 2
        assert steps == 2 * count and 2 <= count <= numbers
        values = sequence[:count, 0].tolist()
        assert order[count:steps].tolist() == sorted(range(count), key=values.__getitem__)
        assert (order[:count] == -1).all() and (order[steps:] == -1).all()
        assert sequence[:, 1].tolist() == [float(t == count - 1) for t in range(2 * numbers)]
        assert not sequence[count:, 0].any()


def test_sort_draws_normal_numbers_and_uniform_lengths():
    _, inputs, _ = draw("sort", 8000, 4)
    assert_uniform(inputs["lengths"] // 2, range(2, 16))
    values = inputs["sequence"][..., 0]
    assert scipy.stats.kstest(values[values != 0], "norm").pvalue > 1e-4


def test_sort_difficulty_is_the_length_of_the_list():
    assert trainers.task("sort").difficulties == tuple(range(2, 16))
    for level in (2, 9, 15):
        assert (draw("sort", 20, 0, level)[1]["lengths"] == 2 * level).all()
    assert set(draw("sort", 200, 0, (3, 5))[1]["lengths"]) == {6, 8, 10}


# --- losses --------------------------------------------------------------------------------------


def softmax_case(seed=0, batch=5, extra=(3,), classes=7, dtype="float64"):
    rng = np.random.default_rng(seed)
    target = rng.integers(-1, classes, (batch, 4, *extra))
    target[0] = -1
    logits = 3 * rng.normal(size=(*target.shape, classes))
    return target.astype("int32"), logits.astype(dtype)


def sigmoid_case(seed=0, batch=6, dtype="float64"):
    rng = np.random.default_rng(seed)
    target = rng.integers(-1, 2, (batch, 5))
    target[0] = -1
    return target.astype("float32"), (3 * rng.normal(size=target.shape)).astype(dtype)


def nats(target, logits):
    """Cross-entropy per target with plain loops, 0 where the target is -1."""
    result = np.zeros(target.shape)
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label >= 0 and logits.ndim > target.ndim:
            result[place] = -scipy.special.log_softmax(logits[place])[label]
        elif label >= 0:
            result[place] = -scipy.special.log_expit(logits[place] * (1 if label else -1))
    return result


CASES = [softmax_case(), softmax_case(extra=()), sigmoid_case()]


@pytest.mark.parametrize("case", CASES)
def test_loss_sums_over_targets_and_averages_over_rows(case):
    target, logits = case
    expected = nats(target, logits).reshape(len(target), -1).sum(axis=1).mean()
    double = keras.ops.convert_to_numpy(SequenceCrossentropy()(target, logits))
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, expected, rtol=1e-13)
    for dtype in ("float32", "float16"):
        single = SequenceCrossentropy()(target, logits.astype(dtype))
        assert keras.backend.standardize_dtype(single.dtype) == "float32"
        np.testing.assert_allclose(single, expected, rtol=1e-6 if dtype == "float32" else 1e-2)


def test_loss_weights_rows():
    target, logits = softmax_case()
    weight = np.array([1.0, 0.0, 2.0, 0.5, 3.0])
    rows = nats(target, logits).reshape(len(target), -1).sum(axis=1)
    np.testing.assert_allclose(
        SequenceCrossentropy()(target, logits, weight), (rows * weight).mean(), rtol=1e-12
    )


@pytest.mark.parametrize("case", CASES)
def test_loss_has_the_gradient_of_the_cross_entropy(case):
    import tensorflow as tf

    target, logits = case
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = SequenceCrossentropy()(target, variable)
    scored = target >= 0
    if logits.ndim > target.ndim:
        right = np.eye(logits.shape[-1])[np.maximum(target, 0)]
        expected = (scipy.special.softmax(logits, axis=-1) - right) * scored[..., None]
    else:
        expected = (scipy.special.expit(logits) - target) * scored
    gradient = tape.gradient(loss, variable).numpy()
    np.testing.assert_allclose(gradient, expected / len(target), rtol=1e-10, atol=1e-15)


def test_loss_stands_huge_logits_and_batches_without_targets():
    loss = SequenceCrossentropy()
    assert float(loss(np.full((2, 3), -1), np.zeros((2, 3, 4), "float32"))) == 0
    np.testing.assert_allclose(loss(np.array([[1.0]]), np.array([[-1e4]], "float32")), 1e4)
    np.testing.assert_allclose(loss(np.array([[0]]), np.array([[[0.0, 1e4]]], "float32")), 1e4)


# --- metrics -------------------------------------------------------------------------------------


def value(metric, *batches, **keywords):
    for batch in batches:
        metric.update_state(*batch, **keywords)
    return float(metric.result())


@pytest.mark.parametrize("case", CASES)
def test_error_metrics_against_loops(case):
    target, logits = case
    answer = logits.argmax(axis=-1) if logits.ndim > target.ndim else logits > 0
    wrong = [
        [bool(a != t) for t, a in zip(row.ravel(), given.ravel()) if t >= 0]
        for row, given in zip(target, answer)
    ]
    counted = [row for row in wrong if row]
    assert len(counted) < len(wrong)
    halves = [(target[:2], logits[:2]), (target[2:], logits[2:])]
    sequence = sum(map(any, counted)) / len(counted)
    assert value(SequenceError(), *halves) == pytest.approx(sequence, rel=1e-6)
    each = sum(sum(row) for row in counted) / sum(map(len, counted))
    assert value(TargetError(), *halves) == pytest.approx(each, rel=1e-6)
    bits = nats(target, logits).sum() / math.log(2) / (target >= 0).sum()
    assert value(BitsPerCharacter(), *halves) == pytest.approx(bits, rel=1e-6)


def test_rows_without_a_scored_target_do_not_count():
    target = np.array([[-1, -1], [0, -1], [1, 1]])
    logits = np.array([[9.0, 9.0], [9.0, 9.0], [9.0, 9.0]])
    assert value(SequenceError(), (target, logits)) == 0.5
    assert value(SequenceError(), (target[:1], logits[:1])) == 0


def test_addition_of_one_number_is_not_scored():
    task, inputs, targets = draw("addition", 200)
    alone = inputs["lengths"] == 1
    logits = np.zeros((200, 5, 6, 11))
    np.put_along_axis(logits, np.maximum(targets["sum"], 0)[..., None], 9.0, axis=-1)
    logits[alone] = 0
    logits[np.flatnonzero(~alone)[0], 1] = 0
    assert value(task.metrics()["sum"][0], (targets["sum"], logits)) == pytest.approx(
        1 / (~alone).sum(), rel=1e-6
    )


def test_ponder_and_cap_count_real_steps():
    updates = np.array([[1.0, 4.0, 0.0], [7.0, 7.0, 7.0]])
    assert value(Ponder(), (None, updates)) == pytest.approx(26 / 5)
    assert value(AtCap(7), (None, updates)) == pytest.approx(3 / 5)
    assert value(Ponder(), (None, np.zeros((2, 2)))) == 0


def test_metrics_weight_rows():
    target, logits = np.array([[1, 0], [1, -1], [0, 0]]), np.ones((3, 2))
    weight = np.array([1.0, 1.0, 4.0])
    assert value(SequenceError(), (target, logits), sample_weight=weight) == pytest.approx(5 / 6)
    assert value(TargetError(), (target, logits), sample_weight=weight) == pytest.approx(9 / 11)


def test_metrics_count_to_ten_million_exactly():
    metric = TargetError()
    metric.count.assign(10_000_000.0)
    metric.total.assign(5_000_000.0)
    metric.update_state(np.array([[1]]), np.array([[-1.0]]))
    assert float(metric.count) == 10_000_001 and float(metric.total) == 5_000_001


@pytest.mark.parametrize(
    "thing",
    [
        SequenceCrossentropy(),
        SequenceError(),
        TargetError(),
        BitsPerCharacter(),
        Ponder(),
        AtCap(20, name="capped"),
    ],
)
def test_losses_and_metrics_serialize(thing):
    config = keras.saving.serialize_keras_object(thing)
    assert config["registered_name"] == f"ponderzoo>{type(thing).__name__}"
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(again) is type(thing) and again.get_config() == thing.get_config()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_compiled_model_reports_what_the_metrics_say(jit_compile):
    task, inputs, targets = draw("logic", 8, gates=1, length=3)
    sequence = keras.Input((None, 12), name="sequence")
    truth = keras.layers.Reshape((-1,), name="truth")(keras.layers.Dense(1)(sequence))
    model = keras.Model(sequence, {"truth": truth})
    model.compile("sgd", loss=task.loss(), metrics=task.metrics(), jit_compile=jit_compile)
    logits = model.predict_on_batch(inputs["sequence"])["truth"]
    logs = model.evaluate(inputs["sequence"], targets, verbose=0, return_dict=True)
    loss = nats(targets["truth"], logits).sum(axis=1).mean()
    assert logs["loss"] == pytest.approx(loss, rel=1e-5)
    wrong = ((logits > 0) != targets["truth"]) & (targets["truth"] >= 0)
    assert logs["sequence_error"] == pytest.approx(wrong.any(axis=1).mean(), rel=1e-5)


ON_JAX = """
import json, sys
import jax, numpy as np
from ponderzoo import trainers
from ponderzoo.trainers._metrics import *
assert "tensorflow" not in sys.modules
assert all(trainers.task(name) for name in trainers.tasks())
results = []
for target, logits in json.load(sys.stdin):
    target, logits = np.array(target), np.array(logits, "float32")
    numbers = [float(jax.jit(SequenceCrossentropy().__call__)(target, logits))]
    for metric in (SequenceError(), TargetError(), BitsPerCharacter()):
        state = [v.value for v in metric.variables]
        state = jax.jit(metric.stateless_update_state)(state, target, logits)
        numbers.append(float(metric.stateless_result(state)))
    results.append(numbers)
assert "tensorflow" not in sys.modules
print(json.dumps(results))
"""


def test_losses_and_metrics_agree_on_jax():
    cases = [(t, x.astype("float32")) for t, x in CASES]
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        input=json.dumps([[t.tolist(), x.tolist()] for t, x in cases]),
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for case, found in zip(cases, json.loads(done.stdout)):
        metrics = (SequenceError(), TargetError(), BitsPerCharacter())
        here = [float(SequenceCrossentropy()(*case)), *(value(m, case) for m in metrics)]
        np.testing.assert_allclose(found, here, rtol=1e-5)


# --- measuring -----------------------------------------------------------------------------------


class Knowing:
    """Stands in for a model: answers right up to a level, and ponders one update more than it."""

    class Layer:
        max_ponder = 9

    layers = (Layer(),)

    def __init__(self, knows, ponders=True):
        self.knows, self.ponders, self.sizes = knows, ponders, set()

    def predict_on_batch(self, inputs):
        sequence = inputs["sequence"]
        self.sizes.add(len(sequence))
        level = (sequence != 0).sum(axis=-1)
        odd = (sequence > 0).sum(axis=-1) % 2
        logit = np.where((odd == 1) == (level <= self.knows), 5.0, -5.0)
        outputs = {"parity": logit.astype("float32")}
        if self.ponders:
            outputs["updates"] = level + 1.0
            outputs["remainder"] = np.full(level.shape, 0.25)
        return outputs


def pondering(model):
    """What an entry that ponders tells of its models."""
    return {"updates": [Ponder(), AtCap(9)], "remainder": [StepMean("remainder")]}


def test_sweep_measures_every_level():
    task, model = trainers.task("parity", bits=9), Knowing(6)
    points = difficulty_sweep(model, task, 70, 32, measures=pondering)
    assert model.sizes == {32}, "a partial batch would compile the model again"
    assert json.loads(json.dumps(points)) == points
    assert [p["difficulty"] for p in points] == list(range(1, 10))
    assert [p["sequence_error"] for p in points] == [0.0] * 6 + [1.0] * 3
    assert [p["ponder"] for p in points] == [float(n) for n in range(2, 11)]
    assert {(p["rows"], p["ponder_std"], p["remainder"]) for p in points} == {(70, 0.0, 0.25)}
    assert "ponder" not in difficulty_sweep(Knowing(6, ponders=False), task, 10, 10)[0]


def test_evaluate_gives_the_metrics_by_name():
    task, model = trainers.task("parity", bits=9), Knowing(6)
    result = evaluate(model, task, rows=3000, batch_size=128, seed=5, measures=pondering)
    assert json.loads(json.dumps(result)) == result
    assert result.keys() == {"sequence_error", "error", "ponder", "at_cap", "remainder"}
    assert result["sequence_error"] == pytest.approx(3 / 9, abs=0.04)
    assert result["ponder"] == pytest.approx(6, abs=0.2)
    assert result["at_cap"] == pytest.approx(2 / 9, abs=0.04)
    assert result == evaluate(model, task, rows=3000, batch_size=128, seed=5, measures=pondering)
    one = evaluate(model, task, rows=1, batch_size=64, measures=pondering)
    assert one["sequence_error"] in (0, 1) and one["ponder"] == round(one["ponder"])
    assert evaluate(Knowing(9, ponders=False), task, rows=50).keys() == {"sequence_error", "error"}


# --- words ---------------------------------------------------------------------------------------


def perfect(targets, classes=None):
    """Logits that answer the targets, and zeros where there is none."""
    if classes is None:
        return np.where(targets > 0, 4.0, -4.0)
    logits = np.zeros((*targets.shape, classes))
    np.put_along_axis(logits, np.maximum(targets, 0)[..., None], 9.0, axis=-1)
    return logits


def test_parity_in_words():
    task, inputs, targets = draw("parity", 1, 0, 11)
    inputs["sequence"] = np.where(inputs["sequence"] != 0, 1.0, 0.0)
    targets["parity"][:] = 1
    outputs = {"parity": np.array([[3.9]]), "updates": np.array([[7.0]])}
    line = "11 bits set -> odd; answered odd (0.98) after 7 steps"
    assert task.describe(inputs, targets, outputs) == [line]
    outputs = {"parity": np.array([[-3.9]]), "updates": np.array([[1.0]])}
    line = "11 bits set; answered even (0.98) after 1 step"
    assert task.describe(inputs, None, outputs) == [line]


@pytest.mark.parametrize("logit, odd", [(1e-30, True), (0.0, False), (-1e-30, False)])
def test_bits_are_told_by_their_logits(logit, odd):
    """Of probabilities these all round to a half; errors are counted by logits, too."""
    outputs = np.full((1, 1), logit, "float32")
    for name in ("parity", "bit_parity"):
        task = trainers.task(name, bits=3)
        inputs, _ = task.batch(np.random.default_rng(0), 1)
        (line,) = task.describe(inputs, None, {"parity": outputs})
        assert f"answered {'odd' if odd else 'even'} (0.50)" in line
    task = trainers.task("ngrams", length=4)
    inputs, _ = task.batch(np.random.default_rng(0), 1)
    (line,) = task.describe(inputs, None, {"bits": np.full((1, 4, 1), logit, "float32")})
    assert f"answered {odd:d} (0.50)" in line


def test_logic_in_words():
    task = trainers.task("logic", gates=2, length=3)
    sequence = np.zeros((1, 3, 22), "float32")
    sequence[0, 0, [0, 2 + 3, 12 + 5]] = 1
    sequence[0, 1, [1, 2 + 0]] = 1
    inputs = {"sequence": sequence, "lengths": np.array([2])}
    targets = {"truth": np.array([[0.0, 1.0, -1.0]])}
    outputs = {"truth": np.array([[-1.0, -1.0, 3.0]]), "updates": np.array([[4.0, 3.0, 0.0]])}
    line = "10 XOR AND | 1 NOR -> FT; answered FF (1 of 2 wrong) after 4, 3 steps"
    assert task.describe(inputs, targets, outputs) == [line]


def test_addition_in_words():
    task = trainers.task("addition", numbers=3)
    sequence = np.zeros((2, 3, 5, 10), "float32")
    for step, digits in enumerate(("12", "007", "99999")):
        for place, digit in enumerate(digits):
            sequence[:, step, place, int(digit)] = 1
    inputs = {"sequence": sequence.reshape(2, 3, 50), "lengths": np.array([3, 1])}
    sums = [[-1] * 6, [1, 9, 10, 10, 10, 10], [1, 0, 0, 0, 1, 8]]
    targets = {"sum": np.array([sums, [[-1] * 6] * 3])}
    outputs = {"sum": perfect(targets["sum"], 11), "updates": np.array([[3.0, 4, 6], [2, 0, 0]])}
    assert task.describe(inputs, targets, outputs) == [
        "12 + 007 + 99999 -> 19, 100018; answered 19, 100018 (ok) after 3, 4, 6 steps",
        "12; no answer after 2 steps",
    ]
    outputs["sum"][0, 1, :2, 10] = 99
    assert "answered nothing, 100018 (1 of 2 wrong)" in task.describe(inputs, targets, outputs)[0]


def test_sort_in_words():
    task = trainers.task("sort", numbers=3)
    sequence = np.zeros((1, 6, 2), "float32")
    sequence[0, :2, 0] = 0.31, -1.2
    inputs = {"sequence": sequence, "lengths": np.array([4])}
    targets = {"order": np.array([[-1, -1, 1, 0, -1, -1]])}
    outputs = {"order": perfect(targets["order"], 3)}
    line = "0.31 -1.20 -> -1.20 0.31; answered -1.20 0.31 (ok)"
    assert task.describe(inputs, targets, outputs) == [line]
    outputs["order"][0, 3, 2] = 99
    assert task.describe(inputs, None, outputs) == ["0.31 -1.20; answered -1.20 ?"]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_perfect_answer_reads_as_one(name):
    task, inputs, targets = draw(name, 20)
    (key, target), classes = *targets.items(), {"addition": 11, "sort": 15}.get(name)
    lines = task.describe(inputs, targets, {key: perfect(target, classes)})
    assert len(lines) == 20 and not any("wrong" in line or "\n" in line for line in lines)


def test_words():
    assert (
        after({}, 0) == "" and after({"updates": np.array([[2.0, 0.0]])}, 0, 1) == " after 2 steps"
    )
    assert [verdict(0, 3), verdict(1, 3), verdict(0, 0)] == [" (ok)", " (1 of 3 wrong)", ""]


# --- pictures ------------------------------------------------------------------------------------


def assert_drawn(figure, panels):
    assert isinstance(figure, Figure)
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert len(axes) == panels
    assert all(axis.get_ylabel() for axis in axes) and any(axis.get_xlabel() for axis in axes)
    stream = io.BytesIO()
    figure.savefig(stream)
    assert stream.getvalue()[:4] == b"\x89PNG" and len(stream.getvalue()) > 5000


def test_difficulty_figure():
    task = trainers.task("parity", bits=5)
    points = difficulty_sweep(Knowing(3), task, 20, 20, measures=pondering)
    assert_drawn(curves.difficulty(points, task.axis), 2)
    plain = difficulty_sweep(Knowing(0, ponders=False), task, 20, 20)
    figure = curves.difficulty({"ACT": points, "no ACT": plain}, task.axis)
    assert_drawn(figure, 2)
    assert [text.get_text() for text in figure.axes[1].get_legend().texts] == ["ACT", "no ACT"]
    assert {axis.get_xlabel() for axis in figure.axes} == {"bits set"}


@pytest.mark.parametrize("penalties", [(1e-3, 1e-2, None), (0.0, 1e-3), (1e-3,)])
def test_trade_off_figure(penalties):
    rows = [
        {"time_penalty": tau, "seed": seed, "sequence_error": 0.1 * seed, "ponder": 2.0 + seed}
        for tau in penalties
        for seed in (1, 2)
    ]
    assert_drawn(curves.trade_off(rows, "time_penalty", "ponder"), 2)


def test_ponder_over_text_figure():
    text = "a $5 [[é]]\n_x^2".encode()
    assert_drawn(ponder.ponder_over_text(text, *np.ones((4, len(text)))), 3)


def test_ponder_per_step_figure():
    updates, remainder = np.array([3.0, 1.0, 2.0]), np.array([0.5, 1.0, 0.1])
    assert_drawn(ponder.ponder_per_step(None, updates, remainder, ["1", "22", "333"]), 1)
    assert_drawn(ponder.ponder_per_step([0.5, -1.0, np.nan], updates, remainder), 2)


def test_surprise_shows_what_costs_nothing():
    figure = text.surprise("abcd", [-1, 1, 2, 3], np.array([9.0, 0.0, 2.0, 0.0]))
    assert_drawn(figure, 1)
    (points,) = figure.axes[0].lines
    assert [*zip(*points.get_data())] == [(2, 0), (3, 2), (4, 0)]


def test_learning_curves_figure():
    history = [{"updates": 500 * i, "parity_sequence_error": 1 / i, "loss": 1.0} for i in (1, 2, 3)]
    pondering = [{**row, "updates_ponder": 2.0} for row in history]
    words = {"ponder": "updates N per input"}
    both = {"seed 1": pondering, "no ACT": history}
    assert_drawn(curves.learning_curves(both, words=words), 2)
    assert_drawn(curves.learning_curves(both), 1)
    assert_drawn(curves.learning_curves({"seed 1": history}, "loss"), 1)
    with pytest.raises(ValueError, match="no metric 'speed'"):
        curves.learning_curves({"seed 1": history}, "speed")


def test_tasks_with_levels_have_their_sweep_drawn():
    figures = figures_of(Knowing(2), trainers.task("parity", bits=4), pondering)
    assert figures.keys() == {"difficulty"}
    assert_drawn(figures["difficulty"], 2)
