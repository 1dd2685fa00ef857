"""Recognition of online handwriting by CTC (Graves, Liwicki et al., 2009)."""

import dataclasses

import numpy as np

from .._evaluate import outputs_of
from ..data._pen import strokes_of
from ._pen import NOT_SCORED, PenTask
from ._reading import Reading

SHOWN = 8  # lines in a picture


@dataclasses.dataclass(frozen=True)
class HandwritingRecognition(Reading, PenTask):
    """Read a line from the points of the pen; where its letters are is not told.

    Data, `length` and `buckets` are as in `PenTask`. Of a line that `length` cuts the whole text is
    asked for, so it should cut none.

    Inputs: `points`, `(batch, time, 3)` float32, zeros behind the last; `lengths`, `(batch,)`
    int32, points. Targets: `text`, `(batch, longest)` int32, symbols, -1 behind the last. The model
    output `text` is the logits of CTC, `(batch, time, classes)`, class 0 the blank, of which it is
    sure at padded points.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: there is no such data set.
    """

    length: int = 1000
    captions = {"readings": "Lines of the test split, and over each what was read."}
    counted = "points"

    @property
    def input_spec(self):
        return {"points": ((None, 3), "float32"), "lengths": ((), "int32")}

    @property
    def target_spec(self):
        return {"text": ((None,), "int32")}

    def rows(self, chosen, split="train"):
        """Lines by their numbers, `(batch,)`, padded to the longest of their groups."""
        points, lengths = self.points(chosen, split)
        inputs = {"points": np.where(points[..., 2:] < 0, np.float32(0), points)}
        texts = self.texts(chosen, split, NOT_SCORED)
        return {**inputs, "lengths": lengths}, {"text": texts}

    def figures(self, model):
        """Matplotlib figures by name: `readings`."""
        from ..figures.pen import lines

        some = self.lines("test")[:SHOWN]
        inputs, targets = self.rows(np.arange(len(some)), "test")
        told = self.describe(inputs, targets, outputs_of(model, inputs))
        return {"readings": lines(zip(told, (strokes_of(line.points) for line in some)))}

    def inputs_without_data(self, rng, size):
        """Points of chance, which need no files."""
        points = rng.normal(size=(size, 40, 3)).astype("float32")
        points[..., 2] = points[..., 2] > 1
        return {"points": points, "lengths": np.full(size, 40, "int32")}
