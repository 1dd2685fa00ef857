"""What networks that write serve: lines, their ends, and what points cost."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import mixture_mean
from ponderzoo.trainers._evaluate import outputs_of
from ponderzoo.zoo.signatures._pen import MOST_POINTS
from small import small_model


@functools.cache
def served(name="handwriting_synthesis"):
    keras.utils.set_random_seed(0)
    entry = zoo.info(name)
    task = trainers.task(entry.task)
    model = small_model(name, task)
    found = {}
    for key, signature in entry.signatures(model, task).items():
        specs = {k: tf.TensorSpec(shape, kind) for k, (shape, kind) in signature.inputs.items()}
        found[key] = tf.function(signature.function, autograph=False), specs, signature.sample
    return task, model, found


def ask(key, name="handwriting_synthesis", **changes):
    """The answer to the sample request with some inputs changed, as numpy arrays."""
    function, specs, sample = served(name)[2][key]
    given = {k: tf.constant([*v] if v.dtype == object else v) for k, v in sample.items()}
    given |= {k: tf.constant(v, specs[k].dtype) for k, v in changes.items()}
    return {k: v.numpy() for k, v in function(**given).items()}


def test_a_line_ends_where_the_window_leaves_the_text():
    found = ask("serve", text=["abc", "to"], seed=[3, 4])
    for row, characters in enumerate((3, 2)):
        count, points = found["count"][row], found["points"][row]
        window = found["window"][row, :count, : characters + 1]
        assert found["ended"][row] and count > 1
        # While it was written the place behind the text never weighed most.
        assert np.all(window[:, -1] <= window[:, :-1].max(axis=1))
        assert np.all(points[:count, 2] >= 0) and np.all(points[count:] == [0, 0, -1])
        assert np.all(found["window"][row, count:] == 0)


def test_a_line_of_no_text_is_none():
    found = ask("serve", text=["", "ab"])
    assert found["count"][0] == 0 and found["ended"][0] and found["count"][1] > 0
    assert ask("serve", text=["", ""])["points"].shape == (2, 0, 3)


def test_a_limit_is_kept_and_told():
    free = ask("write", most=[100, 100])
    assert free["ended"].all()
    found = ask("write", most=free["count"] - [1, 0])
    np.testing.assert_array_equal(found["count"], free["count"] - [1, 0])
    np.testing.assert_array_equal(found["ended"], [False, True])
    count = found["count"][0]
    np.testing.assert_allclose(found["points"][0, :count], free["points"][0, :count], rtol=1e-5)


def test_a_line_depends_on_its_own_text_and_seed_alone():
    both = ask("serve", text=["abc", "to be"], seed=[3, 4], bias=[0.0, 0.5])
    alone = ask("serve", text=["to be"], seed=[4], bias=[0.5])
    count = alone["count"][0]
    assert both["count"][1] == count
    np.testing.assert_allclose(both["points"][1, :count], alone["points"][0], rtol=1e-4, atol=1e-6)
    other = ask("serve", text=["to be"], seed=[5], bias=[0.5])
    assert not np.array_equal(other["points"][:, :1], alone["points"][:, :1])


def test_bias_makes_lines_alike():
    def spread(bias):
        starts = [ask("serve", seed=[s, s], bias=[bias, bias])["points"][0, 0] for s in range(8)]
        return np.std(starts, axis=0)[:2]

    assert np.all(10 * spread(20.0) < spread(0.0))


def test_a_primed_line_goes_on_where_the_prime_ends():
    """The first point is drawn from what the network expects behind the prime."""
    task, model, _ = served()
    prime = np.full((1, 5, 3), 0.1, "float32")
    prime[..., 2] = np.arange(5) == 2
    symbols = task.symbols("we go")[None]
    (mean, deviation), read = task.offsets, np.zeros((1, 6, 3), "float32")
    read[:, 1:] = prime
    read[:, 1:, :2] = (prime[..., :2] - mean) / deviation
    expected = outputs_of(model, {"points": read, "text": symbols})["points"][0, -1]
    drawn = []
    for seed in range(40):
        found = ask(
            "write",
            text=["go"],
            prime_text=["we "],
            prime=np.pad(prime, [(0, 0), (0, 3), (0, 0)], constant_values=7.0),
            lengths=[5],
            bias=[0.0],
            seed=[seed],
            most=[1],
        )
        drawn.append(found["points"][0, 0])
    middle = np.asarray(mixture_mean(expected[None]))[0] * deviation + mean
    error = np.std(drawn, axis=0)[:2] / np.sqrt(len(drawn))
    assert np.all(np.abs(np.mean(drawn, axis=0)[:2] - middle) < 4 * error)


@pytest.mark.parametrize("name", ["handwriting_prediction", "handwriting_synthesis"])
def test_lines_are_drawn_a_path_a_stroke(name):
    notation = zoo.info(name).notation(served(name)[0])["serve"]
    given = {k: [*v] if v.dtype == object else v for k, v in notation.sample.items()}
    outputs = ask("serve", name, **given)
    before = [2, 1] if name == "handwriting_prediction" else [0, 0]  # strokes that end in a prime
    pictures = notation.picture(notation.sample, outputs)
    for row, (picture, text) in enumerate(zip(pictures, notation.show(notation.sample, outputs))):
        points = outputs["points"][row, : outputs["count"][row]]
        strokes = 1 + before[row] + int(points[:-1, 2].sum())
        assert picture.svg.count("<path") == strokes
        assert f"{len(points)} points in {int(points[:, 2].sum())} strokes" in text


def test_prediction_writes_to_its_limit():
    found = ask("serve", "handwriting_prediction", most=[7, 0])
    np.testing.assert_array_equal(found["count"], [7, 0])
    assert found["points"].shape == (2, 7, 3)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"text": ["a" * 257, "b"]}, "at most 256 characters"),
        ({"bias": [-0.1, 0.0]}, "bias must be 0 to 100"),
        ({"bias": [float("nan"), 0.0]}, "bias must be finite"),
        ({"most": [1, MOST_POINTS + 1]}, f"0 to {MOST_POINTS}"),
        ({"most": [-1, 1]}, f"0 to {MOST_POINTS}"),
        ({"lengths": [7, 1]}, "lengths must be 0 to"),
    ],
    ids=["text", "bias", "no number", "most", "least", "lengths"],
)
def test_what_cannot_be_written_is_refused(changes, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask("write", **changes)


def test_characters_that_are_no_symbols_are_all_one():
    texts = "a%", "a\N{HIRAGANA LETTER A}"
    a, b = (ask("serve", text=[text, text], seed=[1, 1]) for text in texts)
    np.testing.assert_array_equal(a["points"], b["points"])
