"""The Kanerva memory against Gaussians conditioned by brute force, and the machine around it."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import (
    GaussianSample,
    KanervaMemory,
    RolledNoise,
    _chance,
    kanerva_root,
    kanerva_write,
    kanerva_write_one,
)
from ponderzoo.trainers._evaluate import outputs_of, telling
from ponderzoo.trainers.tasks._images import by_class, importance_weighted
from ponderzoo.zoo.kanerva import load_memory, save_memory
from small import small_model, small_task

SLOTS, CODE, NOISE = 4, 3, 0.7
each_length = pytest.mark.parametrize("length", [1, 2, 7])


def memory_of(rng, batch=2, slots=SLOTS, code=CODE):
    """Means and covariances of chance, these positive and not diagonal."""
    half = rng.normal(size=(batch, slots, slots))
    covariance = half @ half.swapaxes(1, 2) / slots + 0.5 * np.eye(slots)
    return rng.normal(size=(batch, slots, code)), covariance


def episode_of(rng, length, batch=2, slots=SLOTS, code=CODE):
    return rng.normal(size=(batch, length, slots)), rng.normal(size=(batch, length, code))


def conditioned(mean, covariance, weights, codes):
    """vec(M) given all codes, as one Gaussian of so many numbers, by its blocks (one row)."""
    slots, size = mean.shape
    whole = np.kron(np.eye(size), covariance)  # of the columns of M, one below the other
    seen = np.kron(np.eye(size), weights)
    gain = whole @ seen.T @ np.linalg.inv(seen @ whole @ seen.T + NOISE**2 * np.eye(len(seen)))
    flat = mean.T.ravel()
    flat = flat + gain @ (codes.T.ravel() - seen @ flat)
    return flat.reshape(size, slots).T, whole - gain @ seen @ whole


def one_by_one(mean, covariance, weights, codes):
    for t in range(weights.shape[1]):
        mean, covariance = kanerva_write_one(mean, covariance, weights[:, t], codes[:, t], NOISE)
    return mean, covariance


def at_once(*given):
    return kanerva_write(*given, NOISE)


WRITES = pytest.mark.parametrize("write", [at_once, one_by_one])


# Writing.


@WRITES
@each_length
def test_writing_conditions_the_gaussian_of_all_numbers_of_the_memory(write, length):
    rng = np.random.default_rng(0)
    given = *memory_of(rng), *episode_of(rng, length)
    mean, covariance = write(*map(tf.constant, given))
    for row in range(2):
        expected, whole = conditioned(*(x[row] for x in given))
        np.testing.assert_allclose(mean[row], expected, atol=1e-12)
        np.testing.assert_allclose(np.kron(np.eye(CODE), covariance[row]), whole, atol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_codes_one_by_one_leave_what_all_at_once_do(dtype, tolerance):
    rng = np.random.default_rng(1)
    given = *memory_of(rng, slots=32, code=20), *episode_of(rng, 32, slots=32, code=20)
    given = [tf.constant(x, dtype) for x in given]
    for a, b in zip(at_once(*given), one_by_one(*given)):
        scale = max(1, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
def test_the_order_of_codes_does_not_matter(dtype, tolerance):
    rng = np.random.default_rng(2)
    memory, episode = memory_of(rng), episode_of(rng, 9)
    order = rng.permutation(9)
    results = []
    for weights, codes in (episode, [x[:, order] for x in episode]):
        given = [tf.constant(x, dtype) for x in (*memory, weights, codes)]
        results.append(at_once(*given))
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_a_memory_without_noise_in_its_codes_is_ridge_regression():
    """Of a flat beginning: the closer the more codes, and exact where noise is next to none."""
    rng = np.random.default_rng(3)
    weights, codes = (x[0] for x in episode_of(rng, 6))
    empty = tf.zeros((1, SLOTS, CODE), "float64"), tf.eye(SLOTS, batch_shape=[1], dtype="float64")
    for noise in (1.0, 1e-3):
        mean, _ = kanerva_write(*empty, weights[None], codes[None], noise)
        ridge = weights.T @ weights + noise**2 * np.eye(SLOTS)
        np.testing.assert_allclose(mean[0], np.linalg.solve(ridge, weights.T @ codes), atol=1e-9)
    single, _ = kanerva_write(*empty, weights[None, :3], codes[None, :3], 1e-6)
    np.testing.assert_allclose(weights[:3] @ single[0], codes[:3], atol=1e-5)


@WRITES
def test_nothing_is_written_with_weights_of_zero_or_without_codes(write):
    rng = np.random.default_rng(4)
    memory = [tf.constant(x) for x in memory_of(rng)]
    weights, codes = episode_of(rng, 3)
    for given in ((0 * weights, codes), (weights[:, :0], codes[:, :0])):
        for a, b in zip(write(*memory, *map(tf.constant, given)), memory):
            np.testing.assert_allclose(a, b, atol=1e-14)


@pytest.mark.parametrize("scale", [0.3, 10.0])
def test_a_memory_grows_old_well(scale):
    """After 10,000 writes in float32 it is still what it is in float64, by the sums of all codes.

    Some directions are never written to; there it is what it was.
    """
    rng = np.random.default_rng(5)
    slots, code, count = 12, 2, 10_000
    basis = np.linalg.qr(rng.normal(size=(slots, slots)))[0][:, :9]
    weights = np.float32(scale * rng.normal(size=(count, 9)) @ basis.T)
    codes = np.float32(rng.normal(size=(count, code)))
    mean, covariance = (x[:1].astype("float32") for x in memory_of(rng, slots=slots, code=code))

    @tf.function
    def all_of_them(mean, covariance):
        for weight, code in tf.data.Dataset.from_tensor_slices((weights, codes)):
            mean, covariance = kanerva_write_one(mean, covariance, weight[None], code[None])
        return mean, covariance

    old, aged = (x[0].numpy() for x in all_of_them(mean, covariance))
    assert (aged == aged.T).all()
    first, weights, codes = (x.astype("float64") for x in (covariance[0], weights, codes))
    exact = np.linalg.inv(np.linalg.inv(first) + weights.T @ weights)
    least, values = np.linalg.eigvalsh(exact).min(), np.linalg.eigvalsh(aged.astype("float64"))
    assert values.min() > 0.5 * least > 0
    np.testing.assert_allclose(aged, exact, atol=5e-5)
    expected = exact @ (np.linalg.solve(first, mean[0].astype("float64")) + weights.T @ codes)
    np.testing.assert_allclose(old, expected, atol=1e-2)
    assert np.isfinite(kanerva_root(aged[None])).all()


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("write", [at_once, one_by_one])
def test_gradients_through_writing_are_those_of_float64(write, mode):
    rng = np.random.default_rng(6)
    given, found = (*memory_of(rng), *episode_of(rng, 5)), {}

    def gradient(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            mean, covariance = write(*given)
            value = tf.reduce_sum(tf.sin(mean)) + tf.reduce_sum(tf.sin(kanerva_root(covariance)))
        return value, *tape.gradient(value, given)

    for dtype in ("float64", "float32"):
        run = gradient
        if dtype == "float32" and mode != "eager":
            run = tf.function(gradient, jit_compile=mode == "xla")
        found[dtype] = run(*(tf.constant(x, dtype) for x in given))
    for single, double in zip(found["float32"], found["float64"]):
        np.testing.assert_allclose(single, double, atol=1e-4 * max(1, np.abs(double).max()))


def test_the_gradient_through_writing_is_that_of_finite_differences():
    rng = np.random.default_rng(7)
    given = [tf.constant(x) for x in (*memory_of(rng), *episode_of(rng, 1, batch=2))]

    def value(given):
        return sum(tf.reduce_sum(tf.sin(x)) for x in at_once(*given))

    with tf.GradientTape() as tape:
        tape.watch(given)
        total = value(given)
    for place, slope in enumerate(tape.gradient(total, given)):
        way = rng.normal(size=slope.shape)
        ends = []
        for sign in (1e-6, -1e-6):
            moved = list(given)
            moved[place] = given[place] + sign * way
            ends.append(value(moved))
        np.testing.assert_allclose(np.sum(slope * way), (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


# The layer.


def layer_of(dtype="float64", size=5, **changes):
    """A layer whose weights are all of chance, none zero."""
    keras.utils.set_random_seed(0)
    layer = KanervaMemory(
        **{"slots": SLOTS, "code_size": CODE, "noise": NOISE, **changes}, dtype=dtype
    )
    layer.build((None, None, CODE), (None, None, size), (None, None, size))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(weight + 0.5 * rng.normal(size=weight.shape))
    return layer


def given(length=6, reads=7, size=5, batch=2):
    rng = np.random.default_rng(2)
    return [
        tf.constant(rng.normal(size=(batch, count, width)))
        for count, width in ((length, CODE), (length, size), (reads, size))
    ]


def test_the_nats_between_two_memories_are_those_of_the_whole_gaussians():
    """scipy's entropy, and its log-density for the rest."""
    layer = layer_of()
    found = layer(*given(), np.arange(2))
    empty = [x[0].numpy() for x in layer.empty(1)]
    for row in range(2):
        mean, covariance = found["mean"][row].numpy(), found["covariance"][row].numpy()
        whole = np.kron(np.eye(CODE), covariance)
        ours = scipy.stats.multivariate_normal(mean.T.ravel(), whole)
        prior_covariance = np.kron(np.eye(CODE), empty[1])
        prior = scipy.stats.multivariate_normal(empty[0].T.ravel(), prior_covariance)
        # E[log prior] is the log-density at the mean, less half a trace.
        spread = np.trace(np.linalg.solve(prior_covariance, whole))
        crossed = prior.logpdf(ours.mean) - 0.5 * spread
        np.testing.assert_allclose(found["kl"][row], -ours.entropy() - crossed, rtol=1e-8)


def test_the_nats_of_a_single_code_are_those_of_its_step():
    """-1/2 (C beta - beta / v * ||d||^2 + C ln(1 - beta)), by how much the code surprises."""
    layer, (codes, addresses, queries) = layer_of(), given(length=1)
    (mean, covariance), w = layer.empty(2), layer.weigh(addresses)[:, 0]
    squared = tf.reduce_sum((codes[:, 0] - tf.einsum("bk,bkc->bc", w, mean)) ** 2, axis=1)
    seen = tf.einsum("bk,bkl,bl->b", w, covariance, w)
    variance = seen + NOISE**2
    beta = seen / variance
    step = CODE * beta - beta / variance * squared + CODE * tf.math.log(1 - beta)
    found = layer(codes, addresses, queries, np.arange(2))["kl"]
    np.testing.assert_allclose(found, -0.5 * step, rtol=1e-8)


def test_what_is_read_has_the_mean_and_the_covariance_of_the_memory():
    layer = layer_of()
    codes, addresses, queries = (x[:1] for x in given())
    count = 20_000
    found = layer(codes, addresses, queries, np.arange(1))
    memory = [np.repeat(found[name], count, axis=0) for name in ("mean", "covariance")]
    reads = layer(None, None, np.repeat(queries, count, axis=0), np.arange(count), memory=memory)
    reads, weights = reads["read"].numpy(), found["weights"][0].numpy()
    mean = weights @ found["mean"][0].numpy()
    covariance = weights @ found["covariance"][0].numpy() @ weights.T
    deviation = np.sqrt(np.diag(covariance))[:, None]
    assert np.abs((reads.mean(axis=0) - mean) / deviation).max() < 5 / np.sqrt(count)
    for column in range(CODE):
        near = np.cov(reads[:, :, column].T)
        np.testing.assert_allclose(near, covariance, atol=0.05 * covariance.max())
    still = layer(None, None, queries, memory=[x[:1] for x in memory])["read"]
    np.testing.assert_allclose(still[0], mean, atol=1e-12)


def test_a_memory_is_handed_out_and_in_again():
    """Twice a few codes are all of them at once; a row depends on its own seed and codes alone."""
    layer = layer_of()
    codes, addresses, queries = given()
    whole = layer(codes, addresses, queries, np.array([3, 4]))
    first = layer(codes[:, :2], addresses[:, :2], queries, np.array([3, 4]))
    memory = first["mean"], first["covariance"]
    again = layer(
        codes[1:, 2:], addresses[1:, 2:], queries[1:], np.array([4]), memory=[x[1:] for x in memory]
    )
    for name, x in again.items():
        np.testing.assert_allclose(x[0], whole[name][1], atol=1e-9, err_msg=name)


def test_codes_that_are_not_written_might_as_well_not_be_there():
    layer = layer_of()
    codes, addresses, queries = given()
    written = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], "float32")
    found = layer(codes, addresses, queries, np.arange(2), written=written)
    kept = [0, 2, 3]
    alone = layer(
        *(tf.gather(x[:1], kept, axis=1) for x in (codes, addresses)), queries[:1], np.arange(1)
    )
    empty = layer(None, None, queries[1:], np.array([1]))
    for name in found:
        np.testing.assert_allclose(found[name][0], alone[name][0], atol=1e-9, err_msg=name)
        np.testing.assert_allclose(found[name][1], empty[name][0], atol=1e-9, err_msg=name)
    np.testing.assert_allclose(empty["kl"], 0, atol=1e-9)


def test_a_share_of_the_nats_of_the_memory_is_a_loss_by_item():
    rng, ones = np.random.default_rng(0), keras.ops.ones
    codes, places = rng.normal(size=(3, 4, CODE)), rng.normal(size=(3, 4, 6))
    written = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    layer = KanervaMemory(SLOTS, CODE, kl_share=0.3, dtype="float64")
    found = layer(codes, places, ones((3, 1, 6)), written=written)
    (loss,) = layer.losses
    np.testing.assert_allclose(loss, 0.3 * np.mean(found["kl"] / [2, 1, 4]), rtol=1e-12)
    plain = KanervaMemory(SLOTS, CODE, dtype="float64")
    plain(codes, places, ones((3, 1, 6)))
    assert plain.losses == []


@pytest.mark.parametrize("batch, length, reads", [(0, 2, 2), (1, 1, 1), (2, 0, 1), (1, 2, 0)])
def test_the_least_of_everything(batch, length, reads):
    layer = layer_of("float32")
    arguments = [tf.cast(x, "float32") for x in given(length, reads, batch=batch)]
    with tf.GradientTape() as tape:
        found = layer(*arguments, np.arange(batch))
        value = sum(tf.reduce_sum(x) for x in found.values())
    assert found["read"].shape == (batch, reads, CODE)
    for slope in tape.gradient(value, [v.value for v in layer.trainable_variables]):
        assert slope is None or np.isfinite(slope).all()


def weighed(found):
    return sum(keras.ops.sum(keras.ops.sin(x + i)) for i, x in enumerate(found.values()))


def jax_answers(path):
    """What `test_jax_gives_the_same_numbers` wants to see, computed on Keras's JAX backend."""
    import jax

    layer, seed = layer_of("float32"), np.arange(2)
    variables = layer.trainable_variables
    arguments = [jax.numpy.asarray(x.numpy(), "float32") for x in given()]

    def value(weights, *arguments):
        with keras.StatelessScope(state_mapping=[*zip(variables, weights)]):
            return weighed(layer(*arguments, seed))

    with np.load(path) as file:
        weights = [jax.numpy.asarray(file[f"arr_{i}"]) for i in range(len(variables))]
    places = tuple(range(1 + len(arguments)))
    found = jax.jit(jax.value_and_grad(value, places))(weights, *arguments)
    np.savez(path, *[np.asarray(x) for x in jax.tree.leaves(found)])


def test_jax_gives_the_same_numbers(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    layer, arguments, path = layer_of(), given(), tmp_path / "answers.npz"
    weights = [v.value for v in layer.trainable_variables]
    np.savez(path, *[np.float32(x) for x in weights])
    code = "import sys, test_kanerva; test_kanerva.jax_answers(sys.argv[1])"
    fresh(code, path, backend="jax")
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = weighed(layer(*arguments, np.arange(2)))
    expected = [value, *tape.gradient(value, [*weights, *arguments])]
    with np.load(path) as found:
        for i, x in enumerate(expected):
            scale = max(1, np.abs(x).max())
            np.testing.assert_allclose(found[f"arr_{i}"], x, rtol=0, atol=1e-4 * scale)


def test_addresses_have_the_length_one():
    layer = layer_of()
    layer.hidden.kernel.assign(0 * layer.hidden.kernel)
    layer.address.kernel.assign(0 * layer.address.kernel)
    layer.hidden.bias.assign(0 * layer.hidden.bias)
    layer.address.bias.assign([1.0, 0, 0, 0, 0])
    weights = layer.weigh(np.zeros((1, 5)))[0]
    matrix = layer.addresses.numpy()
    np.testing.assert_allclose(weights, matrix[0] / np.linalg.norm(matrix, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"slots": 0}, "slots must be a whole number from 1 on; got 0"),
        ({"code_size": 1.5}, "code_size must be a whole number"),
        ({"noise": 0.0}, "noise must be above 0; got 0"),
        ({"kl_share": -1}, "kl_share must be 0 or more; got -1"),
    ],
)
def test_arguments_that_mean_nothing_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        KanervaMemory(**{"slots": 2, "code_size": 3, **changes})


# Samples of a Gaussian.


def test_a_sample_and_its_nats_are_those_of_two_gaussians():
    rng = np.random.default_rng(8)
    mean, log_deviation, prior = rng.normal(size=(3, 2, 4, 3))
    layer = GaussianSample(prior_deviation=1.7, dtype="float64")
    seed = np.array([5, 6])
    sample, kl, log_weight = layer(mean, log_deviation, seed, prior)
    ours = scipy.stats.norm(mean, np.exp(log_deviation))
    theirs = scipy.stats.norm(prior, 1.7)
    expected = (theirs.logpdf(sample) - ours.logpdf(sample)).sum(axis=-1)
    np.testing.assert_allclose(log_weight, expected, atol=1e-10)
    grid = scipy.stats.norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None, None, None]
    points = mean + np.exp(log_deviation) * grid
    numeric = (ours.logpdf(points) - theirs.logpdf(points)).mean(axis=0).sum(axis=-1)
    np.testing.assert_allclose(kl, numeric, rtol=2e-2)


def test_streams_tell_the_chance_of_two_samples_apart():
    x = np.zeros((3, 2, 4))
    first, other = (GaussianSample(stream=name)(x, x, np.arange(3))[0] for name in ("a", "b"))
    assert np.abs(first - other).min() > 1e-6
    again = GaussianSample(stream="a")(x[:1], x[:1], np.array([2]))[0]
    np.testing.assert_array_equal(again[0], first[2])
    noise = _chance.normal(_chance.fold(np.arange(3), "a"), (2, 4))
    np.testing.assert_array_equal(first, noise)


def test_a_prior_without_width_is_refused():
    with pytest.raises(ValueError, match="prior_deviation must be above 0; got -1"):
        GaussianSample(-1)


def test_each_image_of_an_episode_has_noise_of_its_own():
    """It is standard normal times the deviation, and a row's does not depend on those beside it."""
    images, seed = np.ones((64, 5, 12, 12), "float32"), np.arange(64)
    noise = RolledNoise(0.3, stream="a")(images, seed).numpy() - 1
    assert scipy.stats.kstest(noise[:, 0].ravel() / 0.3, "norm").pvalue > 1e-3
    pairs = np.corrcoef(np.moveaxis(noise, 1, 0).reshape(5, -1))
    assert np.abs(pairs - np.eye(5)).max() < 0.05
    between = np.corrcoef(noise.reshape(64, -1))
    assert np.abs(between - np.eye(64)).max() < 0.45
    for image in range(5):
        np.testing.assert_allclose(np.sort(noise[:, image].ravel()), np.sort(noise[:, 0].ravel()))
    alone = RolledNoise(0.3, stream="a")(images[:1, :2], seed[7:8]) - 1
    np.testing.assert_array_equal(alone[0], noise[7, :2])
    np.testing.assert_array_equal(RolledNoise(0.0)(images, seed), images)
    assert RolledNoise(0.3)(images[:, :0], seed).shape == (64, 0, 12, 12)
    with pytest.raises(ValueError, match="deviation must be 0 or more; got -1"):
        RolledNoise(-1)


# The machine.


@pytest.fixture(scope="module")
def small(few_digits):
    """A small machine all of whose weights are of chance, and its task."""
    entry = zoo.info("kanerva_digits")
    task = small_task("kanerva_digits", root=few_digits)
    keras.utils.set_random_seed(0)
    model = small_model("kanerva_digits", task)
    rng = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.2 * rng.normal(size=weight.shape))
    return entry, task, model


@pytest.fixture(scope="module")
def served(small):
    """`served(name, **arrays)` asks a signature of the small machine."""
    entry, task, model = small
    signatures = entry.signatures(model, task)

    def ask(name, **arrays):
        dtypes = {key: dtype for key, (_, dtype) in signatures[name].inputs.items()}
        tensors = {key: tf.constant(x, dtypes[key]) for key, x in arrays.items()}
        found = signatures[name].function(**tensors)
        return {key: x.numpy() for key, x in found.items()}

    return ask


def images_of(task, rows=2):
    return task.batch(np.random.default_rng(3), rows)[0]["image"]


def test_the_parts_of_the_bound_add_up(small):
    _, task, model = small
    image = images_of(task)
    found = outputs_of(model, task.inputs(image))
    nats = -np.log(np.where(image == 1, found["mean"], 1 - found["mean"])).sum(axis=(2, 3))
    np.testing.assert_allclose(found["reconstruction"], nats, rtol=1e-4)
    whole = sum(found[name] for name in ("reconstruction", "kl_codes", "kl_addresses"))
    np.testing.assert_allclose(found["nats"], whole.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["joint_nats"], found["nats"] + found["kl_memory"], rtol=1e-5)
    assert (found["kl_memory"] > 0).all()


def test_weights_by_importance_have_the_bound_as_their_mean(small):
    _, task, model = small
    image = np.repeat(images_of(task, 1), 3000, axis=0)
    found = outputs_of(telling(model, "log_weight", "nats"), task.inputs(image))
    weights = found["log_weight"].mean(axis=1)
    spread = (weights + found["nats"]).std() / np.sqrt(len(weights))
    assert abs((weights + found["nats"]).mean()) < 5 * spread


@pytest.mark.parametrize("slots", [0, 3])
def test_importance_makes_the_bound_tighter(small, slots):
    entry, task, model = small
    if not slots:
        model = small_model("kanerva_digits", task, **entry.plain)
    image = images_of(task)
    inputs = task.inputs(image)
    many = task.inputs(np.repeat(image, 200, axis=0))
    bound = importance_weighted(model, many, 1, 400).mean()
    assert importance_weighted(model, inputs, 200, 400).mean() < bound
    assert importance_weighted(model, inputs, 2, 400).shape == (2, 3)


def test_an_episode_has_as_many_classes_as_asked_for(few_digits):
    order, counts = by_class("mnist", few_digits, "train")
    labels = np.repeat(np.arange(len(counts)), counts)[np.argsort(order)]
    for classes in (1, 3):
        task = trainers.task("image_episodes", root=few_digits, episode_classes=classes)
        chosen = task.chosen(np.random.default_rng(0), (20, 32), "train")
        assert {len(set(row)) for row in labels[chosen]} == {classes}
    assert len({tuple(sorted(set(row))) for row in labels[chosen]}) > 5
    any_class = trainers.task("image_episodes", root=few_digits, episode_classes=0)
    assert len(set(labels[any_class.chosen(np.random.default_rng(0), (20, 32), "train")].flat)) > 5
    with pytest.raises(ValueError, match="at most 10 classes of mnist; got 11"):
        trainers.task("image_episodes", root=few_digits, episode_classes=11).batch(
            np.random.default_rng(0), 2
        )


def test_what_is_not_written_is_read_all_the_same(small):
    """Foreign images change nothing of what an image of the episode costs by its own memory."""
    _, task, model = small
    image = images_of(task)
    alone = outputs_of(model, {**task.inputs(image), "seed": np.array([1, 2], "int32")})
    both = np.concatenate([image, 1 - image], axis=1)
    written = np.tile([1, 1, 1, 0, 0, 0], (2, 1))
    beside = outputs_of(model, {**task.inputs(both, written), "seed": np.array([1, 2], "int32")})
    for name in ("reconstruction", "kl_codes", "kl_addresses", "memory_mean"):
        np.testing.assert_allclose(beside[name][:, :3], alone[name], rtol=1e-4, err_msg=name)
    assert set(task.memories(model, image)) == {
        "its_own",
        "the_rest_of_its_own",
        "another",
        "empty",
    }


def test_a_memory_that_is_written_on_request_is_that_of_the_model(small, served):
    """And what is read of it costs what the model says, by the same seeds."""
    _, task, model = small
    image, seed = images_of(task)[:, :1], np.array([4, 5], "int32")
    whole = outputs_of(model, {**task.inputs(image), "seed": seed})
    first = served("empty", rows=[0, 0])
    told = served("write", image=image[:, 0], **first)
    state = {name: told[name] for name in first}
    for name in state:
        np.testing.assert_allclose(told[name], whole[name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(told["kl"], whole["kl_memory"], rtol=1e-4)
    assert (told["trace"] < np.trace(first["memory_covariance"], axis1=1, axis2=2)).all()
    again = served("write", image=image[:, 0], **state)
    assert (again["surprise"] < told["surprise"]).all()
    one = served("read", image=image[:, 0], readings=[1, 3], seed=seed, **state)
    assert one["steps"].shape == (2, 8, 28, 28) and one["weights"].shape == (2, 3)
    parts = sum(one[name] for name in ("reconstruction", "kl_codes", "kl_addresses"))
    np.testing.assert_allclose(one["nats"], parts, rtol=1e-5)
    np.testing.assert_allclose(one["nats"], whole["nats"], rtol=1e-4)
    np.testing.assert_array_equal(one["steps"][0, 0], one["steps"][0, -1])
    assert np.abs(one["steps"][1, 0] - one["steps"][1, 2]).max() > 0
    np.testing.assert_array_equal(one["steps"][1, 2], one["mean"][1])


def test_rows_are_what_their_seeds_make_them_in_any_batch(served):
    state = served("empty", rows=[0, 0, 0])
    three = served("sample", readings=[0, 2, 0], seed=[7, 8, 7], **state)
    alone = served("sample", readings=[2], seed=[8], **{k: x[:1] for k, x in state.items()})
    np.testing.assert_allclose(three["steps"][1], alone["steps"][0], atol=1e-6)
    np.testing.assert_array_equal(three["mean"][0], three["mean"][2])
    np.testing.assert_array_equal(three["mean"][0], three["steps"][0, 0])
    assert np.abs(three["mean"][0] - three["steps"][1, 0]).max() > 1e-4


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("read", {"readings": [9]}, "readings must be 1 to 8"),
        ("sample", {"readings": [-1]}, "readings must be 0 to 8"),
        ("read", {"image": np.full((1, 28, 28), 0.5)}, "pixels 0 and 1"),
        ("write", {"image": np.full((1, 28, 28), -1)}, "pixels 0 and 1"),
        ("write", {"memory_covariance": -np.eye(3)[None]}, "symmetric and its diagonal above 0"),
        ("write", {"memory_mean": np.full((1, 3, 2), np.nan)}, "memory_mean must be finite, got"),
        ("sample", {"memory_mean": np.full((1, 3, 2), np.inf)}, "memory_mean must be finite, got"),
        ("read", {"memory_covariance": np.triu(np.ones((1, 3, 3)))}, "symmetric"),
    ],
)
def test_requests_that_mean_nothing_are_refused(served, small, name, changes, words):
    entry, task, model = small
    sample = {k: x[:1] for k, x in entry.signatures(model, task)[name].sample.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        served(name, **{**sample, **changes})


def test_the_memory_of_an_episode_is_a_file(tmp_path, served):
    state, path = served("empty", rows=[0, 0]), tmp_path / "memory.npz"
    save_memory(path, *state.values())
    for a, b in zip(load_memory(path), state.values()):
        np.testing.assert_array_equal(a, b)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"memory.npz is damaged .*write the episode again"):
        load_memory(path)
    save_memory(path, np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"must hold memory_mean, .*got .*\(3, 2\)"):
        load_memory(path)


def test_the_report_tells_memories_readings_and_importance(small):
    _, task, model = small
    report = task.report(model)
    assert set(report) == {"memories", "classes", "denoising", "importance"}
    assert report["importance"]["images"] == 6 and report["importance"]["samples_an_image"] == 3
    errors = list(report["denoising"].values())
    assert len(errors) == 7 and 0.03 < errors[0] < 0.12
    assert set(task.figures(model)) == {"reconstructions", "readings", "samples"}
