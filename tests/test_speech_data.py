"""Speech: its file, how it is fetched from packages, and what may be said of the real sets."""

import collections
import ctypes
import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import re
import sys
import textwrap
import wave

import numpy as np
import pytest
from ponderzoo.trainers import data
from ponderzoo.trainers.data import (
    _align,
    _espeak,
    _packages,
    _speech,
    _store,
    _voices,
    asterisk,
    tts_phones,
)

SPLITS = ("train", "validation", "test")


def utterance(number=0, samples=800, phonemes=("pau", "ah", "pau"), **changes):
    audio = np.random.default_rng(number).integers(-(2**15), 2**15, samples, "int16")
    ends = np.linspace(0, samples / 8000, len(phonemes) + 1)[1:]
    parts = {
        "name": f"u{number}",
        "speaker": "é",
        "split": "train",
        "rate": 8000,
        "text": "no, non, nein",
    }
    parts |= {"audio": audio, "phonemes": tuple(phonemes), "ends": ends}
    return _speech.Utterance(**parts | changes)


def same(one, other):
    for field in dataclasses.fields(_speech.Utterance):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert type(a) is type(b), field.name
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b
    return True


# The file.


@pytest.mark.parametrize("count", [0, 1, 3])
def test_utterances_come_back_as_they_were(tmp_path, count):
    packed = [
        utterance(0),
        utterance(1, 0, ()),
        utterance(2, 1, ("zh",), split="test", rate=16_000, text="", ends=np.array([1 / 16_000])),
    ][:count]
    (tmp_path / "file.npz").write_bytes(_speech.pack(packed, packages={"flite": "1"}))
    found = _speech.unpack(tmp_path / "file.npz")
    assert len(found) == count and all(map(same, packed, found))
    assert _speech.metadata(tmp_path / "file.npz") == {"packages": {"flite": "1"}}
    assert _speech.digest(found) == _speech.digest(packed)


def test_the_same_utterances_give_the_same_bytes_and_others_do_not():
    assert _speech.pack([utterance(1)], a=1) == _speech.pack([utterance(1)], a=1)
    digests = {
        _speech.digest([one])
        for one in (
            utterance(1),
            utterance(2),
            utterance(1, split="test"),
            utterance(1, text="yes"),
            utterance(1, phonemes=("pau", "ah", "ao")),
            utterance(1, ends=np.array([0.01, 0.02, 0.1])),
        )
    }
    assert len(digests) == 6


def test_what_was_read_cannot_be_changed(tmp_path):
    (tmp_path / "file.npz").write_bytes(_speech.pack([utterance()]))
    (found,) = _speech.unpack(tmp_path / "file.npz")
    with pytest.raises(ValueError, match="read-only"):
        found.audio[0] = 1


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"audio": np.zeros(800)}, r"audio .* got \(800,\) of float64"),
        ({"audio": np.zeros((2, 400), "int16")}, r"audio .* got \(2, 400\) of int16"),
        ({"ends": np.array([0.1])}, r"one end for each of 3 phonemes, got \(1,\)"),
        ({"ends": np.array([0.02, 0.01, 0.1])}, "ends that rise up to 0.1 seconds"),
        ({"ends": np.array([0.01, 0.02, 0.11])}, "ends that rise up to 0.1 seconds"),
        ({"ends": np.array([-0.01, 0.02, 0.1])}, "ends that rise"),
        ({"split": "dev"}, "a split among .* got 'dev'"),
    ],
)
def test_an_utterance_whose_parts_do_not_fit_is_named(changes, words):
    with pytest.raises(ValueError, match=f"the utterance 'u7' needs {words}"):
        _speech.pack([utterance(), utterance(7, **changes)])


def test_a_name_may_come_once():
    with pytest.raises(ValueError, match="unique, got 'u3' twice"):
        _speech.pack([utterance(3), utterance(1), utterance(3)])


@pytest.mark.parametrize("name", ["asterisk", "tts_phones"])
def test_a_missing_or_damaged_file_is_named(tmp_path, name):
    module, file = data.dataset(name), tmp_path / f"{name}.npz"
    assert module.path(tmp_path) == str(file) and not module.available(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no file .*ponderzoo data fetch {name}"):
        module.load(file)
    content = _speech.pack([utterance()])
    np.savez(tmp_path / "other.npz", audio=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    others = [(tmp_path / other).read_bytes() for other in ("other.npz", "array.npy")]
    for damaged in (b"", b"noise", content[:-9], content[: len(content) // 2], *others):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is no file of utterances, or damaged"):
            module.load(file)
    place = content.index(utterance().audio.tobytes())
    file.write_bytes(content[:place] + b"????" + content[place + 4 :])
    with pytest.raises(ValueError, match="damaged"):
        module.load(file)
    file.write_bytes(content[:-9])
    assert not module.available(tmp_path)
    file.write_bytes(content)
    assert module.available(tmp_path) and same(module.load(file)[0], utterance())


def test_labels_end_where_the_audio_ends():
    phonemes, ends = _speech.fit(("pau", "aa", "pau"), np.array([0.1, 0.3, 0.42]), 0.4)
    assert phonemes == ("pau", "aa", "pau") and ends.tolist() == [0.1, 0.3, 0.4]
    phonemes, ends = _speech.fit(("aa", "pau", "pau", "b", "b"), np.arange(1.0, 6), 5.5)
    assert phonemes == ("aa", "pau", "b", "b"), "silence is one, and two phonemes are two"
    assert ends.tolist() == [1, 3, 4, 5.5]
    phonemes, ends = _speech.fit(("aa", "pau", "pau"), np.arange(1.0, 4), 2.5)
    assert phonemes == ("aa", "pau") and ends.tolist() == [1, 2.5]
    with pytest.raises(ValueError, match=r"last phoneme begins at 0\.3 of 0\.3 seconds"):
        _speech.fit(("pau", "aa"), np.array([0.3, 0.4]), 0.3)


@pytest.mark.parametrize(
    "count, rate", [*((n, 8000) for n in (0, 1, 2, 799, 4000)), (4410, 22_050)]
)
def test_audio_keeps_its_sound_at_another_rate(count, rate):
    def sine(count, rate):
        return np.rint(9000 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)).astype("int16")

    found = _speech.resampled(sine(count, rate), rate, 16_000)
    assert found.dtype == np.int16 and len(found) == count * 16_000 // rate
    difference = np.abs(found.astype(int) - sine(len(found), 16_000))
    assert count < 100 or difference[len(found) // 4 : -len(found) // 4].max() < 60
    same = _speech.resampled(sine(count, rate), rate, rate)
    np.testing.assert_array_equal(same, sine(count, rate), strict=True)


def test_audio_that_is_too_loud_at_another_rate_is_cut():
    square = np.repeat(np.tile(np.array([2**15 - 1, -(2**15)], "int16"), 20), 50)
    found = _speech.resampled(square, 8000, 16_000)
    assert found.max() == 2**15 - 1 and found.min() == -(2**15)
    wrapped = (found > 0) != (np.repeat(square, 2) > 0)
    assert not wrapped.reshape(40, 100)[:, 2:-2].any()


@pytest.mark.parametrize("name", ["asterisk", "tts_phones"])
def test_a_set_makes_a_sample_of_itself(tmp_path, name):
    module = data.dataset(name)
    found = module.load(module.sample(tmp_path))
    assert module.available(tmp_path)
    assert {u.split for u in found} == set(SPLITS) and {u.rate for u in found} == {module.RATE}
    for u in found:
        assert set(u.phonemes) <= set(module.PHONEMES)
        assert u.ends[-1] == len(u.audio) / u.rate
        for phoneme, end, start in zip(u.phonemes, u.ends, [0, *u.ends]):
            part = u.audio[round(start * u.rate) : round(end * u.rate)]
            assert (np.abs(part.astype(int)).max() > 5000) == (phoneme != "pau")


# Packages.


@pytest.fixture
def debian(monkeypatch, tmp_path):
    """Puts an apt-get and a dpkg on the PATH that know the packages in a folder, by directory."""
    packages, programs = tmp_path / "packages", tmp_path / "bin"
    packages.mkdir()
    programs.mkdir()

    def install(name, *lines):
        (programs / name).write_text("\n".join(("#!/bin/sh", *lines)))
        (programs / name).chmod(0o755)

    install(
        "apt-get",
        f'echo "$@" >> {tmp_path}/asked; shift; for name in "$@"; do',
        f'[ -d {packages}/$name ] || {{ echo "E: Unable to locate package $name" >&2; exit 100; }}',
        "touch ${name}_1%3a2.2-5_amd64.deb; done",
    )
    install("dpkg", f'name=${{2%%_*}}; cp -r {packages}/$name/. "$3"')
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(tts_phones, "VERSIONS", dict.fromkeys(tts_phones.VERSIONS, "1:2.2-5"))
    monkeypatch.setattr(asterisk, "VERSION", "1:2.2-5")
    install.packages = packages
    return install


def test_packages_are_downloaded_and_unpacked(debian, tmp_path):
    for name in ("one", "two-data"):
        (debian.packages / name / "usr").mkdir(parents=True)
        (debian.packages / name / "usr" / name).write_text(name)
    folder = tmp_path / "folder"
    root, versions = _packages.debian(["one", "two-data"], folder)
    assert versions == {"one": "1:2.2-5", "two-data": "1:2.2-5"}
    assert sorted(os.listdir(os.path.join(root, "usr"))) == ["one", "two-data"]
    assert (tmp_path / "asked").read_text() == "download one two-data\n"


def test_apt_get_and_dpkg_are_quoted(debian, tmp_path):
    with pytest.raises(RuntimeError, match=r"apt-get could not download x y:\nE: Unable to .* x"):
        _packages.debian(["x", "y"], tmp_path / "1")
    (debian.packages / "x").mkdir()
    debian("dpkg", "echo 'not a Debian archive' >&2; exit 2")
    with pytest.raises(RuntimeError, match=r"could not unpack x_1.*deb:\nnot a Debian archive"):
        _packages.debian(["x"], tmp_path / "2")
    debian("apt-get", "exit 3")
    with pytest.raises(RuntimeError, match="could not download x:\nexit code 3"):
        _packages.debian(["x"], tmp_path / "3")
    debian("apt-get", "exit 0")
    with pytest.raises(
        RuntimeError, match="could not download x: it says it did, and left nothing"
    ):
        _packages.debian(["x"], tmp_path / "4")


def test_pip_installs_a_package_alone_and_in_the_folder(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(_packages, "run", lambda *arguments: ran.append(arguments))
    target = _packages.pip("some-loader==0.2.4", str(tmp_path))
    assert target == str(tmp_path / "some-loader")
    ((command, problem),) = ran
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and "--no-deps" in command
    assert command[command.index("--target") + 1 :] == [target, "some-loader==0.2.4"]
    assert problem == "pip could not install some-loader==0.2.4"


def test_pip_is_quoted(monkeypatch, tmp_path):
    pip = tmp_path / "python"
    pip.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        echo "no network for $8" >&2
        exit 1
        """)
    )
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(RuntimeError, match=r"not install loader==1:\nno network for loader==1$"):
        _packages.pip("loader==1", str(tmp_path))


@pytest.mark.parametrize("before", [None, "/opt/lib"])
def test_programs_find_the_libraries_that_were_unpacked(monkeypatch, tmp_path, before):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    if before:
        monkeypatch.setenv("LD_LIBRARY_PATH", before)
    places = ["lib/here", "usr/lib/here", "usr/lib/here/pulseaudio"]
    for place in (*places, "usr/lib/here/cmake", "usr/share/here"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "os-release").touch()
    environment = _packages.libraries(tmp_path)
    found = environment.pop("LD_LIBRARY_PATH").split(os.pathsep)
    assert found == [*(str(tmp_path / place) for place in places), *filter(None, [before])]
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert environment == os.environ


def test_other_systems_are_told_what_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("asterisk", "tts_phones"):
        with pytest.raises(RuntimeError, match=r"no apt-get on the PATH.*needs Debian, Ubuntu"):
            data.fetch(name, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# Synthetic speech.

# The programs log what they are asked, and say each word for a tenth of a second.
COMMON = """\
#!{python} -IS
import json, re, sys, wave
def save(file, rate, tenths):
    with wave.open(file, "wb") as stream:
        stream.setparams((1, 2, rate, 0, "NONE", None))
        stream.writeframes(bytes(2 * (rate // 10) * tenths))
def log(*words):
    with open({log!r}, "a") as stream:
        stream.write(json.dumps(words) + chr(10))
"""
PROGRAMS = {
    # Silence before, and after for longer than there is audio.
    "flite": """
words = sys.argv[1:]
voice, text, file = (words[words.index(flag) + 1] for flag in ("-voice", "-t", "-o"))
pitch, stretch = (re.search(flag + "=(.*?) ", " ".join(words) + " ")[1]
    for flag in ("int_f0_target_mean", "duration_stretch"))
said = text.rstrip(".").split()
log("flite", voice, int(pitch), float(stretch), text)
{extra}
save(file, 16000, len(said) + 2)
print("pau:0.100", *(f"{{word}}:{{0.1 * i + 0.2:.3f}}" for i, word in enumerate(said)), end=" ")
print(f"pau:{{0.1 * len(said) + 0.25:.3f}}")
""",
    "festival": """
assert sys.argv[1] == "--datadir" and sys.argv[3] == "--libdir" and sys.argv[5] == "--batch"
for commands in open(sys.argv[6]).read().split("(voice_")[1:]:
    voice, text, seg, file = (re.search(flag, commands)[1] for flag in
        ("(.*)_diphone", 'Utterance Text "(.*)"', 'segs said "(.*)"', 'wave said "(.*)" .riff'))
    pitch = int(re.search(r"target_f0_mean ([0-9]+)", commands)[1])
    log("festival", voice, pitch, float(re.search("Stretch ([0-9.]+)", commands)[1]), text)
    said = text.rstrip(".").split()
    entries = [f"{{0.1 * i + 0.1:.4f}} 100 {{p}}" for i, p in enumerate(["pau", *said, "pau"])]
    {extra}
    save(file, 16000, len(said) + 2)
    open(seg, "w").write(chr(10).join(["#", *entries, ""]))
""",
    # A sound of its own for each word, and silence of a tenth after them.
    "espeak": """
library, voices, tasks = sys.argv[1:]
open(library).close(), open(voices + "/phontab").close()
for voice, pitch, speed, text, file in json.load(open(tasks)):
    log("espeak", voice, pitch, speed, text)
    said = text.rstrip(".").split()
    events = [["'A@", 100 * i] for i in range(len(said))] + [["_:", 100 * len(said)]]
    {extra}
    save(file, 22050, len(said) + 1)
    print(json.dumps(events))
""",
}
FEW_VOICES = {
    "train": {("flite", "kal16"): (90,), ("festival", "ked"): (90,), ("espeak", "en-us+m1"): (30,)},
    "validation": {("flite", "kal16"): (95,), ("espeak", "en-us+m1"): (35,)},
    "test": {("flite", "rms"): (105,)},
}


@pytest.fixture
def programs(debian, monkeypatch, tmp_path):
    """The packages of programs of few words, for a small set."""
    monkeypatch.setattr(tts_phones, "COUNTS", {"train": 9, "validation": 2, "test": 2})
    monkeypatch.setattr(tts_phones, "VOICES", FEW_VOICES)
    for name in tts_phones.PACKAGES:
        (debian.packages / name / "usr" / "lib" / "here").mkdir(parents=True)
    loader = tmp_path / "loader" / "espeakng_loader"
    (loader / "espeak-ng-data").mkdir(parents=True)
    (loader / "libespeak-ng.so").touch()
    (loader / "espeak-ng-data" / "phontab").touch()
    places = {name: debian.packages / name / "usr/bin" / name for name in ("flite", "festival")}
    places["espeak"] = tmp_path / "fake_espeak.py"
    monkeypatch.setattr(_packages, "pip", lambda requirement, folder: str(loader.parent))
    monkeypatch.setattr(_espeak, "__file__", str(places["espeak"]))

    def write(program, extra=""):
        places[program].parent.mkdir(exist_ok=True)
        text = (COMMON + PROGRAMS[program]).format(
            python=sys.executable, log=str(tmp_path / "said"), extra=extra
        )
        places[program].write_text(text)
        places[program].chmod(0o755)

    for program in PROGRAMS:
        write(program)
    return write


def test_the_programs_are_fetched_and_speak(programs, tmp_path, capfd):
    cache = tmp_path / "cache"
    assert "tts_phones" in data.list()
    assert data.fetch("tts_phones", cache) == str(cache / "tts_phones.npz")
    assert os.listdir(cache) == ["tts_phones.npz"] and tts_phones.available(cache)
    assert "spoken: 13 of 13" in capfd.readouterr().err
    found = tts_phones.load(tts_phones.path(cache))
    assert [u.split for u in found] == ["train"] * 9 + ["validation"] * 2 + ["test"] * 2
    assert [u.text for u in found] == tts_phones.sentences(13)
    assert [u.speaker for u in found] == [
        *(f"kal16-90-{stretch}" for stretch in (0.85, 1.0, 1.2)),
        *(f"ked-90-{stretch}" for stretch in (0.85, 1.0, 1.2)),
        *(f"en-us+m1-30-{stretch}" for stretch in (0.85, 1.0, 1.2)),
        *("kal16-95-1.1", "en-us+m1-35-1.1", "rms-105-0.85", "rms-105-1.0"),
    ]
    for u in found:
        words = u.text.split()
        assert u.rate == 16_000 and u.ends[-1] == len(u.audio) / 16_000
        if u.speaker.startswith("en-us"):
            assert u.phonemes == ("pau", *("aa", "r") * len(words), "pau")
            np.testing.assert_allclose(np.diff(u.ends[:-1]), 0.05)
            assert u.ends[0] == _voices.PAUSE
            assert u.ends[-1] == pytest.approx(u.ends[-2] + 0.1 + _voices.PAUSE, abs=1e-3)
        else:
            assert u.phonemes == ("pau", *words, "pau")
            np.testing.assert_allclose(np.diff(u.ends), 0.1)
    about = _speech.metadata(tts_phones.path(cache))
    assert about["packages"]["festival"] == "1:2.2-5" and about["sha256"] == _speech.digest(found)
    assert about["packages"]["espeakng-loader"] == "0.2.4"


def test_the_programs_are_asked_for_the_speaker(programs, tmp_path):
    tts_phones.fetch(tmp_path / "cache")
    asked = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    speeds = {188: 0.85, 160: 1.0, 133: 1.2, 145: 1.1}
    for words in asked:
        if words[0] == "espeak":
            words[3] = speeds[words[3]]
    planned = [
        [line.program, line.voice, line.pitch, line.stretch, f"{line.text}."]
        for line in tts_phones._plan()
    ]
    assert sorted(asked) == sorted(planned)
    tts_phones.fetch(tmp_path / "cache")
    assert len((tmp_path / "said").read_text().splitlines()) == 13, "what is there is not made"


def test_two_fetches_make_the_same_bytes(programs, tmp_path):
    one, other = (pathlib.Path(tts_phones.fetch(tmp_path / place)) for place in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("program", ["flite", "festival"])
def test_another_version_is_used_with_a_warning(programs, monkeypatch, tmp_path, program):
    monkeypatch.setitem(tts_phones.VERSIONS, program, "9")
    with pytest.warns(UserWarning, match=r"TTS-Phones is made with version 1:2\.2-5 .* with 9"):
        tts_phones.fetch(tmp_path)
    assert tts_phones.available(tmp_path)


@pytest.mark.parametrize(
    "program, extra, voice, words",
    [
        ("flite", "if voice == 'rms': sys.exit('out of breath')", "rms", "out of breath"),
        ("flite", "print('hm'); sys.exit()", "kal16", "not enough values.*it printed:\nhm"),
        ("flite", "print('pau:0.1'); sys.exit()", "kal16", "no file"),
        ("flite", "print('a:1'); open(file, 'w').close(); sys.exit()", "kal16", "printed:\na:1"),
        ("flite", "mute = save; save = lambda *a: mute(*a[:2], 0)", "kal16", "holds no samples"),
        ("festival", "print('SIOD ERROR'); sys.exit(1)", None, "could not speak:\nSIOD ERROR"),
        ("festival", "print('hm'); sys.exit()", "ked", "No such file.*it printed:\nhm"),
        ("festival", "entries = []", "ked", "not enough values"),
        ("festival", "entries[1] = '0.2 100'", "ked", "not enough values"),
        ("festival", "entries[1] = 'end 100 aa'", "ked", "could not convert"),
        ("festival", "open(seg, 'w').write('1 100 aa'); sys.exit()", "ked", "no file"),
        ("espeak", "sys.exit('no such voice')", None, "eSpeak NG could not speak:\nno such voice"),
        ("espeak", "sys.exit()", "en-us.m1", "it printed:\n$"),
        ("espeak", "if pitch == 35: sys.exit()", "en-us.m1", "it printed:\n$"),
        ("espeak", "print('hm')", "en-us.m1", "it printed:\nhm"),
        ("espeak", "events = []", "en-us.m1", r"silence at the end.*it printed:\n\[\]"),
        ("espeak", "events.pop()", "en-us.m1", "silence at the end"),
        ("espeak", "events[0][0] = 'y:'", "en-us.m1", "phoneme of American English, got 'y:'"),
        ("espeak", "save = lambda *_: None", "en-us.m1", "no file"),
    ],
)
def test_nothing_is_written_where_a_program_fails(programs, tmp_path, program, extra, voice, words):
    programs(program, extra)
    with pytest.raises(RuntimeError, match=f"(?s){words}") as problem:
        tts_phones.fetch(tmp_path / "cache")
    if voice:
        said = re.match(
            rf"{program} could not say '(.+?)' with the voice {voice}:", *problem.value.args
        )
        assert said and said[1] in tts_phones.sentences(13)
    assert not (tmp_path / "cache").exists()


def test_a_voice_of_another_rate_is_refused(programs, monkeypatch, tmp_path):
    """flite takes such a voice, and tells nobody, where it does not know the one it was given."""
    programs("flite", "sound, save = save, lambda file, rate, tenths: sound(file, 8000, tenths)")
    with pytest.raises(RuntimeError, match=r"flite .* expected 16000 samples a second, got 8000"):
        tts_phones.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_nothing_is_left_of_a_file_that_was_interrupted(programs, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_store.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        tts_phones.fetch(tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []


def test_the_phonemes_of_espeak_become_those_of_the_other_programs():
    assert {part for parts in _voices.ESPEAK.values() for part in parts.split()} == set(
        tts_phones.PHONEMES
    )
    events = [["k", 0], ["j", 70], ["'U@", 100], ["r", 200], [",i@", 240], ["s", 300], ["_:", 400]]
    phonemes, starts = _voices.translated(events)
    assert phonemes == ("k", "y", "uh", "r", "iy", "ax", "s", "pau"), "one r, and no stress"
    np.testing.assert_allclose(starts, [0, 0.07, 0.1, 0.15, 0.24, 0.27, 0.3, 0.4])
    events = [["3", 0], ["r", 100], ["'aU", 150], ["n", 250], ["_:", 300]]
    phonemes, starts = _voices.translated(events)
    assert phonemes == ("er", "aw", "n", "pau"), "as the dictionary spells 'around'"
    np.testing.assert_allclose(starts, [0, 0.15, 0.25, 0.3])
    events = [["t", 0], ["'u:", 70], ["l", 200], ["z", 200], ["_:", 300]]
    phonemes, starts = _voices.translated(events)
    assert phonemes == ("t", "uw", "l", "z", "pau"), "what takes no time gets some"
    np.testing.assert_allclose(starts, [0, 0.07, 0.135, 0.2, 0.3])
    events = [["%D", 0], ["@2", 50], [";", 80], ["=a", 90], ["p", 200], ["@L", 300], ["_", 500]]
    phonemes, starts = _voices.translated(events)
    assert phonemes == ("dh", "ax", "ae", "p", "ax", "l", "pau"), "a glide is no phoneme"
    np.testing.assert_allclose(starts, [0, 0.05, 0.09, 0.2, 0.3, 0.4, 0.5])


def test_other_sounds_of_espeak_are_refused():
    with pytest.raises(ValueError, match='phoneme of American English, got "\'y:"'):
        _voices.translated([["'y:", 0], ["_:", 100]])
    for events in ([["a", 0]], [["_:", 0], ["a", 100]], [[";", 0]], []):
        with pytest.raises(ValueError, match="silence at the end"):
            _voices.translated(events)


class Library:
    """eSpeak NG's library, as ctypes would give it; it says "hi" in two parts."""

    def __init__(self, path):
        self.path, self.parameters, self.seeds = path, {}, []

    def espeak_Initialize(self, output, milliseconds, voices, options):
        return 22_050 if voices == b"voices" else -1

    def espeak_SetSynthCallback(self, heard):
        self.heard = heard

    def espeak_SetVoiceByName(self, voice):
        return 0 if voice.startswith(b"en") else 2

    def espeak_SetParameter(self, parameter, value, relative):
        self.parameters[parameter] = value

    def espeak_ng_SetRandSeed(self, seed):
        self.seeds.append(seed.value)

    def espeak_Synth(self, text, size, position, position_type, end, flags, unique, user_data):
        assert size == len(text) + 1 and flags == 1 and self.seeds.pop() == 1
        if text == b"too much":
            return 1
        pitch, speed = self.parameters[_espeak.PITCH], self.parameters[_espeak.SPEED]
        for names in (["h", "'aI"], ["_:"], None):
            events = (_espeak._Event * 4)()
            for event, name in zip(events[1:] if names else [], names or []):
                event.type, event.milliseconds = _espeak.PHONEME, speed
                event.id.text = name.encode()
            events[0].type = 1 if names else _espeak.NONE
            samples = (ctypes.c_short * 3)(*[pitch] * 3) if names else None
            assert self.heard(samples, 3 if names else 0, events) == 0
        return 0


def test_the_program_of_espeak_tells_what_its_library_says(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_espeak.ctypes, "CDLL", Library)
    files = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([["en", 30, 160, "hi.", files[0]], ["en", 40, 100, "", files[1]]]))
    _espeak.main("library", "voices", tasks)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == [[["h", n], ["'aI", n], ["_:", n]] for n in (160, 100)]
    for file, pitch in zip(files, (30, 40)):
        with wave.open(file) as stream:
            assert stream.getparams()[:4] == (1, 2, 22_050, 6)
            assert (np.frombuffer(stream.readframes(6), "<i2") == pitch).all()
    with pytest.raises(SystemExit, match="it finds no voices in nowhere"):
        _espeak.main("library", "nowhere", tasks)
    for voice, text, words in (
        ("xx", "hi.", "not know the voice xx"),
        ("en", "too much", "say 'too"),
    ):
        tasks.write_text(json.dumps([[voice, 30, 160, text, files[0]]]))
        with pytest.raises(SystemExit, match=words):
            _espeak.main("library", "voices", tasks)


def test_the_grammar_says_the_same_for_ever():
    found = tts_phones.sentences(400)
    assert found[:3] == [
        "we stayed inside the island",
        "why did they lose the vision",
        "please destroy the map behind the favorite north gate",
    ]
    assert tts_phones.sentences(50) == found[:50] != tts_phones.sentences(50, seed=2)
    assert len(set(found)) == 400 and {4, 10} <= {len(text.split()) for text in found}
    assert all(4 <= len(text.split()) <= 10 for text in found)
    assert all(word.isalpha() and word.islower() for text in found for word in text.split())


def test_every_word_of_the_grammar_can_be_said():
    symbols = {word for choice in tts_phones.GRAMMAR.values() for word in choice.split()}
    symbols = {part for symbol in symbols for part in symbol.split("|") if part.isupper()}
    assert symbols == set(tts_phones.GRAMMAR) - {"SENTENCE"}
    written = {w for c in tts_phones.GRAMMAR.values() for w in c.replace("|", " ").split()}
    said = {word for text in tts_phones.sentences(6000) for word in text.split()}
    assert written - symbols == said


def test_splits_share_no_text_no_speaker_and_test_no_voice():
    parts = {split: [] for split in SPLITS}
    for line in tts_phones._plan():
        parts[line.split].append(line)
    assert [len(parts[split]) for split in SPLITS] == [3600, 200, 240]
    assert len({line.name for part in parts.values() for line in part}) == 4040
    assert len({line.text for part in parts.values() for line in part}) == 4040
    voices, speakers, stretches = (
        {split: {get(line) for line in parts[split]} for split in SPLITS}
        for get in (lambda x: (x.program, x.voice), lambda x: x.speaker, lambda x: x.stretch)
    )
    assert voices["train"] == voices["validation"] and len(voices["train"]) == 10
    assert {program for program, _ in voices["train"]} == {"flite", "festival", "espeak"}
    assert not voices["train"] & voices["test"] and len(voices["test"]) == 3
    assert not stretches["train"] & stretches["validation"]
    assert [len(speakers[split]) for split in SPLITS] == [90, 10, 9]
    assert len(set.union(*speakers.values())) == 109
    for part in parts.values():
        counts = collections.Counter(line.speaker for line in part)
        assert max(counts.values()) - min(counts.values()) <= 1
    for name, pitches in tts_phones.VOICES["validation"].items():
        assert not set(pitches) & set(tts_phones.VOICES["train"][name])


# Real speech.

KNOWN = {
    *("agent", "call", "forward", "is", "logged", "on", "press", "one", "two", "pound", "dash"),
    *("party's", "hello"),
}


@pytest.mark.parametrize(
    "text, words",
    [
        ("Agent logged on.", "agent logged on"),
        ("... press 1, or?", None),
        ("Press 1 #, two!", "press one pound two"),
        ("Call-Forward is on", "call forward is on"),
        ("dash [-]", "dash"),
        ("dash -", "dash"),
        ("Is (note: does not say 2) on...", "is on"),
        ("party's 'hello'", "party's hello"),
        ("hello...agent", "hello agent"),
        ("hello 3D", None),
        ("12", None),
        ("[tone]", None),
        ("", None),
    ],
)
def test_a_transcript_is_read_as_words(text, words):
    found = _align.words(text, lambda word: word in KNOWN)
    assert found == (words.split() if words else None)


def sound(file, samples):
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as stream:
        stream.setparams((1, 2, 8000, 0, "NONE", None))
        stream.writeframes(np.asarray(samples, "<i2").tobytes())


POCKETSPHINX = """
class Phone:
    def __init__(self, name, start):
        self.name, self.start, self.duration = name, start, 10

class Decoder:
    def __init__(self, lm, samprate, loglevel):
        assert samprate == 16000
    def lookup_word(self, word):
        return word if word in ("one", "two", "plus", "noise", "c") else None
    def set_align_text(self, text):
        self.text = text
    def set_alignment(self):
        if "noise" in self.text:
            raise RuntimeError("no hypothesis")
    def start_utt(self):
        pass
    def process_raw(self, content, full_utt):
        assert full_utt and len(content) == 4 * 8000
    def end_utt(self):
        pass
    def get_alignment(self):
        words = [[word.upper(), "T"] for word in self.text.split() if word != "c"]
        names = [["SIL"], ["+BREATH+"], *words, ["SIL"]]
        place = iter(range(0, 1000, 10))
        return [[Phone(name, next(place)) for name in word] for word in names]
"""
TEXTS = {
    "digits/1": "one",
    "press": "Two 1.",
    "plus": "plus [+]",
    "tone": "[a tone]",
    "unknown": "three",
    "noise": "noise",
    "silent": "C",
    "lost": "one two",
}


@pytest.fixture
def prompts(debian, monkeypatch, tmp_path):
    """Packages with a few prompts, and an aligner that finds every phoneme a tenth long."""
    sounds, words = (debian.packages / name for name in asterisk.PACKAGES)
    for number, name in enumerate(TEXTS):
        if name != "lost":
            sound(sounds / asterisk.SOUNDS / f"{name}.wav", np.full(8000, number))
    transcripts = words / asterisk.TRANSCRIPTS
    transcripts.parent.mkdir(parents=True)
    lines = ["; Sounds", "", *(f"{name}: {text}" for name, text in TEXTS.items()), "empty:"]
    transcripts.write_bytes(gzip.compress("\n".join(lines).encode()))
    aligner = tmp_path / "aligner"
    aligner.mkdir()
    (aligner / "pocketsphinx.py").write_text(POCKETSPHINX)
    monkeypatch.setattr(_packages, "pip", lambda requirement, folder: str(aligner))
    return aligner


def test_prompts_are_fetched_and_aligned(prompts, tmp_path):
    assert "asterisk" in data.list()
    found = asterisk.load(data.fetch("asterisk", tmp_path / "cache"))
    assert os.listdir(tmp_path / "cache") == ["asterisk.npz"]
    assert [u.name for u in found] == ["digits/1", "press", "plus"], "what cannot be aligned is out"
    one, two, _ = found
    assert one.phonemes == ("pau", "one", "t", "pau"), "breath and silence are one silence"
    assert two.phonemes == ("pau", "two", "t", "one", "t", "pau")
    np.testing.assert_allclose(one.ends, [0.2, 0.3, 0.4, 1])
    assert (one.rate, one.speaker, one.text) == (8000, "allison", "one")
    assert (two.audio == 1).all() and two.audio.shape == (8000,)
    about = _speech.metadata(asterisk.path(tmp_path / "cache"))
    assert about["sha256"] == _speech.digest(found)
    assert about["packages"] == dict.fromkeys(asterisk.PACKAGES, "1:2.2-5") | {
        "pocketsphinx": "5.1.1"
    }


def test_nothing_is_written_where_the_aligner_fails(prompts, tmp_path):
    (prompts / "pocketsphinx.py").write_text("raise SystemExit('no model')")
    with pytest.raises(RuntimeError, match="pocketsphinx could not align the prompts:\nno model"):
        asterisk.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_prompts_that_say_the_same_stand_in_one_split():
    assert asterisk.split("Please, hold.") == asterisk.split("please hold")
    found = [asterisk.split(f"prompt {number}") for number in range(3000)]
    shares = [found.count(split) / 3000 for split in SPLITS]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    number = int(hashlib.sha256(b"goodbye").hexdigest(), 16) % 10
    assert asterisk.split("Goodbye!") == {0: "test", 1: "validation"}.get(number, "train")


# The real files.


def real(name):
    module = data.dataset(name)
    reason = f"run `ponderzoo data fetch {name}` first"
    return pytest.param(module, marks=pytest.mark.skipif(not module.available(), reason=reason))


@pytest.fixture(scope="module")
def loaded():
    cache = {}
    return lambda module: cache.setdefault(module, module.load(module.path()))


@pytest.mark.parametrize("module", [real("tts_phones"), real("asterisk")])
def test_the_real_labels_end_where_the_audio_ends(module, loaded):
    found = loaded(module)
    assert {u.split for u in found} == set(SPLITS)
    assert {p for u in found for p in u.phonemes} <= set(module.PHONEMES)
    texts = {split: {u.text.lower() for u in found if u.split == split} for split in SPLITS}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    for u in found:
        assert u.rate == module.RATE and len(u.phonemes) >= 2
        assert u.ends[-1] == len(u.audio) / u.rate and (np.diff(u.ends, prepend=0) > 0).all()


@pytest.mark.parametrize("module", [real("tts_phones"), real("asterisk")])
def test_real_labels_stand_where_the_sounds_are(module, loaded):
    """Silence is soft and vowels are loud, and s crosses zero more often than vowels do."""
    loudness, crossings = {}, {}
    for u in loaded(module)[::10]:
        scale = np.std(u.audio.astype(float))
        for phoneme, start, end in zip(u.phonemes, [0, *u.ends], u.ends):
            part = u.audio[round(start * u.rate) : round(end * u.rate)].astype(float)
            loudness.setdefault(phoneme, []).append(np.std(part) / scale)
            crossings.setdefault(phoneme, []).append(np.mean(np.diff(np.sign(part)) != 0))
    for vowel in ("ae", "ay", "iy", "ow"):
        assert np.median(loudness[vowel]) > 4 * np.median(loudness["pau"])
        assert np.median(crossings["s"]) > 2 * np.median(crossings[vowel])


@pytest.mark.parametrize("module", [real("tts_phones")])
def test_the_real_synthetic_speech_has_what_was_planned(module, loaded):
    found = loaded(module)
    assert [u.text for u in found] == tts_phones.sentences(sum(tts_phones.COUNTS.values()))
    assert {p for u in found if u.split == "train" for p in u.phonemes} == set(module.PHONEMES)
    about = _speech.metadata(module.path())
    assert about["sha256"] == _speech.digest(found)
