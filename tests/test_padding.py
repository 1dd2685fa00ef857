"""What recurrent layers do at masked steps: one rule for all of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.layers import ACT, NTM, AssociativeLSTM, DeepLSTM, GridLSTM, PeepholeLSTM

FEATURES = 2
HOLES = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]], bool)
EXACT = 1e-12
WITH_TIME = {"return_sequences": True}
# What makes each layer, and what it returns at masked steps unless it is told.
LAYERS = {
    "act": (lambda **o: ACT(keras.layers.LSTMCell(3, dtype=o["dtype"]), **WITH_TIME, **o), False),
    "ntm": (lambda **o: NTM(3, memory_slots=4, word_size=2, **WITH_TIME, **o), False),
    "associative": (lambda **o: AssociativeLSTM(4, copies=2, **WITH_TIME, **o), False),
    "grid": (lambda **o: GridLSTM(3, layers=2, tied=False, **o), True),
    "peephole": (lambda **o: PeepholeLSTM(3, **o), True),
    "deep": (lambda **o: DeepLSTM(3, layers=2, skips=True, **o), True),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
each_setting = pytest.mark.parametrize("zero", [False, True], ids=["repeat", "zero"])


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def make(name, dtype="float64", **options):
    layer = LAYERS[name][0](dtype=dtype, return_state=True, **options)
    layer.build((None, None, FEATURES))
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(0.7 * draw([0, i], *variable.shape))
    return layer


def sequence():
    return draw(1, *HOLES.shape, FEATURES)


def evaluate(layer, x):
    """Output and states, and the gradient of a weighted sum of them by the input."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, mask=tf.constant(HOLES), training=True)
        total = tf.add_n([tf.reduce_sum(y * draw([2, i], *y.shape)) for i, y in enumerate(outputs)])
    return [np.asarray(y) for y in (*outputs, tape.gradient(total, x))]


def filled(output, zero):
    """Outputs whose masked steps are what the rule says, by those of the real ones."""
    expected = np.zeros_like(output)
    for row, mask in enumerate(HOLES):
        for t, is_real in enumerate(mask):
            if is_real:
                expected[row, t] = output[row, t]
            elif t and not zero:
                expected[row, t] = expected[row, t - 1]
    return expected


@each_setting
@each_layer
def test_masked_steps_count_as_if_they_were_not_there(name, zero):
    layer, x = make(name, zero_output_for_mask=zero), sequence()
    output, *states, gradient = evaluate(layer, np.where(HOLES[..., None], x, np.nan))
    for row, real in enumerate(HOLES):
        alone, *end = layer(x[row : row + 1, real])
        np.testing.assert_allclose(output[row, real], alone[0], atol=EXACT)
        for state, expected in zip(states, end, strict=True):
            np.testing.assert_allclose(state[row], expected[0], atol=EXACT)
    np.testing.assert_array_equal(output, filled(output, zero))
    assert np.isfinite(gradient).all() and not gradient[~HOLES].any() and gradient[HOLES].any()


@each_setting
@pytest.mark.parametrize("name", ["act", "ntm", "associative", "peephole"])
def test_without_time_the_output_is_that_of_the_last_real_step(name, zero):
    layer = make(name, zero_output_for_mask=zero)
    every, *_ = make(name, zero_output_for_mask=False)(sequence(), mask=HOLES)
    layer.return_sequences = False
    last, *_ = layer(sequence(), mask=HOLES)
    np.testing.assert_allclose(last, every[:, -1], atol=EXACT)


@each_layer
def test_a_config_from_before_the_argument_means_what_it_meant(name):
    layer, (_, before) = make(name), LAYERS[name]
    config = layer.get_config()
    assert config.pop("zero_output_for_mask") is before
    assert type(layer).from_config(config).get_config()["zero_output_for_mask"] is before
    other = type(layer).from_config({**config, "zero_output_for_mask": not before})
    assert other.get_config()["zero_output_for_mask"] is not before


@each_setting
def test_a_state_that_is_given_is_no_output(zero):
    """Before the first real step there was no output, as in `keras.layers.RNN`."""
    layer = make("associative", zero_output_for_mask=zero)
    options = {"zero_output_for_mask": zero, "dtype": "float64"}
    theirs = keras.layers.RNN(layer.cell, return_sequences=True, **options)
    state = [draw(3, len(HOLES), size) for size in layer.cell.state_size]
    output, *_ = layer(sequence(), mask=HOLES, initial_state=state)
    expected = theirs(tf.constant(sequence()), mask=tf.constant(HOLES), initial_state=state)
    np.testing.assert_allclose(output, expected, atol=EXACT)
