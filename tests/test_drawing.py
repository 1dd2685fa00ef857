"""Strokes as pictures, and how the program writes them."""

import dataclasses
import io
import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image, ImageSequence
from ponderzoo import zoo
from ponderzoo.export import _cli
from ponderzoo.export.client import Client
from ponderzoo.zoo.signatures import parity
from ponderzoo.zoo.signatures._drawing import (
    HEIGHT,
    MARGIN,
    WIDTH,
    image_of,
    pen_png,
    pen_svg,
    picture_of,
)

LINE = [np.array([[0, 0], [1, 2], [2, 0]]), np.array([[0.5, 1], [1.5, 1]]), np.array([[4.0, 0]])]


def drawn(svg):
    """Width, height and the places of every path."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    paths = [element.get("d") for element in root.iter() if element.tag.endswith("path")]
    places = [[[*map(float, xy.split())] for xy in path[1:].split("L")] for path in paths]
    return width, height, [np.array(some) for some in places]


def test_a_stroke_is_a_path_right_and_down():
    width, height, paths = drawn(pen_svg(LINE))
    scale = HEIGHT / 2
    assert (width, height) == (4 * scale + 2 * MARGIN, HEIGHT + 2 * MARGIN)
    np.testing.assert_allclose(paths[0], (LINE[0] * (1, -1) + (0, 2)) * scale + MARGIN, atol=0.05)
    np.testing.assert_allclose(paths[2], [[width - MARGIN, height - MARGIN]] * 2, atol=0.05)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_the_unit_does_not_matter(size):
    assert pen_svg([size * stroke for stroke in LINE]) == pen_svg(LINE)
    assert drawn(pen_svg([size * np.array([[0, 0], [100, 1]])]))[0] == WIDTH + 2 * MARGIN


@pytest.mark.parametrize("strokes", [[], [np.zeros((0, 2))], [np.zeros((1, 2))], [np.ones((3, 2))]])
def test_nothing_and_a_dot_are_drawn(strokes):
    width, height, _ = drawn(pen_svg(strokes))
    assert (width, height) == (2 * MARGIN, 2 * MARGIN)
    assert Image.open(io.BytesIO(pen_png(strokes))).size == (2 * MARGIN, 2 * MARGIN)


def test_what_is_written_is_told_to_those_who_cannot_see_it():
    root = ElementTree.fromstring(pen_svg(LINE, "<a> & b"))
    (title,) = [element for element in root.iter() if element.tag.endswith("title")]
    assert title.text == "<a> & b" and root.get("role") == "img"


def test_both_files_show_the_same():
    picture = picture_of(LINE)
    width, height, paths = drawn(picture.svg)
    image = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"))
    assert image.shape == (height, width)
    for path in paths:
        for x, y in (path + path[[*range(1, len(path)), 0]]) / 2 if len(path) == 2 else path:
            assert image[int(y), int(x)] < 128
    assert (image > 250).mean() > 0.9


def test_places_that_are_none_are_refused():
    with pytest.raises(ValueError, match="finite places"):
        pen_svg([np.array([[0, np.nan]])])


# The program.


@pytest.fixture
def predict(monkeypatch, capsys):
    """`predict(words)` asks a server that is none for parities, and draws them."""
    asked = []

    def answer(client, name, inputs, *rest):
        asked.append(inputs)
        rows = len(inputs["bits"])
        return {"odd": np.ones(rows), "probability": np.ones(rows), "updates": np.ones((rows, 1))}

    def picture(inputs, outputs):
        return [picture_of(LINE[: int(bits[0])]) for bits in inputs["bits"]]

    written = parity.notation

    def notation(task):
        found = written(task)
        given = {"weight": np.zeros(2, "float32")}
        read = found["serve"].read
        return {
            "serve": dataclasses.replace(
                found["serve"],
                picture=picture,
                read=lambda texts: {**read(texts), "weight": given["weight"][: len(texts)]},
            )
        }

    monkeypatch.setattr(Client, "predict", answer)
    monkeypatch.setattr(parity, "notation", notation)

    def run(*words):
        arguments = _cli._parser().parse_args(["predict", "act_parity", *map(str, words)])
        code = _cli._run(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err, asked

    return run


def test_pictures_are_written_where_they_are_asked_for(predict, tmp_path):
    code, out, _, _ = predict("1", "--output", tmp_path / "new")
    assert not code and f"picture   {tmp_path / 'new' / 'act_parity.svg'} and .png" in out
    assert (tmp_path / "new/act_parity.svg").read_text() == pen_svg(LINE[:1])
    assert (tmp_path / "new/act_parity.png").read_bytes() == pen_png(LINE[:1])
    predict("1", "11", "--output", tmp_path)
    names = {f"act_parity-{row}.{end}" for row in (1, 2) for end in ("svg", "png")}
    assert {file.name for file in tmp_path.iterdir()} == names | {"new"}


def test_answers_in_pictures_are_written_without_being_asked_for(predict, monkeypatch, tmp_path):
    written = parity.notation

    def notation(task):
        return {"serve": dataclasses.replace(written(task)["serve"], in_pictures=True)}

    monkeypatch.setattr(parity, "notation", notation)
    monkeypatch.chdir(tmp_path)
    code, out, _, _ = predict("1", "11")
    assert not code and f"picture   {os.path.join('pictures', 'act_parity-2.svg')} and .png" in out
    assert len([*tmp_path.glob("pictures/*.png")]) == 2
    predict("1", "--json", "--output", tmp_path / "other")
    predict("1", "--json")
    assert {file.name for file in tmp_path.iterdir()} == {"pictures", "other"}


def test_steps_of_an_image_are_an_animation_with_the_window_over_them():
    steps = np.zeros((3, 4, 5))
    steps[1], steps[2] = 1, 0.5
    windows = [[1, 1, 4, 3, 0.25, 1]] * 3
    picture = image_of(np.eye(4, 5), "one", steps, windows)
    assert picture.png == image_of(np.eye(4, 5)).png and not image_of(np.eye(4, 5)).gif
    image = Image.open(io.BytesIO(picture.gif))
    assert image.n_frames == 4 and image.size == (40, 32)
    frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    for frame, inside in zip(frames[:2], (255, 0)):
        assert (frame[16, 16] == inside).all() and (frame[16, 2] == inside).all()
        red, green, blue = map(int, frame[16, 8])
        assert red > green > blue
    assert (frames[3][0, 0] == 0).all() and (frames[3][16, 8] == 255).all()


def test_numbers_of_rows_are_set(predict):
    code, _, _, asked = predict("1", "11", "--set", "weight=0.5")
    assert not code and asked[-1]["weight"].tolist() == [0.5, 0.5]
    for pair, words in (
        ("weight", "--set wants KEY=VALUE, got 'weight'"),
        ("weight=much", "weight must be of type float, got 'much'"),
        ("bits=1", "no input 'bits' is a number a row; it takes weight"),
    ):
        code, _, err, _ = predict("1", "--set", pair)
        assert code == 1 and err.startswith(f"error: {words}")


def test_what_answers_by_text_alone_draws_nothing(predict, monkeypatch, tmp_path):
    entry = zoo.info("act_parity")
    serve = entry.notation(zoo.task_of(entry))["serve"]
    plain = {"serve": dataclasses.replace(serve, picture=None)}
    monkeypatch.setattr(parity, "notation", lambda task: plain)
    code, _, err, _ = predict("1", "--output", tmp_path)
    assert code == 1 and "by text alone" in err and not [*tmp_path.iterdir()]
