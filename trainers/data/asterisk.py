"""Asterisk-aligned: prompts of a telephone exchange, read by one woman, with phonemes and times.

The recordings (Allison Smith, 2003 to 2010; paid for by Digium, Inc.), 8,000 samples a second, and
what is said in them are Debian's packages asterisk-core-sounds-en-wav and asterisk-core-sounds-en.
They are under CC BY-SA 3.0, and so is the file made of them here: whoever passes it on names the
authors and keeps the licence.

The phonemes are machine-made: pocketsphinx (Huggins-Daines et al., 2006), from PyPI, finds the
dictionary's phonemes in the recording, whose end it tells to the frame, 10 ms. Prompts with a word
that its dictionary does not know, or for which it fails, are left out. The numbers of this data set
are those of no other one.

A hash of the words decides the split, about 80, 10 and 10 of a hundred, so that prompts that say
the same stand in the same split, and a prompt stays where it is when others come or go.
"""

import gzip
import hashlib
import json
import os
import re
import sys
import tempfile

import numpy as np

from . import _align, _audio, _packages, _speech, _store

PACKAGES = "asterisk-core-sounds-en-wav", "asterisk-core-sounds-en"
VERSION = "1.6.1-1"
EDITION = 1
ALIGNER = "pocketsphinx==5.1.1"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"
TRANSCRIPTS = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
RATE = 8000
SPEAKER = "allison"
TENTHS = ("test", "validation", *["train"] * 8)

# The symbols of CMUdict without stress; `pau` is silence.
PHONEMES = (
    *("aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh"),
    *("ih", "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "pau", "r", "s", "sh", "t"),
    *("th", "uh", "uw", "v", "w", "y", "z", "zh"),
)


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "asterisk.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Downloads and aligns the prompts where the file is not there yet, and returns its path.

    It downloads 47 MB and computes for about 30 seconds; the aligner goes away again afterwards.
    Another version of the prompts is used with a warning.

    Raises `RuntimeError` where apt-get is missing or fails, or pip or the aligner does, with their
    words.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            root, versions = _packages.debian(PACKAGES, folder)
            aligner = _packages.pip(ALIGNER, folder)
            utterances = list(_utterances(_transcripts(root), aligner, folder))
        _packages.warn_of_another(versions[PACKAGES[0]], VERSION, "Asterisk-aligned")
        name, _, version = ALIGNER.partition("==")
        packages, digest = versions | {name: version}, _speech.digest(utterances)
        content = _speech.pack(utterances, EDITION, packages=packages, sha256=digest)
        _store.write(content, path(cache_dir))
    return path(cache_dir)


def load(path):
    """The list of all utterances (`_speech.Utterance`) in the file `path`.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged.
    """
    return _speech.load(path, "asterisk", EDITION)


def split(text):
    """The split of all prompts that say `text`, whatever its capitals and punctuation."""
    said = " ".join(re.findall(r"[a-z0-9']+", text.lower()))
    return TENTHS[int(hashlib.sha256(said.encode()).hexdigest(), 16) % 10]


def _transcripts(root):
    """Triples of name, wav file and text: of all prompts that have the latter two."""
    with gzip.open(os.path.join(root, TRANSCRIPTS), "rt", encoding="utf-8") as stream:
        lines = [line.strip().partition(": ") for line in stream if not line.startswith(";")]
    found = [(name, os.path.join(root, SOUNDS, f"{name}.wav"), text) for name, _, text in lines]
    return [(name, file, text) for name, file, text in found if text and os.path.exists(file)]


def _utterances(transcripts, aligner, folder):
    recordings, tasks = [], []
    for number, (_, file, text) in enumerate(transcripts):
        audio, rate = _audio.read(file)
        recordings.append((audio, rate))
        tasks.append((os.path.join(folder, f"{number}.npy"), text))
        np.save(tasks[-1][0], _speech.resampled(audio, rate, _align.RATE))
    list_of_tasks = os.path.join(folder, "tasks.json")
    with open(list_of_tasks, "w", encoding="utf-8") as stream:
        json.dump(tasks, stream)
    # -P: or else Python takes the data sets of this directory for modules of its own.
    printed = _packages.run(
        [sys.executable, "-P", _align.__file__, list_of_tasks],
        "pocketsphinx could not align the prompts",
        environment=os.environ | {"PYTHONPATH": aligner},
    )
    prompts = zip(transcripts, recordings, printed.splitlines(), strict=True)
    for (name, _, text), (audio, rate), line in prompts:
        if alignment := json.loads(line):
            phonemes, ends = zip(*alignment)
            phonemes, ends = _speech.fit(phonemes, np.array(ends), len(audio) / rate)
            yield _speech.Utterance(name, SPEAKER, split(text), rate, audio, phonemes, ends, text)


def sample(folder):
    """Writes a small file of the same form, of tones, for tests; returns its path."""
    file = os.path.join(folder, "asterisk.npz")
    _store.write(_speech.pack(_speech.tones(RATE, PHONEMES), EDITION), file)
    return file
