"""Made handwriting: strokes of SVG paths as a writer with a hand of their own draws them.

A writer's pen goes over a path at a speed that falls with its curvature, by the power of a third
(Lacquaniti, Terzuolo and Viviani, 1983), and at the ends of a stroke. The hand trembles: each
offset has Gaussian noise of the writer's own deviation, independent of all others, which gives the
density of the points for one who knows what the hand meant to draw.
"""

import dataclasses
import re

import numpy as np

from . import _pen

CURVE = 8  # pieces that a Bezier curve is made of
FINE = 0.02  # em between the points of a path at which speed is told
SMOOTH = 5  # of such points over which curvature is averaged
BEND = 0.1  # em, a radius: curvature beyond its inverse slows the pen
SLOWEST = 0.45  # of the speed of a straight line, at the ends of a stroke
TAPER = 0.15  # em, over which a stroke begins and ends

_COMMAND = re.compile(r"([A-DF-Za-df-z])([^A-DF-Za-df-z]*)")  # an e is part of a number
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Writer:
    """A hand.

    Attributes:
        name: of the writer.
        font: whose letters it writes.
        slant: em to the right for an em up.
        size: of letters, and `aspect` their width beside that.
        spacing: em between letters beside those of the font.
        speed: em that the pen goes from point to point on a straight line.
        slope: em that the line rises for an em to the right, and `drift` em that it sways besides.
        wobble: deviation of the place (em), the size and the slant of one letter.
        tremor: deviation of the noise of each offset, em.
    """

    name: str
    font: str
    slant: float
    size: float
    aspect: float
    spacing: float
    speed: float
    slope: float
    drift: float
    wobble: float
    tremor: float


def a_writer(rng, name, font, speed, tremor):
    """A writer of chance with the letters of a font, whose speed and tremor are about the given."""
    slant, size, aspect, spacing, fast, slope, drift, wobble, tremble = rng.random(9)
    return Writer(
        name=name,
        font=font,
        slant=-0.15 + 0.5 * slant,
        size=0.8 + 0.45 * size,
        aspect=0.85 + 0.35 * aspect,
        spacing=-0.02 + 0.12 * spacing,
        speed=speed * (0.85 + 0.35 * fast),
        slope=-0.03 + 0.06 * slope,
        drift=0.04 * drift,
        wobble=0.01 + 0.02 * wobble,
        tremor=tremor * (0.75 + 0.5 * tremble),
    )


def polylines(path):
    """The strokes of an SVG path, a list of `(points, 2)` float64, its curves in pieces.

    Raises `ValueError` for a command other than M, L, C and S, in capitals or small letters, and
    for one that comes before the first M.
    """
    strokes, last = [], np.zeros(2)
    control = last
    for command, numbers in _COMMAND.findall(path):
        values = np.array([float(x) for x in _NUMBER.findall(numbers)])
        width = {"M": 2, "L": 2, "C": 6, "S": 4}.get(command.upper())
        if width is None or len(values) % width or not (strokes or command in "Mm"):
            raise ValueError(f"expected M, L, C or S with their points; got {command}{numbers}")
        for place, some in enumerate(values.reshape(-1, width // 2, 2)):
            some = some + last if command.islower() else some
            if command in "Mm" and not place:
                strokes.append([some[-1]])
            elif command in "MmLl":
                strokes[-1].append(some[-1])
            else:
                first = 2 * last - control if command in "Ss" else some[0]
                strokes[-1].extend(_bezier(last, first, some[-2], some[-1]))
            control = some[-2] if command in "CcSs" else some[-1]
            last = some[-1]
    return [np.array(stroke) for stroke in strokes]


def _bezier(*four):
    """The points of a cubic Bezier curve but the first."""
    t = np.linspace(0, 1, CURVE + 1)[1:, None]
    weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return sum(weight * point for weight, point in zip(weights, four))


def paced(path, speed):
    """Points on a path at equal times, its ends among them: `(2 points or more, 2)`.

    Args:
        path: `(points, 2)`, em.
        speed: em from point to point on a straight line; less where the path bends.
    """
    steps = np.hypot(*np.diff(path, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    length = along[-1]
    count = max(2, int(np.ceil(length / FINE)))
    fine = np.linspace(0, length, count + 1)
    places = _interpolated(fine, along, path)
    turns = np.angle(np.exp(1j * np.diff(np.arctan2(*np.diff(places, axis=0).T[::-1]))))
    bend = np.abs(np.pad(turns, 1, mode="edge")) / max(length / count, 1e-9)
    bend = np.convolve(np.pad(bend, SMOOTH // 2, mode="edge"), np.ones(SMOOTH) / SMOOTH, "valid")
    fast = (1 + BEND * bend) ** (-1 / 3)
    from_end = np.minimum(fine, length - fine) / TAPER
    fast = fast * (SLOWEST + (1 - SLOWEST) * np.clip(from_end, 0, 1))
    pace = 2 / (fast[1:] + fast[:-1]) * (length / count) / speed
    moments = np.concatenate([[0], np.cumsum(pace)])
    points = max(1, round(moments[-1]))
    return _interpolated(np.linspace(0, moments[-1], points + 1), moments, places)


def _interpolated(where, given, points):
    return np.column_stack([np.interp(where, given, column) for column in points.T])


class Hand:
    """What a writer's pen does.

    Args:
        writer: `Writer`.
        glyphs: dict: character -> (list of strokes `(points, 2)`, width), em.
    """

    def __init__(self, writer, glyphs):
        self.writer, self.glyphs, self._known = writer, glyphs, {}

    def _letter(self, character):
        """The paced strokes of a letter, one behind the other, where each ends, and the width."""
        if character not in self._known:
            strokes, width = self.glyphs[character]
            shape = np.array([[self.writer.aspect, 0], [self.writer.slant, 1]]) * self.writer.size
            paths = [paced(stroke @ shape, self.writer.speed) for stroke in strokes]
            ends = np.concatenate([[*[0] * (len(path) - 1), 1] for path in paths]) if paths else []
            advance = width * self.writer.aspect * self.writer.size + self.writer.spacing
            self._known[character] = np.vstack([np.empty((0, 2)), *paths]), ends, advance
        return self._known[character]

    def write(self, text, rng):
        """A line as the writer writes it.

        Args:
            text: str of characters that have glyphs.
            rng: `numpy.random.Generator`, of the hand's wobble and tremor.

        Returns:
            Points `(points, 3)` float32, as in `_pen.Line`, and their floor in nats: minus the log
            density of the offsets for one who knows where the hand meant to go.

        Raises:
            ValueError: nothing of the text is drawn.
        """
        writer, x, places, ends = self.writer, 0.0, [], []
        wave, phase = rng.uniform(4, 12), rng.uniform(0, 2 * np.pi)
        wobble = writer.wobble * rng.normal(size=(len(text), 3))
        for character, (up, larger, lean) in zip(text, wobble):
            drawn, lifted, advance = self._letter(character)
            sway = writer.slope * x + writer.drift * np.sin(x / wave * 2 * np.pi + phase)
            shape = np.array([[1, 0], [lean, 1]]) * (1 + larger)
            places.append(drawn @ shape + (x, sway + up))
            ends.append(lifted)
            x += advance
        meant = np.diff(np.concatenate(places), axis=0)
        if not len(meant):
            raise ValueError(f"expected a text that leaves something on paper; got {text!r}")
        noise = rng.normal(size=meant.shape)
        nats = np.log(2 * np.pi * writer.tremor**2) + np.square(noise).sum(axis=1) / 2
        points = np.column_stack([meant + writer.tremor * noise, np.concatenate(ends)[1:]])
        return points.astype("float32"), float(nats.sum())


def hands_of(fonts, split, each, speed, tremor, rng):
    """Hands of chance, named after their fonts and their split, so many of each font.

    Args:
        fonts: dict: name -> glyphs, as in `Hand`.
        split: of the writers.
        each: writers of a font.
        speed, tremor: of a writer of the middle, as in `Writer`.
        rng: `numpy.random.Generator`.
    """
    return [
        Hand(a_writer(rng, f"{font}-{split}-{i}", font, speed, tremor), glyphs)
        for i in range(each)
        for font, glyphs in fonts.items()
    ]


def written(hands, texts, split, rng):
    """Yields the line (`_pen.Line`) of each text, written by the hands in turn."""
    for number, text in enumerate(texts):
        hand = hands[number % len(hands)]
        points, floor = hand.write(text, rng)
        yield _pen.Line(f"{split}-{number:05}", hand.writer.name, split, text, points, floor)
