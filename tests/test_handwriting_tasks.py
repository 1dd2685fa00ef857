"""The tasks of online handwriting: their rows, their measures, and what is told of them."""

import types

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import MixtureDensity
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _pen, stroke_fonts
from ponderzoo.trainers.learning.supervised import Batches
from ponderzoo.trainers.tasks import handwriting_synthesis as tasks_synthesis
from ponderzoo.trainers.tasks._buckets import grouped
from ponderzoo.zoo.signatures import handwriting_prediction, handwriting_synthesis
from ponderzoo.zoo.signatures._pen import Pen
from small import small_model

SIGNATURES = {
    "handwriting_prediction": handwriting_prediction,
    "handwriting_synthesis": handwriting_synthesis,
}
each_task = pytest.mark.parametrize("name", SIGNATURES)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pen")
    stroke_fonts.sample(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(root):
    """A small network for each task, untrained."""
    found = {}
    for name in SIGNATURES:
        task = trainers.task(name, root=root)
        keras.utils.set_random_seed(0)
        found[name] = task, small_model(name, task, components=3)
    return found


def batch_of(task, size=3, split="train"):
    return task.batch(np.random.default_rng(0), size, split=split)


@each_task
def test_the_network_sees_a_point_and_is_asked_for_the_next(name, root):
    task = trainers.task(name, root=root)
    inputs, targets = task.rows([0, 5], "test")
    for row, number in enumerate((0, 5)):
        line = task.lines("test")[number]
        count = len(line.points)
        assert not inputs["points"][row, 0].any() and not inputs["points"][row, count:].any()
        np.testing.assert_array_equal(
            inputs["points"][row, 1:count], targets["points"][row, : count - 1]
        )
        assert (targets["points"][row, count:] == [0, 0, -1]).all()
        np.testing.assert_array_equal(targets["points"][row, :count, 2], line.points[:, 2])
        if "text" in inputs:
            assert task.spelled(inputs["text"][row]) == line.text


def test_offsets_have_mean_0_and_deviation_1_over_the_training_set(root):
    task = trainers.task("handwriting_prediction", root=root)
    _, targets = task.rows(np.arange(task.examples("train")))
    points = targets["points"][targets["points"][..., 2] >= 0]
    np.testing.assert_allclose(points[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(points[:, :2].std(axis=0), 1, atol=1e-5)


def test_what_is_normalised_is_drawn_as_it_was_written(root):
    task = trainers.task("handwriting_prediction", root=root)
    line = task.lines("test")[2]
    _, targets = task.rows([2], "test")
    there = targets["points"][0, :, 2] >= 0
    for found, expected in zip(
        task.drawn(targets["points"][0, there]), _pen.strokes_of(line.points), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_line_is_cut_where_a_row_ends(root):
    whole, cut = (trainers.task("handwriting_prediction", root=root, length=n) for n in (480, 7))
    _, targets = cut.rows([0, 1])
    assert targets["points"].shape == (2, 7, 3)
    np.testing.assert_array_equal(targets["points"], whole.rows([0, 1])[1]["points"][:, :7])


def test_rows_of_a_batch_are_of_like_length(root):
    task = trainers.task("handwriting_synthesis", root=root, buckets=3)
    shapes = {
        tuple(x.shape for x in batch[0].values())
        for batch in (task.batch(np.random.default_rng(seed), 5) for seed in range(20))
    }
    assert len(shapes) == 3
    groups, group_of, sizes = grouped([(5, 1), (1, 9), (3, 2), (4, 4)], 2)
    assert [group.tolist() for group in groups] == [[1, 2], [3, 0]]
    assert group_of.tolist() == [1, 0, 0, 1] and sizes.tolist() == [[3, 9], [5, 4]]


def test_a_run_takes_lines_of_all_lengths_however_it_begins(root):
    """Keras would take the shapes of all batches from two that happen to be alike."""
    task = trainers.task("handwriting_prediction", root=root, buckets=2)

    def lengths(seed):
        stream = task.dataset("train", 2, 4, seed)
        return [stream[i][0]["points"].shape[1] for i in range(4)]

    seed = next(i for i in range(99) if len({*lengths(i)[:2]}) == 1 < len({*lengths(i)}))
    points = keras.Input((None, 3), name="points")
    outputs = {"points": MixtureDensity(1)(points)}
    model = keras.Model({"points": points}, outputs)
    model.compile(loss=task.loss())
    batches = Batches(task.dataset("train", 2, 4, seed), model)
    model.fit(batches, verbose=0)
    seen = [batches[i][0]["points"].shape[1] for i in range(4)]
    assert seen == lengths(seed), "what is learnt from is the stream as it is"


def test_a_run_takes_a_row_that_is_longer_than_all_of_many_batches():
    class Rare:
        task = types.SimpleNamespace(
            input_spec={"points": ((None, 3), "float32"), "lengths": ((), "int32")},
            target_spec={"points": ((None, 3), "float32")},
        )

        def __len__(self):
            return 50

        def path(self, index):
            return 0, 0, index

        def __getitem__(self, index):
            points = np.ones((2, 9 if index == 49 else 4, 3), "float32")
            return {"points": points, "lengths": np.full(2, 4, "int32")}, {"points": points}

    points = keras.Input((None, 3), name="points")
    model = keras.Model({"points": points}, {"points": keras.layers.Dense(3)(points)})
    model.compile(loss="mse")
    batches = Batches(Rare(), model)
    model.fit(batches, verbose=0)
    assert batches[1][0]["points"].shape == (2, 4, 3), "what is learnt from is the stream as it is"


def test_an_empty_batch_has_no_rows(root):
    inputs, targets = trainers.task("handwriting_synthesis", root=root).rows([])
    assert inputs["text"].shape[0] == 0 and targets["points"].shape == (0, 1, 3)


def test_other_characters_are_one_symbol(root):
    task = trainers.task("handwriting_synthesis", root=root)
    found = task.symbols("a%b\N{SNOWMAN}")
    assert found[1] == found[3] == task.other == task.classes - 1
    assert task.spelled(found) == "a\N{WHITE SQUARE}b\N{WHITE SQUARE}"
    assert len(set(task.symbols("".join(task.alphabet)))) == len(task.alphabet) == task.classes - 2


@pytest.mark.parametrize("name", ["stroke_fonts", "kanjivg", "iam_ondb"])
def test_every_data_set_has_its_alphabet(name, tmp_path):
    data.dataset(name).sample(tmp_path)
    task = trainers.task("handwriting_synthesis", data=name, root=str(tmp_path))
    inputs, _ = task.rows([0, 1])
    lines = task.lines("train")[:2]
    assert [task.spelled(row) for row in inputs["text"]] == [line.text for line in lines]
    assert task.other not in inputs["text"] and task.classes == len(task.alphabet) + 2
    assert (task.floor("train") is None) == (name == "iam_ondb")
    assert task.corpus != name


def test_the_floor_is_that_of_the_noise_in_normalised_units(root):
    """Whose deviation is the hand's tremor by that of the offsets: entropy, right and up."""
    task = trainers.task("handwriting_prediction", root=root)
    lines = task.lines("test")
    nats = sum(line.floor for line in lines)
    count = sum(len(line.points) for line in lines)
    expected = nats / count - np.log(task.offsets[1]).sum()
    assert task.floor("test") == pytest.approx(expected)
    assert task.report(None) == {"points": {"floor": task.floor("test")}}


@each_task
def test_metrics_are_those_of_the_density(name, models):
    task, model = models[name]
    inputs, targets = batch_of(task)
    outputs = model(inputs)["points"].numpy()
    nats, errors, count = np.zeros(3), 0.0, 0
    for row, points in enumerate(targets["points"]):
        for y, x in zip(outputs[row].astype(float), points):
            if x[2] < 0:
                continue
            end, (pi, m1, m2, s1, s2, r) = 1 / (1 + np.exp(y[0])), np.split(y[1:], 6)
            pi, s1, s2, r = np.exp(pi) / np.exp(pi).sum(), np.exp(s1), np.exp(s2), np.tanh(r)
            density = 0.0
            for j in range(3):
                cross = r[j] * s1[j] * s2[j]
                covariance = [[s1[j] ** 2, cross], [cross, s2[j] ** 2]]
                density += pi[j] * scipy.stats.multivariate_normal.pdf(
                    x[:2], (m1[j], m2[j]), covariance
                )
            nats[row] -= np.log(density) + np.log(end if x[2] else 1 - end)
            errors += (x[0] - pi @ m1) ** 2 + (x[1] - pi @ m2) ** 2
            count += 1
    found = {}
    for metric in task.metrics()["points"]:
        metric.update_state(targets["points"], outputs)
        found[metric.name] = float(metric.result())
    assert list(found) == list(task.measured)
    expected = nats.sum() / count, nats.mean(), errors / count
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-4)


@each_task
def test_rows_are_described(name, models):
    task, model = models[name]
    inputs, targets = batch_of(task)
    outputs = {key: value.numpy() for key, value in model(inputs).items()}
    for line in task.describe(inputs, targets, outputs):
        assert "points in" in line and "nats a point" in line
    assert all("ends with 0." in line for line in task.describe(inputs, None, outputs))


@each_task
def test_pictures_are_those_of_the_captions(name, models, monkeypatch):
    monkeypatch.setattr(tasks_synthesis, "BIASES", (0.5,))
    task, model = models[name]
    tables = {"points", "endings"} & task.captions.keys()
    assert task.figures(model).keys() == task.captions.keys() - tables


@each_task
def test_a_served_point_costs_what_it_costs_in_training(name, models):
    task, model = models[name]
    inputs, targets = task.rows([0, 3], "test")
    lines = [task.lines("test")[number] for number in (0, 3)]
    lengths = np.array([len(line.points) for line in lines], "int32")
    points = np.zeros((2, lengths.max() + 2, 3), "float32")
    for row, line in enumerate(lines):
        points[row, : len(line.points)] = line.points
    text = {"text": tf.constant([line.text for line in lines])} if "text" in inputs else {}
    score = SIGNATURES[name].signatures(model, task, {})["score"]
    assert score.inputs.keys() == {"points", "lengths", *text}
    found = score.function(points=tf.constant(points), lengths=tf.constant(lengths), **text)
    (metric, *_) = task.metrics()["points"]
    metric.update_state(targets["points"], model(inputs)["points"])
    nats = found["nats"].numpy()
    assert nats.sum() / lengths.sum() == pytest.approx(float(metric.result()), rel=1e-4)
    assert not nats[0, lengths[0] :].any() and not nats[1, lengths[1] :].any()


@each_task
def test_strokes_are_written_as_paths(name, models):
    task, model = models[name]
    notation = SIGNATURES[name].notation(task)["score"]
    sample = notation.sample
    strokes = _pen.strokes_of(sample["points"][0, : sample["lengths"][0]])
    np.testing.assert_allclose(strokes[0][-1], [0.15, 0.45], atol=1e-6)
    np.testing.assert_allclose(strokes[1], [[0.02, 0.2], [0.2, 0.2]], atol=1e-6)
    score = SIGNATURES[name].signatures(model, task, {})["score"]
    given = {
        key: tf.constant([*sample[key]] if dtype == "string" else sample[key], dtype)
        for key, (_, dtype) in score.inputs.items()
    }
    outputs = {key: value.numpy() for key, value in score.function(**given).items()}
    for text in notation.show(sample, outputs):
        assert "nats a point" in text and "stroke ends with" in text
    for bad in ("", "M 0 0", "L 0 0 1 1", "M 0 0 A 1 1"):
        with pytest.raises(ValueError, match=r"^expected strokes as an SVG path"):
            notation.read([bad])


def test_a_network_that_writes_tells_how_its_lines_end(models, monkeypatch):
    monkeypatch.setattr(tasks_synthesis, "BIASES", (0.5,))
    task, model = models["handwriting_synthesis"]
    found = task.report(model)
    row = found["endings"]["bias 0.5"]
    # Untrained, the window goes on at its first pace, two points a symbol here.
    assert row["ended_share"] == row["in_time_share"] == 1.0 and row["length"] < 0.5
    assert found["points"]["forward_share"] > 0.9 and found["points"]["floor"] < 0


def test_a_graph_finds_the_symbols_that_the_task_has(models):
    task, model = models["handwriting_synthesis"]
    found, lengths = Pen(model, task).symbols(tf.constant(["Q, ok? \N{SNOWMAN}", ""]))
    np.testing.assert_array_equal(lengths, [8, 0])
    np.testing.assert_array_equal(found[0], task.symbols("Q, ok? \N{SNOWMAN}"))
    assert not np.any(found[1])


# Recognition.


def test_a_reader_is_given_the_points_and_asked_for_the_text(root):
    task = trainers.task("handwriting_recognition", root=root)
    inputs, targets = task.rows([0, 5], "test")
    for row, number in enumerate((0, 5)):
        line = task.lines("test")[number]
        count = len(line.points)
        assert inputs["lengths"][row] == count and not inputs["points"][row, count:].any()
        assert (targets["text"][row, len(line.text) :] == -1).all()
        assert task.spelled(targets["text"][row]) == line.text
        written = task.drawn(inputs["points"][row, :count])
        for found, expected in zip(written, _pen.strokes_of(line.points), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_was_read_is_told_with_its_mistakes(root):
    task = trainers.task("handwriting_recognition", root=root)
    inputs, targets = task.rows([0, 1], "test")
    logits = np.zeros((2, 80, task.classes), "float32")
    logits[..., 0] = 1
    for row, truth in enumerate(targets["text"]):
        for place, symbol in enumerate(truth[truth > 0]):
            logits[row, 2 * place, symbol] = 2
    logits[1, 0] = np.eye(task.classes)[task.other]
    first, second = task.describe(inputs, targets, {"text": logits})
    text = task.lines("test")[0].text
    assert first == f"{text!r} -> read {text!r} (ok)"
    assert "read '\N{WHITE SQUARE}" in second and "(1 of " in second
    (metric,) = task.metrics()["text"]
    metric.update_state(targets["text"], logits)
    assert float(metric.result()) == pytest.approx(1 / (targets["text"] > 0).sum())


def test_served_strokes_are_read_as_the_model_reads_them(root):
    keras.utils.set_random_seed(0)
    entry = zoo.info("blstm_ctc_handwriting")
    task = trainers.task("handwriting_recognition", root=root)
    model = small_model("blstm_ctc_handwriting", task)
    inputs, _ = task.rows([0, 3], "test")
    lines = [task.lines("test")[number] for number in (0, 3)]
    points = np.zeros((2, inputs["points"].shape[1] + 2, 3), "float32")
    for row, line in enumerate(lines):
        points[row, : len(line.points)] = line.points
    given = tf.constant(points), tf.constant(inputs["lengths"])
    found = entry.signatures(model, task)["serve"].function(*given)
    read = task.read({"text": model(inputs)["text"]})
    assert [text.decode() for text in found["text"].numpy()] == [*map(task.spelled, read)]
    assert ((found["places"].numpy() >= 0).sum(axis=1) == (read > 0).sum(axis=1)).all()
