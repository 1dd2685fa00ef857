"""Handwriting synthesis (Graves, 2013, section 5)."""

import dataclasses

import numpy as np

from .handwriting_prediction import HandwritingPrediction


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

    def inputs_without_data(self, rng, size):
        """Points and symbols of chance, which need no files."""
        text = rng.integers(1, self.classes, (size, 4), "int32")
        return {**super().inputs_without_data(rng, size), "text": text}
