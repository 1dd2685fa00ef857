"""IAM-OnDB: 12,179 lines of English, written on a whiteboard by 221 people.

The University of Bern hands it out to who registers (Liwicki and Bunke, 2005). Your own copy is
read as it is unpacked: the directories `lineStrokes`, `ascii` and, where writers are to be told
apart, `original`, and the lists of forms of the benchmark task, `trainset.txt`, `testset_v.txt`,
`testset_t.txt` and `testset_f.txt`, all of them in one directory or in directories of their own.

Nothing is repaired: the paper of 2013 fills gaps of the recording and drops steps that are too
long, by a bound that it does not give. Points are in the unit of the board.
"""

import os
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np

from . import _pen, _store

ALPHABET = _pen.ALPHABET
LISTS = {
    "trainset.txt": "train",
    "testset_v.txt": "validation",
    "testset_t.txt": "second validation",
    "testset_f.txt": "test",
}
PROTOCOLS = {
    "benchmark": {"train": ("train",), "validation": ("validation",), "test": ("test",)},
    "graves": {
        "train": ("train", "second validation", "test"),
        "validation": ("validation",),
        "test": ("validation",),
    },
}
FARTHEST = 3  # directories down that parts of a copy are looked for
REMEDY = (
    "IAM-OnDB is handed out to who registers, https://fki.tic.heia-fr.ch/databases/iam-on-line-"
    "handwriting-database, and is not fetched; root= names a directory with your own copy"
)


def path(cache_dir=None):
    """The directory in which a copy is looked for, there or not."""
    return os.path.join(_store.cache(cache_dir), "iam_ondb")


def available(cache_dir=None):
    """Whether a copy, its lines and texts at least, is there."""
    return {"lineStrokes", "ascii"} <= _found(path(cache_dir)).keys()


def fetch(cache_dir=None):
    """The directory of a copy. Raises `RuntimeError` where it is not: there is no download."""
    return _store.own(path(cache_dir), available(cache_dir), REMEDY)


def load(folder, protocol="benchmark"):
    """The lines of a copy of IAM-OnDB, in the order of their names.

    Args:
        folder: the directory in which the parts of the copy are.
        protocol: "benchmark", which leaves the second validation set out, or "graves" for that of
            2013: training has the second validation set and the test set as well, and the first
            validation set stands for the test.

    Returns:
        List of `_pen.Line`; up is positive. The writer is that of the form, or the form where
        nobody tells.

    Raises:
        FileNotFoundError: a part of the copy is missing.
        ValueError: there is no such protocol, or a file is damaged, by its name.

    Warns of forms that have more or fewer lines than texts, and leaves them out.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {[*PROTOCOLS]}; got {protocol!r}")
    found = _found(folder)
    missing = [name for name in ("lineStrokes", "ascii", *LISTS) if name not in found]
    if missing:
        raise FileNotFoundError(f"no {', '.join(missing)} in {folder}; {REMEDY}")
    part_of = {}
    for name, part in LISTS.items():
        with open(found[name], encoding="latin-1") as stream:
            part_of |= {form: part for line in stream for form in line.split()}
    parts = {}
    for form in sorted(part_of):
        parts.setdefault(part_of[form], []).extend(_form(form, found))
    return [
        _pen.Line(f"{split}/{name}", writer, split, text, points)
        for split, wanted in PROTOCOLS[protocol].items()
        for part in wanted
        for name, writer, text, points in parts.get(part, [])
    ]


def _found(folder):
    """The parts of a copy by their names."""
    found, depth = {}, os.fspath(folder).rstrip(os.sep).count(os.sep)
    for place, folders, files in os.walk(folder):
        for name in sorted({*folders, *files} & {"lineStrokes", "ascii", "original", *LISTS}):
            found.setdefault(name, os.path.join(place, name))
        deep = place.count(os.sep) - depth >= FARTHEST
        # What is in a part is no part.
        folders[:] = () if deep else sorted({*folders} - {"lineStrokes", "ascii", "original"})
    return found


def _form(form, found):
    """(name, writer, text, points) of each line of a form."""
    place = os.path.join(form[:3], form[:7])
    strokes = os.path.join(found["lineStrokes"], place)
    names = sorted(os.listdir(strokes)) if os.path.isdir(strokes) else []
    names = [name for name in names if name.startswith(f"{form}-") and name.endswith(".xml")]
    file = os.path.join(found["ascii"], place, f"{form}.txt")
    for missing in [] if names else [strokes], [] if os.path.isfile(file) else [file]:
        if missing:
            raise FileNotFoundError(f"no lines of the form {form} at {missing[0]}; {REMEDY}")
    texts = read_texts(file)
    if len(texts) != len(names):
        warnings.warn(
            f"the form {form} is left out: {file} has {len(texts)} lines, and {strokes} has "
            f"{len(names)} of them",
            stacklevel=3,
        )
        return
    writer = _writer(form, os.path.join(found.get("original", ""), place))
    for name, text in zip(names, texts):
        yield name.removesuffix(".xml"), writer, text, read_points(os.path.join(strokes, name))


def _writer(form, folder):
    """Who wrote a form, as its file in `original` tells; the form itself where it does not."""
    file = os.path.join(folder, f"strokes{form[7:] or 'z'}.xml")
    if os.path.isfile(file):
        for element in _parsed(file).iter():
            if writer := element.get("writerID"):
                return writer
    return form


def read_texts(file):
    """What a file of `ascii` says is written, a list of str, a line each.

    Raises `ValueError` where it has no section "CSR:".
    """
    with open(file, encoding="latin-1") as stream:
        lines = [line.strip() for line in stream]
    if "CSR:" not in lines:
        raise ValueError(f'{file} must have a line "CSR:" and the texts behind it; it has none')
    return [line for line in lines[lines.index("CSR:") + 1 :] if line]


def read_points(file):
    """The points `(points, 3)` float32 of a file of `lineStrokes`, as in `_pen.Line`.

    Raises `ValueError` where it is damaged, or has fewer than two points.
    """
    places, ends = [], []
    for stroke in _parsed(file).iter("Stroke"):
        for point in stroke.iter("Point"):
            try:
                places.append([float(point.get("x")), -float(point.get("y"))])
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{file} must have points with x and y; got {point.attrib}"
                ) from error
            ends.append(0)
        if ends:
            ends[-1] = 1
    if len(places) < 2:
        raise ValueError(f"{file} must have strokes of two points or more; it has {len(places)}")
    return np.column_stack([np.diff(places, axis=0), ends[1:]]).astype("float32")


def _parsed(file):
    try:
        return ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def sample(folder):
    """Writes a copy of the same form for tests: two forms of two lines a list, a writer a form."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(LISTS):
        forms = [f"{'abcd'[number]}0{i}-00{i}z" for i in (1, 2)]
        _store.write("\n".join([*forms, ""]).encode(), os.path.join(folder, name))
        for form in forms:
            place = os.path.join(form[:3], form[:7])
            texts = ["".join(rng.choice([*ALPHABET[1:]], 6)) for _ in range(2)]
            told = "\n".join(["OCR:", "", "??", "", "CSR:", "", *texts, ""])
            _store.write(told.encode(), os.path.join(folder, "ascii", place, f"{form}.txt"))
            head = f'<Form id="{form}" writerID="{10_000 + number}{form[2]}"/>'
            original = f"<WhiteboardCaptureSession><General>{head}</General>"
            file = os.path.join(folder, "original", place, "strokesz.xml")
            _store.write(f"{original}</WhiteboardCaptureSession>".encode(), file)
            for line in (1, 2):
                file = os.path.join(folder, "lineStrokes", place, f"{form}-0{line}.xml")
                _store.write(_session(rng).encode(), file)


def _session(rng):
    """Three strokes of chance."""
    strokes = []
    for start in range(3):
        places = rng.integers(0, 20, (8, 2)).cumsum(axis=0) + np.array([1000 + 200 * start, 2000])
        points = "".join(f'<Point x="{x}" y="{y}" time="0.1"/>' for x, y in places)
        strokes.append(f'<Stroke colour="black" start_time="0" end_time="1">{points}</Stroke>')
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><WhiteboardCaptureSession>'
        '<WhiteboardDescription><SensorLocation corner="top_left"/></WhiteboardDescription>'
        f"<StrokeSet>{''.join(strokes)}</StrokeSet></WhiteboardCaptureSession>"
    )
