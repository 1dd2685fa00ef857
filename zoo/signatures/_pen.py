"""What a network that writes serves: lines of its own, and what lines of others cost it.

People write strokes as SVG paths.
"""

import functools

import numpy as np

from ...layers import _backend as backend
from ...layers.mixture_density import mixture_components, mixture_density_loss
from ...trainers._writing import runner, write
from ...trainers.data._hand import polylines
from ...trainers.data._pen import strokes_of
from ._checks import at_most, check_lengths, greatest
from ._drawing import picture_of
from ._notation import expected, pad
from ._signature import Signature

MOST_POINTS = 2048
MOST_CHARACTERS = 256
PLACES = ("right", "up", "end")  # so called, points are drawn where answers are shown
WRITTEN = {
    "points": "offsets right and up in the data's unit, and 1 where a stroke ends, (batch, most, "
    "3); the third is -1 behind the last",
    "count": "how many points there are, (batch,)",
}
SCORED = {
    "nats": "minus the log density of each point, its offset normalised, (batch, time)",
    "pi": "weights of the components of the density of each point, and behind the last one of the "
    "point that is to follow, (batch, time + 1, M)",
    "mean": "their means, right and up, in the data's unit, (batch, time + 1, M, 2)",
    "deviation": "their standard deviations, likewise",
    "correlation": "their correlations, (batch, time + 1, M)",
    "end": "the probability that the stroke ends at the point, (batch, time + 1)",
}
EXAMPLE = ("M 0 0 L 0.05 -0.15 L 0.1 -0.3 L 0.15 -0.45 M 0.02 -0.2 L 0.2 -0.2", "M 0 0 L 0.1 0")
WANTED = "strokes as an SVG path, such as 'M 0 0 L 0.1 -0.2 M 0.2 0 L 0.3 0', of two points or more"


_TEXTS, _WHOLE = ((None,), "string"), ((None,), "int32")
_STROKES, _NUMBERS = ((None, None, 3), "float32"), ((None,), "float32")
_SPECS = {
    **{"text": _TEXTS, "prime_text": _TEXTS, "bias": _NUMBERS},
    **{"seed": _WHOLE, "most": _WHOLE, "lengths": _WHOLE},
    **{"prime": _STROKES, "points": _STROKES},
}


def signature(function, sample, outputs):
    """A `Signature` of a function whose inputs are those of the sample."""
    names = {name: PLACES for name in outputs if name == "points"}
    return Signature(function, {name: _SPECS[name] for name in sample}, sample, outputs, names)


def sample_points():
    """Two rows of 6 points, in two strokes, and how many of them are real."""
    points = np.full((2, 6, 3), 0.1, "float32")
    points[..., 2] = np.arange(6) == 3
    return points, np.array([6, 4], "int32")


class Pen:
    """A network that goes on with lines, in the data's unit; for graphs of TensorFlow.

    Args:
        model: as `trainers/_writing.py` takes it.
        task: a `PenTask`.
    """

    def __init__(self, model, task):
        self.run = runner(model)
        self._write = functools.partial(write, self.run)
        self._traced = backend.traced(self._write)
        self.mean, self.deviation = np.array(task.offsets, "float32")
        codes = [ord(character) for character in task.alphabet]
        self._symbols = np.full(max(codes) + 2, task.other, "int32")
        self._symbols[codes] = np.arange(1, len(codes) + 1)

    def symbols(self, text):
        """Symbols of strings, `(batch, characters)`, 0 behind the last, and their lengths."""
        import tensorflow as tf

        ragged = tf.strings.unicode_decode(text, "UTF-8")
        lengths = tf.cast(ragged.row_lengths(), tf.int32)
        lengths = at_most(MOST_CHARACTERS, lengths, "characters")
        codes = tf.minimum(ragged.to_tensor(), len(self._symbols) - 1)
        real = tf.sequence_mask(lengths, tf.shape(codes)[1])
        return tf.where(real, tf.gather(self._symbols, codes), 0), lengths

    def _normalised(self, points, lengths):
        """Points as the network knows them, zeros behind the last, and which are real."""
        import tensorflow as tf

        check_lengths(lengths, points, "points")
        real = tf.sequence_mask(lengths, tf.shape(points)[1])
        moved = (points[..., :2] - self.mean) / self.deviation
        points = tf.concat([moved, points[..., 2:]], axis=-1)
        return tf.where(real[..., None], points, 0.0), real

    def score(self, points, symbols, lengths):
        """`SCORED` of points in the data's unit, and the window's weights."""
        import tensorflow as tf

        points, real = self._normalised(points, lengths)
        mask = tf.pad(real, [[0, 0], [1, 0]], constant_values=True)
        before = tf.pad(points, [[0, 0], [1, 0], [0, 0]])
        parameters, window, _ = self.run(before, symbols, mask, None)
        part = mixture_components(parameters)
        mean, log_sigma = (
            tf.stack([part[f"{name}_x"], part[f"{name}_y"]], axis=-1)
            for name in ("mean", "log_sigma")
        )
        nats = mixture_density_loss(points, parameters[:, :-1])
        return {
            "nats": tf.where(real, nats, 0.0),
            "pi": tf.exp(part["log_pi"]),
            "mean": mean * self.deviation + self.mean,
            "deviation": tf.exp(log_sigma) * self.deviation,
            "correlation": tf.tanh(part["rho_hat"]),
            "end": tf.sigmoid(part["end"]),
        }, window

    def write(self, symbols, characters, bias, seed, most, prime, lengths):
        """`WRITTEN`, the window's weights, and whether lines ended before their limits.

        Arguments are those of `trainers/_writing.py`, but for points in the data's unit.
        """
        import tensorflow as tf

        tf.debugging.Assert(
            tf.reduce_all((most >= 0) & (most <= MOST_POINTS)),
            [f"the limit of points must be 0 to {MOST_POINTS}, got", most],
        )
        tf.debugging.Assert(
            tf.reduce_all((bias >= 0) & (bias < 100)), ["bias must be 0 to 100, got", bias]
        )
        prime, _ = self._normalised(prime, lengths)
        # Of wrong lengths the check above is to be the first to tell.
        lengths = tf.clip_by_value(lengths, 0, tf.shape(prime)[1])
        longest = greatest(most, 0, MOST_POINTS)
        # In a graph also where nobody else makes one: point by point the network is slow.
        go_on = self._traced if tf.executing_eagerly() else self._write
        points, window, ended = go_on(
            symbols, characters, bias, seed, most, longest, prime, lengths
        )
        there = points[..., 2:] >= 0
        moved = tf.where(there, points[..., :2] * self.deviation + self.mean, 0.0)
        found = {
            "points": tf.concat([moved, points[..., 2:]], axis=-1),
            "count": tf.reduce_sum(tf.cast(there[..., 0], tf.int32), axis=1),
        }
        return found, window, ended


def read_paths(paths):
    """SVG paths as points `(batch, longest, 3)`, and how many there are of each."""
    return pad([points_of(path) for path in paths], 0, "float32")


def drawn(outputs, titles, primes=None):
    """Pictures of written lines, each behind what it goes on with."""
    pictures = []
    for row, title in enumerate(titles):
        points = outputs["points"][row, : outputs["count"][row]]
        points = np.concatenate([primes[row], points]) if primes else points
        pictures.append(picture_of(strokes_of(points) if len(points) else [], title))
    return pictures


def show_scores(inputs, outputs):
    """What points cost, and where the pen is expected next."""
    told = []
    for row, count in enumerate(inputs["lengths"]):
        nats, pi = outputs["nats"][row, :count].mean(), outputs["pi"][row, count]
        right, up = pi @ outputs["mean"][row, count]
        told.append(
            f"cost      {nats:.2f} nats a point\n"
            f"next      {right:+.3f} {-up:+.3f}, and the stroke ends with "
            f"{outputs['end'][row, count]:.2f}"
        )
    return told


def points_of(path):
    """Points `(points, 3)` of an SVG path, whose places go right and down; the first is left out.

    Raises `ValueError` where there are not two places or more.
    """
    try:
        strokes = polylines(path)
    except ValueError as error:
        raise expected(WANTED, path) from error
    if sum(map(len, strokes)) < 2:
        raise expected(WANTED, path)
    places = np.concatenate(strokes) * (1, -1)
    ends = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in strokes])
    return np.column_stack([np.diff(places, axis=0), ends[1:]]).astype("float32")
