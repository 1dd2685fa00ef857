"""Phonemes: what is drawn and shown of them, the settings of training they need, and serving."""

import functools
import glob
import io
import json
import os
import wave

import keras
import numpy as np
import pytest
import scipy.stats
from ponderzoo import trainers, zoo
from ponderzoo.layers import ctc_beam_search, transducer_loss
from ponderzoo.trainers import data
from ponderzoo.trainers._callbacks import Noise
from ponderzoo.trainers._evaluate import evaluate
from ponderzoo.trainers._weights import take_weights
from ponderzoo.trainers.figures import speech
from ponderzoo.trainers.figures._panels import small_png
from ponderzoo.trainers.tasks import phonemes
from ponderzoo.trainers.tasks.phonemes import _gradient
from ponderzoo.zoo._networks import build_ctc
from ponderzoo.zoo.rnn_transducer import build as build_transducer

SETS = ("tts_phones", "asterisk", "timit")
SPLITS = ("train", "validation", "test")
SMALL = {
    "features": "mfcc",
    "deltas": 1,
    "units": 8,
    "layers": 1,
    "bidirectional": True,
    "input_noise": 0.0,
    "weight_noise": 0.0,
}
RECIPE = {
    "updates": 20,
    "steps_per_epoch": 5,
    "batch_size": 12,
    "learning_rate": 0.03,
    "validation_rows": 4,
    "evaluation_rows": 4,
    "histograms": 0,
    "figures": False,
    # Without it Keras would not compile on JAX at all.
    "jit_compile": keras.backend.backend() == "jax",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    for name in SETS:
        data.dataset(name).sample(folder)
    return str(folder)


def task_of(root, name="tts_phones", **settings):
    return trainers.task("phonemes", data=name, root=root, **{"buckets": 1, **settings})


def model_of(task, seed=0, **settings):
    keras.utils.set_random_seed(seed)
    return build_ctc(task, **SMALL | settings)


def numbers(task, audio, split):
    """Which utterances of a split rows of audio are, all zero behind their ends."""
    found = []
    for row in audio:
        found += [
            number
            for number, utterance in enumerate(task.utterances(split))
            if np.array_equal(np.rint(row[: len(utterance.audio)] * 2**15), utterance.audio)
            and not row[len(utterance.audio) :].any()
        ]
    assert len(found) == len(audio)
    return found


# The data.


@pytest.mark.parametrize("name", data.list())
def test_a_data_set_tells_where_it_is_and_whether(name, tmp_path):
    module = data.dataset(name)
    assert module.path(tmp_path).startswith(str(tmp_path)) and not module.available(tmp_path)
    assert os.listdir(tmp_path) == [] and callable(module.fetch)
    if hasattr(module, "sample"):
        module.sample(tmp_path)
        assert os.listdir(tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_every_utterance_of_test_comes_once_with_its_phonemes(name, root):
    task, module = task_of(root, name, buckets=3), data.dataset(name)
    expected = [u for u in module.load(root) if u.split == "test"]
    assert task.examples("test") == len(expected) and task.rate == module.RATE
    stream = task.dataset("test", 2, len(expected) // 2)
    for epoch in range(2):
        stream.epoch, seen = epoch, []
        for i in range(len(stream)):
            inputs, targets = stream[i]
            assert inputs["audio"].max() <= 1 and inputs["audio"].min() >= -1
            for number, length, labels in zip(
                numbers(task, inputs["audio"], "test"), inputs["lengths"], targets["phonemes"]
            ):
                utterance = expected[number]
                seen.append(utterance.name)
                assert length == len(utterance.audio)
                count = len(utterance.phonemes)
                assert [module.PHONEMES[i - 1] for i in labels[:count]] == [*utterance.phonemes]
                assert (labels[:count] >= 1).all() and (labels[count:] == -1).all()
        assert sorted(seen) == sorted(u.name for u in expected)


@pytest.mark.parametrize("buckets", [1, 5, 50])
def test_training_draws_all_as_often_and_pads_to_the_longest_of_a_group(root, buckets):
    task, rng, drawn = task_of(root, buckets=buckets), np.random.default_rng(0), []
    lengths = np.sort([len(u.audio) for u in task.utterances()])
    longest = {part.max() for part in np.array_split(lengths, min(buckets, 12))}
    for _ in range(400):
        inputs, _ = task.batch(rng, 1)
        assert inputs["audio"].shape[1] in longest
        drawn += numbers(task, inputs["audio"], "train")
    assert scipy.stats.chisquare(np.bincount(drawn, minlength=12)).pvalue > 1e-4


def test_audio_of_training_is_played_at_other_speeds_and_levels(root):
    """A tone keeps its waves where it is played faster, and its form where it is louder."""
    task = task_of(root, speed=0.2, level=6.0)
    plain, rng = task_of(root), np.random.default_rng(0)
    both = [one.rows(np.arange(12), "train", r)[0] for one, r in ((task, rng), (plain, None))]
    ratios, gains = [], []
    for row, length, clean, samples in zip(*(x[k] for x in both for k in ("audio", "lengths"))):
        ratios.append(samples / length)
        gains.append(20 * np.log10(np.abs(row).max() / np.abs(clean).max()))
        waves = [(np.diff(np.sign(x[np.abs(x) > 0.01])) != 0).sum() for x in (row, clean)]
        assert waves[0] == pytest.approx(waves[1], rel=0.03)
        assert not row[length:].any()
    assert 0.79 < min(ratios) < 0.9 and 1.1 < max(ratios) < 1.21
    assert -7 < min(gains) < -3 and 3 < max(gains) < 6.1
    inputs, _ = task.batch(rng, 4, split="validation")
    numbers(task, inputs["audio"], "validation")
    with pytest.raises(ValueError, match="speed must be a share from 0 to below 1, got 1"):
        task_of(root, speed=1)


def test_a_part_of_training_is_the_same_for_every_run(root):
    all_of_it, part = task_of(root), task_of(root, most=5)
    names = [[u.name for u in task.utterances("train")] for task in (all_of_it, part)]
    assert len(set(names[1])) == part.examples("train") == 5 and set(names[1]) < set(names[0])
    assert names[1] == [u.name for u in task_of(root, most=5, buckets=2).utterances("train")]
    assert part.utterances("test") is all_of_it.utterances("test")


def test_what_is_not_there_is_named(root, tmp_path):
    with pytest.raises(ValueError, match="no data set is called 'tts_phone'; did you mean"):
        trainers.task("phonemes", data="tts_phone")
    with pytest.raises(FileNotFoundError, match=r"no file .*asterisk\.npz; `ponderzoo data fetch"):
        task_of(str(tmp_path), "asterisk").batch(np.random.default_rng(0), 2)
    with pytest.raises(FileNotFoundError, match="no TIMIT in"):
        task_of(str(tmp_path), "timit").batch(np.random.default_rng(0), 2)
    with pytest.raises(ValueError, match="no levels of difficulty"):
        task_of(root).batch(np.random.default_rng(0), 2, 3)
    assert task_of(root).corpus == "TTS-Phones" and task_of(root, "timit").corpus == "TIMIT"


def spelt(task, *rows):
    """Logits that are sure of phonemes, `_` the blank, a word for each frame."""
    paths = [
        [0 if word == "_" else 1 + task.phonemes.index(word) for word in row.split()]
        for row in rows
    ]
    return {"phonemes": 9 * np.eye(task.classes, dtype="float32")[paths]}


def labelled(task, *rows):
    width = max(len(row.split()) for row in rows)
    labels = np.full((len(rows), width), -1, "int32")
    for line, row in zip(labels, rows):
        line[: len(row.split())] = [1 + task.phonemes.index(word) for word in row.split()]
    return {"phonemes": labels}


def error(task, targets, outputs):
    (metric,) = task.metrics()["phonemes"]
    metric.update_state(targets["phonemes"], outputs["phonemes"])
    return float(metric.result())


def test_timit_is_scored_in_39_classes_and_the_others_in_their_own():
    task = trainers.task("phonemes", data="timit")
    targets = labelled(task, "h# ix q ux pcl p h#")
    # The glottal stop counts on neither side; what folding makes alike is not merged.
    outputs = spelt(task, "h# _ ih uw uw bcl _ p q pau")
    assert error(task, targets, outputs) == 0
    outputs = spelt(task, "h# _ ih uw _ uw _ _ p aa")
    assert error(task, targets, outputs) == pytest.approx(2 / 6)
    task = trainers.task("phonemes", data="asterisk")
    assert error(task, labelled(task, "s ih t"), spelt(task, "s iy t _")) == pytest.approx(1 / 3)


def test_an_answer_in_words():
    task = trainers.task("phonemes")
    targets = labelled(task, "pau sh iy", "pau aa aa pau")
    outputs = spelt(task, "pau pau _ sh _ iy", "pau aa aa _ aa b")
    inputs = {"audio": np.zeros((2, 24_000)), "lengths": np.array([16_000, 24_000])}
    assert task.describe(inputs, targets, outputs) == [
        "1.0 s: pau sh iy -> heard pau sh iy (ok)",
        "1.5 s: pau aa aa pau -> heard pau aa aa b (1 of 4 wrong)",
    ]
    assert task.describe(inputs, None, outputs)[0] == "1.0 s: heard pau sh iy"
    assert task.describe(inputs, None, spelt(task, "_", "_"))[1] == "1.5 s: heard "


# The model.


def inner(model, name, inputs):
    return keras.Model(model.input, model.get_layer(name).output)(inputs)


@pytest.mark.parametrize("features", ["mfcc", "log_mel"])
def test_prepared_features_are_zero_on_average_with_deviation_1(root, features):
    task = task_of(root)
    model = model_of(task, features=features)
    task.prepare(model, rows=40)
    frames = []
    for i in range(2):
        inputs, _ = task.dataset("train", 20, 2)[i]
        normal = np.asarray(inner(model, "normalization", inputs), "float64")
        real = 1 + (inputs["lengths"] - 400) // 160
        frames += [row[:count] for row, count in zip(normal, real)]
        assert not any(row[count:].any() for row, count in zip(normal, real))
    frames = np.concatenate(frames)
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)


def test_padded_rows_hear_what_rows_alone_do_and_are_sure_of_blank(root):
    task = task_of(root)
    model = model_of(task)
    task.prepare(model, rows=20)
    inputs, _ = task.rows(np.arange(4), "test")
    inputs["lengths"][3] = 399  # no frame
    together = np.asarray(model(inputs)["phonemes"])
    assert len({*inputs["lengths"].tolist()}) == 4
    for row, length in enumerate(inputs["lengths"]):
        frames = max(0, 1 + (length - 400) // 160)
        if frames:
            audio = inputs["audio"][row : row + 1, :length]
            (alone,) = model({"audio": audio, "lengths": np.array([length])})["phonemes"]
            assert alone.shape == (frames, task.classes)
            np.testing.assert_allclose(together[row, :frames], alone, atol=1e-5)
        padding = together[row, frames:]
        assert (padding[:, 0] == 0).all() and (padding[:, 1:] <= -1e30).all()


# Training.


def fit(task, run, settings=None, find=os.fspath, **recipe):
    def build():
        return build_ctc(task, **SMALL | (settings or {}))

    return trainers.fit(build, task, RECIPE | recipe, run, find=find)


def read(run, name):
    with open(os.path.join(run, name), encoding="utf-8") as file:
        return json.load(file)


def weights(run):
    return keras.saving.load_model(os.path.join(run, "model.keras")).get_weights()


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run that learns tones; and its numbers."""
    run = str(tmp_path_factory.mktemp("run") / "run")
    return run, fit(task_of(root), run, histograms=4, figures=True)


def test_learns_tones_and_keeps_the_best_weights(finished, root):
    run, metrics = finished
    history = read(run, "history.json")
    losses = [row["loss"] for row in history]
    assert losses[-1] < 0.6 * losses[0] and metrics["phoneme_error_rate"] <= 1
    validation = [row["validation_phoneme_error_rate"] for row in history]
    model = keras.saving.load_model(os.path.join(run, "model.keras"))
    found = evaluate(model, task_of(root), "validation", 4)
    assert found["phoneme_error_rate"] == pytest.approx(min(validation))


def test_event_file_lets_hear_and_see_validation_utterances(finished, root):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = finished
    events = EventAccumulator(os.path.join(run, "logs"), size_guidance={"tensors": 0}).Reload()
    pictures = [f"figures/{name}" for name in {*task_of(root).captions} - {"speakers", "decoders"}]
    tags = set(events.Tags()["tensors"])
    assert {"sounds", "examples", "examples/spikes", *pictures} <= tags
    assert events.summary_metadata["sounds"].plugin_data.plugin_name == "audio"
    (sounds,) = events.Tensors("sounds")
    wavs = sounds.tensor_proto.string_val[::2]
    inputs, _ = task_of(root).dataset("validation", 64, 1)[0]
    assert len(wavs) > 2 and sum(map(len, wavs)) < 110_000
    for content, row, length in zip(wavs, inputs["audio"], inputs["lengths"]):
        with wave.open(io.BytesIO(content)) as file:
            assert (file.getframerate(), file.getnframes()) == (16_000, length)
            heard = np.frombuffer(file.readframes(length), "uint8") / 127 - 128 / 127
        np.testing.assert_allclose(heard, row[:length] / np.abs(row).max(), atol=1 / 127)
    assert len(events.Tensors("examples/spikes")) == 4
    assert " heard " in events.Tensors("examples")[-1].tensor_proto.string_val[0].decode()
    assert sum(map(os.path.getsize, glob.glob(f"{run}/logs/*"))) < 300_000


def test_figures_are_drawn(finished, root):
    files = set(os.listdir(os.path.join(finished[0], "figures")))
    assert files == {f"{name}.png" for name in {*task_of(root).captions} - {"speakers", "decoders"}}


def test_start_takes_weights_of_layers_of_the_same_name(finished, root, tmp_path):
    task, asked = task_of(root), []
    fit(
        task,
        str(tmp_path / "run"),
        start="somewhere",
        find=lambda name: asked.append(name) or finished[0],
        updates=1,
        learning_rate=0.0,
    )
    for one, other in zip(weights(tmp_path / "run"), weights(finished[0]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked == ["somewhere"]

    # What is not there keeps its own.
    model, other = model_of(task, layers=2), model_of(task, 1)
    other.get_layer("transcription").name = "something"
    other.save(tmp_path / "other.keras")
    before = model.get_layer("transcription").get_weights()
    take_weights(model, tmp_path / "other.keras")
    for one, kept in zip(model.get_layer("transcription").get_weights(), before):
        np.testing.assert_array_equal(one, kept)
    pairs = (model.get_layer("readout"), other.get_layer("readout"))
    for one, taken in zip(*(layer.get_weights() for layer in pairs)):
        np.testing.assert_array_equal(one, taken)


def test_start_says_what_does_not_fit(finished, root, tmp_path):
    file = os.path.join(finished[0], "model.keras")
    model = model_of(task_of(root), units=9)
    with pytest.raises(ValueError, match=r"transcription needs weights of .*9.*, and has .*8"):
        take_weights(model, file)
    stranger = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="stranger")])
    with pytest.raises(ValueError, match=r"has layers \['normalization'.* none of \['stranger'\]"):
        take_weights(stranger, file)
    with pytest.raises(FileNotFoundError):
        take_weights(stranger, tmp_path)


class Stopped(Exception):
    """Stands in for a kill."""


def run_noisy(root, folder, name, **changes):
    """Losses of three epochs of two updates of a net whose weights may be disturbed."""
    recipe = {"updates": 6, "steps_per_epoch": 2, "learning_rate": 0.1, **changes}
    fit(task_of(root), os.path.join(folder, name), {"weight_noise": 0.3}, **recipe)
    return [row["loss"] for row in read(os.path.join(folder, name), "history.json")]


def check_noise(root, folder):
    """A third and a little of three epochs: noise begins with the third."""
    late, never = (run_noisy(root, folder, str(s), noise_from=s) for s in (0.34, 1.0))
    assert late[:2] == never[:2] and late[2] != never[2]
    return late


@pytest.fixture(scope="module")
def late(root, tmp_path_factory):
    """A run whose noise begins in time, and its losses."""
    folder = str(tmp_path_factory.mktemp("late"))
    return os.path.join(folder, "0.34"), check_noise(root, folder)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_noise_begins_in_time(backend, fresh, root, tmp_path, request):
    if backend == keras.backend.backend():
        assert np.all(np.isfinite(request.getfixturevalue("late")[1]))
        return
    code = "import sys, test_phonemes; test_phonemes.check_noise(*sys.argv[1:])"
    fresh(code, root, tmp_path, backend=backend)


def test_a_stopped_run_goes_on_with_its_noise_and_its_best_weights(root, late, tmp_path):
    folder = str(tmp_path)
    begin = Noise.on_epoch_begin

    def stopping(self, epoch, logs=None):
        if epoch == 2:
            raise Stopped
        begin(self, epoch, logs)

    Noise.on_epoch_begin = stopping
    try:
        with pytest.raises(Stopped):
            run_noisy(root, folder, "broken", noise_from=0.34)
    finally:
        Noise.on_epoch_begin = begin
    assert os.path.exists(os.path.join(folder, "broken", "backup", "state.npz"))
    assert run_noisy(root, folder, "broken", noise_from=0.34) == late[1]
    both = [late[0], os.path.join(folder, "broken")]
    for one, other in zip(*map(weights, both), strict=True):
        np.testing.assert_array_equal(one, other)
    best = [np.load(os.path.join(run, "backup", "best.npz")) for run in both]
    assert best[0].files == best[1].files
    for name in best[0].files:
        np.testing.assert_array_equal(best[0][name], best[1][name])
    timed = {"minutes", "cpu_minutes", "examples_per_second", "data_share", "hardware", "train"}
    timed |= {"checksum"}
    one, other = (read(run, "metrics.json") for run in both)
    assert all(one[key] == other[key] for key in one.keys() - timed)


# Pictures.


def test_the_gradient_is_that_of_the_normalized_inputs(root):
    """Along its own direction, by a step on the features before they are normalized."""
    task = task_of(root)
    model = model_of(task)
    task.prepare(model, rows=20)
    inputs, _ = task.rows(np.array([1]), "test")
    inputs["audio"] = inputs["audio"][:, : inputs["lengths"][0]]
    frame, label = 7, 3
    gradient = np.float64(_gradient(model, inputs, frame, label))
    features, frames = model.get_layer("features")(inputs["audio"], inputs["lengths"])
    assert gradient.shape == features.shape[1:]
    network = keras.Model(model.get_layer("features").output, model.output["phonemes"])
    deviation = np.asarray(model.get_layer("normalization").standard_deviation)
    direction = gradient / np.linalg.norm(gradient)
    chances = []
    for sign in (1, -1):
        moved = np.asarray(features) + sign * 0.05 * direction * deviation
        moved = keras.ops.convert_to_tensor(moved, "float32")
        logits = np.float64(network([moved, frames]))[0, frame]
        chances.append(logits[label] - np.log(np.exp(logits).sum()))
    assert (chances[0] - chances[1]) / 0.1 == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


def texts(panel):
    return [text.get_text() for text in panel.texts]


def test_spikes_stand_at_their_times():
    posteriors = np.zeros((10, 3))
    posteriors[:, 0] = 1
    posteriors[[2, 7]] = [[0.1, 0.9, 0], [0.3, 0, 0.7]]
    audio = np.sin(np.arange(16_000) / 3)
    figure = speech.spikes(
        *(audio, 16_000, 0.9, posteriors, ["", "aa", "b"], [(2, 1), (7, 2)]),
        spoken=("aa", "b"),
        ends=[0.5, 0.9],
    )
    curves, spectrogram = figure.axes
    places = [(text.get_text(), text.get_position()[0]) for text in curves.texts]
    assert places == [("aa", 0.25), ("b", 0.75), ("aa", 0.25), ("b", 0.7)]
    assert [line.get_ydata().max() for line in curves.lines[:3]] == [1, 0.9, 0.7]
    assert spectrogram.get_xlim() == (0, 0.9)
    left, right, low, high = spectrogram.images[0].get_extent()
    assert (low, high) == (0, 8) and 0 <= left < 0.03 and 0.97 < right < 1.03


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 60_000])
def test_pictures_of_utterances_of_any_length_stay_small(samples):
    frames = max(0, 1 + (samples - 400) // 160)
    rng = np.random.default_rng(0)
    posteriors = rng.dirichlet(np.ones(41) / 50, frames)
    heard = [(frame, 1 + frame % 40) for frame in range(0, frames, 6)]
    names = ["", *trainers.task("phonemes").phonemes]
    audio = np.sin(np.arange(samples) ** 1.5 / 99) + 0.01 * rng.normal(size=samples)
    for ends in (None, np.linspace(0, samples / 16_000, 31)[1:]):
        figure = speech.spikes(
            *(audio, 16_000, samples / 16_000, posteriors, names, heard), ["aa"] * 30, ends
        )
        assert len(small_png(figure)) < 80_000


def test_a_snapshot_has_the_frames_that_tell_probabilities(root):
    task = task_of(root)
    inputs, targets = task.rows(np.arange(2), "test")
    outputs = {"phonemes": np.random.default_rng(0).normal(size=(2, 30, 42))}
    (figure,) = task.snapshot(inputs, targets, outputs).values()
    spoken = " ".join(task.utterances("test")[0].phonemes)
    assert figure.axes[0].get_title(loc="left") == spoken
    assert task.snapshot(inputs, targets, {"phonemes": np.zeros((2, 30), int)}) == {}


@functools.cache
def distance(one, other):
    """By the definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        distance(one[1:], other[1:]) + (one[0] != other[0]),
        distance(one[1:], other) + 1,
        distance(one, other[1:]) + 1,
    )


def test_an_alignment_is_as_short_as_can_be():
    rng = np.random.default_rng(0)
    for _ in range(200):
        said, heard = (tuple(rng.integers(0, 3, rng.integers(0, 7)).tolist()) for _ in "ab")
        pairs = speech.aligned(said, heard)
        assert tuple(a for a, _ in pairs if a >= 0) == said
        assert tuple(b for _, b in pairs if b >= 0) == heard
        assert sum(a != b for a, b in pairs) == distance(said, heard)
        assert all(max(pair) >= 0 for pair in pairs)


def test_confusions_are_shares_of_what_was_said():
    pairs = np.array([(1, 1), (1, 1), (1, 1), (1, 3), (3, -1), (-1, 1)])
    panel = speech.confusions(pairs, ["", "aa", "ae", "b"]).axes[0]
    np.testing.assert_allclose(
        np.square(panel.images[0].get_array()), [[0.75, 0.25, 0], [0, 0, 1], [1, 0, 0]]
    )
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["aa", "b", "none"]
    assert panel.get_title() == "3 of 5 phonemes wrong: 1 put in, 1 left out"
    assert speech.confusions(np.zeros((0, 2), int), ["", "aa"]).axes


def test_confusions_of_timit_are_those_of_39_classes(root):
    class Deaf:
        """Hears silence alone, which the folding knows by another name."""

        layers = ()

        def predict_on_batch(self, inputs):
            return spelt(task, *["h# _"] * len(inputs["audio"]))

    task = task_of(root, "timit")
    panel = task._confusions(Deaf(), 12).axes[0]
    names = [tick.get_text() for tick in panel.get_xticklabels()]
    assert "sil" in names and not {"h#", "ix", "q"} & {*names}
    # One silence of each utterance was heard, and all else left out.
    scored = [p for u in task.utterances("test") for p in u.phonemes if p != "q"]
    words = f"{len(scored) - 12:,} of {len(scored):,} phonemes wrong: 0 put in"
    assert panel.get_title().startswith(words)


def test_all_decoders_read_what_is_sure(root, monkeypatch):
    class Hears:
        """Knows all phonemes of the first five utterances of a batch, and is deaf to the others."""

        def predict_on_batch(self, inputs):
            lengths = [*inputs["lengths"]]
            said = {len(u.audio): " ".join(f"{p} _" for p in u.phonemes) for u in utterances}
            texts = [said[n] if row < 5 else "_ _" for row, n in enumerate(lengths)]
            longest = max(len(text.split()) for text in texts)
            texts = [" ".join([*text.split(), *"_" * longest][:longest]) for text in texts]
            return spelt(task, *texts)

    task = task_of(root)
    utterances = task.utterances("test")
    assert len({len(u.audio) for u in utterances}) == len(utterances)
    lost = [p for u in utterances[5:] for p in u.phonemes]
    error = len(lost) / sum(len(u.phonemes) for u in utterances)
    found = task._decoded(Hears())
    assert [*found] == ["best path", "beam of 20", "prefix search, cut at 99% blank"]
    for row in found.values():
        expected = {"utterances": len(utterances), "phoneme_error_rate": pytest.approx(error)}
        assert row == expected

    def endless(*arguments):
        raise RuntimeError("prefix search did not end")

    monkeypatch.setattr(phonemes, "ctc_prefix_search", endless)
    assert task._decoded(Hears()) == {k: v for k, v in found.items() if "prefix" not in k}


def test_a_transducer_is_searched_and_its_lattice_drawn(root):
    keras.utils.set_random_seed(0)
    task = trainers.task("phoneme_transduction", root=root, buckets=1)
    model = build_transducer(task, **SMALL, prediction_units=5, joint_units=4)
    inputs, _ = task.rows([0, 1], "test")
    outputs = model.predict_on_batch(inputs)
    greedy, beam = (rows for _, rows in task.decoders(model, inputs, outputs))
    np.testing.assert_array_equal(greedy, outputs["phonemes"])
    layer, frames = model.get_layer("transducer").layer, outputs["lattice"].shape[1]
    assert len(beam) == 2 and all(0 < label < task.classes for row in beam for label in row)
    # More probable than what greed finds, by the loss of both.
    for row, best in enumerate(beam):
        one = {key: value[row : row + 1] for key, value in inputs.items()}
        losses = []
        for labels in (best, [label for label in greedy[row] if label >= 0]):
            one["labels"] = np.array([labels], "int32").reshape(1, -1)
            lattice = model.predict_on_batch(one)["lattice"]
            losses.append(transducer_loss(lattice, one["labels"], [frames], [len(labels)]))
        assert float(losses[0][0]) <= float(losses[1][0]) + 1e-4
    assert layer.units == 5
    figure = task.figures(model)["lattice"]
    panel = figure.axes[0]
    utterance, _ = task._middling()
    assert [tick.get_text() for tick in panel.get_yticklabels()] == list(utterance.phonemes)
    image = panel.images[0].get_array()
    assert image.shape[0] == len(utterance.phonemes) + 1
    # Each diagonal of the lattice is passed once: by every alignment.
    passing = 10.0 ** np.asarray(image)
    assert passing[0, 0] == pytest.approx(1) and passing[-1, -1] == pytest.approx(1)
    diagonals = [np.trace(passing[::-1], k) for k in range(1 - len(passing), passing.shape[1])]
    np.testing.assert_allclose(diagonals, 1, atol=1e-4)
    # While it is trained, of the first row of a padded batch.
    inputs, targets = task.rows([1, 0], "test")
    snapshot = task.snapshot(inputs, targets, model.predict_on_batch(inputs))
    assert [*snapshot] == ["lattice"] and len(small_png(snapshot["lattice"])) < 100_000
    names = [tick.get_text() for tick in snapshot["lattice"].axes[0].get_yticklabels()]
    assert names == [*task.utterances("test")[1].phonemes]
    seconds = inputs["lengths"][0] / task.rate
    assert snapshot["lattice"].axes[1].get_xlim() == pytest.approx((0, seconds))


# Serving.


def wav(audio, rate=16_000, channels=1):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(audio, "<i2").tobytes())
    return stream.getvalue()


@pytest.fixture(scope="module")
def client(finished, root, tmp_path_factory):
    from ponderzoo.export._package import package
    from ponderzoo.export.client import Client
    from ponderzoo.export.server._server import Server

    task, exports = task_of(root), tmp_path_factory.mktemp("exports")
    model = keras.saving.load_model(os.path.join(finished[0], "model.keras"))
    signatures = zoo.info("blstm_ctc_phonemes").signatures(model, task)
    package(model, signatures, "blstm_ctc_phonemes", exports)
    with Server(exports) as server, Client(server.address) as client:
        yield client


def ask(client, *wavs):
    return client.predict("blstm_ctc_phonemes", {"wav": np.array(wavs, object)}, signature="decode")


def test_served_wav_files_are_heard_as_the_model_hears_them(client, finished, root):
    task = task_of(root)
    model = keras.saving.load_model(os.path.join(finished[0], "model.keras"))
    utterances = task.utterances("test")[:2]
    inputs, _ = task.rows(np.arange(2), "test")
    answer = ask(client, *(wav(u.audio) for u in utterances))
    given = {k: v[:, : inputs["lengths"].max()] if v.ndim > 1 else v for k, v in inputs.items()}
    asked = client.predict("blstm_ctc_phonemes", {**given, "rate": [16_000] * 2})
    logits = np.float64(model(given)["phonemes"])
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances /= chances.sum(axis=-1, keepdims=True)
    for found in (answer, asked):
        np.testing.assert_allclose(found["posteriors"], chances, atol=1e-5)
        for row, heard in enumerate(task.heard({"phonemes": logits})):
            places = np.flatnonzero(heard >= 0)
            words = [task.phonemes[label - 1] for label in heard[places]]
            spoken = found["phonemes"][row]
            assert [word.decode() for word in spoken if word] == words and words
            np.testing.assert_allclose(found["starts"][row, : len(words)], places * 0.01, 1e-5)
            assert (found["starts"][row, len(words) :] == -1).all()


def test_the_best_answers_of_a_beam_are_served(client, finished, root):
    task = task_of(root)
    model = keras.saving.load_model(os.path.join(finished[0], "model.keras"))
    utterances = task.utterances("test")[:2]
    given = {"wav": np.array([wav(u.audio) for u in utterances], object)}
    answer = client.predict("blstm_ctc_phonemes", given, signature="beam")
    inputs, _ = task.rows(np.arange(2), "test")
    logits = model.predict_on_batch(inputs)["phonemes"]
    labels, _, scores = ctc_beam_search(logits, [logits.shape[1]] * 2, 20, n_best=5)
    np.testing.assert_allclose(answer["log_probability"], scores, rtol=1e-4, atol=1e-4)
    assert answer["phonemes"].shape[:2] == (2, 5)
    for row in range(2):
        words = [word.decode() for word in answer["phonemes"][row, 0] if word]
        assert " ".join(words) == task.spelled(np.asarray(labels)[row, 0])


def test_files_are_asked_about_by_their_names(tmp_path):
    task = trainers.task("phonemes")
    notation = zoo.info("blstm_ctc_phonemes").notation(task)
    assert notation.keys() == {"decode", "beam"}
    content = wav(np.arange(100))
    (tmp_path / "a.wav").write_bytes(content)
    read, show = notation["decode"].read, notation["decode"].show
    assert read([str(tmp_path / "a.wav")])["wav"].tolist() == [content]
    for wrong in ("no.wav", str(tmp_path), "data:audio/wav;base64,!"):
        with pytest.raises(ValueError, match=r"expected the name of an audio file \("):
            read([wrong])
    outputs = {
        "phonemes": np.array([[b"sh", b"iy", b""], [b"", b"", b""]], object),
        "starts": np.array([[0.5, 1.25, -1], [-1, -1, -1]]),
    }
    heard, nothing = show({}, outputs)
    assert [line.split() for line in heard.splitlines()] == [
        ["heard", "sh", "iy"],
        ["seconds", "0.50", "1.25"],
    ]
    assert "nothing" in nothing
    outputs = {
        "phonemes": np.array([[[b"sh"], [b""], [b""]]], object),
        "log_probability": np.array([[-0.5, -1.0, -np.inf]]),
    }
    (beam,) = notation["beam"].show({}, outputs)
    assert [line.split() for line in beam.splitlines()] == [
        ["-0.50", "nats", "sh"],
        ["-1.00", "nats", "nothing"],
    ]


def test_wav_files_together_are_heard_as_each_alone(client, root):
    short, long = (u.audio for u in task_of(root).utterances("test")[:2])
    two = np.stack([long, long], axis=1)  # mixed to one
    none = np.zeros(100)  # less than a frame
    together = ask(client, wav(short), wav(two, channels=2), wav(none))
    for row, audio in enumerate((short, long, none)):
        alone = ask(client, wav(audio))
        frames = alone["posteriors"].shape[1]
        assert frames == max(0, 1 + (len(audio) - 400) // 160)
        np.testing.assert_allclose(
            together["posteriors"][row, :frames], alone["posteriors"][0], atol=1e-5
        )
        np.testing.assert_allclose(together["posteriors"][row, frames:, 0], 1)
        count = alone["phonemes"].shape[1]
        assert together["phonemes"][row, :count].tolist() == alone["phonemes"][0].tolist()
        assert set(together["phonemes"][row, count:]) <= {b""}
    assert count == 0


@pytest.mark.parametrize(
    "content, words",
    [
        (wav(np.zeros(400), rate=8000), "wav must have 16000 samples a second, got.*8000"),
        (b"", "wav|WAV|RIFF|[Hh]eader|short"),
        (b"RIFF and so on", "wav|WAV|RIFF|[Hh]eader|short"),
        (wav(np.zeros(400))[:30], "wav|WAV|RIFF|[Hh]eader|short"),
    ],
)
def test_other_files_are_refused(client, content, words):
    import grpc
    from ponderzoo.export.client import PredictError

    with pytest.raises(PredictError, match=words) as refused:
        ask(client, wav(np.zeros(400)), content)
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "length, rate, words",
    [
        (401, 16_000, r"lengths must be 0 to.*400.*how many samples were sent; got.*401"),
        (400, 8000, r"audio must have 16000 samples a second, got a rate of.*8000"),
    ],
)
def test_samples_must_be_as_many_as_is_said(client, length, rate, words):
    from ponderzoo.export.client import PredictError

    given = {"audio": np.zeros((1, 400), "float32"), "lengths": [length], "rate": [rate]}
    with pytest.raises(PredictError, match=words):
        client.predict("blstm_ctc_phonemes", given)
