"""RAM: a network that looks at small parts of an image, and learns where by reinforcement."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from . import _chance, _filterbank
from ._affine import affine_loop, kernel_and_bias
from ._base import OwnDense, budget_of, not_negative, serializable, sum_dtype, whole
from ._recurrent_loop import lstm_step

CORES = "relu", "lstm"
POLICIES = "learned", "random", "centre"


def retina(image: Any, place: Any, patch: int, scales: int = 1) -> Any:
    """Squares around places of images, each of them twice as wide as the one before.

    All squares have as many cells. A cell is the mean of the image over the pixels that it covers,
    in part where it ends within a pixel, so that what is seen changes steadily with the place. The
    image is 0 outside of its border (Mnih et al., 2014, section 3.1).

    Args:
        image: `(batch, height, width)` or `(batch, height, width, colours)`, of known size.
        place: `(batch, 2)`, x and y of the middle: -1 is the middle of the left or the upper pixels
            of the image, 1 that of the right or the lower ones.
        patch: cells along each side of a square; those of the first are as large as pixels.
        scales: how many squares.

    Returns:
        `(batch, scales, patch, patch)`, the narrowest square first, with colours behind where the
        image has them; float64 for float64 and float32 for all other dtypes.

    Raises:
        ValueError: `patch` or `scales` is no whole number from 1 on, or an image has another rank
            or no known size.

    Example:
        >>> retina(keras.ops.ones((2, 9, 7)), keras.ops.zeros((2, 2)), patch=3, scales=2).shape
        TensorShape([2, 2, 3, 3])
    """
    shape = _filterbank.image_shape("retina", image.shape)
    patch, scales = whole("patch", patch, 1), whole("scales", scales, 1)
    dtype = sum_dtype(image.dtype)
    rows, place = _filterbank.rows_of(ops.cast(image, dtype)), ops.cast(place, dtype)
    seen = _seen(rows, place, patch, scales, *shape[:2])
    return _as_squares(seen, patch, scales, shape)


def _seen(rows, place, patch, scales, height, width):
    """`retina` of `_filterbank.rows_of` an image, as vectors."""
    found = []
    for scale in range(scales):
        cell = 2.0**scale
        of_x, of_y = (
            _boxes(place[:, axis], cell, patch, length)
            for axis, length in enumerate((width, height))
        )
        found.append(_filterbank.look(rows, of_y, of_x))
    return ops.concatenate(found, axis=-1)


def _boxes(place, cell, patch, length):
    """The share that each pixel has in each cell along an axis, `(batch, patch, length)`."""
    middle = (place + 1) / 2 * (length - 1) + 0.5
    cells = cell * (ops.arange(patch, dtype=place.dtype) - patch / 2)
    begin = ops.reshape(middle, (-1, 1, 1)) + ops.reshape(cells, (-1, 1))
    pixel = ops.arange(length, dtype=place.dtype)
    covered = ops.minimum(begin + cell, pixel + 1) - ops.maximum(begin, pixel)
    return ops.maximum(covered, 0) / cell


def _as_squares(seen, patch, scales, shape, *steps):
    """Vectors `(batch, *steps, size)` as squares, of images of a shape."""
    squares = ops.reshape(seen, (-1, *steps, scales, patch, *shape[2:], patch))
    return squares if len(shape) == 2 else ops.swapaxes(squares, -1, -2)


@serializable
class RAM(keras.layers.Layer):
    """Recurrent model of visual attention (Mnih et al., 2014): an image is looked at in glimpses.

    At each glimpse a `retina` sees the image around a place; what it sees and the place make the
    glimpse vector g; a recurrent core takes it in; and a linear map of the core's output is the
    mean of a Gaussian of fixed deviation from which the next place is drawn (section 3.1). The
    first place is drawn uniformly. A place beyond the border of the image is looked at on it.

    No gradient flows through a place, nor from means and baselines into the core: the former learn
    by reinforcement alone, as `Reinforce` has it, the latter as what is subtracted from the reward.
    Core and glimpse network learn by what is made of `outputs`.

    All glimpses are one loop, and one graph however many there are.

    Args:
        glimpses: N, how often it looks.
        patch: cells along each side of a square of the retina.
        scales: squares of the retina.
        units: of the glimpse vector and of the core.
        glimpse_units: of the two hidden layers that see what and where.
        core: "relu", rectified units, or "lstm".
        policy: "learned"; or for comparison "random", where all places are drawn uniformly, or
            "centre", where all are the middle of the image. These two have no means and baselines.
        deviation: standard deviation of places, where half of the image is 1.
        return_state: whether to return the state behind the last glimpse.
        memory_budget: bytes that training may use to remember the steps, as in `PeepholeLSTM`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        image: `(batch, height, width)` or `(batch, height, width, colours)`, of known size.
        seed: `(batch,)` integers, the chance of each row (the same for the same seed in any batch).
        drawn: whether places are drawn, or are the means themselves, but for the first; None for
            the former in training alone.
        place: `(batch, 2)`, x and y of the first glimpse; without it, that is drawn.
        initial_state: list of the core's state as it is returned; zeros without it.
        training: whether to store what the gradient needs; without it, it is computed again where
            one is asked for.

    Returns:
        Dict of tensors, float64 for float64 and float32 for all other dtypes:
        `outputs`, `(batch, glimpses, units)`, of the core;
        `places`, `(batch, glimpses, 2)`, x and y where it looked, from -1 to 1;
        `glimpses`, `(batch, glimpses, scales, patch, patch)`, what it saw, with colours behind;
        and of a learned policy, of all places but the first, `means` and `samples`, `(batch,
        glimpses - 1, 2)`, and `baselines`, `(batch, glimpses - 1)`, the reward that is expected
        before the place is drawn. The samples are those before they are taken to the border.
        With `return_state`, the core's `h` and, of an LSTM, `c`, `(batch, units)`; and of a learned
        policy, of where it would look next, `next_mean`, `next_sample`, `(batch, 2)`, and
        `next_baseline`, `(batch,)`.

    Raises:
        ValueError: an argument is no whole number from 1 on, there is no such core or policy,
            `deviation` is not above 0, or an image has another rank or no known size.

    Example:
        >>> layer = RAM(glimpses=3, patch=2, scales=2, units=8, glimpse_units=4)
        >>> layer(keras.ops.ones((2, 6, 5)), keras.ops.arange(2))["outputs"].shape
        TensorShape([2, 3, 8])

    Reference:
        Mnih, Heess, Graves and Kavukcuoglu, "Recurrent Models of Visual Attention", 2014,
        arXiv:1406.6247.
    """

    gradient_of_mean = True  # none flows through a place

    def __init__(
        self,
        glimpses: int,
        patch: int,
        scales: int = 1,
        units: int = 256,
        glimpse_units: int = 128,
        core: str = "relu",
        policy: str = "learned",
        deviation: float = 0.1,
        return_state: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.glimpses = whole("glimpses", glimpses, 1)
        self.patch = whole("patch", patch, 1)
        self.scales = whole("scales", scales, 1)
        self.units = whole("units", units, 1)
        self.glimpse_units = whole("glimpse_units", glimpse_units, 1)
        for name, value, known in (("core", core, CORES), ("policy", policy, POLICIES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        self.core_kind, self.policy = core, policy
        self.deviation = _above("deviation", deviation)
        self.return_state = bool(return_state)
        self.memory_budget = budget_of(memory_budget)
        named = {"dtype": self.dtype_policy}
        self.maps = {
            "what": OwnDense(self.glimpse_units, name="what", **named),
            "where": OwnDense(self.glimpse_units, name="where", **named),
            "glimpse": OwnDense(self.units, name="glimpse", **named),
            "core": (
                keras.layers.LSTMCell(self.units, name="core", **named)
                if core == "lstm"
                else keras.layers.SimpleRNNCell(self.units, "relu", name="core", **named)
            ),
        }
        if policy == "learned":
            little = keras.initializers.RandomNormal(stddev=0.01)
            self.maps |= {
                "mean": OwnDense(2, kernel_initializer=little, name="mean", **named),
                "baseline": OwnDense(1, name="baseline", **named),
            }

    @property
    def _dtype(self):
        return sum_dtype(self.compute_dtype)

    def build(self, image_shape, seed_shape=None, place_shape=None, initial_state_shape=None):
        self.image_shape = _filterbank.image_shape("RAM", image_shape)
        *_, colours = (*self.image_shape, 1)[:3]
        sizes = {
            "what": self.scales * self.patch**2 * colours,
            "where": 2,
            "glimpse": 2 * self.glimpse_units,
        }
        for name, layer in self.maps.items():
            layer.build((None, sizes.get(name, self.units)))

    def call(self, image, seed, drawn=None, place=None, initial_state=None, training=False):
        training = bool(training)
        drawn = training if drawn is None else drawn
        batch, shape = ops.shape(image)[0], (self.glimpses, 2)
        image = _filterbank.rows_of(ops.cast(image, self._dtype))
        places = 2 * _chance.uniform(_chance.fold(seed, "places"), shape, dtype=self._dtype) - 1
        if self.policy == "centre":
            places = ops.zeros_like(places)
        if self.policy == "learned" and drawn:
            noise = _chance.normal(_chance.fold(seed, "policy"), shape, dtype=self._dtype)
            following = self.deviation * noise
        elif self.policy == "learned":
            following = ops.zeros_like(places)
        else:
            following = ops.roll(places, -1, axis=1)
        first = places[:, 0] if place is None else ops.clip(ops.cast(place, self._dtype), -1, 1)
        answers, state = affine_loop(
            self._step,
            ops.swapaxes(following, 0, 1),
            self._weights(),
            [image],
            [*self._start(initial_state, batch), first],
            self.glimpses,
            training,
            self.memory_budget,
        )
        names = "outputs", "places", "glimpses", "means", "samples", "baselines"
        found, told = dict(zip(names, answers)), {}
        if self.return_state:
            told = dict(zip(("h", "c"), state[:-1]))
        if self.policy == "learned":
            if self.return_state:
                told |= {f"next_{x}": found[f"{x}s"][:, -1] for x in ("mean", "sample")}
                told["next_baseline"] = found["baselines"][:, -1, 0]
            # Nobody looks where the last ones lead.
            found |= {name: found[name][:, :-1] for name in ("means", "samples")}
            found["baselines"] = found["baselines"][:, :-1, 0]
        of_image = self.patch, self.scales, self.image_shape
        found["glimpses"] = _as_squares(found["glimpses"], *of_image, self.glimpses)
        return {**found, **told}

    @property
    def _states(self):
        return 2 if self.core_kind == "lstm" else 1

    def _start(self, initial_state, batch):
        if initial_state is None:
            return [ops.zeros((batch, self.units), self._dtype) for _ in range(self._states)]
        state = [ops.cast(x, self._dtype) for x in initial_state]
        if len(state) != self._states:
            raise ValueError(
                f"RAM with a core of {self.core_kind} takes an initial state of {self._states} "
                f"tensors; got {len(state)}"
            )
        return state

    # A glimpse, as the paper has it.

    def _step(self, affine, following, state, constants):
        """`following` is the next place, or how far a learned policy goes beside its mean."""
        (*state, place), (image,) = state, constants
        place = ops.stop_gradient(place)
        state, seen = self._taken_in(affine, image, place, state)
        answers = [state[0], place, seen]
        if self.policy != "learned":
            return [*state, following], answers
        mean, baseline = self._heads(affine, state[0])
        sample = ops.stop_gradient(mean) + following
        return [*state, ops.clip(sample, -1, 1)], [*answers, mean, sample, baseline]

    def _taken_in(self, affine, image, place, state):
        """The state behind a glimpse, and what was seen."""
        seen = _seen(image, place, self.patch, self.scales, *self.image_shape[:2])
        what, where = ops.relu(affine("what", seen)), ops.relu(affine("where", place))
        glimpse = ops.relu(affine("glimpse", what, where))
        values = affine("core", glimpse, state[0])
        if self.core_kind == "lstm":
            return list(lstm_step(values, state[1])), seen
        return [ops.relu(values)], seen

    def _heads(self, affine, output):
        output = ops.stop_gradient(output)
        return affine("mean", output), affine("baseline", output)

    def _weights(self):
        return {
            name: kernel_and_bias(layer, self.compute_dtype) for name, layer in self.maps.items()
        }

    def compute_output_spec(
        self, image, seed, drawn=None, place=None, initial_state=None, training=False
    ):
        if not self.built:
            self.build(image.shape)
        steps, colours = self.glimpses, self.image_shape[2:]
        sizes = {
            "outputs": (steps, self.units),
            "places": (steps, 2),
            "glimpses": (steps, self.scales, self.patch, self.patch, *colours),
        }
        if self.policy == "learned":
            sizes |= {"means": (steps - 1, 2), "samples": (steps - 1, 2), "baselines": (steps - 1,)}
        if self.return_state:
            sizes |= dict.fromkeys(["h", "c"][: self._states], (self.units,))
        if self.return_state and self.policy == "learned":
            sizes |= {"next_mean": (2,), "next_sample": (2,), "next_baseline": ()}
        return {
            name: keras.KerasTensor((image.shape[0], *size), dtype=self._dtype)
            for name, size in sizes.items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "glimpses": self.glimpses,
            "patch": self.patch,
            "scales": self.scales,
            "units": self.units,
            "glimpse_units": self.glimpse_units,
            "core": self.core_kind,
            "policy": self.policy,
            "deviation": self.deviation,
            "return_state": self.return_state,
            "memory_budget": self.memory_budget,
        }


@serializable
class Reinforce(keras.layers.Layer):
    """Logits as they are, whose loss rewards the choices that led to them (Williams, 1992).

    It makes a softmax cross-entropy of the logits the hybrid loss of Mnih et al., 2014, section 3,
    whose value stays that of the cross-entropy: with the reward R, 1 where the largest logit is
    that of the target and 0 elsewhere, a row has the gradient of

        cross-entropy + sum of (R - baseline)^2 - policy_weight * sum of (R - b) log p(sample)

    over all choices, where b is the baseline, as a number, and p the Gaussian of the mean and the
    deviation. The logits' own gradient says whether they are right: the loss pushes up none but
    that of the target. It also says what the row weighs, as it is that weight times the probability
    for all others. So there is no other input, and rows that are not scored teach nothing; nor do
    those that are so surely right that the others' probability is 0 in float32.

    Args:
        deviation: standard deviation of the choices.
        policy_weight: of the policy's share; 0 for a policy that does not learn.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: `(batch, classes)`, of which a loss takes the cross-entropy and nothing else.
        means: `(batch, choices, size)`.
        samples: `(batch, choices, size)`, what was drawn around them, which gets no gradient.
        baselines: `(batch, choices)`.

    Returns:
        `(batch, classes)`, the logits, float64 for float64 and float32 for all other dtypes.

    Raises:
        ValueError: `deviation` is not above 0, or `policy_weight` below 0.

    Example:
        >>> ones = keras.ops.ones
        >>> layer = Reinforce(deviation=0.1)
        >>> layer(ones((2, 3)), ones((2, 4, 2)), ones((2, 4, 2)), ones((2, 4))).shape
        TensorShape([2, 3])

    Reference:
        Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
        Learning", 1992.
    """

    gradient_of_mean = True

    def __init__(self, deviation: float, policy_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.deviation = _above("deviation", deviation)
        self.policy_weight = not_negative("policy_weight", policy_weight)

    def build(self, *shapes):
        pass

    def call(self, logits, means, samples, baselines):
        dtype = sum_dtype(self.compute_dtype)
        given = (ops.cast(x, dtype) for x in (logits, means, samples, baselines))
        run = backend.differentiable(
            lambda logits, *_: (logits,), lambda *given: (given[:1], given), self._backward
        )
        return run(*given)[0]

    def _backward(self, given, cotangents):
        (logits, means, samples, baselines), (slope,) = given, cotangents
        answer = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1], dtype=slope.dtype)
        right = ops.cast(ops.sum(slope * answer, axis=-1) <= 0, slope.dtype)
        others = ops.cast(slope > 0, slope.dtype)
        chance = ops.sum(others * ops.softmax(logits), axis=-1)
        weight = ops.divide_no_nan(ops.sum(others * slope, axis=-1), chance)[:, None]
        missed = weight * (right[:, None] - baselines)
        away = (samples - means) / self.deviation**2
        return slope, -self.policy_weight * missed[..., None] * away, None, -2 * missed

    def compute_output_spec(self, logits, means, samples, baselines):
        return keras.KerasTensor(logits.shape, dtype=sum_dtype(self.compute_dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "deviation": self.deviation,
            "policy_weight": self.policy_weight,
        }


def _above(name, value):
    if not value > 0:
        raise ValueError(f"{name} must be above 0; got {value!r}")
    return float(value)
