"""The Gated PixelCNN, by what each of its numbers depends on, and a pixel at a time."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import GatedPixelCNN, _chance

SHAPES = {"grey": (5, 4), "colours": (4, 4, 3)}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def layer_of(
    shape, size=3, levels=2, dtype="float64", condition=None, maps=None, wide=1, **options
):
    """A layer whose weights are all of chance, none zero."""
    layer = GatedPixelCNN(6 * wide, 3, size, size, 12 * wide, levels, dtype=dtype, **options)
    layer.build(
        (None, *shape),
        None if condition is None else (None, condition),
        None if maps is None else (None, *shape[:2], maps),
    )
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(0.7 / wide * rng.normal(size=weight.shape))
    return layer


def images(shape, levels=2, batch=2):
    return np.random.default_rng(2).integers(0, levels, (batch, *shape))


def log_probabilities(layer, image, *given):
    """By a whole pass, of all levels of the image."""
    logits = tf.cast(layer(image, *given), tf.float64)
    if layer.levels == 2:
        logits = tf.stack([tf.zeros_like(logits), logits], axis=-1)
    return np.take_along_axis(
        tf.nn.log_softmax(logits).numpy(), image[..., None].astype(int), axis=-1
    )[..., 0]


@each_shape
@pytest.mark.parametrize("size", [3, 5, 7])
def test_all_that_comes_before_is_seen_and_nothing_else(shape, size):
    moved, count = influence(layer_of(shape, size, wide=4), shape), np.prod(shape)
    np.testing.assert_array_equal(moved, np.triu(np.ones((count, count)), 1))


def test_colours_that_are_apart_see_all_of_the_pixels_before_and_none_of_their_own():
    shape = SHAPES["colours"]
    moved = influence(layer_of(shape, wide=4, joint_colours=False), shape)
    count = np.prod(shape[:2])
    expected = np.kron(np.triu(np.ones((count, count)), 1), np.ones((3, 3)))
    np.testing.assert_array_equal(moved, expected)


def influence(layer, shape):
    """Which number of an image moves which logit, of any of eight images."""
    count = np.prod(shape)
    image = images(shape, batch=8)[:, None]
    flip = np.eye(count, dtype=int).reshape(1, count, *shape)
    changed = np.abs(image - flip).reshape(-1, *shape)
    moved = layer(changed).numpy().reshape(8, count, count) - layer(image[:, 0]).numpy().reshape(
        8, 1, count
    )
    # By a flip of the first, the second; a unit may be off for one image.
    return np.any(np.abs(moved) > 1e-12, axis=0)


@each_shape
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_pixel_at_a_time_gives_the_numbers_of_a_whole_pass(shape, size, dtype, most):
    layer, image = layer_of(shape, size, 3, dtype), images(shape, 3)
    whole = np.full(2, np.prod(shape[:2]))
    found, logp = layer.generate(np.arange(2), image=image, known=whole)
    np.testing.assert_array_equal(found, image)
    np.testing.assert_allclose(logp, log_probabilities(layer, image), rtol=most, atol=most)


@pytest.mark.parametrize(
    ("shape", "levels", "condition", "maps"),
    [((3, 4), 2, None, None), ((3, 2, 3), 4, 5, None), ((2, 3), 3, 2, 3), ((3, 3), 2, None, 1)],
)
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_images_are_those_of_whole_passes_by_the_same_chance(shape, levels, condition, maps, jit):
    layer, rng = (
        layer_of(shape, 3, levels, condition=condition, maps=maps),
        np.random.default_rng(3),
    )
    given = [None if condition is None else tf.constant(rng.normal(size=(2, condition)))]
    given += [None if maps is None else tf.constant(rng.normal(size=(2, *shape[:2], maps)))]
    seed, temperature = np.array([3, 4]), np.array([1.0, 0.5])
    start, known = images(shape, levels), np.array([2, 0])
    run = tf.function(
        lambda *more: layer.generate(seed, *given, *more), jit_compile=jit, autograph=False
    )
    found, logp = run(start, known, temperature)
    size = (*shape, 1)[:3]
    uniform = _chance.uniform(seed, size, dtype="float64").numpy()
    image = np.zeros((2, *size), int)
    for number, place in enumerate(np.ndindex(size)):
        for row in range(2):
            if number // size[2] < known[row]:
                image[row][place] = start.reshape(-1, *size)[row][place]
                continue
            logits = layer(image.reshape(-1, *shape), *given).numpy().reshape(2, *size, -1)[row]
            logits = logits[place] / temperature[row]
            odds = np.exp([0, *logits] if levels == 2 else logits)
            enough = np.cumsum(odds) >= uniform[row][place] * odds.sum()
            image[row][place] = np.argmax(enough)
    np.testing.assert_array_equal(found, image.reshape(-1, *shape))
    expected = log_probabilities(layer, found.numpy(), *given)
    np.testing.assert_allclose(logp, expected, rtol=1e-12, atol=1e-12)


def test_an_image_of_colours_apart_costs_what_a_whole_pass_says():
    layer = layer_of((3, 2, 3), levels=4, joint_colours=False)
    image, logp = layer.generate(np.arange(4))
    expected = log_probabilities(layer, image.numpy())
    np.testing.assert_allclose(logp, expected, rtol=1e-12, atol=1e-12)


def test_an_image_depends_on_its_seed_alone():
    layer = layer_of((3, 4))
    many, _ = layer.generate(np.array([5, 6, 7, 5]))
    alone, _ = layer.generate(np.array([7]))
    np.testing.assert_array_equal(many[2], alone[0])
    np.testing.assert_array_equal(many[0], many[3])
    assert np.any(many[0] != many[1])


def test_a_call_with_a_seed_gives_the_images_that_it_makes():
    layer, seed, image, known = layer_of((3, 4)), np.arange(2), images((3, 4)), np.array([5, 0])
    np.testing.assert_array_equal(layer(None, seed=seed), layer.generate(seed)[0])
    made, _ = layer.generate(seed, image=image, known=known)
    np.testing.assert_array_equal(layer(image, seed=seed, known=known), made)
    np.testing.assert_array_equal(layer(image, seed=seed), layer(None, seed=seed))


def test_without_heat_the_most_probable_level_is_taken():
    layer = layer_of((3, 4), levels=4)
    image, _ = layer.generate(np.arange(2), temperature=np.zeros(2))
    np.testing.assert_array_equal(image, np.argmax(layer(image), axis=-1))


def test_probabilities_of_all_images_sum_to_one():
    layer = layer_of((2, 2), levels=3)
    every = np.array(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2)
    total = np.exp(log_probabilities(layer, every).sum(axis=(1, 2))).sum()
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_a_class_and_maps_shift_every_place():
    layer = layer_of((4, 4), condition=2, maps=3, wide=4)
    rng = np.random.default_rng(0)
    image, condition, maps = images((4, 4)), rng.normal(size=(2, 2)), rng.normal(size=(2, 4, 4, 3))
    before = layer(image, condition, maps).numpy()
    assert np.all(layer(image, condition + 1, maps).numpy() != before)
    nudged = maps.copy()
    nudged[:, 1, 2] += 1
    moved = layer(image, condition, nudged).numpy() != before
    # Maps are known beforehand: a place sees them where it stands, and where what it sees stands.
    assert moved[:, 1, 2].all() and moved[:, 2:].any() and not moved[:, :1].any()


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
@each_shape
def test_float32_is_near_float64(shape, jit):
    found = []
    for dtype in ("float64", "float32"):
        layer, image = layer_of(shape, 3, 3, dtype), images(shape, 3)

        def run(layer=layer, image=image):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.nn.log_softmax(layer(image))[..., 0])
            weights = [v.value for v in layer.trainable_variables]
            return loss, tape.gradient(loss, weights)

        if jit is not None:
            run = tf.function(run, jit_compile=jit, autograph=False)
        loss, gradients = run()
        found.append([loss, *gradients])
    for a, b in zip(*found):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-5 * np.abs(a).max())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd; got 4"),
        ({"levels": 1}, "levels must be a whole number from 2 on; got 1"),
        ({"filters": 4}, "filters must be a multiple of the 3 colours; got 4"),
        ({"head": 7}, "head must be a multiple of the 3 colours; got 7"),
    ],
)
def test_what_cannot_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        GatedPixelCNN(**{"filters": 6, "layers": 2, "head": 6, **wrong}).build((None, 4, 4, 3))


def test_other_arguments_than_it_was_built_for_are_told():
    with pytest.raises(ValueError, match="needs images of known size"):
        GatedPixelCNN(2, 2).build((None, None, 4))
    layer = layer_of((3, 3), condition=2)
    with pytest.raises(ValueError, match="this layer was built for a condition and no map"):
        layer(images((3, 3)))
    with pytest.raises(ValueError, match="call it on an image first"):
        GatedPixelCNN(2, 2).generate(np.arange(2))


def test_it_comes_back_from_a_file(tmp_path):
    image = keras.Input((4, 3), dtype="int32")
    condition = keras.Input((5,))
    model = keras.Model([image, condition], GatedPixelCNN(4, 2, name="pixels")(image, condition))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    given = [images((4, 3)), np.ones((2, 5), "float32")]
    np.testing.assert_allclose(again(given), model(given), rtol=1e-6)
    first, _ = model.get_layer("pixels").generate(np.arange(2), given[1])
    np.testing.assert_array_equal(
        again.get_layer("pixels").generate(np.arange(2), given[1])[0], first
    )
