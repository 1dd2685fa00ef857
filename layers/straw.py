"""STRAW: plans of many steps, and a plan of when to plan again."""

import math
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from . import _chance
from ._affine import affine_loop, affine_map, kernel_and_bias
from ._base import OwnDense, budget_of, not_negative, serializable, sum_dtype, whole
from ._filterbank import MOST_LOG, Last, along
from ._padding import RealSteps, at_least_one

SURE = 40.0
"""The constant that a commitment-plan is written with (section 3.2)."""

WIDEST = 2.0
"""Most deviation of the filter that writes it, in steps: of a wider one the peak would be no 1."""

COMMITMENTS = {"learned": None, "random": 0.25, "none": 1.0}
STATES = "plan", "commitment", "left"
MAPS = "attend", "read", "think", "write", "commit"


@serializable
class STRAW(keras.layers.Layer):
    """The Strategic Attentive Writer: it plans ahead, and seldom (Vezhnevets et al., 2016).

    An action-plan has logits of the actions at this step and at those to come, a commitment-plan
    the probability of planning again at each of them. At every step both move on by one. Where a
    coin of that probability says so, and at the first step, what is seen is looked at and both are
    written anew, the action-plan on top of what it was, through Gaussian filters over the time to
    come (Algorithm 1). Elsewhere the plan is followed, whatever is seen.

    The coin passes its gradient straight through to its probability, by what planning would have
    added to the action-plan; and none passes from the commitment-plan into what the action-plan is
    made of (section 3.3).

    Args:
        actions: A, rows of an action-plan.
        horizon: T, steps of a plan; it is made anew at the latest when it ends.
        patch: K, filters along the time of the action-plan, 2 or more.
        units: of both hidden layers of the planner.
        valued: whether one more row of the action-plan is the value of the state.
        commitment: "learned"; or for comparison, and to learn plans before it is known when to make
            them, "random", a plan at every step with the same chance of 1 in 4; or "none", one at
            every step.
        noise: size of the channel of chance that what is seen passes when a plan is made, which
            makes it STRAWe; 0 for none.
        clip_plan: bound of the action-plan's numbers, or 0 for none, as in the paper. Straight
            through, a coin's gradient is what planning again would have added, however sure the
            plan was already; a bound makes an end to that.
        replan_penalty: lambda, what a planned probability of planning again adds to the loss.
        noise_penalty: alpha, what a nat of the channel adds at each step that plans.
        return_state: whether to return the state behind the last step.
        memory_budget: bytes that training may use to remember the steps, as in `PeepholeLSTM`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`, what is seen.
        seed: `(batch,)` integers, the chance of each row (the same for the same seed in any batch);
            or None for none: it plans again where that is the more probable, and the channel gives
            its mean.
        sequence_mask: `(batch, time)` boolean; False steps are skipped, and their answers are 0.
        begins: `(batch, time)` boolean; True steps begin anew, as the first one does.
        initial_state: list of tensors as they are returned; zeros begin anew.
        training: whether to keep what the gradient needs; without it a gradient runs the loop
            again.

    Returns:
        Dict of tensors, float64 for float64 and float32 for all other dtypes: `logits`, `(batch,
        time, actions)`, the first column of the action-plan; `replanned`, `(batch, time)`, 1 where
        a plan was made; `chance`, `(batch, time)`, the probability with which that was to be, 1
        where it had to be; `ahead`, `(batch, time)`, in how many steps the last plan is most
        certain to plan again; `window`, `(batch, time, 3)`, of the last plan: the centre of the
        filters in steps from now, as 1, their stride, and their deviation. With `valued`, `value`,
        `(batch, time)`. With `noise`, `kl`, `(batch, time)`, nats that passed the channel. With
        `return_state`, `plan`, `(batch, rows, horizon)`, `commitment`, `(batch, horizon)`, and
        `left`, `(batch, 5)`: how many steps of the plan are left, and its `ahead` and `window`.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Example:
        >>> layer = STRAW(actions=4, horizon=6, patch=3, units=8)
        >>> layer(keras.ops.ones((2, 5, 3)), keras.ops.arange(2))["logits"].shape
        TensorShape([2, 5, 4])

    Reference:
        Vezhnevets, Mnih, Agapiou, Osindero, Graves, Vinyals and Kavukcuoglu, "Strategic Attentive
        Writer for Learning Macro-Actions", 2016, arXiv:1606.04695.
    """

    gradient_of_mean = True  # as straight-through estimates it, of the coins

    def __init__(
        self,
        actions: int,
        horizon: int = 20,
        patch: int = 5,
        units: int = 64,
        valued: bool = False,
        commitment: str = "learned",
        noise: int = 0,
        clip_plan: float = 0.0,
        replan_penalty: float = 0.0,
        noise_penalty: float = 0.0,
        return_state: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.actions = whole("actions", actions, 1)
        self.horizon = whole("horizon", horizon, 2)
        self.patch = whole("patch", patch, 2)
        self.units = whole("units", units, 1)
        self.valued = bool(valued)
        if commitment not in COMMITMENTS:
            known = ", ".join(COMMITMENTS)
            raise ValueError(f"commitment must be one of {known}; got {commitment!r}")
        self.commitment = commitment
        self.noise = whole("noise", noise, 0)
        self.clip_plan = not_negative("clip_plan", clip_plan)
        self.replan_penalty = not_negative("replan_penalty", replan_penalty)
        self.noise_penalty = not_negative("noise_penalty", noise_penalty)
        self.return_state = bool(return_state)
        self.memory_budget = budget_of(memory_budget)
        self.rows = self.actions + self.valued
        near = [(self.patch + 1) / 2, 1.0, 0.5]
        self.attend = self._dense(3, "attend", Last(self._raw(*near)))
        self.read = self._dense(self.units, "read")
        self.think = self._dense(self.units, "think")
        self.write = self._dense(self.rows * self.patch, "write")
        # At first a plan is to last as long as the filters reach.
        centre, _, width = self._raw(self.patch + 1.0, 1.0, 0.3)
        self.commit = self._dense(2, "commit", Last([centre, width]))
        self.channel = self._dense(self.noise + 1, "channel") if self.noise else None
        self.supports_masking = True

    def _dense(self, units, name, bias="zeros"):
        small = keras.initializers.RandomNormal(stddev=0.001)
        kernel = "glorot_uniform" if bias == "zeros" else small
        return OwnDense(
            units,
            kernel_initializer=kernel,
            bias_initializer=bias,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, sequence_shape, seed_shape=None, initial_state_shape=None):
        if len(sequence_shape) != 3 or sequence_shape[-1] is None:
            raise ValueError(
                "STRAW needs a sequence of shape (batch, time, features) with known features; got "
                f"{tuple(sequence_shape)}"
            )
        features = sequence_shape[-1]
        if self.noise:
            self.channel.build((None, features))
            features = self.noise
        self.attend.build((None, features))
        self.read.build((None, self.rows * self.patch + features))
        self.think.build((None, self.units))
        self.write.build((None, self.units))
        self.commit.build((None, 3 + self.units))
        self.early = self.add_weight((1, 1), keras.initializers.Constant(-2.0), name="early")

    @property
    def _dtype(self):
        return sum_dtype(self.compute_dtype)

    def call(
        self,
        sequence,
        seed,
        sequence_mask=None,
        begins=None,
        initial_state=None,
        training=False,
    ):
        real = RealSteps(sequence, sequence_mask)
        seen = real.clear(ops.cast(sequence, self._dtype))
        batch, steps = ops.shape(seen)[0], real.length
        there = ops.ones((batch, steps)) if real.mask is None else real.mask
        coins = ops.full((batch, steps), 0.5, self._dtype)
        if seed is not None:
            coins = _chance.uniform(_chance.fold(seed, "coins"), (steps,), dtype=self._dtype)
        anew = ops.zeros((batch, steps)) if begins is None else at_least_one(begins, axis=1)
        seen, kl = self._noisy(seen, seed, steps)
        weights = {x: kernel_and_bias(getattr(self, x), self.compute_dtype) for x in MAPS}
        # What is seen does not depend on the plan, and its products are taken for all steps.
        window = affine_map(seen, *weights.pop("attend"))
        kernel, bias = weights["read"]
        split = self.rows * self.patch
        weights["read"] = kernel[:split], ops.zeros_like(bias)
        seen = affine_map(seen, kernel[split:], bias)
        flags = [ops.cast(x, self._dtype)[..., None] for x in (coins, anew, there)]
        rows = ops.transpose(ops.concatenate([window, seen, *flags], axis=-1), (1, 0, 2))
        start = self._start(initial_state, batch)
        early = ops.cast(backend.value(self.early), self._dtype)
        given = self._step, rows, weights, [early], start, steps
        found, end = affine_loop(*given, bool(training), self.memory_budget)
        logits, told = (real.finish(x, True) for x in found)
        outputs = {
            "logits": logits[..., : self.actions],
            "replanned": told[..., 0],
            "chance": told[..., 1],
            "ahead": told[..., 3],
            "window": told[..., 4:],
        }
        if self.valued:
            outputs["value"] = logits[..., -1]
        if self.noise:
            outputs["kl"] = kl[:, : real.given] * outputs["replanned"]
        self._penalize(outputs, told[..., 2], batch)
        if self.return_state:
            outputs |= {name: real.after(x, s) for name, x, s in zip(STATES, end, start)}
        return outputs

    def _penalize(self, outputs, planned, batch):
        """`planned` are the probabilities of planning again, 0 where there was no choice."""
        rows = ops.cast(ops.maximum(batch, 1), planned.dtype)
        if self.replan_penalty:
            self.add_loss(self.replan_penalty * ops.sum(planned) / rows)
        if self.noise and self.noise_penalty:
            self.add_loss(self.noise_penalty * ops.sum(outputs["kl"]) / rows)

    def _noisy(self, seen, seed, steps):
        """What passes the channel, Q(z | zeta) of section 3.4, and its KL from N(0, I)."""
        if not self.noise:
            return seen, None
        made = affine_map(seen, *kernel_and_bias(self.channel, self.compute_dtype))
        mean, log_deviation = made[..., :-1], ops.clip(made[..., -1:], -MOST_LOG, MOST_LOG)
        squares = ops.sum(ops.square(mean), axis=-1)
        kl = ops.exp(2 * log_deviation) - 1 - 2 * log_deviation
        kl = (squares + self.noise * kl[..., 0]) / 2
        if seed is not None:
            stream, shape = _chance.fold(seed, "channel"), (steps, self.noise)
            mean += ops.exp(log_deviation) * _chance.normal(stream, shape, dtype=self._dtype)
        return mean, kl

    def _start(self, initial_state, batch):
        shapes = [*self.state_shapes.values()]
        if initial_state is None:
            return [ops.zeros((batch, *shape), self._dtype) for shape in shapes]
        state = [ops.cast(x, self._dtype) for x in initial_state]
        if [tuple(x.shape[1:]) for x in state] != shapes:
            raise ValueError(
                f"STRAW takes an initial state of {STATES}, of the shapes {shapes} without the "
                f"batch; got {[tuple(x.shape[1:]) for x in state]}"
            )
        return state

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the state by name, without the batch."""
        return dict(zip(STATES, [(self.rows, self.horizon), (self.horizon,), (5,)]))

    def _step(self, affine, row, state, constants):
        """Algorithm 1, and section 3.2."""
        before, (early,) = state, constants
        window, seen, flags = ops.split(row, [3, 3 + self.units], axis=-1)
        coin, anew, there = (flags[:, i : i + 1] for i in range(3))
        plan, commitment, left = (_by_row(1 - anew, x) * x for x in before)
        forced, nothing = left[:, :1] <= 0, ops.zeros_like(coin)
        # Straight through: the coin's gradient is its probability's, where there was a choice.
        chance = commitment[:, 1:2]
        if self.commitment != "learned":
            chance = nothing + COMMITMENTS[self.commitment]
        free = ops.where(forced, nothing, chance)
        fallen = ops.logical_or(forced, coin < free)
        gate = ops.cast(fallen, plan.dtype)
        passing = gate + free - ops.stop_gradient(free)

        grid = self._grid(window, self.patch)
        filters = self._filters(grid, self.patch)
        read = ops.reshape(plan @ ops.transpose(filters, (0, 2, 1)), (-1, self.rows * self.patch))
        thought = ops.relu(affine("think", ops.relu(affine("read", read) + seen)))
        patch = ops.reshape(affine("write", thought), (-1, self.rows, self.patch))
        plan = _moved(plan) + passing[..., None] * (patch @ filters)
        if self.clip_plan:
            plan = ops.clip(plan, -self.clip_plan, self.clip_plan)

        raw = affine("commit", ops.stop_gradient(window), ops.stop_gradient(thought))
        raw = ops.concatenate([raw[:, :1], nothing, raw[:, 1:]], axis=-1)
        when = ops.minimum(self._grid(raw, 1), [[self.horizon, 1.0, WIDEST]])
        sure = ops.sigmoid(early + SURE * self._filters(when, 1)[:, 0])
        commitment = ops.where(fallen, sure, _moved(commitment))
        made = [nothing + self.horizon, when[:, :1] - 1, grid]
        left = ops.where(fallen, ops.concatenate(made, axis=-1), left)
        chance = ops.where(forced, nothing + 1, free)
        told = ops.concatenate([gate, chance, free, left[:, 1:]], axis=-1)
        left = ops.concatenate([left[:, :2] - 1, left[:, 2:]], axis=-1)
        after = [plan, commitment, left]
        held = [ops.where(_by_row(there, x) > 0, x, old) for x, old in zip(after, before)]
        return held, [plan[:, :, 0], told]

    # The attention of DRAW, over the steps 1 (now) to T.

    def _raw(self, centre, stride, deviation):
        """The numbers that `_grid` makes these of."""
        whole = (self.horizon - 1) / (self.patch - 1)
        return [
            2 * centre / (self.horizon + 1) - 1,
            math.log(stride / whole),
            2 * math.log(deviation),
        ]

    def _grid(self, raw, size):
        """Centre, stride and deviation, as of section 3.1: DRAW's in one dimension."""
        x, stride, variance = (raw[:, i : i + 1] for i in range(3))
        stride, variance = (ops.clip(z, -MOST_LOG, MOST_LOG) for z in (stride, variance))
        whole = (self.horizon - 1) / max(size - 1, 1)
        return ops.concatenate(
            [(self.horizon + 1) / 2 * (x + 1), whole * ops.exp(stride), ops.exp(variance / 2)],
            axis=-1,
        )

    def _filters(self, grid, size):
        """F, `(batch, size, horizon)`, whose rows sum to 1."""
        return along(*(grid[:, i, None, None] for i in range(3)), size, self.horizon)

    def compute_output_spec(
        self,
        sequence,
        seed,
        sequence_mask=None,
        begins=None,
        initial_state=None,
        training=False,
    ):
        if not self.built:
            self.build(sequence.shape)
        batch, steps = sequence.shape[:2]
        sizes = {"logits": (self.actions,), "replanned": (), "chance": (), "ahead": ()}
        sizes |= {"window": (3,), **dict.fromkeys(["value"] * self.valued, ())}
        sizes |= dict.fromkeys(["kl"] * bool(self.noise), ())
        shapes = {name: (batch, steps, *size) for name, size in sizes.items()}
        if self.return_state:
            shapes |= {name: (batch, *shape) for name, shape in self.state_shapes.items()}
        return {name: keras.KerasTensor(shape, self._dtype) for name, shape in shapes.items()}

    def compute_mask(self, sequence, mask=None):
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "actions": self.actions,
            "horizon": self.horizon,
            "patch": self.patch,
            "units": self.units,
            "valued": self.valued,
            "commitment": self.commitment,
            "noise": self.noise,
            "clip_plan": self.clip_plan,
            "replan_penalty": self.replan_penalty,
            "noise_penalty": self.noise_penalty,
            "return_state": self.return_state,
            "memory_budget": self.memory_budget,
        }


def _by_row(flag, x):
    """A flag `(batch, 1)` as it is put to a tensor of as many axes as x."""
    return ops.reshape(flag, (-1, *(1 for _ in x.shape[1:])))


def _moved(plan):
    """rho: a step has passed, and one of which nothing is planned has come into sight."""
    return ops.concatenate([plan[..., 1:], ops.zeros_like(plan[..., :1])], axis=-1)
