"""Writers are told apart by how their pens move."""

import numpy as np
import pytest
import scipy.stats
from ponderzoo import trainers
from ponderzoo.trainers import _writers
from ponderzoo.trainers._writers import Writers, traits
from ponderzoo.trainers.data import _hand, stroke_fonts

STYLE = dict.fromkeys(("spacing", "slope", "drift", "wobble"), 0.01)
SLANTS = {"upright": 0.0, "leaning": 0.5, "back": -0.4}


@pytest.fixture(scope="module")
def written():
    """Lines of three hands that differ in their slant alone, and who wrote each."""
    rng = np.random.default_rng(0)
    strokes = [np.array([[0.1, 0], [0.1, 0.7], [0.4, 0.3]]), np.array([[0.0, 0.35], [0.3, 0.35]])]
    glyphs = {"a": (strokes, 0.5), "b": (strokes[:1], 0.4)}
    lines, names = [], []
    for name, slant in SLANTS.items():
        writer = _hand.Writer(
            name, "f", slant=slant, size=1.0, aspect=1.0, speed=0.1, tremor=0.01, **STYLE
        )
        for _ in range(12):
            text = "".join(rng.choice(["a", "b"], 8))
            points, _ = _hand.Hand(writer, glyphs).write(text, rng)
            lines.append(points * np.array([8, 8, 1]))
            names.append(name)
    return lines, names


def test_hands_that_differ_in_slant_alone_are_told_apart(written):
    lines, names = written
    known = Writers(lines[::2], names[::2])
    assert known.names == sorted(SLANTS)
    assert known.error(lines[1::2], names[1::2]) == 0
    assert known.told([lines[1], lines[13]]) == ["upright", "leaning"]
    assert known.error(lines[1:3], ["leaning", "upright"]) == 0.5


def test_scores_are_those_of_gaussians_of_one_covariance(written):
    lines, names = written
    known = Writers(lines, names)
    found = np.array([traits(line) for line in lines])
    means = np.array([found[np.array(names) == name].mean(axis=0) for name in known.names])
    place = np.array([known.names.index(name) for name in names])
    scale = found.std(axis=0) + 1e-6
    spread = np.cov(((found - means[place]) / scale).T, bias=True)
    spread += _writers.SHRINKAGE * spread.trace() / len(spread) * np.eye(len(spread))
    logs = np.array(
        [
            scipy.stats.multivariate_normal(mean / scale, spread).logpdf(found / scale)
            for mean in means
        ]
    ).T
    logs -= scipy.special.logsumexp(logs, axis=1, keepdims=True)
    np.testing.assert_allclose(known.scores(lines), logs, atol=1e-6)


def test_a_line_of_few_points_has_traits_and_one_of_none_is_refused(written):
    lines, names = written
    assert np.isfinite(traits(lines[0][:2])).all()
    known = Writers(lines, names)
    np.testing.assert_allclose(np.exp(known.scores([lines[0][:2]])).sum(), 1)
    with pytest.raises(ValueError, match="two points of a line or more; got 1"):
        known.told([lines[0][:1]])
    with pytest.raises(ValueError, match=r"two writers or more; got \['upright'\]"):
        Writers(lines[:3], names[:3])
    with pytest.raises(ValueError, match="two lines or more of a writer; got one of each"):
        Writers(lines[:2], ["one", "another"])


def test_a_task_knows_its_writers(tmp_path):
    stroke_fonts.sample(tmp_path)
    task = trainers.task("handwriting_prediction", root=str(tmp_path))
    known, error = task.writers()
    assert known.names == sorted({line.writer for line in task.lines("train")})
    assert len(known.names) == 8 and 0 <= error <= 1
