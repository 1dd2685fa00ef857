"""The four tasks of the Associative LSTM paper against plain readings of them; words, pictures and
what is served."""

import itertools
import re
import time

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from ponderzoo import trainers, zoo
from ponderzoo.trainers.tasks._text import costs, digits_of

TEXTS = ("arithmetic", "variable_assignment", "xml_modelling")
TASKS = ("episodic_copy", *TEXTS)
each_task = pytest.mark.parametrize("name", TASKS)
each_text = pytest.mark.parametrize("name", TEXTS)
bounded = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def draw(name, size=50, seed=0, difficulty=None, **config):
    task = trainers.task(name, **config)
    return task, *task.batch(np.random.default_rng(seed), size, difficulty)


def texts_of(task, inputs, targets):
    """The whole text of every row, as far as it can be known, and its scored places."""
    for sequence, length, target in zip(inputs["sequence"], inputs["lengths"], targets["next"]):
        text = task.spelled(sequence[:length])
        last = target[length - 1]
        text += task.alphabet[last] if last >= 0 else ""
        places = 1 + np.flatnonzero(target >= 0)
        assert task.spelled(target[places - 1]) == "".join(text[i] for i in places)
        yield text, places.tolist()


def assert_uniform(values, levels):
    counts = [np.sum(np.asarray(values) == level) for level in levels]
    assert sum(counts) == np.size(values)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def perfect(target, classes):
    """Logits that are sure of the target."""
    return 40 * np.eye(classes, dtype="float32")[np.maximum(target, 0)]


# What all four keep.


@each_task
def test_shapes_do_not_depend_on_the_draw(name):
    task = trainers.task(name)
    shapes = set()
    for difficulty in (None, task.difficulties[0], task.difficulties[-1], task.difficulties[:2]):
        for seed in range(3):
            _, inputs, targets = draw(name, 3, seed, difficulty)
            shapes.add((inputs["sequence"].shape, *(t.shape for t in targets.values())))
    assert len(shapes) == 1


@each_task
def test_nothing_is_scored_behind_the_end(name):
    task, inputs, targets = draw(name)
    ((_, target),) = targets.items()
    behind = np.arange(target.shape[1]) >= inputs["lengths"][:, None]
    assert np.all(target[behind] == -1) and np.all(target < task.classes)
    assert inputs["sequence"].min() >= 0 and inputs["sequence"].max() < task.classes


@each_task
@pytest.mark.parametrize("wrong", [0, 1000, (3, 2)])
def test_levels_that_do_not_exist_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"task {name} has .* from .* got"):
        draw(name, 2, difficulty=wrong)


@each_task
def test_drawing_is_no_bottleneck(name):
    task, rng, times = trainers.task(name), np.random.default_rng(0), []
    for _ in range(20):
        start = time.perf_counter()
        task.batch(rng, 16)
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3


@each_task
def test_rows_are_told_in_words(name):
    task, inputs, targets = draw(name, 4)
    ((key, target),) = targets.items()
    right = {key: perfect(target, task.classes)}
    for line in task.describe(inputs, targets, right):
        assert line.endswith("(ok), 0.00 bits") or "xml" in name
    for line in task.describe(inputs, targets, {key: -right[key]}):
        assert re.search(r"\(\d+ of \d+ wrong\), \d+\.\d\d bits$", line) or "xml" in name
    assert len(task.describe(inputs, None, right)) == 4


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("episodic_copy", {"length": 0}),
        ("episodic_copy", {"delay": -1}),
        ("variable_assignment", {"variables": 11}),
        ("variable_assignment", {"name_length": 0}),
        ("arithmetic", {"digits": 18}),
        ("xml_modelling", {"shortest": 11}),
        ("xml_modelling", {"depth": 0}),
    ],
)
def test_settings_that_make_no_task_are_refused(name, wrong):
    ((setting, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} takes .* got .*{setting}={value}"):
        trainers.task(name, **wrong)


# Episodic copy.


@bounded
@given(seed=seeds, length=st.integers(1, 6), delay=st.integers(0, 9), variable=st.booleans())
def test_symbols_come_back_after_the_delay(seed, length, delay, variable):
    config = {"length": length, "delay": delay, "symbols": 4, "variable": variable}
    _, inputs, targets = draw("episodic_copy", 6, seed, **config)
    for sequence, steps, target in zip(inputs["sequence"], inputs["lengths"], targets["symbol"]):
        shown = list(itertools.takewhile(lambda symbol: symbol < 4, sequence))
        count = len(shown)
        assert 1 <= count <= length and (variable or count == length)
        assert sequence[:steps].tolist() == shown + [4] * delay + [5] + [4] * count
        assert target[:steps].tolist() == [4] * (count + delay + 1) + shown


def test_episodic_copy_is_that_of_the_paper():
    task, inputs, _ = draw("episodic_copy", 4000)
    assert (task.length, task.delay, task.classes) == (10, 100, 10)
    counts = (inputs["lengths"] - 101) // 2
    assert_uniform(counts, range(1, 11))
    shown = np.arange(inputs["sequence"].shape[1]) < counts[:, None]
    assert_uniform(inputs["sequence"][shown], range(8))
    fixed = trainers.task("episodic_copy", variable=False)
    assert fixed.difficulties == (10,)


def test_knowing_all_but_the_symbols_costs_three_bits_for_each():
    task, _, targets = draw("episodic_copy", 200, difficulty=10)
    target = targets["symbol"]
    uniform = np.zeros((*target.shape, 10), "float32")
    uniform[..., 8:] = -40
    blanks = perfect(np.full_like(target, 8), 10)
    logits = np.where((target == 8)[..., None], blanks, uniform)
    (cost, *_) = task.metrics()["symbol"]
    cost.update_state(target, logits)
    assert cost.name == "bits_per_sequence" and float(cost.result()) == pytest.approx(30, abs=1e-3)


# Variable assignment.


@bounded
@given(seed=seeds, variables=st.integers(1, 10), name_length=st.integers(1, 5))
def test_the_value_is_that_of_the_statement_asked_for(seed, variables, name_length):
    config = {"variables": variables, "name_length": name_length}
    task, inputs, targets = draw("variable_assignment", 8, seed, **config)
    letter, names_ = "[a-z]", f"[a-z]{{1,{name_length}}}"
    for text, places in texts_of(task, inputs, targets):
        form = rf"(?:s\({names_},{letter}\),){{1,{variables}}}q\(({names_})\)({letter})"
        asked, value = re.fullmatch(form, text).groups()
        told = re.findall(r"s\((\w+),(\w)\)", text)
        assert len({name for name, _ in told}) == len(told) <= variables
        assert [v for name, v in told if name == asked] == [value]
        assert places == [len(text) - 1]
        assert task.solve(text[:-1]) == value


def test_assignments_are_drawn_evenly():
    task, inputs, targets = draw("variable_assignment", 3000)
    told, asked, lengths = [], [], []
    for text, _ in texts_of(task, inputs, targets):
        names = re.findall(r"s\((\w+),", text)
        told.append(len(names))
        lengths += map(len, names)
        if len(names) == 4:
            asked.append(names.index(re.search(r"q\((\w+)", text)[1]))
    assert_uniform(told, range(1, 5))
    assert_uniform(asked, range(4))
    values = targets["next"][targets["next"] >= 0]
    assert_uniform(values, range(26))
    # Names are drawn again where two are the same, which short ones are more often.
    assert np.mean(np.equal(lengths, 1)) == pytest.approx(0.25, abs=0.02)
    _, inputs, targets = draw("variable_assignment", difficulty=3)
    for text, _ in texts_of(task, inputs, targets):
        assert len(re.findall(r"s\(\w+,", text)) == 3


# Arithmetic.


@bounded
@given(seed=seeds, digits=st.integers(1, 17))
def test_sums_and_differences_are_right(seed, digits):
    task, inputs, targets = draw("arithmetic", 8, seed, digits=digits)
    for text, places in texts_of(task, inputs, targets):
        number = r"(?:0|[1-9]\d*)"
        form = rf"(-?{number})([+-]{number})=(-?{number})\."
        first, second, answer = re.fullmatch(form, text).groups()
        assert not {"-0"} & {first, answer}
        assert max(len(first.lstrip("-")), len(second) - 1) <= digits
        assert int(first) + int(second) == int(answer)
        assert places == list(range(text.index("=") + 1, len(text)))
        question = text[: text.index("=") + 1]
        assert task.solve(question) == f"{answer}."
        assert len(answer) + 1 <= task.most_answered


def test_numbers_are_drawn_evenly():
    task, inputs, targets = draw("arithmetic", 4000)
    texts = [text for text, _ in texts_of(task, inputs, targets)]
    parts = [re.match(r"(-?)(\d+)([+-])(\d+)=", text).groups() for text in texts]
    for place in (1, 3):
        assert_uniform([len(part[place]) for part in parts], range(1, 9))
        assert_uniform([part[place] for part in parts if len(part[place]) == 1], "0123456789")
    assert_uniform([part[2] for part in parts], "+-")
    assert_uniform([part[0] for part in parts if part[1] != "0"], ("", "-"))
    assert "-1-942=" in trainers.task("arithmetic").example
    _, inputs, targets = draw("arithmetic", difficulty=3)
    for text, _ in texts_of(task, inputs, targets):
        assert re.match(r"-?\d{3}[+-]\d{3}=", text)


@bounded
@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=9))
def test_digits_are_those_that_are_written(values):
    digits, there = digits_of(np.array(values), 9)
    written = ["".join(map(str, d[t])) for d, t in zip(digits, there)]
    assert written == [str(value) for value in values]


# XML.


def plain_xml(text, depth):
    """Scored places of a text of nested tags, and how deep it goes."""
    stack, places, deepest = [], [], 0
    for tag in re.finditer(r"<(/?)([a-z]*)(>?)", text):
        slash, name, end = tag.groups()
        cut = tag.end() == len(text) and not end
        if slash:
            expected = stack.pop()
            assert expected.startswith(name) if cut else expected == name
            places += range(tag.start() + 2, tag.end())
        elif not cut:
            stack.append(name)
        deepest = max(deepest, len(stack))
    assert deepest <= depth
    return places, deepest


@bounded
@given(seed=seeds, depth=st.integers(1, 5), shortest=st.integers(1, 4), length=st.integers(1, 80))
def test_tags_are_nested_and_their_names_scored(seed, depth, shortest, length):
    config = {"depth": depth, "shortest": shortest, "longest_name": 5, "length": length}
    task, inputs, targets = draw("xml_modelling", 8, seed, **config)
    assert np.all(inputs["lengths"] == length)
    for text, places in texts_of(task, inputs, targets):
        assert re.fullmatch(r"(<(/?)[a-z]+>)*(<(/?[a-z]*)?)?", text)
        found, _ = plain_xml(text, depth)
        assert places == found
        for name in re.findall(r"<([a-z]+)>", text):
            assert shortest <= len(name) <= 5
        for start in places:
            if text[start - 1] == "/" and text.find(">", start) > 0:
                assert task.solve(text[:start]) == text[start : text.index(">", start) + 1]


def test_tags_open_and_close_with_equal_chance():
    task, inputs, targets = draw("xml_modelling", 400, length=200)
    choices, lengths, deepest = [], [], []
    for text, _ in texts_of(task, inputs, targets):
        height = 0
        for slash, name in re.findall(r"<(/?)([a-z]+)>", text):
            if 0 < height < 4:
                choices.append(bool(slash))
            height += -1 if slash else 1
            lengths += [] if slash else [len(name)]
        deepest.append(plain_xml(text, 4)[1])
    assert_uniform(choices, (False, True))
    assert set(lengths) == set(range(2, 11)) and max(deepest) == 4
    for depth in (1, 3):
        task, inputs, targets = draw("xml_modelling", difficulty=depth)
        assert all(plain_xml(text, depth) for text, _ in texts_of(task, inputs, targets))


# Answers, pictures, and what is served.


@pytest.mark.parametrize(
    "name, text, answer",
    [
        ("variable_assignment", "s(ml,a),s(qc,n),q(ml)", "a"),
        ("variable_assignment", "s(ml,a),q(qc)", None),
        ("variable_assignment", "s(ml,a),", None),
        ("arithmetic", "-1-942=", "-943."),
        ("arithmetic", "3-3=", "0."),
        ("arithmetic", "1--2=", None),
        ("xml_modelling", "<xkw><svgq></", "svgq>"),
        ("xml_modelling", "<xkw><svgq></svgq></", "xkw>"),
        ("xml_modelling", "<xkw></", "xkw>"),
        ("xml_modelling", "</", None),
        ("xml_modelling", "<a></b></", None),
        ("xml_modelling", "<xk", None),
    ],
)
def test_texts_have_their_answers(name, text, answer):
    assert trainers.task(name).solve(text) == answer


def test_costs_are_those_of_the_softmax():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(3, 4, 5)), rng.integers(-1, 5, (3, 4))
    for row, step in np.ndindex(3, 4):
        p = np.exp(logits[row, step]) / np.exp(logits[row, step]).sum()
        right = 0 if target[row, step] < 0 else -np.log2(p[target[row, step]])
        assert costs(target, logits)[row, step] == pytest.approx(right)


class Sure:
    """A model that knows the answer, or always gives the same logits."""

    def __init__(self, task):
        self.task = task
        self.layers = []

    def predict_on_batch(self, inputs):
        ((name, _),) = self.task.target_spec.items()
        return {name: np.zeros((*inputs["sequence"].shape, self.task.classes), "float32")}


@each_task
def test_pictures_are_drawn(name):
    task = trainers.task(name)
    figures = task.figures(Sure(task))
    assert all(isinstance(figure, Figure) for figure in figures.values())
    assert figures.keys() == (set() if name == "episodic_copy" else {"surprise"})
    if name == "variable_assignment":
        (panel,) = figures["surprise"].axes
        (bar,) = panel.patches
        assert bar.get_height() == pytest.approx(np.log2(task.classes))


@pytest.mark.parametrize("name", ["assignment", "arithmetic", "xml"])
def test_answers_end_where_the_task_says(name):
    """A network that always writes the same character."""
    entry = zoo.info(f"associative_lstm_{name}")
    task, model = zoo.task_of(entry), zoo.build(entry.name, units=8, copies=2)
    serve = entry.signatures(model, task)["serve"].function
    for character in {task.alphabet[0], task.stop or "b"}:
        head = model.get_layer("next")
        bias = np.zeros(task.classes, "float32")
        bias[task.alphabet.index(character)] = 3.0
        head.set_weights([0 * head.kernel, bias])
        answer = serve(tf.constant(task.example))
        times = 1 if character == task.stop else task.most_answered
        assert {a.decode() for a in answer["answer"].numpy()} == {times * character}
        p = np.exp(3) / (np.exp(3) + task.classes - 1)
        np.testing.assert_allclose(answer["probability"], p**times, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be of the characters"):
        serve(tf.constant(["A"]))


def test_an_answer_does_not_depend_on_the_rows_beside_it():
    entry = zoo.info("associative_lstm_arithmetic")
    task, model = zoo.task_of(entry), zoo.build(entry.name, units=8, copies=2)
    serve = entry.signatures(model, task)["serve"].function
    texts = ["1+1=", "-12345678-87654321=", "7-7="]
    together = serve(tf.constant(texts))
    for i, text in enumerate(texts):
        alone = serve(tf.constant([text]))
        assert alone["answer"][0] == together["answer"][i]
        np.testing.assert_allclose(alone["probability"][0], together["probability"][i], rtol=1e-4)


def test_answers_are_written_as_people_read_them():
    entry = zoo.info("associative_lstm_assignment")
    notation = entry.notation(zoo.task_of(entry))["serve"]
    inputs = notation.read(["s(ml,a),s(qc,n),q(ml)", "s(a,b),q("])
    outputs = {"answer": np.array([b"a", b"c"]), "probability": np.array([0.987, 0.5])}
    assert notation.show(inputs, outputs) == ["a (0.99)   right", "c (0.50)"]
    entry = zoo.info("associative_lstm_copy")
    notation = entry.notation(zoo.task_of(entry, delay=2))["serve"]
    inputs = notation.read(["3 1", "7"])
    assert inputs["sequence"].tolist() == [[3, 1, 8, 8, 9, 8, 8], [7, 8, 8, 9, 8, 8, 8]]
    assert inputs["lengths"].tolist() == [7, 5]
    given = np.array([[8, 8, 8, 8, 8, 3, 2], [8, 8, 8, 8, 7, -1, -1]])
    first, second = notation.show(inputs, {"symbols": given, "probability": given * 0 + 0.5})
    assert "wrong" in first and "right" in second
    assert re.search(r"answers +3 +2", first)
    for wrong in ("8", "1 x", " ".join("1" * 11)):
        with pytest.raises(ValueError, match="expected 1 to 10 symbols"):
            notation.read([wrong])
