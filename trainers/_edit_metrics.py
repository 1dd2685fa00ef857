"""Error rates of label sequences by edit distance, within the graph."""

from keras import ops

from ..layers._labels import best_path
from ._metrics import Fraction, serializable


@serializable
class EditErrorRate(Fraction):
    """Insertions, deletions and substitutions of all rows, over the length of all references.

    A rate of phonemes, characters or words, by what the labels are; it may exceed 1. Labels below 0
    are none, wherever they stand. The numbers of two batches add up, so this is the rate of a whole
    corpus, not the average of the rates of its rows.

    Args:
        fold: optional sequence, for each label the class by which it is scored, -1 where it is not
            scored at all; applied to references and hypotheses.
        name: of the metric.

    `update_state(y_true, y_pred, sample_weight)` takes references `(batch, labels)`, hypotheses
    `(batch, labels)`, and None or `(batch,)`.
    """

    def __init__(self, fold=None, name="edit_error_rate"):
        super().__init__(name)
        self.fold = None if fold is None else tuple(int(label) for label in fold)

    def decode(self, y_pred):
        """`(batch, labels)` integers of what a model returned."""
        return ops.cast(y_pred, "int32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        reference = self._folded(ops.cast(y_true, "int32"))
        hypothesis = self._folded(self.decode(y_pred))
        self.add(
            edit_distance(reference, hypothesis),
            ops.sum(ops.cast(reference >= 0, "int32"), axis=1),
            sample_weight,
        )

    def _folded(self, labels):
        if self.fold is None:
            return labels
        classes = ops.take(ops.array(self.fold, "int32"), ops.maximum(labels, 0))
        return ops.where(labels >= 0, classes, -1)

    def get_config(self):
        return {**super().get_config(), "fold": self.fold}


@serializable
class CTCErrorRate(EditErrorRate):
    """`EditErrorRate` of the best path of a CTC network (Graves et al., 2006, section 3.2).

    The most probable label of each frame, repeats merged, then blanks left out, then `fold`: what
    folding makes alike is not merged.

    Args:
        blank: the number of the blank label; a reference uses the numbers of the others.
        fold: as in `EditErrorRate`, with an entry for the blank, which is never used.
        name: of the metric.

    `update_state(y_true, y_pred, sample_weight)` takes references `(batch, labels)`, logits or
    probabilities `(batch, frames, labels)`, and None or `(batch,)`. Padded frames must be sure of
    the blank.
    """

    def __init__(self, blank=0, fold=None, name="ctc_error_rate"):
        super().__init__(fold, name)
        self.blank = int(blank)

    def decode(self, y_pred):
        return best_path(y_pred, self.blank)

    def get_config(self):
        return {**super().get_config(), "blank": self.blank}


def edit_distance(reference, hypothesis):
    """How many insertions, deletions and substitutions make one sequence the other.

    Args:
        reference: `(batch, labels)` int32; labels below 0 are none, wherever they stand.
        hypothesis: `(batch, labels)` int32, in the same way.

    Returns:
        `(batch,)` int32.
    """
    count = ops.shape(reference)[1]
    present = hypothesis >= 0
    inserted = ops.cumsum(ops.cast(present, "int32"), axis=1)
    inserted = ops.pad(inserted, [[0, 0], [1, 0]])

    def further(place, distance):
        """One more label of the reference, against all beginnings of the hypothesis."""
        label = ops.take(reference, place, axis=1)[:, None]
        deleted = distance + ops.cast(label >= 0, "int32")
        replaced = distance[:, :-1] + ops.cast(hypothesis != label, "int32")
        both = ops.logical_and(present, label >= 0)
        best = ops.where(both, ops.minimum(replaced, deleted[:, 1:]), deleted[:, 1:])
        best = ops.concatenate([deleted[:, :1], best], axis=1)
        # Labels inserted from v up to u cost inserted[u] - inserted[v].
        return place + 1, _running_minimum(best - inserted) + inserted

    _, distance = ops.while_loop(lambda place, _: place < count, further, (0, inserted))
    return distance[:, -1]


def _running_minimum(values):
    length, reach = ops.shape(values)[1], 1
    if isinstance(length, int):
        while reach < length:
            rest = ops.minimum(values[:, reach:], values[:, :-reach])
            values, reach = ops.concatenate([values[:, :reach], rest], axis=1), 2 * reach
        return values
    places = ops.arange(length, dtype="int32")

    def further(reach, values):
        shifted = ops.take(values, ops.maximum(places - reach, 0), axis=1)
        return 2 * reach, ops.minimum(values, shifted)

    return ops.while_loop(lambda reach, _: reach < length, further, (reach, values))[1]
