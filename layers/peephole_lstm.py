"""LSTM layers with peepholes, in one direction or both, and deep stacks of them."""

import itertools
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import SequenceLayer, bound, budget_of, sequence_spec, serializable, sum_dtype, whole
from ._padding import RealSteps
from ._recurrent_loop import budgeted_recurrent_loop, recurrent_loop


@serializable
class PeepholeLSTM(SequenceLayer):
    """An LSTM layer whose gates see the cell (Graves, 2013, eqs. 7-11), in one direction or both.

        i = sigmoid(W_i x + U_i h + p_i * c_before + b_i)
        f = sigmoid(W_f x + U_f h + p_f * c_before + b_f)
        c = f * c_before + i * tanh(W_c x + U_c h + b_c)
        o = sigmoid(W_o x + U_o h + p_o * c + b_o)
        h = o * tanh(c)

    The input's products are taken for all steps at once, each direction goes through one loop, and
    the gradient is written by hand, so that XLA sees one small loop forwards and one backwards. The
    loop and its states are float32 where the layer computes in half precision.

    Args:
        units: of each direction.
        bidirectional: whether a second set of cells reads the sequence from its end. Steps that
            are masked are left out, so that it begins at the last real step.
        peepholes: whether the gates see the cell; without it this is the usual LSTM.
        clip_derivatives: bound of the loss's derivatives by what enters the gates (Graves, 2013,
            section 2.1), or 0 for none.
        kernel_initializer, recurrent_initializer, bias_initializer: of the weights; the peepholes
            begin as the recurrent weights do.
        forget_bias: what the bias of the forget gate begins with, beside its initializer.
        return_sequences: whether to return the output of every step or of the last one; the last
            of the backward direction is that at the first step.
        return_state: whether to return the last states as well.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return its outputs in that
            order; `bidirectional` reads it both ways.
        memory_budget: bytes that training may use to remember the steps of the whole batch, both
            directions together; what does not fit is computed again (`plan_memory`). None for no
            bound.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        mask: `(batch, time)` boolean; False steps are skipped, wherever they are.
        initial_state: list of `(batch, units)` tensors, h and c of each direction; zero without it.
        training: whether to keep what the gradient needs; without it a gradient runs the loop
            again.

    Returns:
        `(batch, time, units)`, or twice the units with the backward direction behind; or without
        the time; then, if asked for, h and c of each direction.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        A masked step changes no state. Its output is zero, or, as in `keras.layers.RNN`, repeats
        for each direction the one that was read before it (zero at the beginning).

    Example:
        >>> layer = PeepholeLSTM(4, bidirectional=True)
        >>> layer(keras.ops.ones((2, 3, 5))).shape
        TensorShape([2, 3, 8])

    Reference:
        Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850; Gers,
        Schraudolph and Schmidhuber, "Learning Precise Timing with LSTM Recurrent Networks", 2002.
    """

    def __init__(
        self,
        units: int,
        bidirectional: bool = False,
        peepholes: bool = True,
        clip_derivatives: float = 0.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "orthogonal",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        forget_bias: float = 0.0,
        return_sequences: bool = True,
        return_state: bool = False,
        zero_output_for_mask: bool = True,
        go_backwards: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.bidirectional = bool(bidirectional)
        self.peepholes = bool(peepholes)
        self.clip_derivatives = bound("clip_derivatives", clip_derivatives)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.forget_bias = float(forget_bias)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.memory_budget = budget_of(memory_budget)
        self.supports_masking = True

    @property
    def _directions(self):
        return ("forward", "backward") if self.bidirectional else ("forward",)

    def build(self, sequence_shape, initial_state_shape=None):
        self.input_spec = sequence_spec(type(self).__name__, sequence_shape)
        features, units = sequence_shape[-1], self.units
        recurrent = self.recurrent_initializer
        self.kernels = self._add("kernel", (features, 4 * units), self.kernel_initializer)
        self.recurrent_kernels = self._add("recurrent_kernel", (units, 4 * units), recurrent)
        self.biases = self._add("bias", (4 * units,), self._initial_bias)
        self.peephole_weights = []
        if self.peepholes:
            self.peephole_weights = self._add("peepholes", (3, units), recurrent)

    def _add(self, name, shape, initializer):
        """A weight for each direction; an initializer that is used twice would repeat itself."""
        return [
            self.add_weight(
                shape,
                initializer.clone() if hasattr(initializer, "clone") else initializer,
                name=f"{direction}_{name}",
            )
            for direction in self._directions
        ]

    def _initial_bias(self, shape, dtype=None):
        is_forget = ops.cast(ops.arange(shape[0]) // self.units == 1, dtype)
        return self.bias_initializer(shape, dtype=dtype) + self.forget_bias * is_forget

    def call(self, sequence, mask=None, initial_state=None, training=False):
        sequence, mask = self.in_order(ops.cast(sequence, self.compute_dtype), mask)
        real = RealSteps(sequence, mask)
        outputs, end = self._run(real, real.pack(sequence), initial_state, training)
        if self.return_sequences:
            output = self._spread(real, outputs)
        else:
            output = ops.concatenate(end[::2], axis=-1)
        return (output, *end) if self.return_state else output

    def _run(self, real, packed, initial_state, training):
        """Reads `packed`, which `real.pack` gave, and says what each direction puts out.

        Returns:
            A list of `(batch, T, units)`, packed in the order of the sequence; and h and c of each
            direction at its end, `(batch, units)`.
        """
        read = [packed, real.turned(packed)] if self.bidirectional else [packed]
        start = self._start(initial_state, ops.shape(packed)[0])
        if training and self.memory_budget is not None:
            found, end = self._run_within_budget(real, read, start)
            return self._answers(real, found, end)
        found = []
        for d, (x, state) in enumerate(zip(read, start)):
            pair = recurrent_loop(
                ops.transpose(x, (1, 0, 2)),
                self._weights_of(d),
                state,
                real.length,
                self.clip_derivatives,
                save=bool(training),
            )
            found.append([ops.transpose(x, (1, 0, 2)) for x in pair])
        end = [real.last(x, s) for xs, ss in zip(found, start) for x, s in zip(xs, ss)]
        return self._answers(real, [h for h, _ in found], end)

    def _run_within_budget(self, real, read, start):
        found, end = [], []
        for d, (x, state) in enumerate(zip(read, start)):
            outputs, last = budgeted_recurrent_loop(
                x,
                self._weights_of(d),
                state,
                self.memory_budget // len(read),
                real.front,
                self.clip_derivatives,
            )
            found.append(outputs)
            end += [real.after(x, s) for x, s in zip(last, state)]
        return found, end

    def _answers(self, real, read, end):
        outputs = [read[0], *(real.turned(h) for h in read[1:])]
        return tuple([ops.cast(x, self.compute_dtype) for x in some] for some in (outputs, end))

    def _spread(self, real, outputs):
        """`(batch, time, size)` of packed outputs of the directions, in turn."""
        if self.zero_output_for_mask:
            return real.spread(ops.concatenate(outputs, axis=-1), True)
        turns = itertools.cycle([False, True][: len(self._directions)])
        return ops.concatenate([real.spread(h, False, b) for h, b in zip(outputs, turns)], axis=-1)

    def _weights_of(self, direction):
        """As `recurrent_loop` wants them; only the input's product is in half precision."""
        wide = sum_dtype(self.compute_dtype)
        kernel = ops.cast(backend.value(self.kernels[direction]), self.compute_dtype)
        others = [self.biases[direction], self.recurrent_kernels[direction]]
        others += [self.peephole_weights[direction]] if self.peepholes else []
        return [kernel, *(ops.cast(backend.value(w), wide) for w in others)]

    def _start(self, initial_state, batch):
        count = 2 * len(self._directions)
        wide = sum_dtype(self.compute_dtype)
        if initial_state is None:
            state = [ops.zeros((batch, self.units), wide)] * count
        else:
            state = [ops.cast(x, wide) for x in keras.tree.flatten(initial_state)]
        if len(state) != count:
            raise ValueError(
                f"{type(self).__name__} takes an initial state of {count} tensors, h and c of each "
                f"direction; got {len(state)}"
            )
        return list(zip(state[::2], state[1::2]))

    def compute_output_spec(self, sequence, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(sequence.shape)
        batch, steps, _ = sequence.shape
        directions = len(self._directions)
        shape = (batch, steps) if self.return_sequences else (batch,)
        dtype = self.compute_dtype
        output = keras.KerasTensor((*shape, directions * self.units), dtype=dtype)
        if not self.return_state:
            return output
        state = keras.KerasTensor((batch, self.units), dtype=dtype)
        return (output, *[state] * (2 * directions))

    def compute_mask(self, sequence, mask=None):
        output = self.mask_of_sequence(mask) if self.return_sequences else None
        return (output, *[None] * (2 * len(self._directions))) if self.return_state else output

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "bidirectional": self.bidirectional,
            "peepholes": self.peepholes,
            "clip_derivatives": self.clip_derivatives,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "forget_bias": self.forget_bias,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
            "memory_budget": self.memory_budget,
        }


@serializable
class DeepLSTM(SequenceLayer):
    """A stack of `PeepholeLSTM` layers (Graves, Mohamed and Hinton, 2013, eqs. 11 and 12).

    Each layer reads both directions of the layer below. With `skips` it reads the input as well,
    and the output is that of all layers side by side (Graves, 2013, eqs. 1 to 5).

    Args:
        units: of each direction of each layer.
        layers: how many there are.
        bidirectional, peepholes, clip_derivatives, kernel_initializer, recurrent_initializer,
            bias_initializer, forget_bias: as in `PeepholeLSTM`.
        skips: whether all layers see the input and are seen at the output.
        return_state: whether to return the last states as well.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return its outputs in that
            order; `bidirectional` reads it both ways.
        memory_budget: bytes that training may use to remember the steps, as in `PeepholeLSTM`, of
            all layers together, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        mask: `(batch, time)` boolean; False steps are skipped.
        initial_state: list of `(batch, units)` tensors: h and c of each direction of each layer,
            from the lowest up; zero without it.
        training: as in `PeepholeLSTM`.

    Returns:
        `(batch, time, size)`, size being the units times the directions, and with `skips` times the
        layers; then, if asked for, the states.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        As in `PeepholeLSTM`; all layers leave the same steps out.

    Example:
        >>> layer = DeepLSTM(4, layers=2, bidirectional=True)
        >>> layer(keras.ops.ones((2, 3, 5))).shape
        TensorShape([2, 3, 8])

    Reference:
        Graves, Mohamed and Hinton, "Speech Recognition with Deep Recurrent Neural Networks", 2013,
        arXiv:1303.5778.
    """

    def __init__(
        self,
        units: int,
        layers: int,
        bidirectional: bool = False,
        peepholes: bool = True,
        clip_derivatives: float = 0.0,
        skips: bool = False,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "orthogonal",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        forget_bias: float = 0.0,
        return_state: bool = False,
        zero_output_for_mask: bool = True,
        go_backwards: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        layers = whole("layers", layers, 1)
        self.memory_budget = budget_of(memory_budget)
        self.skips = bool(skips)
        self.return_state = return_state
        self.supports_masking = True
        self.layers = [
            PeepholeLSTM(
                units,
                bidirectional=bidirectional,
                peepholes=peepholes,
                clip_derivatives=clip_derivatives,
                kernel_initializer=kernel_initializer,
                recurrent_initializer=recurrent_initializer,
                bias_initializer=bias_initializer,
                forget_bias=forget_bias,
                return_state=True,
                zero_output_for_mask=zero_output_for_mask,
                memory_budget=memory_budget and max(self.memory_budget // layers, 1),
                dtype=self.dtype_policy,
                name=f"layer_{i}",
            )
            for i in range(layers)
        ]

    def build(self, sequence_shape, initial_state_shape=None):
        width = sequence_shape[-1]
        for layer in self.layers:
            if not layer.built:
                layer.build((*sequence_shape[:-1], width))
            width = self._width + (sequence_shape[-1] if self.skips else 0)

    @property
    def _width(self):
        layer = self.layers[0]
        return layer.units * len(layer._directions)

    def call(self, sequence, mask=None, initial_state=None, training=False):
        each = 2 * len(self.layers[0]._directions)
        states = [None] * len(self.layers)
        if initial_state is not None:
            flat = keras.tree.flatten(initial_state)
            if len(flat) != each * len(self.layers):
                raise ValueError(
                    f"DeepLSTM takes an initial state of {each * len(self.layers)} tensors, h and "
                    f"c of each direction of each layer; got {len(flat)}"
                )
            states = [flat[i : i + each] for i in range(0, len(flat), each)]
        sequence, mask = self.in_order(ops.cast(sequence, self.compute_dtype), mask)
        real = RealSteps(sequence, mask)
        packed = entering = real.pack(sequence)
        outputs, end = [], []
        for layer, state in zip(self.layers, states):
            output, new = layer._run(real, entering, state, training)
            entering = ops.concatenate([*([packed] if self.skips else []), *output], axis=-1)
            outputs = [*(outputs if self.skips else []), *output]
            end += new
        output = self.layers[0]._spread(real, outputs)
        return (output, *end) if self.return_state else output

    def compute_output_spec(self, sequence, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(sequence.shape)
        count = len(self.layers)
        size = self._width * (count if self.skips else 1)
        output = keras.KerasTensor((*sequence.shape[:2], size), dtype=self.compute_dtype)
        if not self.return_state:
            return output
        layer = self.layers[0]
        state = keras.KerasTensor((sequence.shape[0], layer.units), dtype=self.compute_dtype)
        return (output, *[state] * (2 * len(layer._directions) * count))

    def compute_mask(self, sequence, mask=None):
        mask = self.mask_of_sequence(mask)
        if not self.return_state:
            return mask
        return (mask, *[None] * (2 * len(self.layers[0]._directions) * len(self.layers)))

    def get_config(self):
        config = self.layers[0].get_config()
        del config["return_sequences"]
        return {
            **config,
            **super().get_config(),
            "layers": len(self.layers),
            "skips": self.skips,
            "return_state": self.return_state,
            "memory_budget": self.memory_budget,
        }
