"""The RNN transducer (Graves, 2012), arXiv:1211.3711."""

import keras
import numpy as np

from ..layers import OneHotLabels, PeepholeLSTM, RNNTransducer, WeightNoise, transducer_loss
from ._registry import Entry, Paper, Signature, register
from ._speech import (
    TTS_PHONES,
    audio_inputs,
    check_audio,
    of_samples,
    of_wav,
    speech_notation,
    timed,
    transcription_network,
)

PAPER = Paper(
    mechanism="RNN transducer",
    title="Sequence Transduction with Recurrent Neural Networks",
    authors="Alex Graves",
    year=2012,
    arxiv="1211.3711",
)


def build(task, prediction_units, joint_units, weight_noise, **network):
    """A transcription network, a prediction network and their joint.

    Args:
        task: `PhonemeTransduction`.
        prediction_units: of the prediction network.
        joint_units: of the hidden layer that joins both (Graves, Mohamed and Hinton, 2013), or 0
            to add their outputs (Graves, 2012).
        weight_noise, **network: as in `transcription_network`.

    Returns:
        `keras.Model`: `audio`, `lengths` and `labels` in; `lattice`, `phonemes` and `frames`, as
        `RNNTransducer` gives them, out.
    """
    inputs, hidden, frames = transcription_network(task, weight_noise=weight_noise, **network)
    labels = keras.Input((None,), dtype="int32", name="labels")
    layer = RNNTransducer(task.classes, prediction_units, joint_units)
    layer = WeightNoise(layer, weight_noise, name="transducer")
    lattice, found, moments = layer(hidden, labels=labels, lengths=frames)
    outputs = {"lattice": lattice, "phonemes": found, "frames": moments}
    return keras.Model({**inputs, "labels": labels}, outputs)


def signatures(model, task):
    """`serve` and `decode`: audio or wav files in, phonemes with times out; `score`; `step`."""
    import tensorflow as tf

    names = tf.constant(("", *task.phonemes))
    seconds = model.get_layer("features").step
    layer = model.get_layer("transducer").layer

    def run(audio, lengths, labels):
        return model({"audio": audio, "lengths": lengths, "labels": labels})

    def hear(audio, lengths):
        outputs = run(audio, lengths, tf.zeros((tf.shape(audio)[0], 0), tf.int32))
        phonemes, times = timed(outputs["phonemes"], outputs["frames"], names, seconds)
        return {"phonemes": phonemes, "times": times}

    def score(audio, lengths, rate, phonemes):
        check_audio(audio, lengths, rate, task)
        labels = labels_of(phonemes, task)
        lattice = run(audio, lengths, labels)["lattice"]
        count = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1)
        frames = tf.fill(tf.shape(count), tf.shape(lattice)[1])
        return {"log_probability": -transducer_loss(lattice, labels, frames, count)}

    def step(transcription, label, h, c):
        decoder = layer.decoder()
        predicted, (h, c) = decoder.predict(label, [h, c])
        transcribed = layer.from_transcription(transcription)
        probabilities = tf.nn.softmax(decoder.join(transcribed, predicted))
        return {"probabilities": probabilities, "next_h": h, "next_c": c}

    audio, sample = audio_inputs(task)
    found = {
        "phonemes": "what was heard, (batch, phonemes); empty behind the last",
        "times": "when each was put out, in seconds, (batch, phonemes); -1 behind the last",
    }
    width = layer.from_transcription.kernel.shape[0]
    state = np.zeros((2, layer.units), "float32")
    return {
        "serve": of_samples(hear, task, found),
        "decode": of_wav(hear, task, found),
        "score": Signature(
            score,
            {**audio, "phonemes": ((None,), "string")},
            {
                **sample,
                "phonemes": np.array([" ".join(task.phonemes[:3]), task.phonemes[1]], object),
            },
            {"log_probability": "of all alignments with these phonemes, in nats, (batch,)"},
        ),
        "step": Signature(
            step,
            {
                "transcription": ((None, width), "float32"),
                "label": ((None,), "int32"),
                "h": ((None, layer.units), "float32"),
                "c": ((None, layer.units), "float32"),
            },
            {
                "transcription": np.ones((2, width), "float32"),
                "label": np.array([0, 1], "int32"),
                "h": state,
                "c": state,
            },
            {
                "probabilities": "of blank and of each phoneme at a frame whose row of the "
                "transcription network that is, after this label; 0 before the first; (batch, "
                "classes)",
                "next_h": "state to send with the next label; zeros to begin, (batch, units)",
                "next_c": "likewise",
            },
        ),
    }


def labels_of(phonemes, task):
    """Labels `(batch, longest)` int32 of texts `(batch,)`, -1 behind the last, in a graph."""
    import tensorflow as tf

    # No label is the empty one, which fills up.
    names = tf.constant(("", *task.phonemes))
    same = tf.strings.split(phonemes).to_tensor("")[..., None] == names
    tf.debugging.Assert(
        tf.reduce_all(tf.reduce_any(same, axis=-1)),
        [f"phonemes must be of {' '.join(task.phonemes)}, blanks between them, got", phonemes],
    )
    places = tf.reduce_sum(tf.where(same, tf.range(task.classes), 0), axis=-1)
    return tf.where(places > 0, places, -1)


def build_next(task, prediction_units, dropout):
    """A prediction network that tells the next label, as the transducer's is trained beforehand.

    Args:
        task: `NextPhoneme`.
        prediction_units: of the prediction network.
        dropout: share of its outputs that are left out in training.

    Returns:
        `keras.Model`: `labels` in; `next`, logits `(batch, labels, classes)`, out. Its layer
        `transducer.prediction` is what a transducer's recipe takes by `start`.
    """
    labels = keras.Input((None,), dtype="int32", name="labels")
    network = PeepholeLSTM(prediction_units, name="transducer.prediction")
    hidden = network(OneHotLabels(task.classes, name="spoken")(labels))
    if dropout:
        hidden = keras.layers.Dropout(dropout, name="dropout")(hidden)
    return keras.Model(
        {"labels": labels}, {"next": keras.layers.Dense(task.classes, name="next")(hidden)}
    )


def next_signatures(model, task):
    """`serve`: phonemes in, what follows them out, and how probable they were."""
    import tensorflow as tf

    names = tf.constant(("", *task.phonemes))

    def serve(phonemes):
        labels = labels_of(phonemes, task)
        before = tf.pad(tf.maximum(labels, 0), ((0, 0), (1, 0)))
        chances = tf.nn.log_softmax(model({"labels": before})["next"])
        # Blank follows nothing, and is never the answer.
        count = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1)
        last = tf.gather(chances, count, batch_dims=1)[:, 1:]
        told = tf.gather(chances[:, :-1], tf.maximum(labels, 0), batch_dims=2)
        bits = -tf.where(labels >= 0, told, 0.0) / tf.math.log(2.0)
        return {
            "next": tf.gather(names, 1 + tf.argmax(last, axis=-1)),
            "probability": tf.exp(tf.reduce_max(last, axis=-1)),
            "bits": tf.reduce_sum(bits, axis=1),
        }

    sample = np.array([" ".join(task.phonemes[:3]), task.phonemes[1]], object)
    return {
        "serve": Signature(
            serve,
            {"phonemes": ((None,), "string")},
            {"phonemes": sample},
            {
                "next": "the most probable phoneme after them, (batch,)",
                "probability": "of that one, (batch,)",
                "bits": "-log2 of the probability of the phonemes themselves, (batch,)",
            },
        )
    }


register(
    Entry(
        name="rnn_transducer_next_phoneme",
        paper=PAPER,
        task="next_phoneme",
        build=build_next,
        signatures=next_signatures,
        config={"prediction_units": 96, "dropout": 0.3},
        train={
            "batch_size": 16,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "cosine",
            "updates": 3000,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 240,
        },
        paper_result="no number; the prediction network of the paper of 2013 begins with one",
        notes=(
            "What it learns is the grammar that TTS-Phones is made from, whose sentences are all "
            "new in the test split."
        ),
    )
)

register(
    Entry(
        name="rnn_transducer_phonemes",
        paper=PAPER,
        task="phoneme_transduction",
        task_config={"speed": 0.15, "level": 6.0},
        build=build,
        signatures=signatures,
        notation=speech_notation("decode"),
        config={
            "features": "log_mel",
            "deltas": 2,
            "units": 96,
            "layers": 3,
            "bidirectional": True,
            "centred": False,
            "prediction_units": 96,
            "joint_units": 96,
            "input_noise": 0.0,
            "weight_noise": 0.075,
        },
        train={
            "batch_size": 16,
            "learning_rate": 1e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 1500,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 200,
            "start": "deep_ctc_phonemes,rnn_transducer_next_phoneme",
        },
        paper_result="23.2 % on TIMIT, 25.5 % for CTC of the same size",
        notes=TTS_PHONES
        + (
            "The transcription network begins with the weights of deep_ctc_phonemes, which errs in "
            "14.1 %, and the prediction network with those of rnn_transducer_next_phoneme; a "
            "hidden layer joins them, as in the paper of 2013. `--set joint_units=0` adds their "
            "outputs, as in that of 2012. Noise on the weights all along. The result is that of "
            "greedy decoding."
        ),
    )
)
