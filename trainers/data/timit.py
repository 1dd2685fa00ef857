"""TIMIT: 6,300 read sentences of 630 speakers, with phones marked by hand (LDC93S1, 1993).

The Linguistic Data Consortium sells it. Your own copy is read as it is on the disc, in capitals or
small letters, its audio in SPHERE files, or in RIFF files, to which many copies were converted.
"""

import os

import numpy as np

from . import _audio, _store
from ._phones import PHONES
from ._speech import Utterance

CORE_TEST = (
    "mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 "
    "mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0"
)
DEVELOPMENT = (
    "faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 "
    "fedw0 mgjf0 mglb0 mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 "
    "mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 "
    "mteb0 mjfc0 mrjr0 fmml0 mrws1"
)
RATE = 16_000
PHONEMES = PHONES[61]
REMEDY = (
    "TIMIT (LDC93S1) is sold by the Linguistic Data Consortium, https://catalog.ldc.upenn.edu/"
    "LDC93S1, and cannot be downloaded; root= names a directory with your own copy, TIMIT/ or the "
    "one it is in"
)


def path(cache_dir=None):
    """The directory in which a copy of the corpus is looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "timit")


def available(cache_dir=None):
    """Whether a copy, its two parts at least, is there."""
    return _find(path(cache_dir)) is not None


def fetch(cache_dir=None):
    """The directory of the corpus. Raises `RuntimeError` where it is not: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def load(folder, validation="speakers", test="core", keep_sa=False, seed=0):
    """The utterances of a copy of TIMIT, in the order of their names.

    Training speakers are those of TRAIN, 462 in the whole corpus. The defaults are the protocol of
    2013: 3,696 utterances for training, 400 for validation, 192 for the test. Transducers (2012)
    take `validation=184`, CTC (2006) `validation=184, test="full", keep_sa=True`.

    Args:
        folder: the directory TIMIT, with TRAIN and TEST in it, or the one which it is in.
        validation: "speakers" for the usual 50 of TEST, or how many utterances of TRAIN, drawn at
            random, are held out.
        test: "core" for the usual 24 speakers of TEST, "full" for all of it.
        keep_sa: whether to keep the two sentences, SA1 and SA2, which everybody reads.
        seed: of the draw.

    Returns:
        List of `Utterance`; phonemes are of the 61 phones. A speaker of TEST that no split asks for
        is left out.

    Raises:
        FileNotFoundError: there is no TIMIT, or an utterance lacks its audio or its phones.
        ValueError: an argument is none of those above, or a file is damaged.
    """
    root = _find(folder)
    if root is None:
        raise FileNotFoundError(f"no TIMIT in {folder}, expected TRAIN and TEST; {REMEDY}")
    if test not in ("core", "full"):
        raise ValueError(f'test must be "core" or "full"; got {test!r}')
    held_out = 0 if validation == "speakers" else _whole(validation)
    if validation == "speakers" and test == "full":
        raise ValueError(
            'with test="full" validation must be a number of training utterances: its "speakers" '
            "are of the full test"
        )
    training = list(_listed(root, "train", keep_sa))
    if held_out and held_out >= len(training):
        raise ValueError(
            f"validation must be less than the {len(training)} training utterances; got {held_out}"
        )
    drawn = set(np.random.default_rng(seed).permutation(len(training))[:held_out].tolist())
    utterances = [
        _utterance(name, files, "validation" if number in drawn else "train")
        for number, (name, files) in enumerate(training)
    ]
    for name, files in _listed(root, "test", keep_sa):
        speaker, _ = name
        if test == "full" or speaker in CORE_TEST.split():
            utterances.append(_utterance(name, files, "test"))
        elif validation == "speakers" and speaker in DEVELOPMENT.split():
            utterances.append(_utterance(name, files, "validation"))
    return sorted(utterances, key=lambda utterance: utterance.name)


def _whole(validation):
    if isinstance(validation, bool) or not isinstance(validation, int) or validation < 0:
        raise ValueError(
            f'validation must be "speakers" or a number of utterances; got {validation!r}'
        )
    return validation


def _find(folder):
    """The directory with TRAIN and TEST, or None."""
    inside = _entries(folder)
    for place in (folder, inside.get("timit")):
        if place is not None and {"train", "test"} <= _entries(place).keys():
            return place
    return None


def _entries(folder):
    """What is in a directory, by its names in small letters; nothing where there is none."""
    if not os.path.isdir(folder):
        return {}
    # Other systems leave files of their own behind, with names that begin with a dot.
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return {name.lower(): os.path.join(folder, name) for name in names}


def _listed(root, part, keep_sa):
    """((speaker, sentence), files by their ending) of each utterance of a part, sorted."""
    for _, region in sorted(_entries(_entries(root)[part]).items()):
        for speaker, folder in sorted(_entries(region).items()):
            entries = _entries(folder)
            stems = {name.partition(".")[0] for name in entries if name.endswith((".wav", ".phn"))}
            for sentence in sorted(stems):
                if keep_sa or not sentence.startswith("sa"):
                    place = os.path.join(folder, sentence)
                    files = {end: entries.get(f"{sentence}.{end}") for end in ("phn", "txt")}
                    # One widely used copy has RIFF files of this name, some beside the others.
                    files["wav"] = entries.get(
                        f"{sentence}.wav", entries.get(f"{sentence}.wav.wav")
                    )
                    for end in ("wav", "phn"):
                        if files[end] is None:
                            raise FileNotFoundError(
                                f"no {place}.{end}, in small letters or capitals"
                            )
                    yield (speaker, sentence), files


def _utterance(name, files, split):
    rate, audio = read(files["wav"])
    ends, phonemes = read_phonemes(files["phn"])
    if len(ends) > 1 and ends[-2] >= len(audio):
        raise ValueError(
            f"{files['phn']} must end with its audio, at sample {len(audio)}; its last phone "
            f"begins at {ends[-2]}"
        )
    return Utterance(
        name="_".join(name),
        speaker=name[0],
        split=split,
        rate=RATE,
        # Phones end at samples of the file, which may have another rate.
        audio=_audio.resampled(audio, rate, RATE),
        phonemes=phonemes,
        ends=np.minimum(ends, len(audio)) / rate,
        text=_text(files["txt"]),
    )


def _text(file):
    """What is said; the sample numbers before it are left out."""
    if file is None:
        return ""
    with open(file, encoding="latin-1") as stream:
        words = stream.read().split()
    return " ".join(words[2:])


def read_phonemes(file):
    """What a .PHN file lists.

    Returns:
        Where each phone ends, `(phones,)` int64, in samples; and the phones, a tuple of str.

    Raises:
        ValueError: a line is not "start end phone", its phone not among TIMIT's 61, or ends do not
            rise.
    """
    with open(file, encoding="latin-1") as stream:
        lines = [line.split() for line in stream if line.strip()]
    ends, before = [], 0
    for number, words in enumerate(lines, 1):
        numeric = len(words) == 3 and words[0].isdecimal() and words[1].isdecimal()
        if not numeric or words[2].lower() not in PHONES[61]:
            raise ValueError(
                f'{file} must hold lines "start end phone" with one of the 61 phones of TIMIT; '
                f"line {number} is {' '.join(words)!r}"
            )
        start, end = int(words[0]), int(words[1])
        if not (start < end and before < end):
            raise ValueError(
                f"{file} must list phones in the order of time; line {number} goes from {start} "
                f"to {end}, after {before}"
            )
        ends.append(end)
        before = end
    if not ends:
        raise ValueError(f"{file} must list the phones of an utterance; it is empty")
    return np.array(ends, "int64"), tuple(words[2].lower() for words in lines)


def read(file):
    """The audio of a SPHERE file, or of any file that `_audio` reads, whatever its name.

    Returns:
        Samples a second, as many as the file has, and samples, `(samples,)` int16.

    Raises:
        ValueError: it is something else, compressed, or cut off.
    """
    with open(file, "rb") as stream:
        start = stream.read(7)
    if start == b"NIST_1A":
        return _read_sphere(file)
    audio, rate = _audio.read(file)
    return rate, audio


def _read_sphere(file):
    with open(file, "rb") as stream:
        content = stream.read()
    lines = content.split(b"\n", 2)
    size = lines[1].strip() if len(lines) > 2 else b""
    header = content[: int(size)] if size.isdigit() else b""
    if b"end_head" not in header:
        raise ValueError(
            f"{file} must have the length of its header in the second line, and end_head at its "
            f"end; got {size[:20]!r} and {len(content)} bytes in all"
        )
    fields = {}
    for line in header.decode("latin-1").partition("end_head")[0].splitlines()[2:]:
        name, _, value = line.partition(" ")
        fields[name] = value.partition(" ")[2].strip()
    expected = {
        "sample_coding": ("pcm",),
        "channel_count": ("1",),
        "sample_n_bytes": ("2",),
        "sample_byte_format": ("01", "10"),
    }
    fields = {"sample_coding": "pcm", "channel_count": "1"} | fields
    for name, allowed in expected.items():
        if fields.get(name) not in allowed:
            found = fields.get(name)
            way = "; `sph2pipe -p -f wav FILE` unpacks it" if "shorten" in (found or "") else ""
            raise ValueError(f"{file} must have {name} {' or '.join(allowed)}; got {found!r}{way}")
    for name in ("sample_rate", "sample_count"):
        if not fields.get(name, "").isdecimal():
            raise ValueError(f"{file} must have a whole {name}; got {fields.get(name)!r}")
    samples = content[len(header) :]
    count = int(fields["sample_count"])
    if len(samples) < 2 * count:
        raise ValueError(
            f"{file} says that it holds {count} samples of 2 bytes, and holds {len(samples)} bytes"
        )
    order = "<i2" if fields["sample_byte_format"] == "01" else ">i2"
    return int(fields["sample_rate"]), np.frombuffer(samples, order, count).astype("int16")


SAMPLE = {
    "TRAIN/DR1": ("fcjf0", "mcpm0", "mdac0"),
    "TEST/DR1": ("felc0", "mdab0", "faks0", "mwbt9"),
    "TEST/DR2": ("fpas0", "mwew0", "mpdf0", "mabw9"),
}


def sample(folder):
    """Writes TIMIT/ of the same form, in which each phone is a tone, for tests.

    Three speakers are of TRAIN; of the eight of TEST four are of the core test, and two each of the
    validation speakers and of neither. Each reads a sentence SA1, two SX and one SI.
    """
    rng = np.random.default_rng(0)
    for place, speakers in SAMPLE.items():
        for speaker in speakers:
            for sentence in ("SA1", "SX1", "SX2", "SI1"):
                inner = rng.choice(PHONES[61], int(rng.integers(3, 7)))
                phones = ["h#", *inner.tolist(), "h#"]
                ends = np.cumsum(rng.integers(600, 1600, len(phones)))
                file = os.path.join(folder, "TIMIT", *place.split("/"), speaker.upper(), sentence)
                _store.write(_sphere(_tones(phones, ends)), f"{file}.WAV")
                starts = [0, *ends[:-1].tolist()]
                lines = [f"{a} {b} {p}\n" for a, b, p in zip(starts, ends.tolist(), phones)]
                _store.write("".join(lines).encode(), f"{file}.PHN")
                _store.write(f"0 {ends[-1]} {' '.join(inner)}.\n".encode(), f"{file}.TXT")


def _tones(phones, ends):
    """A tone of its own for each phone, and silence for h#, with a few samples after the last."""
    audio = np.zeros(ends[-1] + 50)
    starts = [0, *ends[:-1].tolist()]
    for start, end, phone in zip(starts, ends.tolist(), phones):
        if phone != "h#":
            pitch = 200 + 100 * PHONES[61].index(phone)
            audio[start:end] = 8000 * np.sin(2 * np.pi * pitch * np.arange(end - start) / 16000)
    return audio.astype("<i2")


def _sphere(audio):
    fields = (
        "NIST_1A\n   1024\nchannel_count -i 1\n"
        f"sample_count -i {len(audio)}\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
        "sample_byte_format -s2 01\nsample_sig_bits -i 16\nend_head\n"
    )
    return fields.encode().ljust(1024) + audio.tobytes()
