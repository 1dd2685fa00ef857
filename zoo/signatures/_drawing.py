"""Strokes and images as pictures: SVG and PNG."""

import base64
import dataclasses
import io
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 1000.0, 160.0  # of a picture, at most
THICKNESS, MARGIN = 2.5, 6.0
FINER = 3  # times as large is drawn what a PNG shows
PIXEL = 8  # dots of a PNG that show a pixel of an image, across and down
PACE, REST = 350, 1400  # milliseconds of a step of an animation, and of what came of them
WINDOW = 217, 95, 2  # its colour, red, green and blue


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture twice: `svg`, the text of a file, and `png`, the bytes of one.

    `gif` are the bytes of a third one where there is something to see of how it came about.
    """

    svg: str
    png: bytes
    gif: bytes = b""


def picture_of(strokes, title=""):
    """The `Picture` of a line, as `pen_svg` and `pen_png` take it."""
    return Picture(pen_svg(strokes, title), pen_png(strokes))


def pen_svg(strokes, title=""):
    """A line of handwriting as an SVG file, in the colour of the text around it.

    Args:
        strokes: list of `(points, 2)` places, right and up, in any unit.
        title: what is written, for those who cannot see it.
    """
    placed, width, height = _placed(strokes)
    paths = "".join(f'<path d="{_path(stroke)}"/>' for stroke in placed)
    name = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">{name}<g fill="none" '
        f'stroke="currentColor" stroke-width="{THICKNESS}" stroke-linecap="round" '
        f'stroke-linejoin="round">{paths}</g></svg>\n'
    )


def pen_png(strokes):
    """A line of handwriting as the bytes of a PNG file, black on white; see `pen_svg`."""
    placed, width, height = _placed(strokes)
    size = round(width), round(height)
    image = Image.new("L", (FINER * size[0], FINER * size[1]), 255)
    draw, radius = ImageDraw.Draw(image), FINER * THICKNESS / 2
    for stroke in placed:
        places = [(float(x), float(y)) for x, y in FINER * stroke]
        draw.line(places, fill=0, width=round(2 * radius), joint="curve")
        for x, y in {places[0], places[-1]} if places else ():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    content = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(content, "PNG", optimize=True)
    return content.getvalue()


def image_of(image, title="", steps=(), windows=(), pace=PACE):
    """The `Picture` of an image `(height, width)`, 0 (paper) to 1 (ink), its pixels as squares.

    An image `(height, width, 3)` is in colour, red, green and blue from 0 to 1.

    Where there are `steps`, `(steps, height, width)`, it has an animation of them, and of
    `windows`, `(steps, 6)`, over them: what `SIDES` in `trainers/tasks/_images.py` says. Each is
    shown for `pace` milliseconds.
    """
    content, large = io.BytesIO(), _squares(image)
    large.save(content, "PNG", optimize=True)
    (width, height), png = large.size, content.getvalue()
    name = f"<title>{escape(title)}</title>" if title else ""
    data = base64.b64encode(png).decode()
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">{name}<image width="{width}" height="{height}" '
        f'href="data:image/png;base64,{data}"/></svg>\n',
        png,
        _animation(image, steps, windows, pace) if len(steps) else b"",
    )


def _squares(image):
    """A picture in grey or colour, each pixel of the image as large a square as `PIXEL` says."""
    light = np.clip(np.asarray(image, float), 0, 1)
    light = np.rint(255 * (light if light.ndim == 3 else 1 - light)).astype("uint8")
    return Image.fromarray(light.repeat(PIXEL, axis=0).repeat(PIXEL, axis=1))


def _animation(image, steps, windows, pace):
    """A GIF of steps, and of what came of them."""
    frames = [_squares(step).convert("RGB") for step in steps]
    for frame, (left, top, right, bottom, deviation, _) in zip(frames, windows):
        box = [float(PIXEL * side) for side in (left, top, right, bottom)]
        # The line is the thicker the less precise the filters are, as in the paper's figures.
        width = max(1, round(float(PIXEL * deviation / 2)))
        ImageDraw.Draw(frame).rectangle(box, outline=WINDOW, width=width)
    frames, content = [*frames, _squares(image).convert("RGB")], io.BytesIO()
    paces = [pace] * len(steps) + [REST]
    first, *others = frames
    first.save(content, "GIF", save_all=True, append_images=others, duration=paces, loop=0)
    return content.getvalue()


def text_of(image):
    """An image `(height, width)` as text, two of its lines in each; ink is what is over a half."""
    ink = np.asarray(image) > 0.5
    ink = np.pad(ink, [(0, len(ink) % 2), (0, 0)])
    pairs = zip(ink[::2], ink[1::2])
    return "\n".join("".join(" ▀▄█"[a + 2 * b] for a, b in zip(*pair)) + "|" for pair in pairs)


def _placed(strokes):
    """The strokes right and down, with a margin, and the width and the height of the picture."""
    strokes = [np.reshape(np.asarray(stroke, float), (-1, 2)) * (1, -1) for stroke in strokes]
    if not all(np.isfinite(stroke).all() for stroke in strokes):
        raise ValueError("expected strokes of finite places; got others")
    places = np.concatenate([*strokes, np.zeros((0, 2))])
    low, high = (places.min(axis=0), places.max(axis=0)) if len(places) else np.zeros((2, 2))
    extent = high - low
    # A dot is not blown up.
    scale = min([size / x for size, x in zip((WIDTH, HEIGHT), extent) if x], default=1.0)
    width, height = extent * scale + 2 * MARGIN
    return [(stroke - low) * scale + MARGIN for stroke in strokes if len(stroke)], width, height


def _path(stroke):
    places = [f"{x:.1f} {y:.1f}" for x, y in stroke]
    # A stroke of one place is a dot, which a line to itself draws.
    return "M" + "L".join(places if len(places) > 1 else 2 * places)
