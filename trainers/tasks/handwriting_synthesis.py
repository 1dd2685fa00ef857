"""Handwriting synthesis (Graves, 2013, section 5)."""

import dataclasses

import numpy as np

from .._evaluate import outputs_of
from .._writing import written
from ..data._pen import strokes_of
from ._pen import scaled
from .handwriting_prediction import SHOWN, HandwritingPrediction

BIASES = 0.0, 0.5, 1.0
MEASURED = 100  # lines that are written at each of them
PATIENCE = 3  # times the points of the real line, after which writing is given up
SEED = 1


@dataclasses.dataclass(frozen=True)
class HandwritingSynthesis(HandwritingPrediction):
    """Tell where a pen goes next, of which it is known what it writes.

    Data, `length` and `buckets` are as in `PenTask`.

    Inputs: `points` as in `HandwritingPrediction`; `text`, `(batch, characters)` int32, symbols,
    0 behind the last. Targets and the model output `points` are as there. A model may give
    `window`, `(batch, time, characters + 1)` as well, the weights of the characters at each point
    and that of a place behind them.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: there is no such data set.
    """

    captions = {
        **HandwritingPrediction.captions,
        "window": "The weights of the characters while a line of the test split is written, which "
        "stands below.",
    }

    captions |= {
        "points": "What a point costs who knows what the hand meant to draw, and how often the "
        "window does not move back.",
        "endings": "Of 100 lines with texts of the test split: those that end by the window, those "
        "that do so within 1.5 times the points of the real line, and points beside the real "
        "line's.",
        "written": "Lines of the test split as a hand of that split wrote them, and the same texts "
        "as the network writes them, at growing bias.",
        "primed": "Lines of hands of the test split, and what the network wrote behind each of "
        "them at a bias of 0.5.",
    }

    called = {
        **HandwritingPrediction.called,
        "forward_share": "window forward",
        "ended_share": "ended by the window",
        "in_time_share": "in time",
    }

    @property
    def input_spec(self):
        return {**super().input_spec, "text": ((None,), "int32")}

    def rows(self, chosen, split="train"):
        inputs, targets = super().rows(chosen, split)
        return {**inputs, "text": self.texts(chosen, split)}, targets

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of the first row by name: `density`; `window`, where there is one."""
        from ..figures.pen import window

        figures = super().snapshot(inputs, targets, outputs)
        if "window" in outputs:
            points, text = targets["points"][0], self.spelled(inputs["text"][0])
            there = points[:, 2] >= 0
            weights = np.asarray(outputs["window"][0])[there, : len(text) + 1]
            figures["window"] = window(text, weights, self.drawn(points[there]))
        return figures

    def report(self, model):
        """`points` of lines of the test split, and `endings` of lines with their texts.

        Of points: the floor, and the share of points at which the window's likeliest place is not
        before that of the point before. Of endings, for each bias: the share of lines that end by
        the window, of those that do so within 1.5 times the points of the real line, and their
        points beside the real one's, in the mean.
        """
        numbers = range(min(MEASURED, self.examples("test")))
        real = np.array([len(self.lines("test")[number].points) for number in numbers])
        endings = {}
        for bias in BIASES:
            points, ended = self._write(model, numbers, bias)
            beside = np.array([len(row) for row in points]) / real
            endings[f"bias {bias:g}"] = {
                "ended_share": float(np.mean(ended)),
                "in_time_share": float(np.mean(ended & (beside <= 1.5))),
                "length": float(np.mean(beside)),
            }
        found = super().report(model)
        points = {**found.get("points", {}), **self._forward(model, numbers)}
        return {**found, "points": points, "endings": endings}

    def _forward(self, model, numbers):
        inputs, targets = self.rows(numbers, "test")
        outputs = outputs_of(model, inputs)
        if "window" not in outputs:
            return {}
        best = outputs["window"].argmax(axis=-1)
        later = targets["points"][:, 1:, 2] >= 0
        return {"forward_share": float(np.mean((np.diff(best, axis=1) >= 0)[later]))}

    def _write(self, model, numbers, bias, primes=None):
        """Normalised points of lines of the test split in the network's own hand."""
        some = [self.lines("test")[number] for number in numbers]
        texts = [self.symbols(line.text) for line in some]
        most = [PATIENCE * len(line.points) for line in some]
        if primes:
            texts = [
                np.concatenate([self.symbols(f"{before.text} "), text])
                for (before, _), text in zip(primes, texts)
            ]
        given = [points for _, points in primes] if primes else None
        return written(model, texts, bias, SEED, most, given)

    def figures(self, model):
        """Matplotlib figures by name; those of `captions` that suit the model."""
        from ..figures.pen import beside

        numbers = range(min(SHOWN, self.examples("test")))
        columns = {"real": [strokes_of(self.lines("test")[number].points) for number in numbers]}
        for bias in BIASES:
            points, _ = self._write(model, numbers, bias)
            columns[f"bias {bias:g}"] = [self.drawn(row) for row in points]
        return {**super().figures(model), "written": beside(columns), "primed": self._primed(model)}

    def _primed(self, model):
        from ..figures.pen import beside

        hands = {line.writer: line for line in self.lines("test")}
        lines = [*hands.values()][:SHOWN]
        primes = [(line, scaled(line.points, self.offsets)) for line in lines]
        points, _ = self._write(model, range(len(lines)), 0.5, primes)
        for row in points:
            row[:1, :2] = -self.offsets[0] / self.offsets[1]  # the way there is not drawn
        return beside(
            {
                "hand": [strokes_of(line.points) for line in lines],
                "written behind it": [self.drawn(row) for row in points],
            }
        )

    def inputs_without_data(self, rng, size):
        """Points and symbols of chance, which need no files."""
        text = rng.integers(1, self.classes, (size, 4), "int32")
        return {**super().inputs_without_data(rng, size), "text": text}
