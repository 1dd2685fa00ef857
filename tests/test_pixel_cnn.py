"""What models of the Gated PixelCNN say of images and make of them, in tasks and served."""

import dataclasses
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image
from ponderzoo import trainers, zoo
from ponderzoo.trainers._weights import take_weights
from ponderzoo.trainers.data import photo_patches
from ponderzoo.trainers.tasks import _images
from small import small_model, small_task


def small(name, **changes):
    """Task, model and signatures of a small entry whose weights are all of chance, none zero."""
    entry = zoo.info(name)
    task = small_task(name, **changes)
    keras.utils.set_random_seed(0)
    model = small_model(name, task)
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
    np.testing.assert_allclose(found["bits"].sum(axis=(1, 2)), found["nats"] / np.log(2), rtol=1e-4)
    np.testing.assert_array_equal(found["completed"][:, :14], inputs["image"][:, :14])
    assert (found["completed"] != inputs["image"]).any()


def test_a_network_that_is_told_the_class_can_begin_as_one_that_is_not(digits, tmp_path):
    """What it sees of the class is its own, and all else the other's."""
    _, plain, _ = digits
    plain.save(tmp_path / "plain.keras")
    _, told, _ = small("pixelcnn_classes")
    own = [w for w in told.weights if "below_" in w.path or "beside_" in w.path]
    before = [w.numpy() for w in own]
    take_weights(told, tmp_path / "plain.keras")
    for weight, kept in zip(own, before):
        np.testing.assert_array_equal(weight, kept)
        weight.assign(ops.zeros_like(weight))
    image = np.random.default_rng(0).integers(0, 2, (3, 28, 28)).astype("float32")
    inputs = {"image": image, "seed": np.arange(3)}
    found = told({**inputs, "digit": np.array([0, 4, 9])})["mean"]
    expected = plain(inputs)["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(own) == 3  # two layers, and nothing sees what the last stack of rows puts out


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


def test_classes_are_as_probable_as_what_images_cost_given_each(by_class, few_digits):
    """By Bayes' rule in float64, of costs that are asked for one by one; so is the report."""
    task, model, served = by_class
    task = dataclasses.replace(task, root=few_digits)
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


def test_labels_are_those_of_the_images(few_digits):
    task = trainers.task("labelled_digits", root=few_digits)
    for split in ("train", "validation", "test"):
        inputs, _ = task.rows(np.arange(10), split)
        np.testing.assert_array_equal(
            inputs["digit"], _images.classes("mnist", few_digits, split)[:10]
        )
    seen, _ = task.batch(np.random.default_rng(0), 30)
    chosen = np.random.default_rng(0).integers(0, task.examples("train"), 30)
    expected = _images.classes("mnist", few_digits, "train")[chosen]
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


# In colour.


@pytest.fixture(scope="module")
def colour():
    return small("pixelcnn_colour")


def test_colours_cost_what_their_levels_do_and_bits_are_by_pixel_and_colour(colour):
    task, model, served = colour
    found, image = ask(served["score"]), served["score"].sample["image"]
    logits = model.get_layer("pixels")(image).numpy().astype("float64")
    odds = np.take_along_axis(logits, image[..., None], axis=-1)[..., 0]
    bits = (np.log(np.exp(logits).sum(axis=-1)) - odds) / np.log(2)
    np.testing.assert_allclose(found["bits"], bits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["bits_per_dimension"], bits.mean(axis=(1, 2, 3)), rtol=1e-4)
    measured = task.metrics()["nats"][0]
    measured.update_state(None, found["nats"])
    assert float(measured.result()) == pytest.approx(bits.mean(), rel=1e-4)
    made = ask(served["generate"])
    again = ask(served["score"], image=made["image"])
    np.testing.assert_allclose(made["nats"], again["nats"], rtol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image must be 0 to 3, got"):
        ask(served["serve"], image=image + 1)


def test_colours_that_come_together_are_told_by_those_before_them():
    """Of grey noise: green and blue are known once red is, to the whole model alone."""
    found, rng = {}, np.random.default_rng(0)
    for joint in (True, False):
        task = small_task("pixelcnn_colour")
        keras.utils.set_random_seed(0)
        model = small_model("pixelcnn_colour", task, filters=12, head=12, joint_colours=joint)
        nats = keras.Model(model.input["image"], model.output["nats"])
        optimizer = keras.optimizers.Adam(0.02)

        @tf.function(autograph=False)
        def update(image, nats=nats, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(nats(image))
            weights = nats.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)

        def grey():
            return tf.constant(rng.integers(0, 4, (16, 6, 6, 1)).repeat(3, axis=3), "int32")

        for _ in range(150):
            update(grey())
        found[joint] = float(np.mean(nats(grey()))) / (36 * 3 * np.log(2))
    # 2 bits a colour by itself, and 2 bits a pixel where the first tells the others.
    assert found[False] > 1.9 and found[True] < 1.2


def test_pieces_are_cut_anywhere_in_training_and_from_the_middle_to_be_measured(tmp_path):
    photo_patches.sample(tmp_path)
    task = trainers.task("colour_patches", root=str(tmp_path), size=6, levels=8)
    pieces = photo_patches.load(str(tmp_path))
    inputs, _ = task.rows(np.arange(4), "test")
    np.testing.assert_array_equal(inputs["image"], pieces["test"][:4, 13:19, 13:19] // 32)
    image = task.batch(np.random.default_rng(0), 50)[0]["image"]
    whole = pieces["train"] // 32
    windows = np.lib.stride_tricks.sliding_window_view(whole, (6, 6), axis=(1, 2))
    windows = windows.transpose(0, 1, 2, 4, 5, 3)
    corners = [np.argwhere((windows == x).all(axis=(3, 4, 5)))[0][1:] for x in image[:8]]
    assert len(np.unique(corners, axis=0)) > 4
    assert task.figures(Painter()).keys() == {"samples"}
    for wrong in ({"levels": 3}, {"levels": 1}, {"size": 33}, {"data": "mnist"}):
        with pytest.raises(ValueError, match=str(*wrong.values())):
            trainers.task("colour_patches", **wrong)


class Painter:
    """Makes what it sees."""

    def predict_on_batch(self, inputs):
        return {"sample": inputs["image"]}


def test_pictures_in_colour_have_their_colours(colour):
    notation = zoo.info("pixelcnn_colour").notation(colour[0])["generate"]
    image = np.zeros((2, 6, 6, 3), "int32")
    image[1, 2, 3] = 3, 0, 3
    (_, picture) = notation.picture(notation.sample, {"image": image})
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)))
    assert pixels.shape == (48, 48, 3)
    assert pixels[16, 24].tolist() == [255, 0, 255] and not pixels[0].any()


# By codes.


def of_codes(**changes):
    entry = zoo.info("pixelcnn_autoencoder")
    task = zoo.task_of(entry)
    keras.utils.set_random_seed(0)
    model = small_model("pixelcnn_autoencoder", task, **changes)
    return task, model, entry.signatures(model, task)


@pytest.fixture(scope="module", params=[0, 3], ids=["the same everywhere", "maps"])
def codes(request):
    return of_codes(maps=request.param)


def test_an_image_is_made_again_of_its_code_and_of_nothing_else(codes):
    _, model, served = codes
    found = ask(served["reconstruct"])
    code = ask(served["encode"])["code"]
    np.testing.assert_allclose(found["code"], code, rtol=1e-5)
    np.testing.assert_array_equal(ask(served["decode"], code=code)["image"], found["image"])
    image = served["serve"].sample["image"]
    outputs = model({"image": image, "seed": np.array([1, 2])})
    np.testing.assert_allclose(outputs["nats"], ask(served["serve"])["nats"], rtol=1e-5)
    heat = ask(served["reconstruct"], temperature=np.ones(2))["image"]
    np.testing.assert_array_equal(outputs["sample"], heat)
    other = ask(served["decode"], code=code, seed=np.array([3, 4]))["image"]
    assert (other != found["image"]).any()


def test_images_between_two_are_those_of_codes_between_theirs(codes):
    _, _, served = codes
    signature = served["interpolate"]
    found = ask(signature)["between"]
    given = {k: signature.sample[k] for k in ("seed", "temperature")}
    ends = [ask(served["encode"], image=signature.sample[k])["code"] for k in ("image", "other")]
    for place, share in enumerate(signature.sample["shares"].T):
        code = ends[0] + share[:, None] * (ends[1] - ends[0])
        np.testing.assert_array_equal(
            ask(served["decode"], code=code, **given)["image"], found[:, place]
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match="shares must be 0 to 1, got"):
        ask(signature, shares=np.full((2, 3), 1.1))


def test_a_decoder_without_a_pixelcnn_makes_means(few_digits):
    """Its nats are those of pixels that know nothing of each other; no chance comes in."""
    task, model, served = of_codes(layers=0)
    assert set(model.input) == {"image"} and "seed" not in served["reconstruct"].inputs
    image = served["serve"].sample["image"]
    mean = ask(served["reconstruct"])["image"].astype("float64")
    nats = -np.log(np.where(image == 1, mean, 1 - mean)).sum(axis=(1, 2))
    np.testing.assert_allclose(ask(served["serve"])["nats"], nats, rtol=1e-4)
    assert ask(served["interpolate"])["between"].shape == (2, 5, 28, 28)
    task = dataclasses.replace(task, root=few_digits)
    figures = task.beside({"PixelCNN": of_codes()[1], "independent pixels": model})
    assert figures.keys() == task.figures(model).keys() == {"reconstructions"}


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


def test_what_it_makes_is_shown_while_it_is_trained_and_behind(digits, few_digits):
    task, model, _ = digits
    task = dataclasses.replace(task, root=few_digits)
    image = task.batch(np.random.default_rng(0), 40)[0]["image"]
    snapshot = task.snapshot({"image": image}, {}, {"mean": image, "sample": image})
    assert snapshot.keys() == {"reconstructions", "samples"}
    shown = {"reconstructions", "samples", "completions", "bits", "nearest"}
    assert task.figures(model).keys() == shown
