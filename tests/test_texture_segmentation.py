"""Pictures by POV-Ray whose pixels are labelled with their textures."""

import os
import stat
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.trainers.data import ray_traced


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    ray_traced.sample(folder)
    return str(folder)


def task(root, **config):
    return trainers.task("texture_segmentation", root=root, **config)


def test_there_are_as_many_textures_as_in_the_paper():
    assert len(set(ray_traced.TEXTURES)) == len(ray_traced.TEXTURES) == 155
    assert ray_traced.COUNTS == {"train": 250, "validation": 55, "test": 150}


def test_a_scene_has_floor_wall_and_things_and_is_always_the_same():
    scenes = [ray_traced.scene(number) for number in range(20)]
    assert scenes == [ray_traced.scene(number) for number in range(20)]
    assert len(set(scenes)) == 20
    for scene in scenes:
        assert scene.count("plane {") == 2 and 8 <= scene.count("#if (Labels)") <= 14
        assert scene.count("{") == scene.count("}")
    every = "".join(ray_traced.scene(number) for number in range(455))
    assert all(f"rgb <{number}/255, 0, 0>" in every for number in range(1, 156))


POVRAY = """#!{python}
import sys
import numpy as np
from PIL import Image
told = {part[:2]: part[2:] for part in sys.argv if part[0] == "+"}
assert "#if (Labels)" in open(told["+I"]).read()
value = 7 if "Declare=Labels=1" in sys.argv else 200
Image.fromarray(np.full((int(told["+H"]), int(told["+W"]), 3), value, "uint8")).save(told["+O"])
"""


def test_a_picture_is_drawn_twice_with_light_and_with_labels(tmp_path):
    program = tmp_path / "usr" / "bin" / "povray"
    os.makedirs(program.parent)
    program.write_text(POVRAY.replace("{python}", sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    picture, labels = ray_traced.drawn(tmp_path, ray_traced.scene(0), tmp_path)
    assert picture.shape == (120, 160, 3) and (picture == 200).all()
    assert labels.shape == (120, 160) and (labels == 6).all()


def test_pictures_come_back_from_their_file(root, tmp_path):
    found = ray_traced.load(root)
    assert {split: len(x) for split, (x, _) in found.items()} == {
        "train": 9,
        "validation": 2,
        "test": 7,
    }
    for pictures, labels in found.values():
        assert pictures.shape == (*labels.shape, 3) and labels.max() < 155
    with pytest.raises(FileNotFoundError, match="`ponderzoo data fetch ray_traced` makes it"):
        ray_traced.load(tmp_path)
    np.savez(tmp_path / "ray_traced.npz", edition=1, pictures=np.zeros((2, 3)), labels=np.ones(2))
    with pytest.raises(ValueError, match="no file of pictures, or damaged"):
        ray_traced.load(tmp_path)


def test_pieces_are_cut_out_of_picture_and_labels_alike(root):
    some = task(root, piece=7)
    inputs, targets = some.batch(np.random.default_rng(0), 12)
    whole, labels = some.rows(np.arange(some.examples()))
    assert inputs["image"].shape == (12, 7, 7, 3) and targets["label"].shape == (12, 7, 7)
    for image, label in zip(inputs["image"], targets["label"]):
        assert any(
            np.array_equal(image, picture[y : y + 7, x : x + 7])
            and np.array_equal(label, truth[y : y + 7, x : x + 7])
            for picture, truth in zip(whole["image"], labels["label"])
            for y in range(24 - 6)
            for x in range(20 - 6)
        )
    assert some.batch(np.random.default_rng(0), 2, split="test")[0]["image"].shape == (2, 24, 20, 3)
    large = task(root, piece=100).batch(np.random.default_rng(0), 2)
    assert large[0]["image"].shape == (2, 24, 20, 3)


def test_the_network_of_the_paper_has_as_many_weights():
    """43,055 with 155 textures, which is what the card counts beside the paper's 43,257."""
    assert zoo.build("mdrnn_textures").count_params() == 43_055


def test_pictures_of_any_size_are_served_up_to_a_bound(root):
    keras.utils.set_random_seed(0)
    some, model = task(root), zoo.build("mdrnn_textures", units=2)
    serve = zoo.info("mdrnn_textures").signatures(model, some)["serve"].function
    image = np.random.default_rng(0).random((2, 5, 9, 3), "float32")
    logits = np.asarray(model({"image": image})["label"])
    found = serve(tf.constant(image))
    np.testing.assert_array_equal(found["label"], logits.argmax(axis=-1))
    expected = np.exp(logits).max(axis=-1) / np.exp(logits).sum(axis=-1)
    np.testing.assert_allclose(found["certainty"], expected, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="200000 pixels or fewer"):
        serve(tf.zeros((1, 1000, 201, 3)))
