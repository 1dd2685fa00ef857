"""Dynamic N-grams (Graves, Wayne and Danihelka, 2014, section 4.4)."""

import dataclasses

import numpy as np

from .._difficulty import levels
from .._evaluate import answers
from .._metrics import BitsPerSequence, TargetError
from .._task import SPLITS
from ._memory import NOT_SCORED, MemoryTask, costs, example, lay, probability_of_one

LEVELS = 10


@dataclasses.dataclass(frozen=True)
class Ngrams(MemoryTask):
    """Predict the bits of a source that is another one in every sequence.

    The first `context` bits are fair. Every further one is 1 with a probability that depends on the
    `context` bits before it alone; these `2 ** context` probabilities are drawn from Beta(1/2, 1/2)
    anew for each sequence. The paper's source is a 6-gram, which has a context of 5 bits. An input
    is the bit before the one that is asked for, and 0 at the first step, so that all bits of a
    sequence are scored. The paper's sequences have all the same length, `length`; difficulty is
    the length of shorter ones.

    Inputs: `sequence`, `(batch, length, 1)` float32; `lengths`, `(batch,)` int32. Targets: `bits`,
    `(batch, length, 1)` float32, -1 behind the end. The model output `bits` is the logit of 1, of
    that shape.
    """

    length: int = 200
    context: int = 5
    least = {"context": 0}
    axis = "bits of the sequence"
    channels = outputs = 1

    @property
    def difficulties(self):
        shares = self.length * np.arange(1, LEVELS + 1) // LEVELS
        return tuple(np.unique(shares.clip(1)).tolist())

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        low = self.length if difficulty is None else low
        return self.draw(rng, rng.integers(low, high + 1, size), self.length)

    def draw(self, rng, length, longest=None, table=None):
        """Rows with `length` bits, `(batch,)`, padded to `longest`.

        The lengths may be larger than the task's own. `table`, `(batch, 2 ** context)`, has the
        probabilities of a 1 after each context, whose latest bit is the lowest digit; it is drawn
        where it is None.
        """
        size, longest, contexts = len(length), longest or max(length), 2**self.context
        table = rng.beta(0.5, 0.5, (size, contexts)) if table is None else table
        chance = rng.random((longest, size, 1))
        # What each context would be followed by; the loop then picks.
        follows = (chance < table).reshape(longest, -1)
        fair = chance[..., 0] < 0.5
        rows, seen = contexts * np.arange(size), np.zeros(size, "int64")
        bits = np.empty((longest, size), "int64")
        for time in range(longest):
            bits[time] = fair[time] if time < self.context else follows[time].take(rows + seen)
            seen = (2 * seen + bits[time]) & (contexts - 1)
        bits = bits.T[..., None]
        sequence = lay(bits[:, :-1], np.ones_like(length), length - 1, longest)
        target = lay(bits, np.zeros_like(length), length, longest, NOT_SCORED)
        return {"sequence": sequence, "lengths": length.astype("int32")}, {"bits": target}

    def metrics(self):
        return {"bits": [BitsPerSequence(), TargetError()]}

    def optimum(self, rows=1000, seed=0, split="validation"):
        """Bits per sequence of the optimal predictor, on rows of a split.

        For the paper's sizes 132.9; the paper's own curve is at about 133.
        """
        _, targets = self.dataset(split, rows, 1, seed)[0]
        return float(optimal_costs(targets["bits"][..., 0], self.context).mean())

    def describe(self, inputs, targets, outputs):
        """`...01101 -> 1; answered 1 (0.93), optimal 0.95; 134.20 bits of 200, optimal 132.10`."""
        lines = []
        for row, length in enumerate(inputs["lengths"]):
            bits = inputs["sequence"][row : row + 1, 1:length, 0]
            # The last bit is not in the inputs, and has no part in its own prediction.
            bits = np.concatenate([bits, np.zeros((1, 1))], axis=1)
            truth, mark = "", ""
            if targets:
                bits = targets["bits"][row : row + 1, :length, 0]
                truth = f" -> {bits[0, -1]:.0f}"
                cost = costs(bits, outputs["bits"][row : row + 1, :length, 0])[0]
                best = optimal_costs(bits, self.context)[0]
                mark = f"; {cost:.2f} bits of {length}, optimal {best:.2f}"
            shown = "".join(f"{bit:.0f}" for bit in bits[0, :-1][-20:])
            logit = outputs["bits"][row, length - 1, 0]
            best = optimal(bits, self.context)[0, -1]
            lines.append(
                f"...{shown}{truth}; answered {logit > 0:d} ({probability_of_one(logit):.2f}), "
                f"optimal {best:.2f}{mark}"
            )
        return lines

    @property
    def typical(self):
        return {"length": self.length}

    def report(self, model, rows=1000):
        """`optimum`: the cost of a model and of the optimal predictor, on the same rows."""
        bits, logits = _read_by(model, self, rows, self.length)
        found, best = costs(bits, logits).mean(), optimal_costs(bits, self.context).mean()
        return {
            "optimum": {
                "bits_per_sequence": float(found),
                "optimal_bits_per_sequence": float(best),
                "bits_above_the_optimum": float(found - best),
            }
        }

    def pictures(self, model, rows):
        """`predictions` as in figure 14, and `cost_along_the_sequence`, to twice its length."""
        from ..figures.memory import along, predictions

        _, targets, outputs = example(model, self, length=self.length)
        bits = targets["bits"][:, 0]
        best = optimal(bits[None], self.context)[0]
        figures = {"predictions": predictions(bits, outputs["bits"][:, 0], best)}
        bits, logits = _read_by(model, self, rows, 2 * self.length)
        best = optimal(bits, self.context)
        curves = {
            "model": costs(bits[..., None], logits[..., None], keep=2),
            "optimal": -np.log2(np.where(bits > 0, best, 1 - best)),
        }
        curves = {name: cost.mean(axis=0) for name, cost in curves.items()}
        figures["cost_along_the_sequence"] = along(curves, self.length)
        return figures


def _read_by(model, task, rows, length, batch_size=50, seed=0):
    """Bits of `rows` sequences and a model's logits of them, each `(rows, length)`."""
    rng = np.random.default_rng([seed, SPLITS["validation"]])
    batches = (task.draw(rng, np.full(batch_size, length)) for _ in range(0, rows, batch_size))
    read = [(t["bits"], o["bits"]) for _, t, o in answers(model, batches, rows)]
    return tuple(np.concatenate(part)[..., 0] for part in zip(*read))


def optimal(bits, context=5):
    """The probability of a 1 at each step for one who knows how the source was drawn.

    It is `(N1 + 1/2) / (N1 + N0 + 1)`, where N1 and N0 count the ones and zeros that followed the
    same context earlier in the sequence (section 4.4), and 1/2 before there is a whole context.

    Args:
        bits: `(batch, time)` of 0 and 1, and anything negative behind the end.

    Returns:
        `(batch, time)` float64.
    """
    bits = np.maximum(bits, 0).astype("int64")
    rows, seen = np.arange(len(bits)), np.zeros(len(bits), "int64")
    counts = np.zeros((len(bits), 2**context, 2))
    chance = np.full(bits.shape, 0.5)
    for time, bit in enumerate(bits.T):
        if time >= context:
            zeros, ones = counts[rows, seen].T
            chance[:, time] = (ones + 0.5) / (ones + zeros + 1)
            counts[rows, seen, bit] += 1
        seen = (2 * seen + bit) & (2**context - 1)
    return chance


def optimal_costs(bits, context=5):
    """Bits that each row costs the optimal predictor, `(batch,)`; negative bits are not scored."""
    bits, chance = np.asarray(bits), optimal(bits, context)
    given = np.where(bits > 0, chance, 1 - chance)
    return np.where(bits >= 0, -np.log2(given), 0).sum(axis=1)
