"""Digits in black and white: where they come from, how they are drawn, what models say of them."""

import dataclasses
import gzip
import hashlib
import io
import os

import keras
import numpy as np
import pytest
from PIL import Image
from ponderzoo import trainers, zoo
from ponderzoo.trainers import data
from ponderzoo.trainers._evaluate import evaluate
from ponderzoo.trainers.data import _packages, binarized_mnist, fashion_mnist, mnist
from ponderzoo.trainers.tasks import _images
from small import small_model, small_task

SPLITS = "train", "validation", "test"


def amat(pixels):
    return "".join(" ".join(map(str, row)) + " \n" for row in pixels.tolist()).encode()


@pytest.fixture
def larochelle(tmp_path):
    """A directory with Larochelle's three files, 5, 3 and 2 images, and these by their split."""
    rng, parts = np.random.default_rng(0), {}
    for (split, part), count in zip(binarized_mnist.PARTS.items(), (5, 3, 2)):
        parts[split] = rng.integers(0, 2, (count, 784))
        (tmp_path / f"binarized_mnist_{part}.amat").write_bytes(amat(parts[split]))
    return tmp_path, parts


# Files.


def test_the_files_of_larochelle_are_read(larochelle):
    folder, parts = larochelle
    for split, images in binarized_mnist.load(folder).items():
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images.reshape(-1, 784), parts[split])


def test_the_files_of_larochelle_may_be_packed(larochelle):
    folder, parts = larochelle
    file = folder / "binarized_mnist_valid.amat"
    (folder / "binarized_mnist_valid.amat.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert len(binarized_mnist.load(folder)["validation"]) == len(parts["validation"])


@pytest.mark.parametrize(
    "content",
    [amat(np.zeros((2, 783), int)), amat(np.full((2, 784), 2)), b"\0\1\2", amat(np.eye(784))],
)
def test_another_file_than_larochelles_is_named(larochelle, content):
    folder, _ = larochelle
    (folder / "binarized_mnist_test.amat").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"binarized_mnist_test.amat must hold lines of 784 pixels"
    ):
        binarized_mnist.load(folder)


def test_what_cannot_be_downloaded_says_so(tmp_path, monkeypatch):
    assert not binarized_mnist.available(tmp_path)
    with pytest.raises(RuntimeError, match=r"cannot be downloaded.*root="):
        data.fetch("binarized_mnist", tmp_path)
    monkeypatch.setenv("PONDERZOO_DATA", str(tmp_path))
    for name, words in (("binarized_mnist", "root="), ("fashion_mnist", "data fetch fashion")):
        with pytest.raises(FileNotFoundError, match=words):
            trainers.task("binary_digits", data=name).batch(np.random.default_rng(0), 2)


def test_fashion_is_fetched_checked_and_read(monkeypatch, tmp_path, few_digits):
    contents = {}
    for name in fashion_mnist.FILES:
        with open(os.path.join(few_digits, name.removesuffix(".gz")), "rb") as file:
            contents[name] = gzip.compress(file.read(), mtime=0)
    found = {n: (len(c), hashlib.sha256(c).hexdigest()) for n, c in contents.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", found)

    def debian(names, folder):
        assert names == [fashion_mnist.PACKAGE]
        home = os.path.join(folder, fashion_mnist.MEMBERS)
        os.makedirs(home)
        for name, content in contents.items():
            with open(os.path.join(home, name), "wb") as file:
                file.write(content)
        return folder, {}

    monkeypatch.setattr(_packages, "debian", debian)
    cache = tmp_path / "cache"
    folder = data.fetch("fashion_mnist", cache)
    assert fashion_mnist.available(cache) and folder == str(cache / "fashion_mnist")
    np.testing.assert_array_equal(
        fashion_mnist.load(folder)["t10k"][0], mnist.load(few_digits)["t10k"][0]
    )
    monkeypatch.setitem(fashion_mnist.FILES, "t10k-labels-idx1-ubyte.gz", (1, "0"))
    with pytest.raises(ValueError, match="is not the file this release was made with"):
        fashion_mnist.fetch(tmp_path / "other")
    assert not (tmp_path / "other").exists()


# Drawing.


def test_pixels_are_drawn_with_the_chance_that_their_grey_tells():
    grey = np.tile(np.arange(256, dtype="uint8"), (20_000, 1))
    ink = _images.drawn(grey, np.random.default_rng(0)).mean(axis=0)
    assert ink[0] == 0 and ink[255] == 1
    np.testing.assert_allclose(ink, np.arange(256) / 255, atol=0.02)


@pytest.mark.parametrize("binarisation", ["dynamic", "fixed"])
def test_only_images_of_training_are_drawn_anew(few_digits, binarisation):
    task = trainers.task("binary_digits", root=few_digits, binarisation=binarisation)
    for split in SPLITS:
        # The same images twice, drawn by what is left of the generator.
        rng = np.random.default_rng(0)
        one = task.batch(rng, 30, split=split)[0]["image"]

        class Same:
            integers = np.random.default_rng(0).integers
            random = rng.random

        other = task.batch(Same, 30, split=split)[0]["image"]
        assert set(np.unique(one)) == {0, 1}
        anew = split == "train" and binarisation == "dynamic"
        assert (one != other).any() == anew


def test_splits_are_drawn_by_numbers_of_their_own(few_digits):
    parts = [_images.binarised("mnist", few_digits, split) for split in SPLITS]
    assert [len(part) for part in parts] == [110, 10, 40]
    grey_of = [_images.chances("mnist", few_digits, split) for split in SPLITS]
    uniform = [np.random.default_rng([1607, len(split)]).random(3) for split in SPLITS]
    assert len({tuple(some) for some in uniform}) == 3
    for part, chance in zip(parts, grey_of):
        assert part[chance == 0].sum() == 0 and part[chance == 255].all()


def test_images_that_are_binary_stay_what_they_are(larochelle):
    folder, parts = larochelle
    task = trainers.task("binary_digits", data="binarized_mnist", root=str(folder))
    inputs, _ = task.rows(np.arange(2), "test")
    np.testing.assert_array_equal(inputs["image"].reshape(2, 784), parts["test"])
    images = task.batch(np.random.default_rng(0), 40)[0]["image"].reshape(40, 784)
    assert all((parts["train"] == image).all(axis=1).any() for image in images)


# Several digits on a larger square.


def laid(root, **config):
    return trainers.task("binary_digits", root=root, digits=2, size=60, **config)


def test_two_digits_are_whole_and_anywhere_and_their_ink_is_added(tmp_path):
    """Of filled squares each pair of places is seen, and all of the ink but where they meet."""
    rng = np.random.default_rng(0)
    squares = _images.several(np.full((7, 28, 28), 100, "uint8"), np.arange(7), 2, 60, rng)
    assert squares.shape == (7, 60, 60) and set(np.unique(squares)) <= {0, 100, 200}
    for square in squares:
        assert square.sum(dtype=int) == 2 * 28 * 28 * 100
    rng = np.random.default_rng(0)
    dark = _images.several(np.full((7, 28, 28), 200, "uint8"), np.arange(7), 2, 60, rng)
    np.testing.assert_array_equal(dark, np.minimum(2 * squares.astype(int), 255))
    alone = _images.several(np.full((1, 28, 28), 9, "uint8"), np.zeros(3000, int), 1, 30, rng)
    places = [tuple(np.argwhere(square)[0]) for square in alone]
    assert set(places) == {(down, right) for down in range(3) for right in range(3)}


@pytest.mark.parametrize("binarisation", ["dynamic", "fixed"])
def test_two_digits_are_put_together_anew_in_training_only(few_digits, binarisation):
    task = laid(few_digits, binarisation=binarisation)
    assert task.corpus.endswith("by our own binarisation, 2 of them on 60 by 60 pixels")
    for split in SPLITS:
        first, again = (task.dataset(split, 40, 4, seed)[0][0]["image"] for seed in (0, 0))
        np.testing.assert_array_equal(first, again)
        assert first.shape[1:] == (60, 60) and set(np.unique(first)) == {0, 1}
        inputs, _ = task.rows(np.arange(task.examples(split)), split)
        once = {image.tobytes() for image in inputs["image"]}
        anew = any(image.tobytes() not in once for image in first)
        assert anew == (split == "train" and binarisation == "dynamic")


def test_images_by_themselves_are_what_they_were(few_digits):
    """The settings are the least that there are, and leave the stream of chance alone."""
    inputs, _ = trainers.task("binary_digits", root=few_digits).batch(np.random.default_rng(3), 20)
    rng = np.random.default_rng(3)
    chosen = _images.chances("mnist", few_digits, "train")[rng.integers(0, 110, 20)]
    np.testing.assert_array_equal(inputs["image"], _images.drawn(chosen, rng))
    with pytest.raises(ValueError, match="28 by 28 pixels; got a size of 27"):
        trainers.task("binary_digits", size=27)


@pytest.mark.parametrize("name", ["draw_digits", "draw_digits_whole", "mixture_vae_digits"])
def test_models_and_what_they_serve_have_the_size_of_the_task(name):
    import tensorflow as tf

    entry = zoo.info(name)
    task = small_task(name, digits=2, size=40)
    served = entry.signatures(small_model(name, task), task)
    images = {"generate": "mean", "reconstruct": "mean", "interpolate": "between"}
    for key in images.keys() & served.keys():
        signature = served[key]
        answer = signature.function(**{k: tf.constant(x) for k, x in signature.sample.items()})
        assert signature.inputs.get("image", ((None, 40, 40),))[0] == (None, 40, 40)
        assert answer[images[key]].shape[-2:] == (40, 40)


def test_figures_have_the_size_of_the_task(few_digits):
    class Painter:
        def predict_on_batch(self, inputs):
            image = inputs["image"]
            steps = np.repeat(image[:, None], 3, axis=1)
            return {"mean": image, "sample": image, "steps": steps, "sample_steps": steps}

    figures = laid(few_digits).figures(Painter())
    assert figures.keys() == {"samples", "reconstructions", "steps"}


def test_what_is_no_choice_is_named():
    for name in ("data", "binarisation"):
        with pytest.raises(ValueError, match=f"binary_digits takes a {name} of .*; got 'letters'"):
            trainers.task("binary_digits", **{name: "letters"})


# Models.


class Known:
    """Stands in for a model whose weights have a known law: log-normal, of mean 1."""

    deviation = 1.0

    def predict_on_batch(self, inputs):
        seeds = inputs["seed"].astype("int64")
        normal = np.array([np.random.default_rng(seed).normal() for seed in seeds])
        nats = 100 - self.deviation * normal + self.deviation**2 / 2
        parts = {"nats": nats, "reconstruction": nats - 20, "kl": np.full((len(nats), 4), 5.0)}
        return {**parts, "mean": inputs["image"], "sample": inputs["image"]}


def test_the_bound_is_split_into_its_parts_and_the_weights_make_it_tighter(few_digits):
    """The mean of the bound is half a variance off; that of many weights is next to nothing off."""
    task = trainers.task("binary_digits", root=few_digits, samples=400, images=30)

    class Seeded(Known):
        def predict_on_batch(self, inputs):
            seed = inputs.get("seed", np.arange(len(inputs["image"])))
            return super().predict_on_batch({**inputs, "seed": seed})

    found = evaluate(Seeded(), task, rows=40)
    assert found["reconstruction"] + found["kl"] == pytest.approx(found["nats"], rel=1e-5)
    assert found["kl"] == pytest.approx(20)
    report = task.report(Seeded())["importance"]
    assert report["images"] == 30 and report["samples_an_image"] == 400
    assert report["importance_weighted_nats"] == pytest.approx(100, abs=0.1)
    alone = _images.importance_weighted(Seeded(), {"image": np.zeros((300, 28, 28))}, 1)
    assert alone.mean() == pytest.approx(100.5, abs=0.2)


@pytest.fixture(scope="module")
def small():
    name = "mixture_vae_digits"
    task = dataclasses.replace(zoo.task_of(zoo.info(name)), samples=3, images=4)
    keras.utils.set_random_seed(0)
    return task, small_model(name, task)


def test_the_outputs_of_the_autoencoder_are_its_bound(small):
    """By numpy, of the sample that its own posterior gives."""
    task, model = small
    inputs = task.inputs_without_data(np.random.default_rng(1), 6)
    seeds = np.arange(6, dtype="int32")
    found = {k: np.asarray(x) for k, x in model({**inputs, "seed": seeds}).items()}
    nats = -np.log(np.where(inputs["image"] == 1, found["mean"], 1 - found["mean"]))
    np.testing.assert_allclose(found["reconstruction"], nats.sum(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["nats"], found["reconstruction"] + found["kl"], rtol=1e-6)
    entropy = -(found["weights"] * np.log(found["weights"])).sum(axis=1)
    np.testing.assert_allclose(found["perplexity"], np.exp(entropy), rtol=1e-5)


def test_one_component_is_the_ordinary_autoencoder():
    """The mean of its one-sample KL is that of a Gaussian, in closed form."""
    name = "mixture_vae_digits"
    model = small_model(name, zoo.task_of(zoo.info(name)), components=1)
    names = "mean", "means", "scales"
    inner = keras.Model(model.input, [model.get_layer(n).output for n in names])
    image = np.repeat(np.eye(28, dtype="float32")[None], 4000, axis=0)
    inputs = {"image": image, "seed": np.arange(4000)}
    middle, mean, scale = (np.asarray(x)[0] for x in inner(inputs))
    mean = middle + mean
    closed = 0.5 * np.sum(mean**2 + np.exp(2 * scale) - 2 * scale - 1)
    kl = np.asarray(model(inputs)["kl"])
    assert abs(kl.mean() - closed) < 4 * kl.std() / np.sqrt(len(kl))


def test_an_image_that_is_made_depends_on_its_seed_alone(small):
    task, model = small
    import tensorflow as tf

    signatures = zoo.info("mixture_vae_digits").signatures(model, task)
    together = signatures["generate"].function(tf.constant([7, 8, 7]))["mean"].numpy()
    alone = signatures["generate"].function(tf.constant([8]))["mean"].numpy()
    np.testing.assert_allclose(together[1], alone[0], atol=1e-6)
    np.testing.assert_allclose(together[0], together[2], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-4


def test_images_are_drawn_as_text_and_as_pictures(small):
    task, _ = small
    notation = zoo.info("mixture_vae_digits").notation(task)["generate"]
    image = np.zeros((2, 28, 28), "float32")
    image[1, 4, 5] = image[1, 5, 5] = image[1, 7, 9] = 1
    inputs = notation.read(["3", "-4"])
    text = notation.show(inputs, {"mean": image})[1].splitlines()
    assert len(text) == 14 and text[2][5] == "█" and text[3][9] == "▄"
    first, second = notation.picture(inputs, {"mean": image})
    pixels = np.asarray(Image.open(io.BytesIO(second.png)))
    assert pixels.shape == (224, 224) and pixels[4 * 8, 5 * 8] == 0 and pixels[0, 0] == 255
    assert "<title>seed 3</title>" in first.svg and "data:image/png;base64," in first.svg


def test_pixels_in_grey_are_refused(small):
    import tensorflow as tf

    task, model = small
    serve = zoo.info("mixture_vae_digits").signatures(model, task)["serve"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels 0 and 1"):
        serve.function(tf.fill((1, 28, 28), 0.5), tf.constant([1]))


# The fit.


def test_the_target_has_the_masses_that_it_says():
    task = trainers.task("four_gaussians")
    line = np.linspace(-7, 7, 281)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype("float32")
    mass = np.exp(np.asarray(task.log_prob(points))) * (line[1] - line[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    right = (points > 0).all(axis=1)
    assert mass[right].sum() == pytest.approx(0.4, abs=0.01)


def test_the_fit_gets_there_with_weight_gradients_and_not_without():
    """From the means of the target, where nothing but the weights is wrong."""
    from ponderzoo.trainers.tasks.four_gaussians import PLACES, WEIGHTS

    task, entry = trainers.task("four_gaussians"), zoo.info("mixture_fit")
    found = {}
    for learns in (True, False):
        keras.utils.set_random_seed(0)
        model = entry.build(task, **{**entry.config, "components": 4, "weight_gradients": learns})
        model.get_layer("means").set_weights([np.reshape([*PLACES.values()], (1, 8))])
        model.get_layer("scales").set_weights([np.full((1, 8), np.log(1.2))])
        stream = task.dataset("train", 256, 150, seed=1)
        model.compile(keras.optimizers.Adam(0.05, global_clipnorm=1.0), {"nats": Own()})
        idle = np.zeros((256, 1), "float32")
        for number in range(150):
            model.train_on_batch(stream[number][0], dict.fromkeys(model.output, idle))
        found[learns] = np.abs(task.masses(model) - WEIGHTS).max()
    assert found[True] < 0.05 and found[False] > 0.1


def test_the_fit_is_drawn_beside_another_with_the_masses_of_quadrants():
    task, entry = trainers.task("four_gaussians"), zoo.info("mixture_fit")
    models = {name: entry.build(task, **entry.config) for name in ("one", "other")}
    panels = task.beside(models)["fit"].axes
    assert [panel.get_title() for panel in panels] == ["to be had", "one", "other"]
    for panel, model in zip(panels[1:], models.values()):
        assert [text.get_text() for text in panel.texts] == [f"{x:.3f}" for x in task.masses(model)]
    assert panels[0].texts[0].get_text() == "0.398"


class Own(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_pred


def test_the_sampler_that_is_served_has_the_jacobian_of_each_coordinate():
    import tensorflow as tf

    entry, task = zoo.info("mixture_fit"), trainers.task("four_gaussians")
    model = small_model("mixture_fit", task)
    draw = entry.signatures(model, task)["draw"]
    found = draw.function(**{k: tf.constant(x) for k, x in draw.sample.items()})
    jacobian = found["jacobian"].numpy()
    assert jacobian.shape == (2, 2, 2)
    np.testing.assert_allclose(jacobian.sum(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(found["responsibilities"].numpy().sum(axis=1), 1, rtol=1e-6)
