"""Networks that several papers build."""

import math

import keras

from ..layers import (
    MFCC,
    DeepLSTM,
    FeatureNormalization,
    LogMel,
    SequenceMask,
    SureOfBlank,
    WeightNoise,
)
from .signatures.characters import BYTES


def build_bytes(layer, head=None):
    """A model of bytes around a recurrent layer that returns its last states behind its output.

    Args:
        layer: the recurrent layer.
        head: the output layer, a `Dense` one of its own if None.

    Returns:
        `keras.Model`: `sequence` in, the logits `next` of the byte after each out.
    """
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    hidden, *_ = layer(keras.ops.one_hot(sequence, BYTES))
    logits = (head or keras.layers.Dense(BYTES, name="next"))(hidden)
    return keras.Model({"sequence": sequence}, {"next": logits})


def transcription_network(
    task,
    features,
    deltas,
    units,
    layers,
    bidirectional,
    input_noise,
    weight_noise,
    centred=False,
):
    """Hidden vectors of every frame, from audio.

    Args:
        task: `Phonemes`, whose rate the audio has.
        features: "mfcc" or "log_mel".
        deltas: orders of their derivatives.
        units, layers, bidirectional: of the `DeepLSTM`.
        input_noise: standard deviation of noise on the normalized features in training.
        weight_noise: that of noise on the weights.
        centred: whether every feature of an utterance is centred by its own mean.

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
    hidden = FeatureNormalization(centred, name="normalization")(hidden, mask=mask)
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


def image_encoder(shape, code_size, units):
    """Images of a shape to codes: two strided convolutions, `units` features and twice as many."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input(shape),
            layers.Reshape((*shape, 1)),
            layers.Conv2D(units, 4, 2, "same", activation="relu"),
            layers.Conv2D(2 * units, 4, 2, "same", activation="relu"),
            layers.Flatten(),
            layers.Dense(code_size, dtype="float32"),
        ],
        name="encoder",
    )


def image_decoder(shape, code_size, units, features):
    """Codes to maps of a shape, so many features: as `image_encoder`, the other way round."""
    layers, (height, width) = keras.layers, shape
    small = height // 4, width // 4, 2 * units
    return keras.Sequential(
        [
            layers.Input((code_size,)),
            layers.Dense(math.prod(small), "relu"),
            layers.Reshape(small),
            layers.Conv2DTranspose(units, 4, 2, "same", activation="relu"),
            layers.Conv2DTranspose(features, 4, 2, "same", dtype="float32"),
        ],
        name="decoder",
    )
