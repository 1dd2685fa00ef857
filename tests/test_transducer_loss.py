"""The transducer loss against sums over all alignments, a double loop and finite differences."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from ponderzoo.layers import (
    TransducerLoss,
    factored_transducer_loss,
    transducer_arcs,
    transducer_loss,
)

EXACT = 1e-10
CASES = ["general", "factored"]


def log_softmax(logits):
    return logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True)


def enumerated(logits, labels, blank):
    """-ln of the sum over every order of T blanks, the last at the end, and U labels, of a row."""
    logs, total = log_softmax(logits), []
    steps, places = len(logits), len(labels)
    for at in itertools.combinations(range(steps + places - 1), places):
        t = u = score = 0
        for move in range(steps + places):
            if move in at:
                score, u = score + logs[t, u, labels[u]], u + 1
            else:
                score, t = score + logs[t, u, blank], t + 1
        total.append(score)
    return -scipy.special.logsumexp(total)


def double_loop(logits, labels, blank):
    """Forward and backward variables of a row, in probabilities (section 2.4)."""
    p = np.exp(log_softmax(logits))
    steps, columns, _ = p.shape
    alpha, beta = np.zeros((steps, columns)), np.zeros((steps, columns))
    for t in range(steps):
        for u in range(columns):
            alpha[t, u] = float(t == u == 0)
            alpha[t, u] += alpha[t - 1, u] * p[t - 1, u, blank] if t else 0
            alpha[t, u] += alpha[t, u - 1] * p[t, u - 1, labels[u - 1]] if u else 0
    for t in reversed(range(steps)):
        for u in reversed(range(columns)):
            ahead = beta[t + 1, u] if t + 1 < steps else float(u == columns - 1)
            beta[t, u] = ahead * p[t, u, blank]
            beta[t, u] += beta[t, u + 1] * p[t, u, labels[u]] if u + 1 < columns else 0
    return alpha, beta, p


def double_loop_gradient(logits, labels, blank):
    """The derivative by each probability, through the softmax (section 2.4, the last equation)."""
    alpha, beta, p = double_loop(logits, labels, blank)
    steps, columns, _ = p.shape
    d = np.zeros_like(p)
    for t in range(steps):
        for u in range(columns):
            ahead = beta[t + 1, u] if t + 1 < steps else float(u == columns - 1)
            d[t, u, blank] -= alpha[t, u] * ahead / beta[0, 0]
            if u + 1 < columns:
                d[t, u, labels[u]] -= alpha[t, u] * beta[t, u + 1] / beta[0, 0]
    return p * (d - np.sum(d * p, axis=-1, keepdims=True))


def batch_of(seed, batch, steps, places, classes, blank=0, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(batch, steps, places + 1, classes))
    others = np.delete(np.arange(classes), blank)
    return logits, others[rng.integers(0, classes - 1, size=(batch, places))]


def value_and_gradient(function, *tensors):
    tensors = [tf.convert_to_tensor(x) for x in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = function(*tensors)
    return np.array(loss), [np.array(d) for d in tape.gradient(loss, tensors)]


def assert_close(found, expected, tolerance=EXACT):
    np.testing.assert_allclose(np.float64(found), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("steps, places", [(1, 0), (1, 3), (2, 1), (4, 0), (4, 3)])
def test_is_the_sum_over_all_alignments(steps, places, blank):
    logits, labels = batch_of(steps, 2, steps, places, 4, blank)
    loss, (gradient,) = value_and_gradient(
        lambda x: transducer_loss(x, labels, [steps] * 2, [places] * 2, blank), logits
    )
    assert_close(loss, [enumerated(*row, blank) for row in zip(logits, labels)])
    moved = logits.copy()
    for index in np.ndindex(*logits.shape[1:]):
        for row, sign in itertools.product(range(2), (1, -1)):
            moved[(row, *index)] = logits[(row, *index)] + sign * 1e-5
            gradient[(row, *index)] -= sign * enumerated(moved[row], labels[row], blank) / 2e-5
            moved[(row, *index)] = logits[(row, *index)]
    assert_close(gradient, 0, 1e-6)


@pytest.mark.parametrize(
    "shape", [(1, 1, 5, 3), (2, 9, 1, 4), (3, 7, 6, 5), (1, 12, 4, 2)], ids=str
)
def test_is_the_double_loop_of_the_paper(shape):
    logits, labels = batch_of(1, *shape)
    batch, steps, places, _ = shape
    loss, (gradient,) = value_and_gradient(
        lambda x: transducer_loss(x, labels, [steps] * batch, [places] * batch), logits
    )
    for row in range(batch):
        alpha, beta, _ = double_loop(logits[row], labels[row], 0)
        assert_close(loss[row], -np.log(beta[0, 0]))
        for diagonal in range(steps + places):
            nodes = [(t, diagonal - t) for t in range(steps) if 0 <= diagonal - t <= places]
            total = sum(alpha[node] * beta[node] for node in nodes)
            assert total == pytest.approx(np.exp(-loss[row]), rel=1e-9)
        assert_close(gradient[row], double_loop_gradient(logits[row], labels[row], 0))


def test_arcs_are_as_probable_as_the_alignments_that_take_them():
    """Also of rows that are shorter than their batch; every alignment takes U labels, T blanks."""
    logits, labels = batch_of(6, 2, 7, 4, 5)
    frames, places = [7, 4], [2, 4]
    by_blank, by_label = (np.asarray(x) for x in transducer_arcs(logits, labels, frames, places))
    for row, (steps, count) in enumerate(zip(frames, places)):
        of_row = logits[row, :steps, : count + 1], labels[row, :count]
        alpha, beta, p = double_loop(*of_row, 0)
        ahead = np.zeros((steps + 1, count + 1))
        ahead[:-1], ahead[-1, -1] = beta, 1
        expected = np.zeros_like(by_blank[row])
        expected[:steps, : count + 1] = alpha * p[..., 0] * ahead[1:] / beta[0, 0]
        assert_close(by_blank[row], expected)
        expected[:] = 0
        for u, label in enumerate(of_row[1]):
            expected[:steps, u] = alpha[:, u] * p[:, u, label] * beta[:, u + 1] / beta[0, 0]
        assert_close(by_label[row], expected)
        assert_close([by_blank[row].sum(), by_label[row].sum()], [steps, count])


def test_gradients_are_those_of_finite_differences():
    logits, labels = batch_of(2, 2, 20, 9, 6)
    weights, lengths = np.array([1.5, -0.5]), ([20, 13], [6, 9])

    def total(x):
        return tf.reduce_sum(transducer_loss(x, labels, *lengths) * weights)

    _, (gradient,) = value_and_gradient(total, logits)
    direction = np.random.default_rng(3).normal(size=logits.shape)
    slope = [float(total(tf.constant(logits + sign * 1e-5 * direction))) for sign in (1, -1)]
    assert np.sum(gradient * direction) == pytest.approx((slope[0] - slope[1]) / 2e-5, rel=1e-7)
    assert_close(np.sum(gradient, axis=-1), 0)


@pytest.mark.parametrize("garbage", [7.0, 1e30, np.nan, np.inf])
@pytest.mark.parametrize("function", ["general", "factored"])
def test_padding_has_no_influence(function, garbage):
    rng, frames, lengths = np.random.default_rng(4), [5, 2, 1, 0], [3, 1, 0, 0]
    f, g = rng.normal(size=(4, 5, 4)), rng.normal(size=(4, 4, 4))
    _, labels = batch_of(4, 4, 5, 3, 4)
    short = [
        enumerated(f[i, :t, None] + g[i, None, : u + 1], labels[i, :u], 0)
        for i, (t, u) in enumerate(zip(frames[:3], lengths))
    ]
    for i, (t, u) in enumerate(zip(frames, lengths)):
        f[i, t:], g[i, u + 1 :], labels[i, u:] = garbage, garbage, (-5, 0, 99)[i % 3]
    if function == "general":
        tensors = [f[:, :, None] + g[:, None]]
        run = transducer_loss
    else:
        tensors = [f, g]
        run = factored_transducer_loss
    loss, gradients = value_and_gradient(lambda *x: run(*x, labels, frames, lengths), *tensors)
    assert_close(loss, [*short, 0])
    for i, (t, u) in enumerate(zip(frames, lengths)):
        expected = (
            double_loop_gradient(f[i, :t, None] + g[i, None, : u + 1], labels[i, :u], 0) if t else 0
        )
        if function == "general":
            assert_close(gradients[0][i, :t, : u + 1], expected)
            gradients[0][i, :t, : u + 1] = 0
        elif t:
            assert_close(gradients[0][i, :t], np.sum(expected, axis=1))
            assert_close(gradients[1][i, : u + 1], np.sum(expected, axis=0))
            gradients[0][i, :t], gradients[1][i, : u + 1] = 0, 0
    assert not any(np.any(d[:3]) for d in gradients)


def test_without_an_alignment_the_loss_is_infinite_and_pulls_nowhere():
    logits, labels = batch_of(5, 3, 3, 2, 4)
    logits[1, :, :, labels[1, 1]] = -1e30
    logits[2, :, :, labels[2, 1]] = -np.inf
    run = lambda x: transducer_loss(x, labels, [0, 3, 3], [2, 2, 2])  # noqa: E731
    for dtype in ("float64", "float32"):
        loss, (gradient,) = value_and_gradient(run, logits.astype(dtype))
        assert np.all(np.isposinf(loss)) and not np.any(gradient)


@pytest.mark.parametrize("steps, places", [(0, 0), (0, 2), (3, 0)])
def test_nothing_to_read_or_to_say(steps, places):
    lengths = [steps] * 2, [places] * 2
    logits, labels = batch_of(6, 2, steps, places, 3)
    expected = [np.inf] * 2 if steps < places else -np.sum(log_softmax(logits)[:, :, 0, 0], axis=1)
    np.testing.assert_allclose(transducer_loss(logits, labels, *lengths), expected)
    f, g = logits[:, :, 0], np.zeros((2, places + 1, 3))
    np.testing.assert_allclose(factored_transducer_loss(f, g, labels, *lengths), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (0, 0, 0, 4)], ids=str)
def test_no_rows(shape):
    logits, labels = batch_of(6, *shape)
    none = np.zeros(0, "int32")
    loss, (gradient,) = value_and_gradient(lambda x: transducer_loss(x, labels, none, none), logits)
    assert loss.shape == (0,) and gradient.shape == logits.shape


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 6), st.integers(0, 4), st.integers(2, 5), st.integers(0, 99), st.floats(0.1, 400)
)
def test_factored_is_general(steps, places, classes, seed, scale):
    """Also where the two networks contradict each other so much that products vanish."""
    rng = np.random.default_rng(seed)
    f, g = (scale * rng.normal(size=(2, size, classes)) for size in (steps, places + 1))
    _, labels = batch_of(seed, 2, 1, places, classes)
    lengths = rng.integers(1, steps + 1, 2), rng.integers(0, places + 1, 2)
    loss, found = value_and_gradient(
        lambda f, g: factored_transducer_loss(f, g, labels, *lengths), f, g
    )
    expected, wanted = value_and_gradient(
        lambda f, g: transducer_loss(f[:, :, None] + g[:, None], labels, *lengths), f, g
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-11, atol=1e-9)
    for d, e in zip(found, wanted):
        assert_close(d, e, 1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_that_mask_each_other_agree_with_the_sum(dtype):
    """Up to a node where no class is allowed by both, and products far under all of float32."""
    f, g = np.zeros((2, 1, 3, 3), dtype)
    f[0, 0], f[0, 1] = [0, -1e30, -120], [0, -1e30, -1e30]
    g[0] = [-120, 0, -100], [-1e30, -1e30, 0], [-130, -1e30, 3]
    arguments = [[2, 2]], [3], [2]
    loss, found = value_and_gradient(lambda f, g: factored_transducer_loss(f, g, *arguments), f, g)
    expected, wanted = value_and_gradient(
        lambda f, g: transducer_loss(f[:, :, None] + g[:, None], *arguments), f, g
    )
    assert np.isfinite(expected) and all(np.isfinite(d).all() for d in found)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for d, e in zip(found, wanted):
        assert_close(d, e, 1e-6)


def half_case(dtype):
    logits, labels = batch_of(7, 2, 30, 12, 9)
    return tf.cast(logits, dtype), labels, [30, 20], [12, 7]


@pytest.mark.parametrize("dtype, step", [("float16", 5e-4), ("bfloat16", 4e-3), ("float32", 5e-5)])
def test_half_precision_is_summed_in_single(dtype, step):
    logits, *rest = half_case(dtype)
    loss, (gradient,) = value_and_gradient(lambda x: transducer_loss(x, *rest), logits)
    exact, (expected,) = value_and_gradient(
        lambda x: transducer_loss(x, *rest), tf.cast(logits, "float64")
    )
    assert loss.dtype == "float32" and gradient.dtype == logits.dtype.as_numpy_dtype
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    assert_close(gradient, expected, step)
    f, g = logits[:, :, 0], logits[:, :13, 1]
    loss, gradients = value_and_gradient(lambda *x: factored_transducer_loss(*x, *rest), f, g)
    assert loss.dtype == "float32" and {d.dtype for d in gradients} == {gradient.dtype}


def test_single_precision_holds_over_a_thousand_frames():
    logits, labels = batch_of(8, 1, 1000, 20, 5)
    run = lambda x: transducer_loss(x, labels, [1000], [20])  # noqa: E731
    exact, (expected,) = value_and_gradient(tf.function(run), logits)
    compiled = tf.function(run, jit_compile=True)
    loss, (gradient,) = value_and_gradient(compiled, logits.astype("float32"))
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    assert_close(gradient, expected, 3e-3)


def case(name):
    """A loss, and what it is tried on, tensors that it is a function of, in float32."""
    rng = np.random.default_rng(9)
    labels, rest = rng.integers(1, 5, size=(3, 4)), ([6, 3, 1], [4, 0, 2])
    if name == "general":
        tried = [[rng.normal(size=(3, 6, 5, 5))]]
        run = transducer_loss
    else:
        # The networks of the second contradict each other until products vanish.
        tried = [[scale * rng.normal(size=(3, n, 5)) for n in (6, 5)] for scale in (1, 60)]
        run = factored_transducer_loss
    tried = [[x.astype("float32") for x in tensors] for tensors in tried]
    return (lambda *x: run(*x, labels, *rest)), tried


@pytest.mark.parametrize("name", CASES)
def test_shapes_may_be_unknown_and_xla_gives_the_same(name):
    function, tried = case(name)
    free = [tf.TensorSpec([None] * (x.ndim - 1) + [5]) for x in tried[0]]
    runs = [tf.function(function, input_signature=free), tf.function(function, jit_compile=True)]
    for tensors in tried:
        loss, gradients = value_and_gradient(function, *tensors)
        for run in runs:
            found, others = value_and_gradient(run, *tensors)
            np.testing.assert_allclose(found, loss, rtol=1e-5)
            for d, e in zip(others, gradients):
                assert_close(d, e, 1e-5)


def test_lengths_and_labels_may_be_unknown_too():
    spec = [tf.TensorSpec([None, None, None, 4], "float64"), tf.TensorSpec([None, None], "int64")]
    spec += [tf.TensorSpec([None], "int32")] * 2
    run = tf.function(transducer_loss, input_signature=spec)
    for steps, places in ((4, 2), (1, 0), (0, 0)):
        logits, labels = batch_of(1, 2, steps, places, 4)
        expected = transducer_loss(logits, labels, [steps] * 2, [places] * 2)
        assert_close(run(logits, labels, [steps] * 2, [places] * 2), expected)


def test_the_loss_class_is_the_mean_over_rows_and_padded_frames_are_sure_of_blank():
    logits, labels = batch_of(10, 3, 6, 4, 5, blank=1)
    frames, lengths = [6, 4, 2], [4, 2, 0]
    rows = np.asarray(transducer_loss(logits, labels, frames, lengths, 1))
    for dtype, lowest in (("float64", -1e30), ("float32", -1e30), ("float16", -65504)):
        padded = logits.astype(dtype)
        for i, (t, u) in enumerate(zip(frames, lengths)):
            padded[i, t:], padded[i, t:, :, 1], labels[i, u:] = lowest, 0, -1
        loss = TransducerLoss(blank=1)
        value, (gradient,) = value_and_gradient(lambda x: loss(labels, x), padded)  # noqa: B023
        assert value.shape == () and value.dtype == ("float64" if dtype == "float64" else "float32")
        assert value == pytest.approx(np.mean(rows), rel=1e-3 if dtype == "float16" else 1e-6)
        assert not any(np.any(gradient[i, t:]) for i, t in enumerate(frames))
        weighted = loss(labels, padded, sample_weight=[0, 0, 3])
        assert float(weighted) == pytest.approx(rows[2], rel=1e-3)


def test_the_loss_class_is_registered_and_trains():
    again = keras.losses.deserialize(keras.losses.serialize(TransducerLoss(blank=2)))
    assert again.name == "transducer_loss" and again.blank == 2
    assert keras.saving.get_registered_name(TransducerLoss) == "ponderzoo>TransducerLoss"
    keras.utils.set_random_seed(0)
    logits, labels = batch_of(11, 4, 5, 2, 4)
    inputs = keras.Input((5, 3, 4))
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    model.compile(keras.optimizers.Adam(0.05), TransducerLoss(), jit_compile=True)
    losses = model.fit(logits, labels, epochs=30, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"logits": np.zeros((2, 3, 4))},
            r"logits must be \(batch, time, .*got shape \(2, 3, 4\)",
        ),
        ({"labels": [[1, 2, 3]] * 2}, r"labels must be .*\(2, 2\).*got shape \(2, 3\)"),
        (
            {"labels": [[1, 0], [1, 2]]},
            "labels must be classes, 0 to 3, and not 0, which is blank; got 0",
        ),
        ({"labels": [[1, 4], [1, 2]]}, "labels must be classes, 0 to 3.*; got 4"),
        ({"labels": [[-1, 1], [1, 2]]}, "labels must be classes, 0 to 3.*; got -1"),
        ({"logit_lengths": [3, 4]}, r"logit lengths must be 0 to 3; got \[3, 4\]"),
        ({"label_lengths": [-1, 2]}, r"label lengths must be 0 to 2; got \[-1, 2\]"),
        ({"label_lengths": [2]}, r"label lengths must be one for each of 2 rows; got shape \(1,\)"),
        ({"blank": 4}, "blank must be a class, 0 to 3; got 4"),
        ({"blank": -1}, "blank must be a class, 0 to 3; got -1"),
    ],
)
def test_wrong_arguments_are_told(changes, words):
    arguments = {
        "logits": np.zeros((2, 3, 3, 4)),
        "labels": [[1, 2], [3, 1]],
        "logit_lengths": [3, 3],
        "label_lengths": [2, 2],
    }
    with pytest.raises(ValueError, match=words):
        transducer_loss(**arguments | changes)


def test_networks_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match=r"prediction must have .*\(2, 3, 4\); got \(2, 3, 5\)"):
        factored_transducer_loss(
            np.zeros((2, 3, 4)), np.zeros((2, 3, 5)), [[1, 2]] * 2, [3, 3], [2, 2]
        )
    with pytest.raises(ValueError, match=r"y_true must be \(batch, labels\); got shape \(2,"):
        TransducerLoss()(np.zeros((2, 3, 1)), np.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match="blank must be a whole number from 0 on; got -1"):
        TransducerLoss(blank=-1)


def jax_answers(path):
    """In a process of its own: losses and gradients, compiled."""
    import jax

    assert keras.backend.backend() == "jax"
    answers = {}
    for name in CASES:
        function, tried = case(name)

        def total(*x, function=function):
            rows = function(*x)
            return ops.sum(rows), rows

        run = jax.jit(jax.value_and_grad(total, range(len(tried[0])), has_aux=True))
        for which, tensors in enumerate(tried):
            (_, rows), gradients = run(*tensors)
            for i, x in enumerate([rows, *gradients]):
                answers[f"{name}/{which}/{i}"] = np.asarray(x)
    empty = jax.jit(lambda x: transducer_loss(x, np.zeros((2, 0)), [0, 0], [0, 0]))
    empty = empty(np.zeros((2, 0, 1, 3)))
    np.savez(path, empty=np.asarray(empty), **answers)


@pytest.fixture(scope="module")
def from_jax(fresh, tmp_path_factory):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path_factory.mktemp("jax") / "answers.npz"
    code = "import sys, test_transducer_loss; test_transducer_loss.jax_answers(sys.argv[1])"
    fresh(code, path, backend="jax")
    with np.load(path) as answers:
        return dict(answers)


@pytest.mark.parametrize("name", CASES)
def test_jax_gives_the_same_numbers(name, from_jax):
    function, tried = case(name)
    for which, tensors in enumerate(tried):
        loss, gradients = value_and_gradient(function, *tensors)
        np.testing.assert_allclose(from_jax[f"{name}/{which}/0"], loss, rtol=1e-5)
        for i, d in enumerate(gradients):
            assert_close(from_jax[f"{name}/{which}/{i + 1}"], d, 1e-5)
    assert_close(from_jax["empty"], [0, 0])
