"""The synthetic tasks of the Grid LSTM paper against plain readings of them."""

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from ponderzoo import trainers
from ponderzoo.trainers._evaluate import difficulty_sweep, evaluate, figures_of

TASKS = ("bit_parity", "digit_addition", "memorization")
SYMBOLS = ("digit_addition", "memorization")
SMALL = {
    "bit_parity": {"bits": 6},
    "digit_addition": {"digits": 3},
    "memorization": {"length": 3, "symbols": 5},
}
each_task = pytest.mark.parametrize("name", TASKS)
bounded = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def draw(name, size=5, seed=0, difficulty=None, **config):
    task = trainers.task(name, **config)
    return task, *task.batch(np.random.default_rng(seed), size, difficulty)


def assert_uniform(values, levels):
    counts = [np.sum(values == level) for level in levels]
    assert sum(counts) == np.size(values)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def text(row):
    """A row of digit addition as the paper prints it: `-` is the delimiter, a space no target."""
    return "".join({-1: " ", 10: "-"}.get(symbol, str(symbol)) for symbol in row.tolist())


class Knowing:
    """Stands in for a model: answers by plain rules of Python; every `wrong`-th row is wrong."""

    layers = ()

    def __init__(self, task, wrong=0):
        self.task, self.wrong, self.sizes = task, wrong, []

    def predict_on_batch(self, inputs):
        (rows,) = inputs.values()
        self.sizes.append(len(rows))
        answers = [self.answer(row.tolist()) for row in rows]
        if self.task.name == "bit_parity":
            signs = [-1 if self.wrong and i % self.wrong == 0 else 1 for i in range(len(rows))]
            return {"parity": np.array([[9.0 * s * a] for s, a in zip(signs, answers)])}
        logits = np.zeros((*rows.shape, self.task.classes))
        for i, (first, answer) in enumerate(answers):
            if self.wrong and i % self.wrong == 0:
                answer = [(answer[0] + 1) % 5, *answer[1:]]
            for step, symbol in enumerate(answer):
                logits[i, first + step, symbol] = 9.0
        return {self.task.answer: logits}

    def answer(self, row):
        if self.task.name == "bit_parity":
            return 1 if row.count(1) % 2 else -1
        end = self.task.classes - 1
        while row[-1] == end:
            row.pop()
        if self.task.name == "memorization":
            return len(row), [*row[1:], end]
        a, b = text(np.array(row))[1:].split("-")
        return len(row), [*map(int, str(int(a) + int(b))), end]


# What the three keep.


def test_the_sizes_are_those_of_the_paper():
    assert trainers.task("bit_parity").bits == 250
    assert trainers.task("digit_addition").digits == 15
    assert draw("digit_addition")[1]["sequence"].shape == (5, 49)
    task = trainers.task("memorization")
    assert (task.length, task.symbols, task.classes) == (20, 64, 65)
    assert draw("memorization")[1]["sequence"].shape == (5, 42)


@each_task
def test_shapes_depend_on_the_difficulty_and_not_on_the_draw(name):
    task = trainers.task(name, **SMALL[name])
    for size in (0, 1, 7):
        for difficulty in (None, task.difficulties[0], task.difficulties[-1], (1, 2)):
            shapes = set()
            for seed in range(3):
                arrays = task.batch(np.random.default_rng(seed), size, difficulty)
                shapes.add(tuple(a.shape for part in arrays for a in part.values()))
            assert len(shapes) == 1 and all(shape[0] == size for shape in shapes.pop())


@pytest.mark.parametrize("name", ["digit_addition", "memorization"])
def test_easy_rows_are_short(name):
    task = trainers.task(name)
    steps = [
        task.batch(np.random.default_rng(0), 2, difficulty)[0]["sequence"].shape[1]
        for difficulty in (1, (1, 3), 3, None)
    ]
    assert steps[0] < steps[1] == steps[2] < steps[3] == task.steps


@each_task
@pytest.mark.parametrize("wrong", [0, 1000, (5, 2), (1, 1000)])
def test_levels_that_do_not_exist_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"task {name} has .* from .* got"):
        draw(name, 2, difficulty=wrong)


@pytest.mark.parametrize(
    "name, config, words",
    [
        ("bit_parity", {"bits": 0}, "1 bit or more, got bits=0"),
        ("digit_addition", {"digits": 0}, r"1\.\.18 digits, got digits=0"),
        ("digit_addition", {"digits": 19}, r"1\.\.18 digits, got digits=19"),
        ("memorization", {"length": 0}, "1 or more .* got length=0, symbols=64"),
        ("memorization", {"symbols": 0}, "1 symbol or more, got length=20, symbols=0"),
    ],
)
def test_sizes_that_make_no_task_are_refused(name, config, words):
    with pytest.raises(ValueError, match=words):
        trainers.task(name, **config)


@each_task
def test_a_batch_takes_well_below_a_millisecond(name):
    task, rng, times = trainers.task(name), np.random.default_rng(0), []
    for _ in range(30):
        start = time.perf_counter()
        task.batch(rng, 20)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


@each_task
def test_right_answers_cost_nothing_and_one_wrong_symbol_makes_a_row_wrong(name):
    task = trainers.task(name, **SMALL[name])
    found = evaluate(Knowing(task), task, rows=50, batch_size=25)
    assert list(found) == ["sequence_error", "error"]
    assert set(found.values()) == {0}
    found = evaluate(Knowing(task, wrong=5), task, rows=50, batch_size=25)
    assert found["sequence_error"] == pytest.approx(0.2)
    assert found["error"] < 0.2 or name == "bit_parity"


@each_task
def test_the_loss_is_a_sum_over_the_answer(name):
    task, _, targets = draw(name, 6, **SMALL[name])
    (key,) = targets
    shape = targets[key].shape if name == "bit_parity" else (*targets[key].shape, task.classes)
    classes = 2 if name == "bit_parity" else task.classes
    found = float(task.loss()[key](targets[key], np.zeros(shape, "float32")))
    scored = np.mean([(row >= 0).sum() for row in targets[key]])
    assert found == pytest.approx(scored * math.log(classes), rel=1e-6)


@each_task
def test_the_figure_shows_the_error_at_every_level(name):
    task = trainers.task(name, **SMALL[name])
    model = Knowing(task, wrong=10)
    sweep = difficulty_sweep(model, task, rows=20)
    figures = figures_of(model, task, sweep=sweep)
    assert figures.keys() == {"difficulty"} and isinstance(figures["difficulty"], Figure)
    (panel,) = figures["difficulty"].axes
    assert panel.get_xlabel() == task.axis
    (line,) = panel.lines
    assert line.get_xdata().tolist() == list(task.difficulties)
    assert line.get_ydata() == pytest.approx([0.1] * len(task.difficulties))


# Parity.


@bounded
@given(seed=seeds, bits=st.integers(1, 300))
def test_parity_counts_the_ones_of_all_bits(seed, bits):
    _, inputs, targets = draw("bit_parity", 4, seed, bits=bits)
    for row, parity in zip(inputs["bits"].tolist(), targets["parity"].tolist()):
        assert len(row) == bits and set(row) <= {0, 1}
        assert parity == [row.count(1) % 2]


def test_parity_uses_the_first_bits_alone_where_it_is_asked_to():
    for level in (1, 100, 250):
        _, inputs, targets = draw("bit_parity", 200, 0, level)
        assert inputs["bits"][:, :level].any(axis=0).all() and not inputs["bits"][:, level:].any()
        assert (targets["parity"][:, 0] == inputs["bits"].sum(axis=1) % 2).all()
    _, inputs, _ = draw("bit_parity", 20_000, 0, (3, 7))
    used = (1 + np.array([5, 5, 5, 4, 3, 2, 1]) / 5) / 2
    np.testing.assert_allclose(inputs["bits"][:, :7].mean(axis=0), used / 2, atol=0.015)
    assert not inputs["bits"][:, 7:].any()


def test_parity_is_even_as_often_as_odd_and_every_bit_is_fair():
    _, inputs, targets = draw("bit_parity", 20_000, bits=8)
    numbers = (inputs["bits"] > 0) @ (1 << np.arange(8))
    assert_uniform(numbers, range(256))
    assert_uniform(targets["parity"], (0, 1))


@given(bits=st.integers(1, 500))
def test_the_levels_of_parity_go_in_ones_at_first_and_end_with_all_bits(bits):
    levels = trainers.task("bit_parity", bits=bits).difficulties
    assert levels[:3] == tuple(range(1, bits + 1))[:3] and levels[-1] == bits
    assert len(levels) <= 30 and list(levels) == sorted(set(levels))
    if bits <= 10:
        assert levels == tuple(range(1, bits + 1))


# Addition.


def test_the_paper_writes_123_plus_899_in_13_steps():
    task, count = trainers.task("digit_addition", digits=3), np.array([3])
    read = [(np.array([[1, 2, 3]]), count), (np.array([[8, 9, 9]]), count)]
    inputs, targets = task.lay(3, read, (np.array([[1, 0, 2, 2]]), count + 1))
    assert text(inputs["sequence"][0]) == "-123-899-----"
    assert text(targets["digits"][0]) == "        1022-"


@bounded
@given(seed=seeds, digits=st.integers(1, 18), exact=st.booleans())
def test_addition_reads_two_numbers_and_writes_their_sum(seed, digits, exact):
    difficulty = None if exact else (1, digits)
    _, inputs, targets = draw("digit_addition", 5, seed, difficulty, digits=digits)
    for row, target in zip(inputs["sequence"], targets["digits"]):
        assert row.shape == target.shape == (3 * digits + 4,)
        a, b = text(row).strip("-").split("-")
        assert len(a) == len(b) <= digits and (len(a) == digits or not exact)
        assert str(int(a)) == a and str(int(b)) == b, "no zeros before a number"
        assert text(row) == f"-{a}-{b}-".ljust(len(row), "-")
        answer = f"{int(a) + int(b)}-"
        assert text(target) == (" " * (2 + len(a) + len(b)) + answer).ljust(len(row))


def test_addition_draws_all_numbers_equally_often():
    _, inputs, _ = draw("digit_addition", 9000, digits=2)
    a, b = inputs["sequence"][:, 1:3], inputs["sequence"][:, 4:6]
    for number in (a, b):
        assert_uniform(number @ [10, 1], range(10, 100))
    assert abs(np.corrcoef(a @ [10, 1], b @ [10, 1])[0, 1]) < 0.05
    _, inputs, _ = draw("digit_addition", 2000, digits=1)
    assert_uniform(inputs["sequence"][:, [1, 3]], range(10))


def test_addition_difficulty_is_the_digits_of_either_number():
    assert trainers.task("digit_addition").difficulties == tuple(range(1, 16))
    for level in (1, 7, 15):
        rows = draw("digit_addition", 20, 0, level)[1]["sequence"]
        assert {len(part) for row in rows for part in text(row).strip("-").split("-")} == {level}
    rows = draw("digit_addition", 3000, 0, (2, 5))[1]["sequence"]
    counts = [[len(part) for part in text(row).strip("-").split("-")] for row in rows]
    assert_uniform(np.array(counts)[:, 0], range(2, 6))


# Memorization.


@bounded
@given(seed=seeds, length=st.integers(1, 25), symbols=st.integers(1, 90), exact=st.booleans())
def test_memorization_repeats_what_was_read(seed, length, symbols, exact):
    config = {"length": length, "symbols": symbols}
    _, inputs, targets = draw("memorization", 4, seed, None if exact else (1, length), **config)
    for row, target in zip(inputs["sequence"].tolist(), targets["symbols"].tolist()):
        read = [symbol for symbol in row if symbol != symbols]
        assert len(read) == length if exact else 1 <= len(read) <= length
        assert set(read) <= set(range(symbols))
        rest = 2 * length + 2 - len(read) - 1
        assert row == [symbols, *read, *[symbols] * rest]
        written = [*read, symbols]
        assert target == [-1] * (1 + len(read)) + written + [-1] * (rest - len(written))


def test_memorization_draws_symbols_and_lengths_uniformly():
    _, inputs, _ = draw("memorization", 3000)
    assert_uniform(inputs["sequence"][:, 1:21], range(64))
    for level in (1, 20):
        _, inputs, targets = draw("memorization", 10, 0, level)
        assert ((targets["symbols"] >= 0).sum(axis=1) == level + 1).all()
    _, _, targets = draw("memorization", 3000, 0, (3, 6))
    assert_uniform((targets["symbols"] >= 0).sum(axis=1) - 1, range(3, 7))


# In words.


def answering(task, inputs, words):
    """Outputs that write the given symbols from the step on at which the answer is due."""
    logits = np.zeros((*inputs["sequence"].shape, task.classes))
    for row, (sequence, word) in enumerate(zip(inputs["sequence"].tolist(), words)):
        due = max(i for i, symbol in enumerate(sequence) if symbol != task.classes - 1) + 1
        for step, symbol in enumerate(word):
            logits[row, due + step, symbol] = 1.0
    return {task.answer: logits}


def test_sums_are_told_as_people_write_them():
    task, count = trainers.task("digit_addition", digits=3), np.array([3, 1, 3])
    read = [
        (np.array([[1, 2, 3], [7, 0, 0], [1, 0, 0]]), count),
        (np.array([[8, 9, 9], [8, 0, 0], [2, 0, 0]]), count),
    ]
    answer = (np.array([[1, 0, 2, 2], [1, 5, 0, 0], [3, 0, 0, 0]]), np.array([4, 2, 3]))
    inputs, targets = task.lay(3, read, answer)
    outputs = answering(task, inputs, [[1, 0, 2, 2, 10], [1, 6, 10], [10, 1, 1, 1, 1]])
    assert task.describe(inputs, targets, outputs) == [
        "123 + 899 -> 1022; answered 1022 (ok)",
        "7 + 8 -> 15; answered 16 (1 of 3 wrong)",
        "100 + 200 -> 300; answered nothing (4 of 4 wrong)",
    ]
    assert task.describe(inputs, None, outputs)[0] == "123 + 899; answered 1022"
    endless = answering(task, inputs, [[1] * 5, [1] * 9, [1] * 5])
    assert task.describe(inputs, None, endless)[0] == "123 + 899; answered 11111"


def test_symbols_are_told_as_numbers():
    task = trainers.task("memorization", length=3, symbols=64)
    read = (np.array([[12, 63, 5]]), np.array([3]))
    inputs, targets = task.lay(3, [read], read)
    outputs = answering(task, inputs, [[12, 63, 6, 64]])
    (line,) = task.describe(inputs, targets, outputs)
    assert line == "12 63 5 -> 12 63 5; answered 12 63 6 (1 of 4 wrong)"


def test_bits_are_told_as_far_as_a_person_reads_them():
    task = trainers.task("bit_parity", bits=4)
    inputs, _ = task.batch(np.random.default_rng(0), 1)
    inputs["bits"][0, :4] = [1, 0, 1, 1]
    odd, logit = np.ones((1, 1)), np.full((1, 1), 4.0)
    (line,) = task.describe(inputs, {"parity": odd}, {"parity": logit})
    assert line == "1011 -> odd; answered odd (0.98)"
    task = trainers.task("bit_parity", bits=50)
    inputs, _ = task.batch(np.random.default_rng(0), 1)
    (line,) = task.describe(inputs, None, {"parity": -logit})
    assert line.endswith("... (50 bits); answered even (0.98)") and len(line.split(".")[0]) == 40


def test_a_sweep_of_250_bits_has_few_points():
    task = trainers.task("bit_parity")
    model = Knowing(task)
    points = difficulty_sweep(model, task, rows=5, batch_size=5)
    assert len(points) == len(model.sizes) == len(task.difficulties) <= 30
