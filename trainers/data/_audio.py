"""Audio files of every kind that common programs write, by libsndfile."""

import io
import os
import struct

import numpy as np

LIMITS = -(2**15), 2**15 - 1
UNTOLD = 0x7FFFF000  # sizes from here on stand for a pipe's, which are not known
KINDS = "wav, flac, ogg, mp3, aiff, au or SPHERE"


def read(file, rate=None):
    """Samples of an audio file, `(samples,)` int16, its channels mixed to one, and their rate.

    Args:
        file: its name, or its content as bytes.
        rate: how many samples a second there shall be, or None for as many as the file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no audio, empty or cut off, or holds what is no number.
    """
    import soundfile

    name = "the audio" if isinstance(file, bytes) else os.fspath(file)
    if not isinstance(file, bytes):
        if not os.path.exists(file):
            raise FileNotFoundError(f"no file {name}")
        with open(file, "rb") as stream:
            file = stream.read()
    if not file:
        raise ValueError(f"{name} is empty")
    if file.startswith(b"NIST_1A") and b"shorten" in file[:1024]:
        raise ValueError(f"{name} is packed by shorten; `sph2pipe -p -f wav FILE` unpacks it")
    try:
        content = _whole(file)
        samples, found = soundfile.read(io.BytesIO(content), always_2d=True)
    except (soundfile.SoundFileError, ValueError) as error:
        reason = getattr(error, "error_string", str(error)).strip(" :.")
        raise ValueError(f"{name} cannot be read as {KINDS}: {reason}") from error
    if not len(samples):
        raise ValueError(f"{name} holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} holds samples that are infinite or no numbers")
    samples = np.clip(np.rint(2**15 * samples.mean(axis=1)), *LIMITS).astype("int16")
    return (samples, found) if rate is None else (resampled(samples, found, rate), rate)


def resampled(samples, rate, target):
    """Samples `(samples,)` int16 at another rate, by soxr."""
    import soxr

    if rate == target:
        return samples
    found = soxr.resample(samples.astype("float64"), rate, target)
    return np.clip(np.rint(found), *LIMITS).astype("int16")


def _whole(content):
    """A RIFF file whose sizes are those of what it holds; any other file as it is.

    A program that writes into a pipe, or that crashed, leaves a size of 0 or a huge one. Where it
    is 0 and the rest of the file is one chunk, there is no sound.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return content
    place = 12
    while place + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, place)
        place += 8
        if kind == b"data":
            left = len(content) - place
            told = struct.unpack_from("<I", content, place + 4)[0] if left >= 8 else 0
            only_a_chunk = left >= 8 and 8 + told + told % 2 == left
            if (size == 0 and not only_a_chunk) or (size >= UNTOLD and size > left):
                size = left
            elif size > left:
                raise ValueError(f"it is cut off: {size} bytes of sound are told, {left} are there")
            head = content[8 : place - 4] + struct.pack("<I", size)
            sound = content[place : place + size]
            return b"RIFF" + struct.pack("<I", len(head) + size) + head + sound
        place += size + size % 2
    raise ValueError("it has no data chunk")
