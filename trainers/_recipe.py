"""How a model is trained, in plain types."""

import dataclasses
import json
import math
from typing import Any

import keras

from . import _rooms

OPTIMIZERS = ("adam", "adagrad", "muon", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
# What a number must be: a test, and in words.
COUNT = (lambda x: x >= 1, "1 or more")
POSITIVE = (lambda x: x > 0, "more than 0")
NOT_NEGATIVE = (lambda x: x >= 0, "0 or more")
SHARE = (lambda x: 0 <= x <= 1, "from 0 to 1")
MOMENTUM = (lambda x: 0 <= x < 1, "0 or more, and less than 1")
SEED = (lambda x: 0 <= x < 2**32, "from 0 to 4294967295")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever the way of learning.

    Attributes:
        learning: the way of learning, a file of `learning/`, whose `Recipe` extends this one.
        updates: optimizer steps in all; a multiple of `steps_per_epoch`, or smaller than it.
        batch_size: rows in a batch.
        optimizer: "adam", "adagrad", "muon" (Keras's, without weight decay; whatever is no
            matrix gets Adam at a tenth of the rate), "rmsprop" in the centred form with momentum
            of Graves (2013), arXiv:1308.0850, equations 38 to 41, or "sgd", steepest descent with
            momentum.
        learning_rate: of the optimizer, at the start.
        learning_rate_schedule: "constant", or "cosine" or "linear" from `learning_rate` down to 0.
        decay_from: share of the updates after which the learning rate begins to fall.
        beta_1, beta_2, adam_epsilon: Adam's, also within Muon.
        momentum: of RMSprop and of steepest descent.
        clipnorm: greatest global norm of the gradient, 0 for none.
        clipvalue: greatest size of an element of the gradient, 0 for none; where it is given,
            clipnorm does not count.
        ema: momentum of the running average of the weights that becomes the model, 0 for none.
        seed: of the initial weights and of the data.
        steps_per_epoch: updates between two checkpoints, which are also the points of the curves.
        jit_compile: whether XLA compiles the training step; without it, it compiles nothing.
        start: an entry, a run or a `.keras` file, or several with commas between, whose layers
            give their weights to those of the same name; what they lack begins anew.
        evaluation_rows: rows of the test split that the final metrics are measured on.
        histograms: how often the event file gets histograms and described rows, 0 for never.
        figures: whether reports, the sweep of difficulty and figures are made at the end.

    `limits` has what numbers must be, by the names of settings; `told_apart` the settings by which
    runs are of other kinds, however alike they are else; `captions` what the pictures show that
    the way of learning draws, by their names; `by_rows` whether the rows of a batch may go to
    several processes (`ProcessGroup`).
    """

    limits = {
        **dict.fromkeys(("updates", "batch_size", "steps_per_epoch", "evaluation_rows"), COUNT),
        **dict.fromkeys(("beta_1", "beta_2", "momentum", "ema"), MOMENTUM),
        **dict.fromkeys(("learning_rate", "clipnorm", "clipvalue", "histograms"), NOT_NEGATIVE),
        "adam_epsilon": POSITIVE,
        "decay_from": SHARE,
        "seed": SEED,
    }
    told_apart = ("learning",)
    captions = {}
    by_rows = False

    learning: str = "supervised"
    updates: int = 10000
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    learning_rate_schedule: str = "constant"
    decay_from: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    adam_epsilon: float = 1e-7
    momentum: float = 0.9
    clipnorm: float = 1.0
    clipvalue: float = 0.0
    ema: float = 0.0
    seed: int = 1
    steps_per_epoch: int = 500
    jit_compile: bool = True
    start: str = ""
    evaluation_rows: int = 10000
    histograms: int = 40
    figures: bool = True

    @staticmethod
    def parse(values):
        """The recipe of a way of learning from a dict whose values may be text.

        Raises:
            ValueError: for an unknown key, a value of the wrong type, or an impossible setting.
        """
        known = Recipe.defaults(values)
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"the recipe has no setting {unknown[0]!r}; it has {sorted(known)}")
        typed = {name: parse_as(name, known[name], values[name]) for name in values}
        recipe = _way(values).Recipe(**typed)
        if recipe.learning_rate_schedule not in SCHEDULES:
            raise ValueError(
                f"learning_rate_schedule must be one of {SCHEDULES}, "
                f"got {recipe.learning_rate_schedule!r}"
            )
        if recipe.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {recipe.optimizer!r}")
        for name, (suits, words) in recipe.limits.items():
            if not suits(getattr(recipe, name)):
                raise ValueError(f"{name} must be {words}, got {getattr(recipe, name)}")
        if recipe.updates % recipe.steps:
            raise ValueError(
                f"updates ({recipe.updates}) must be a multiple of "
                f"steps_per_epoch ({recipe.steps_per_epoch})"
            )
        return recipe

    @staticmethod
    def defaults(values):
        """All settings of the way of learning that `values` names, a dict."""
        return dataclasses.asdict(_way(values).Recipe())

    def check(self, task):
        """Raises `ValueError` where a task does not suit."""

    def summary(self, metrics):
        """Plain numbers by name, of a run's metrics, whose means tell kinds of runs apart."""
        return {}

    def compared(self, kinds, task):
        """Matplotlib figures by name of several kinds of runs, side by side.

        Args:
            kinds: dict: what a kind is called -> directories of its runs.
            task: the task of all of them.
        """
        return {}

    @property
    def steps(self):
        """Updates of one epoch."""
        return min(self.steps_per_epoch, self.updates)

    @property
    def epochs(self):
        return self.updates // self.steps

    def due(self, epoch, times):
        """Whether something is due behind an epoch, from 1 on, that is so `times` times in all."""
        return (epoch * times) // self.epochs != ((epoch - 1) * times) // self.epochs

    def make_optimizer(self):
        """The Keras optimizer."""
        rate = self.learning_rate
        if self.learning_rate_schedule != "constant":
            first = int(self.decay_from * self.updates)
            rate = Decay(rate, self.learning_rate_schedule, first, self.updates)
        common = {"use_ema": self.ema > 0, "ema_momentum": self.ema}
        if self.clipvalue:
            common["clipvalue"] = self.clipvalue
        elif self.clipnorm:
            common["global_clipnorm"] = self.clipnorm
        if self.optimizer == "rmsprop":
            return keras.optimizers.RMSprop(
                rate, rho=0.95, momentum=self.momentum, epsilon=1e-4, centered=True, **common
            )
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(rate, momentum=self.momentum, **common)
        if self.optimizer == "adagrad":
            return keras.optimizers.Adagrad(rate, initial_accumulator_value=0.0, **common)
        if self.optimizer == "muon":
            return keras.optimizers.Muon(
                rate,
                adam_beta_1=self.beta_1,
                adam_beta_2=self.beta_2,
                epsilon=self.adam_epsilon,
                adam_lr_ratio=0.1,
                weight_decay=0.0,
                adam_weight_decay=0.0,
                **common,
            )
        return keras.optimizers.Adam(
            rate, beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.adam_epsilon, **common
        )


def _way(values):
    """The module of the way of learning."""
    return _rooms.find(f"{__package__}.learning", values.get("learning", "supervised"), "learning")


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """`rate` up to update `first`, then down to 0 at update `last`, along a line or a cosine."""

    def __init__(self, rate, law, first, last):
        self.rate, self.law, self.first, self.last = rate, law, first, last

    def __call__(self, step):
        left = (self.last - keras.ops.cast(step, "float32")) / max(self.last - self.first, 1)
        left = keras.ops.clip(left, 0.0, 1.0)
        if self.law == "cosine":
            left = (1 - keras.ops.cos(math.pi * left)) / 2
        return self.rate * left

    def get_config(self):
        return {"rate": self.rate, "law": self.law, "first": self.first, "last": self.last}


def parse_as(name: str, default: Any, value: Any) -> Any:
    """`value`, perhaps text, in the type of `default`; raises `ValueError` where it cannot be."""
    kind, text = type(default), str(value).strip()
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind is int:
            if float(text) != int(float(text)):
                raise ValueError(text)
            return int(float(text))
        if kind in (str, float):
            parsed = kind(text)
            if kind is float and not math.isfinite(parsed):
                raise OverflowError(text)
            return parsed
        parsed = json.loads(text) if isinstance(value, str) else value
        if isinstance(default, (list, tuple)) != isinstance(parsed, (list, tuple)):
            raise ValueError(text)
        return parsed if default is None else kind(parsed)
    except OverflowError:
        raise ValueError(f"{name} must be a finite number, got {value!r}") from None
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}") from None
