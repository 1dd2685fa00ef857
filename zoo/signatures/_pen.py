"""What a network that writes serves: lines of its own, and what lines of others cost it.

People write strokes as SVG paths.
"""

import numpy as np

from ...layers import _chance
from ...layers.mixture_density import mixture_components, mixture_density_loss, mixture_sample
from ...trainers.data._hand import polylines
from ...trainers.data._pen import strokes_of
from ._checks import check_lengths
from ._drawing import picture_of
from ._notation import expected, pad

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


class Pen:
    """A network that goes on with lines.

    Args:
        task: a `PenTask`.
        run: `run(points (batch, time, 3), symbols (batch, characters), mask (batch, time) or None,
            list of states or None)` gives the parameters of the densities of the next points
            `(batch, time, 6 * M + 1)`, the window's weights `(batch, time, characters + 1)`, and
            the list of states behind the last real point.
    """

    def __init__(self, task, run):
        self.run = run
        self.mean, self.deviation = np.array(task.offsets, "float32")
        codes = [ord(character) for character in task.alphabet]
        self._symbols = np.full(max(codes) + 2, task.other, "int32")
        self._symbols[codes] = np.arange(1, len(codes) + 1)

    def symbols(self, text):
        """Symbols of strings, `(batch, characters)`, 0 behind the last, and their lengths."""
        import tensorflow as tf

        ragged = tf.strings.unicode_decode(text, "UTF-8")
        lengths = tf.cast(ragged.row_lengths(), tf.int32)
        tf.debugging.Assert(
            tf.reduce_all(lengths <= MOST_CHARACTERS),
            [f"a text must have at most {MOST_CHARACTERS} characters, got", lengths],
        )
        codes = tf.minimum(ragged.to_tensor(), len(self._symbols) - 1)
        real = tf.sequence_mask(lengths, tf.shape(codes)[1])
        return tf.where(real, tf.gather(self._symbols, codes), 0), lengths

    def _read(self, points, lengths):
        """Normalised points behind the zeros that all lines begin with, and which are real."""
        import tensorflow as tf

        check_lengths(lengths, points, "points")
        real = tf.sequence_mask(lengths, tf.shape(points)[1])
        moved = (points[..., :2] - self.mean) / self.deviation
        points = tf.where(real[..., None], tf.concat([moved, points[..., 2:]], axis=-1), 0.0)
        return tf.pad(points, [[0, 0], [1, 0], [0, 0]]), real

    def score(self, points, symbols, lengths):
        """`SCORED` of points in the data's unit, and the window's weights."""
        import tensorflow as tf

        points, real = self._read(points, lengths)
        mask = tf.pad(real, [[0, 0], [1, 0]], constant_values=True)
        parameters, window, _ = self.run(points, symbols, mask, None)
        part = mixture_components(parameters)
        mean, log_sigma = (
            tf.stack([part[f"{name}_x"], part[f"{name}_y"]], axis=-1)
            for name in ("mean", "log_sigma")
        )
        nats = mixture_density_loss(points[:, 1:], parameters[:, :-1])
        return {
            "nats": tf.where(real, nats, 0.0),
            "pi": tf.exp(part["log_pi"]),
            "mean": mean * self.deviation + self.mean,
            "deviation": tf.exp(log_sigma) * self.deviation,
            "correlation": tf.tanh(part["rho_hat"]),
            "end": tf.sigmoid(part["end"]),
        }, window

    def write(self, symbols, characters, bias, seed, most, prime, lengths):
        """Goes on with lines, in the data's unit (Graves, 2013, sections 5.3 to 5.6).

        A line ends where the window weighs the place behind the text more than any in it.

        Args:
            symbols, characters: as `symbols` gives them; no text, and no such end, where -1.
            bias, seed, most: `(batch,)`: b, the chance, and the limit of points of each line.
            prime: `(batch, time, 3)`, the points to go on with, and `lengths` how many are real.

        Returns:
            `WRITTEN`; the window's weights when each point was drawn, `(batch, longest, characters
            + 1)`; and whether each line ended before its limit, `(batch,)`.
        """
        import tensorflow as tf

        tf.debugging.Assert(
            tf.reduce_all((most >= 0) & (most <= MOST_POINTS)),
            [f"the limit of points must be 0 to {MOST_POINTS}, got", most],
        )
        tf.debugging.Assert(
            tf.reduce_all((bias >= 0) & (bias < 100)), ["bias must be 0 to 100, got", bias]
        )
        read, real = self._read(prime, lengths)
        mask = tf.pad(real, [[0, 0], [1, 0]], constant_values=True)
        parameters, window, states = self.run(read, symbols, mask, None)
        parameters, window = (tf.gather(x, lengths, batch_dims=1) for x in (parameters, window))
        of_choice, of_place = _chance.fold(seed, "choice"), _chance.fold(seed, "place")
        places = tf.range(tf.shape(window)[1])[None]
        within, behind = (compare(places, characters[:, None]) for compare in (tf.less, tf.equal))

        def leaves(window):
            """Whether the window is behind the text."""
            most_within = tf.reduce_max(tf.where(within, window, -1.0), axis=1)
            return tf.reduce_max(tf.where(behind, window, -1.0), axis=1) > most_within

        def lives(i, ended):
            return ~ended & (i < most)

        def body(i, parameters, window, ended, states, drawn, seen):
            uniforms = _chance.uniform(of_choice, (2,), 2 * i, "float32")
            normals = _chance.normal(of_place, (2,), 2 * i, "float32")
            point = mixture_sample(parameters, uniforms, normals, bias)
            live = lives(i, ended)
            drawn = drawn.write(i, tf.where(live[:, None], point, [0.0, 0.0, -1.0]))
            seen = seen.write(i, tf.where(live[:, None], window, 0.0))
            parameters, window, states = self.run(point[:, None], symbols, None, states)
            ended |= live & leaves(window[:, 0])
            return i + 1, parameters[:, 0], window[:, 0], ended, states, drawn, seen

        arrays = [
            tf.TensorArray(tf.float32, 1, dynamic_size=True, element_shape=(None, size))
            for size in (3, None)
        ]
        # A line of no points leaves something to stack all the same.
        arrays = [
            array.write(0, tf.zeros_like(x)) for array, x in zip(arrays, (read[:, 0], window))
        ]
        start = 0, parameters, window, leaves(window), states, *arrays
        count, _, _, ended, _, drawn, seen = tf.while_loop(
            lambda i, _, __, ended, *___: tf.reduce_any(lives(i, ended)), body, start
        )
        drawn, seen = (tf.transpose(x.stack(), [1, 0, 2])[:, :count] for x in (drawn, seen))
        moved = drawn[..., :2] * self.deviation + self.mean
        there = drawn[..., 2:] >= 0
        found = {
            "points": tf.concat([tf.where(there, moved, 0.0), drawn[..., 2:]], axis=-1),
            "count": tf.reduce_sum(tf.cast(there[..., 0], tf.int32), axis=1),
        }
        return found, seen, ended


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
    except (ValueError, IndexError) as error:
        raise expected(WANTED, path) from error
    if sum(map(len, strokes)) < 2:
        raise expected(WANTED, path)
    places = np.concatenate(strokes) * (1, -1)
    ends = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in strokes])
    return np.column_stack([np.diff(places, axis=0), ends[1:]]).astype("float32")
