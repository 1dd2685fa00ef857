"""The searches of a transducer against enumeration of all alignments, in numpy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from ponderzoo.layers import transducer_beam_search, transducer_greedy
from scipy.special import log_softmax, logsumexp

HIDDEN = 3


class Toy:
    """A transducer whose prediction network remembers all labels; `joined` has a hidden layer."""

    def __init__(self, classes=3, blank=0, favour=1.0, joined=False, dtype="float64", seed=0):
        rng = np.random.default_rng(seed)
        self.blank, self.joined, self.dtype = blank, joined, dtype
        shapes = {
            "enter": (classes, HIDDEN),
            "again": (HIDDEN, HIDDEN),
            "leave": (HIDDEN, classes),
            "join": (classes, classes),
        }
        self.weights = {k: rng.normal(size=shape).astype(dtype) for k, shape in shapes.items()}
        self.favour = (favour * (np.arange(classes) == blank)).astype(dtype)

    def initial_state(self, n):
        return [ops.zeros((n, HIDDEN), self.dtype)]

    def predict(self, labels, state):
        weights = {k: ops.convert_to_tensor(x) for k, x in self.weights.items()}
        hidden = ops.tanh(ops.take(weights["enter"], labels, axis=0) + state[0] @ weights["again"])
        return hidden @ weights["leave"], [hidden]

    def join(self, transcription, prediction):
        logits = transcription + prediction
        if self.joined:
            logits = 2 * ops.tanh(logits) @ ops.convert_to_tensor(self.weights["join"])
        return logits + ops.convert_to_tensor(self.favour)

    def scores(self, frame, labels):
        """Log-probabilities behind labels at a frame, in numpy."""
        hidden = np.zeros(HIDDEN)
        for k in (self.blank, *labels):
            hidden = np.tanh(self.weights["enter"][k] + hidden @ self.weights["again"])
        logits = frame + hidden @ self.weights["leave"]
        if self.joined:
            logits = 2 * np.tanh(logits) @ self.weights["join"]
        return log_softmax(np.float64(logits + self.favour))

    @property
    def functions(self):
        return self.predict, self.join, self.initial_state


def log_probability(toy, frames, labels):
    """The sum over all alignments, each of which ends in the last frame's blank."""
    time, count = len(frames), len(labels)
    scores = [[toy.scores(x, labels[:u]) for u in range(count + 1)] for x in frames]
    totals = []
    for emits in itertools.combinations(range(time + count - 1), count):
        t = u = 0
        total = 0.0
        for move in range(time + count):
            k = labels[u] if move in emits else toy.blank
            total += scores[t][u][k]
            t, u = t + (k == toy.blank), u + (k != toy.blank)
        totals.append(total)
    return logsumexp(totals)


def plain_greedy(toy, frames, max_symbols, max_labels):
    labels, moments, total = [], [], 0.0
    for t, frame in enumerate(frames):
        for symbol in range(max_symbols + 1):
            scores = toy.scores(frame, labels)
            k = int(np.argmax(scores))
            if symbol == max_symbols or len(labels) == max_labels:
                k = toy.blank
            total += scores[k]
            if k == toy.blank:
                break
            labels.append(k)
            moments.append(t)
    return labels, moments, total


def batch(classes=3, dtype="float64"):
    """Rows of 5, 1, 0 and 3 frames, with nonsense behind them."""
    lengths = np.array([5, 1, 0, 3], "int32")
    rows = 2 * np.random.default_rng(1).normal(size=(4, 5, classes))
    rows[np.arange(5) >= lengths[:, None]] = np.nan
    return rows.astype(dtype), lengths


@pytest.mark.parametrize("joined", [False, True], ids=["sum", "joint network"])
@pytest.mark.parametrize("blank, limits", [(0, (3, None)), (2, (1, None)), (1, (4, 2))], ids=str)
def test_greedy_is_the_rule_read_out(joined, blank, limits):
    toy = Toy(blank=blank, favour=0.0, joined=joined)
    rows, lengths = batch()
    symbols, most = limits
    labels, moments, totals = transducer_greedy(
        *toy.functions, rows, lengths, blank, max_symbols=symbols, max_labels=most
    )
    most = most or 5 * symbols
    assert labels.shape == moments.shape == (4, most) and totals.dtype == "float64"
    several = False
    for row, length in enumerate(lengths):
        expected = plain_greedy(toy, rows[row, :length], symbols, most)
        padding = [-1] * (most - len(expected[0]))
        assert np.asarray(labels[row]).tolist() == expected[0] + padding
        assert np.asarray(moments[row]).tolist() == expected[1] + padding
        assert float(totals[row]) == pytest.approx(expected[2], abs=1e-12)
        several |= len(set(expected[1])) < len(expected[1])
    assert several or symbols == 1  # labels of one frame


@pytest.mark.parametrize("joined", [False, True], ids=["sum", "joint network"])
@pytest.mark.parametrize("blank", [0, 2])
def test_a_wide_beam_sums_all_alignments(joined, blank):
    toy = Toy(blank=blank, joined=joined, favour=2.0)
    rows, lengths = batch()
    rows, lengths = rows[:, :3], np.minimum(lengths, 3)
    found = transducer_beam_search(
        *toy.functions, rows, lengths, width=100, blank=blank, n_best=6, max_expansions=400
    )
    for row, length in enumerate(lengths):
        if not length:
            assert found[row] == [([], 0.0)]
            continue
        frames, kinds = rows[row, :length], [k for k in range(3) if k != blank]
        for labels, total in found[row]:
            assert total == pytest.approx(log_probability(toy, frames, labels), rel=1e-4)
        least = found[row][-1][1] + 1e-3
        for count in range(5):
            for labels in itertools.product(kinds, repeat=count):
                is_better = log_probability(toy, frames, labels) > least
                assert not is_better or (list(labels) in [one for one, _ in found[row]])


def test_one_frame_may_emit_many_labels():
    class Counting:
        """Says label 1 three times, then blank for ever."""

        def initial_state(self, n):
            return ops.zeros((n, 1))

        def predict(self, labels, state):
            state = state + ops.cast(labels == 1, "float32")[:, None]
            return state, state

        def join(self, transcription, prediction):
            says = ops.cast(prediction < 3, "float32")
            return 20 * ops.concatenate([1 - says, says], axis=-1) + 0 * transcription

    it = Counting()
    given = it.predict, it.join, it.initial_state, np.zeros((1, 1, 2), "float32"), [1]
    labels, moments, _ = transducer_greedy(*given)
    assert np.asarray(labels).tolist() == [[1, 1, 1, -1]]
    assert np.asarray(moments).tolist() == [[0, 0, 0, -1]]
    assert transducer_beam_search(*given, width=3)[0][0][0] == [1, 1, 1]


def test_ranking_by_length_prefers_longer_labellings():
    toy = Toy(favour=1.0)
    rows, lengths = batch()
    given = *toy.functions, rows[:1], lengths[:1]
    (plain,) = transducer_beam_search(*given, width=30, n_best=30)
    (normal,) = transducer_beam_search(*given, width=30, n_best=30, length_normalised=True)
    assert sorted(plain) == sorted(normal)
    ratios = [total / max(len(labels), 1) for labels, total in normal]
    assert ratios == sorted(ratios, reverse=True)
    assert [total for _, total in plain] == sorted((x for _, x in plain), reverse=True)
    assert len(normal[0][0]) > len(plain[0][0])


def test_the_prediction_network_takes_one_step_for_each_hypothesis():
    toy, seen = Toy(favour=1.0), []

    def predict(labels, state):
        seen.append(len(labels))
        return toy.predict(labels, state)

    rows, lengths = batch()
    transducer_beam_search(predict, toy.join, toy.initial_state, rows[:1], lengths[:1], width=8)
    assert all(n & (n - 1) == 0 for n in seen)
    assert max(seen) > 1 and len(seen) < sum(seen) < 5 * 10 * 8


def test_a_network_that_never_says_blank_comes_to_an_end():
    toy = Toy(favour=-50.0)
    rows, lengths = batch()
    labels, _, _ = transducer_greedy(*toy.functions, rows, lengths, max_symbols=2)
    assert np.sum(np.asarray(labels) >= 0, axis=-1).tolist() == [10, 2, 0, 6]
    found = transducer_beam_search(*toy.functions, rows, lengths, width=2)
    assert all(np.isfinite(total) for ((_, total), *_) in found)


def greedy(toy, rows, lengths):
    return transducer_greedy(*toy.functions, rows, lengths, max_symbols=2)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_graphs_find_the_same(compiled):
    toy = Toy(favour=0.0, dtype="float32")
    rows, lengths = batch(dtype="float32")
    step = tf.function(
        lambda rows, lengths: greedy(toy, rows, lengths), jit_compile=compiled, autograph=False
    )
    if not compiled:
        free = tf.TensorSpec((None, None, 3)), tf.TensorSpec((None,), "int32")
        step = step.get_concrete_function(*free)
    found = step(tf.constant(rows), tf.constant(lengths))
    for one, other in zip(found, greedy(toy, rows, lengths)):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_what_does_not_fit_is_refused():
    toy, (rows, lengths) = Toy(), batch()
    for search in (transducer_greedy, transducer_beam_search):
        with pytest.raises(ValueError, match=r"\(batch, time, features\); got shape \(5, 3\)"):
            search(*toy.functions, rows[0], lengths)
        with pytest.raises(ValueError, match=r"transcription lengths must be 0 to 5; got \[6\]"):
            search(*toy.functions, rows[:1], np.array([6]))
    with pytest.raises(ValueError, match="max_symbols must be a whole number from 1 on; got 0"):
        transducer_greedy(*toy.functions, rows, lengths, max_symbols=0)
    with pytest.raises(ValueError, match="width must be a whole number from 1 on; got 0"):
        transducer_beam_search(*toy.functions, rows, lengths, width=0)


def jax_answers(path):
    import jax

    toy = Toy(favour=0.0, dtype="float32")
    rows, lengths = batch(dtype="float32")
    answers = jax.jit(lambda rows, lengths: greedy(toy, rows, lengths))(rows, lengths)
    found = transducer_beam_search(*toy.functions, rows, lengths, width=4)
    np.savez(path, *map(np.asarray, answers), np.array([total for ((_, total),) in found]))


def test_jax_finds_the_same(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    path = tmp_path / "answers.npz"
    code = "import sys, test_transducer_search as test; test.jax_answers(sys.argv[1])"
    fresh(code, path, backend="jax")
    toy = Toy(favour=0.0, dtype="float32")
    rows, lengths = batch(dtype="float32")
    found = transducer_beam_search(*toy.functions, rows, lengths, width=4)
    expected = *greedy(toy, rows, lengths), [total for ((_, total),) in found]
    with np.load(path) as answers:
        assert len(answers) == len(expected)
        for one, other in zip(answers.values(), expected):
            np.testing.assert_allclose(one, other, rtol=1e-5)
