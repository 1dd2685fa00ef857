"""Any recurrent cell within a budget of memory."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from ._base import SequenceLayer, budget_of, sequence_spec, serializable
from ._budgeted import budgeted_recurrence
from ._held import Held
from ._memory_loop import SequenceDropout, as_rows, controller_of, entering
from ._padding import RealSteps
from ._scan import recurrence, stacked
from ._steps import output_size, pack_state, zero_state


@serializable
class RematRNN(SequenceLayer):
    """A Keras RNN cell over sequences, trained within a budget of memory (Gruslys et al., 2016).

    It computes what `keras.layers.RNN(cell)` does. Backpropagation through time keeps what fits the
    budget and computes the rest again, by the plan with the fewest forward operations: BPTT-HSM
    (section 3) over blocks of steps; `plan_memory` tells it. Gradients are those of plain
    backpropagation but for rounding, and dropout masks are the same when a step is taken again.

    Args:
        cell: a Keras RNN cell, or a list of cells to stack. It must treat the rows of a batch alike
            and draw no random numbers other than Keras's own cell dropout, whose masks stay fixed
            for a sequence.
        memory_budget: bytes that training may use to remember the steps of the whole batch, or None
            for no bound. Inputs, outputs and their gradients are not counted.
        return_sequences: whether to return the output of every step or of the last one.
        return_state: whether to return the last state as well.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return outputs in that
            order.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        mask: `(batch, time)` boolean; False steps are skipped.
        initial_state: list of `(batch, size)` tensors as the cell's state; the cell's own initial
            state where it is None.
        training: whether the cell's dropout is active, and whether to keep what the gradient needs
            within the budget; without it a gradient runs the loop again, with no bound.

    Returns:
        Output `(batch, time, units)` or `(batch, units)`; then, if asked for, the state's tensors.

    Raises:
        ValueError: `cell` is no cell, `memory_budget` is no positive number of bytes, the input is
            not of rank 3, or a sequence of known size does not fit the budget; the message says
            what would.

    Masking:
        A masked step changes no state. Its output repeats the one before (zero at the beginning),
        as in `keras.layers.RNN`, or is zero.

    Attributes:
        cell: the cell.

    Example:
        >>> layer = RematRNN(keras.layers.GRUCell(8), memory_budget=10_000, return_sequences=True)
        >>> layer(keras.ops.ones((2, 3, 4))).shape
        TensorShape([2, 3, 8])

    Reference:
        Gruslys, Munos, Danihelka, Lanctot and Graves, "Memory-Efficient Backpropagation Through
        Time", 2016, arXiv:1606.03401.
    """

    def __init__(
        self,
        cell: keras.layers.Layer | Sequence[keras.layers.Layer],
        memory_budget: int | None,
        return_sequences: bool = False,
        return_state: bool = False,
        zero_output_for_mask: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        if isinstance(cell, (list, tuple)):
            cell = keras.layers.StackedRNNCells(cell, dtype=self.dtype_policy)
        if not isinstance(cell, keras.layers.Layer) or not hasattr(cell, "state_size"):
            raise ValueError(
                f"cell must be a Keras layer with a state_size, such as LSTMCell; got {cell!r}"
            )
        self.cell = cell
        self.memory_budget = budget_of(memory_budget)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.supports_masking = True

    def build(self, sequence_shape, initial_state_shape=None):
        self.input_spec = sequence_spec("RematRNN", sequence_shape)
        batch, _, features = sequence_shape
        if not self.cell.built:
            self.cell.build((batch, features))
            self.cell.built = True
        if not all(layer.built for layer in self.cell._flatten_layers()):
            # Its first call builds layers of the cell, and must not be within a loop.
            state = tree.flatten(zero_state(self.cell, 1))
            self.cell(ops.zeros((1, features), self._dtype), pack_state(self.cell, state))

    @property
    def _dtype(self):
        return self.cell.compute_dtype

    def call(self, sequence, mask=None, initial_state=None, training=False):
        cell = self.cell
        sequence, mask = self.in_order(ops.cast(sequence, self._dtype), mask)
        real = RealSteps(sequence, mask)
        rows = ops.transpose(real.clear(sequence), (1, 0, 2))
        mask = [] if mask is None else [ops.transpose(real.mask)]
        if initial_state is None:
            initial_state = zero_state(cell, ops.shape(sequence)[0])
        start = [ops.cast(x, self._dtype) for x in tree.flatten(initial_state)]
        dropout = SequenceDropout(cell, rows[0], pack_state(cell, start), training)
        controller = controller_of(cell, rows.shape[-1], training, dropout)
        step = Held(_Step(controller), shown=[0])
        if training and self.memory_budget is not None:
            rows, weights, enter = entering(controller, rows)
            (outputs,), end = budgeted_recurrence(
                step, (rows, mask), weights, start, self.memory_budget, enter
            )
        else:
            rows, weights = controller.enter(rows)
            (outputs,), end = recurrence(
                step, (rows, mask), list(weights), start, real.length, save=bool(training)
            )
        dropout.release()
        end = [real.after(a, b) for a, b in zip(end, start)]
        outputs = ops.cast(ops.transpose(outputs, (1, 0, 2)), self.compute_dtype)
        if self.return_sequences:
            output = real.fill(outputs, self.zero_output_for_mask)
        else:
            output = real.last(real.pack(outputs), ops.zeros_like(outputs[:, 0]))
        if not self.return_state:
            return output
        return output, *(ops.cast(x, self.compute_dtype) for x in end)

    def compute_output_spec(self, sequence, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(sequence.shape)
        batch, steps, _ = sequence.shape
        shape = (batch, steps) if self.return_sequences else (batch,)
        output = keras.KerasTensor((*shape, output_size(self.cell)), dtype=self.compute_dtype)
        if not self.return_state:
            return output
        sizes = tree.flatten(self.cell.state_size)
        state = [keras.KerasTensor((batch, size), dtype=self.compute_dtype) for size in sizes]
        return (output, *state)

    def compute_mask(self, sequence, mask=None):
        output = self.mask_of_sequence(mask) if self.return_sequences else None
        if not self.return_state:
            return output
        return (output, *[None for _ in tree.flatten(self.cell.state_size)])

    def get_config(self):
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "memory_budget": self.memory_budget,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        cell = keras.saving.deserialize_keras_object(config["cell"], custom_objects=custom_objects)
        return cls(**{**config, "cell": cell})


class _Step:
    """A step of a cell, as `recurrence` wants it: a controller that reads no memory."""

    def __init__(self, controller):
        self.controller = controller

    def forward(self, weights, row, state):
        output, new, saved = self.controller.forward(weights, row, _nothing(row), state)
        return list(new), [output], (saved, state)

    def prepare(self, weights):
        return self.controller.prepare(weights)

    def stored(self, rows, start, answers, records, d_answers):
        return (rows, records), d_answers

    def backward(self, prepared, d_state, row, ahead):
        (row, (saved, state)), (d_output,) = row, ahead
        pull = self.controller.backward(prepared, row, _nothing(row), state, saved)
        d_row, _, d_state, memo = pull(d_output, d_state)
        return list(d_state), (d_row, memo)

    def gradients(self, weights, rows, start, answers, records, memo):
        (_, state), (d_rows, memo) = records, memo
        steps = ops.shape(d_rows)[0]
        rows, state, seen, memo = tree.map_structure(as_rows, (rows, stacked(state), d_rows, memo))
        d_weights = self.controller.weight_gradients(
            weights, rows, _nothing(rows), state, seen, memo, steps
        )
        return d_rows, list(d_weights)


def _nothing(row):
    return row[:, :0]
