"""Online handwriting: made lines with their floor, and their files."""

import dataclasses
import io
import shutil
import tarfile

import numpy as np
import pytest
from ponderzoo.trainers import data
from ponderzoo.trainers.data import _hand, _packages, _pen, iam_ondb, kanjivg, stroke_fonts

SPLITS = ("train", "validation", "test")
PLAIN_STYLE = ("slant", "spacing", "slope", "drift", "wobble")
STILL = {**dict.fromkeys(PLAIN_STYLE, 0.0), "size": 1.0, "aspect": 1.0}


def line(number=0, **changes):
    points = np.random.default_rng(number).normal(size=(5 + number, 3)).astype("float32")
    points[:, 2] = [0] * (len(points) - 1) + [1]
    parts = {"name": f"l{number}", "writer": "é", "split": "train", "text": "no", "floor": -1.5}
    return _pen.Line(**{**parts, "points": points, **changes})


def same(one, other):
    for field in dataclasses.fields(_pen.Line):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    return True


# The file.


@pytest.mark.parametrize("count", [0, 1, 3])
def test_lines_come_back_as_they_were(tmp_path, count):
    packed = [line(0), line(1, split="test", text="", floor=np.nan), line(2)][:count]
    (tmp_path / "stroke_fonts.npz").write_bytes(_pen.pack(packed, stroke_fonts.EDITION))
    for place in (tmp_path, tmp_path / "stroke_fonts.npz"):
        found = stroke_fonts.load(place)
        assert len(found) == count and all(map(same, packed, found))
    assert _pen.digest(found) == _pen.digest(packed)
    assert _pen.pack(packed) == _pen.pack(found)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"points": np.zeros((4, 3))}, r"points .* got \(4, 3\) of float64"),
        ({"points": np.zeros((4, 2), "float32")}, r"points .* got \(4, 2\)"),
        ({"points": np.zeros((0, 3), "float32")}, "one point or more"),
        ({"points": np.full((2, 3), np.nan, "float32")}, "one point or more, all of them finite"),
        ({"points": np.full((2, 3), 2, "float32")}, "an end of stroke of 0 or 1"),
        ({"split": "dev"}, "a split among .* got 'dev'"),
    ],
)
def test_a_line_whose_parts_do_not_fit_is_named(changes, words):
    with pytest.raises(ValueError, match=f"the line 'l7' needs {words}"):
        _pen.pack([line(), line(7, **changes)])


def test_a_name_may_come_once():
    with pytest.raises(ValueError, match="unique, got 'l3' twice"):
        _pen.pack([line(3), line(1), line(3)])


def test_a_missing_or_damaged_file_is_named(tmp_path):
    file = tmp_path / "stroke_fonts.npz"
    assert stroke_fonts.path(tmp_path) == str(file) and not stroke_fonts.available(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*ponderzoo data fetch stroke_fonts"):
        stroke_fonts.load(file)
    content = _pen.pack([line()], stroke_fonts.EDITION)
    for damaged in (b"", b"noise", content[:-9], content[: len(content) // 2]):
        file.write_bytes(damaged)
        assert not stroke_fonts.available(tmp_path)
        with pytest.raises(ValueError, match="is no file of lines of a pen, or damaged"):
            stroke_fonts.load(file)


@pytest.mark.parametrize("name", ["stroke_fonts", "kanjivg", "asterisk", "tts_phones"])
def test_a_file_of_another_edition_counts_as_none_and_is_refused(tmp_path, name):
    module = data.dataset(name)
    module.sample(tmp_path)
    file = tmp_path / f"{name}.npz"
    assert module.available(tmp_path) and module.load(file)
    with np.load(file) as found:
        earlier = {key: found[key] for key in found if key != "edition"}
    for edition in (module.EDITION + 1, module.EDITION + 2):
        np.savez(file, **earlier, edition=np.array(edition))
        assert not module.available(tmp_path)
    with pytest.raises(ValueError, match=f"edition {edition} of .*`ponderzoo data fetch {name}`"):
        module.load(tmp_path)
    np.savez(file, **earlier)
    assert module.available(tmp_path) == (module.EDITION == 1)


def test_strokes_are_what_is_drawn_without_lifting_the_pen():
    points = np.array([[1, 0, 0], [0, 1, 1], [3, 0, 0], [1, 1, 0], [1, 0, 1]], "float32")
    first, second = _pen.strokes_of(points)
    assert first.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert second.tolist() == [[4, 1], [5, 2], [6, 2]]
    assert [stroke.tolist() for stroke in _pen.strokes_of(points[:0])] == [[[0, 0]]]


# Made hands.


def test_a_path_becomes_strokes():
    line_, curve = _hand.polylines("M 1 2 L 3 4 5 6 M 0 0 C 0 1 1 1 1 0")
    assert line_.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert curve[0].tolist() == [0, 0] and curve[-1].tolist() == [1, 0]
    np.testing.assert_allclose(curve[len(curve) // 2], [0.5, 0.75])
    (relative,) = _hand.polylines("m1,2l2,2c0,1 1,1 1,0s1-1,1,0")
    assert relative[1].tolist() == [3, 4] and relative[-1].tolist() == [5, 4]
    np.testing.assert_allclose(relative[1 + _hand.CURVE // 2], [3.5, 4.75])
    np.testing.assert_allclose(relative[1 + 3 * _hand.CURVE // 2], [4.5, 3.25])
    assert _hand.polylines("M1e-1-.5 L+2E1,3")[0].tolist() == [[0.1, -0.5], [20, 3]]
    with pytest.raises(ValueError, match=r"expected M, L, C or S .* got A 1 1"):
        _hand.polylines("M 0 0 A 1 1")
    with pytest.raises(ValueError, match=r"expected M, L, C or S .* got L 1 1"):
        _hand.polylines("L 1 1")


def test_a_pen_keeps_to_its_path_and_slows_where_it_bends():
    angle = np.linspace(0, np.pi, 60)
    straight = np.array([[0.0, 0], [2, 0]])
    bow = np.column_stack([2 + 0.1 * np.sin(angle), 0.1 - 0.1 * np.cos(angle)])
    found = _hand.paced(np.vstack([straight, bow, [[0, 0.2]]]), 0.1)
    np.testing.assert_allclose(found[[0, -1]], [[0, 0], [0, 0.2]], atol=1e-12)
    steps = np.hypot(*np.diff(found, axis=0).T)
    bends = found[:-1, 0] > 2
    middle = (found[:-1, 0] > 0.5) & (found[:-1, 0] < 1.8)
    np.testing.assert_allclose(steps[middle], 0.1, rtol=0.05)
    assert steps[bends].max() < 0.09 and steps[0] < 0.08 and steps[-1] < 0.08
    assert (
        np.minimum(np.abs(found[:, 1]), np.abs(found[:, 1] - 0.2))[~(found[:, 0] > 2)] < 1e-9
    ).all()


@pytest.mark.parametrize("stroke", [[[0.0, 0], [0, 0]], [[0.0, 0], [0.001, 0]]])
def test_a_dot_is_a_stroke_of_two_points(stroke):
    assert len(_hand.paced(np.array(stroke), 0.1)) == 2


def a_hand(**changes):
    strokes = [np.array([[0.1, 0.0], [0.1, 0.6]]), np.array([[0.0, 0.3], [0.3, 0.3]])]
    glyphs = {"t": (strokes, 0.4), " ": ([], 0.3)}
    style = {**STILL, "speed": 0.1, "tremor": 1e-9, **changes}
    return _hand.Hand(_hand.Writer("w", "f", **style), glyphs)


def test_a_hand_that_does_not_tremble_draws_the_glyphs():
    points, _ = a_hand().write("t t", np.random.default_rng(0))
    strokes = _pen.strokes_of(points)
    starts = np.array([stroke[0] for stroke in strokes])
    ends = np.array([stroke[-1] for stroke in strokes])
    np.testing.assert_allclose(starts, [[0, 0], [-0.1, 0.3], [0.7, 0], [0.6, 0.3]], atol=1e-6)
    np.testing.assert_allclose(ends, [[0, 0.6], [0.2, 0.3], [0.7, 0.6], [0.9, 0.3]], atol=1e-6)
    assert points[:, 2].sum() == 4 and points[-1, 2] == 1


@pytest.mark.parametrize(
    "style, place",
    [
        ({"slant": 0.5}, (0.3, 0.6)),
        ({"size": 2.0}, (0.0, 1.2)),
        ({"aspect": 2.0}, (0.0, 0.6)),
    ],
)
def test_styles_shape_the_letters(style, place):
    points, _ = a_hand(**style).write("t", np.random.default_rng(0))
    np.testing.assert_allclose(_pen.strokes_of(points)[0][-1], place, atol=1e-6)


def test_the_floor_is_the_entropy_of_the_tremor():
    """In nats, of two numbers a point, whatever is written: log(2 pi e s^2)."""
    hand, rng = a_hand(tremor=0.02), np.random.default_rng(0)
    written = [hand.write("ttt tt t", rng) for _ in range(60)]
    count, nats = sum(len(points) for points, _ in written), sum(floor for _, floor in written)
    assert abs(nats / count - np.log(2 * np.pi * np.e * 0.02**2)) < 4 / np.sqrt(count)
    clean = a_hand().write("tt", rng)[0][:, :2]
    points, floor = hand.write("tt", rng)
    z = (points[:, :2] - clean) / 0.02
    by_hand = (np.log(2 * np.pi * 0.02**2) + (z**2).sum(axis=1) / 2).sum()
    assert floor == pytest.approx(by_hand, abs=1e-3)


def test_a_text_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves something on paper; got '  '"):
        a_hand().write("  ", np.random.default_rng(0))


# The set.


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pen")
    stroke_fonts.sample(folder)
    return stroke_fonts.load(folder)


def test_pieces_end_between_words():
    text = "It is, as “before”, of the greatest interest to all of the people. " * 3
    found = list(stroke_fonts.pieces(text))
    assert all(16 <= len(piece) <= 30 for piece in found)
    assert " ".join(found) in text.translate(stroke_fonts.PLAIN)
    assert list(stroke_fonts.pieces("a" * 31 + " and then there was nothing left at all")) == [
        "and then there was nothing"
    ]


def test_no_writer_and_no_text_is_in_two_splits(made):
    splits = {split: [x for x in made if x.split == split] for split in SPLITS}
    assert [len(splits[split]) for split in SPLITS] == [24, 8, 8]
    for key in ("writer", "text"):
        sets = [{getattr(x, key) for x in some} for some in splits.values()]
        assert all(not a & b for a, b in ((sets[0], sets[1]), (sets[0], sets[2]), sets[1:]))


def test_the_alphabet_is_that_of_the_paper_at_least():
    symbols = set(stroke_fonts.ALPHABET)
    assert len(symbols) == len(stroke_fonts.ALPHABET) >= 57
    assert symbols >= set("azAZ059 .,;:'\"-()?!")


def test_what_no_hand_has_a_glyph_for_is_left_out():
    fonts = {"f": {c: ([np.array([[0.0, 0], [0.2, 0.4]])], 0.3) for c in " abc"}}
    text = "abc cba abc cba b abz abc abc abc ab cb ca cb aa bb cc aaa bbb"
    texts = {"train": [text]}
    texts["test"] = ["ccc bbb aaa ccc bbb aaa b ccc bbb aaa ccc bbb aaa b"]
    found = list(stroke_fonts.lines(fonts, texts, {"train": 4, "test": 2}))
    assert len(found) == 6 and all(set(x.text) <= set(" abc") for x in found)


def test_the_same_lines_are_made_every_time(made, tmp_path):
    stroke_fonts.sample(tmp_path)
    assert _pen.digest(stroke_fonts.load(tmp_path)) == _pen.digest(made)


def test_a_font_that_is_none_is_named():
    for content in (b"<svg>", b"<svg></svg>", b'<svg><glyph unicode="a" d="L"/></svg>'):
        with pytest.raises(ValueError, match="the font X"):
            stroke_fonts.read_font(content, "X")


def test_fetch_refuses_other_fonts_and_leaves_nothing(monkeypatch, tmp_path):
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as archive:
        for name in stroke_fonts.FONTS:
            member = tarfile.TarInfo(f"{stroke_fonts.MEMBERS}{name}.svg")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"<svg>"))
    monkeypatch.setattr(_packages, "npm", lambda package, folder: tmp_path / "packed.tgz")
    with pytest.raises(ValueError, match=r"hersheytext@2\.0\.0 is not the file"):
        data.fetch("stroke_fonts", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(
    not stroke_fonts.available(), reason="run `ponderzoo data fetch stroke_fonts` first"
)
def test_the_fetched_lines_are_the_described_ones():
    found = stroke_fonts.load(stroke_fonts.path())
    splits = {split: [x for x in found if x.split == split] for split in SPLITS}
    assert {split: len(some) for split, some in splits.items()} == stroke_fonts.COUNTS
    assert {s: len({x.writer for x in some}) for s, some in splits.items()} == {
        split: len(stroke_fonts.FONTS) * each for split, each in stroke_fonts.WRITERS.items()
    }
    np.testing.assert_allclose(_pen.offsets_of(splits["train"]), stroke_fonts.OFFSETS, atol=1e-7)
    assert not {x.text for x in splits["train"]} & {x.text for x in splits["test"]}
    assert set("".join(x.text for x in splits["train"])) > set(stroke_fonts.ALPHABET)
    points, letters = (sum(map(len, some)) for some in zip(*((x.points, x.text) for x in found)))
    assert 10 < points / letters < 14


# Kana.

DRAWING = """<svg><g id="kvg:StrokePaths_03042"><g kvg:element="a">
<path id="kvg:03042-s1" kvg:type="h" d="M10,90c0,-10,0,-20,0,-30"/>
<path id="kvg:03042-s2" d="M20,50l5,5"/></g></g><path d="M0,0l1,1"/></svg>"""


def test_a_drawing_becomes_strokes_in_their_order_above_a_baseline():
    (first, second), width = kanjivg.read_glyph(DRAWING)
    assert width == 1 and len(first) == _hand.CURVE + 1
    np.testing.assert_allclose(first[[0, -1]] * kanjivg.EM, [[10, 0], [10, 30]], atol=1e-9)
    np.testing.assert_allclose(second * kanjivg.EM, [[20, 40], [25, 35]], atol=1e-9)
    with pytest.raises(ValueError, match="expected a drawing with strokes; got '<svg></svg>'"):
        kanjivg.read_glyph("<svg></svg>")


def test_lines_of_kana_come_once_and_by_writers_of_their_split(tmp_path):
    kanjivg.sample(tmp_path)
    found = kanjivg.load(tmp_path)
    assert len({line.text for line in found}) == len(found) == 40
    assert all(4 <= len(line.text) <= 8 and set(line.text) <= {*kanjivg.ALPHABET} for line in found)
    assert len({line.writer for line in found}) == 6
    assert all(line.split in line.writer for line in found)


def test_fetch_refuses_other_drawings_and_leaves_nothing(monkeypatch, tmp_path):
    (tmp_path / "kanji").mkdir()
    for character in kanjivg.ALPHABET:
        (tmp_path / "kanji" / f"{ord(character):05x}.svg").write_text(DRAWING)
    monkeypatch.setattr(_packages, "pip", lambda package, folder: str(tmp_path))
    with pytest.raises(ValueError, match="kanjivg==20260714 is not the file"):
        data.fetch("kanjivg", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not kanjivg.available(), reason="run `ponderzoo data fetch kanjivg` first")
def test_the_fetched_kana_are_the_described_ones():
    found = kanjivg.load(kanjivg.path())
    splits = {split: [x for x in found if x.split == split] for split in SPLITS}
    assert {split: len(some) for split, some in splits.items()} == kanjivg.COUNTS
    assert {split: len({x.writer for x in some}) for split, some in splits.items()} == (
        kanjivg.WRITERS
    )
    np.testing.assert_allclose(_pen.offsets_of(splits["train"]), kanjivg.OFFSETS, atol=1e-7)
    assert set("".join(x.text for x in splits["train"])) == set(kanjivg.ALPHABET)


# IAM-OnDB.


@pytest.fixture
def copy(tmp_path):
    """A copy of IAM-OnDB that is none."""
    iam_ondb.sample(tmp_path)
    return tmp_path


def test_a_copy_is_read_as_it_is_unpacked(copy):
    lines = iam_ondb.load(copy)
    assert [line.split for line in lines] == [*["train"] * 4, *["validation"] * 4, *["test"] * 4]
    first = lines[0]
    assert first.name == "train/a01-001z-01" and first.writer == "100001" and len(first.text) == 6
    assert np.isnan(first.floor) and first.points.dtype == np.float32
    assert first.points[:, 2].tolist() == [*[0] * 6, 1, *[0] * 7, 1, *[0] * 7, 1]
    assert (first.points[:6, 0] >= 0).all() and (first.points[:6, 1] <= 0).all(), "up is positive"
    for folder in ("lineStrokes", "ascii", "original"):
        (copy / f"{folder}-all").mkdir()
        (copy / folder).rename(copy / f"{folder}-all" / folder)
    for found, line in zip(iam_ondb.load(copy), lines, strict=True):
        assert same(found, line)


def test_the_protocol_of_2013_trains_on_the_test_set_too(copy):
    lines = iam_ondb.load(copy, "graves")
    count = {split: sum(line.split == split for line in lines) for split in SPLITS}
    assert count == {"train": 12, "validation": 4, "test": 4}
    assert len({line.name for line in lines}) == len(lines)
    with pytest.raises(ValueError, match=r"protocol must be one of .*got 'all'"):
        iam_ondb.load(copy, "all")


def test_without_the_originals_a_form_is_a_writer(copy):
    shutil.rmtree(copy / "original")
    assert iam_ondb.load(copy)[0].writer == "a01-001z"


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("lineStrokes/a01/a01-001/a01-001z-01.xml", "<Stroke", "a01-001z-01.xml is damaged"),
        ("lineStrokes/a01/a01-001/a01-001z-01.xml", "<S/>", "strokes of two points or more"),
        (
            "lineStrokes/a01/a01-001/a01-001z-01.xml",
            '<S><Stroke><Point x="1"/></Stroke></S>',
            r"a01-001z-01.xml must have points with x and y; got \{'x': '1'\}",
        ),
        ("ascii/a01/a01-001/a01-001z.txt", "OCR:\nno\n", r'a01-001z.txt must have a line "CSR:"'),
        ("original/a01/a01-001/strokesz.xml", "", r"strokesz.xml is damaged"),
    ],
)
def test_a_damaged_file_is_named(copy, file, content, words):
    (copy / file).write_text(content)
    with pytest.raises(ValueError, match=words):
        iam_ondb.load(copy)


def test_a_form_with_a_text_too_many_is_left_out_with_a_warning(copy):
    with open(copy / "ascii/a01/a01-001/a01-001z.txt", "a") as file:
        file.write("one more\n")
    with pytest.warns(UserWarning, match="a01-001z is left out: .* has 3 lines, and .* has 2"):
        assert len(iam_ondb.load(copy)) == 10


def test_a_part_that_is_missing_is_named_and_who_has_it(copy):
    with pytest.raises(RuntimeError, match=r"handed out to who registers.*root="):
        iam_ondb.fetch(copy / "nowhere")
    (copy / "trainset.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no trainset\.txt in"):
        iam_ondb.load(copy)
    iam_ondb.sample(copy)
    (copy / "ascii/a01/a01-001/a01-001z.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no lines of the form a01-001z at .*z\.txt"):
        iam_ondb.load(copy)


def test_a_copy_in_the_cache_is_found(copy):
    assert not iam_ondb.available(copy)
    iam_ondb.sample(copy / "iam_ondb")
    assert iam_ondb.available(copy) and iam_ondb.fetch(copy) == str(copy / "iam_ondb")
