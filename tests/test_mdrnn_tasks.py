"""Digits whose pixels are labelled, images that are bent, and the network of the paper for them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import elastic_warp
from ponderzoo.trainers.tasks.digit_segmentation import middle_of_ink, sensitivity


def task(root, **config):
    return trainers.task("digit_segmentation", root=root, **config)


# Warping.


def test_a_warp_is_what_scipy_makes_of_the_same_displacements():
    """Simard et al., 2003: a smooth field, and bilinear means of the ink that it points to."""
    ndimage = pytest.importorskip("scipy.ndimage")
    from ponderzoo.layers._chance import uniform

    rng = np.random.default_rng(0)
    image, seed = rng.random((3, 9, 12)), np.array([5, -1, 2**31 - 1])
    rough = 2 * np.asarray(uniform(seed, (2, 9, 12), dtype="float64")) - 1
    found = elastic_warp(tf.constant(image), seed, [1.5, 2.5, 3.5], 9.0)
    for row, deviation in enumerate((1.5, 2.5, 3.5)):
        smooth = [
            9 * ndimage.gaussian_filter(x, deviation, mode="constant", truncate=9)
            for x in rough[row]
        ]
        places = np.indices((9, 12)) + smooth
        expected = ndimage.map_coordinates(
            np.pad(image[row], 40), places + 40, order=1, mode="constant"
        )
        # Its filter sums to 1 on whole pixels, ours in between.
        np.testing.assert_allclose(found[row], expected, atol=1e-3)


def test_a_row_is_bent_as_its_seed_alone_decides_and_not_at_all_without_strength():
    image = np.random.default_rng(0).random((4, 28, 28), "float32")
    seed = np.array([3, 1, 3, 9], "int32")
    image[2] = image[0]
    bent = np.asarray(elastic_warp(image, seed))
    np.testing.assert_array_equal(bent[0], bent[2])
    assert not np.allclose(bent[0], image[0])
    np.testing.assert_array_equal(elastic_warp(image[1:2], seed[1:2]), bent[1:2])
    np.testing.assert_allclose(elastic_warp(image, seed, strength=0.0), image, atol=1e-6)
    specs = [tf.TensorSpec((None, None, None)), tf.TensorSpec((None,), "int32")]
    free = tf.function(elastic_warp, input_signature=specs)
    np.testing.assert_allclose(free(image, seed), bent, atol=1e-5)


def test_displacements_are_as_large_as_the_paper_s():
    """About 1.4 pixels where the filter's deviation is 4 and the strength 34."""
    down = np.tile(np.arange(101.0)[:, None], (1, 101))[None].repeat(8, axis=0)
    bent = np.asarray(elastic_warp(down, np.arange(8)))
    moved = (bent - down)[:, 20:80, 20:80]
    assert np.sqrt(np.mean(moved**2)) == pytest.approx(0.163 * 34 / 4, rel=0.1)


# The task.


def test_ink_has_the_digit_s_label_and_paper_the_background_s(few_digits):
    some = task(few_digits, threshold=0.25)
    inputs, targets = some.rows(np.arange(7), "test")
    digits = some.images("test")[1][:7]
    for image, label, digit in zip(inputs["image"], targets["label"], digits):
        np.testing.assert_array_equal(label, np.where(image > 0.25, digit, 10))


def test_an_image_is_the_digit_with_the_most_probability_over_its_pixels():
    """Section 4.2, and pixels of the background have no say."""
    logits = np.full((2, 4, 4, 11), -20.0, "float32")
    logits[..., 10] = 20
    logits[0, 0, :3, 7] = 40  # three pixels are sure of a 7, and four of a 1, but not quite
    logits[0, 1, :, 1] = 20.2
    logits[1, 2, :2, 3] = 40
    labels = np.full((2, 4, 4), 10, "int32")
    labels[0, 0, :3], labels[1, 2, :2] = 7, 4
    some = trainers.task("digit_segmentation")
    pixels, image = some.metrics()["label"]
    for metric in (pixels, image):
        metric.update_state(labels, logits)
    assert float(image.result()) == 0.5
    assert float(pixels.result()) == pytest.approx((4 + 2) / 32)
    image.update_state(np.full((1, 4, 4), 10), logits[:1])
    assert float(image.result()) == 0.5  # an image of nothing shows no digit


def test_warped_images_are_always_the_same_and_measured_beside(few_digits):
    some = task(few_digits)
    one, two = (t.warped(np.array([3, 5])) for t in (some, task(few_digits)))
    np.testing.assert_array_equal(one[0]["image"], two[0]["image"])
    np.testing.assert_array_equal(some.warped(np.array([5]))[0]["image"], one[0]["image"][1:])
    grey = one[0]["image"] * 255
    np.testing.assert_allclose(grey, np.round(grey), atol=1e-4)
    assert np.any(one[0]["image"] != some.rows(np.array([3, 5]), "test")[0]["image"])
    np.testing.assert_array_equal(one[1]["label"] < 10, one[0]["image"] > 0)
    model = zoo.build("mdrnn_digits", units=2)
    report = some.report(model)["warped"]
    assert report["images"] == some.examples("test") == 40
    assert 0 <= report["warped_image_error"] <= 1 and 0 < report["warped_pixel_error"] <= 1
    assert some.measured == ("pixel_error", "image_error")


def test_sensitivity_is_the_derivative_of_the_answer_at_a_pixel():
    model = zoo.build("mdrnn_digits", units=2)
    image, places = np.random.default_rng(0).random((2, 28, 28), "float32"), [(3, 4), (9, 2)]
    found = sensitivity(model, image, places)
    logits = np.asarray(model({"image": image})["label"])
    for row, (down, right) in enumerate(places):
        answer = logits[row, down, right].argmax()
        for y, x in ((0, 0), (down, right), (down + 2, right - 1)):
            values = []
            for step in (1e-2, -1e-2):
                moved = image.copy()
                moved[row, y, x] += step
                values.append(float(model({"image": moved})["label"][row, down, right, answer]))
            slope = (values[0] - values[1]) / 2e-2
            assert slope == pytest.approx(found[row, y, x], abs=1e-4)
    np.testing.assert_array_equal(middle_of_ink(np.eye(9)), (4, 4))


@pytest.mark.parametrize("setting", ["threshold", "deviation", "strength"])
def test_settings_are_not_negative(setting):
    with pytest.raises(ValueError, match=f"{setting} must be 0 or more; got -1"):
        trainers.task("digit_segmentation", **{setting: -1.0})


# The network.


def test_the_network_of_the_paper_has_as_many_weights():
    """27,511, which tells that an input gate has one peephole for all dimensions."""
    assert zoo.build("mdrnn_digits").count_params() == 27_511


def test_the_convolutional_network_gives_all_ink_the_answer_for_the_image():
    model = zoo.build("mdrnn_digits", machine="convolutional")
    image = np.random.default_rng(0).random((2, 28, 28), "float32")
    logits = model({"image": image})["label"][..., :10]
    assert np.ptp(logits, axis=(1, 2)).max() == 0 and np.ptp(logits) > 0


def test_no_other_machine():
    with pytest.raises(ValueError, match="machine must be one of mdlstm, convolutional; got 'cnn'"):
        zoo.build("mdrnn_digits", machine="cnn")


def test_served_labels_and_digits_are_those_of_the_model(few_digits):
    keras.utils.set_random_seed(0)
    some, model = task(few_digits), zoo.build("mdrnn_digits", units=3)
    serve = zoo.info("mdrnn_digits").signatures(model, some)["serve"].function
    inputs, _ = some.rows(np.arange(3), "test")
    found = serve(tf.constant(inputs["image"]))
    logits = np.float64(model(inputs)["label"])
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    scores = chances[..., :10].sum(axis=(1, 2))
    np.testing.assert_array_equal(found["label"], logits.argmax(axis=-1))
    np.testing.assert_array_equal(found["digit"], scores.argmax(axis=-1))
    np.testing.assert_allclose(found["maps"], np.moveaxis(chances, -1, 1), atol=1e-6)
    expected = scores / scores.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image must be 0"):
        serve(tf.fill((1, 28, 28), 1.5))


def test_warping_is_asked_within_bounds(few_digits):
    some, model = task(few_digits), zoo.build("mdrnn_digits", units=2)
    warp = zoo.info("mdrnn_digits").signatures(model, some)["warp"]
    asked = {name: tf.constant(x) for name, x in warp.sample.items()}
    expected = elastic_warp(asked["image"], asked["seed"])
    found = warp.function(**asked)
    np.testing.assert_allclose(found["image"], expected, atol=1e-6)
    labels = np.argmax(model({"image": expected})["label"], axis=-1)
    np.testing.assert_array_equal(found["label"], labels)
    for name, wrong in (("deviation", 0.0), ("strength", 1e6), ("strength", np.nan)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must be"):
            warp.function(**{**asked, name: tf.fill((2,), np.float32(wrong))})
