"""Files in the form of Omniglot, CIFAR-10 and SVHN, pieces of photographs, and damaged ones."""

import hashlib
import io
import os
import pickle
import shutil
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image
from ponderzoo import trainers
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _packages, _store, cifar10, omniglot, photo_patches, svhn
from ponderzoo.trainers.tasks import _images

SPLITS = "train", "validation", "test"


@pytest.mark.parametrize("module", [omniglot, cifar10, svhn])
def test_what_cannot_be_downloaded_says_so(module, tmp_path):
    name = module.__name__.rsplit(".", 1)[-1]
    assert not module.available(tmp_path)
    with pytest.raises(RuntimeError, match=r"cannot be downloaded.*root="):
        data.fetch(name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded.*root="):
        module.load(tmp_path)
    module.sample(tmp_path / name)
    assert module.available(tmp_path) and data.fetch(name, tmp_path) == str(tmp_path / name)
    for images, classes, *_ in module.load(tmp_path / name).values():
        assert images.dtype == np.uint8 and len(images) == len(classes) > 0


def test_splits_are_parts_of_the_files(tmp_path):
    for module, sizes in ((cifar10, (54, 6, 12)), (svhn, (36, 4, 20))):
        module.sample(tmp_path)
        found = module.load(tmp_path)
        assert [len(found[split][0]) for split in SPLITS] == list(sizes)
        assert found["train"][0].shape[1:] == (32, 32, 3)


# Omniglot.


def drawing(ink):
    """A PNG file of Omniglot's form: 0 is ink, a bit a pixel."""
    stream = io.BytesIO()
    Image.fromarray(~ink).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def alphabets(tmp_path):
    """A directory in Omniglot's form, unpacked, and its images by (part, name)."""
    rng, made = np.random.default_rng(0), {}
    for part, count in (("images_background", 12), ("images_evaluation", 2)):
        for alphabet in range(count):
            for character in range(1, 1 + alphabet % 3 + 1):
                for drawer in (1, 2):
                    name = f"A{alphabet:02d}/character{character:02d}/{drawer:04d}_{drawer:02d}.png"
                    ink = made[part, name] = rng.random((7, 7)).repeat(15, 0).repeat(15, 1) < 0.5
                    _store.write(drawing(ink), str(tmp_path / part / name))
    (tmp_path / "images_background" / "A00" / "notes.txt").write_text("no image")
    return tmp_path, made


def small(ink):
    """Area by area, with ten points a pixel's side: 105 / 28 is 3.75."""
    fine = ink.repeat(8, 0).repeat(8, 1).reshape(28, 30, 28, 30).mean(axis=(1, 3))
    return (fine > 1 / 3).astype("uint8")


def test_drawings_are_read_made_small_and_split_by_alphabets(alphabets):
    folder, made = alphabets
    found = omniglot.load(folder)
    names = {split: [] for split in SPLITS}
    for part, name in sorted(made):
        kept = part == "images_background" and name[:3] in ("A05", "A11")
        other = "train" if part == "images_background" else "test"
        names["validation" if kept else other].append((part, name))
    numbers = []
    for split in SPLITS:
        images, symbols, drawers = found[split]
        expected = np.stack([small(made[key]) for key in names[split]])
        assert images.shape == expected.shape and (images != expected).mean() < 0.002
        assert drawers.tolist() == [int(name[-6:-4]) for _, name in names[split]]
        characters = [(part, name[:15]) for part, name in names[split]]
        assert len(set(zip(symbols.tolist(), characters))) == len(set(characters))
        numbers.append(set(symbols.tolist()))
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == max(map(max, numbers)) + 1


def pack(folder, part, prefix=""):
    file = folder / f"{part}.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for image in sorted((folder / part).rglob("*.*")):
            archive.write(image, prefix + str(image.relative_to(folder)))
    shutil.rmtree(folder / part)
    return file


def test_zip_files_are_read_as_folders_are(alphabets):
    folder, _ = alphabets
    unpacked = omniglot.load(folder)
    pack(folder, "images_background")
    pack(folder, "images_evaluation", "python/")
    packed = omniglot.load(folder)
    for split in SPLITS:
        for one, other in zip(unpacked[split], packed[split]):
            np.testing.assert_array_equal(one, other)


def test_a_damaged_drawing_is_named(alphabets):
    folder, made = alphabets
    part, name = next(iter(made))
    file = folder / part / name
    whole = file.read_bytes()
    noise = os.urandom(200_000)
    head = b"IHDR" + struct.pack(">II", 40_000, 40_000) + whole[24:29]
    huge = whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]
    other = drawing(np.ones((28, 28), bool))
    for content in (b"", whole[:60], b"GIF89a", other, noise, huge):
        file.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"0001_01.png must be a PNG image of 105 x 105"
        ) as told:
            omniglot.load(folder)
        assert "\n" not in str(told.value)
    file.write_bytes(whole)
    packed = pack(folder, part)
    content = packed.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"noise"):
        packed.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"images_background.zip cannot be unpacked.*root="):
            omniglot.load(folder)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{part}/{name}", bytes(10**7))
    assert packed.stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"it has more than 65536 bytes"):
        omniglot.load(folder)


def test_a_part_without_drawings_is_named(alphabets):
    folder, _ = alphabets
    shutil.rmtree(folder / "images_evaluation")
    with pytest.raises(FileNotFoundError, match="no images_evaluation or images"):
        omniglot.load(folder)
    (folder / "images_evaluation").mkdir()
    with pytest.raises(ValueError, match="images_evaluation must hold images <alphabet>"):
        omniglot.load(folder)


def test_densities_of_omniglot_are_of_what_is_in_the_files(alphabets):
    folder, _ = alphabets
    task = trainers.task("binary_digits", data="omniglot", root=str(folder))
    for split, (images, symbols, _) in omniglot.load(folder).items():
        inputs, _ = task.rows(np.arange(len(images)), split)
        np.testing.assert_array_equal(inputs["image"], images)
        np.testing.assert_array_equal(_images.classes("omniglot", str(folder), split), symbols)


# CIFAR-10.


def old_pickle(pixels, labels):
    """A batch as Python 2 pickled it, opcode by opcode."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def listed(items):
        return b"](" + b"".join(items) + b"e"

    shape = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1])
    content = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"
        + text(b"b")
        + b"\x87R(K\x01"
        + shape
        + b"\x86cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\0K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\0tb\x89T"
        + struct.pack("<i", len(content))
        + content
        + b"tb"
    )
    names = listed(text(f"thing_s_{number:06d}.png".encode()) for number in range(len(labels)))
    return (
        b"\x80\x02}("
        + (text(b"batch_label") + text(b"training batch 1 of 5"))
        + (text(b"labels") + listed(b"K" + bytes([label]) for label in labels))
        + (text(b"data") + array)
        + (text(b"filenames") + names)
        + b"u."
    )


@pytest.fixture
def batches(tmp_path):
    """A directory with both forms of the same images, and these by their batches."""
    rng, made = np.random.default_rng(0), {}
    for number, name in enumerate(cifar10.TRAIN + cifar10.TEST):
        pixels = rng.integers(0, 256, (300 + number, 3072), "uint8")
        labels = rng.integers(0, 10, len(pixels), "uint8")
        made[name] = pixels, labels
        records = np.column_stack([labels, pixels]).tobytes()
        _store.write(records, str(tmp_path / "cifar-10-batches-bin" / f"{name}.bin"))
        _store.write(
            old_pickle(pixels, labels.tolist()), str(tmp_path / "cifar-10-batches-py" / name)
        )
    return tmp_path, made


def test_the_pickles_of_these_tests_are_what_python_takes_them_for(batches):
    folder, made = batches
    for name, (pixels, labels) in made.items():
        with open(folder / "cifar-10-batches-py" / name, "rb") as file:
            found = pickle.load(file, encoding="bytes")
        np.testing.assert_array_equal(found[b"data"], pixels)
        assert found[b"labels"] == labels.tolist() and found[b"data"].dtype == np.uint8


@pytest.mark.parametrize("form", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_both_forms_are_read(batches, form):
    folder, made = batches
    for place in (folder / form, folder):
        found = cifar10.load(place)
        train = [np.concatenate([made[name][n] for name in cifar10.TRAIN]) for n in (0, 1)]
        pixels = np.concatenate([found[split][0] for split in ("train", "validation")])
        classes = np.concatenate([found[split][1] for split in ("train", "validation")])
        assert len(found["validation"][1]) == 151
        for colour in range(3):
            plane = train[0][:, 1024 * colour : 1024 * (colour + 1)].reshape(-1, 32, 32)
            np.testing.assert_array_equal(pixels[..., colour], plane)
        np.testing.assert_array_equal(classes, train[1])
        np.testing.assert_array_equal(found["test"][1], made["test_batch"][1])
        if place == folder:
            shutil.rmtree(folder / {"cifar-10-batches-bin": "cifar-10-batches-py"}.get(form, form))


class Bad:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_nothing(batches, protocol, monkeypatch):
    folder, _ = batches
    monkeypatch.chdir(folder)
    file = folder / "cifar-10-batches-py" / "test_batch"
    file.write_bytes(pickle.dumps({b"data": Bad(), b"labels": []}, protocol))
    with pytest.raises(ValueError, match=r"test_batch must be a pickle.*it asks for \w+\.") as told:
        cifar10.read(str(file))
    assert not (folder / "ran").exists() and "\n" not in str(told.value)


def test_a_damaged_batch_is_named(batches, monkeypatch):
    folder, made = batches
    pixels, labels = made["test_batch"]
    good = old_pickle(pixels, labels.tolist())
    other = pickle.dumps({b"data": pixels[:, :9], b"labels": labels.tolist()}, 4)
    bad = [
        *(good[:-100], good[: len(good) // 2], b"", b"noise", other),
        *(old_pickle(pixels, labels[:-1].tolist()), old_pickle(pixels[:, :3000], labels.tolist())),
        pickle.dumps([1, 2]),
        pickle.dumps({b"labels": [1]}),
        # As much room as it likes, whatever its length.
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
        *(old_pickle(pixels, [10] * len(labels)), old_pickle(pixels, [300 % 256] * len(labels))),
    ]
    file = folder / "cifar-10-batches-py" / "test_batch"
    for content in bad:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"test_batch must .*root=") as told:
            cifar10.read(str(file))
        assert "\n" not in str(told.value)
    file = folder / "cifar-10-batches-bin" / "test_batch.bin"
    records = file.read_bytes()
    for content in (records[:-1], b"", records[:3000], b"\xff" + records[1:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"test_batch.bin must .*root="):
            cifar10.load(folder)
    monkeypatch.setattr(cifar10, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"has more than 1000 bytes, which is the most"):
        cifar10.load(folder)


# SVHN.


@pytest.fixture(params=[True, False])
def houses(tmp_path, request):
    """A directory with SVHN's two files, compressed or not, and what they hold."""
    rng, made = np.random.default_rng(0), {}
    for part, count in (("train", 30), ("test", 20)):
        images = rng.integers(0, 256, (32, 32, 3, count), "uint8")
        digits = rng.integers(1, 11, (count, 1), "uint8")
        made[part] = images, digits
        content = {"X": images, "y": digits}
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", content, do_compression=request.param)
    return tmp_path, made


def test_digits_of_houses_are_read(houses):
    folder, made = houses
    found = svhn.load(folder)
    assert [len(found[split][1]) for split in SPLITS] == [27, 3, 20]
    images = np.concatenate([found["train"][0], found["validation"][0]])
    for number in range(30):
        np.testing.assert_array_equal(images[number], made["train"][0][..., number])
    digits = [0 if digit == 10 else digit for digit in made["test"][1].ravel().tolist()]
    assert found["test"][1].tolist() == digits and found["test"][1].dtype == np.uint8


def test_a_damaged_file_of_houses_is_named(houses, monkeypatch):
    folder, made = houses
    images, digits = made["test"]
    file = folder / "test_32x32.mat"
    whole = file.read_bytes()
    bad = [whole[:-50], whole[: len(whole) // 2], whole[:100], b"", os.urandom(5000)]
    hdf5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM\x89HDF\r\n\x1a\n" + bytes(100)
    for content in [*bad, hdf5]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"test_32x32.mat must hold X.*root=") as told:
            svhn.load(folder)
        assert "\n" not in str(told.value)
    for content in (
        {"X": images},
        {"X": images[..., 1:], "y": digits},
        {"X": images.astype(float), "y": digits},
        {"X": images, "y": digits - 1},
        {"X": images, "y": digits + 1},
        {"X": images[:16], "y": digits},
    ):
        scipy.io.savemat(file, content)
        if (found := content.get("y")) is not None and set(found.ravel()) <= set(range(1, 11)):
            assert content["X"].shape != (32, 32, 3, len(found)) or content["X"].dtype != np.uint8
        with pytest.raises(ValueError, match=r"test_32x32.mat must hold X"):
            svhn.load(folder)
    scipy.io.savemat(file, {"X": images * 0, "y": digits}, do_compression=True)
    assert len(svhn.load(folder)["test"][1]) == 20
    monkeypatch.setattr(_store, "LARGEST", 40_000)
    assert file.stat().st_size < 2000
    with pytest.raises(ValueError, match="it holds more than 40000 bytes, which is the most"):
        svhn.read(str(file))


def test_without_scipy_it_is_said_what_reads_the_files(houses, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(RuntimeError, match=r"scipy reads .*train_32x32.mat, .*pip install scipy"):
        svhn.load(houses[0])


# Pieces of photographs.


def photograph(number):
    """A photograph of a few colours that tell its number, in squares of about a piece's size."""
    rng = np.random.default_rng(number)
    squares = rng.integers(0, 256, (20, 30, 3), "uint8").repeat(20, 0).repeat(20, 1)
    squares[..., 2] = number
    stream = io.BytesIO()
    Image.fromarray(squares).save(stream, "PNG")
    return stream.getvalue()


def test_photographs_are_made_smaller_and_cut_up():
    (piece,) = np.unique(photo_patches.cut([photograph(7)], 0)[..., 2])
    assert piece == 7
    rng = np.random.default_rng(0)
    for size, count in (((1280, 640), 40 * 20), ((640, 2560), 10 * 40), ((100, 33), 40 * 13)):
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), "uint8"))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        pieces = photo_patches.cut([stream.getvalue()], 1)
        assert pieces.shape == (count, 32, 32, 3) and pieces.dtype == np.uint8
        if size[0] == 1280:
            places = {x.tobytes() for x in pieces}
            corners = np.asarray(image)[32:64, 64:96], np.asarray(image)[-32:, -32:]
            assert all(corner.tobytes() in places for corner in corners)
            assert pieces[0].tobytes() != np.asarray(image)[:32, :32].tobytes()


def test_what_shows_nothing_is_left_out():
    halves = np.zeros((640, 1280, 3), "uint8")
    halves[:, :640] = 250, 20, 130
    halves[:, 640:] = np.random.default_rng(0).integers(0, 256, (640, 640, 3))
    stream = io.BytesIO()
    Image.fromarray(halves).save(stream, "PNG")
    assert len(photo_patches.cut([stream.getvalue()], 1)) == 20 * 20


def test_photographs_are_fetched_checked_and_split(monkeypatch, tmp_path):
    names = [name for some in photo_patches.PHOTOGRAPHS.values() for name in some]
    contents = [photograph(number) for number in range(len(names))]
    whole = b"".join(contents)

    def debian(packages, folder):
        for name, content in zip(names, contents):
            _store.write(content, os.path.join(folder, photo_patches.FOLDER, f"{name}.jpg"))
        return folder, {}

    monkeypatch.setattr(_packages, "debian", debian)
    monkeypatch.setattr(photo_patches, "SIZE", len(whole))
    monkeypatch.setattr(photo_patches, "SHA256", hashlib.sha256(whole).hexdigest())
    path = data.fetch("photo_patches", tmp_path / "cache")
    assert photo_patches.available(tmp_path / "cache")
    monkeypatch.setattr(_packages, "debian", None)
    assert photo_patches.fetch(tmp_path / "cache") == path
    found = photo_patches.load(path)
    shown = [set(found[split][..., 2].ravel().tolist()) for split in SPLITS]
    assert shown == [set(range(10)), {10, 11}, {12, 13}]
    monkeypatch.setattr(_packages, "debian", debian)
    monkeypatch.setattr(photo_patches, "SHA256", "0")
    with pytest.raises(ValueError, match="the set of photographs is not the file this release"):
        photo_patches.fetch(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_damaged_file_of_pieces_is_named(tmp_path):
    file = tmp_path / "photo_patches.npz"
    with pytest.raises(FileNotFoundError, match="`ponderzoo data fetch photo_patches` makes it"):
        photo_patches.load(tmp_path)
    photo_patches.sample(tmp_path)
    content, whole = file.read_bytes(), photo_patches.load(tmp_path)
    for damaged in (b"", b"noise", content[:-9], content[: len(content) // 2]):
        file.write_bytes(damaged)
        assert not photo_patches.available(tmp_path)
        with pytest.raises(ValueError, match="is no file of pieces of photographs, or damaged"):
            photo_patches.load(file)
    for wrong in (whole["test"][:, :8], whole["test"].astype(float)):
        file.write_bytes(photo_patches.pack({**whole, "test": wrong}))
        with pytest.raises(ValueError, match="is no file of pieces of photographs, or damaged"):
            photo_patches.load(file)
    np.savez(file, edition=np.array(photo_patches.EDITION + 1))
    with pytest.raises(
        ValueError, match=r"edition .* of photo_patches, .*data fetch photo_patches"
    ):
        photo_patches.load(file)


@pytest.mark.skipif(
    not photo_patches.available(), reason="run `ponderzoo data fetch photo_patches` first"
)
def test_the_fetched_pieces_are_the_recorded_ones():
    found = photo_patches.load(photo_patches.path())
    assert [len(found[split]) for split in SPLITS] == [6363, 957, 1602]
    colours = found["train"].reshape(-1, 3)[::97].astype(float)
    assert np.corrcoef(colours.T)[0, 1] > 0.6
