"""The net that tells the next phoneme: its data, counts beside it, and what transducers take."""

import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import OneHotLabels
from ponderzoo.trainers import data
from ponderzoo.trainers._weights import take_weights
from ponderzoo.zoo.rnn_transducer import build, build_next

SMALL = {
    "features": "mfcc",
    "deltas": 0,
    "units": 3,
    "layers": 1,
    "bidirectional": False,
    "input_noise": 0.0,
    "weight_noise": 0.1,
    "joint_units": 4,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    data.dataset("tts_phones").sample(folder)
    return str(folder)


def task_of(root, name="next_phoneme"):
    return trainers.task(name, root=root, buckets=1)


@pytest.fixture
def model(root):
    keras.utils.set_random_seed(0)
    return build_next(task_of(root), prediction_units=5, dropout=0.2)


def test_every_phoneme_stands_behind_those_before_it(root):
    task = task_of(root)
    inputs, targets = task.rows([1, 0], "test")
    for row, utterance in enumerate(task.utterances("test")[i] for i in (1, 0)):
        count = len(utterance.phonemes)
        assert task.spelled(targets["next"][row]) == " ".join(utterance.phonemes)
        assert inputs["labels"][row, 0] == 0 and (targets["next"][row, count:] == -1).all()
        assert (inputs["labels"][row, 1:count] == targets["next"][row, : count - 1]).all()


def test_counts_are_those_of_a_loop(root):
    task = task_of(root)
    found = task.report(None)["counts"]
    for before, name in enumerate(found):
        seen, bits = {}, []
        runs = {
            split: [
                ((("",) * before + u.phonemes)[i : i + before], phoneme)
                for u in task.utterances(split)
                for i, phoneme in enumerate(u.phonemes)
            ]
            for split in ("train", "test")
        }
        for run in runs["train"]:
            seen[run] = seen.get(run, 0) + 1
        for context, phoneme in runs["test"]:
            total = sum(n for (other, _), n in seen.items() if other == context)
            chance = (seen.get((context, phoneme), 0) + 1) / (total + task.classes)
            bits.append(-math.log2(chance))
        assert found[name]["bits_per_phoneme"] == pytest.approx(np.mean(bits))


def test_an_answer_in_words(root):
    task = task_of(root)
    logits = np.eye(task.classes)[[[task.phonemes.index(p) + 1 for p in ("sh", "iy", "pau")]]]
    target = np.array([[task.phonemes.index(p) + 1 for p in ("sh", "ay")] + [-1]])
    assert task.describe({}, {"next": target}, {"next": logits}) == [
        "sh ay; expected sh iy (1 of 2 wrong)"
    ]
    assert task.describe({}, None, {"next": logits}) == ["expected sh iy pau"]


def test_labels_are_one_hot_without_blank():
    layer = OneHotLabels(4, blank=2)
    found = np.asarray(layer(np.array([[0, 1, 2, 3, -1]])))
    np.testing.assert_array_equal(found[0], [*np.eye(3)[:2], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    for arguments, words in (((1,), "classes must be a whole"), ((3, 3), "blank must be a class")):
        with pytest.raises(ValueError, match=words):
            OneHotLabels(*arguments)


def test_a_transducer_begins_with_the_prediction_network(model, root, tmp_path):
    model.save(tmp_path / "model.keras")
    transducer = build(task_of(root, "phoneme_transduction"), prediction_units=5, **SMALL)
    before = transducer.get_layer("transducer").layer.from_prediction.get_weights()
    take_weights(transducer, str(tmp_path))
    layer = transducer.get_layer("transducer").layer
    ours, theirs = layer.prediction, model.get_layer("transducer.prediction")
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(before[0], layer.from_prediction.get_weights()[0])
    # The same labels make the same hidden vectors in both.
    labels = np.array([[0, 3, 7, 2]])
    hidden = keras.Model(model.input, theirs.output)({"labels": labels})
    np.testing.assert_allclose(ours(layer.spoken(labels)), hidden, atol=1e-6)
    other = build(task_of(root, "phoneme_transduction"), prediction_units=6, **SMALL)
    with pytest.raises(ValueError, match=r"transducer.prediction needs weights of .*6"):
        take_weights(other, str(tmp_path))


def test_a_run_begins_with_weights_of_several(root, model, tmp_path):
    task = task_of(root, "phoneme_transduction")
    model.save(tmp_path / "next.keras")
    keras.utils.set_random_seed(1)
    first = build(task, prediction_units=5, **SMALL)
    first.save(tmp_path / "first.keras")
    recipe = {"updates": 1, "steps_per_epoch": 1, "batch_size": 2, "learning_rate": 1e-30}
    recipe |= {"evaluation_rows": 2, "histograms": 0, "figures": False, "jit_compile": False}
    if keras.backend.backend() == "jax":
        recipe["jit_compile"] = True
    trainers.fit(
        lambda: build(task, prediction_units=5, **SMALL),
        task,
        {**recipe, "start": "first, next"},
        str(tmp_path / "run"),
        find=lambda name: str(tmp_path / f"{name}.keras"),
    )
    trained = keras.saving.load_model(os.path.join(tmp_path, "run", "model.keras"))
    taken = trained.get_layer("transducer").layer.prediction.get_weights()
    expected = model.get_layer("transducer.prediction").get_weights()
    for one, other in zip(taken, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    name = "transcription"
    pairs = zip(trained.get_layer(name).get_weights(), first.get_layer(name).get_weights())
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_what_follows_is_served_with_the_bits_of_what_came(model, root):
    task = task_of(root)
    serve = zoo.info("rnn_transducer_next_phoneme").signatures(model, task)["serve"].function
    texts = ["pau sh iy", "", "ay"]
    answer = {k: v.numpy() for k, v in serve(tf.constant(texts)).items()}
    for row, text in enumerate(texts):
        labels = [0, *(task.phonemes.index(p) + 1 for p in text.split())]
        logits = np.float64(model({"labels": np.array([labels])})["next"][0])
        chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        bits = -np.log2([chances[i, label] for i, label in enumerate(labels[1:])]).sum()
        assert answer["bits"][row] == pytest.approx(bits, rel=1e-5)
        best = chances[-1, 1:].argmax()
        assert answer["next"][row].decode() == task.phonemes[best]
        assert answer["probability"][row] == pytest.approx(chances[-1, 1 + best], rel=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="phonemes must be of aa ae"):
        serve(tf.constant(["sh xx"]))
