"""The RNN transducer: its weights, its equations, and what only it can learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import PeepholeLSTM, RNNTransducer, TransducerLoss
from scipy.special import expit as sigmoid

CLASSES, UNITS, FEATURES = 5, 3, 4


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def transducer(joint_units, dtype="float64", blank=0, scale=1.0):
    layer = RNNTransducer(CLASSES, UNITS, joint_units, blank, dtype=dtype)
    layer.build((None, None, FEATURES))
    layer.set_weights([scale * draw(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def predicted(layer, labels):
    """Hidden vectors of the prediction network after each beginning of labels, step by step."""
    kernel, recurrent, bias, peep = (np.asarray(w) for w in layer.prediction.weights)
    others = [label for label in range(CLASSES) if label != layer.blank]
    h, c, rows = np.zeros(UNITS), np.zeros(UNITS), []
    for label in [layer.blank, *labels]:
        x = np.array([label == other for other in others], float)
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        old = c
        c = sigmoid(f + peep[1] * old) * old + sigmoid(i + peep[0] * old) * np.tanh(g)
        h = sigmoid(o + peep[2] * c) * np.tanh(c)
        rows.append(h)
    return np.array(rows)


@pytest.mark.parametrize("joint_units", [0, 6])
@pytest.mark.parametrize("blank", [0, 2])
def test_the_lattice_is_what_the_equations_say(joint_units, blank):
    layer = transducer(joint_units, blank=blank)
    x, labels = draw(2, 3, FEATURES), np.array([[1, 3, 4], [4, -1, -1]])
    lattice, *_ = layer(x, labels=labels, lengths=np.array([3, 2]))
    assert lattice.shape == (2, 3, 4, CLASSES)
    for row, told in enumerate(([1, 3, 4], [4])):
        f = x[row] @ layer.from_transcription.kernel + layer.from_transcription.bias
        g = predicted(layer, told) @ layer.from_prediction.kernel
        if joint_units:
            hidden = np.tanh(f[:, None] + g[None])
            expected = hidden @ layer.readout.kernel + layer.readout.bias
        else:
            expected = f[:, None] + g[None] + layer.from_prediction.bias
        real = (3, 2)[row]
        found = lattice[row, :real, : len(told) + 1]
        np.testing.assert_allclose(found, expected[:real], atol=1e-12)
    padding = np.asarray(lattice)[1, 2]
    assert (padding[:, blank] == 0).all() and (np.delete(padding, blank, axis=-1) < -9e29).all()


@pytest.mark.parametrize("joint_units", [0, 6])
def test_what_is_found_are_the_most_probable_symbols_one_by_one(joint_units):
    layer = transducer(joint_units, scale=2.0)
    x, lengths = draw(6, 7, FEATURES, seed=3), np.array([7, 6, 5, 7, 1, 0])
    nothing = np.zeros((6, 0), "int32")
    _, labels, frames = (np.asarray(y) for y in layer(x, labels=nothing, lengths=lengths))
    assert (labels >= 0).any() and not (labels[5] >= 0).any()
    # Told what it found, the network's most probable symbols are those, along the same way.
    lattice = np.asarray(layer(x, labels=labels, lengths=lengths)[0])
    for row in range(6):
        count = (labels[row] >= 0).sum()
        place, emitted = 0, 0
        for t in range(lengths[row]):
            emitted = 0
            while emitted < layer.max_symbols and place < labels.shape[1]:
                best = lattice[row, t, place].argmax()
                if best == layer.blank:
                    break
                assert (labels[row, place], frames[row, place]) == (best, t)
                place, emitted = place + 1, emitted + 1
        assert place == count


def test_rows_do_not_see_one_another_or_their_padding():
    layer = transducer(6, scale=2.0)
    x, labels, lengths = draw(3, 5, FEATURES), np.array([[1, 2], [3, -1], [-1, -1]]), [5, 3, 1]
    told = np.where(np.arange(5)[None, :, None] < np.array(lengths)[:, None, None], x, 1e6)
    lattice, found, _ = layer(told, labels=labels, lengths=np.array(lengths))
    for row, length in enumerate(lengths):
        alone, found_alone, _ = layer(
            x[row : row + 1, :length],
            labels=labels[row : row + 1, : (2, 1, 0)[row]],
            lengths=np.array([length]),
        )
        size = alone.shape[2]
        np.testing.assert_allclose(lattice[row, :length, :size], alone[0], atol=1e-9)
        found_alone = np.asarray(found_alone)[0]
        np.testing.assert_array_equal(np.asarray(found)[row, : len(found_alone)], found_alone)


def test_the_loss_reaches_every_weight_and_decoding_none():
    layer, x = transducer(6), tf.constant(draw(2, 4, FEATURES))
    labels = np.array([[1, 2], [3, -1]])

    @tf.function(jit_compile=True)
    def gradients():
        with tf.GradientTape() as tape:
            lattice, *_ = layer(x, labels=labels, lengths=np.array([4, 3]), training=True)
            loss = TransducerLoss()(labels, lattice)
        return loss, tape.gradient(loss, [v.value for v in layer.trainable_variables])

    loss, found = gradients()
    found = [g.numpy() for g in found]
    assert np.isfinite(loss) and all(np.isfinite(g).all() and g.any() for g in found)


def test_the_first_papers_net_has_261328_weights():
    transcription = PeepholeLSTM(128, bidirectional=True)
    transcription.build((None, None, 26))
    layer = RNNTransducer(40, 128)
    layer.build((None, None, 256))
    assert transcription.count_params() + layer.count_params() == 261_328


def test_it_learns_more_labels_than_frames():
    # Every frame says two labels, which no path of CTC can do.
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    pairs = np.array([[1, 2], [3, 1], [2, 2], [4, 3]])

    def batch(size):
        said = rng.integers(0, 4, (size, 3))
        return np.eye(4, dtype="float32")[said], pairs[said].reshape(size, 6)

    sequence = keras.Input((3, 4), name="sequence")
    labels = keras.Input((6,), dtype="int32", name="labels")
    lengths = keras.ops.full_like(labels[:, 0], 3)
    # Without it nothing knows how many frames were read, and equal frames are one.
    heard = PeepholeLSTM(16)(sequence)
    lattice, found, _ = RNNTransducer(CLASSES, 16, 16)(heard, labels=labels, lengths=lengths)
    model = keras.Model({"sequence": sequence, "labels": labels}, {"lattice": lattice})
    model.compile(keras.optimizers.Adam(0.02), {"lattice": TransducerLoss()}, jit_compile=True)
    x, y = batch(6400)
    model.fit({"sequence": x, "labels": y}, {"lattice": y}, batch_size=32, epochs=2, verbose=0)
    decode = keras.Model(model.input, found)
    x, y = batch(100)
    answers = decode.predict({"sequence": x, "labels": np.zeros_like(y)}, verbose=0)
    assert (answers[:, :6] == y).mean() > 0.98 and (answers[:, 6:] < 0).all()


@pytest.mark.parametrize("free", [False, True])
def test_empty_and_short_sequences(free):
    layer = transducer(0)
    run = tf.function(
        lambda x, labels, lengths: layer(x, labels=labels, lengths=lengths),
        input_signature=[
            tf.TensorSpec([None, None, FEATURES] if free else [1, 1, FEATURES], "float64"),
            tf.TensorSpec([None, None] if free else [1, 0], "int32"),
            tf.TensorSpec([None] if free else [1], "int32"),
        ],
    )
    lattice, found, _ = run(draw(1, 1, FEATURES), np.zeros((1, 0), "int32"), [1])
    assert lattice.shape == (1, 1, 1, CLASSES) and found.shape[0] == 1


@pytest.mark.parametrize(
    "options, told",
    [
        ({"classes": 1, "units": 3}, "classes must be"),
        ({"classes": 4, "units": 3, "blank": 4}, "blank must be a class"),
        ({"classes": 4, "units": 3, "joint_units": -1}, "joint_units must be"),
    ],
)
def test_bad_arguments_are_told(options, told):
    with pytest.raises(ValueError, match=told):
        RNNTransducer(**options)
