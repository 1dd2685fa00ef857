"""Lines of text as images, and the network that reads them level by level."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import ImageFont
from ponderzoo import trainers, zoo
from ponderzoo.layers import Blocks
from ponderzoo.trainers.data import font_lines, glyphs

SMALL = {"units": [2, 3, 4], "features": [2, 3]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    font_lines.sample(folder)
    return str(folder)


def task(root, **config):
    return trainers.task("line_recognition", root=root, **config)


# Blocks.


@pytest.mark.parametrize("sizes", [(4, 6), (5, 7), (1, 1), (0, 3)])
def test_blocks_hold_the_points_of_an_image_and_zeros_beyond_its_border(sizes):
    image = np.random.default_rng(0).random((2, *sizes, 3), "float32")
    found = np.asarray(Blocks(2, 3)(image))
    down, across = -(-sizes[0] // 2), -(-sizes[1] // 3)
    assert found.shape == (2, down, across, 18)
    padded = np.pad(image, [(0, 0), (0, 2 * down - sizes[0]), (0, 3 * across - sizes[1]), (0, 0)])
    for row, column in np.ndindex(down, across):
        block = padded[:, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        np.testing.assert_array_equal(found[:, row, column], block.reshape(2, -1))


def test_blocks_have_sides():
    with pytest.raises(ValueError, match="height must be a whole number from 1 on; got 0"):
        Blocks(0, 2)


# Lines.


@pytest.fixture(scope="module")
def font():
    """The one that Pillow brings."""
    return ImageFont.load_default(font_lines.EM)


def test_lines_are_written_whole_and_never_the_same(font):
    rng = np.random.default_rng(0)
    made = [font_lines.written(font, "Hamburgefonstiv", rng) for _ in range(6)]
    for image in made:
        assert image.dtype == "uint8" and image.shape[0] == 32 and image.max() > 200
        # The pen is nowhere at the left and the right border.
        assert not image[:, [0, -1]].any()
    assert len({image.tobytes() for image in made}) == 6
    longer = font_lines.written(font, "Hamburgefonstiv Hamburgefonstiv", rng)
    assert longer.shape[1] > 1.3 * max(image.shape[1] for image in made)


def test_splits_have_fonts_and_texts_of_their_own(font):
    content = font.path.getvalue()
    texts = {
        split: [" ".join(f"{split}{i} is written here" for i in range(9))]
        for split in font_lines.COUNTS
    }
    fonts = dict.fromkeys(map(str, range(10)), content)
    counts = {"train": 5, "validation": 2, "test": 3}
    made = list(font_lines.lines(fonts, texts, counts))
    assert [glyphs.split_of(line.font) for line in made] == [
        split for split, count in counts.items() for _ in range(count)
    ]
    for line in made:
        assert glyphs.split_of(line.font) in line.text
    again = list(font_lines.lines(fonts, texts, counts))
    assert font_lines.pack(made) == font_lines.pack(again)


def test_lines_come_back_from_their_file(root):
    found = font_lines.load(root)
    assert sum(map(len, found.values())) == 48
    for split, lines in found.items():
        assert lines and {glyphs.split_of(line.font) for line in lines} == {split}
        for line in lines:
            assert line.image.shape[0] == 32 and line.image.shape[1] >= 12 * len(line.text)


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="`ponderzoo data fetch font_lines` makes it"):
        font_lines.load(tmp_path)
    np.savez(os.path.join(tmp_path, "font_lines.npz"), edition=1, pixels=np.zeros((32, 4)))
    with pytest.raises(ValueError, match="no file of lines, or damaged"):
        font_lines.load(tmp_path)
    with pytest.raises(ValueError, match="the font caveat cannot be read"):
        [*font_lines.lines({"caveat": b"no"}, {}, {})]


# The task and the network.


def test_rows_are_lines_with_paper_behind_them(root):
    some = task(root)
    inputs, targets = some.rows(np.arange(4), "test")
    for row, line in enumerate(some.lines("test")[:4]):
        width = line.image.shape[1]
        assert inputs["lengths"][row] == width
        np.testing.assert_allclose(inputs["image"][row, :, :width] * 255, line.image, atol=1e-4)
        assert not inputs["image"][row, :, width:].any()
        assert some.spelled(targets["text"][row]) == line.text
        assert (targets["text"][row, len(line.text) :] == -1).all()


def test_a_line_is_read_the_same_alone_and_beside_longer_ones(root):
    """Subsampling and masks agree: what is behind a line's end does not matter."""
    keras.utils.set_random_seed(0)
    some, model = task(root), zoo.build("mdrnn_lines", **SMALL)
    image = np.random.default_rng(0).random((2, 32, 21), "float32")
    together = np.asarray(model({"image": image, "lengths": np.array([13, 21])})["text"])
    alone = np.asarray(model({"image": image[:1, :, :13], "lengths": np.array([13])})["text"])
    assert alone.shape == (1, 7, some.classes) and together.shape[1] == 11
    np.testing.assert_allclose(together[:1, :7], alone, atol=1e-5)
    assert (together[0, 7:].argmax(axis=-1) == 0).all()


def test_levels_agree(root):
    with pytest.raises(ValueError, match=r"an entry for each level, .* got 3, 2 and 2"):
        zoo.build("mdrnn_lines", units=[2, 3])


def test_what_is_served_reads_what_the_metric_counts(root):
    keras.utils.set_random_seed(1)
    some, model = task(root), zoo.build("mdrnn_lines", **SMALL)
    serve = zoo.info("mdrnn_lines").signatures(model, some)["serve"].function
    inputs, _ = some.rows(np.arange(5), "test")
    found = serve(**{name: tf.constant(x) for name, x in inputs.items()})
    read = some.read({"text": model(inputs)["text"]})
    assert [x.decode() for x in found["text"].numpy()] == [some.spelled(row) for row in read]
    places = found["places"].numpy()
    for text, row, length in zip(found["text"].numpy(), places, inputs["lengths"]):
        assert (row[: len(text)] >= 0).all() and (row < length).all()
    with pytest.raises(tf.errors.InvalidArgumentError, match="lengths must be 0 to"):
        serve(tf.zeros((1, 32, 4)), tf.constant([5]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 2000 columns"):
        serve(tf.zeros((1, 32, 2001)), tf.constant([5]))
