"""What recognizers of phonemes share: the way from audio to hidden vectors, and what they serve."""

import io
import wave

import keras
import numpy as np

from ..layers import (
    MFCC,
    DeepLSTM,
    FeatureNormalization,
    LogMel,
    SequenceMask,
    SureOfBlank,
    WeightNoise,
    ctc_best_path,
)
from ._lengths import check_lengths
from ._registry import Signature

TTS_PHONES = (
    "The data are TTS-Phones, synthetic speech, and errors on them do not compare with those on "
    "TIMIT. Its test split is a voice that training never hears, and three voices are few to learn "
    "from: nearly all of the error is that, since new sentences of the voices of training are "
    "hardly ever wrong (see the table of speakers). "
)


def transcription_network(
    task, features, deltas, units, layers, bidirectional, input_noise, weight_noise
):
    """Hidden vectors of every frame, from audio.

    Args:
        task: `Phonemes`, whose rate the audio has.
        features: "mfcc" or "log_mel".
        deltas: orders of their derivatives.
        units, layers, bidirectional: of the `DeepLSTM`.
        input_noise: standard deviation of noise on the normalized features in training.
        weight_noise: that of noise on the weights.

    Returns:
        The inputs by name; hidden vectors `(batch, frames, size)`; the frames of each row.

    Raises:
        ValueError: there are no such features.
    """
    kinds = {"mfcc": MFCC, "log_mel": LogMel}
    if features not in kinds:
        raise ValueError(f"features must be one of {sorted(kinds)}, got {features!r}")
    audio = keras.Input((None,), name="audio")
    lengths = keras.Input((), dtype="int32", name="lengths")
    hidden, frames = kinds[features](rate=task.rate, deltas=deltas, name="features")(audio, lengths)
    mask = SequenceMask()(hidden, frames)
    hidden = FeatureNormalization(name="normalization")(hidden, mask=mask)
    if input_noise:
        hidden = keras.layers.GaussianNoise(input_noise, name="input_noise")(hidden)
    stack = DeepLSTM(units, layers, bidirectional=bidirectional)
    hidden = WeightNoise(stack, weight_noise, name="transcription")(hidden, mask=mask)
    return {"audio": audio, "lengths": lengths}, hidden, frames


def build_ctc(task, weight_noise, **network):
    """A network of CTC (Graves et al., 2006; Graves, Mohamed and Hinton, 2013, section 3.1).

    Args:
        task: `Phonemes`.
        weight_noise, **network: as in `transcription_network`.

    Returns:
        `keras.Model`: `audio` and `lengths` in; `phonemes`, logits `(batch, frames, classes)`, out,
        sure of the blank, class 0, at padded frames.
    """
    inputs, hidden, frames = transcription_network(task, weight_noise=weight_noise, **network)
    readout = WeightNoise(keras.layers.Dense(task.classes), weight_noise, name="readout")
    return keras.Model(inputs, {"phonemes": SureOfBlank()(readout(hidden), frames)})


def ctc_signatures(model, task):
    """`serve`: audio in, the phonemes that were heard out, with times; `decode`: from wav files."""
    import tensorflow as tf

    names = tf.constant(("", *task.phonemes))
    step = model.get_layer("features").step

    def serve(audio, lengths):
        check_lengths(lengths, audio)
        logits = model({"audio": audio, "lengths": lengths})["phonemes"]
        # A frame more, in case there is none; it is padding.
        padded = tf.pad(logits, [[0, 0], [0, 1], [0, 0]])
        frames = tf.fill(tf.shape(lengths), tf.shape(logits)[1])
        labels, moments = ctc_best_path(padded, frames)
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1))
        labels, moments = labels[:, :longest], moments[:, :longest]
        starts = tf.cast(moments, tf.float32) * step
        return {
            "phonemes": tf.gather(names, tf.maximum(labels, 0)),
            "starts": tf.where(moments >= 0, starts, -1.0),
            "posteriors": tf.nn.softmax(logits),
        }

    def decode(wav):
        return serve(*read_wav(wav, task.rate))

    samples = task.rate // 4
    noise = np.random.default_rng(0).normal(size=(2, samples)).astype("float32") / 10
    outputs = {
        "phonemes": "what was heard, (batch, phonemes); empty behind the last",
        "starts": "when each begins, in seconds, (batch, phonemes); -1 behind the last",
        "posteriors": "probabilities of blank and of each phoneme, (batch, frames, classes)",
    }
    return {
        "serve": Signature(
            serve,
            {"audio": ((None, None), "float32"), "lengths": ((None,), "int32")},
            {"audio": noise, "lengths": np.array([samples, samples // 2], "int32")},
            outputs,
        ),
        "decode": Signature(
            decode,
            {"wav": ((None,), "string")},
            {"wav": np.array([wav_of(row, task.rate) for row in noise], object)},
            outputs,
        ),
    }


def read_wav(wav, rate):
    """Audio `(batch, samples)` and lengths of the contents `(batch,)` of wav files, in a graph.

    The files must be of 16 bits and of that rate; of several channels the first counts.
    """
    import tensorflow as tf

    def decoded(content):
        audio, found = tf.audio.decode_wav(content, desired_channels=1)
        told = tf.debugging.Assert(
            tf.equal(found, rate), [f"wav must have {rate} samples a second, got", found]
        )
        with tf.control_dependencies([told] if told is not None else []):
            return tf.identity(audio[:, 0])

    lengths = tf.map_fn(
        lambda content: tf.size(decoded(content)), wav, fn_output_signature=tf.int32
    )
    longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))

    def padded(content):
        audio = decoded(content)
        return tf.pad(audio, [[0, longest - tf.size(audio)]])

    return tf.map_fn(padded, wav, fn_output_signature=tf.TensorSpec([None], tf.float32)), lengths


def wav_of(audio, rate):
    """The content of a wav file of 16 bits with one channel, from samples between -1 and 1."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.clip(audio, -1, 1) * (2**15 - 1)).astype("<i2").tobytes())
    return stream.getvalue()
