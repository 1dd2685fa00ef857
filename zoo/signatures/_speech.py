"""Audio in: samples, wav files, and how people name them."""

import base64
import io
import textwrap
import wave

import numpy as np

from ._checks import check_lengths
from ._notation import WIDTH, Notation, expected, table
from ._signature import Signature

URI = "data:audio/wav;base64,"


def audio_inputs(task):
    """The inputs of a signature that takes samples, and a sample of them, of noise."""
    samples = task.rate // 8
    noise = np.random.default_rng(0).normal(size=(2, samples)).astype("float32") / 10
    inputs = {
        "audio": ((None, None), "float32"),
        "lengths": ((None,), "int32"),
        "rate": ((None,), "int32"),
    }
    lengths, rate = np.array([samples, samples // 2], "int32"), np.full(2, task.rate, "int32")
    return inputs, {"audio": noise, "lengths": lengths, "rate": rate}


def check_audio(audio, lengths, rate, task):
    """Asserts in a graph that samples are as many as is said, and as many a second as needed."""
    import tensorflow as tf

    check_lengths(lengths, audio, "samples")
    tf.debugging.Assert(
        tf.reduce_all(rate == task.rate),
        [f"audio must have {task.rate} samples a second, got a rate of", rate],
    )


def of_samples(hear, task, outputs, names=()):
    """The signature that does what `hear(audio, lengths)` does, for samples at a rate."""

    def serve(audio, lengths, rate):
        check_audio(audio, lengths, rate, task)
        return hear(audio, lengths)

    return Signature(serve, *audio_inputs(task), outputs, dict(names))


def of_wav(hear, task, outputs, names=()):
    """The signature that does what `hear(audio, lengths)` does, for wav files."""
    _, sample = audio_inputs(task)
    return Signature(
        lambda wav: hear(*read_wav(wav, task.rate)),
        {"wav": ((None,), "string")},
        {"wav": np.array([wav_of(row, task.rate) for row in sample["audio"]], object)},
        outputs,
        dict(names),
    )


def spelled(labels, names):
    """Labels `(batch, ..., places)` as phonemes, empty behind the last, and how many places.

    There are no more of them than the longest row needs.
    """
    import tensorflow as tf

    count = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=-1)
    longest = tf.reduce_max(tf.concat([tf.reshape(count, [-1]), [0]], axis=0))
    return tf.gather(names, tf.maximum(labels[..., :longest], 0)), longest


def timed(labels, moments, names, step):
    """Labels `(batch, places)` as phonemes, and the seconds of their frames, -1 behind the last."""
    import tensorflow as tf

    phonemes, longest = spelled(labels, names)
    moments = moments[:, :longest]
    return phonemes, tf.where(moments >= 0, tf.cast(moments, tf.float32) * step, -1.0)


def speech_notation(task, *signatures):
    """`Notation` of signatures that take wav files: their names in, phonemes and times out.

    In the place of a name there may be a data URI, `data:audio/wav;base64,` and the content.
    """
    _, sample = audio_inputs(task)
    short = sample["audio"][:, : task.rate // 20]
    example = [URI + base64.b64encode(wav_of(row, task.rate)).decode() for row in short]
    return {name: Notation(tuple(example), _read, _show) for name in signatures}


def _read(texts):
    return {"wav": np.array([_content(text) for text in texts], object)}


def _content(text):
    try:
        if text.startswith(URI):
            return base64.b64decode(text.removeprefix(URI), validate=True)
        with open(text, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise expected(f"the name of a wav file, or {URI} and its content", text[:60]) from error


def _show(inputs, outputs):
    """Phonemes over the seconds at which they begin; or a line for each answer of a beam."""
    texts = []
    for row, phonemes in enumerate(outputs["phonemes"]):
        if phonemes.ndim > 1:
            scores = outputs["log_probability"][row]
            found = zip(scores, phonemes)
            texts.append("\n".join(_answer(s, _words(p)) for s, p in found if s > -np.inf))
        else:
            heard = _words(phonemes)
            seconds = outputs["starts" if "starts" in outputs else "times"][row][: len(heard)]
            times = [f"{moment:.2f}" for moment in seconds]
            texts.append(table([("heard", heard), ("seconds", times)]))
    return texts


def _answer(score, words):
    """An answer of a beam; where it is long, its next lines begin under its first word."""
    score = f"{score:.2f} nats"
    return textwrap.fill(
        "  ".join(words), WIDTH + 12, initial_indent=f"{score:>14}  ", subsequent_indent=" " * 16
    )


def _words(phonemes):
    return [phoneme.decode() for phoneme in phonemes if phoneme] or ["nothing"]


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
