"""Digits somewhere in a larger image."""

import numpy as np
import pytest
from ponderzoo import trainers


def task(root, **config):
    return trainers.task("cluttered_digits", root=root, **config)


def test_a_digit_is_whole_and_anywhere_where_there_are_no_pieces(few_digits):
    plain = task(few_digits, size=40, pieces=0)
    inputs, targets = plain.batch(np.random.default_rng(0), 400)
    images, digits = plain.images()
    known = {image.tobytes(): digit for image, digit in zip(images, digits)}
    places = set()
    for image, digit in zip(inputs["image"], targets["digit"]):
        rows, columns = np.nonzero(image)
        found = [
            (down, right)
            for down in range(max(0, rows.max() - 27), min(rows.min(), 12) + 1)
            for right in range(max(0, columns.max() - 27), min(columns.min(), 12) + 1)
            if known.get(
                np.rint(255 * image[down : down + 28, right : right + 28]).astype("uint8").tobytes()
            )
            == digit
        ]
        assert found
        places.update(found)
    assert {0, 12} <= {down for down, _ in places} and {0, 12} <= {right for _, right in places}


def test_pieces_add_ink_and_take_none_away(few_digits):
    chosen, images = np.arange(40), task(few_digits).images()[0]
    alone = task(few_digits, pieces=0).cluttered(images, chosen, np.random.default_rng(3))
    among = task(few_digits, pieces=4).cluttered(images, chosen, np.random.default_rng(3))
    assert np.all(among >= alone) and np.mean(np.any(among > alone, axis=(1, 2))) > 0.9
    # A piece is 8 by 8 pixels.
    one = task(few_digits, pieces=1).cluttered(images, chosen, np.random.default_rng(3))
    for more, less in zip(one, alone):
        rows, columns = np.nonzero(more > less)
        assert not len(rows) or max(np.ptp(rows), np.ptp(columns)) < 8


@pytest.mark.parametrize("size, pieces", [(60, 4), (100, 8)])
def test_the_papers_settings_have_so_many_pieces_anywhere(few_digits, size, pieces):
    """Each piece more adds ink within 8 by 8 pixels, about as often here as there."""
    chosen, images = np.tile(np.arange(40), 5), task(few_digits).images()[0]
    middles = []
    for number in range(1, pieces + 1):
        less, more = (
            task(few_digits, size=size, pieces=count).cluttered(
                images, chosen, np.random.default_rng(5)
            )
            for count in (number - 1, number)
        )
        added = more > less
        assert more.shape == (len(chosen), size, size) and added.any(axis=(1, 2)).mean() > 0.9
        for image in added[added.any(axis=(1, 2))]:
            rows, columns = np.nonzero(image)
            assert max(np.ptp(rows), np.ptp(columns)) < 8
            middles.append((rows.mean() / size, columns.mean() / size))
    assert np.abs(np.mean(middles, axis=0) - 0.5).max() < 0.05
    assert np.abs(np.std(middles, axis=0) - (1 - 8 / size) / np.sqrt(12)).max() < 0.03
    inputs, _ = task(few_digits, size=size, pieces=pieces).batch(np.random.default_rng(0), 2)
    assert inputs["image"].shape == (2, size, size) and inputs["image"].max() <= 1


def test_test_images_are_always_the_same_and_training_never(few_digits):
    some = task(few_digits, size=30, pieces=2)
    for split in ("validation", "test"):
        first, again = (some.dataset(split, 4, 3, seed)[1] for seed in (0, 0))
        np.testing.assert_array_equal(first[0]["image"], again[0]["image"])
    rows = np.arange(5)
    np.testing.assert_array_equal(
        some.rows(rows, "test")[0]["image"],
        task(few_digits, size=30, pieces=2).rows(rows, "test")[0]["image"],
    )
    stream = some.dataset("train", 4, 3)
    assert np.any(stream[0][0]["image"] != stream[1][0]["image"])
    assert some.batch(np.random.default_rng(0), 3)[0]["image"].shape == (3, 30, 30)


@pytest.mark.parametrize("config, words", [({"size": 27}, "28 by 28 pixels; got a size of 27")])
def test_a_square_holds_a_digit(few_digits, config, words):
    with pytest.raises(ValueError, match=words):
        task(few_digits, **config)
