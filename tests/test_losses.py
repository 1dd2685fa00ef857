"""What the losses of rows promise as Keras losses, all of them alike."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import layers
from ponderzoo.layers import (
    CTCLoss,
    MixtureDensityLoss,
    TransducerLoss,
    ctc_loss,
    factored_transducer_loss,
    jit_in_graphs,
    transducer_loss,
)
from ponderzoo.trainers._metrics import OwnLoss, SequenceCrossentropy

LABELS = np.array([[1, 2, -1], [3, -1, -1], [1, 1, 2], [2, -1, -1]])
SHAPES = {CTCLoss: (6, 4), TransducerLoss: (6, 4, 4), SequenceCrossentropy: (3, 4), OwnLoss: ()}
SHAPES[MixtureDensityLoss] = (13,)
ALIGNMENTS = [CTCLoss, TransducerLoss]

each_loss = pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
each_alignment = pytest.mark.parametrize("kind", ALIGNMENTS, ids=lambda kind: kind.__name__)


def draw(kind, dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.normal(size=(len(LABELS), *SHAPES[kind])).astype(dtype)


def inside(function, way):
    return tf.function(function, jit_compile=way == "xla", autograph=False)


def test_every_public_loss_is_held_here():
    public = {
        x for x in vars(layers).values() if isinstance(x, type) and issubclass(x, keras.losses.Loss)
    }
    assert public <= set(SHAPES)


@each_loss
@pytest.mark.parametrize("weights", [None, [2.0, 0.0, 1.0, 0.5]], ids=["plain", "weighed"])
def test_rows_are_reduced_as_keras_reduces_them(kind, weights):
    logits = draw(kind, "float64")
    rows = np.asarray(kind().call(LABELS, logits))
    w = np.ones(4) if weights is None else np.array(weights)
    expected = {
        "sum": np.sum(w * rows),
        "sum_over_batch_size": np.mean(w * rows),
        "mean": np.mean(w * rows),
        "mean_with_sample_weight": np.sum(w * rows) / np.sum(w),
        "none": w * rows,
        None: w * rows,
    }
    for reduction, value in expected.items():
        loss = kind(reduction=reduction)
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.reduction == reduction and again.get_config() == loss.get_config()
        for shape in ((4,), (4, 1)):
            given = None if weights is None else np.reshape(weights, shape)
            found = again(LABELS, logits, sample_weight=given)
            assert found.dtype == "float64"
            np.testing.assert_allclose(found, value, rtol=1e-12)
    assert kind().reduction == "sum_over_batch_size"
    np.testing.assert_allclose(kind()(LABELS, logits, sample_weight=2.0), 2 * np.mean(rows))


@each_loss
@pytest.mark.parametrize("shape", [(4, 3), (3,), (1,), (4, 1, 1)], ids=str)
def test_weights_that_are_not_one_for_each_row_are_refused(kind, shape):
    with pytest.raises(ValueError, match=r"sample_weight must .* got \("):
        kind()(LABELS, draw(kind), sample_weight=np.ones(shape))


@each_alignment
def test_weights_reach_the_loss_through_fit_and_data_sets(kind):
    logits, weights = draw(kind), np.array([2.0, 0.0, 1.0, 0.5], "float32")
    expected = float(kind()(LABELS, logits, sample_weight=weights))
    model = keras.Sequential([keras.Input(logits.shape[1:]), keras.layers.Identity()])
    model.compile(loss=kind())
    for given in (weights, weights[:, None]):
        rows = tf.data.Dataset.from_tensor_slices((logits, LABELS, given)).batch(4)
        assert model.evaluate(rows, verbose=0) == pytest.approx(expected, rel=1e-6)
    found = model.evaluate(logits, LABELS, sample_weight=weights, verbose=0)
    assert found == pytest.approx(expected, rel=1e-6)


# A row right, the others each wrong in a way of its own: labels, frames, places.
RIGHT = ([1, 2], 6, 2)
WRONG = {
    "blank": ([1, 0], 6, 2),
    "behind the classes": ([1, 4], 6, 2),
    "far behind them": ([2**31 - 1, 1], 6, 2),
    "negative": ([-1, 1], 6, 2),
    "too many frames": ([1, 2], 7, 2),
    "fewer than none": ([1, 2], -1, 0),
    "too many places": ([1, 2], 6, 3),
    "fewer places than none": ([1, 2], 6, -1),
}


@pytest.mark.parametrize("loss", [ctc_loss, transducer_loss], ids=lambda loss: loss.__name__)
def test_what_is_refused_eagerly_costs_infinity_in_a_graph(loss):
    rng, rows = np.random.default_rng(0), [RIGHT, *WRONG.values()]
    shape = (len(rows), 6, 4) if loss is ctc_loss else (len(rows), 6, 3, 4)
    logits = tf.constant(rng.normal(size=shape).astype("float32"))
    given = [tf.constant(x, "int32") for x in zip(*rows)]
    for row in range(1, len(rows)):
        with pytest.raises(ValueError, match=r"must be"):
            loss(logits[row : row + 1], *(x[row : row + 1] for x in given))
    alone = loss(logits[:1], *(x[:1] for x in given))

    def step(logits, *given):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            found = loss(logits, *given)
        return found, tape.gradient(found, logits)

    for way in ("graph", "xla"):
        found, gradient = inside(step, way)(logits, *given)
        assert np.all(found[1:] == np.inf) and np.all(gradient[1:] == 0)
        np.testing.assert_allclose(found[0], alone[0], rtol=1e-5)
        assert np.all(np.isfinite(gradient[0])) and np.any(gradient[0] != 0)


@each_alignment
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_labels_padded_with_the_blank_do_not_train(kind, jit_compile):
    logits = draw(kind)
    model = keras.Sequential([keras.Input(logits.shape[1:]), keras.layers.Dense(4)])
    model.compile("sgd", kind(), jit_compile=jit_compile)
    before = model.get_weights()
    history = model.fit(logits[1:2], np.maximum(LABELS[1:2], 0), verbose=0).history
    assert history["loss"] == [np.inf]
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_labels_may_be_bytes():
    logits = np.random.default_rng(0).normal(size=(2, 5, 300)).astype("float32")
    labels, lengths = np.array([[7, 255], [3, 9]]), ([5, 5], [2, 1])
    expected = ctc_loss(logits, labels, *lengths)
    found = inside(lambda labels: ctc_loss(logits, labels, *lengths), "graph")
    np.testing.assert_allclose(found(tf.constant(labels, "uint8")), expected, rtol=1e-6)


@each_alignment
def test_labels_with_a_fraction_are_refused_and_cost_infinity_in_a_graph(kind):
    labels = LABELS.astype("float32")
    np.testing.assert_allclose(kind()(labels, draw(kind)), kind()(LABELS, draw(kind)))
    labels[0, 0] = 1.5
    with pytest.raises(ValueError, match=r"labels must be classes.* got 1\.5"):
        kind()(labels, draw(kind))
    rows = inside(kind(reduction=None), "graph")(tf.constant(labels), draw(kind))
    assert np.isinf(rows[0]) and np.all(np.isfinite(rows[1:]))


@each_alignment
def test_labels_may_be_ragged_or_sparse(kind):
    logits, loss = draw(kind), kind(reduction=None)
    expected = loss(LABELS, logits)
    there = LABELS >= 0
    ragged = tf.RaggedTensor.from_row_lengths(LABELS[there], there.sum(axis=1))
    sparse = tf.SparseTensor(np.argwhere(there), LABELS[there], LABELS.shape)
    lengths = tf.fill([4], 6), tf.constant(there.sum(axis=1))
    function = {CTCLoss: ctc_loss, TransducerLoss: transducer_loss}[kind]
    for labels in (ragged, sparse):
        np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-6)
        np.testing.assert_allclose(inside(loss, "graph")(labels, logits), expected, rtol=1e-5)
        np.testing.assert_allclose(function(logits, labels, *lengths), expected, rtol=1e-6)


@each_alignment
def test_logits_may_be_a_variable(kind):
    function = {CTCLoss: ctc_loss, TransducerLoss: transducer_loss}[kind]
    logits = tf.Variable(draw(kind))
    given = LABELS, np.full(4, 6), np.sum(LABELS >= 0, axis=1)
    expected = kind(reduction=None)(LABELS, draw(kind))
    gradients = []
    for x in (logits, tf.constant(logits)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            rows = function(x, *given)
        np.testing.assert_allclose(rows, expected, rtol=1e-6)
        gradients.append(tape.gradient(rows, x))
    np.testing.assert_array_equal(*gradients)


@each_alignment
def test_what_a_graph_compiles_by_itself_is_near_float64(kind):
    """Whatever was padded to fill the bucket of lengths that share it."""
    loss, rng = kind(), np.random.default_rng(4)

    def step(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    shape = (4, None, *(None for _ in SHAPES[kind][1:-1]), SHAPES[kind][-1])
    graph = tf.function(
        step, input_signature=[tf.TensorSpec((4, None), tf.int32), tf.TensorSpec(shape)]
    )
    for frames in (9, 10, 17):
        logits = rng.normal(size=(4, frames, *SHAPES[kind][1:]))
        found = graph(LABELS.astype("int32"), logits.astype("float32"))
        expected = step(LABELS, tf.constant(logits))
        np.testing.assert_allclose(found[0], expected[0], 1e-5)
        np.testing.assert_allclose(found[1], expected[1], 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("kind", "function"), [(CTCLoss, ctc_loss), (TransducerLoss, transducer_loss)]
)
def test_what_is_not_trained_or_is_told_not_to_has_nothing_that_xla_must_compile(kind, function):
    def compiles(function):
        spec = tf.TensorSpec((len(LABELS), *SHAPES[kind]))
        graph = tf.function(function).get_concrete_function(spec).graph.as_graph_def()
        return any(f.attr["_XlaMustCompile"].b for f in graph.library.function)

    lengths = np.full(4, 6), np.sum(LABELS >= 0, axis=1)
    assert compiles(lambda logits: kind()(LABELS, logits))
    assert not compiles(lambda logits: function(logits, LABELS, *lengths))
    assert jit_in_graphs(False)
    try:
        assert not compiles(lambda logits: kind()(LABELS, logits))
    finally:
        jit_in_graphs(True)


def test_the_factored_loss_compiles_its_lattice_where_it_may():
    f, g = draw(CTCLoss, "float64"), draw(SequenceCrossentropy, "float64")
    g = np.concatenate([g, g[:, :1]], axis=1)
    lengths = np.full(4, 6), np.sum(LABELS >= 0, axis=1)

    def step(f, g, jit=True):
        with tf.GradientTape() as tape:
            tape.watch((f, g))
            loss = factored_transducer_loss(f, g, LABELS, *lengths, jit=jit)
        return loss, *tape.gradient(loss, (f, g))

    expected = step(tf.constant(f), tf.constant(g), jit=False)
    for one, other in zip(tf.function(step)(tf.constant(f), tf.constant(g)), expected):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@each_loss
def test_every_way_of_computing_has_the_value_and_gradient_of_float64(kind):
    def step(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = kind()(LABELS, logits)
        return total, tape.gradient(total, logits)

    # Numbers that bfloat16 holds, so that all begin with the same.
    logits = tf.cast(draw(kind), "bfloat16")
    exact = step(tf.cast(logits, "float64"))
    single = [(way, "float32", 1e-5) for way in ("eager", "graph", "xla")]
    for way, dtype, tolerance in (*single, ("xla", "bfloat16", 1e-2)):
        run = step if way == "eager" else inside(step, way)
        for found, expected in zip(run(tf.cast(logits, dtype)), exact):
            scale = tolerance * np.max(np.abs(expected))
            np.testing.assert_allclose(np.float64(found), expected, rtol=0, atol=scale)


@each_loss
def test_a_processor_that_rounds_up_and_down_gives_the_numbers_of_float64(kind, monkeypatch):
    def step(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = kind()(LABELS, logits)
        return total, tape.gradient(total, logits)

    # The last row is sure of what it should not say.
    logits = draw(kind)
    logits[-1] *= 40
    exact = step(tf.constant(logits, "float64"))
    errors = itertools.cycle((2.0**-23, -(2.0**-23)))

    def rounded(function):
        return lambda x, *more, **options: function(x, *more, **options) * (1 + next(errors))

    for name in ("exp", "log", "log_softmax", "logsumexp", "softplus"):
        monkeypatch.setattr(keras.ops, name, rounded(getattr(keras.ops, name)))
    for found, expected in zip(step(tf.constant(logits)), exact):
        scale = 1e-5 * np.max(np.abs(expected))
        np.testing.assert_allclose(np.float64(found), expected, rtol=0, atol=scale)


def test_the_gradient_of_a_row_is_clamped_before_it_is_weighed():
    logits, weights = tf.constant(4 * draw(TransducerLoss)), np.array([2.0, 0.0, 1.0, 0.5])

    def slope(clamp, weights):
        loss = TransducerLoss(reduction="sum", clamp=clamp)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = loss(LABELS, logits, weights)
        return np.asarray(tape.gradient(total, logits)), float(total)

    free, total = slope(-1.0, np.ones(4))
    assert np.max(np.abs(free)) > 0.5
    found, same = slope(0.25, weights)
    np.testing.assert_allclose(
        found, weights[:, None, None, None] * np.clip(free, -0.25, 0.25), atol=1e-6
    )
    assert slope(0.25, np.ones(4))[1] == total and same != total
    again = keras.losses.deserialize(keras.losses.serialize(TransducerLoss(clamp=0.25)))
    assert again.clamp == 0.25


TWO_REPLICAS = """
import json
import keras
import numpy as np
import tensorflow as tf
from keras.layers import Dense, Reshape, SimpleRNNCell

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from ponderzoo.layers import ACT, CTCLoss, TransducerLoss
from ponderzoo.trainers._metrics import OwnLoss, SequenceCrossentropy

rng = np.random.default_rng(0)
x = rng.normal(size=(4, 5, 3)).astype("float32")
labels = np.tile([[1, 2, -1], [3, -1, -1]], (2, 1))
targets = {"ctc": labels, "transducer": labels, "words": rng.integers(-1, 4, (4, 5))}
targets["own"] = np.zeros(4)
weights = {name: np.array([1.0, 2.0, 0.0, 0.5]) for name in targets}
losses = {"ctc": CTCLoss(), "transducer": TransducerLoss(), "words": SequenceCrossentropy()}
losses["own"] = OwnLoss(reduction="sum")


def trained():
    keras.utils.set_random_seed(1)
    sequence = keras.Input((5, 3))
    hidden = ACT(SimpleRNNCell(3), max_ponder=2, time_penalty=1.0, return_sequences=True)(sequence)
    outputs = {
        "ctc": Dense(4)(hidden),
        "transducer": Reshape((5, 4, 4))(Dense(16)(hidden)),
        "words": Dense(4)(hidden),
        "own": Reshape(())(Dense(1)(hidden[:, -1])),
    }
    model = keras.Model(sequence, outputs)
    model.compile(keras.optimizers.SGD(0.1), loss=losses, jit_compile=False)
    return model


def fit(model):
    found = model.fit(x, targets, sample_weight=weights, batch_size=4, verbose=0)
    return found.history, [w.tolist() for w in model.get_weights()]


one = fit(trained())
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    two = trained()
print(json.dumps([one, fit(two)]))
"""


def test_two_replicas_lose_and_step_as_one_device_does(fresh):
    """All losses in one model, and the ponder cost, which ACT adds to them."""
    (one, weights), (two, others) = json.loads(fresh(TWO_REPLICAS).splitlines()[-1])
    assert one.keys() == two.keys() and {"ctc_loss", "own_loss"} <= one.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
