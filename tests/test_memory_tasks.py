"""The five tasks of the NTM paper against plain readings of them; unit, words and pictures."""

import itertools
import math
import time
import unittest.mock

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from ponderzoo import trainers
from ponderzoo.trainers._metrics import BitsPerSequence
from ponderzoo.trainers.figures import curves, memory
from ponderzoo.trainers.figures._panels import small_png
from ponderzoo.trainers.tasks._memory import costs, generalise, lay, words
from ponderzoo.trainers.tasks.ngrams import optimal, optimal_costs

TASKS = ("associative_recall", "copy", "ngrams", "priority_sort", "repeat_copy")
SMALL = {
    "associative_recall": {"items": 3, "vectors": 2, "bits": 4},
    "copy": {"length": 4, "bits": 3},
    "ngrams": {"length": 30, "context": 2},
    "priority_sort": {"vectors": 4, "answers": 3, "bits": 2},
    "repeat_copy": {"length": 3, "repeats": 2, "bits": 3},
}
each_task = pytest.mark.parametrize("name", TASKS)
bounded = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def draw(name, size=5, seed=0, difficulty=None, **config):
    task = trainers.task(name, **config)
    inputs, targets = task.batch(np.random.default_rng(seed), size, difficulty)
    return task, inputs, targets


def rows_of(inputs, targets):
    """Sequence without padding and answer, as lists of whole numbers where they are, a row."""
    for sequence, length, target in zip(inputs["sequence"], inputs["lengths"], targets["bits"]):
        yield sequence[:length].tolist(), target[:length].tolist()


def assert_uniform(values, levels):
    counts = [np.sum(values == level) for level in levels]
    assert sum(counts) == np.size(values)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def perfect(targets):
    return {"bits": np.where(targets["bits"] > 0, 19.0, -19.0).astype("float32")}


# --- what all five keep --------------------------------------------------------------------------


def test_the_sizes_are_those_of_the_paper():
    copy, repeat_copy = trainers.task("copy"), trainers.task("repeat_copy")
    assert (copy.length, copy.bits) == (20, 8)
    assert (repeat_copy.length, repeat_copy.repeats, repeat_copy.bits) == (10, 10, 8)
    recall = trainers.task("associative_recall")
    assert (recall.items, recall.vectors, recall.bits) == (6, 3, 6)
    assert (trainers.task("ngrams").length, trainers.task("ngrams").context) == (200, 5)
    sort = trainers.task("priority_sort")
    assert (sort.vectors, sort.answers) == (20, 16)


@pytest.mark.parametrize(
    "name, config, units, parameters",
    [
        ("copy", {"markers": True}, 256, 1_352_969),
        ("repeat_copy", {"bits": 6}, 512, 5_312_007),
        ("associative_recall", {}, 256, 1_344_518),
        ("ngrams", {}, 128, 331_905),
    ],
)
def test_the_widths_give_the_parameters_of_the_papers_lstm(name, config, units, parameters):
    """Three layers, each with the input, all read by the output, with learned initial states."""
    task = trainers.task(name, **config)
    first = 4 * units * (task.channels + units + 1)
    further = 4 * units * (task.channels + 2 * units + 1)
    assert first + 2 * further + 6 * units + (3 * units + 1) * task.outputs == parameters


@each_task
@pytest.mark.parametrize("config", ["paper", "small"])
def test_nothing_is_scored_but_the_answer_and_nothing_stands_behind_it(name, config):
    _, inputs, targets = draw(name, 20, **(SMALL[name] if config == "small" else {}))
    for sequence, length, target in zip(inputs["sequence"], inputs["lengths"], targets["bits"]):
        assert set(np.unique(target)) <= {-1, 0, 1}
        asked = (target >= 0).all(axis=-1)
        assert (asked == (target >= 0).any(axis=-1)).all(), "a step is scored or it is not"
        steps = np.flatnonzero(asked)
        assert steps[-1] == length - 1 and len(steps) == steps[-1] - steps[0] + 1
        assert not sequence[length:].any()
        if name != "ngrams":
            assert not sequence[steps[0] :].any(), "nothing is shown while the answer is given"


@each_task
def test_shapes_do_not_depend_on_the_draw(name):
    task = trainers.task(name, **SMALL[name])
    for difficulty in (None, task.difficulties[0], task.difficulties[-1], task.difficulties[:2]):
        shapes = set()
        for seed in range(4):
            inputs, targets = task.batch(np.random.default_rng(seed), 3, difficulty)
            shapes.add((inputs["sequence"].shape, targets["bits"].shape))
        assert len(shapes) == 1


@each_task
def test_the_same_seed_gives_the_same_stream(name):
    one, two, other = (trainers.task(name).dataset("train", 4, 5, seed) for seed in (0, 0, 1))
    two[0]
    for a, b, c in zip(one[3], two[3], other[3]):
        assert all(np.array_equal(a[key], b[key]) for key in a)
        assert any(not np.array_equal(a[key], c[key]) for key in a if key != "lengths")


@each_task
@pytest.mark.parametrize("wrong", [0, 1000, (5, 2), (1, 1000)])
def test_levels_that_do_not_exist_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"task {name} has .* from .* got"):
        draw(name, 2, difficulty=wrong)


@each_task
def test_a_batch_of_16_takes_a_small_part_of_a_training_step(name):
    """A step of the paper's network takes some 50 ms on one core."""
    task, rng, times = trainers.task(name), np.random.default_rng(0), []
    for _ in range(30):
        start = time.perf_counter()
        task.batch(rng, 16)
        times.append(time.perf_counter() - start)
    assert min(times) < 2.5e-3


def test_vectors_are_laid_out_in_time():
    vectors = np.array([[[1], [2], [3]], [[4], [5], [6]]])
    first, count = np.array([1, 0]), np.array([2, 3])
    laid = lay(vectors, first, count, 4, fill=-1)
    assert laid[..., 0].tolist() == [[-1, 1, 2, -1], [4, 5, 6, -1]]
    laid = lay(vectors, first, 2 * count, 6, period=count)
    assert laid[..., 0].tolist() == [[0, 1, 2, 1, 2, 0], [4, 5, 6, 4, 5, 6]]


# --- copy ----------------------------------------------------------------------------------------


@bounded
@given(seed=seeds, length=st.integers(1, 30), bits=st.integers(1, 9), markers=st.booleans())
def test_copy_asks_for_what_was_shown(seed, length, bits, markers):
    _, inputs, targets = draw("copy", 3, seed, length=length, bits=bits, markers=markers)
    for sequence, target in rows_of(inputs, targets):
        shown, answer = [], [t for t in target if t[0] >= 0]
        if markers:
            assert sequence.pop(0) == [0] * bits + [1, 0]
            assert answer.pop() == [0] * bits + [1]
            answer = [a[:-1] for a in answer if a[-1] == 0]
        while sequence[0][-1] == 0:
            step = sequence.pop(0)
            assert not any(step[bits:])
            shown.append(step[:bits])
        assert sequence[0] == [0] * (bits + markers) + [1]
        assert 1 <= len(shown) <= length and answer == shown
        assert {bit for vector in shown for bit in vector} <= {0, 1}


def test_copy_draws_lengths_and_bits_uniformly():
    _, inputs, targets = draw("copy", 4000)
    assert_uniform((inputs["lengths"] - 1) // 2, range(1, 21))
    assert_uniform(targets["bits"][targets["bits"] >= 0], (0, 1))


def test_copy_difficulty_is_the_length():
    assert trainers.task("copy").difficulties == tuple(range(1, 21))
    for level in (1, 7, 20):
        assert (draw("copy", 9, 0, level)[1]["lengths"] == 2 * level + 1).all()
    assert set(draw("copy", 200, 0, (3, 5))[1]["lengths"]) == {7, 9, 11}


def test_long_copies_have_few_levels():
    assert trainers.task("copy", length=500).difficulties == (1, *range(25, 501, 25))
    assert trainers.task("copy", length=1).difficulties == (1,)


# --- repeat copy ---------------------------------------------------------------------------------


@bounded
@given(seed=seeds, length=st.integers(1, 12), repeats=st.integers(1, 12), bits=st.integers(1, 9))
def test_repeat_copy_asks_for_all_repeats_and_the_end(seed, length, repeats, bits):
    config = {"length": length, "repeats": repeats, "bits": bits}
    _, inputs, targets = draw("repeat_copy", 3, seed, **config)
    levels = np.arange(1, repeats + 1)
    deviation = levels.std() or 1
    for sequence, target in rows_of(inputs, targets):
        flags = [step[-2] for step in sequence]
        assert sum(flags) == 1
        asked = flags.index(1)
        times = round(sequence[asked][-1] * deviation + levels.mean())
        shown = [step[:bits] for step in sequence[:asked]]
        assert 1 <= len(shown) <= length and 1 <= times <= repeats
        assert not any(sequence[asked][:bits]) and not any(step[-1] for step in sequence[:asked])
        answer = [[*vector, 0] for _ in range(times) for vector in shown]
        assert target[asked + 1 :] == [*answer, [0] * bits + [1]]


def test_repeat_copy_says_how_often_with_mean_0_and_variance_1():
    task = trainers.task("repeat_copy")
    numbers = [task.normalised(n) for n in range(1, 11)]
    assert np.mean(numbers) == pytest.approx(0) and np.var(numbers) == pytest.approx(1)
    inputs, _ = task.draw(np.random.default_rng(0), np.array([2]), np.array([20]))
    assert inputs["sequence"][0, 2, -1] == pytest.approx(14.5 / 2.8723, rel=1e-4)


def test_repeat_copy_difficulty_bounds_length_and_repeats():
    def counts(difficulty, **config):
        _, inputs, _ = draw("repeat_copy", 400, 0, difficulty, **config)
        length = inputs["sequence"][..., -2].argmax(axis=1)
        return set(length), set((inputs["lengths"] - length - 2) // length)

    assert counts(None) == (set(range(1, 11)), set(range(1, 11)))
    assert counts(3) == ({3}, {3})
    assert counts((2, 4)) == ({2, 3, 4}, {2, 3, 4})
    assert counts(5, length=3, repeats=6) == ({3}, {5})


# --- associative recall --------------------------------------------------------------------------


@bounded
@given(seed=seeds, items=st.integers(2, 9), vectors=st.integers(1, 4), bits=st.integers(1, 9))
def test_recall_asks_for_the_item_after_the_query(seed, items, vectors, bits):
    config = {"items": items, "vectors": vectors, "bits": bits}
    _, inputs, targets = draw("associative_recall", 3, seed, **config)
    for sequence, target in rows_of(inputs, targets):
        chunks, kinds = [], []
        for step in sequence[: len(sequence) - vectors]:
            *vector, item, query = step
            if item or query:
                assert not any(vector) and (item, query) in ((1, 0), (0, 1))
                kinds.append("item" if item else "query")
                chunks.append([])
            else:
                chunks[-1].append(vector)
        count = len(kinds) - 2
        assert kinds == ["item"] * count + ["query"] * 2 and 2 <= count <= items
        *shown, query, rest = chunks
        assert not rest and all(len(chunk) == vectors for chunk in (*shown, query))
        answers = [after for item, after in itertools.pairwise(shown) if item == query]
        assert target[-vectors:] in answers


def test_recall_asks_for_every_item_but_the_first_alike():
    _, inputs, targets = draw("associative_recall", 3000, 0, 4)
    shown = inputs["sequence"][:, :16, :6].reshape(3000, 4, 4, 6)[:, :, 1:]
    answer = targets["bits"][:, 21:24]
    assert_uniform((shown == answer[:, None]).all(axis=(2, 3)).argmax(axis=1), (1, 2, 3))


def test_recall_difficulty_is_the_number_of_items():
    assert trainers.task("associative_recall").difficulties == (2, 3, 4, 5, 6)
    for level in (2, 6):
        _, inputs, _ = draw("associative_recall", 9, 0, level)
        assert (inputs["sequence"][..., -2].sum(axis=1) == level).all()
    _, inputs, _ = draw("associative_recall", 3000)
    assert_uniform(inputs["sequence"][..., -2].sum(axis=1), range(2, 7))
    with pytest.raises(ValueError, match="2 items or more"):
        trainers.task("associative_recall", items=1)


# --- dynamic N-grams -----------------------------------------------------------------------------


def test_ngrams_show_the_bit_before_and_ask_for_the_next():
    _, inputs, targets = draw("ngrams", 20, 0, (20, 200))
    for sequence, target in rows_of(inputs, targets):
        assert sequence == [[0], *target[:-1]]


def test_ngrams_follow_their_table():
    """With a table of certainties every bit after the fair ones is that of its context."""
    task, rng = trainers.task("ngrams", context=3), np.random.default_rng(1)
    table = rng.integers(0, 2, (6, 8)).astype(float)
    _, targets = task.draw(rng, np.full(6, 50), table=table)
    for bits, chances in zip(targets["bits"][..., 0].astype(int).tolist(), table):
        for step in range(3, 50):
            oldest, middle, latest = bits[step - 3 : step]
            assert bits[step] == chances[4 * oldest + 2 * middle + latest]


def test_ngrams_draw_their_tables_from_the_arcsine_law():
    """Without context a sequence is one coin, whose bias has the distribution Beta(1/2, 1/2)."""
    task = trainers.task("ngrams", context=0, length=4000)
    _, targets = task.batch(np.random.default_rng(0), 400)
    shares = targets["bits"].mean(axis=(1, 2))
    assert scipy.stats.kstest(shares, scipy.stats.beta(0.5, 0.5).cdf).pvalue > 1e-4


def test_ngrams_begin_with_fair_bits():
    _, _, targets = draw("ngrams", 4000, 0, 20)
    fair = targets["bits"][:, :5, 0] @ [16, 8, 4, 2, 1]
    assert_uniform(fair, range(32))


@bounded
@given(bits=st.lists(st.integers(0, 1), min_size=1, max_size=40), context=st.integers(0, 3))
def test_the_optimal_estimator_is_the_bayesian_one(bits, context):
    """The mean of the posterior, integrated over a with p = sin(a)^2, where the prior is flat."""
    expected = []
    for step in range(len(bits)):
        if step < context:
            expected.append(0.5)
            continue
        here = bits[step - context : step]
        past = [bits[i] for i in range(context, step) if bits[i - context : i] == here]
        ones, zeros = past.count(1), past.count(0)

        def moment(more, ones=ones, zeros=zeros):
            return scipy.integrate.quad(
                lambda a: math.sin(a) ** (2 * (ones + more)) * math.cos(a) ** (2 * zeros),
                0,
                math.pi / 2,
                epsabs=0,
            )[0]

        expected.append(moment(1) / moment(0))
    np.testing.assert_allclose(optimal(np.array([bits]), context)[0], expected, rtol=1e-9)


def test_the_optimum_is_that_of_the_paper():
    """About 133 bits of 200; the mean of 2,000 sequences has a standard error of 0.7."""
    task = trainers.task("ngrams")
    assert task.optimum(2000, split="test") == pytest.approx(132.9, abs=2.5)
    assert task.optimum(20) == task.optimum(20)


def test_the_optimum_counts_what_is_scored_alone():
    bits = np.array([[1, 0, 1, 1, 0, 1, 1, 1], [0, 0, 1, 0, 0, -1, -1, -1]])
    found = optimal_costs(bits, 1)
    chance = optimal(bits, 1)
    assert found[1] == pytest.approx(
        -sum(math.log2(p if b else 1 - p) for p, b in zip(chance[1, :5], bits[1]))
    )
    np.testing.assert_allclose(optimal_costs(bits[1:, :5], 1), found[1:])
    np.testing.assert_allclose(optimal_costs(bits, 8), [8, 5])


def test_ngrams_difficulty_is_the_length():
    task = trainers.task("ngrams")
    assert task.difficulties == tuple(range(20, 201, 20))
    assert (draw("ngrams", 9)[1]["lengths"] == 200).all()
    assert (draw("ngrams", 9, 0, 40)[1]["lengths"] == 40).all()
    lengths = draw("ngrams", 500, 0, (20, 40))[1]["lengths"]
    assert lengths.min() == 20 and lengths.max() == 40
    assert trainers.task("ngrams", length=3).difficulties == (1, 2, 3)


def test_ngrams_report_the_cost_beside_the_optimum():
    report = trainers.task("ngrams").report(Guessing(), rows=30)["optimum"]
    assert report["bits_per_sequence"] == pytest.approx(200)
    assert 110 < report["optimal_bits_per_sequence"] < 155
    above = report["bits_per_sequence"] - report["optimal_bits_per_sequence"]
    assert report["bits_above_the_optimum"] == pytest.approx(above)


# --- priority sort -------------------------------------------------------------------------------


@bounded
@given(seed=seeds, vectors=st.integers(1, 24), share=st.floats(0, 1), bits=st.integers(1, 9))
def test_priority_sort_asks_for_the_highest_first(seed, vectors, share, bits):
    answers = 1 + int(share * (vectors - 1))
    config = {"vectors": vectors, "answers": answers, "bits": bits}
    for difficulty in (None, (1, vectors)):
        _, inputs, targets = draw("priority_sort", 3, seed, difficulty, **config)
        for sequence, target in rows_of(inputs, targets):
            flags = [step[-1] for step in sequence]
            assert sum(flags) == 1
            count = flags.index(1)
            assert not any(sequence[count][:-1])
            assert count == vectors if difficulty is None else 1 <= count <= vectors
            ranked = sorted(sequence[:count], key=lambda step: -step[bits])
            assert all(-1 <= step[bits] <= 1 for step in ranked)
            assert target[count + 1 :] == [step[:bits] for step in ranked[:answers]]


def test_priority_sort_draws_priorities_uniformly():
    _, inputs, _ = draw("priority_sort", 500)
    priorities = inputs["sequence"][:, :20, -2].ravel()
    assert scipy.stats.kstest(priorities, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-4


def test_priority_sort_difficulty_is_the_number_of_vectors():
    assert trainers.task("priority_sort").difficulties == tuple(range(1, 21))
    assert (draw("priority_sort", 9)[1]["lengths"] == 37).all()
    assert (draw("priority_sort", 9, 0, 5)[1]["lengths"] == 11).all()
    assert (draw("priority_sort", 9, 0, 18)[1]["lengths"] == 35).all()
    with pytest.raises(ValueError, match="1 to 4 of its 4 vectors"):
        trainers.task("priority_sort", vectors=4, answers=5)


# --- the unit ------------------------------------------------------------------------------------


@each_task
def test_guessing_costs_as_many_bits_as_are_asked_for(name):
    task, _, targets = draw(name, 30)
    asked = (targets["bits"] >= 0).sum(axis=(1, 2))
    metrics = task.metrics()["bits"]
    assert [metric.name for metric in metrics][:2] == ["bits_per_sequence", "error"]
    zeros = np.zeros(targets["bits"].shape, "float32")
    assert value(metrics[0], targets["bits"], zeros) == pytest.approx(asked.mean(), rel=1e-6)
    np.testing.assert_allclose(costs(targets["bits"], zeros), asked)
    nats = float(task.loss()["bits"](targets["bits"], zeros))
    assert nats == pytest.approx(asked.mean() * math.log(2), rel=1e-6)
    for metric in metrics:
        metric.reset_state()
        assert value(metric, targets["bits"], perfect(targets)["bits"]) < 0.02 * asked.mean()


def value(metric, *batch):
    metric.update_state(*batch)
    return float(metric.result())


def test_bits_per_sequence_are_counted_with_plain_loops():
    rng = np.random.default_rng(0)
    target, logits = rng.integers(-1, 2, (6, 4, 3)).astype("float32"), rng.normal(size=(6, 4, 3))
    target[2] = -1
    rows = []
    for row in (0, 1, 3, 4, 5):
        pairs = [(t, x) for t, x in zip(target[row].ravel(), logits[row].ravel()) if t >= 0]
        rows.append(sum(math.log2(1 + math.exp(-x if t else x)) for t, x in pairs))
    metric = BitsPerSequence()
    metric.update_state(target[:2], logits[:2])
    metric.update_state(target[2:], logits[2:])
    assert float(metric.result()) == pytest.approx(np.mean(rows), rel=1e-6)
    np.testing.assert_allclose(np.delete(costs(target, logits), 2), rows)
    config = keras.saving.serialize_keras_object(metric)
    assert config["registered_name"] == "ponderzoo>BitsPerSequence"
    assert keras.saving.deserialize_keras_object(config).name == "bits_per_sequence"


# --- beyond the range of training ----------------------------------------------------------------


class Guessing:
    """Stands in for a model: knows nothing, or all of the answers as long as they are short."""

    layers = ()

    def __init__(self, task=None, knows=0):
        self.task, self.knows = task, knows

    def predict_on_batch(self, inputs):
        sequence = inputs["sequence"]
        logits = np.zeros((*sequence.shape[:2], self.task.outputs if self.task else 1), "float32")
        for row, steps in enumerate(inputs["lengths"] if self.knows else ()):
            count = (steps - 1) // 2
            if count <= self.knows:
                shown = sequence[row, :count, : self.task.outputs]
                logits[row, count + 1 : steps] = 200 * shown - 100
        return {"bits": logits}


def test_generalisation_is_measured_at_lengths_beyond_the_range_of_training():
    task = trainers.task("copy", length=20)
    (points,) = generalise(Guessing(task, knows=30), task, rows=5, batch_size=4).values()
    assert [point["x"] for point in points] == [5, 10, 20, 30, 50, 80, 120]
    assert {point["rows"] for point in points} == {5}
    found = [point["bits_per_sequence"] for point in points]
    assert found == pytest.approx([0, 0, 0, 0, 400, 640, 960])
    assert [point["sequence_error"] for point in points] == [0] * 4 + [1] * 3
    assert all(0.4 < point["error"] < 0.6 for point in points[4:])
    report = task.report(Guessing(task, knows=30), rows=3)["generalisation"]
    assert report["120 vectors"]["bits_per_sequence"] == pytest.approx(960)


def test_generalisation_goes_to_more_items_and_repeats():
    ((most, points),) = trainers.task("associative_recall").beyond.values()
    assert most == 6 and {6, 10, 15, 20} <= set(points)
    longer, oftener = trainers.task("repeat_copy").beyond.values()
    assert trainers.task("priority_sort").beyond["vectors"][0] is None, "always 20 in training"
    assert longer[1][20] == {"length": 20, "repeats": 10}
    assert oftener[1][20] == {"length": 10, "repeats": 20}


@each_task
def test_rows_may_be_larger_than_the_tasks_own(name):
    task = trainers.task(name, **SMALL[name])
    counts = {key: np.full(2, 3 * n) for key, n in task.typical.items()}
    inputs, targets = task.draw(np.random.default_rng(0), **counts)
    own, _ = task.batch(np.random.default_rng(0), 2)
    assert inputs["sequence"].shape[1] > own["sequence"].shape[1]
    assert targets["bits"].shape[:2] == inputs["sequence"].shape[:2]
    assert inputs["lengths"].max() == inputs["sequence"].shape[1]


# --- words ---------------------------------------------------------------------------------------


def test_vectors_are_written_in_hexadecimal():
    assert words(np.array([[0, 0, 1, 1, 0, 1, 0, 1], [1] * 8])) == ["35", "ff"]
    assert words(np.array([[-2.0, 3.0, 0.1, -1.0, 1.0, 1.0]])) == ["1b"]


def vectors_of(bits, *numbers):
    return np.array([[int(digit) for digit in f"{n:0{bits}b}"] for n in numbers], "float32")


def test_copy_in_words():
    for markers in (False, True):
        task = trainers.task("copy", length=4, markers=markers)
        inputs, targets = task.draw(np.random.default_rng(0), np.array([2]), 4)
        shown = vectors_of(8, 0x35, 0xE2)
        inputs["sequence"][0, markers : 2 + markers, :8] = shown
        first = 3 + markers
        targets["bits"][0, first : first + 2, :8] = shown
        outputs = perfect(targets)
        line = "2 vectors 35 e2; answered 35 e2 (ok), 0.00 bits"
        assert task.describe(inputs, targets, outputs) == [line]
        outputs["bits"][0, first, 7] = -19
        assert task.describe(inputs, None, outputs) == ["2 vectors 35 e2; answered 34 e2"]
        wrong = "1 of 27 wrong" if markers else "1 of 16 wrong"
        line = f"2 vectors 35 e2; answered 34 e2 ({wrong}), 27.41 bits"
        assert task.describe(inputs, targets, outputs) == [line]


def test_repeat_copy_in_words():
    task = trainers.task("repeat_copy", length=3, repeats=3)
    inputs, targets = task.draw(np.random.default_rng(0), np.array([2]), np.array([3]), 20)
    shown = vectors_of(8, 0x35, 0xE2)
    inputs["sequence"][0, :2, :8] = shown
    targets["bits"][0, 3:9, :8] = np.tile(shown, (3, 1))
    outputs = perfect(targets)
    line = "3 x 35 e2; answered 3 x 35 e2, end (ok), 0.00 bits"
    assert task.describe(inputs, targets, outputs) == [line]
    outputs["bits"][0, 3, 7] = -9
    outputs["bits"][0, 6, 8] = 9
    outputs["bits"][0, 9, 8] = -9
    line = "3 x 35 e2; answered 34 e2 | 35 e2(end) | 35 e2, no end"
    assert task.describe(inputs, None, outputs) == [line]


def test_recall_in_words():
    task = trainers.task("associative_recall", items=2, vectors=2)
    inputs, targets = task.draw(np.random.default_rng(0), np.array([2]))
    for step, number in zip((1, 2, 4, 5, 7, 8), (0x2A, 1, 0x17, 0x3F, 0x2A, 1)):
        inputs["sequence"][0, step, :6] = vectors_of(6, number)
    targets["bits"][0, 10:] = vectors_of(6, 0x17, 0x3F)
    line = "2 items 2a.01 17.3f, asked 2a.01 -> 17.3f; answered 17.3f (ok), 0.00 bits"
    assert task.describe(inputs, targets, perfect(targets)) == [line]
    line = "2 items 2a.01 17.3f, asked 2a.01; answered 17.3f"
    assert task.describe(inputs, None, perfect(targets)) == [line]


def test_ngrams_in_words():
    task = trainers.task("ngrams", length=8, context=1)
    targets = {"bits": np.array([1, 0, 1, 0, 1, 0, -1, -1], "float32").reshape(1, 8, 1)}
    sequence = np.array([0, 1, 0, 1, 0, 1, 0, 0], "float32").reshape(1, 8, 1)
    inputs = {"sequence": sequence, "lengths": np.array([6])}
    outputs = {"bits": np.full((1, 8, 1), -math.log(9))}
    line = "...10101 -> 0; answered 0 (0.10), optimal 0.17; 10.42 bits of 6, optimal 4.09"
    assert task.describe(inputs, targets, outputs) == [line]
    line = "...10101; answered 0 (0.10), optimal 0.17"
    assert task.describe(inputs, None, outputs) == [line]


def test_priority_sort_in_words():
    task = trainers.task("priority_sort", vectors=3, answers=2)
    inputs, targets = task.draw(np.random.default_rng(0), np.array([3]))
    inputs["sequence"][0, :3, :8] = vectors_of(8, 0x35, 0xE2, 0x0F)
    inputs["sequence"][0, :3, 8] = 0.1, -0.52, 0.97
    targets["bits"][0, 4:] = vectors_of(8, 0x0F, 0x35)
    told = "2 of 3 vectors 35(0.10) e2(-0.52) 0f(0.97)"
    line = f"{told} -> 0f 35; answered 0f 35 (ok), 0.00 bits"
    assert task.describe(inputs, targets, perfect(targets)) == [line]
    assert task.describe(inputs, None, perfect(targets)) == [f"{told}; answered 0f 35"]


@each_task
def test_a_perfect_answer_reads_as_one(name):
    task, inputs, targets = draw(name, 10)
    lines = task.describe(inputs, targets, perfect(targets))
    assert len(lines) == 10 and not any("wrong" in line or "\n" in line for line in lines)


# --- pictures and training -----------------------------------------------------------------------


def network(task, heads=None, contents=False):
    """A small LSTM for a task; with `heads` it also gives weightings as an NTM does."""
    sequence = keras.Input((None, task.channels), name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    hidden = keras.layers.LSTM(4, return_sequences=True)(sequence)
    outputs = {"bits": keras.layers.Dense(task.outputs)(hidden)}

    def by_head(width):
        shape = (-1, heads, width) if heads else (-1, width)
        return keras.layers.Reshape(shape)(keras.layers.Dense((heads or 1) * width)(hidden))

    if heads is not None:
        outputs |= {n: keras.ops.softmax(by_head(6)) for n in ("read_weights", "write_weights")}
    if contents:
        outputs |= {n: by_head(3) for n in ("reads", "adds")}
    return keras.Model({"sequence": sequence, "lengths": lengths}, outputs)


def assert_drawn(figure, panels):
    assert isinstance(figure, Figure) and len(figure.axes) == panels
    assert any(axis.get_ylabel() for axis in figure.axes)
    assert small_png(figure)[:4] == b"\x89PNG"


DRAWN = {
    "associative_recall": {"recalled": 16, "generalisation": 2},
    "copy": {"copies": 10, "generalisation": 2},
    "ngrams": {"predictions": 1, "cost_along_the_sequence": 1},
    "priority_sort": {"sorted": 4, "generalisation": 2},
    "repeat_copy": {"repeats": 6, "generalisation": 4},
}


@each_task
def test_an_untrained_network_is_drawn(name):
    task = trainers.task(name, **SMALL[name])
    figures = task.figures(network(task), rows=4)
    assert figures.keys() == DRAWN[name].keys()
    for key, panels in DRAWN[name].items():
        assert_drawn(figures[key], panels)


@pytest.mark.parametrize("heads, contents, panels", [(0, False, 4), (0, True, 6), (2, True, 6)])
def test_the_use_of_the_memory_is_drawn_where_the_model_tells_it(heads, contents, panels):
    task = trainers.task("associative_recall", **SMALL["associative_recall"])
    model = network(task, heads, contents)
    with unittest.mock.patch.object(type(task), "pictures", return_value={}):
        figure = task.figures(model)["memory_use"]
    assert_drawn(figure, panels)
    labels = {axis.get_ylabel().partition("\n")[0] for axis in figure.axes}
    assert {"inputs", "outputs", "read weightings", "write weightings"} <= labels
    assert ({"reads", "adds"} <= labels) == contents


@pytest.mark.parametrize("first, limits", [(10, (16.5, 9.5)), (0, (6.5, -0.5)), (36, (2.5, -4.5))])
def test_the_stretch_of_the_memory_in_use_is_drawn(first, limits):
    """The memory is a ring of 40 rows: from row 36 on the head passes the end."""
    write, read = np.full((2, 5, 40), 0.001)
    write[np.arange(5), (first + np.arange(5)) % 40] = 1
    read[np.arange(5), (first + 2 + np.arange(5)) % 40] = 1
    outputs = {"bits": np.full((5, 3), np.nan), "write_weights": write, "read_weights": read}
    figure = memory.memory_use(np.zeros((5, 4)), outputs)
    for axis, shift in zip(figure.axes[-2:], (0, 2)):
        assert axis.get_ylim() == limits
        drawn = axis.images[0].get_array()
        assert drawn.shape == (7, 5) and (drawn.argmax(axis=0) == shift + np.arange(5)).all()


def test_curves_show_bits_per_sequence_and_no_ponder_where_there_is_none():
    points = [{"difficulty": n, "bits_per_sequence": 8.0 * n} for n in (1, 2)]
    figure = curves.difficulty(points, "vectors to copy", "bits_per_sequence")
    assert [axis.get_ylabel() for axis in figure.axes] == ["bits per sequence"]
    history = [{"updates": 2, "bits_sequence_error": 1.0, "bits_bits_per_sequence": 9.0}]
    figure = curves.learning_curves({"NTM": history})
    assert [axis.get_ylabel() for axis in figure.axes] == ["bits per sequence"]
    figure = curves.learning_curves({"DRAW": [{"updates": 2, "nats_nats": 9.0}]}, "nats")
    assert [axis.get_ylabel() for axis in figure.axes] == ["nats"]


def test_a_network_trains_with_a_curriculum_of_bits(tmp_path):
    task = trainers.task("copy", **SMALL["copy"])
    recipe = {"updates": 4, "steps_per_epoch": 2, "batch_size": 4, "evaluation_rows": 8}
    recipe |= {"curriculum": 1000.0, "jit_compile": False, "figures": False, "histograms": 1}
    metrics = trainers.fit(lambda: network(task), task, recipe, str(tmp_path))
    assert {"bits_per_sequence", "error", "sequence_error"} <= metrics.keys()
    assert metrics["train"]["difficulty"] == 2
