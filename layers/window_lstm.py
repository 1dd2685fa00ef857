"""An LSTM layer that reads a text through a soft window while it goes along."""

import math
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import bound, budget_of, sequence_spec, serializable, sum_dtype, whole
from ._padding import RealSteps, at_least_one
from ._window_loop import budgeted_window_loop, weigh, window_loop


@serializable
class WindowLSTM(keras.layers.Layer):
    """LSTM cells with a soft window over a text (Graves, 2013, section 5.1).

        alpha, beta, delta = exp(W_p h + b_p)
        kappa = kappa_before + delta
        phi(u) = sum_k alpha_k exp(-beta_k (kappa_k - u)^2),  u = 1, 2, ...
        w = sum_u phi(u) c_u

    The cells are those of `PeepholeLSTM`. At each step they see the input, their h and the window w
    of the step before; kappa only grows, so that the window never moves back. Layers above, which
    see w of the same step, feed nothing back: so cells and window go through one loop, with a
    gradient by hand, and each layer above through its own, all products of its input taken at once.

    Args:
        units: of the cells.
        components: K, Gaussians of the window.
        steps_per_symbol: how many steps the window takes for a symbol of the text at first.
        peepholes, clip_derivatives, kernel_initializer, recurrent_initializer, bias_initializer,
            forget_bias: as in `PeepholeLSTM`; the bound holds for the window's W_p h + b_p as well.
        return_state: whether to return the last states as well.
        zero_output_for_mask: whether the output of masked steps is zero.
        memory_budget: bytes that training may use to remember the steps, as in `PeepholeLSTM`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        text: `(batch, places, symbols)`, one-hot rows or any others.
        sequence_mask: `(batch, time)` boolean; False steps are skipped, wherever they are.
        text_mask: `(batch, places)` boolean; through the window False places are seen as zeros.
        initial_state: list of h `(batch, units)`, c, likewise, the window `(batch, symbols)` and
            kappa `(batch, components)`; zero without it.
        training: as in `PeepholeLSTM`.

    Returns:
        h `(batch, time, units)`; the window `(batch, time, symbols)`; and phi `(batch, time, places
        + 1)`, whose entry u is that at place u + 1, a place behind the text included; then, if
        asked for, the four states.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        As in `PeepholeLSTM`: a masked step changes no state, and returns zeros, or what the last
        real step before it returned.

    Example:
        >>> layer = WindowLSTM(4, components=2)
        >>> hidden, window, phi = layer(keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 6, 7)))
        >>> hidden.shape, window.shape, phi.shape
        (TensorShape([2, 3, 4]), TensorShape([2, 3, 7]), TensorShape([2, 3, 7]))

    Reference:
        Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850.
    """

    def __init__(
        self,
        units: int,
        components: int = 10,
        steps_per_symbol: float = 25.0,
        peepholes: bool = True,
        clip_derivatives: float = 0.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "orthogonal",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        forget_bias: float = 0.0,
        return_state: bool = False,
        zero_output_for_mask: bool = True,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.components = whole("components", components, 1)
        if not steps_per_symbol > 0:
            raise ValueError(f"steps_per_symbol must be above 0; got {steps_per_symbol!r}")
        self.steps_per_symbol = float(steps_per_symbol)
        self.peepholes = bool(peepholes)
        self.clip_derivatives = bound("clip_derivatives", clip_derivatives)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.forget_bias = float(forget_bias)
        self.return_state = bool(return_state)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.memory_budget = budget_of(memory_budget)
        self.supports_masking = True

    def build(self, sequence_shape, text_shape, *_):
        sequence_spec("WindowLSTM", sequence_shape)
        sequence_spec("WindowLSTM", text_shape, "text")
        units, symbols, count = self.units, text_shape[-1], self.components
        self.kernel = self.add_weight(
            (sequence_shape[-1], 4 * units), self.kernel_initializer, name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            (units + symbols, 4 * units), self._initial_recurrent, name="recurrent_kernel"
        )
        self.bias = self.add_weight((4 * units,), self._initial_bias, name="bias")
        self.window_kernel = self.add_weight(
            (units, 3 * count), self.kernel_initializer, name="window_kernel"
        )
        self.window_bias = self.add_weight((3 * count,), self._initial_pace, name="window_bias")
        self.peephole_weights = []
        if self.peepholes:
            peepholes = self.add_weight((3, units), self.recurrent_initializer, name="peepholes")
            self.peephole_weights = [peepholes]

    def _initial_recurrent(self, shape, dtype=None):
        """Of h as in `PeepholeLSTM`, and of the window as of any other input."""
        of_window = (shape[0] - self.units, shape[1])
        parts = [
            self.recurrent_initializer((self.units, shape[1]), dtype=dtype),
            self.kernel_initializer(of_window, dtype=dtype),
        ]
        return ops.concatenate(parts)

    def _initial_bias(self, shape, dtype=None):
        is_forget = ops.cast(ops.arange(shape[0]) // self.units == 1, dtype)
        return self.bias_initializer(shape, dtype=dtype) + self.forget_bias * is_forget

    def _initial_pace(self, shape, dtype=None):
        """Components that weigh a place fully together, and move at the pace hoped for."""
        start = [-math.log(self.components), 0.0, -math.log(self.steps_per_symbol)]
        return ops.cast(ops.repeat(ops.convert_to_tensor(start), self.components), dtype)

    def call(
        self,
        sequence,
        text,
        sequence_mask=None,
        text_mask=None,
        initial_state=None,
        training=False,
    ):
        wide = sum_dtype(self.compute_dtype)
        sequence, text = ops.cast(sequence, self.compute_dtype), ops.cast(text, wide)
        if text_mask is not None:
            text = ops.where(ops.cast(text_mask, "bool")[..., None], text, 0.0)
        real = RealSteps(sequence, sequence_mask)
        places = ops.shape(text)[1]
        start = self._start(initial_state, ops.shape(sequence)[0], text.shape[-1])
        kernel, *others = self.kernel, self.bias, self.recurrent_kernel
        others += [self.window_kernel, self.window_bias, *self.peephole_weights]
        kernel = ops.cast(backend.value(kernel), self.compute_dtype)
        weights = [kernel, *(ops.cast(backend.value(x), wide) for x in others)]
        given = at_least_one(text, axis=1), weights, start
        packed, clip = real.pack(sequence), self.clip_derivatives
        if training and self.memory_budget is not None:
            found, last = budgeted_window_loop(packed, *given, self.memory_budget, real.front, clip)
            h, window, kappa, shape = found
            end = [real.after(x, s) for x, s in zip(last, start)]
        else:
            packed = ops.transpose(packed, (1, 0, 2))
            found = window_loop(packed, *given, real.length, clip, save=bool(training))
            h, c, window, kappa, shape = (ops.transpose(x, (1, 0, 2)) for x in found)
            end = [real.last(x, s) for x, s in zip((h, c, window, kappa), start)]
        outputs = h, window, weigh(kappa, shape, places + 1)
        outputs = [real.spread(x, self.zero_output_for_mask) for x in outputs]
        found = (*outputs, *end) if self.return_state else outputs
        return tuple(ops.cast(x, self.compute_dtype) for x in found)

    def _start(self, initial_state, batch, symbols):
        wide, sizes = sum_dtype(self.compute_dtype), self.state_sizes(symbols)
        if initial_state is None:
            return tuple(ops.zeros((batch, size), wide) for size in sizes)
        state = keras.tree.flatten(initial_state)
        if len(state) != len(sizes):
            raise ValueError(
                f"WindowLSTM takes an initial state of {len(sizes)} tensors, h, c, window and "
                f"kappa; got {len(state)}"
            )
        return tuple(ops.cast(x, wide) for x in state)

    def state_sizes(self, symbols: int) -> tuple[int, int, int, int]:
        """Sizes of h, c, window and kappa for a text of such symbols."""
        return self.units, self.units, symbols, self.components

    def compute_output_spec(
        self,
        sequence,
        text,
        sequence_mask=None,
        text_mask=None,
        initial_state=None,
        training=False,
    ):
        if not self.built:
            self.build(sequence.shape, text.shape)
        (batch, time, _), (_, places, symbols) = sequence.shape, text.shape
        sizes = [self.units, symbols, None if places is None else places + 1]
        shapes = [(batch, time, size) for size in sizes]
        if self.return_state:
            shapes += [(batch, size) for size in self.state_sizes(symbols)]
        return tuple(keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)

    def compute_mask(self, sequence, text, sequence_mask=None, *_):
        return (*[sequence_mask] * 3, *[None] * (4 * self.return_state))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "components": self.components,
            "steps_per_symbol": self.steps_per_symbol,
            "peepholes": self.peepholes,
            "clip_derivatives": self.clip_derivatives,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "forget_bias": self.forget_bias,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
            "memory_budget": self.memory_budget,
        }
