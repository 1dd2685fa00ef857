"""TIMIT: finding a copy, its splits, and reading its files."""

import os
import pathlib
import shutil
import struct
import wave

import numpy as np
import pytest
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _speech, timit
from ponderzoo.trainers.data._phones import PHONES

HEAD = """NIST_1A
   1024
database_id -s5 TIMIT
utterance_id -s8 cjf0_sa1
channel_count -i 1
sample_count -i {count}
sample_rate -i 16000
sample_min -i -2191
sample_n_bytes -i 2
sample_byte_format -s2 {order}
sample_sig_bits -i 16
{more}end_head
"""
AUDIO = np.random.default_rng(0).integers(-(2**15), 2**15, 300).astype("int16")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timit")
    timit.sample(folder)
    return folder


@pytest.fixture
def root(sampled, tmp_path):
    """The sample, to change."""
    shutil.copytree(sampled, tmp_path / "copy")
    return tmp_path / "copy"


def sphere(audio=AUDIO, order="01", more="", **changes):
    """A SPHERE file, byte by byte as its format is described."""
    head = HEAD.format(count=len(audio), order=order, more=more)
    for old, new in changes.items():
        lines = [new if line.split()[0] == old else line for line in head.splitlines()]
        head = "\n".join(line for line in lines if line) + "\n"
    form = f"{'<' if order == '01' else '>'}{len(audio)}h"
    return head.encode().ljust(1024) + struct.pack(form, *audio.tolist())


def riff(file, audio=AUDIO, channels=1, width=2, rate=16000):
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate)
        stream.writeframes(audio.astype("<i2").tobytes())


def speakers(utterances):
    found = {split: set() for split in _speech.SPLITS}
    for utterance in utterances:
        found[utterance.split].add(utterance.speaker)
    return found


# A copy, and its splits.


def test_the_lists_are_those_of_the_corpus():
    core, development = timit.CORE_TEST.split(), timit.DEVELOPMENT.split()
    assert len(set(core)) == len(core) == 24 and len(set(development)) == len(development) == 50
    assert not set(core) & set(development)
    assert [name[0] for name in core].count("m") == 16
    assert "timit" in data.list()


def test_training_validation_and_core_test_are_other_speakers(sampled):
    assert speakers(timit.load(sampled)) == {
        "train": {"fcjf0", "mcpm0", "mdac0"},
        "validation": {"faks0", "mpdf0"},
        "test": {"felc0", "mdab0", "fpas0", "mwew0"},
    }


def test_the_two_sentences_of_everybody_are_left_out_unless_asked_for(sampled):
    names = [utterance.name for utterance in timit.load(sampled)]
    assert len(names) == 27 and names == sorted(set(names))
    assert names[:3] == ["faks0_si1", "faks0_sx1", "faks0_sx2"]
    all_names = {utterance.name for utterance in timit.load(sampled, keep_sa=True)}
    assert all_names - set(names) == {f"{name[:5]}_sa1" for name in names}


def test_the_older_protocol_holds_out_training_utterances_by_seed(sampled):
    draws = []
    for seed in (0, 0, 1):
        found = timit.load(sampled, validation=4, seed=seed)
        assert not {u.speaker for u in found if u.split != "test"} & speakers(found)["test"]
        assert [u.split for u in found].count("train") == 5
        draws.append({u.name for u in found if u.split == "validation"})
    assert draws[0] == draws[1] != draws[2] and len(draws[2]) == 4
    found = timit.load(sampled, validation=4, test="full", keep_sa=True)
    assert [u.split for u in found].count("test") == 8 * 4 and len(found) == 11 * 4
    assert not speakers(timit.load(sampled, validation=0))["validation"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"test": "half"}, 'must be "core" or "full"; got \'half\''),
        ({"test": "full"}, "must be a number of training utterances"),
        ({"validation": 9}, "less than the 9 training utterances; got 9"),
        ({"validation": "some"}, "or a number of utterances; got 'some'"),
        ({"validation": -1}, "got -1"),
        ({"validation": True}, "got True"),
    ],
)
def test_other_protocols_are_refused(sampled, options, words):
    with pytest.raises(ValueError, match=words):
        timit.load(sampled, **options)


def test_a_copy_may_be_in_small_letters_and_named_itself_or_by_its_parent(root):
    expected = timit.load(root)
    assert [u.name for u in timit.load(root / "TIMIT")] == [u.name for u in expected]
    for place, folders, files in os.walk(root, topdown=False):
        for name in [*folders, *files]:
            os.rename(os.path.join(place, name), os.path.join(place, name.lower()))
    found = timit.load(str(root))
    assert [u.name for u in found] == [u.name for u in expected]
    assert all((a.audio == b.audio).all() for a, b in zip(found, expected))


def test_utterances_say_what_the_files_say(sampled):
    folder = sampled / "TIMIT" / "TEST" / "DR1" / "FELC0"
    (found,) = (u for u in timit.load(sampled) if u.name == "felc0_sx2")
    lines = [line.split() for line in (folder / "SX2.PHN").read_text().splitlines()]
    assert found.phonemes == tuple(phone for _, _, phone in lines)
    assert (found.ends * 16000).round().astype(int).tolist() == [int(end) for _, end, _ in lines]
    assert found.text == (folder / "SX2.TXT").read_text().split(" ", 2)[2].strip()
    assert (found.rate, found.speaker, found.split) == (16000, "felc0", "test")
    content = (folder / "SX2.WAV").read_bytes()
    assert found.audio.tolist() == list(
        struct.unpack(f"<{len(content) // 2 - 512}h", content[1024:])
    )
    start, end = int(lines[1][0]), int(lines[1][1])
    power = np.abs(np.fft.rfft(found.audio[start:end], 16000))
    assert power.argmax() == pytest.approx(200 + 100 * PHONES[61].index(lines[1][2]), abs=2)


def test_utterances_are_what_all_speech_is_packed_from(sampled, tmp_path):
    utterances = timit.load(sampled)
    (tmp_path / "file.npz").write_bytes(_speech.pack(utterances, corpus="sample"))
    again = _speech.unpack(tmp_path / "file.npz")
    assert [u.phonemes for u in again] == [u.phonemes for u in utterances]


def test_files_of_other_systems_are_passed_over(root):
    folder = root / "TIMIT" / "TRAIN" / "DR1" / "FCJF0"
    (folder / "._SX1.WAV").write_bytes(b"x")
    (folder / "notes").write_bytes(b"x")
    (root / "TIMIT" / "TRAIN" / "README").write_bytes(b"x")
    riff(folder / "SX1.WAV.wav")
    before = [u for u in timit.load(root) if u.name == "fcjf0_sx1"]
    (folder / "SX1.WAV").unlink()
    (folder / "SX1.PHN").write_text("0 100 h#\n100 250 aa\n250 310 h#\n")
    (folder / "SX1.TXT").unlink()
    (after,) = (u for u in timit.load(root) if u.name == "fcjf0_sx1")
    assert len(before) == 1 and len(before[0].audio) > 300
    assert (after.audio == AUDIO).all() and after.text == ""
    assert (after.ends * 16000).tolist() == pytest.approx([100, 250, 300]), "not beyond the audio"


@pytest.mark.parametrize("end", ["WAV", "PHN"])
def test_an_utterance_without_audio_or_phones_is_named(root, end):
    (root / "TIMIT" / "TEST" / "DR2" / "FPAS0" / f"SI1.{end}").unlink()
    with pytest.raises(FileNotFoundError, match=rf"FPAS0.si1\.{end.lower()}"):
        timit.load(root)


def test_phones_beyond_the_audio_are_refused(root):
    folder = root / "TIMIT" / "TEST" / "DR2" / "FPAS0"
    (folder / "SI1.WAV").write_bytes(sphere())
    with pytest.raises(ValueError, match=r"SI1\.PHN must end with its audio, at sample 300"):
        timit.load(root)


# Where there is none.


def test_there_is_no_download_and_the_error_says_who_sells_it(tmp_path):
    with pytest.raises(RuntimeError, match=r"sold by the Linguistic Data Consortium.*root="):
        data.fetch("timit", tmp_path)
    for place in (tmp_path, tmp_path / "nowhere", ""):
        with pytest.raises(FileNotFoundError, match=r"no TIMIT in .*TRAIN and TEST; .*LDC93S1"):
            timit.load(place)


def test_a_copy_in_the_cache_is_found(sampled, tmp_path):
    assert not timit.available(tmp_path)
    shutil.copytree(sampled / "TIMIT", timit.path(tmp_path))
    assert timit.available(tmp_path) and data.fetch("timit", tmp_path) == timit.path(tmp_path)
    assert timit.load(timit.path(tmp_path))
    shutil.rmtree(pathlib.Path(timit.path(tmp_path)) / "TEST")
    assert not timit.available(tmp_path)


# Audio.


@pytest.mark.parametrize("order", ["01", "10"])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_sphere_files_are_read_in_both_byte_orders(tmp_path, order, count):
    (tmp_path / "a.wav").write_bytes(sphere(AUDIO[:count], order, "sample_coding -s3 pcm\n"))
    rate, audio = timit.read(tmp_path / "a.wav")
    assert rate == 16000 and audio.dtype == np.int16 and audio.dtype.isnative
    np.testing.assert_array_equal(audio, AUDIO[:count])


def test_riff_files_are_read_whatever_their_name(tmp_path):
    riff(tmp_path / "A.WAV")
    rate, audio = timit.read(tmp_path / "A.WAV")
    assert rate == 16000 and audio.dtype == np.int16
    np.testing.assert_array_equal(audio, AUDIO)
    riff(tmp_path / "B.WAV", rate=8000)
    rate, audio = timit.read(tmp_path / "B.WAV")
    assert rate == 8000
    np.testing.assert_array_equal(audio, AUDIO)


def test_phones_keep_their_seconds_where_audio_has_another_rate(sampled, tmp_path):
    shutil.copytree(sampled, tmp_path / "copy")
    expected = {u.name: u for u in timit.load(tmp_path / "copy")}
    file = next(f for f in (tmp_path / "copy").rglob("*") if f.name.upper() == "SI1.WAV")
    audio = timit.read(file)[1]
    riff(file, audio, rate=8000)
    changed = [
        (u, expected[u.name])
        for u in timit.load(tmp_path / "copy", test="full", validation=0)
        if u.name in expected and len(u.audio) != len(expected[u.name].audio)
    ]
    [(found, before)] = changed
    assert found.rate == 16000 and len(found.audio) == 2 * len(audio)
    np.testing.assert_allclose(found.ends, 2 * before.ends)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"fLaC and so on", "cannot be read as wav, flac"),
        (b"NIST_1A", "length of its header in the second line.* 7 bytes"),
        (b"NIST_1A\nlong\nend_head\n", "got b'long'"),
        (sphere()[:200], "end_head at its end; got b'1024' and 200 bytes"),
        (sphere()[:-1], "says that it holds 300 samples of 2 bytes, and holds 599 bytes"),
        (sphere(more="sample_coding -s26 pcm,embedded-shorten-v2.00\n"), "sph2pipe -p -f wav FILE"),
        (sphere(more="sample_coding -s4 ulaw\n"), "must have sample_coding pcm; got 'ulaw'"),
        (sphere(channel_count="channel_count -i 2"), "must have channel_count 1; got '2'"),
        (sphere(sample_n_bytes="sample_n_bytes -i 1"), "must have sample_n_bytes 2; got '1'"),
        (sphere(sample_byte_format=""), "must have sample_byte_format 01 or 10; got None"),
        (sphere(sample_count=""), "must have a whole sample_count; got None"),
        (sphere(sample_rate="sample_rate -r 16000.5"), "whole sample_rate; got '16000.5'"),
        (b"RIFF\x04\0\0\0WAVE", "cannot be read as wav.*data chunk"),
        (b"RIFF\x04\0", "cannot be read as wav"),
    ],
)
def test_damaged_or_other_audio_is_named(tmp_path, content, words):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.wav .*{words}"):
        timit.read(tmp_path / "a.wav")


def test_riff_files_that_are_cut_off_are_named(tmp_path):
    file = tmp_path / "a.wav"
    riff(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut off: 600 bytes of sound are told, 500 are there"):
        timit.read(file)


# Phones.


def test_phones_are_read_with_their_ends(tmp_path):
    (tmp_path / "a.phn").write_bytes(b"0 3050 h#\r\n3050 4559 SH\n4559 5723 ax-h\n\n")
    ends, phones = timit.read_phonemes(tmp_path / "a.phn")
    assert ends.tolist() == [3050, 4559, 5723] and phones == ("h#", "sh", "ax-h")


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "must list the phones of an utterance; it is empty"),
        ("0 10 h#\n10 20\n", "lines \"start end phone\".*line 2 is '10 20'"),
        ("0 10 h#\n10 20 xx\n", "line 2 is '10 20 xx'"),
        ("0 ten h#\n", "line 1 is '0 ten h#'"),
        ("0 10 h#\n-1 20 aa\n", "line 2 is '-1 20 aa'"),
        ("0 10 h#\n20 20 aa\n", "line 2 goes from 20 to 20, after 10"),
        ("0 10 h#\n5 9 aa\n", "in the order of time; line 2 goes from 5 to 9, after 10"),
    ],
)
def test_damaged_phones_are_named(tmp_path, content, words):
    (tmp_path / "a.phn").write_text(content)
    with pytest.raises(ValueError, match=rf"a\.phn .*{words}"):
        timit.read_phonemes(tmp_path / "a.phn")


@pytest.mark.skipif(not timit.available(), reason="TIMIT is sold; put a copy into the cache")
def test_a_real_copy_has_the_known_sizes():
    utterances = timit.load(timit.path())
    splits = [utterance.split for utterance in utterances]
    assert [splits.count(split) for split in _speech.SPLITS] == [3696, 400, 192]
    assert len(speakers(utterances)["train"]) == 462
