"""What DRAW serves: images that are made, made again and between two, and where it looked."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import zoo
from ponderzoo.layers import GlimpseLSTM, _filterbank
from ponderzoo.trainers._evaluate import outputs_of
from ponderzoo.trainers.figures.images import in_steps
from ponderzoo.trainers.tasks import _images
from ponderzoo.trainers.tasks._images import SIDES
from small import small_model, small_task

KINDS = ("draw_digits", "draw_digits_whole")


@pytest.fixture(scope="module")
def small():
    """By an entry's name its signatures, of a model whose weights are all of chance, none zero."""
    found = {}
    for name in KINDS:
        entry = zoo.info(name)
        task = small_task(name)
        keras.utils.set_random_seed(0)
        model = small_model(name, task, steps=3)
        rng = np.random.default_rng(1)
        for weight in model.trainable_variables:
            weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
        found[name] = entry.signatures(model, task)
    return found


def ask(signature, **changes):
    inputs = {**signature.sample, **changes}
    tensors = {k: tf.constant(inputs[k], dtype) for k, (_, dtype) in signature.inputs.items()}
    return {name: np.asarray(x) for name, x in signature.function(**tensors).items()}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("key", ["generate", "reconstruct", "serve"])
def test_a_seed_decides_whatever_stands_beside_it(small, name, key):
    signature = small[name][key]
    images = {}
    if "image" in signature.inputs:
        images = {"image": np.repeat(signature.sample["image"][:1], 4, axis=0)}
    many = ask(signature, **images, seed=np.array([5, 7, 5, 8], "int32"))
    alone = ask(signature, **{k: x[:1] for k, x in images.items()}, seed=np.array([7], "int32"))
    assert many.keys() == signature.outputs.keys()
    for of, x in many.items():
        np.testing.assert_allclose(alone[of][0], x[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(x[0], x[2], rtol=1e-4, atol=1e-5)
        assert np.abs(x[1] - x[3]).max() > 1e-4, of


@pytest.mark.parametrize("name", KINDS)
def test_the_last_step_is_the_image_and_the_parts_are_the_whole(small, name):
    found = ask(small[name]["reconstruct"])
    np.testing.assert_allclose(found["steps"][:, -1], found["mean"], atol=1e-6)
    np.testing.assert_allclose(found["kl_steps"].sum(axis=1), found["kl"], rtol=1e-5)
    np.testing.assert_allclose(found["reconstruction"] + found["kl"], found["nats"], rtol=1e-5)
    assert ("write_windows" in found) == (name == "draw_digits")


def test_weights_that_are_older_than_the_windows_have_them_too(small):
    entry = zoo.info("draw_digits")
    task, model = small_task("draw_digits"), small_model("draw_digits")
    some = {name: x for name, x in model.output.items() if "windows" not in name}
    served = entry.signatures(keras.Model(model.input, some), task)
    for key, signature in served.items():
        assert signature.outputs.keys() == small["draw_digits"][key].outputs.keys()
    seed = np.array([3], "int32")
    found = ask(served["generate"], seed=seed)["write_windows"]
    image = np.zeros((1, 28, 28), "float32")
    expected = model({"image": image, "seed": seed})["sample_windows"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_between_two_images_lie_both_of_them_and_shares_are_told_apart(small, name):
    signature = small[name]["interpolate"]
    images = {"image": np.zeros((1, 28, 28)), "other": np.ones((1, 28, 28))}
    paths = {k: np.concatenate([x, 1 - x]).astype("float32") for k, x in images.items()}
    shares = np.array([[0, 0.5, 1], [1, 0.5, 0]], "float32")
    between = ask(signature, **paths, shares=shares)["between"]
    # The second row goes the other way.
    np.testing.assert_allclose(between[0], between[1], atol=1e-6)
    # An end is what is made of an image by the means of its latents.
    for image, end in zip(images.values(), between[0, [0, 2]]):
        alone = ask(signature, image=image, other=image, shares=[[0.3]])
        np.testing.assert_allclose(alone["between"][0, 0], end, atol=1e-6)
    assert np.abs(between[0, 1] - between[0, [0, 2]]).max() > 1e-4
    with pytest.raises(tf.errors.InvalidArgumentError, match="shares must be 0 to 1"):
        ask(signature, shares=shares - 0.1)
    for image in images:
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be of pixels 0 and 1"):
            ask(signature, **{image: np.full((2, 28, 28), 0.5)})


def test_a_window_ends_in_the_middles_of_the_outer_filters():
    """The mean place of the first and of the last filter's weights, which are within the image."""
    entry = zoo.info("draw_cluttered")
    task = zoo.task_of(entry, size=40)
    model = entry.build(task, glimpses=2, units=4, patch=3)
    raw = np.array([0.1, -0.2, 0.2, -0.9, 0.3], "float32")
    (layer,) = (x for x in model.layers if isinstance(x, GlimpseLSTM))
    layer.look.kernel.assign(np.zeros((4, 5)))
    layer.look.bias.assign(raw)
    found = model({"image": np.zeros((1, 40, 40), "float32")})["read_windows"][0, 1]
    of_y, of_x = _filterbank.filters(_filterbank.grid(raw[None], 3, 40, 40), 3, 40, 40)
    middles = np.arange(40) + 0.5
    left, _, right = np.asarray(of_x)[0] @ middles
    top, _, bottom = np.asarray(of_y)[0] @ middles
    expected = [left, top, right, bottom, np.exp(0.1), np.exp(0.3)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert len(SIDES) == len(expected)


def test_cluttered_digits_are_answered_with_where_they_were_looked_at():
    entry = zoo.info("draw_cluttered")
    task, model = small_task("draw_cluttered"), small_model("draw_cluttered")
    serve = entry.signatures(model, task)["serve"]
    found = ask(serve)
    assert found["read_windows"].shape == (2, entry.small["glimpses"], len(SIDES))
    assert serve.over == {"read_windows": "image"} and serve.images == ("image",)


# Figures.


def test_windows_are_drawn_over_their_steps():
    windows = np.zeros((2, 3, 6))
    windows[1, 2] = 1, 2, 4, 5, 0.5, 1
    figure = in_steps(np.zeros((2, 3, 10, 8)), windows)
    *_, window = figure.axes[0].patches
    # Line 1 and step 2, of images with a gap of 2 pixels; middles of pixels are whole numbers.
    assert window.get_xy() == (2 * (8 + 2) + 1 - 0.5, 10 + 2 + 2 - 0.5)
    assert (window.get_width(), window.get_height()) == (3, 3)
    assert len(figure.axes[0].patches) == 6
    assert not in_steps(np.zeros((2, 3, 10, 8))).axes[0].patches


def test_models_that_work_in_steps_show_how(few_digits):
    for name, more in (
        ("draw_digits", {"steps", "glimpses"}),
        ("draw_digits_whole", {"steps"}),
        ("mixture_vae_digits", set()),
    ):
        task = small_task(name, root=few_digits)
        model = small_model(name, task)
        found = task.figures(model)
        assert found.keys() == {"reconstructions", "samples", "nearest"} | more
        assert found.keys() <= task.captions.keys()
        # TensorBoard shows some of them while a model learns.
        inputs = task.inputs_without_data(np.random.default_rng(0), 3)
        shown = task.snapshot(inputs, {}, outputs_of(model, inputs))
        assert shown.keys() == {"reconstructions", "samples"}


def test_the_nearest_image_is_that_of_the_least_distance(few_digits, monkeypatch):
    monkeypatch.setattr(_images, "PART", 7)
    known = _images.chances("mnist", few_digits, "train") / 255
    images = np.random.default_rng(0).random((5, 28, 28))
    far = ((images[:, None] - known) ** 2).sum(axis=(2, 3))
    found = _images.nearest(images, "mnist", few_digits)
    np.testing.assert_allclose(found, known[far.argmin(axis=1)], atol=1e-6)
