"""What models of the Gated PixelCNN say of images and make of them, in tasks and served."""

import dataclasses
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from ponderzoo import trainers, zoo
from ponderzoo.trainers.data import mnist
from ponderzoo.trainers.tasks import _images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    mnist.sample(folder)
    return str(folder)


def small(name, **changes):
    """Task, model and signatures of a small entry whose weights are all of chance, none zero."""
    entry = zoo.info(name)
    task = zoo.task_of(entry, **{**entry.small_task, **changes})
    keras.utils.set_random_seed(0)
    model = entry.build(task, **{**entry.config, **entry.small})
    rng = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    return task, model, entry.signatures(model, task)


@pytest.fixture(scope="module")
def digits():
    return small("pixelcnn_digits")


def ask(signature, **changes):
    inputs = {**signature.sample, **changes}
    tensors = {k: tf.constant(inputs[k], dtype) for k, (_, dtype) in signature.inputs.items()}
    return {name: np.asarray(x) for name, x in signature.function(**tensors).items()}


def test_an_image_costs_what_its_pixels_cost_given_those_before(digits):
    """By the chances that the model tells; nothing is said beforehand, so there is no bound."""
    task, model, _ = digits
    inputs = task.inputs_without_data(np.random.default_rng(0), 3)
    found = {k: np.asarray(x) for k, x in model({**inputs, "seed": np.arange(3)}).items()}
    chance = np.where(inputs["image"] == 1, found["mean"], 1 - found["mean"])
    np.testing.assert_allclose(found["nats"], -np.log(chance).sum(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(found["nats"], found["reconstruction"])
    assert not found["kl"].any() and task.report(model) == {}


def test_the_map_of_bits_adds_up_to_the_nats(digits):
    _, model, served = digits
    found, image = ask(served["score"]), served["score"].sample["image"]
    expected = model({"image": image, "seed": np.arange(2)})["nats"]
    np.testing.assert_allclose(found["nats"], expected, rtol=1e-5)
    nats = found["bits"].sum(axis=(1, 2)) * np.log(2)
    np.testing.assert_allclose(nats, found["nats"], rtol=1e-5)
    np.testing.assert_allclose(found["bits_per_pixel"], found["bits"].mean(axis=(1, 2)), rtol=1e-5)
    assert ask(served["serve"]).keys() == {"nats", "bits_per_pixel"}


def test_an_image_that_is_made_costs_what_its_maker_says(digits):
    """Whatever the temperature; and its seed alone decides it."""
    _, model, served = digits
    seed = np.array([3, 4, 3, 5], "int32")
    made = ask(served["generate"], seed=seed, temperature=np.ones(4))
    assert set(np.unique(made["image"])) == {0, 1}
    np.testing.assert_array_equal(made["image"][0], made["image"][2])
    assert (made["image"][0] != made["image"][1]).any()
    np.testing.assert_allclose(
        ask(served["score"], image=made["image"])["nats"], made["nats"], rtol=1e-4
    )
    given = {"image": np.zeros((4, 28, 28), "float32"), "seed": seed}
    np.testing.assert_array_equal(model(given)["sample"], made["image"])
    cold = ask(served["generate"], seed=seed, temperature=np.zeros(4))
    np.testing.assert_array_equal(cold["image"][0], cold["image"][1])


def test_the_rows_that_are_kept_stay_and_the_others_are_made(digits):
    _, _, served = digits
    complete, image = served["complete"], served["complete"].sample["image"]
    rows = np.array([28, 10], "int32")
    found = ask(complete, rows=rows, temperature=np.ones(2))
    np.testing.assert_array_equal(found["image"][0], image[0])
    np.testing.assert_array_equal(found["image"][1, :10], image[1, :10])
    assert (found["image"][1, 10:] != image[1, 10:]).any()
    bits = ask(served["score"], image=found["image"])["bits"] * np.log(2)
    assert found["nats"][0] == 0
    assert found["nats"][1] == pytest.approx(bits[1, 10:].sum(), rel=1e-4)
    # What stands below the rows that are kept is not looked at.
    other = np.where(np.arange(28)[:, None] < 10, image, 1 - image)
    again = ask(complete, image=other, rows=rows, temperature=np.ones(2))
    np.testing.assert_array_equal(again["image"][1], found["image"][1])
    nothing = ask(complete, rows=np.zeros(2), temperature=np.ones(2))
    fresh = ask(served["generate"], temperature=np.ones(2))
    np.testing.assert_array_equal(nothing["image"], fresh["image"])


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("complete", {"rows": np.array([29, 0])}, "rows must be 0 to 28, got"),
        ("complete", {"rows": np.array([-1, 0])}, "rows must be 0 to 28, got"),
        ("generate", {"temperature": np.array([-0.1, 1])}, "temperature must be 0 or more"),
        ("score", {"image": np.full((2, 28, 28), 0.5)}, "pixels 0 and 1"),
        ("complete", {"image": np.full((2, 28, 28), 0.5)}, "pixels 0 and 1"),
    ],
)
def test_what_cannot_be_asked_is_told(digits, name, wrong, told):
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        ask(digits[2][name], **wrong)


# By class.


@pytest.fixture(scope="module")
def by_class():
    return small("pixelcnn_classes")


def test_an_image_of_a_digit_depends_on_digit_and_seed_alone(by_class):
    _, model, served = by_class
    given = {"digit": np.array([3, 8, 3]), "seed": np.array([5, 5, 5]), "temperature": np.ones(3)}
    found = ask(served["generate"], **given)
    np.testing.assert_array_equal(found["image"][0], found["image"][2])
    assert (found["image"][0] != found["image"][1]).any()
    again = ask(served["score"], image=found["image"], digit=given["digit"])
    np.testing.assert_allclose(again["nats"], found["nats"], rtol=1e-4)
    inputs = {k: tf.constant(given[k]) for k in ("digit", "seed")}
    np.testing.assert_array_equal(
        model({"image": tf.zeros((3, 28, 28)), **inputs})["sample"], found["image"]
    )


def test_classes_are_as_probable_as_what_images_cost_given_each(by_class, root):
    """By Bayes' rule in float64, of costs that are asked for one by one; so is the report."""
    task, model, served = by_class
    task = dataclasses.replace(task, root=root)
    inputs, _ = task.rows(np.arange(20), "test")
    found = ask(served["classify"], image=inputs["image"])
    digits = [np.full(20, digit) for digit in range(10)]
    nats = [ask(served["serve"], image=inputs["image"], digit=d)["nats"] for d in digits]
    nats = np.stack(nats, axis=1).astype("float64")
    np.testing.assert_allclose(found["nats"], nats, rtol=1e-4)
    odds = np.exp(nats.min(axis=1, keepdims=True) - nats)
    odds /= odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["probability"], odds, atol=0.01)
    np.testing.assert_array_equal(found["digit"], nats.argmin(axis=1))
    wrong = np.mean(nats.argmin(axis=1) != inputs["digit"])
    assert task.report(model)["likelihood"] == {"likelihood_error": wrong, "images": 20}


def test_labels_are_those_of_the_images(root):
    task = trainers.task("labelled_digits", root=root)
    for split in ("train", "validation", "test"):
        inputs, _ = task.rows(np.arange(10), split)
        np.testing.assert_array_equal(inputs["digit"], _images.classes("mnist", root, split)[:10])
    seen, _ = task.batch(np.random.default_rng(0), 30)
    chosen = np.random.default_rng(0).integers(0, task.examples("train"), 30)
    expected = _images.classes("mnist", root, "train")[chosen]
    np.testing.assert_array_equal(seen["digit"], expected)
    with pytest.raises(ValueError, match="takes a data of mnist, fashion_mnist; got 'glyphs'"):
        trainers.task("labelled_digits", data="glyphs")


def test_digits_that_are_none_are_told(by_class):
    task, _, served = by_class
    with pytest.raises(tf.errors.InvalidArgumentError, match="digit must be 0 to 9, got"):
        ask(served["generate"], digit=np.array([10, 0]))
    read = zoo.info("pixelcnn_classes").notation(task)["generate"].read
    with pytest.raises(ValueError, match="expected a digit of 0 to 9; got '10'"):
        read(["3", "10"])


def test_digits_are_shown_and_drawn_by_their_seeds(digits):
    notation = zoo.info("pixelcnn_digits").notation(digits[0])["generate"]
    inputs = notation.read(["7", "8", "9"])
    image = np.zeros((3, 28, 28), "float32")
    image[1, 4, 5] = 1
    assert "▀" in notation.show(inputs, {"image": image})[1]
    pictures = notation.picture(inputs, {"image": image})
    assert [f"<title>seed {seed}</title>" in p.svg for p, seed in zip(pictures, (7, 8, 9))]
    pixels = np.asarray(Image.open(io.BytesIO(pictures[1].png)))
    assert pixels[4 * 8, 5 * 8] == 0 and pixels[0, 0] == 255


def test_what_it_makes_is_shown_while_it_is_trained_and_behind(digits, root):
    task, model, _ = digits
    task = dataclasses.replace(task, root=root)
    image = task.batch(np.random.default_rng(0), 40)[0]["image"]
    snapshot = task.snapshot({"image": image}, {}, {"mean": image, "sample": image})
    assert snapshot.keys() == {"reconstructions", "samples"}
    assert task.figures(model).keys() == {"reconstructions", "samples", "nearest"}
