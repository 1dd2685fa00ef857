"""Recorded or synthetic speech with phonemes: what all such data sets hand on, and their files."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
import zlib

import numpy as np

from . import _store

SPLITS = "train", "validation", "test"
SILENCE = "pau"
FIELDS = (
    *("name", "speaker", "split", "text", "rate", "samples", "audio"),
    *("alphabet", "count", "phonemes", "ends"),
)


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance with its phonemes.

    Attributes:
        name: unique in its data set.
        speaker: who speaks, or which synthetic voice.
        split: "train", "validation" or "test".
        rate: samples a second.
        audio: `(samples,)` int16.
        phonemes: tuple of str, in the data set's own alphabet, silence included.
        ends: `(phonemes,)` float64, when each phoneme ends, in seconds from the start of the audio.
        text: what is said, where that is known.
    """

    name: str
    speaker: str
    split: str
    rate: int
    audio: np.ndarray
    phonemes: tuple
    ends: np.ndarray
    text: str = ""


def pack(utterances, edition=1, **metadata):
    """The bytes of one `.npz` file that holds all utterances, and metadata of plain JSON types.

    `edition` is how often the data set has been made differently, and 1 (`_store.edition`). The
    same utterances give the same bytes. Raises `ValueError` for an utterance whose parts do not
    belong together, and for a name that comes twice.
    """
    utterances = list(utterances)
    for utterance in utterances:
        _check(utterance)
    names = [u.name for u in utterances]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names of utterances must be unique, got {twice!r} twice")
    alphabet = sorted({phoneme for u in utterances for phoneme in u.phonemes})
    numbers = {phoneme: number for number, phoneme in enumerate(alphabet)}
    phonemes = [numbers[phoneme] for u in utterances for phoneme in u.phonemes]
    stream = io.BytesIO()
    np.savez(
        stream,
        edition=np.array(edition),
        metadata=np.array(json.dumps(metadata, sort_keys=True)),
        name=np.array(names, str),
        speaker=np.array([u.speaker for u in utterances], str),
        split=np.array([u.split for u in utterances], str),
        text=np.array([u.text for u in utterances], str),
        rate=np.array([u.rate for u in utterances], "int64"),
        samples=np.array([len(u.audio) for u in utterances], "int64"),
        audio=np.concatenate([np.empty(0, "int16"), *(u.audio for u in utterances)]),
        alphabet=np.array(alphabet, str),
        count=np.array([len(u.phonemes) for u in utterances], "int64"),
        phonemes=np.array(phonemes, "int16"),
        ends=np.concatenate([np.empty(0), *(u.ends for u in utterances)]),
    )
    return stream.getvalue()


def _check(utterance):
    audio, ends = np.asarray(utterance.audio), np.asarray(utterance.ends)
    if audio.dtype != np.int16 or audio.ndim != 1:
        problem = f"audio `(samples,)` of int16, got {audio.shape} of {audio.dtype}"
    elif ends.shape != (len(utterance.phonemes),):
        problem = f"one end for each of {len(utterance.phonemes)} phonemes, got {ends.shape}"
    elif (np.diff(ends, prepend=0) < 0).any() or (ends > len(audio) / utterance.rate).any():
        problem = f"ends that rise up to {len(audio) / utterance.rate} seconds, got {ends}"
    elif utterance.split not in SPLITS:
        problem = f"a split among {SPLITS}, got {utterance.split!r}"
    else:
        return
    raise ValueError(f"the utterance {utterance.name!r} needs {problem}")


def unpack(path):
    """The list of `Utterance` in a file that `pack` made; their arrays are read-only.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is another or damaged.
    """
    found = _read(path, *FIELDS)
    found["audio"].flags.writeable = found["ends"].flags.writeable = False
    audio = np.split(found["audio"], np.cumsum(found["samples"])[:-1])
    ends = np.split(found["ends"], np.cumsum(found["count"])[:-1])
    phonemes = np.split(found["alphabet"][found["phonemes"]], np.cumsum(found["count"])[:-1])
    columns = [found[key].tolist() for key in ("name", "speaker", "split", "rate", "text")]
    return [
        Utterance(name, speaker, split, rate, audio[i], tuple(phonemes[i].tolist()), ends[i], text)
        for i, (name, speaker, split, rate, text) in enumerate(zip(*columns))
    ]


def metadata(path):
    """The dict that `pack` was given. Raises as `unpack` does."""
    return json.loads(_read(path, "metadata")["metadata"].item())


def _read(path, *names):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is no file of utterances, or damaged: {error}") from error


def load(path, name, edition):
    """What `unpack` does, of a file or of `<name>.npz` in a directory.

    Tells how to get the data set `name` where there is no file, or one of another edition.
    """
    path = os.path.join(path, f"{name}.npz") if os.path.isdir(path) else path
    _store.check_edition(path, edition, name)
    try:
        return unpack(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no file {path}; `ponderzoo data fetch {name}` makes it, on Debian and its kin"
        ) from error


def digest(utterances):
    """Sha256 of names, speakers, splits, audio, phonemes with their ends, and texts."""
    sha256 = hashlib.sha256()
    for u in utterances:
        labels = u.name, u.speaker, u.split, u.rate, u.phonemes, u.ends.tolist(), u.text
        sha256.update(json.dumps(labels).encode())
        sha256.update(u.audio.astype("<i2").tobytes())
    return sha256.hexdigest()


def resampled(audio, rate, target):
    """Samples `(samples,)` int16 at another rate, by their Fourier series."""
    if not len(audio) or rate == target:
        return np.asarray(audio, "int16")
    count = len(audio) * target // rate
    found = np.fft.irfft(np.fft.rfft(audio), count) * (count / len(audio))
    return np.clip(np.rint(found), -(2**15), 2**15 - 1).astype("int16")


def fit(phonemes, ends, seconds):
    """Phonemes and ends in which the last phoneme ends with the audio, and no silence with another.

    Raises `ValueError` where other phonemes than the last lie behind the end of the audio.
    """
    if len(ends) > 1 and ends[-2] >= seconds:
        raise ValueError(f"the last phoneme begins at {ends[-2]} of {seconds} seconds")
    ends = np.append(ends[:-1], seconds)
    kept = [
        place
        for place, phoneme in enumerate(phonemes)
        if not phoneme == SILENCE == (*phonemes, None)[place + 1]
    ]
    return tuple(phonemes[place] for place in kept), ends[kept]


def tones(rate, alphabet, counts=(12, 4, 4)):
    """Utterances of three to six phonemes, each a tone of its own pitch; silence stays silent.

    `counts` is how many there are of each split.
    """
    rng, utterances = np.random.default_rng(0), []
    pitches = np.geomspace(200, rate / 3, len(alphabet))
    for split, count in zip(SPLITS, counts):
        for number in range(count):
            chosen = rng.choice(len(alphabet), rng.integers(3, 7), replace=False)
            samples = rng.integers(rate // 20, rate // 8, len(chosen))
            waves = [
                (alphabet[c] != SILENCE) * np.sin(2 * np.pi * pitches[c] * np.arange(n) / rate)
                for c, n in zip(chosen, samples)
            ]
            audio = np.rint(8000 * np.concatenate(waves)).astype("int16")
            phonemes = tuple(alphabet[c] for c in chosen)
            ends = np.cumsum(samples) / rate
            name, speaker = f"{split}-{number}", f"speaker of {split}"
            utterances.append(Utterance(name, speaker, split, rate, audio, phonemes, ends, "tones"))
    return utterances
