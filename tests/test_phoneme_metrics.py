"""Folding of TIMIT's phones, and error rates by edit distance."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from ponderzoo.trainers._edit_metrics import CTCErrorRate, EditErrorRate, edit_distance
from ponderzoo.trainers.data import _phones
from ponderzoo.trainers.data._phones import PHONES, class_map, fold

IN_39 = (
    "aa ae ah aw ay b ch d dh dx eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh sil t th uh uw "
    "v w y z"
)
IN_48 = (
    "aa ae ah ao aw ax ay b ch cl d dh dx eh el en epi er ey f g hh ih ix iy jh k l m n ng ow oy p "
    "r s sh sil t th uh uw v vcl w y z zh"
)


def by_recursion(a, b):
    """Levenshtein's distance as it is defined."""

    @functools.cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        both = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(both, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(a), len(b))


def padded(rows, width=None):
    width = max(map(len, rows), default=0) if width is None else width
    return np.array([[*row, *[-1] * (width - len(row))] for row in rows], "int32").reshape(
        len(rows), width
    )


def best_path(logits, blank):
    """By a loop: the labels of one row."""
    labels, before = [], None
    for label in logits.argmax(axis=-1).tolist():
        if label not in (before, blank):
            labels.append(label)
        before = label
    return labels


# Phones.


def test_the_sets_have_61_48_and_39_phones():
    assert {size: len(phones) for size, phones in PHONES.items()} == {61: 61, 48: 48, 39: 39}
    assert " ".join(PHONES[39]) == IN_39 and " ".join(PHONES[48]) == IN_48
    assert all(len(set(phones)) == len(phones) for phones in PHONES.values())


def test_folding_goes_by_way_of_48_classes():
    for phone in PHONES[61]:
        assert fold(fold([phone], to=48)) == fold([phone])
        assert fold([phone], to=61) == (phone,)
    assert set(fold(PHONES[61])) == set(PHONES[39]) and set(fold(PHONES[61], 48)) == set(PHONES[48])
    for size in (48, 39):
        assert fold(PHONES[size], size) == PHONES[size], "classes stay what they are"


def test_closures_are_silence_and_q_is_left_out():
    said = "h# sh ix hv eh dcl jh ih dcl d ah q epi zh pau ax-h ux nx h#"
    assert (
        " ".join(fold(said.split())) == "sil sh ih hh eh sil jh ih sil d ah sil sh sil ah uw n sil"
    )
    assert (
        " ".join(fold(said.split(), 48))
        == "sil sh ix hh eh vcl jh ih vcl d ah epi zh sil ax uw n sil"
    )
    assert fold(["tcl", "pau"]) == ("sil", "sil"), "neighbours that become alike stay two"
    assert fold(["q"]) == fold([]) == ()


@pytest.mark.parametrize(
    "phones, to, words",
    [
        (["xx"], 39, "expected phones of TIMIT, aa .* got 'xx'"),
        (["aa"], 40, "61, 48, 39 .* got 40"),
    ],
)
def test_other_phones_and_sets_are_refused(phones, to, words):
    for refuse in (fold, class_map):
        with pytest.raises(ValueError, match=words):
            refuse(phones, to)


def test_a_class_map_folds_numbers_as_names():
    labels = [None, *PHONES[61]]
    classes = class_map(labels)
    assert classes[0] == classes[labels.index("q")] == -1
    for label, number in zip(PHONES[61], classes[1:]):
        assert tuple(PHONES[39][n] for n in [number] if n >= 0) == fold([label])
    assert len(_phones.FOLDED) == 60


# Distances.


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), max_size=9), st.lists(st.integers(0, 3), max_size=7)),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_distances_are_those_of_the_definition_wherever_there_are_gaps(pairs, random):
    def with_gaps(row, width):
        places = sorted(random.sample(range(width), len(row)))
        gapped = np.full(width, -1)
        gapped[places] = row
        return gapped

    sides = []
    for side, extra in ((0, 2), (1, 3)):
        width = max(len(pair[side]) for pair in pairs) + extra
        sides.append(np.array([with_gaps(pair[side], width) for pair in pairs], "int32"))
    expected = [by_recursion(*pair) for pair in pairs]
    assert np.asarray(edit_distance(*map(tf.constant, sides))).tolist() == expected


@pytest.mark.parametrize("widths", [(0, 0), (0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_empty_sequences_have_distances(widths, rows):
    sides = [np.ones((rows, width), "int32") for width in widths]
    found = np.asarray(edit_distance(*map(tf.constant, sides)))
    assert found.tolist() == [abs(widths[0] - widths[1])] * rows


def test_distances_agree_with_another_library():
    levenshtein = pytest.importorskip("rapidfuzz.distance").Levenshtein
    rng = np.random.default_rng(0)
    rows = [
        [rng.integers(0, 5, rng.integers(0, top)).tolist() for _ in range(16)] for top in (40, 70)
    ]
    expected = [levenshtein.distance(a, b) for a, b in zip(*rows)]
    arguments = [tf.constant(padded(side)) for side in rows]
    unknown = [tf.TensorSpec((None, None), "int32")] * 2
    for options in ({}, {"jit_compile": True}):
        for signature in (None, unknown):
            compiled = tf.function(edit_distance, input_signature=signature, **options)
            assert np.asarray(compiled(*arguments)).tolist() == expected


# Rates.


def test_the_rate_is_that_of_the_whole_corpus():
    metric = EditErrorRate()
    assert float(metric.result()) == 0
    metric.update_state(padded([[1, 2, 3, 4], [5]]), padded([[1, 3, 4], [6]]))
    assert float(metric.result()) == pytest.approx(2 / 5)
    metric.update_state(padded([[7] * 5]), padded([[]], 0))
    assert float(metric.result()) == pytest.approx(7 / 10), "not the mean of rates"
    metric.reset_state()
    metric.update_state(padded([[1]]), padded([[2, 3, 4]]))
    assert float(metric.result()) == 3, "insertions take it beyond 1"
    metric.reset_state()
    metric.update_state(padded([[1], [1, 1]]), padded([[2], [1]]), sample_weight=np.array([0.0, 1]))
    assert float(metric.result()) == 0.5


def test_both_sides_are_folded_and_q_costs_nothing():
    labels = [None, *PHONES[61]]
    number = {label: place for place, label in enumerate(labels)}
    reference, hypothesis = (
        side.split() for side in ("h# q ix tcl t ax h#", "pau ih kcl t ao q q epi")
    )
    sides = [padded([[number[p] for p in side]]) for side in (reference, hypothesis)]
    metric = EditErrorRate(fold=class_map(labels))
    metric.update_state(*sides)
    assert fold(reference) == ("sil", "ih", "sil", "t", "ah", "sil")
    assert float(metric.result()) == pytest.approx(1 / 6), "ao is aa, and no ah"
    metric = EditErrorRate()
    metric.update_state(*sides)
    assert float(metric.result()) == pytest.approx(by_recursion(reference, hypothesis) / 7)


@pytest.mark.parametrize("blank", [0, 4])
def test_a_best_path_merges_repeats_before_it_drops_blanks(blank):
    rng = np.random.default_rng(blank)
    logits = rng.normal(size=(9, 30, 5)).astype("float32")
    logits[:, :, blank] += 1
    logits[3, 10:] = logits[4] = 0
    logits[3, 10:, blank] = logits[4, :, blank] = 1
    labels = [label for label in range(5) if label != blank]
    references = [rng.choice(labels, rng.integers(1, 20)).tolist() for _ in logits]
    metric = CTCErrorRate(blank=blank)
    decoded = np.asarray(metric.decode(logits))
    assert [row[row >= 0].tolist() for row in decoded] == [best_path(x, blank) for x in logits]
    metric.update_state(padded(references), logits)
    wrong = sum(by_recursion(a, best_path(x, blank)) for a, x in zip(references, logits))
    assert float(metric.result()) == pytest.approx(wrong / sum(map(len, references)))


def test_what_folding_makes_alike_is_not_merged():
    path = np.eye(4)[[1, 1, 2, 0, 2]][None]
    metric = CTCErrorRate(fold=(-1, 0, 0, -1))
    metric.update_state(padded([[1, 2, 2, 3]]), path)
    assert float(metric.result()) == 0
    metric.update_state(padded([[1]]), path)
    assert float(metric.result()) == pytest.approx(2 / 4)


@pytest.mark.parametrize("frames", [0, 1])
def test_ctc_rates_of_rows_without_frames(frames):
    metric = CTCErrorRate()
    metric.update_state(padded([[1, 2]]), np.zeros((1, frames, 3), "float32"))
    assert float(metric.result()) == 1


@pytest.mark.parametrize(
    "metric", [EditErrorRate(fold=(0, -1)), CTCErrorRate(3, (1, 2, 0, -1), "per")]
)
def test_a_metric_comes_back_from_its_config(metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric) and again.get_config() == metric.get_config()


def no_loss(y_true, y_pred):
    return 0 * ops.sum(y_pred, axis=(1, 2))


def test_a_compiled_model_reports_the_rate_of_its_evaluation():
    logits = np.random.default_rng(0).normal(size=(6, 12, 4)).astype("float32")
    references = padded([[1, 2, 3], [3], [2, 2], [1], [1, 3, 1], [2]])
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile(loss=no_loss, metrics=[CTCErrorRate()], jit_compile=True)
    found = model.evaluate(logits, references, batch_size=3, return_dict=True, verbose=0)
    wrong = sum(
        by_recursion(a[a >= 0].tolist(), best_path(x, 0)) for a, x in zip(references, logits)
    )
    assert found["ctc_error_rate"] == pytest.approx(wrong / 11)


IN_JAX = """
import jax, numpy as np
from ponderzoo.trainers._edit_metrics import CTCErrorRate, edit_distance
rng = np.random.default_rng(0)
y, x = rng.integers(-1, 4, (5, 9)).astype("int32"), rng.integers(-1, 4, (5, 13)).astype("int32")
metric = CTCErrorRate(fold=(-1, 0, 1, 1))
metric.update_state(y, rng.normal(size=(5, 20, 4)))
print(np.asarray(jax.jit(edit_distance)(y, x)).tolist(), float(metric.result()))
"""


def test_jax_counts_as_tensorflow_does(fresh):
    pytest.importorskip("jax", reason="JAX is not installed")
    rng = np.random.default_rng(0)
    y, x = rng.integers(-1, 4, (5, 9)).astype("int32"), rng.integers(-1, 4, (5, 13)).astype("int32")
    metric = CTCErrorRate(fold=(-1, 0, 1, 1))
    metric.update_state(y, rng.normal(size=(5, 20, 4)))
    rows = [(a[a >= 0].tolist(), b[b >= 0].tolist()) for a, b in zip(y, x)]
    expected = f"{[by_recursion(*row) for row in rows]} {float(metric.result())}"
    assert fresh(IN_JAX, backend="jax").strip() == expected
