"""Log mel bands, cepstra, derivatives and their normalisation, beside plain numpy and tf.signal."""

import keras
import numpy as np
import pytest
import scipy.fft
import tensorflow as tf
from keras import ops
from ponderzoo.export._package import package
from ponderzoo.layers import MFCC, FeatureNormalization, LogMel, SequenceMask
from ponderzoo.zoo.signatures._signature import Signature

RATE = 8000
WINDOW, STEP, SIZE = 200, 80, 256
LENGTHS = [1000, 437, 280, 200, 199, 1, 0]


def noise(*shape, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=shape)


def frames_of(audio):
    starts = range(0, len(audio) - WINDOW + 1, STEP)
    return np.array([audio[start : start + WINDOW] for start in starts]).reshape(-1, WINDOW)


def log_mel_of(audio, bands):
    """Log mel bands of one row, with the filters of tf.signal; and log energies."""
    filters = tf.signal.linear_to_mel_weight_matrix(
        bands, SIZE // 2 + 1, RATE, 0.0, RATE / 2, tf.float64
    )
    rows, energies = [], []
    for frame in frames_of(audio):
        shaped = frame - 0.97 * np.append(frame[0], frame[:-1])
        window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))
        power = np.abs(np.fft.rfft(shaped * window, SIZE)) ** 2
        rows.append(np.log(np.maximum(power @ filters.numpy(), 1e-10)))
        energies.append(np.log(max(sum(x * x for x in frame), 1e-10)))
    return np.array(rows).reshape(-1, bands), np.array(energies)


def deltas_of(rows):
    """The least-squares slope through five frames, of which missing ones repeat the last."""
    slopes = []
    for time in range(len(rows)):
        around = [rows[min(max(time + r, 0), len(rows) - 1)] for r in range(-2, 3)]
        slopes.append(np.polyfit(range(-2, 3), np.array(around), 1)[0])
    return np.array(slopes).reshape(rows.shape)


def with_deltas(rows, orders):
    parts = [rows]
    for _ in range(orders):
        parts.append(deltas_of(parts[-1]))
    return np.concatenate(parts, axis=1)


def expected(kind, audio, deltas=2):
    bands, energies = log_mel_of(audio, 40 if kind is LogMel else 26)
    if kind is MFCC:
        bands = scipy.fft.dct(bands, norm="ortho")[:, 1:13]
    return with_deltas(np.concatenate([bands, energies[:, None]], axis=1), deltas)


both = pytest.mark.parametrize("kind", [LogMel, MFCC])


# What the features are.


@both
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 2e-3)])
def test_features_are_those_of_each_row_alone(kind, dtype, tolerance):
    """Lengths 0, 1 and less than a window included, with padding that is no number."""
    audio = noise(len(LENGTHS), 1000)
    given = np.where(np.arange(1000) < np.array(LENGTHS)[:, None], audio, np.nan).astype(dtype)
    features, counts = kind(rate=RATE, dtype=dtype)(given, np.array(LENGTHS, "int32"))
    features = np.asarray(features)
    assert features.dtype == dtype and np.asarray(counts).tolist() == [11, 3, 2, 1, 0, 0, 0]
    for row, count, length, own in zip(features, np.asarray(counts), LENGTHS, audio):
        wanted = expected(kind, own[:length])
        assert len(wanted) == count
        np.testing.assert_allclose(row[:count], wanted, rtol=0, atol=tolerance)
        assert not row[count:].any()


def test_the_papers_have_123_39_and_26_features():
    audio, lengths = noise(1, 16000), np.array([16000])
    for layer, width in ((LogMel(), 123), (MFCC(), 39), (MFCC(deltas=1), 26)):
        assert layer(audio, lengths)[0].shape == (1, 98, width), "a second, at 16 kHz"
    assert LogMel(energy=False, deltas=0, bands=26)(audio, lengths)[0].shape == (1, 98, 26)


def test_cepstra_are_those_of_tf_signal():
    audio, lengths = noise(2, 1000).astype("float32"), np.array([1000, 1000])
    settings = {"rate": RATE, "bands": 26, "energy": False, "deltas": 0}
    bands = LogMel(**settings)(audio, lengths)[0]
    found = MFCC(**settings)(audio, lengths)[0]
    wanted = tf.signal.mfccs_from_log_mel_spectrograms(bands)[..., 1:13]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 199, 200, 279, 280, 1000])
def test_there_are_whole_frames_only(samples):
    """As many as tf.signal.frame cuts, also where the size is not known before."""
    layer, audio = LogMel(rate=RATE), tf.constant(noise(1, samples), "float32")
    count = len(tf.signal.frame(audio[0], WINDOW, STEP))
    unknown = [tf.TensorSpec((None, None)), tf.TensorSpec((None,), "int32")]
    for call in (layer, tf.function(layer, input_signature=unknown)):
        features, lengths = call(audio, tf.constant([samples]))
        assert features.shape == (1, count, 123) and lengths.numpy().tolist() == [count]


def test_a_length_beyond_the_audio_is_that_of_the_audio():
    features, lengths = LogMel(rate=RATE)(noise(1, 400), np.array([4000]))
    assert np.asarray(lengths).tolist() == [3] and features.shape[1] == 3


@pytest.mark.parametrize("pitch", [300, 1000, 2500])
def test_a_pure_tone_lights_the_band_it_lies_in(pitch):
    audio = 0.5 * np.sin(2 * np.pi * pitch * np.arange(2000) / RATE)[None]
    features, _ = LogMel(rate=RATE, energy=False, deltas=0, bands=20)(audio, np.array([2000]))
    place = 21 * np.log1p(pitch / 700) / np.log1p(RATE / 2 / 700) - 1
    brightest = np.asarray(features)[0].argmax(axis=-1)
    assert np.all(np.abs(brightest - place) <= 0.6), "of triangles that overlap by half"


@both
def test_a_signal_that_grows_evenly_has_constant_slopes(kind):
    """Each frame is the one before, 1.5 times louder; cepstra do not hear loudness."""
    one_step = noise(STEP)
    audio = np.concatenate([one_step * 1e-3 * 1.5**number for number in range(15)])[None]
    layer = kind(rate=RATE, dtype="float64")
    features = np.asarray(layer(audio, np.array([audio.size]))[0])[0]
    _, first, second = np.split(features, 3, axis=-1)
    slope = np.full(first.shape[1], 2 * np.log(1.5))
    if kind is MFCC:
        slope[:-1] = 0
    np.testing.assert_allclose(first[2:-2], np.tile(slope, (len(first) - 4, 1)), atol=1e-9)
    np.testing.assert_allclose(second[4:-4], 0, atol=1e-9)
    assert np.all(first[0, -1:] < slope[-1:]) and np.all(first[0, -1:] > 0), "edges are repeated"


@both
def test_a_shift_by_a_step_shifts_the_frames(kind):
    audio, layer = noise(1, 1400), kind(rate=RATE, deltas=0)
    frames = np.asarray(layer(audio, np.array([1400]))[0])
    later = np.asarray(layer(audio[:, STEP:], np.array([1400 - STEP]))[0])
    np.testing.assert_allclose(later, frames[:, 1:], atol=1e-5)


@both
def test_silence_gives_finite_numbers_and_gradients(kind):
    audio, layer = tf.zeros((1, 600)), kind(rate=RATE)
    with tf.GradientTape() as tape:
        tape.watch(audio)
        features, _ = layer(audio, tf.constant([600]))
        total = tf.reduce_sum(features)
    assert np.isfinite(features).all() and np.isfinite(tape.gradient(total, audio)).all()
    energy = np.asarray(features)[0, :, 40 if kind is LogMel else 12]
    np.testing.assert_allclose(energy, np.log(1e-10), rtol=1e-6)


def test_louder_audio_adds_to_the_log_energies():
    layer = LogMel(rate=RATE, deltas=0)
    quiet, loud = (np.asarray(layer(a * noise(1, 600), np.array([600]))[0]) for a in (1, 4))
    np.testing.assert_allclose(loud - quiet, np.log(16), atol=1e-4)


# How they are computed.


def test_mixed_precision_computes_in_float32():
    audio = noise(2, 1000).astype("float32")
    lengths = np.array([1000, 600])
    features, _ = LogMel(rate=RATE, dtype="mixed_float16")(audio, lengths)
    full, _ = LogMel(rate=RATE)(audio, lengths)
    assert keras.backend.standardize_dtype(features.dtype) == "float16"
    np.testing.assert_array_equal(features, np.asarray(full).astype("float16"))


def test_it_has_no_weights():
    layer = MFCC(rate=RATE)
    layer(noise(1, 300), np.array([300]))
    assert not layer.weights


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"rate": 0}, "rate must be a whole number from 1 on; got 0"),
        ({"window": 0}, "window must be in seconds, and one sample or more at 16000 Hz; got 0"),
        ({"step": 1e-6}, "step must be in seconds"),
        ({"bands": 0}, "bands must be"),
        ({"bands": 400}, "each of the 400 mel bands must hold a frequency .* number 0 holds none"),
        ({"lowest_frequency": -1}, "between 0 and half the rate, 8000.0 Hz; got -1"),
        ({"highest_frequency": 9000}, "got 0.0 and 9000"),
        ({"lowest_frequency": 500, "highest_frequency": 400}, "got 500 and 400"),
        ({"deltas": -1}, "deltas must be"),
        ({"delta_window": 0}, "delta_window must be"),
        ({"preemphasis": 1}, r"preemphasis must lie in \[0, 1\); got 1"),
        ({"floor": 0}, "floor must be positive; got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LogMel(**settings)


def test_cepstra_are_fewer_than_bands_and_audio_is_of_floats():
    with pytest.raises(ValueError, match="fewer than the 12 bands; got 12"):
        MFCC(bands=12)
    with pytest.raises(ValueError, match="divided by 32768"):
        LogMel(rate=RATE)(tf.zeros((1, 300), "int16"), tf.constant([300]))


def recognizer():
    """Audio in, normalised features out."""
    audio = keras.Input((None,), name="audio")
    lengths = keras.Input((), dtype="int32", name="lengths")
    features, frames = MFCC(rate=RATE)(audio, lengths)
    mask = SequenceMask()(features, frames)
    normalization = FeatureNormalization()
    outputs = {"features": normalization(features, mask=mask), "frames": frames}
    model = keras.Model({"audio": audio, "lengths": lengths}, outputs)
    normalization.adapt([MFCC(rate=RATE)(noise(3, 900), np.array([900, 600, 300]))])
    return model


def test_raw_audio_is_served_by_the_session_of_the_stock_server(tmp_path):
    model = recognizer()
    sample = {
        "audio": noise(2, 700).astype("float32"),
        "lengths": np.array([700, 300], "int32"),
    }
    signature = Signature(
        function=lambda audio, lengths: model({"audio": audio, "lengths": lengths}),
        inputs={"audio": ((None, None), "float32"), "lengths": ((None,), "int32")},
        sample=sample,
        outputs={"features": "what a network would read", "frames": "how many are real"},
    )
    version = package(model, {"serve": signature}, "features", tmp_path)
    loaded = tf.saved_model.load(version).signatures["serving_default"]
    found = loaded(**{key: tf.constant(value) for key, value in sample.items()})
    np.testing.assert_allclose(found["features"], model(sample)["features"], atol=1e-4)


IN_JAX = """
import sys
import jax, numpy as np
from ponderzoo.layers import LogMel, MFCC
with np.load(sys.argv[1]) as file:
    audio, lengths = file["audio"], file["lengths"]
found = {}
for kind in (LogMel, MFCC):
    layer = kind(rate=8000)
    features, found[kind.__name__ + "_lengths"] = layer(audio, lengths)
    found[kind.__name__] = features
    compiled, _ = jax.jit(layer.__call__)(audio, lengths)
    np.testing.assert_allclose(features, compiled, atol=2e-3)
np.savez(sys.argv[2], **{key: np.asarray(value) for key, value in found.items()})
"""


def test_jax_hears_what_tensorflow_hears(fresh, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    audio, lengths = noise(len(LENGTHS), 1000).astype("float32"), np.array(LENGTHS, "int32")
    np.savez(tmp_path / "in.npz", audio=audio, lengths=lengths)
    fresh(IN_JAX, tmp_path / "in.npz", tmp_path / "out.npz", backend="jax")
    with np.load(tmp_path / "out.npz") as found:
        for kind in (LogMel, MFCC):
            features, counts = kind(rate=RATE)(audio, lengths)
            np.testing.assert_allclose(found[kind.__name__], features, atol=2e-3)
            np.testing.assert_array_equal(found[f"{kind.__name__}_lengths"], counts)


# Normalisation.


def test_statistics_are_those_of_real_frames():
    batches = [
        (noise(3, 7, 4, seed=1) + 5, np.array([7, 2, 0])),
        (noise(1, 3, 4, seed=2) * 9, np.array([3])),
        (noise(2, 0, 4), np.array([0, 0])),
        (noise(2, 5, 4, seed=3), np.array([0, 1])),
    ]
    real = np.concatenate(
        [row[:n] for features, lengths in batches for row, n in zip(features, lengths)]
    )
    layer = FeatureNormalization(dtype="float64")
    layer.adapt(iter(batches))
    np.testing.assert_allclose(layer.mean, real.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.standard_deviation, real.std(axis=0), rtol=1e-12)
    found = np.asarray(layer(real[None]))[0]
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-12)
    assert not layer.trainable_variables and len(layer.non_trainable_variables) == 2


def test_a_large_mean_does_not_drown_the_deviation():
    batches = [(noise(2, 50, 3, seed=seed) + 1e4, np.array([50, 50])) for seed in range(4)]
    layer = FeatureNormalization(dtype="float64")
    layer.adapt(batches)
    real = np.concatenate([features for features, _ in batches]).reshape(-1, 3)
    np.testing.assert_allclose(layer.standard_deviation, (real - 1e4).std(axis=0), rtol=1e-10)


def test_features_pass_unchanged_before_and_masked_frames_are_zero():
    features = noise(2, 3, 4).astype("float32")
    layer = FeatureNormalization()
    np.testing.assert_array_equal(layer(features), features)
    layer.adapt([(features + 3, np.array([3, 3]))])
    mask = np.array([[True, True, True], [True, False, False]])
    found = np.asarray(layer(features, mask=mask))
    assert not found[1, 1:].any() and found[mask].all()
    np.testing.assert_array_equal(found[mask], np.asarray(layer(features))[mask])
    assert layer(np.zeros((0, 3, 4), "float32")).shape == (0, 3, 4)


def test_a_feature_that_never_varies_is_only_centred():
    features = np.concatenate([noise(2, 40, 1), np.full((2, 40, 1), np.log(1e-10))], axis=-1)
    layer = FeatureNormalization()
    layer.adapt([(features, np.array([40, 17]))])
    assert np.asarray(layer.standard_deviation)[1] == 1
    np.testing.assert_allclose(np.asarray(layer(features))[..., 1], 0, atol=1e-5)


def test_what_is_added_to_all_frames_of_an_utterance_is_taken_away():
    layer = FeatureNormalization(centred=True, dtype="float64")
    rng = np.random.default_rng(0)
    features, lengths = rng.normal(size=(3, 7, 4)) * [1, 2, 3, 0], np.array([7, 4, 0])
    layer.adapt([(features, lengths)])
    mask = np.arange(7) < lengths[:, None]
    found = np.asarray(layer(features, mask=mask))
    real = found[mask]
    np.testing.assert_allclose(real[:, :3].std(axis=0), 1, rtol=1e-12)
    for row in range(2):
        np.testing.assert_allclose(found[row, : lengths[row]].mean(axis=0), 0, atol=1e-12)
    assert not found[~mask].any()
    moved = features + rng.normal(size=(3, 1, 4))
    moved[~mask] = 1e6
    np.testing.assert_allclose(layer(moved, mask=mask), found, atol=1e-9)
    alone = layer(features[1:2, :4])
    np.testing.assert_allclose(alone[0], found[1, :4], atol=1e-12)
    again = FeatureNormalization.from_config(layer.get_config())
    assert again.centred and not FeatureNormalization().centred


def test_mixed_precision_normalises_in_float32():
    features = (1000 + noise(1, 9, 2)).astype("float32")
    layer = FeatureNormalization(dtype="mixed_float16")
    layer.adapt([(features, np.array([9]))])
    found = layer(ops.convert_to_tensor(features))
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    assert layer.mean.dtype == "float32"
    np.testing.assert_allclose(np.std(np.asarray(found, "float64"), axis=1), 1, atol=1e-2)


@pytest.mark.parametrize(
    "batches, words",
    [
        ([], "one real frame or more; got none"),
        ([(np.ones((1, 2, 3)), np.array([0]))], "got none"),
        ([(np.ones((1, 2, 3)), np.array([2])), (np.ones((1, 2, 4)), np.array([2]))], "3 features"),
        ([(np.full((1, 2, 3), np.nan), np.array([1]))], "finite numbers in real frames"),
    ],
)
def test_data_without_statistics_is_refused(batches, words):
    with pytest.raises(ValueError, match=words):
        FeatureNormalization().adapt(batches)


def test_padding_that_is_no_number_does_not_count():
    features = noise(1, 4, 2)
    features[0, 2:] = np.nan
    layer = FeatureNormalization()
    layer.adapt([(features, np.array([2]))])
    mask = np.array([[True, True, False, False]])
    assert np.isfinite(layer(features, mask=mask)).all()


def test_statistics_are_saved_with_the_model(tmp_path):
    model = recognizer()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    inputs = {"audio": noise(2, 700), "lengths": np.array([700, 300])}
    np.testing.assert_array_equal(again(inputs)["features"], model(inputs)["features"])
