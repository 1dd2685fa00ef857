"""Programs that speak and know what they say when: flite, festival and eSpeak NG.

Each takes lines to say, and yields for each of them a `Said`, in their order.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import re
import sys

import numpy as np

from . import _audio, _espeak, _packages, _speech

PROCESSES = 2
WORDS_A_MINUTE = 160  # of eSpeak, at stretch 1
PAUSE = 0.15  # seconds of silence around what eSpeak says, as the others leave by themselves

# What eSpeak NG's American English calls by other names than CMUdict. Its many weak vowels are one
# here, as are its sorts of t; what it holds for one sound, CMUdict often spells as two.
ESPEAK = {
    **{"tS": "ch", "dZ": "jh", "D": "dh", "T": "th", "S": "sh", "Z": "zh", "N": "ng"},
    **{"h": "hh", "j": "y", "t#": "t", "t2": "t", "?": "t", "n-": "ax n", "@L": "ax l"},
    **{"a": "ae", "aa": "ae", "A:": "aa", "0": "aa", "O2": "ao", "O:": "ao", "V": "ah"},
    **{"E": "eh", "I": "ih", "I2": "ih", "I#": "ih", "i": "iy", "i:": "iy", "U": "uh"},
    **{"u": "uw", "u:": "uw", "eI": "ey", "aI": "ay", "aU": "aw", "oU": "ow", "OI": "oy"},
    **{"@": "ax", "@2": "ax", "@-": "ax", "a#": "ax", "3": "er", "3:": "er", "A@": "aa r"},
    **{"O@": "ao r", "o@": "ao r", "e@": "eh r", "i@3": "ih r", "i@": "iy ax", "U@": "uh r"},
    **{"aI@": "ay ax", "aI3": "ay er", "_:": "pau", "_": "pau", ";": "", "r-": ""},
    **{name: name for name in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t")},
    **{name: name for name in ("v", "w", "z")},
}


@dataclasses.dataclass(frozen=True)
class Line:
    """What is to be said: `pitch` in the program's own unit, `stretch` times as slowly as usual."""

    name: str
    split: str
    program: str
    voice: str
    pitch: int
    stretch: float
    text: str

    @property
    def speaker(self):
        return f"{self.voice}-{self.pitch}-{self.stretch}"

    @property
    def problem(self):
        return f"{self.program} could not say {self.text!r} with the voice {self.voice}"


@dataclasses.dataclass(frozen=True)
class Said:
    """Samples `(samples,)` int16, phonemes, a tuple of str, and when each ends, in seconds."""

    audio: np.ndarray
    phonemes: tuple
    ends: np.ndarray


def flite(lines, root, folder, rate):
    """flite (Black and Lenzo, 2001), unpacked in `root`; its pitch is in hertz.

    Raises `RuntimeError` where it fails, with its words; the others below do as well.
    """
    program = os.path.join(root, "usr", "bin", "flite")
    say = functools.partial(
        _flite, program=program, folder=folder, environment=_packages.libraries(root), rate=rate
    )
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        try:
            yield from pool.map(say, lines)
        finally:
            pool.shutdown(cancel_futures=True)


def _flite(line, program, folder, environment, rate):
    file = os.path.join(folder, f"{line.name}.wav")
    command = [program, "-voice", line.voice, "-psdur", "-t", f"{line.text}.", "-o", file]
    command += ["--setf", f"int_f0_target_mean={line.pitch}"]
    command += ["--setf", f"duration_stretch={line.stretch}"]
    printed = _packages.run(command, line.problem, environment=environment)
    with _told(line, printed):
        phonemes, ends = zip(*re.findall(r"(\S+):([\d.]+)", printed))
        # It takes a voice of 8 kHz, without a word, where it does not know one.
        audio = _read(file, rate)
        # Some voices stop in the middle of the last silence.
        return Said(audio, *_speech.fit(phonemes, np.array(ends, float), len(audio) / rate))


def festival(lines, root, folder, rate):
    """festival (Black, Taylor and Caley, 1996), unpacked in `root`; its pitch is in hertz."""
    library = os.path.join(root, "usr", "share", "festival", "")
    script = os.path.join(folder, "festival.scm")
    files = {line: os.path.join(folder, line.name) for line in lines}
    with open(script, "w", encoding="utf-8") as stream:
        for line, file in files.items():
            stream.write(
                f"(voice_{line.voice}_diphone)\n"
                f"(Parameter.set 'Duration_Stretch {line.stretch})\n"
                f"(set! int_lr_params '((target_f0_mean {line.pitch}) (target_f0_std 14)"
                " (model_f0_mean 170) (model_f0_std 34)))\n"
                f'(set! said (utt.synth (Utterance Text "{line.text}.")))\n'
                f'(utt.save.segs said "{file}.seg")\n'
                f'(utt.save.wave said "{file}.wav" \'riff)\n'
            )
    command = [os.path.join(root, "usr", "bin", "festival"), "--datadir", library]
    command += ["--libdir", library, "--batch", script]
    printed = _packages.run(
        command, "festival could not speak", environment=_packages.libraries(root)
    )
    for line, file in files.items():
        with _told(line, printed):
            with open(f"{file}.seg", encoding="utf-8") as stream:
                fields = [entry.split() for entry in stream if entry.strip() != "#"]
            phonemes, ends = zip(*((name, float(end)) for end, _, name in fields))
            audio = _read(f"{file}.wav", rate)
            yield Said(audio, *_speech.fit(phonemes, np.array(ends), len(audio) / rate))


def espeak(lines, package, folder, rate):
    """eSpeak NG (Duddington, 1995), its Python package unpacked in `package`; pitch of 0 to 100."""
    library = os.path.join(package, "espeakng_loader")
    tasks, files = os.path.join(folder, "espeak.json"), {}
    for line in lines:
        files[line] = os.path.join(folder, f"{line.name}.wav")
    with open(tasks, "w", encoding="utf-8") as stream:
        speeds = [round(WORDS_A_MINUTE / line.stretch) for line in lines]
        pairs = zip(files.items(), speeds)
        json.dump([(x.voice, x.pitch, speed, f"{x.text}.", f) for (x, f), speed in pairs], stream)
    command = [sys.executable, "-P", _espeak.__file__, os.path.join(library, "libespeak-ng.so")]
    command += [os.path.join(library, "espeak-ng-data"), tasks]
    printed = _packages.run(command, "eSpeak NG could not speak").splitlines()
    printed += [""] * (len(files) - len(printed))  # each line that is missing is a problem
    for (line, file), events in zip(files.items(), printed):
        with _told(line, events):
            phonemes, starts = translated(json.loads(events))
            silence = np.zeros(round(PAUSE * rate), "int16")
            audio = np.concatenate([silence, _read(file, rate, resample=True), silence])
            ends = np.append(PAUSE + starts, len(audio) / rate)
            phonemes, ends = ("pau", *phonemes), np.minimum(ends, len(audio) / rate)
            yield Said(audio, *_speech.fit(phonemes, ends, len(audio) / rate))


def translated(events):
    """CMUdict's phonemes of pairs of eSpeak's phoneme and its start in milliseconds.

    Returns a tuple of str, which ends with silence, and their starts in seconds. A sound that
    CMUdict spells as two is halved. Raises `ValueError` for one that is not in `ESPEAK`.
    """
    sounds = []
    for (name, start), (_, end) in zip(events, [*events[1:], *events[-1:]]):
        bare = name.lstrip("',%=")
        if bare not in ESPEAK:
            raise ValueError(f"expected a phoneme of American English, got {name!r}")
        parts = ESPEAK[bare].split()
        if sounds and start == end and parts != [_speech.SILENCE]:
            # The l of "tool" is part of the sound before it, and takes no time of its own.
            sounds[-1][0].extend(parts)
        else:
            sounds.append((parts, start, end))
    phonemes, starts = [], []
    for parts, start, end in sounds:
        for number, part in enumerate(parts):
            # The r of "curious" and of "around" is one with the vowel before it to CMUdict.
            if part != "r" or (None, *phonemes)[-1] not in ("r", "er"):
                phonemes.append(part)
                starts.append((start + (end - start) * number / len(parts)) / 1000)
    if phonemes[-1:] != [_speech.SILENCE]:
        raise ValueError(f"expected silence at the end, got {events[-1:]}")
    return tuple(phonemes), np.array(starts)


def _read(file, rate, resample=False):
    """The samples of a wav file, which is removed."""
    audio, found = _audio.read(file)
    os.remove(file)
    if resample:
        return _speech.resampled(audio, found, rate)
    if found != rate:
        raise ValueError(f"expected {rate} samples a second, got {found}")
    return audio


@contextlib.contextmanager
def _told(line, printed):
    """Says which line a program failed at, where what it left cannot be read."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise RuntimeError(f"{line.problem}: {error}; it printed:\n{printed.strip()}") from error
