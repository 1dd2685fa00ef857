"""Audio files of every kind that common programs write, by libsndfile."""

import io
import math
import os
import re
import struct

import numpy as np

LIMITS = -(2**15), 2**15 - 1
UNTOLD = 0x7FFFF000  # sizes from here on stand for a pipe's, which are not known
UNTOLD_BY_SOX = 0x7F000000  # the same in an AIFF file
KINDS = "wav, flac, ogg, mp3, aiff, au or SPHERE"


def read(file, rate=None):
    """Samples of an audio file, `(samples,)` int16, its channels mixed to one, and their rate.

    Args:
        file: its name, or its content as bytes.
        rate: how many samples a second there shall be, or None for as many as the file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no audio, empty or cut off, or holds what is no number. What was written
            into a pipe, and an mp3 file without a Xing head, do not tell their length: of those a
            part is read as if it were the whole.
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
        _check_end(content)
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            samples, found, told = sound.read(always_2d=True), sound.samplerate, sound.frames
        if len(samples) < told:  # of an mp3 file
            raise ValueError(f"it is cut off: {told} samples are told, {len(samples)} are there")
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


def _check_end(content):
    """Raises `ValueError` where a file of a kind that tells its length is shorter than that."""
    size = _size(content)
    if size is not None and size > len(content):
        raise ValueError(f"it is cut off: {size} bytes are told, {len(content)} are there")


def _size(content):
    """How many bytes an AIFF, au, SPHERE or Ogg file says that it has, or None."""
    first, second = (int.from_bytes(content[i : i + 4], "big") for i in (4, 8))
    if content[:4] == b"FORM":
        return 8 + first if first < UNTOLD_BY_SOX else None
    if content[:4] == b".snd":
        return first + second if second < UNTOLD else None
    if content[:7] == b"NIST_1A":
        head = dict(re.findall(rb"(\w+) -i (\d+)", content[:1024]))
        counts = [int(head.get(key, 1)) for key in (b"channel_count", b"sample_n_bytes")]
        return int(content[8:16]) + int(head.get(b"sample_count", 0)) * math.prod(counts)
    if content[:4] == b"OggS":
        # Only the last page says that it is the last, and a page has up to 255 parts.
        page = content[content.rfind(b"OggS") :]
        parts = page[27 : 27 + page[26]] if len(page) > 26 else b""
        rest = 27 + len(parts) + sum(parts) - len(page)
        return len(content) + max(rest, 0 if page[5:6] >= b"\4" else 1)
    return None
