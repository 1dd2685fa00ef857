"""What the tasks on symbols share (Kalchbrenner, Danihelka and Graves, 2015, section 5)."""

import numpy as np

from .._describe import verdict
from .._task import Task

NOT_SCORED = -1


class SymbolTask(Task):
    """Symbols are read one at a step, and an answer is written one symbol at a step.

    A delimiter stands before, between and behind the parts that are read, and fills up the row. The
    answer begins at the step of the delimiter behind the last part and ends with a delimiter of its
    own, which is scored, too.

    Inputs: `sequence`, `(batch, steps)` int32, 0 to `classes - 1`, the delimiter the highest.
    Targets: `answer` names them, `(batch, steps)` int32, -1 before the answer and behind its end.
    The model output of that name is logits, `(batch, steps, classes)`.

    Subclasses provide
      `answer`       name of the target.
      `classes`      how many symbols there are, with the delimiter.
      `steps_at(level)`    length of a row of a difficulty.
      `difficulties`, `axis`, `batch`.
      `gap`          what stands between two symbols where they are written.
    """

    answer = "answer"
    gap = ""

    @property
    def classes(self):
        """How many symbols there are, with the delimiter."""
        raise NotImplementedError

    def steps_at(self, level):
        """Length of a row of a difficulty."""
        raise NotImplementedError

    @property
    def steps(self):
        """Length of a row of the task itself."""
        return self.steps_at(self.difficulties[-1])

    @property
    def delimiter(self):
        """The number of the delimiter."""
        return self.classes - 1

    @property
    def input_spec(self):
        return {"sequence": ((None,), "int32")}

    @property
    def target_spec(self):
        return {self.answer: ((None,), "int32")}

    def lay(self, level, parts, answer):
        """`(inputs, targets)` of the parts that are read and of the answer.

        Args:
            level: the highest difficulty among the rows.
            parts: list of pairs: symbols, `(batch, most)`, and how many of them count, `(batch,)`.
            answer: such a pair.
        """
        shape = (len(answer[1]), self.steps_at(level))
        sequence = np.full(shape, self.delimiter, "int32")
        target = np.full(shape, NOT_SCORED, "int32")
        step = np.ones(shape[0], "int64")
        for symbols, count in parts:
            _put(sequence, symbols, step, count)
            step = step + count + 1
        symbols, count = answer
        _put(target, symbols, step - 1, count)
        target[np.arange(shape[0]), step - 1 + count] = self.delimiter
        return {"sequence": sequence}, {self.answer: target}

    def spelled(self, symbols):
        """The symbols before the first delimiter, as people write them."""
        kept = np.cumsum(symbols == self.delimiter) == 0
        return self.gap.join(map(str, symbols[kept])) or "nothing"

    def told(self, symbols):
        """What was read, with the delimiters between its parts."""
        return self.spelled(symbols)

    def describe(self, inputs, targets, outputs):
        """`12 63 5 -> 12 63 5; answered 12 63 6 (1 of 4 wrong)`."""
        lines = []
        for row, sequence in enumerate(inputs["sequence"]):
            first = 1 + np.flatnonzero(sequence != self.delimiter)[-1]
            answer = outputs[self.answer][row, first:].argmax(axis=-1)
            truth, mark = "", ""
            if targets:
                right = targets[self.answer][row, first:]
                scored = right >= 0
                truth = f" -> {self.spelled(right[scored])}"
                mark = verdict((answer != right)[scored].sum(), scored.sum())
            told = self.told(sequence[1:first])
            lines.append(f"{told}{truth}; answered {self.spelled(answer)}{mark}")
        return lines


def _put(rows, symbols, first, count):
    """Writes the first `count` symbols of every row from the step `first` on, in place."""
    index = np.arange(rows.shape[1]) - first[:, None]
    there = (index >= 0) & (index < count[:, None])
    taken = np.take_along_axis(symbols, index.clip(0, symbols.shape[1] - 1), axis=1)
    np.copyto(rows, taken, where=there, casting="same_kind")
