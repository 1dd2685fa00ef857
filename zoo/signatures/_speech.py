"""Audio in: samples, wav files, and how people name them."""

import base64
import io
import textwrap
import wave

import numpy as np

from ...trainers.data import _audio
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

    Files may be of any kind that `_audio` reads. In the place of a name there may be a data URI,
    `data:audio/wav;base64,` and the content.
    """
    _, sample = audio_inputs(task)
    short = sample["audio"][:, : task.rate // 20]
    example = [URI + base64.b64encode(wav_of(row, task.rate)).decode() for row in short]

    def read(texts):
        return {"wav": np.array([_content(text, task.rate) for text in texts], object)}

    return {name: Notation(tuple(example), read, _show) for name in signatures}


def _content(text, rate):
    """What the graph reads, of any audio file or of a data URI."""
    wanted = f"the name of an audio file ({_audio.KINDS}), or {URI} and its content"
    if not text:
        raise expected(wanted, text)
    try:
        found = text
        if text.startswith(URI):
            found = base64.b64decode(text.removeprefix(URI), validate=True)
    except ValueError as error:
        raise expected(wanted, text[:60]) from error
    try:
        return wav_of(*_audio.read(found, rate))
    except OSError as error:
        raise ValueError(f"{error}; expected {wanted}") from error


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

    The files must be of 16 bits and of that rate, which is what a graph of stock operations can
    read; channels are mixed to one. Where the size of the sound is not told (0 or a huge one, of
    pipes and of recorders that crashed) it goes on to the end, as `_audio` has it.
    """
    import tensorflow as tf

    rows = tf.map_fn(
        lambda row: _heard(*row, rate),
        (wav, tf.range(tf.size(wav))),
        fn_output_signature=tf.RaggedTensorSpec([None], tf.float32, ragged_rank=0),
    )
    return rows.to_tensor(), tf.cast(rows.row_lengths(), tf.int32)


def _heard(content, row, rate):
    """The samples of one wav file, `(samples,)`."""
    import tensorflow as tf

    count = tf.cast(tf.strings.length(content), tf.int64)
    # Room behind the end, so that what is looked for may lie there.
    padded = tf.strings.join([content, bytes(32)])

    def number(place, size):
        found = tf.io.decode_raw(tf.strings.substr(padded, place, size), tf.uint8)
        return tf.reduce_sum(tf.cast(found, tf.int64) * [256**k for k in range(size)])

    def demand(condition, value, *told):
        remedy = f"`ffmpeg -i FILE -ac 1 -ar {rate} -sample_fmt s16 OUT.wav` makes one"
        told = [*told, "in row", row, "of the request;", remedy]
        done = tf.debugging.Assert(condition, told)
        with tf.control_dependencies([] if done is None else [done]):
            return tf.identity(value)

    def next_chunk(place, form, start, size):
        kind, found = tf.strings.substr(padded, place, 4), number(place + 4, 4)
        behind = place + 8
        form = tf.where(kind == b"fmt ", behind, form)
        start = tf.where(kind == b"data", behind, start)
        return behind + found + found % 2, form, start, found

    is_riff = tf.strings.substr(padded, 0, 4) == b"RIFF"
    is_riff &= tf.strings.substr(padded, 8, 4) == b"WAVE"
    none = tf.constant(-1, tf.int64)
    first = demand(
        is_riff, tf.constant(12, tf.int64), "wav must begin with RIFF and WAVE; it does not"
    )
    _, form, start, size = tf.while_loop(
        lambda place, form, start, size: (start < 0) & (place + 8 <= count),
        next_chunk,
        (first, none, none, none),
        maximum_iterations=1000,  # a file of nothing but chunks would keep the server busy
    )
    form = demand(
        (form >= 0) & (start >= 0), form, "wav must have a format and then sound; it has not"
    )
    coding, channels = number(form, 2), number(form + 2, 2)
    # The extensible form has the coding further behind.
    coding = tf.where(coding == 0xFFFE, number(tf.minimum(form + 24, count), 2), coding)
    of_16_bits = (coding == 1) & (number(form + 14, 2) == 16) & (channels > 0)
    form = demand(
        of_16_bits,
        form,
        "wav must be PCM (1) of 16 bits, got the coding",
        coding,
        "of",
        number(form + 14, 2),
        "bits and",
        channels,
        "channels",
    )
    found = number(form + 4, 4)
    start = demand(found == rate, start, f"wav must have {rate} samples a second, got", found)
    left = count - start
    told = number(start + 4, 4)
    only_a_chunk = 8 + told + told % 2 == left
    untold = ((size == 0) & ~only_a_chunk) | ((size >= _audio.UNTOLD) & (size > left))
    size = tf.where(untold, left, size)
    size = demand(
        size <= left, size, "wav is cut off: it tells of", size, "bytes of sound, and has", left
    )
    size -= size % (2 * channels)
    size = demand(size > 0, size, "wav must hold sound, got no sample")
    samples = tf.io.decode_raw(tf.strings.substr(content, start, size), tf.int16)
    samples = tf.reshape(tf.cast(samples, tf.float32), tf.stack([-1, channels]))
    return tf.reduce_mean(samples, axis=1) / 2**15


def wav_of(audio, rate):
    """The content of a wav file of 16 bits with one channel.

    Samples are int16, or between -1 and 1.
    """
    if audio.dtype != np.int16:
        audio = np.rint(np.clip(audio, -1, 1) * (2**15 - 1))
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(audio.astype("<i2").tobytes())
    return stream.getvalue()
