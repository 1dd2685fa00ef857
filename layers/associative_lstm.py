"""Associative Long Short-Term Memory."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from . import _backend as backend
from ._base import SequenceLayer, budget_of, is_whole, sequence_spec, serializable, sum_dtype, whole
from ._memory_loop import Setting, memory_loop
from ._padding import RealSteps


@serializable
class AssociativeLSTMCell(keras.layers.Layer):
    """One step of an Associative LSTM, for `keras.layers.RNN` and `ACT` (Danihelka et al., 2016).

    The state is an associative array. Vectors of `units` numbers stand for `units / 2` complex
    ones, real parts first; `bound` divides those of modulus above 1 by it, and `*` multiplies
    component by component. From input and output before, the cell makes three gates, one number
    for each complex one, an input key, an output key and an update, all three bound. With
    permutation P of each copy:

        c = forget * c + P(input key) * (input * update)
        h = output * bound(mean over copies of P(output key) * c)

    What is stored under other keys comes out as noise, which the mean over copies lowers: n random
    values stored under random keys come back with the squared error `(n - 1) / copies` of their
    mean square. No weight depends on the number of copies.

    The permutation of the first copy is the identity, which only says in which order keys are
    written down; those of the others are random and part of the saved weights. The paper gives
    neither its initial values nor whether the update sees h: by its count of parameters it does
    not. The cell's memory is computed in float32 at least.

    Args:
        units: size of the output; even.
        copies: S, how often everything is stored.
        use_recurrent_candidate: whether the update sees the output before.
        forget_bias: what the bias of the forget gate begins with, beside its initializer.
        permutation_seed: of the permutations that are drawn when the cell is built.
        kernel_initializer, recurrent_initializer, bias_initializer: of the maps from input and
            output to, in this order, forget, input and output gates, input key, output key and
            update.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, features)`.
        states: h `(batch, units)` and c `(batch, copies * units)`, the real parts of all copies
            before the imaginary parts.

    Returns:
        h `(batch, units)`, and the new states in the dtypes of the old.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Example:
        >>> cell = AssociativeLSTMCell(8, copies=3)
        >>> output, states = cell(keras.ops.ones((2, 5)), cell.get_initial_state(2))
        >>> output.shape, states[1].shape
        (TensorShape([2, 8]), TensorShape([2, 24]))

    Reference:
        Danihelka, Wayne, Uria, Kalchbrenner and Graves, "Associative Long Short-Term Memory", 2016,
        arXiv:1602.03032.
    """

    def __init__(
        self,
        units: int,
        copies: int = 1,
        use_recurrent_candidate: bool = False,
        forget_bias: float = 1.0,
        permutation_seed: int = 0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        # States come in as they are: a memory in half precision would forget.
        super().__init__(autocast=False, **kwargs)
        if not is_whole(units) or units < 2 or units % 2:
            raise ValueError(f"units must be an even number from 2 on; got {units!r}")
        self.units = int(units)
        self.copies = whole("copies", copies, 1)
        self.use_recurrent_candidate = use_recurrent_candidate
        self.forget_bias = float(forget_bias)
        self.permutation_seed = permutation_seed
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.state_size = [self.units, self.copies * self.units]
        self.output_size = self.units

    @property
    def memory_dtype(self):
        """Of the memory and its arithmetic: float64 for a float64 layer, else float32."""
        return sum_dtype(self.compute_dtype)

    def build(self, inputs_shape, states_shape=None):
        if len(inputs_shape) != 2 or inputs_shape[-1] is None:
            raise ValueError(
                "AssociativeLSTMCell needs inputs of shape (batch, features) with known features; "
                f"got {tuple(inputs_shape)}"
            )
        half = self.units // 2
        recurrent = 9 if self.use_recurrent_candidate else 7
        self.kernel = self.add_weight(
            (inputs_shape[-1], 9 * half), self.kernel_initializer, name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            (self.units, recurrent * half), self.recurrent_initializer, name="recurrent_kernel"
        )
        self.bias = self.add_weight((9 * half,), self._initial_bias, name="bias")
        self.permutations = None
        if self.copies > 1:
            self.permutations = self.add_weight(
                (self.copies - 1, half),
                self._random_permutations,
                dtype="int",
                trainable=False,
                name="permutations",
            )

    def _initial_bias(self, shape, dtype=None):
        first = ops.cast(ops.arange(shape[0]) < self.units // 2, dtype)
        return self.bias_initializer(shape, dtype=dtype) + self.forget_bias * first

    def _random_permutations(self, shape, dtype=None):
        rng = np.random.default_rng(self.permutation_seed)
        rows = [rng.permutation(shape[1]) for _ in range(shape[0])]
        return ops.convert_to_tensor(np.array(rows), dtype=dtype)

    def get_initial_state(self, batch_size):
        """Zeros."""
        return [
            ops.zeros((batch_size, self.units), self.compute_dtype),
            ops.zeros((batch_size, self.copies * self.units), self.memory_dtype),
        ]

    def call(self, inputs, states):
        h, c = states
        dtype = self.compute_dtype
        seen = ops.concatenate([ops.cast(inputs, dtype), ops.cast(h, dtype)], axis=-1)
        kernel, bias = self.joint_weights()
        z = ops.cast(seen @ kernel + bias, self.memory_dtype)
        new, memory = self.access(z, self.split(c), *self.orders())
        return ops.cast(new, dtype), [ops.cast(new, h.dtype), ops.cast(self.join(memory), c.dtype)]

    def joint_weights(self):
        """The kernel of input and h as one, `(features + units, 4.5 * units)`, and the bias."""
        kernel, recurrent, bias = (
            ops.cast(backend.value(x), self.compute_dtype)
            for x in (self.kernel, self.recurrent_kernel, self.bias)
        )
        missing = kernel.shape[-1] - recurrent.shape[-1]
        recurrent = ops.pad(recurrent, ((0, 0), (0, missing)))
        return ops.concatenate([kernel, recurrent]), bias

    def orders(self):
        """For each place in all copies of a key its place in the key, and the other way round.

        Both are `(copies * units / 2,)` int32, and None where there is a single copy.
        """
        if self.permutations is None:
            return None, None
        half = self.units // 2
        permutations = ops.cast(backend.value(self.permutations), "int32")
        order = ops.concatenate([ops.arange(half, dtype="int32")[None], permutations])
        back = ops.cast(ops.argsort(order, axis=-1), "int32")
        back = back + half * ops.arange(self.copies, dtype="int32")[:, None]
        return ops.reshape(order, (-1,)), ops.reshape(back, (-1,))

    def split(self, c):
        """Real and imaginary parts `(batch, copies, units / 2)` of a state."""
        c = ops.reshape(ops.cast(c, self.memory_dtype), (-1, 2, self.copies, self.units // 2))
        return [c[:, 0], c[:, 1]]

    def join(self, memory):
        """The state that `split` was given."""
        return ops.reshape(ops.stack(memory, axis=1), (-1, self.copies * self.units))

    def access(self, z, memory, order, back):
        """Stores and retrieves.

        Args:
            z: `(batch, 4.5 * units)`, the map of input and h.
            memory: real and imaginary parts, each `(batch, copies, units / 2)`.
            order, back: of `orders`.

        Returns:
            h `(batch, units)`, and the new `memory`.
        """
        # XLA takes half the time for this gradient that it takes for its own.
        run = backend.differentiable(
            _access, lambda *tensors: (_access(*tensors), tensors), _access_gradient
        )
        orders = [] if order is None else [order, back]
        h, *memory = run(z, *memory, *orders)
        return h, memory

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "copies": self.copies,
            "use_recurrent_candidate": self.use_recurrent_candidate,
            "forget_bias": self.forget_bias,
            "permutation_seed": self.permutation_seed,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@serializable
class AssociativeLSTM(SequenceLayer):
    """An Associative LSTM over sequences (Danihelka et al., 2016).

    It computes what `keras.layers.RNN(AssociativeLSTMCell(...))` does, with a gradient whose
    products for the weights wait for the end, and with a memory that stays in float32 from step to
    step under mixed precision. `AssociativeLSTMCell` has the equations. Training keeps the memory
    of every step: `time * batch * copies * units` numbers.

    Args:
        units: size of the output; even.
        copies: S, how often everything is stored.
        use_recurrent_candidate: whether the update sees the output before.
        forget_bias: what the bias of the forget gate begins with, beside its initializer.
        permutation_seed: of the permutations that are drawn when the layer is built.
        kernel_initializer, recurrent_initializer, bias_initializer: as in the cell.
        return_sequences: whether to return the output of every step or of the last one.
        return_state: whether to return the last states as well.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return its outputs in that
            order.
        memory_budget: bytes that training may use to remember the steps of the whole batch; what
            does not fit is computed again, see `plan_memory`. None for no bound.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        mask: `(batch, time)` boolean; False steps are skipped.
        initial_state: h `(batch, units)` and c `(batch, copies * units)`; zeros where it is None.
        training: whether to keep what the gradient needs; without it a gradient runs the loop
            again.

    Returns:
        Output `(batch, time, units)`, or `(batch, units)` without the time; then, if asked for, h
        and c, which is float32 at least.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        A masked step changes no state. Its output repeats the one before (zero at the beginning),
        as in `keras.layers.RNN`, or is zero.

    Attributes:
        cell: the `AssociativeLSTMCell` that has all weights.

    Example:
        >>> layer = AssociativeLSTM(8, copies=3, return_sequences=True)
        >>> layer(keras.ops.ones((2, 4, 5))).shape
        TensorShape([2, 4, 8])

    Reference:
        Danihelka, Wayne, Uria, Kalchbrenner and Graves, "Associative Long Short-Term Memory", 2016,
        arXiv:1602.03032.
    """

    def __init__(
        self,
        units: int,
        copies: int = 1,
        use_recurrent_candidate: bool = False,
        forget_bias: float = 1.0,
        permutation_seed: int = 0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        return_sequences: bool = False,
        return_state: bool = False,
        zero_output_for_mask: bool = False,
        go_backwards: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        self.cell = AssociativeLSTMCell(
            units,
            copies=copies,
            use_recurrent_candidate=use_recurrent_candidate,
            forget_bias=forget_bias,
            permutation_seed=permutation_seed,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            name="cell",
        )
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.memory_budget = budget_of(memory_budget)
        self.supports_masking = True

    def build(self, sequence_shape, initial_state_shape=None):
        self.input_spec = sequence_spec("AssociativeLSTM", sequence_shape)
        if not self.cell.built:
            self.cell.build((sequence_shape[0], sequence_shape[-1]))
            self.cell.built = True

    def call(self, sequence, mask=None, initial_state=None, training=False):
        cell, dtype = self.cell, self.cell.compute_dtype
        sequence, mask = self.in_order(sequence, mask)
        real = RealSteps(sequence, mask)
        rows = ops.transpose(real.clear(ops.cast(sequence, dtype)), (1, 0, 2))
        mask = None if mask is None else ops.transpose(real.mask)
        if initial_state is None:
            initial_state = cell.get_initial_state(ops.shape(sequence)[0])
        h, c = ops.cast(initial_state[0], dtype), cell.split(initial_state[1])
        order, back = cell.orders()
        access = functools.partial(cell.access, order=order, back=back)
        setting = Setting(_Both(), access, real.length, budget=self.memory_budget)
        weights = cell.joint_weights()
        _, outputs, _, last, memory, _ = memory_loop(
            setting, rows, [], weights, [], h, c, mask, save=bool(training)
        )
        if self.return_sequences:
            output = real.finish(ops.transpose(outputs, (1, 0, 2)), self.zero_output_for_mask)
        else:
            output = ops.where(real.count[:, None] > 0, last, ops.zeros_like(last))
        if not self.return_state:
            return output
        memory = [real.after(a, b) for a, b in zip(memory, c)]
        return output, real.after(last, h), cell.join(memory)

    def compute_output_spec(self, sequence, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(sequence.shape)
        batch, steps, _ = sequence.shape
        h, c = self.cell.state_size
        shape = (batch, steps, h) if self.return_sequences else (batch, h)
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not self.return_state:
            return output
        return (
            output,
            keras.KerasTensor((batch, h), dtype=self.compute_dtype),
            keras.KerasTensor((batch, c), dtype=self.cell.memory_dtype),
        )

    def compute_mask(self, sequence, mask=None):
        output = self.mask_of_sequence(mask) if self.return_sequences else None
        return (output, None, None) if self.return_state else output

    def get_config(self):
        return {
            **self.cell.get_config(),
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
            "memory_budget": self.memory_budget,
        }


class _Both:
    """The controller of `_memory_loop.py` that hands on the input and what was read."""

    def forward(self, weights, row, reads, state):
        return ops.concatenate([row, reads], axis=-1), state, []

    def prepare(self, weights):
        return None

    def backward(self, prepared, row, reads, state, saved):
        def pull(d_output, d_state):
            features = row.shape[-1]
            return d_output[:, :features], d_output[:, features:], d_state, []

        return pull

    def weight_gradients(self, weights, rows, reads, state, d_rows, memo, times):
        return []


# Complex numbers are pairs of tensors, real and imaginary part.


def _times(a, b):
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _conjugate_times(a, b):
    return a[0] * b[0] + a[1] * b[1], a[0] * b[1] - a[1] * b[0]


def _scaled(a, b):
    return a * b[0], a * b[1]


def _inner(a, b):
    return a[0] * b[0] + a[1] * b[1]


def _bound(z):
    """`z` with moduli of 1 at most, what it was multiplied by, and where that was not 1."""
    square = _inner(z, z)
    scale = ops.rsqrt(ops.maximum(1.0, square))
    return _scaled(scale, z), (scale, square > 1)


def _bound_gradient(bounded, change, d):
    """The cotangent of what was bounded: outside the unit circle its radial part is 0.

    `outside` is told by the modulus: processors differ in whether `rsqrt(1.0)` is less than 1.
    """
    scale, outside = change
    radial = ops.where(outside, _inner(bounded, d), ops.zeros_like(scale))
    along = _scaled(radial, bounded)
    return scale * (d[0] - along[0]), scale * (d[1] - along[1])


def _copied(key, order):
    """All copies `(batch, copies, half)` of a part of a key, `(batch, half)`."""
    if order is None:
        return key[:, None]
    half = key.shape[-1]
    return ops.reshape(ops.take(key, order, axis=-1), (-1, order.shape[0] // half, half))


def _gathered(d, back):
    """The gradient of `_copied`; XLA would scatter."""
    if back is not None:
        d = ops.reshape(
            ops.take(ops.reshape(d, (-1, back.shape[0])), back, axis=-1), (-1, *d.shape[1:])
        )
    return ops.sum(d, axis=1)


def _told(z):
    """Forget, input and output gate; input key, output key and update with what bounding did."""
    forget, enter, leave, *pairs = ops.split(z, 9, axis=-1)
    gates = [ops.sigmoid(x) for x in (forget, enter, leave)]
    return *gates, *(_bound(pairs[i : i + 2]) for i in (0, 2, 4))


def _store(told, c, order):
    """The new memory, and the input key's copies and the value that made it."""
    forget, enter, _, (key, _), _, (update, _) = told
    keys = [_copied(x, order) for x in key]
    value = [x[:, None] for x in _scaled(enter, update)]
    product = _times(keys, value)
    return [forget[:, None] * x + y for x, y in zip(c, product)], keys, value


def _retrieve(told, c, order):
    """What is read with what bounding did, and the output key's copies."""
    keys = [_copied(x, order) for x in told[4][0]]
    read = _bound([ops.mean(x, axis=1) for x in _times(keys, c)])
    return read, keys


def _access(z, real, imaginary, *orders):
    told, order = _told(z), orders[0] if orders else None
    c, _, _ = _store(told, (real, imaginary), order)
    (read, _), _ = _retrieve(told, c, order)
    return ops.concatenate(_scaled(told[2], read), axis=-1), *c


def _access_gradient(tensors, cotangents):
    z, real, imaginary, *orders = tensors
    c, (order, back) = (real, imaginary), orders or (None, None)
    d_h, *d_new = cotangents
    told = _told(z)
    forget, enter, leave, (key, key_change), (out_key, out_change), (update, change) = told
    new, keys, value = _store(told, c, order)
    (read, read_change), out_keys = _retrieve(told, new, order)

    d_h = ops.split(d_h, 2, axis=-1)
    d_mean = _bound_gradient(read, read_change, _scaled(leave, d_h))
    d_mean = [x[:, None] / new[0].shape[1] for x in d_mean]
    d_new = [x + y for x, y in zip(d_new, _conjugate_times(out_keys, d_mean))]
    d_value = [ops.sum(x, axis=1) for x in _conjugate_times(keys, d_new)]
    d_out_key, d_key = (
        [_gathered(x, back) for x in _conjugate_times(a, d)]
        for a, d in ((new, d_mean), (value, d_new))
    )
    d_gates = [ops.sum(_inner(d_new, c), axis=1), _inner(d_value, update), _inner(d_h, read)]
    d_z = [
        *(d * x * (1 - x) for d, x in zip(d_gates, (forget, enter, leave))),
        *_bound_gradient(key, key_change, d_key),
        *_bound_gradient(out_key, out_change, d_out_key),
        *_bound_gradient(update, change, _scaled(enter, d_value)),
    ]
    return ops.concatenate(d_z, axis=-1), *_scaled(forget[:, None], d_new), *(None for _ in orders)
