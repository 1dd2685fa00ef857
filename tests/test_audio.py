"""Audio files as common programs write them, read by `_audio` and by the served graph."""

import io
import mmap
import struct

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.trainers.data import _audio, _store
from ponderzoo.zoo.signatures._speech import read_wav

RATE = 16_000
SAMPLES = np.rint(3000 * np.sin(np.arange(8000) / 10)).astype("int16")
PCM = SAMPLES.astype("<i2").tobytes()
PLAIN = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
GUID = bytes.fromhex("0100000000001000800000aa00389b71")
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4) + GUID


def chunk(name, content, size=None):
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav(form=PLAIN, sound=PCM, size=None, before=b""):
    return riff(chunk(b"fmt ", form), before, chunk(b"data", sound, size))


VALID = {
    "plain": wav(),
    "a list of odd size": wav(before=chunk(b"LIST", b"INFOabc")),
    "a chunk behind the sound": wav() + chunk(b"LIST", b"INFOabcd"),
    "extensible": wav(EXTENSIBLE),
    "a pipe's size": wav(size=0xFFFFFFFF),
    "another pipe's size": wav(size=0x7FFFF000),
    "the size of a recorder that crashed": wav(size=0),
}
WRONG = {
    "cut off in the middle": (wav()[:9000], "cut off"),
    "without sound": (wav(sound=b""), "no sample"),
    "without sound before a list": (wav(sound=b"") + chunk(b"LIST", b"INFOabc"), "no sample"),
    "without a data chunk": (riff(chunk(b"fmt ", PLAIN)), "data chunk|format and then sound"),
    "a page of the web": (b"<!DOCTYPE html><html></html>", "begin with RIFF|cannot be read"),
}


@pytest.mark.parametrize("name", VALID)
def test_what_programs_write_is_read_by_the_graph_and_outside_of_it(name):
    audio, lengths = read_wav(tf.constant([VALID[name], VALID["plain"]]), RATE)
    np.testing.assert_array_equal(audio, np.float32([SAMPLES, SAMPLES]) / 2**15)
    assert lengths.numpy().tolist() == [8000, 8000]
    found, rate = _audio.read(VALID[name])
    np.testing.assert_array_equal(found, SAMPLES)
    assert found.dtype == np.int16 and rate == RATE


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_told_with_its_name_and_how_to_make_one(name, tmp_path):
    content, words = WRONG[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words) as refused:
        read_wav(tf.constant([VALID["plain"], content]), RATE)
    assert "ffmpeg -i FILE -ac 1 -ar 16000" in str(refused.value)
    (tmp_path / "b.wav").write_bytes(content)
    with pytest.raises(ValueError, match=rf"b\.wav .*({words})"):
        _audio.read(tmp_path / "b.wav")


@pytest.mark.parametrize("content", [b"a page", wav(struct.pack("<HHIIHH", 1, 0, RATE, 0, 0, 16))])
def test_a_refusal_tells_nothing_of_the_program(content):
    with pytest.raises(ValueError) as refused:
        _audio.read(content)
    assert "BytesIO" not in str(refused.value) and "0x" not in str(refused.value)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(wrong):
    stream = io.BytesIO()
    soundfile.write(stream, np.array([0.5, wrong, 0.5]), RATE, "FLOAT", format="WAV")
    with pytest.raises(ValueError, match="infinite or no numbers"):
        _audio.read(stream.getvalue())


def test_what_shorten_packed_is_pointed_to_a_program_that_unpacks_it():
    head = b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    with pytest.raises(ValueError, match="sph2pipe -p -f wav"):
        _audio.read(head.ljust(1024) + PCM)


@pytest.mark.parametrize(
    "form, words",
    [
        (struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16), "16000 samples a second, got.*8000"),
        (struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 8), "16 bits, got the coding.*1.*of.*8"),
        (struct.pack("<HHIIHH", 3, 1, RATE, RATE, 4, 32), "16 bits, got the coding.*3.*of.*32"),
    ],
    ids=["rate", "bits", "floats"],
)
def test_the_graph_says_what_it_takes(form, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){words}"):
        read_wav(tf.constant([wav(form)]), RATE)


def test_channels_are_mixed():
    both = np.stack([SAMPLES, -SAMPLES // 2], axis=1)
    content = wav(struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16), both.astype("<i2").tobytes())
    mean = both.mean(axis=1)
    np.testing.assert_allclose(
        read_wav(tf.constant([content]), RATE)[0][0], mean / 2**15, atol=1e-7
    )
    np.testing.assert_allclose(_audio.read(content)[0], mean, atol=0.5)


@pytest.mark.parametrize(
    "kind, subtype, most",
    [
        ("WAV", "PCM_24", 0.5),
        ("WAV", "FLOAT", 0.5),
        ("WAV", "PCM_U8", 256),
        ("WAV", "ULAW", 256),
        ("FLAC", "PCM_16", 0),
        ("AIFF", "PCM_16", 0),
        ("OGG", "VORBIS", 400),
    ],
)
def test_other_kinds_of_files_are_read(kind, subtype, most, tmp_path):
    file = tmp_path / "sound"
    soundfile.write(file, SAMPLES / 2**15, RATE, subtype, format=kind)
    found, rate = _audio.read(file)
    assert rate == RATE and len(found) == len(SAMPLES)
    assert np.abs(found.astype(int) - SAMPLES)[200:-200].max() <= most


@pytest.mark.parametrize("lost", [1, 50, 4000], ids=str)
@pytest.mark.parametrize(
    "kind, subtype",
    [
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("AU", "ULAW"),
        ("NIST", "PCM_16"),
        ("NIST", "ULAW"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("FLAC", "PCM_16"),
    ],
)
def test_a_file_that_tells_its_length_is_not_read_when_it_is_cut(kind, subtype, lost, tmp_path):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(size=48_000) / 10
    soundfile.write(stream, noise, RATE, subtype, format=kind)
    content = stream.getvalue()
    assert len(_audio.read(content)[0]) == 48_000
    (tmp_path / "part").write_bytes(content[:-lost])
    with pytest.raises(ValueError, match=r"part cannot be read as .*(cut off|lost sync)"):
        _audio.read(tmp_path / "part")


@pytest.mark.parametrize("kind, place, size", [("AU", 8, 0xFFFFFFFF), ("AIFF", 4, 0x7F000000)])
def test_a_length_that_a_pipe_left_open_is_no_length(kind, place, size):
    stream = io.BytesIO()
    soundfile.write(stream, SAMPLES / 2**15, RATE, "PCM_16", format=kind)
    content = stream.getvalue()
    content = content[:place] + struct.pack(">I", size) + content[place + 4 :]
    np.testing.assert_array_equal(_audio.read(content)[0], SAMPLES)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_at_another_rate(rate):
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    stream = io.BytesIO()
    soundfile.write(stream, tone / 2**15, rate, "PCM_16", format="WAV")
    found, told = _audio.read(stream.getvalue(), RATE)
    expected = 8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert told == RATE and len(found) == RATE
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=20)


def test_a_file_that_is_not_there_or_empty_is_called_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*no\.wav"):
        _audio.read(tmp_path / "no.wav")
    (tmp_path / "e.wav").touch()
    with pytest.raises(ValueError, match=r"e\.wav is empty"):
        _audio.read(tmp_path / "e.wav")


def test_of_several_files_the_bad_one_is_named(tmp_path):
    notation = zoo.info("blstm_ctc_phonemes").notation(trainers.task("phonemes"))["decode"]
    (tmp_path / "good.wav").write_bytes(VALID["extensible"])
    (tmp_path / "bad.wav").write_bytes(b"nothing of the kind")
    files = [str(tmp_path / name) for name in ("good.wav", "bad.wav")]
    with pytest.raises(ValueError, match=r"bad\.wav cannot be read as wav, flac"):
        notation.read(files)
    read = notation.read([files[0]])["wav"]
    audio, _ = read_wav(tf.constant(read), RATE)
    np.testing.assert_array_equal(audio[0], np.float32(SAMPLES) / 2**15)


@pytest.mark.parametrize("end, module", [("gz", "gzip"), ("bz2", "bz2"), ("xz", "lzma")])
def test_a_packed_text_is_unpacked(end, module, tmp_path):
    text = b"<page>of a wiki</page>\n" * 2000
    packed = __import__(module).compress(text)
    (tmp_path / "text").write_bytes(packed)
    assert _store.text(tmp_path / "text") == text
    task = trainers.task("characters", root=str(tmp_path / "text"))
    assert bytes(task.text("all")) == text
    (tmp_path / "cut").write_bytes(packed[:-9])
    with pytest.raises(ValueError, match="cut cannot be unpacked"):
        _store.text(tmp_path / "cut")


def test_a_zip_file_of_one_text_is_read_and_of_several_is_refused(tmp_path):
    import zipfile

    text = b"<page>of a wiki</page>\n" * 2000
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("enwik8", text)
    task = trainers.task("characters", root=str(tmp_path / "enwik8.zip"))
    assert bytes(task.text("all")) == text and task.corpus == "enwik8.zip"
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a", text)
        archive.writestr("b", text)
    with pytest.raises(ValueError, match="must hold one file, got 2"):
        _store.text(tmp_path / "two.zip")
    locked = bytearray((tmp_path / "enwik8.zip").read_bytes())
    locked[6] |= 1
    locked[locked.find(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(ValueError, match=r"locked\.zip cannot be unpacked.*password"):
        _store.text(tmp_path / "locked.zip")


def test_a_plain_text_is_mapped_and_not_read(tmp_path):
    text = b"<page>of a wiki</page>\n" * 2000
    (tmp_path / "enwik9").write_bytes(text)
    task = trainers.task("characters", root=str(tmp_path / "enwik9"))
    assert bytes(task.text("all")) == text and not task.text("all").flags.writeable
    found = _store.text(tmp_path / "enwik9")
    assert isinstance(found, mmap.mmap) and found[:] == text
    (tmp_path / "nothing").touch()
    assert _store.text(tmp_path / "nothing") == b""


def test_what_is_no_text_is_not_learned(tmp_path):
    (tmp_path / "model").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(ValueError, match="model must be text, plain or packed; it begins"):
        trainers.task("characters", root=str(tmp_path / "model")).text("all")
