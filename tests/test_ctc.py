"""CTC against enumeration of all paths on tiny lattices, in numpy."""

import doctest
import importlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from ponderzoo.layers import (
    CTCLoss,
    ctc_beam_search,
    ctc_best_path,
    ctc_loss,
    ctc_prefix_search,
    sure_of_blank,
)
from ponderzoo.layers import _backend as backend
from scipy.special import log_softmax, logsumexp

# Labels and blank index; each is tried with as few frames as it has labels and with more.
LABELLINGS = [((), 0), ((1,), 0), ((2, 1), 0), ((1, 1), 0), ((0, 2), 1), ((0, 0, 1), 3)]
CLASSES = 4


def labelling_of(path, blank):
    """Merges repetitions and drops blanks (Graves et al., 2006, section 3.1)."""
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def all_labellings(logits, blank=0):
    """Every labelling of `(time, classes)` logits, and the log-probability of its paths."""
    scores, found = log_softmax(np.float64(logits), axis=-1), {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        nats = sum(scores[t, k] for t, k in enumerate(path))
        found.setdefault(labelling_of(path, blank), []).append(nats)
    return {labels: logsumexp(nats) for labels, nats in found.items()}


def draw(*shape, seed=0, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def loss_and_gradient(logits, labels, frames, places, blank=0, run=lambda f: f):
    """Loss by row, and the gradient of the sum in which row b is weighed by b + 1."""

    def step(logits, labels, frames, places):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            rows = ctc_loss(logits, labels, frames, places, blank)
            weights = tf.cast(tf.range(tf.shape(rows)[0]) + 1, rows.dtype)
            # Infinite rows have no part in the total.
            total = tf.reduce_sum(tf.where(tf.math.is_finite(rows), rows * weights, 0))
        return rows, tape.gradient(total, logits)

    arguments = tf.constant(logits), *(tf.constant(x, "int32") for x in (labels, frames, places))
    return [np.asarray(x) for x in run(step)(*arguments)]


def ragged(dtype="float64", blank=0, seed=0, time=9):
    """Rows of all lengths from 0 frames on, with nonsense in the padding of logits and labels."""
    frames, places = np.array([time, 1, 0, 5, 3, 2]), np.array([3, 1, 0, 0, 2, 2])
    logits = draw(len(frames), time, CLASSES, seed=seed).astype(dtype)
    kinds = [k for k in range(CLASSES) if k != blank]
    labels = np.random.default_rng(seed).choice(kinds, size=(len(frames), 4))
    labels[0, :2] = kinds[0]
    labels[-1, :2] = kinds[:2]
    for row, (length, count) in enumerate(zip(frames, places)):
        logits[row, length:] = np.nan if row % 2 else 30.0
        labels[row, count:] = (-1, 99, blank)[row % 3]
    return logits, labels, frames, places


@pytest.mark.parametrize("labels, blank", LABELLINGS, ids=str)
def test_the_loss_is_minus_the_log_of_all_paths_together(labels, blank):
    for time in range(1, 6):
        logits = draw(1, time, CLASSES, seed=time)
        expected = -all_labellings(logits[0], blank).get(labels, -np.inf)
        found = ctc_loss(
            logits, np.reshape(labels, (1, -1)).astype(int), [time], [len(labels)], blank
        )
        assert found.dtype == "float64" and found.shape == (1,)
        np.testing.assert_allclose(found[0], expected, rtol=1e-12)


@pytest.mark.parametrize("blank", [0, 3])
def test_rows_of_a_batch_are_as_if_alone_and_padding_is_never_read(blank):
    logits, labels, frames, places = ragged(blank=blank)
    rows, gradient = loss_and_gradient(logits, labels, frames, places, blank)
    assert np.all(np.isfinite(gradient))
    for row, (length, count) in enumerate(zip(frames, places)):
        one = (
            logits[row : row + 1, : max(length, 1)],
            labels[row : row + 1, :count],
            [length],
            [count],
        )
        alone, slope = loss_and_gradient(*one, blank)
        np.testing.assert_allclose(rows[row], alone[0], rtol=1e-12)
        expected = (row + 1) * slope[0, :length]
        np.testing.assert_allclose(gradient[row, :length], expected, atol=1e-12)
        assert np.all(gradient[row, length:] == 0)


def test_the_gradient_is_that_of_finite_differences():
    logits, labels, frames, places = ragged()
    real = np.arange(logits.shape[1]) < frames[:, None]
    logits = np.where(real[..., None], logits, 0)
    _, gradient = loss_and_gradient(logits, labels, frames, places)
    for seed in range(3):
        direction = draw(*logits.shape, seed=seed)
        ends = [
            ctc_loss(logits + sign * 1e-6 * direction, labels, frames, places) for sign in (1, -1)
        ]
        slopes = (np.asarray(ends[0]) - np.asarray(ends[1])) / 2e-6
        weights = np.arange(1, len(slopes) + 1)
        expected = np.sum(gradient * direction, axis=(1, 2))
        np.testing.assert_allclose(weights * slopes, expected, rtol=1e-6, atol=1e-7)


def test_the_gradient_of_a_frame_sums_to_nothing():
    logits, labels, frames, places = ragged()
    _, gradient = loss_and_gradient(logits, labels, frames, places)
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize("time, labels", [(1, [1, 2]), (2, [1, 1]), (0, [1]), (3, [1, 1, 2])])
def test_a_labelling_without_a_path_costs_infinity_and_moves_nothing(time, labels):
    logits = draw(1, 4, CLASSES).astype("float32")
    rows, gradient = loss_and_gradient(logits, [labels], [time], [len(labels)])
    assert rows[0] == np.inf and np.all(gradient == 0)


def test_an_impossible_class_leaves_the_other_paths():
    logits = draw(1, 3, CLASSES)
    logits[0, 1, 2] = -np.inf
    expected = -all_labellings(np.maximum(logits[0], -1e30))[(2,)]
    rows, gradient = loss_and_gradient(logits, [[2]], [3], [1])
    np.testing.assert_allclose(rows[0], expected, rtol=1e-12)
    assert np.all(np.isfinite(gradient)) and gradient[0, 1, 2] == 0
    logits[0, :, 2] = -np.inf
    rows, gradient = loss_and_gradient(logits, [[2]], [3], [1])
    assert rows[0] == np.inf and np.all(gradient == 0)


def long_rows():
    logits = draw(2, 200, 20).astype("float32")
    labels = np.random.default_rng(0).integers(1, 20, size=(2, 30))
    return logits, labels, [200, 151], [30, 17]


def test_float32_is_close_to_float64_on_long_rows_and_to_the_backends_own_loss():
    logits, labels, frames, places = long_rows()
    single = loss_and_gradient(logits, labels, frames, places, run=tf.function)
    double = loss_and_gradient(np.float64(logits), labels, frames, places, run=tf.function)
    np.testing.assert_allclose(single[0], double[0], rtol=1e-6)
    np.testing.assert_allclose(single[1], double[1], atol=5e-4)
    lengths = tf.constant(places), tf.constant(frames)
    theirs = tf.function(tf.nn.ctc_loss)(labels, logits, *lengths, False, blank_index=0)
    np.testing.assert_allclose(single[0], theirs, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    logits, labels, frames, places = ragged("float32")
    half = tf.cast(logits, dtype)
    found = ctc_loss(half, labels, frames, places)
    assert found.dtype == "float32"
    expected = ctc_loss(tf.cast(half, "float64"), labels, frames, places)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(half)
        total = tf.reduce_sum(ctc_loss(half, labels, frames, places)[:5])
    assert tape.gradient(total, half).dtype == dtype


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_graphs_give_the_same_numbers(compiled):
    logits, labels, frames, places = ragged("float32")
    eager = loss_and_gradient(logits, labels, frames, places)
    inside = loss_and_gradient(
        logits, labels, frames, places, run=lambda f: tf.function(f, jit_compile=compiled)
    )
    for found, expected in zip(inside, eager):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_buckets_of_lengths_are_few():
    lengths = np.arange(1, 2000, 9)
    buckets = np.array([backend.bucket(length) for length in lengths])
    assert np.all(buckets >= lengths) and np.all(buckets[1:] <= 1.25 * lengths[1:])
    assert len(set(buckets)) < 40


def test_shapes_may_be_unknown_in_a_graph():
    free = [tf.TensorSpec((None, None, CLASSES)), tf.TensorSpec((None, None), "int32")]
    free += [tf.TensorSpec((None,), "int32")] * 2
    logits, labels, frames, places = ragged("float32")
    given = logits, labels.astype("int32"), frames.astype("int32"), places.astype("int32")
    found = tf.function(ctc_loss, input_signature=free)(*given)
    np.testing.assert_allclose(found, ctc_loss(*given), rtol=1e-5)
    best = tf.function(ctc_best_path, input_signature=[free[0], free[2]])
    for one, other in zip(best(given[0], given[2]), ctc_best_path(given[0], given[2])):
        np.testing.assert_array_equal(one, other)

    def search(logits, lengths):
        return ctc_beam_search(logits, lengths, 3, n_best=2)

    beam = tf.function(search, input_signature=[free[0], free[2]])
    for one, other in zip(beam(given[0], given[2]), search(given[0], given[2])):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": np.zeros((2, 0, 4))}, r"logits must have a frame at least.*got none"),
        ({"logits": np.zeros((2, 3))}, r"logits must be \(batch, time, classes\); got shape"),
        ({"labels": np.zeros(2, int)}, r"labels must be \(batch, places\) of 2 rows; got shape"),
        ({"labels": [[1, 0], [1, 2]]}, r"classes, 0 to 3, and not 0, which is blank; got 0"),
        ({"labels": [[1, 4], [1, 2]]}, r"labels must be classes, 0 to 3.*got 4"),
        ({"labels": [[1, -1], [1, 2]]}, r"labels must be classes, 0 to 3.*got -1"),
        ({"frames": [3, 4]}, r"logit lengths must be 0 to 3; got \[3, 4\]"),
        ({"frames": [3]}, r"logit lengths must be one for each of 2 rows; got shape \(1,\)"),
        ({"places": [2, -1]}, r"label lengths must be 0 to 2; got \[2, -1\]"),
        ({"blank": 4}, r"blank must be a class, 0 to 3; got 4"),
        ({"blank": -1}, r"blank must be a class, 0 to 3; got -1"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change, message):
    given = {
        "logits": np.zeros((2, 3, 4), "float32"),
        "labels": [[1, 2], [1, 2]],
        "frames": [3, 3],
        "places": [2, 2],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        ctc_loss(*given.values())


def test_padding_that_is_sure_of_blank_changes_no_probability():
    logits, labels, frames, places = ragged()
    expected = ctc_loss(logits, labels, frames, places)[:5]
    padded = sure_of_blank(logits, frames)
    labels = np.where(np.arange(4) < places[:, None], labels, -1)
    rows = CTCLoss().call(labels, padded)
    np.testing.assert_allclose(rows[:5], expected, rtol=1e-12)
    loss = CTCLoss()(labels[:5], padded[:5])
    assert loss.dtype == "float64"
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-12)
    weighed = CTCLoss()(labels[:5], padded[:5], sample_weight=np.arange(5))
    np.testing.assert_allclose(weighed, np.mean(expected * np.arange(5)), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_row_without_enough_frames_stays_infinite_when_padded(dtype):
    logits = sure_of_blank(tf.cast(draw(1, 5, CLASSES), dtype), [1])
    assert CTCLoss()(np.array([[1, 2]]), logits) == np.inf


def test_the_loss_is_saved_with_its_blank():
    loss = keras.losses.deserialize(keras.losses.serialize(CTCLoss(blank=2)))
    assert isinstance(loss, CTCLoss) and loss.blank == 2
    assert keras.saving.get_registered_name(CTCLoss) == "ponderzoo>CTCLoss"


def test_a_network_learns_by_it():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(1, CLASSES, size=(16, 2))
    frames = np.repeat(np.eye(CLASSES)[labels], 3, axis=1)
    model = keras.Sequential([keras.Input((None, CLASSES)), keras.layers.Dense(CLASSES)])
    model.compile(keras.optimizers.Adam(0.1), loss=CTCLoss(), jit_compile=True)
    history = model.fit(frames, labels, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2


def unpacked(labels):
    return [tuple(row[row >= 0].tolist()) for row in np.asarray(labels)]


@pytest.mark.parametrize("blank", [0, 3])
def test_best_path_merges_and_then_drops(blank):
    logits, _, frames, _ = ragged(blank=blank)
    labels, begins = ctc_best_path(logits, frames, blank)
    assert labels.dtype == begins.dtype == "int32"
    for row, length in enumerate(frames):
        path = np.argmax(logits[row, :length], axis=-1) if length else []
        starts, t = [], 0
        for k, run in itertools.groupby(path):
            starts += [t] if k != blank else []
            t += len(list(run))
        padding = [-1] * (logits.shape[1] - len(starts))
        expected = list(labelling_of(path, blank))
        assert np.asarray(labels[row]).tolist() == [*expected, *padding]
        assert np.asarray(begins[row]).tolist() == [*starts, *padding]


@pytest.mark.parametrize("blank", [0, 2])
def test_a_wide_beam_finds_every_labelling_with_the_sum_of_its_paths(blank):
    frames = np.array([4, 3, 1, 0])
    logits = draw(4, 4, 3, seed=3)
    for row, length in enumerate(frames):
        logits[row, length:] = np.nan
    labels, begins, nats = ctc_beam_search(logits, frames, 40, blank, n_best=40)
    assert nats.dtype == "float64"
    for row, length in enumerate(frames):
        expected = all_labellings(logits[row, :length], blank)
        ranked = sorted(expected, key=expected.get, reverse=True)
        count = len(ranked)
        assert unpacked(labels[row, :count]) == ranked
        np.testing.assert_allclose(nats[row, :count], [expected[x] for x in ranked], rtol=1e-9)
        assert np.all(nats[row, count:] == -np.inf) and np.all(labels[row, count:] == -1)
        for one, starts in zip(labels[row], begins[row]):
            starts = np.asarray(starts)[np.asarray(one) >= 0]
            assert np.all(np.diff(starts) > 0) and np.all(starts < length)


def test_prefix_search_is_exact_without_cuts():
    for seed in range(20):
        logits = draw(1, 5, 3, seed=seed)
        expected = all_labellings(logits[0])
        best = max(expected, key=expected.get)
        ((labels, nats),) = ctc_prefix_search(logits, [5], threshold=1)
        assert tuple(labels) == best
        assert nats == pytest.approx(expected[best], rel=1e-12)


def test_beam_and_prefix_search_agree_and_beat_the_best_path():
    logits, frames = draw(6, 8, CLASSES, seed=1), [8, 7, 6, 4, 1, 0]
    exact = ctc_prefix_search(logits, frames, blank=3, threshold=1)
    labels, _, nats = ctc_beam_search(logits, frames, 300, blank=3)
    assert unpacked(labels[:, 0]) == [tuple(row) for row, _ in exact]
    np.testing.assert_allclose(nats[:, 0], [total for _, total in exact], atol=1e-3)
    best, _ = ctc_best_path(logits, frames, blank=3)
    places = np.sum(np.asarray(best) >= 0, axis=-1)
    assert np.all(-ctc_loss(logits, best, frames, places, 3) <= nats[:, 0] + 1e-9)
    narrow = ctc_beam_search(logits, frames, 1, blank=3)[2]
    assert np.all(np.asarray(narrow) <= np.asarray(nats) + 1e-9)


def test_prefix_search_cuts_where_blank_is_almost_sure():
    logits = draw(1, 9, CLASSES, seed=2)
    logits[0, 4] = [20, 0, 0, 0]
    ((cut, below),) = ctc_prefix_search(logits, [9])
    ((whole, nats),) = ctc_prefix_search(logits, [9], threshold=1)
    assert cut == whole and nats - 1e-4 < below < nats
    parts = [ctc_prefix_search(logits[:, part], [4])[0][0] for part in (slice(4), slice(5, 9))]
    assert cut == parts[0] + parts[1]


def test_prefix_search_says_when_it_takes_too_long():
    with pytest.raises(RuntimeError, match=r"within 20 expansions over 60 frames; a lower"):
        ctc_prefix_search(np.zeros((1, 60, CLASSES)), [60], max_expansions=20)
    with pytest.raises(ValueError, match=r"threshold must be above 0 and at most 1; got 0"):
        ctc_prefix_search(np.zeros((1, 6, CLASSES)), [6], threshold=0)
    with pytest.raises(ValueError, match=r"n_best must be at most the width, 2; got 3"):
        ctc_beam_search(np.zeros((1, 6, CLASSES)), [6], 2, n_best=3)


def decoded(logits, frames):
    return [*ctc_best_path(logits, frames), *ctc_beam_search(logits, frames, 5, n_best=3)]


def test_searches_under_xla_find_the_same():
    logits, _, frames, _ = ragged("float32")
    frames = frames.astype("int32")
    compiled = tf.function(decoded, jit_compile=True)(logits, frames)
    for found, expected in zip(compiled, decoded(logits, frames)):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def jax_answers(path):
    import jax

    logits, labels, frames, places = ragged("float32")

    def total(logits):
        rows = ctc_loss(logits, labels, frames, places)
        return ops.sum(ops.where(ops.isfinite(rows), rows * np.arange(1, 7), 0)), rows

    (_, rows), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(logits)
    answers = [rows, gradient, *jax.jit(decoded)(logits, frames)]
    np.savez(path, *map(np.asarray, answers))


def test_jax_gives_the_same_numbers(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path / "answers.npz"
    fresh("import sys, test_ctc; test_ctc.jax_answers(sys.argv[1])", path, backend="jax")
    logits, labels, frames, places = ragged("float32")
    expected = loss_and_gradient(logits, labels, frames, places)
    expected += decoded(logits, frames)
    with np.load(path) as answers:
        assert len(answers) == len(expected)
        for found, right in zip(answers.values(), expected):
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


def test_the_example_in_the_docstring_is_right():
    # The package's own attribute of this name is the function.
    module = importlib.import_module("ponderzoo.layers.ctc_loss")
    found = doctest.testmod(module, globs=dict(vars(module)))
    assert found.attempted and not found.failed
