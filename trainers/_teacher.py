"""A teacher, who chooses what is learnt next by how much was learnt of late (Graves et al., 2017).

It needs no model and no task, and nothing but numpy: whoever has a loop asks it for a lesson, and
tells it what came of that.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._syllabus import Syllabus

CHOOSING, KEEPING = range(2)  # what chance is for
TINY = np.finfo("float64").tiny


class Exp3S:
    """A bandit whose best arm may change: Exp3.S (Auer et al., 2002), with weights as logarithms.

        probability_i = (1 - exploration) softmax(log_weights)_i + exploration / arms
        gain_i = ([i was pulled] reward + bias) / probability_i
        log_weights_i <- log((1 - 1/t) exp(log_weights_i + rate gain_i)
                             + 1/t mean over j != i of exp(log_weights_j + rate gain_j))

    at update t, from 1 on. What leaks from arm to arm lets one come back that was bad.

    Args:
        arms: how many there are, 2 or more.
        rate: eta, of the weights.
        exploration: epsilon, the share of pulls that all arms have alike.
        bias: beta, added to the reward of every arm.

    Raises:
        ValueError: there are less than 2 arms, or a number is out of range.

    Attributes:
        log_weights: `(arms,)` float64. As only their differences count, the largest is 0.
        updates: how many there were.

    Reference:
        Graves, Bellemare, Menick, Munos and Kavukcuoglu, "Automated Curriculum Learning for Neural
        Networks", 2017, arXiv:1704.03003, equations 5 to 8.
    """

    def __init__(self, arms, rate=1e-3, exploration=0.05, bias=0.0):
        if arms < 2:
            raise ValueError(f"there must be 2 arms or more to choose from, got {arms}")
        if not 0 < rate < math.inf:
            raise ValueError(f"rate must be more than 0, got {rate}")
        if not 0 <= exploration <= 1:
            raise ValueError(f"exploration must be from 0 to 1, got {exploration}")
        if not 0 <= bias < math.inf:
            raise ValueError(f"bias must be 0 or more, got {bias}")
        self.rate, self.exploration, self.bias = rate, exploration, bias
        self.log_weights, self.updates = np.zeros(arms), 0

    @property
    def probabilities(self):
        """Of the arms, `(arms,)`."""
        weights = np.exp(self.log_weights)
        share = weights / weights.sum()
        return (1 - self.exploration) * share + self.exploration / len(share)

    def update(self, arm, reward):
        """Takes the reward, from -1 to 1, of the arm that was pulled by the probabilities."""
        gain = np.full(len(self.log_weights), self.bias)
        gain[arm] += reward
        grown = self.log_weights + self.rate * gain / np.maximum(self.probabilities, TINY)
        weights = np.exp(grown - grown.max())
        self.updates += 1
        leak = 1 / self.updates
        others = (weights.sum() - weights) / (len(weights) - 1)
        mixed = np.log(np.maximum((1 - leak) * weights + leak * others, TINY))
        self.log_weights = mixed - mixed.max()


class Reservoir:
    """A uniform sample of all numbers that were ever added (Vitter, 1985, algorithm R).

    Args:
        capacity: numbers that are kept.

    Attributes:
        kept: the sample, in ascending order.
        seen: numbers that were added.
    """

    def __init__(self, capacity):
        self.capacity, self.kept, self.seen = capacity, [], 0

    def add(self, value, rng):
        """Takes a number, in the place of another one or of none, as `rng` has it."""
        self.seen += 1
        if len(self.kept) == self.capacity:
            place = int(rng.integers(self.seen))
            if place >= self.capacity:
                return
            # In whatever order they stand, each of them is as likely to go.
            del self.kept[place]
        bisect.insort(self.kept, value)

    def quantile(self, share):
        """The number below which such a share of the sample lies, as `numpy.quantile` has it."""
        place = share * (len(self.kept) - 1)
        low = math.floor(place)
        high = min(low + 1, len(self.kept) - 1)
        return self.kept[low] + (place - low) * (self.kept[high] - self.kept[low])


class Teacher(Syllabus):
    """Chooses lessons by the progress of a learner, as a bandit that is paid for it.

    Progress by its cost is paid by its place in all that there was before: -1 below the quantile
    `low`, 1 from the quantile `high` on, and along a line in between. So only the order of progress
    counts, whatever its unit, and a signal that is never positive still tells lessons apart.

    All chance depends on the seed and on how many lessons were reported, so `next` gives the same
    lesson until it is reported. `state`, plain types, is all that it takes to go on.

    Args:
        lessons: what there is to choose from: a sequence, or a dict by what they are called.
        rate: eta of `Exp3S`. The paper's 0.001 suits 100,000 lessons and more, 0.01 a tenth of it.
        exploration: epsilon of `Exp3S`.
        bias: beta of `Exp3S`.
        low, high: quantiles that are paid -1 and 1.
        reservoir: how many numbers of the past are kept, for the quantiles.
        seed: of the lessons.

    Raises:
        ValueError: there are less than 2 lessons, or a number is out of range.

    Example:
        >>> teacher = Teacher(["easy", "hard"], rate=0.01, seed=1)
        >>> lesson = teacher.next()
        >>> teacher.report(before=2.5, after=2.25, cost=10)

    Reference:
        Graves, Bellemare, Menick, Munos and Kavukcuoglu, "Automated Curriculum Learning for Neural
        Networks", 2017, arXiv:1704.03003, Algorithm 1 and section 3.
    """

    def __init__(
        self,
        lessons: Sequence[Any] | Mapping[str, Any],
        rate: float = 1e-3,
        exploration: float = 0.05,
        bias: float = 0.0,
        low: float = 0.2,
        high: float = 0.8,
        reservoir: int = 10_000,
        seed: int = 0,
    ) -> None:
        if not 0 <= low < high <= 1:
            raise ValueError(f"quantiles must be 0 <= low < high <= 1, got {low} and {high}")
        if reservoir < 2:
            raise ValueError(f"reservoir must be 2 or more, got {reservoir}")
        named = lessons if isinstance(lessons, Mapping) else {str(x): x for x in lessons}
        if len(named) < len(lessons):
            raise ValueError(f"lessons must differ in what they are called, got {lessons}")
        self.names, self.lessons = list(named), list(named.values())
        self.bandit = Exp3S(len(named), rate, exploration, bias)
        self.past = Reservoir(reservoir)
        self.low, self.high, self.seed = low, high, seed

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands: `updates`, `log_weights`, `kept` and `seen`, plain types."""
        return {
            "updates": self.bandit.updates,
            "log_weights": self.bandit.log_weights.tolist(),
            "kept": list(self.past.kept),
            "seen": self.past.seen,
        }

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        if len(state["log_weights"]) != len(self.lessons):
            raise ValueError(
                f"the state is that of {len(state['log_weights'])} lessons, "
                f"the teacher has {len(self.lessons)}"
            )
        self.bandit.updates = state["updates"]
        self.bandit.log_weights = np.array(state["log_weights"], "float64")
        self.past.kept, self.past.seen = list(state["kept"]), state["seen"]

    @property
    def probabilities(self) -> np.ndarray:
        """Of the lessons, `(lessons,)`."""
        return self.bandit.probabilities

    @property
    def arm(self) -> int:
        """The number of the lesson that is on."""
        total = self.probabilities.cumsum()
        return int(np.searchsorted(total, self._chance(CHOOSING).uniform(0, total[-1]), "right"))

    def next(self, update: int | None = None) -> Any:
        """The lesson that is on, until it is reported; `update` does not count."""
        return self.lessons[self.arm]

    def report(self, before: float, after: float, cost: float = 1.0) -> float:
        """Takes what came of the lesson that is on, after which another one is.

        Args:
            before, after: what progress lowers, before and after the lesson: losses on the same
                batch for the prediction gain. Another signal may be `before`, with 0 for `after`.
            cost: what the lesson took, in any unit, as the steps of its longest sequence.

        Returns:
            The reward, from -1 to 1.

        Raises:
            ValueError: progress is no number, or the cost is not more than 0.
        """
        progress = (float(before) - float(after)) / cost if cost > 0 else math.nan
        if not math.isfinite(progress):
            raise ValueError(f"no progress can be told from {before} to {after} at cost {cost}")
        reward, arm = self.reward(progress), self.arm
        self.past.add(progress, self._chance(KEEPING))
        self.bandit.update(arm, reward)
        return reward

    def reward(self, progress):
        """What such progress is paid, from -1 to 1.

        0 while there is nothing to compare it with, or where both quantiles are that progress.
        """
        if not self.past.kept:
            return 0.0
        low, high = self.past.quantile(self.low), self.past.quantile(self.high)
        if low == high:
            return float(np.sign(progress - low))
        return min(max(2 * (progress - low) / (high - low) - 1, -1.0), 1.0)

    def told(self):
        """`lessons_chosen_from`, the exponential of the entropy of the probabilities."""
        chances = np.maximum(self.probabilities, TINY)
        return {"lessons_chosen_from": float(np.exp(-(chances * np.log(chances)).sum()))}

    def _chance(self, what):
        return np.random.default_rng([self.seed, what, self.bandit.updates])
