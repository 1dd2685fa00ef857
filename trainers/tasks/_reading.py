"""What tasks share whose models read a text by CTC, at places that nobody tells them."""

import numpy as np

from ...layers import CTCLoss
from .._describe import verdict
from .._edit_metrics import CTCErrorRate, edit_distance

BLANK = 0


class Reading:
    """Loss, metrics and description of an output `text`, the logits of CTC.

    Those of `(batch, time, classes)`, class 0 the blank, sure of it where a row has ended. Tasks
    have `spelled(symbols)`, and say in `counted` what their input `lengths` counts.
    """

    called = {"character_error_rate": "wrong characters"}

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
                lines.append(f"{inputs['lengths'][row]} {self.counted}: {read}")
                continue
            truth = targets["text"][row]
            wrong = int(edit_distance(truth[None], symbols[None])[0])
            told = verdict(wrong, int((truth > BLANK).sum()))
            lines.append(f"{self.spelled(truth)!r} -> {read}{told}")
        return lines
