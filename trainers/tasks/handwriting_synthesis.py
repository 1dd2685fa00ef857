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
        "written": "Lines of the test split as a hand of that split wrote them, and the same texts "
        "as the network writes them, at growing bias.",
        "primed": "Lines of hands of the test split, and what the network wrote behind each of "
        "them at a bias of 0.5.",
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
        """The floor; how the window moves over lines of the test split; how lines end.

        `window_forward` is the share of points at which the likeliest place is not before that of
        the point before. `written` has for each bias the share of lines that end by the window, of
        those that do so within 1.5 times the points of the real line with the same text, and the
        points beside those of the real one, in the mean.
        """
        numbers = range(min(MEASURED, self.examples("test")))
        rows = []
        for bias in BIASES:
            points, ended = self._write(model, numbers, bias)
            real = [len(self.lines("test")[number].points) for number in numbers]
            beside = np.array([len(x) for x in points]) / real
            rows.append(
                {
                    "bias": bias,
                    "ended": float(np.mean(ended)),
                    "in_time": float(np.mean(ended & (beside <= 1.5))),
                    "points": float(np.mean(beside)),
                }
            )
        forward = self._forward(model, numbers)
        return {**super().report(model), **forward, "written": rows}

    def _forward(self, model, numbers):
        inputs, targets = self.rows(numbers, "test")
        outputs = outputs_of(model, inputs)
        if "window" not in outputs:
            return {}
        best = outputs["window"].argmax(axis=-1)
        later = targets["points"][:, 1:, 2] >= 0
        return {"window_forward": float(np.mean((np.diff(best, axis=1) >= 0)[later]))}

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
