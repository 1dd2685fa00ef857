"""Online handwriting: what all such data sets hand on, and the file of those that are made."""

import dataclasses
import hashlib
import io
import json
import math

import numpy as np

from . import _store

SPLITS = "train", "validation", "test"
FIELDS = "name", "writer", "split", "text", "floor", "count", "offsets", "ends"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = f" {LETTERS}{LETTERS.upper()}0123456789.,;:'\"-()?!$/"
"""The characters of English that are symbols of their own; all others are one."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of handwriting with its text.

    Attributes:
        name: unique in its data set.
        writer: who wrote it, or which made hand.
        split: "train", "validation" or "test".
        text: what is written, where that is known.
        points: `(points, 3)` float32: how far the pen went to the right and up from the point
            before, in the data set's own unit, and 1 where it is lifted behind the point, else 0.
        floor: what the line costs in nats who knows the density that its points were drawn from,
            in the data set's own unit; not a number where nobody knows it.
    """

    name: str
    writer: str
    split: str
    text: str
    points: np.ndarray
    floor: float = math.nan


def check(line):
    """Raises `ValueError` for a line whose parts are not what they should be, by its name."""
    points = np.asarray(line.points)
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1:] != (3,):
        problem = f"points `(points, 3)` of float32, got {points.shape} of {points.dtype}"
    elif not len(points) or not np.isfinite(points).all():
        problem = "one point or more, all of them finite"
    elif not np.isin(points[:, 2], (0, 1)).all():
        problem = f"an end of stroke of 0 or 1, got {np.setdiff1d(points[:, 2], (0, 1))[:5]}"
    elif line.split not in SPLITS:
        problem = f"a split among {SPLITS}, got {line.split!r}"
    else:
        return
    raise ValueError(f"the line {line.name!r} needs {problem}")


def pack(lines, edition=1):
    """The bytes of one `.npz` file that holds all lines; the same lines give the same bytes.

    `edition` is how often the data set has been made differently, and 1 (`_store.edition`).
    Raises `ValueError` for a line that is none, and for a name that comes twice.
    """
    lines = list(lines)
    for line in lines:
        check(line)
    names = [line.name for line in lines]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names of lines must be unique, got {twice!r} twice")
    points = np.concatenate([np.empty((0, 3), "float32"), *(line.points for line in lines)])
    stream = io.BytesIO()
    np.savez(
        stream,
        edition=np.array(edition),
        **{key: np.array([getattr(x, key) for x in lines], str) for key in FIELDS[:4]},
        floor=np.array([line.floor for line in lines], float),
        count=np.array([len(line.points) for line in lines], "int64"),
        offsets=points[:, :2],
        ends=points[:, 2].astype(bool),
    )
    return stream.getvalue()


def load(path, name, edition):
    """The lines in a file that `pack` made, or in `<name>.npz` in a directory.

    Raises `FileNotFoundError` where there is none, and says how to get the data set `name`, and
    `ValueError` where the file is another, of another edition, or damaged.
    """
    with _store.made(path, name, edition, "lines of a pen") as file:
        found = {key: file[key] for key in FIELDS}
        points = np.column_stack([found["offsets"], found["ends"]]).astype("float32")
        if len(points) != found["count"].sum():
            raise ValueError(f"it tells of {found['count'].sum()} points and has {len(points)}")
    points.flags.writeable = False
    split = np.split(points, np.cumsum(found["count"])[:-1])
    columns = [found[key].tolist() for key in FIELDS[:4]]
    return [Line(*row) for row in zip(*columns, split, found["floor"].tolist())]


def digest(lines):
    """Sha256 of names, writers, splits and texts, and of points to four decimal places."""
    sha256 = hashlib.sha256()
    for line in lines:
        sha256.update(json.dumps([line.name, line.writer, line.split, line.text]).encode())
        sha256.update(np.rint(line.points * 10_000).astype("<i8").tobytes())
    return sha256.hexdigest()


def offsets_of(lines):
    """Mean and standard deviation of how far the pen goes, `(2,)` float64 each.

    Raises `ValueError` where there is no line, or a pen that never moves in one direction.
    """
    if not len(lines):
        raise ValueError("expected a line of training or more; got none")
    offsets = np.concatenate([line.points[:, :2] for line in lines]).astype(float)
    mean, deviation = offsets.mean(axis=0), offsets.std(axis=0)
    if not deviation.all():
        raise ValueError(f"expected a pen that moves both ways; got a deviation of {deviation}")
    return mean, deviation


def strokes_of(points):
    """The strokes of points `(points, 3)`, each `(points, 2)` of places; the pen starts at 0, 0.

    A stroke is what is drawn without lifting the pen. The first begins where the pen starts.
    """
    points = np.asarray(points, float)
    places = np.vstack([np.zeros((1, 2)), np.cumsum(points[:, :2], axis=0)])
    lifted = 1 + np.flatnonzero(points[:-1, 2] > 0.5) if len(points) else []
    return np.split(places, np.add(lifted, 1))
