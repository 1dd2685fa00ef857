"""Associative Compression Networks: the store of codes, what a neighbour tells, and the machine."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import AssociativePrior, CodeStore
from ponderzoo.trainers import _probe
from ponderzoo.trainers._evaluate import outputs_of, telling
from ponderzoo.trainers._probe import linear_probe_error, principal_components
from ponderzoo.trainers.tasks._images import importance_weighted

COUNT, SIZE = 40, 3


def store_of(neighbours=5, dtype="float64", **more):
    keras.utils.set_random_seed(0)
    store = CodeStore(COUNT, neighbours, dtype=dtype, **more)
    store.build((None, SIZE))
    return store, np.array(store.codes)


def codes_of(batch, dtype="float64"):
    return np.random.default_rng(1).normal(size=(batch, SIZE)).astype(dtype)


# The store.


@pytest.mark.parametrize("index", [None, [3, -1, 39, 0]])
def test_the_nearest_codes_are_those_of_brute_force_but_for_the_items_own(index):
    store, known = store_of()
    code = codes_of(4)
    if index:
        code[0] = known[3]  # which would be nearest to itself
    found, far = store.nearest(code, 6, None if index is None else np.array(index))
    distance = np.square(code[:, None] - known).sum(axis=2)
    for row, own in enumerate(index or [-1] * 4):
        if own >= 0:
            distance[row, own] = np.inf
    order = distance.argsort(axis=1)[:, :6]
    np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(far, np.take_along_axis(distance, order, axis=1), atol=1e-12)


def test_all_neighbours_are_picked_as_often_and_no_other():
    store, _ = store_of(neighbours=4)
    rows = 2000
    code = np.repeat(codes_of(1), rows, axis=0)
    found = store(code, np.full(rows, -1), np.arange(rows))
    picked, often = np.unique(found["number"], return_counts=True)
    nearest, _ = store.nearest(code[:1], 4)
    np.testing.assert_array_equal(picked, np.sort(nearest[0]))
    assert scipy.stats.chisquare(often).pvalue > 1e-3


def test_without_a_code_all_items_are_picked():
    store, known = store_of()
    found = store(seed=np.arange(5000))
    number = np.array(found["number"])
    assert scipy.stats.chisquare(np.bincount(number, minlength=COUNT)).pvalue > 1e-3
    np.testing.assert_array_equal(found["neighbour"], known[number])


def test_codes_are_kept_behind_the_search_in_training_alone():
    store, known = store_of(neighbours=1)
    code, index = codes_of(3), np.array([7, -1, 0])
    before = store(code, index, np.arange(3))
    np.testing.assert_array_equal(store.codes, known)
    found = store(code, index, np.arange(3), training=True)
    np.testing.assert_array_equal(found["neighbour"], before["neighbour"])
    expected = known.copy()
    expected[[7, 0]] = code[[0, 2]]
    np.testing.assert_allclose(store.codes, expected)


def test_no_gradient_flows_through_the_neighbour_or_into_the_store():
    store, _ = store_of()
    code = tf.constant(codes_of(3))
    with tf.GradientTape() as tape:
        tape.watch([code, store.codes.value])
        found = store(code, np.array([0, 1, -1]), np.arange(3), training=True)
        total = tf.reduce_sum(found["neighbour"])
    assert tape.gradient(total, [code, store.codes.value]) == [None, None]


def test_what_all_items_make_of_a_sample_is_a_mixture_of_unit_gaussians():
    store, known = store_of()
    sample = tf.constant(5 * codes_of(4))
    with tf.GradientTape() as tape:
        tape.watch(sample)
        found = store.log_density(sample)
    each = scipy.stats.norm.logpdf(sample.numpy()[:, None], known).sum(axis=2)
    expected = scipy.special.logsumexp(each, axis=1) - np.log(COUNT)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    weights = scipy.special.softmax(each, axis=1)
    moved = weights @ known - sample
    np.testing.assert_allclose(tape.gradient(found, sample), moved, rtol=1e-10)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_an_item_is_picked_once_where_a_set_is_sent_in_one_order(jit_compile):
    store, known = store_of(neighbours=2)
    pick = tf.function(
        lambda code, seed, used: store(code, seed, seed, used=used), jit_compile=jit_compile
    )
    used, expected = tf.zeros(COUNT, "bool"), np.zeros(COUNT, bool)
    for start in range(0, 36, 12):
        index = np.arange(start, start + 12, dtype="int32")
        found = pick(tf.constant(known[index]), index, used)
        used = found["used"]
        for own, number in zip(index, found["number"].numpy()):
            distance = np.square(known[own] - known).sum(axis=1)
            distance[expected | (np.arange(COUNT) == own)] = np.inf
            assert number in distance.argsort()[:2]
            expected[number] = True
        np.testing.assert_array_equal(used, expected)
    assert expected.sum() == 36


def test_codes_in_half_precision_are_found_all_the_same():
    store, _ = store_of(code_dtype="float16", dtype="float32")
    assert store.codes.dtype == "float16"
    code, index = codes_of(3, "float32"), np.array([5, 6, 7])
    store(code, index, np.arange(3), training=True)
    found, far = store.nearest(code, 1)
    np.testing.assert_array_equal(found[:, 0], index)
    assert np.max(far) < 1e-5


def test_a_store_learns_in_graphs_under_xla_and_keeps_its_codes_in_a_file(tmp_path):
    code = keras.Input((SIZE,), name="code")
    index = keras.Input((), dtype="int32", name="index")
    seed = keras.Input((), dtype="int32", name="seed")
    store = CodeStore(COUNT, name="store")
    given = {"code": code, "index": index, "seed": seed}
    found = store(keras.layers.Dense(SIZE)(code), index, seed)
    model = keras.Model(given, keras.layers.Dense(1)(found["neighbour"]))
    model.compile("sgd", "mse", jit_compile=True)
    index = np.arange(8, dtype="int32")
    before = np.array(store.codes)
    model.fit(
        {"code": codes_of(8, "float32"), "index": index, "seed": index}, np.zeros(8), verbose=0
    )
    assert (np.any(store.codes != before, axis=1) == (np.arange(COUNT) < 8)).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").get_layer("store")
    np.testing.assert_array_equal(again.codes, store.codes)


@pytest.mark.parametrize("batch", [0, 1])
def test_a_store_is_asked_for_few_codes(batch):
    store, _ = store_of()
    code = codes_of(batch)
    found = store(code, np.arange(batch), np.arange(batch), code, training=True)
    assert found["neighbour"].shape == (batch, SIZE)
    assert found["number"].shape == found["log_density"].shape == (batch,)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: CodeStore(1), "count must be a whole number from 2 on; got 1"),
        (lambda: CodeStore(5, 0), "neighbours must be a whole number from 1 on; got 0"),
        (lambda: CodeStore(5, 5), "5 items have at most 4 neighbours; got 5"),
        (lambda: CodeStore(9).build((2, None)), "codes .batch, size. of known size; got"),
        (lambda: AssociativePrior(0), "units must be a whole number from 1 on; got 0"),
        (lambda: AssociativePrior(components=0), "components must be a whole number"),
        (lambda: AssociativePrior(least_deviation=0), "least_deviation must be above 0; got 0"),
        (lambda: AssociativePrior().build((3,)), "codes .batch, size. of known size; got"),
    ],
)
def test_arguments_that_mean_nothing_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# What a neighbour tells.


def prior_of(components=2, size=SIZE):
    keras.utils.set_random_seed(0)
    prior = AssociativePrior(16, components, dtype="float64")
    prior.build((None, size))
    return prior


def test_the_density_beside_a_neighbour_sums_to_one():
    prior = prior_of(size=1)
    grid = np.linspace(-20, 20, 20_001)
    neighbour = np.full((len(grid), 1), 0.7)
    _, log_density = prior(neighbour, grid[:, None])
    assert np.trapezoid(np.exp(log_density), grid) == pytest.approx(1, abs=1e-9)


def test_dimensions_are_independent_given_the_neighbour():
    prior = prior_of()
    neighbour, sample = codes_of(2), codes_of(2)[::-1]
    log_weights, mean, deviation = (np.array(x) for x in prior.parameters(neighbour))
    each = scipy.stats.norm.logpdf(sample[:, :, None], mean, deviation)
    each = each + scipy.special.log_softmax(log_weights, axis=2)
    expected = scipy.special.logsumexp(each, axis=2).sum(axis=1)
    np.testing.assert_allclose(prior(neighbour, sample)[1], expected, rtol=1e-12)


def test_samples_beside_a_neighbour_have_its_density():
    prior, rows = prior_of(size=1), 5000
    neighbour = np.full((rows, 1), 0.7)
    sample, _ = prior(neighbour, seed=np.arange(rows))
    log_weights, mean, deviation = (np.array(x)[0, 0] for x in prior.parameters(neighbour[:1]))
    weights = scipy.special.softmax(log_weights)

    def cdf(x):
        return scipy.stats.norm.cdf(x[:, None], mean, deviation) @ weights

    assert scipy.stats.kstest(np.ravel(sample), cdf).pvalue > 1e-3


def test_one_sample_costs_the_nats_of_the_closed_form_on_average():
    """With one component the card's section 2 has KL(q || p) without a sample."""
    prior, rows = prior_of(components=1), 200_000
    code = codes_of(1)
    neighbour = np.repeat(codes_of(2)[1:], rows, axis=0)
    sample = code + np.random.default_rng(2).normal(size=(rows, SIZE))
    own = scipy.stats.norm.logpdf(sample - code).sum(axis=1)
    nats = own - prior(neighbour, sample)[1]
    _, mean, deviation = (np.array(x)[0, :, 0] for x in prior.parameters(neighbour[:1]))
    closed = np.log(deviation) + (1 + np.square(code - mean)) / (2 * deviation**2) - 0.5
    error = np.std(nats) / np.sqrt(rows)
    assert np.mean(nats) == pytest.approx(closed.sum(), abs=5 * error)


def test_a_code_costs_less_beside_one_like_it_than_alone():
    """The claim of the paper, on codes that lie in 6 heaps: log 6 = 1.8 nats say which one."""
    rng = np.random.default_rng(0)
    angles = np.pi * np.arange(6) / 3
    heaps = 8 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    codes = np.repeat(heaps, 30, axis=0) + 0.2 * rng.normal(size=(180, 2))
    keras.utils.set_random_seed(0)
    store, prior = CodeStore(len(codes), dtype="float64"), AssociativePrior(32, dtype="float64")
    store.build(codes.shape)
    store.codes.assign(codes)
    prior.build(codes.shape)
    optimizer, index = keras.optimizers.Adam(1e-2), tf.range(len(codes))
    optimizer.build(prior.trainable_variables)

    @tf.function(jit_compile=True)
    def step(noise, seed):
        sample = codes + noise
        own = tf.reduce_sum(-tf.square(noise) - np.log(2 * np.pi), axis=1) / 2
        found = store(codes, index, seed, sample)
        with tf.GradientTape() as tape:
            nats = tf.reduce_mean(own - prior(found["neighbour"], sample)[1])
        variables = prior.trainable_variables
        optimizer.apply(tape.gradient(nats, variables), variables)
        return nats, tf.reduce_mean(own - found["log_density"])

    some = [step(rng.normal(size=codes.shape), index + 180 * i) for i in range(500)]
    beside, alone = np.mean(some[-50:], axis=0)
    assert alone == pytest.approx(np.log(6), abs=0.2)
    assert beside < alone - 1.2


# The machine.

SMALL = {
    "code_size": 3,
    "neighbours": 4,
    "prior_units": 8,
    "filters": 4,
    "layers": 0,
    "units": 4,
    "maps": 2,
}


@pytest.fixture
def small(few_digits):
    """A task of few images, and machines for it by settings."""
    task = trainers.task("numbered_digits", root=few_digits, items=8, samples=20, images=4)

    def build(**changes):
        keras.utils.set_random_seed(0)
        return zoo.info("acn_digits").build(task, **{**SMALL, **changes})

    return task, build


def test_images_of_training_alone_have_numbers(small):
    task, _ = small
    assert task.examples() == 8
    rng = np.random.default_rng(0)
    image, index = (task.batch(rng, 6)[0][name] for name in ("image", "index"))
    assert image.shape == (6, 28, 28) and index.dtype == np.int32
    assert index.min() >= 0 and index.max() < 8
    for split in ("validation", "test"):
        assert (task.rows(np.arange(2), split)[0]["index"] == -1).all()
    np.testing.assert_array_equal(task.rows(np.array([5, 2]), "train")[0]["index"], [5, 2])


@pytest.mark.parametrize("neighbours", [0, 4])
def test_the_nats_are_those_of_pixels_and_code(small, neighbours):
    task, build = small
    model = build(neighbours=neighbours)
    found = outputs_of(model, task.rows(np.arange(4), "test")[0])
    np.testing.assert_allclose(found["nats"], found["reconstruction"] + found["kl"], rtol=1e-6)
    if neighbours:
        assert ((found["neighbour"] >= 0) & (found["neighbour"] < 8)).all()
        np.testing.assert_allclose(found["log_weight"], -found["nats"], rtol=1e-5)
    else:
        np.testing.assert_array_equal(found["unordered_nats"], found["nats"])


def test_importance_makes_the_bound_of_the_plain_autoencoder_tighter(small):
    task, build = small
    model, inputs = build(neighbours=0), task.rows(np.arange(4), "test")[0]
    rng = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    one, many = (importance_weighted(model, inputs, samples).mean() for samples in (1, 50))
    assert many < one


def test_a_machine_learns_few_images_and_keeps_their_codes(small):
    task, build = small
    model = build()
    model.compile(keras.optimizers.Adam(3e-3))
    inputs, _ = task.rows(np.tile(np.arange(8), 8), "train")
    tensors = {name: tf.constant(x) for name, x in inputs.items()}
    start = outputs_of(model, inputs)["nats"].mean()

    @tf.function(jit_compile=True)
    def step(seed):
        with tf.GradientTape() as tape:
            nats = tf.reduce_mean(model({**tensors, "seed": seed}, training=True)["nats"])
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(nats, variables), variables)
        return nats

    model.optimizer.build(model.trainable_variables)
    for number in range(200):
        step(tf.range(64) + 64 * number)
    found = outputs_of(model, inputs)
    assert found["nats"].mean() < 0.7 * start
    model({**tensors, "seed": tf.range(64)}, training=True)
    stored = model.get_layer("store").codes
    np.testing.assert_allclose(stored, found["code"][:8], rtol=1e-3)


def test_codes_are_probed_by_a_linear_classifier():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 600)
    corners = np.array([[0, 0], [6, 0], [0, 6]])
    codes = corners[classes] + rng.normal(size=(600, 2))
    error = linear_probe_error(codes[:400], classes[:400], codes[400:], classes[400:])
    assert error < 0.03


def test_principal_components_hold_the_most_variance():
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(200, 4)) * [1, 5, 3, 0.1])[:, :, None]
    parts, test = principal_components(images, images[:3], 2)
    assert parts.var(axis=0) == pytest.approx([25, 9], rel=0.3)
    np.testing.assert_allclose(test, parts[:3], atol=1e-5)


def test_the_report_and_the_figures_tell_codes_neighbours_and_dreams(small, monkeypatch):
    monkeypatch.setattr(_probe, "UPDATES", 50)
    task, build = small
    for neighbours in (4, 0):
        model = build(neighbours=neighbours)
        report, figures = task.report(model), task.figures(model)
        assert set(report) == {"importance", "probe"}
        assert 0 <= report["probe"]["codes_error"] <= 1
        assert {"reconstructions", "samples", "nearest"} <= set(figures)
        assert (neighbours > 0) == ({"dreams", "neighbours"} <= set(figures))


# What it serves.


@pytest.fixture
def served(small):
    task, build = small
    model = build(layers=1)
    return task, model, zoo.info("acn_digits").signatures(model, task)


def test_an_encoded_image_has_its_code_and_those_next_to_it(served):
    task, model, signatures = served
    inputs, _ = task.rows(np.arange(2), "test")
    found = signatures["encode"].function(tf.constant(inputs["image"]))
    codes = outputs_of(telling(model, "code"), inputs)["code"]
    np.testing.assert_allclose(found["code"], codes, atol=1e-5)
    known = np.float32(model.get_layer("store").codes)
    distance = np.linalg.norm(codes[:, None] - known, axis=2)
    np.testing.assert_array_equal(found["neighbours"], distance.argsort(axis=1)[:, :5])
    np.testing.assert_allclose(found["distances"], np.sort(distance, axis=1)[:, :5], rtol=1e-3)


def test_a_dream_goes_from_image_to_image_by_its_seed_alone(served):
    task, model, signatures = served
    image = tf.constant(task.rows(np.arange(2), "test")[0]["image"])
    dream = tf.function(signatures["daydream"].function)
    found = dream(image, tf.constant([3, 1]), tf.constant([5, 6]))
    frames, codes = found["frames"].numpy(), found["codes"].numpy()
    assert frames.shape == (2, 4, 28, 28) and codes.shape == (2, 3, 3)
    np.testing.assert_array_equal(frames[:, 0], image)
    assert (frames[0, 1] != frames[0, 2]).any()
    np.testing.assert_array_equal(frames[1, 1], frames[1, 3])
    np.testing.assert_allclose(codes[0, 2], model.get_layer("encoder")(frames[:1, 2])[0], atol=1e-4)
    alone = dream(image[1:], tf.constant([2]), tf.constant([6]))["frames"]
    np.testing.assert_array_equal(alone[0, :2], frames[1, :2])


@pytest.mark.parametrize("steps", [0, 9])
def test_dreams_of_no_such_length_are_refused(served, steps):
    task, _, signatures = served
    image = tf.constant(task.rows(np.arange(1), "test")[0]["image"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="steps must be 1 to 8, got"):
        tf.function(signatures["daydream"].function)(image, tf.constant([steps]), tf.constant([5]))
