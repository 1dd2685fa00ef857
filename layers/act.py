"""Adaptive Computation Time."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import OwnDense, SequenceLayer, sequence_spec, serializable, sum_dtype
from ._halting_loop import Setting, halting_loop
from ._padding import RealSteps
from ._steps import Dropout, output_size, pack_state, step_of, zero_state


@serializable
class ACT(SequenceLayer):
    """A recurrent layer that thinks several times per input (Graves, 2016, eqs. 4-13).

    For every input the cell is updated until the sum of the halting probabilities, one of a sigmoid
    unit after each update, reaches `1 - epsilon`, or `max_ponder` updates are made. The first
    update sees the input with a flag of 1 behind it, later ones the same input with a flag of 0.
    State and output are the averages of those of all updates, weighted by the halting
    probabilities; the last update gets what remains of one. A loss of `time_penalty * (N + R)` for
    each input, summed over time and averaged over the batch, is added to the model; N counts as a
    constant for the gradient (section 2.1).

    Every row of a batch runs at its own pace: a row that halts goes on to its next input at once.
    Under XLA, and where else the size of the batch is known when the graph is made, rows that are
    finished cost nothing as soon as they are half of the batch.

    Args:
        cell: a Keras RNN cell, or a list of cells to stack. A cell must treat the rows of a batch
            alike and draw no random numbers other than Keras's own cell dropout, whose masks stay
            fixed for a sequence.
        max_ponder: M, the most updates for an input.
        epsilon: makes it possible to halt after one update.
        time_penalty: tau, the weight of the ponder cost.
        return_sequences: whether to return the output of every input or of the last one.
        return_state: whether to return the last state as well.
        return_ponder: whether to return, last, the updates N and the remainders R.
        memory_budget: bytes that training may use to remember the updates of the whole batch. What
            does not fit is computed again. Half of the rows, and a quarter, that go on alone may
            use as much each.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return the outputs, N and R
            in that order.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        mask: `(batch, time)` boolean; False steps are skipped.
        initial_state: list of `(batch, size)` tensors as the cell's state; zeros where it is None.
        training: whether the cell's dropout is active.

    Returns:
        Output `(batch, time, units)` or `(batch, units)`; then, if asked for, the state's tensors;
        then, if asked for, N and R, `(batch, time)` float32 (float64 for a float64 layer), zero at
        masked steps.

    Raises:
        ValueError: `cell` is no cell, `max_ponder` is under 1, `epsilon` is outside (0, 1),
            `time_penalty` is negative, `memory_budget` is not positive, or the input is not of rank
            3.

    Masking:
        A masked step costs nothing: the state passes it, and N = R = 0. Its output repeats the one
        before (zero at the beginning), as in `keras.layers.RNN`, or is zero.

    Attributes:
        cell: the cell.
        halting: the `keras.layers.Dense(1)` whose kernel and bias make the halting unit. Its bias
            starts at 1.

    Example:
        >>> layer = ACT(keras.layers.LSTMCell(8), return_sequences=True, return_ponder=True)
        >>> output, updates, remainder = layer(keras.ops.ones((2, 3, 4)))
        >>> output.shape, updates.shape
        (TensorShape([2, 3, 8]), TensorShape([2, 3]))

    Reference:
        Graves, "Adaptive Computation Time for Recurrent Neural Networks", 2016, arXiv:1603.08983.
    """

    def __init__(
        self,
        cell: keras.layers.Layer | Sequence[keras.layers.Layer],
        max_ponder: int = 100,
        epsilon: float = 0.01,
        time_penalty: float = 0.01,
        return_sequences: bool = False,
        return_state: bool = False,
        return_ponder: bool = False,
        memory_budget: int = 2**27,
        zero_output_for_mask: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, **kwargs)
        if isinstance(cell, (list, tuple)):
            cell = keras.layers.StackedRNNCells(cell, dtype=self.dtype_policy)
        if not isinstance(cell, keras.layers.Layer) or not hasattr(cell, "state_size"):
            raise ValueError(
                f"cell must be a Keras layer with a state_size, such as LSTMCell; got {cell!r}"
            )
        if max_ponder != int(max_ponder) or max_ponder < 1:
            raise ValueError(f"max_ponder must be a whole number from 1 on; got {max_ponder!r}")
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon must lie between 0 and 1, both excluded; got {epsilon!r}")
        if not time_penalty >= 0:
            raise ValueError(f"time_penalty must be 0 or more; got {time_penalty!r}")
        if not memory_budget > 0:
            raise ValueError(
                f"memory_budget must be a positive number of bytes; got {memory_budget!r}"
            )
        self.cell = cell
        self.max_ponder = int(max_ponder)
        self.epsilon = float(epsilon)
        self.time_penalty = float(time_penalty)
        self.return_sequences = return_sequences
        self._with_state = return_state
        # What `keras.layers.Bidirectional` asks: whether there is more than the output.
        self.return_state = return_state or return_ponder
        self.return_ponder = return_ponder
        self.memory_budget = int(memory_budget)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.supports_masking = True
        self.halting = OwnDense(1, bias_initializer="ones", name="halting", dtype=self.dtype_policy)

    @property
    def _sum_dtype(self):
        return sum_dtype(self.compute_dtype)

    def build(self, sequence_shape, initial_state_shape=None):
        self.input_spec = sequence_spec("ACT", sequence_shape)
        if not self.cell.built:
            self.cell.build((sequence_shape[0], sequence_shape[-1] + 1))
            self.cell.built = True
        if not all(layer.built for layer in self.cell._flatten_layers()):
            # Its first call builds layers of the cell, and must not be within the loop.
            inputs = ops.zeros((1, sequence_shape[-1] + 1), self.cell.compute_dtype)
            self.cell(inputs, zero_state(self.cell, 1))
        if not self.halting.built:
            self.halting.build((sequence_shape[0], output_size(self.cell)))

    def call(self, sequence, mask=None, initial_state=None, training=False):
        sequence, mask = self.in_order(ops.cast(sequence, self.cell.compute_dtype), mask)
        real = RealSteps(sequence, mask)
        sequence, batch = real.pack(sequence), ops.shape(sequence)[0]
        if initial_state is None:
            initial_state = zero_state(self.cell, batch)
        state = [ops.cast(s, self.cell.compute_dtype) for s in keras.tree.flatten(initial_state)]

        first = ops.concatenate([sequence[:, 0], ops.ones_like(sequence[:, 0, :1])], axis=-1)
        dropout = Dropout(self.cell, first, pack_state(self.cell, state), training)
        step = step_of(self.cell, training, dropout)
        rows, weights = step.enter(sequence)
        halting = (
            ops.cast(backend.value(self.halting.kernel), self._sum_dtype)[:, 0],
            ops.cast(backend.value(self.halting.bias), self._sum_dtype)[0],
        )
        setting = Setting(step, real.length, self.max_ponder, 1 - self.epsilon, self.memory_budget)
        output, updates, remainder, state = halting_loop(
            setting, rows, weights, halting, state, real.count, save=bool(training)
        )
        dropout.release()
        if self.time_penalty:
            ponder = ops.sum(updates + remainder) / ops.cast(ops.maximum(batch, 1), updates.dtype)
            self.add_loss(self.time_penalty * ponder)
        output = ops.cast(output, self.compute_dtype)
        if self.return_sequences:
            output = real.spread(output, self.zero_output_for_mask)
        else:
            output = real.last(output, ops.zeros_like(output[:, 0]))
        updates, remainder = (real.spread(x, True) for x in (updates, remainder))
        state = [ops.cast(s, self.compute_dtype) for s in state]
        return self._pack(output, state, updates, remainder)

    def _pack(self, output, state, updates, remainder):
        result = [output]
        if self._with_state:
            result += state
        if self.return_ponder:
            result += [updates, remainder]
        return tuple(result) if len(result) > 1 else output

    def compute_output_spec(self, sequence, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(sequence.shape)
        batch, steps, _ = sequence.shape
        units = output_size(self.cell)

        def spec(*shape, dtype=self.compute_dtype):
            return keras.KerasTensor((batch, *shape), dtype=dtype)

        output = spec(steps, units) if self.return_sequences else spec(units)
        state = [spec(size) for size in keras.tree.flatten(self.cell.state_size)]
        return self._pack(
            output, state, spec(steps, dtype=self._sum_dtype), spec(steps, dtype=self._sum_dtype)
        )

    def compute_mask(self, sequence, mask=None):
        mask = self.mask_of_sequence(mask)
        output = mask if self.return_sequences else None
        state = [None for _ in keras.tree.flatten(self.cell.state_size)]
        return self._pack(output, state, mask, mask)

    def get_config(self):
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "max_ponder": self.max_ponder,
            "epsilon": self.epsilon,
            "time_penalty": self.time_penalty,
            "return_sequences": self.return_sequences,
            "return_state": self._with_state,
            "return_ponder": self.return_ponder,
            "memory_budget": self.memory_budget,
            "zero_output_for_mask": self.zero_output_for_mask,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        cell = keras.saving.deserialize_keras_object(config["cell"], custom_objects=custom_objects)
        return cls(**{**config, "cell": cell})
