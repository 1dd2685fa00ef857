"""Glyphs: fonts that are read, hands that draw, splits that share nothing, and their file."""

import hashlib
import io
import os
import tarfile

import matplotlib
import numpy as np
import pytest
from ponderzoo import trainers
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _packages, _store, glyphs
from ponderzoo.trainers.tasks import _images

SPLITS = "train", "validation", "test"
FONTS = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")


def font(name="DejaVuSans"):
    with open(os.path.join(FONTS, f"{name}.ttf"), "rb") as file:
        return file.read()


@pytest.fixture(scope="module")
def outlines():
    return glyphs.outlines_of({"latin": font(), "cyrillic": font()}, "plain")


# Fonts.


def test_a_glyph_is_what_the_font_draws_without_margins(outlines):
    assert "".join(outlines) == glyphs.SYMBOLS
    for ink, side in outlines.values():
        assert ink.dtype == np.float32 and ink.max() == 1 and side >= 0.95 * max(ink.shape)
        assert all(ink[edge].any() for edge in (0, -1)) and ink[:, [0, -1]].any(axis=0).all()
    (_, whole), (small, least) = outlines["0"], outlines["«"]
    assert least == 0.75 * whole > max(small.shape)


def test_what_a_font_has_not_is_left_out():
    found = glyphs.outlines_of({"latin": font("STIXSizOneSymReg")}, "symbols")
    assert found and set(found) < set(glyphs.SCRIPTS["latin"]) and not {"A", "b"} & set(found)
    capitals = glyphs.outlines_of({"latin": font()}, glyphs.CAPITALS[0])
    left_out = set(glyphs.SCRIPTS["latin"]) - set(capitals)
    assert left_out == {symbol for symbol in glyphs.SCRIPTS["latin"] if symbol.islower()}


def test_what_is_no_font_is_named():
    with pytest.raises(ValueError, match="the font caveat cannot be read"):
        glyphs.outlines_of({"latin": font()[:100]}, "caveat")


# Drawing.


def test_drawings_of_a_glyph_are_its_own_and_never_the_same(outlines):
    """The nearest of three other drawings of each is one of the same glyph."""
    rng = np.random.default_rng(0)
    some = "0247ABEGKMQRWXadeg&?@#"
    drawn = np.array([glyphs.draw(*outlines[symbol], 4, rng) for symbol in some])
    assert drawn.dtype == bool and drawn.shape == (len(some), 4, 28, 28)
    assert len({image.tobytes() for image in drawn.reshape(-1, 784)}) == 4 * len(some)
    known, asked = drawn[:, 1:].reshape(-1, 784), drawn[:, 0].reshape(-1, 784)
    nearest = (asked[:, None] != known).sum(axis=2).argmin(axis=1) // 3
    assert (nearest == np.arange(len(some))).mean() >= 0.8


def test_a_glyph_has_its_size_and_its_place_in_the_image(outlines):
    rng = np.random.default_rng(1)
    for symbol in "H«":
        ink, side = outlines[symbol]
        largest = 22 * len(ink) / side
        images = glyphs.draw(*outlines[symbol], 100, rng)
        (rows, columns) = (images.any(axis=axis) for axis in (2, 1))
        height = 28 - rows.argmax(axis=1) - rows[:, ::-1].argmax(axis=1)
        assert 0.7 * largest < height.min() and height.max() < 1.3 * largest
        assert abs(np.median(height) / (0.925 * largest) - 1) < 0.1
        middle = (rows.argmax(axis=1) + 27 - rows[:, ::-1].argmax(axis=1)) / 2
        assert abs(middle.mean() - 13.5) < 0.5 and columns[:, [0, -1]].sum() == 0


def test_the_lines_of_a_thin_font_are_whole():
    """However thin the lines of a font are, they break in few of their rows."""
    ink = np.zeros((220, 160), "float32")
    ink[:, 78:82] = 1  # 0.4 pixels of an image
    images = glyphs.draw(glyphs.inked(ink, 220.0), 220.0, 200, np.random.default_rng(2))
    height = images.any(axis=2).sum(axis=1)
    assert np.median(height) >= 19 and (height >= 17).mean() > 0.95


def test_splits_share_neither_fonts_nor_symbols(tmp_path, outlines):
    some = {symbol: outlines[symbol] for symbol in glyphs.SYMBOLS[:30]}
    fonts = {str(number): some for number in range(20)}
    images, symbols, drawers = glyphs.drawn(fonts, 1)
    (tmp_path / "glyphs.npz").write_bytes(glyphs.pack(images, symbols, drawers))
    found = glyphs.load(tmp_path)
    assert sum(len(part[0]) for part in found.values()) == len(images)
    for number in (1, 2):
        parts = [set(found[split][number].tolist()) for split in SPLITS]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert len(parts[0]) > 3 * len(parts[1]) >= len(parts[2])
    train = set(zip(found["train"][1].tolist(), found["train"][2].tolist()))
    assert len(train) == len(found["train"][0]) == 14 * len(set(found["train"][1].tolist()))
    again = glyphs.drawn(fonts, 1)
    assert all(np.array_equal(one, other) for one, other in zip(again, (images, symbols, drawers)))


# The file.


def test_images_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    images, symbols = rng.random((30, 28, 28)) < 0.5, np.arange(30, dtype="uint8")
    (tmp_path / "glyphs.npz").write_bytes(glyphs.pack(images, symbols, symbols % 7))
    found = glyphs.load(tmp_path / "glyphs.npz")
    for pixels, numbers, drawers in found.values():
        assert pixels.dtype == np.uint8 and len(pixels) == len(numbers)
        np.testing.assert_array_equal(pixels, images[numbers])
        np.testing.assert_array_equal(drawers, numbers % 7)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    file = tmp_path / "glyphs.npz"
    with pytest.raises(FileNotFoundError, match=r"no file .*ponderzoo data fetch glyphs"):
        glyphs.load(tmp_path)
    glyphs.sample(tmp_path)
    content = file.read_bytes()
    for damaged in (b"", b"noise", content[:-9], content[: len(content) // 2]):
        file.write_bytes(damaged)
        assert not glyphs.available(tmp_path)
        with pytest.raises(ValueError, match=r"is no file of glyphs, or damaged.*data fetch gly"):
            glyphs.load(file)
    three = np.zeros(3, "uint8")
    np.savez(file, edition=np.array(glyphs.EDITION), pixels=three[:2], symbols=three, drawers=three)
    with pytest.raises(ValueError, match="is no file of glyphs, or damaged"):
        glyphs.load(file)
    np.savez(file, edition=np.array(glyphs.EDITION + 1))
    with pytest.raises(ValueError, match=r"edition .* of glyphs, .*`ponderzoo data fetch glyphs`"):
        glyphs.load(file)


def test_glyphs_are_fetched_checked_and_drawn(monkeypatch, tmp_path):
    asked = []

    def npm(package, folder, otherwise=""):
        asked.append(package)
        file = os.path.join(folder, "package.tgz")
        name = package.removeprefix(glyphs.SCOPE).rsplit("@", 1)[0]
        with tarfile.open(file, "w:gz") as archive:
            for script in ("latin", "cyrillic", "greek")[: 1 + (name == "caveat")]:
                member = tarfile.TarInfo(f"package/files/{name}-{script}-400-normal.woff")
                member.size = len(font())
                archive.addfile(member, io.BytesIO(font()))
        return file

    content = font() * 3
    monkeypatch.setattr(glyphs, "FONTS", ("caveat", "condiment"))
    monkeypatch.setattr(glyphs, "SIZE", len(content))
    monkeypatch.setattr(glyphs, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(_packages, "npm", npm)
    path = data.fetch("glyphs", tmp_path / "cache")
    assert asked == ["@fontsource/caveat@5.3.0", "@fontsource/condiment@4.5.1"]
    assert glyphs.available(tmp_path / "cache") and glyphs.fetch(tmp_path / "cache") == path
    assert len(asked) == 2
    images, symbols, drawers = glyphs.load(path)["train"]
    own = [n for n, symbol in enumerate(glyphs.SYMBOLS) if glyphs.split_of(n) == "train"]
    latin = [n for n in own if glyphs.SYMBOLS[n] in glyphs.SCRIPTS["latin"]]
    assert len(images) == 10 * (len(own) + len(latin))
    assert set(symbols[drawers == 1]) == set(latin)
    monkeypatch.setattr(glyphs, "SHA256", "0")
    with pytest.raises(ValueError, match="the fonts of glyphs is not the file"):
        glyphs.fetch(tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(not glyphs.available(), reason="run `ponderzoo data fetch glyphs` first")
def test_the_fetched_glyphs_are_the_recorded_ones():
    found = glyphs.load(glyphs.path())
    assert [len(found[split][0]) for split in SPLITS] == [26_320, 510, 2120]
    assert [len(set(found[split][1].tolist())) for split in SPLITS] == [72, 10, 21]
    assert [len(set(found[split][2].tolist())) for split in SPLITS] == [45, 6, 13]
    assert 0.14 < found["train"][0].mean() < 0.16


# The task.


def test_densities_of_glyphs_are_of_what_is_in_the_file(tmp_path):
    glyphs.sample(tmp_path)
    task = trainers.task("binary_digits", data="glyphs", root=str(tmp_path))
    for split, (images, symbols, _) in glyphs.load(tmp_path).items():
        assert task.examples(split) == len(images)
        np.testing.assert_array_equal(
            task.rows(np.arange(len(images)), split)[0]["image"], images.astype("float32")
        )
        np.testing.assert_array_equal(_images.classes("glyphs", str(tmp_path), split), symbols)
    inputs, _ = task.batch(np.random.default_rng(0), 50)
    images = {image.tobytes() for image in glyphs.load(tmp_path)["train"][0]}
    assert all(image.astype("uint8").tobytes() in images for image in inputs["image"])
    assert _store.edition(tmp_path / "glyphs.npz") == glyphs.EDITION
