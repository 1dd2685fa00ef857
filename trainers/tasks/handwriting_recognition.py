"""Recognition of online handwriting by CTC (Graves, Liwicki et al., 2009)."""

import dataclasses

import numpy as np

from ...layers import CTCLoss
from .._describe import verdict
from .._edit_metrics import CTCErrorRate, edit_distance
from .._evaluate import outputs_of
from ..data._pen import strokes_of
from ._pen import NOT_SCORED, PenTask

BLANK = 0
SHOWN = 8  # lines in a picture


@dataclasses.dataclass(frozen=True)
class HandwritingRecognition(PenTask):
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
    called = {"character_error_rate": "wrong characters"}

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

    def loss(self):
        return {"text": CTCLoss(blank=BLANK)}

    def metrics(self):
        return {"text": [CTCErrorRate(BLANK, name="character_error_rate")]}

    def read(self, outputs):
        """The symbols `(batch, time)` of the best path, -1 where there is none."""
        logits = np.asarray(outputs["text"], "float32")
        return np.asarray(CTCErrorRate(BLANK).decode(logits))

    def describe(self, inputs, targets, outputs):
        """`'one of the highest' -> read 'one af the highest' (1 of 18 wrong)`."""
        lines = []
        for row, symbols in enumerate(self.read(outputs)):
            read = f"read {self.spelled(symbols)!r}"
            if targets is None:
                lines.append(f"{inputs['lengths'][row]} points: {read}")
                continue
            truth = targets["text"][row]
            wrong = int(edit_distance(truth[None], symbols[None])[0])
            told = verdict(wrong, int((truth > BLANK).sum()))
            lines.append(f"{self.spelled(truth)!r} -> {read}{told}")
        return lines

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
