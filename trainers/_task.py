"""The contract between data and models: what every task offers, and knows no model for."""

import dataclasses

import keras
import numpy as np

SPLITS = {"train": 0, "validation": 1, "test": 2}


@dataclasses.dataclass(frozen=True)
class Task:
    """A source of examples with the loss, the metrics and the pictures that belong to it.

    A task is a frozen dataclass: its fields are its whole configuration, plain types only. The
        registry
    finds it as the one public subclass in `trainers/<name>.py`, so a task's name is its file's
    name.

    Subclasses provide
      `input_spec`    dict: input name -> (shape without the batch axis, dtype); None marks time.
      `target_spec`   the same for the targets; each key is the model output that it scores.
      `axis`          what difficulty counts, in words ("bits set").
      `difficulties`  tuple of ints, easy to hard, that sweeps and curricula walk along.
      `evaluation_batch`  rows that are measured at once.
      `batch(rng, size, difficulty=None)`, `loss`, `metrics`, `describe`; and optionally
      `figures(model)`, `report(model)` (further numbers for the card) and
      `inputs_without_data(rng, size)`.
    """

    @property
    def name(self):
        return type(self).__module__.rpartition(".")[2]

    @property
    def input_spec(self):
        raise NotImplementedError

    @property
    def target_spec(self):
        raise NotImplementedError

    axis = "difficulty"
    evaluation_batch = 250

    @property
    def difficulties(self):
        return ()

    def batch(self, rng, size, difficulty=None, split="train"):
        """Draws a batch.

        Args:
            rng: `numpy.random.Generator`; the only source of randomness.
            size: rows in the batch.
            difficulty: None for the paper's distribution; an int for sweeps, where every row has
                exactly that difficulty (and the paper's fixed sequence length, where it names one);
                a pair `(low, high)` to narrow the distribution, which is what a curriculum does.
            split: only data sets with real splits look at it.

        Returns:
            `(inputs, targets)`, dicts of numpy arrays after `input_spec` and `target_spec`, always
            padded to the full length of the task, or to what the hardest row asked for can need. A
            target of -1 means "not scored".
        """
        raise NotImplementedError

    def loss(self):
        """Dict: output name -> `keras.losses.Loss`: a sum over each row, averaged over rows."""
        raise NotImplementedError

    def metrics(self):
        """Dict: output name -> list of `keras.metrics.Metric`, the paper's error unit first."""
        raise NotImplementedError

    def describe(self, inputs, targets, outputs):
        """One line per row that a person can read. Arrays as numpy; `targets` may be None."""
        raise NotImplementedError

    def prepare(self, model):
        """Gives a new model what it takes from the data before it is trained, as statistics."""

    def dataset(self, split="train", batch_size=32, steps=1000, seed=0):
        """The stream of a split as a `keras.utils.PyDataset` of `steps` batches an epoch.

        Batch `i` of epoch `e` depends on (seed, split, e * steps + i) alone, so a resumed run sees
        what an unbroken one would have seen.
        """
        return Stream(self, split, batch_size, steps, seed)


class Stream(keras.utils.PyDataset):
    """See `Task.dataset`.

    Attributes:
        epoch: set by the trainer.
        level: index into the task's difficulties, up to which rows are drawn; None for all.
        rehearsal: whether easier rows are drawn as well as those of the level.
    """

    def __init__(self, task, split, batch_size, steps, seed):
        super().__init__()
        if split not in SPLITS:
            raise ValueError(f"split must be one of {sorted(SPLITS)}, got {split!r}")
        self.task, self.split, self.batch_size = task, split, batch_size
        self.steps, self.seed = steps, seed
        self.epoch, self.level, self.rehearsal = 0, None, True

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        update = self.epoch * self.steps + index
        rng = np.random.default_rng([self.seed, SPLITS[self.split], update])
        levels = self.task.difficulties
        difficulty = None
        if self.level is not None:
            difficulty = (levels[0 if self.rehearsal else self.level], levels[self.level])
        return self.task.batch(rng, self.batch_size, difficulty, split=self.split)


class Whole(Stream):
    """Every row of a split once, in an order of chance, before any of them comes again.

    For tasks that have so many `examples(split)` and give them by their numbers,
    `rows(chosen, split)`.
    """

    def __getitem__(self, index):
        count = self.task.examples(self.split)
        order = np.random.default_rng([self.seed, SPLITS[self.split]]).permutation(count)
        first = (self.epoch * self.steps + index) * self.batch_size
        places = np.arange(first, first + self.batch_size) % count
        return self.task.rows(order[places], self.split)
