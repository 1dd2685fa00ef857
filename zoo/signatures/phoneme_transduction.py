"""Audio in, phonemes with their times out, and what the steps between cost."""

import numpy as np

from ...layers import transducer_loss
from ._checks import check_range
from ._signature import Signature, handed_on
from ._speech import audio_inputs, check_audio, of_samples, of_wav, speech_notation, timed
from .next_phoneme import labels_of


def signatures(model, task, told):
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
        return {"phonemes": phonemes, "times": times, **handed_on(outputs, told)}

    def score(audio, lengths, rate, phonemes):
        check_audio(audio, lengths, rate, task)
        labels = labels_of(phonemes, task)
        outputs = run(audio, lengths, labels)
        lattice = outputs["lattice"]
        count = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1)
        frames = tf.fill(tf.shape(count), tf.shape(lattice)[1])
        cost = transducer_loss(lattice, labels, frames, count)
        return {"log_probability": -cost, **handed_on(outputs, told)}

    def step(transcription, label, h, c):
        check_range("label", label, 0, task.classes - 1)
        decoder = layer.decoder()
        predicted, (h, c) = decoder.predict(label, [h, c])
        transcribed = layer.from_transcription(transcription)
        probabilities = tf.nn.softmax(decoder.join(transcribed, predicted))
        return {"probabilities": probabilities, "next_h": h, "next_c": c}

    audio, sample = audio_inputs(task)
    found = {
        "phonemes": "what was heard, (batch, phonemes); empty behind the last",
        "times": "when each was put out, in seconds, (batch, phonemes); -1 behind the last",
        **told,
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
            {"log_probability": "of all alignments with these phonemes, in nats, (batch,)", **told},
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
            {"probabilities": ("blank", *task.phonemes)},
        ),
    }


def notation(task):
    """Wav files, by their names or as data URIs."""
    return speech_notation(task, "decode")
