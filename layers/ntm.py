"""Neural Turing Machines."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import (
    OwnDense,
    SequenceLayer,
    budget_of,
    sequence_spec,
    serializable,
    sum_dtype,
    whole,
)
from ._memory_loop import SequenceDropout, Setting, controller_of, entering, memory_loop
from ._padding import RealSteps
from ._steps import output_size, pack_state

SOFTENING = 1e-6  # under the roots of the cosine; rows much shorter than 1e-3 resemble nothing
SMALLEST = 1e-16  # of a weight whose logarithm is taken
START = 1e-6  # what constant memory holds at first
# Where the loop has what the trace tells of memory, behind the parameters of the heads.
OF_STEPS = {"read_weights": 1, "write_weights": 2, "memory": 3}


@serializable
class NTMCell(keras.layers.Layer):
    """One step of a Neural Turing Machine, for `keras.layers.RNN` and `ACT` (Graves et al., 2014).

    The controller sees the input and the vectors read at the step before. A linear map of its
    output gives the parameters of all heads. Write heads then address the memory, every one erases
    and every one adds (eqs. 3-4), and read heads address and read what the memory holds now (eq.
    2). Addressing has four stages:

    1. by content: a softmax over the slots of the key's cosine similarity, times the key strength
       (eqs. 5-6);
    2. a gate mixes this with the head's weighting of the step before (eq. 7);
    3. a softmax over the shifts from `-shift_range` to `shift_range` turns it around the memory
       (eq. 8);
    4. it is sharpened by a power of at least 1 (eq. 9).

    The paper leaves open how the parameters are squashed and in which order heads go. Here keys and
    adds are tanh, strengths softplus, gates and erases sigmoid, powers 1 + softplus; what goes into
    them is clipped at `head_limit`. Writing comes before reading. All of it is computed in float32
    at least, lengths in the cosine are softened to `sqrt(|v|^2 + 1e-6)`, and powers are taken of
    logarithms, so that no memory, weighting or parameter makes a value or gradient infinite.

    Args:
        units: units of the controller; not for a controller that is a cell.
        controller: `"lstm"`, `"feedforward"` (a layer of tanh units), a Keras RNN cell, or a list
            of cells to stack. A cell must treat the rows of a batch alike.
        memory_slots: N, the rows of the memory. No weight depends on it unless the initial memory
            is learned.
        word_size: M, the width of a row.
        read_heads, write_heads: how many there are.
        shift_range: the farthest shift of a step, in both directions.
        initial_memory: `"constant"`, 1e-6 everywhere, or `"learned"`.
        head_limit: bound of what the controller gives the heads before it is squashed, or None.
        kernel_initializer, bias_initializer: of the map from controller to heads.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, features)`.
        states: the controller's state, then reads `(batch, read_heads * word_size)`, the weightings
            of read heads `(batch, read_heads * memory_slots)` and of write heads, and the memory
            `(batch, word_size * memory_slots)`, slots last.
        training: whether the controller's dropout is active.

    Returns:
        Output `(batch, units + read_heads * word_size)`, the controller's output followed by the
        vectors read, of which the paper's output is a `Dense` layer; and the new states, in the
        dtypes of the old.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Attributes:
        controller: a `Dense` layer or a cell.
        heads: the `Dense` layer from its output to the parameters of all heads: keys, strengths,
            gates, shifts, powers (read heads first in each), erases, adds.
        parameter_sizes: how many there are of each of these kinds, in this order.
        initial_state, initial_reads: the learned state of controller and reads before the first
            step. Weightings start on the first slot.

    Example:
        >>> cell = NTMCell(8, memory_slots=6, word_size=4)
        >>> output, states = cell(keras.ops.ones((2, 3)), cell.get_initial_state(2))
        >>> output.shape
        TensorShape([2, 12])

    Reference:
        Graves, Wayne and Danihelka, "Neural Turing Machines", 2014, arXiv:1410.5401.
    """

    def __init__(
        self,
        units: int | None = None,
        controller: str | keras.layers.Layer | Sequence[keras.layers.Layer] = "lstm",
        memory_slots: int = 128,
        word_size: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        initial_memory: str = "constant",
        head_limit: float = 20.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        # States come in as they are: a memory in half precision would forget.
        super().__init__(autocast=False, **kwargs)
        self.memory_slots = whole("memory_slots", memory_slots, 1)
        self.word_size = whole("word_size", word_size, 1)
        self.read_heads = whole("read_heads", read_heads, 1)
        self.write_heads = whole("write_heads", write_heads, 1)
        self.shift_range = whole("shift_range", shift_range, 0)
        if 2 * self.shift_range + 1 > self.memory_slots:
            raise ValueError(
                "shift_range must be less than half of memory_slots, so that no two shifts are the "
                f"same; got {shift_range!r} with {memory_slots!r} slots"
            )
        if initial_memory not in ("constant", "learned"):
            raise ValueError(
                f"initial_memory must be 'constant' or 'learned'; got {initial_memory!r}"
            )
        if head_limit is not None and not head_limit > 0:
            raise ValueError(f"head_limit must be a positive number or None; got {head_limit!r}")
        self.initial_memory = initial_memory
        self.head_limit = None if head_limit is None else float(head_limit)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.controller = self._controller(units, controller)
        self.kind = controller if isinstance(controller, str) else None
        self.units = _units(self.controller)
        self.state_size = [
            *self._controller_sizes,
            self.read_heads * self.word_size,
            self.read_heads * self.memory_slots,
            self.write_heads * self.memory_slots,
            self.memory_slots * self.word_size,
        ]
        self.output_size = self.units + self.read_heads * self.word_size
        heads, words = self.read_heads + self.write_heads, self.write_heads * self.word_size
        self.parameter_sizes = [
            heads * self.word_size,
            heads,
            heads,
            heads * (2 * self.shift_range + 1),
            heads,
            words,
            words,
        ]
        self.heads = OwnDense(
            sum(self.parameter_sizes),
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            dtype=self.controller.dtype_policy,
            name="heads",
        )

        def start(name, size, initializer="zeros"):
            return self.add_weight((size,), initializer, name=name)

        self.initial_state = [
            start(f"initial_state_{i}", size) for i, size in enumerate(self._controller_sizes)
        ]
        self.initial_reads = start("initial_reads", self.read_heads * self.word_size)
        self.learned_memory = None
        if initial_memory == "learned":
            spread = keras.initializers.RandomNormal(stddev=0.1)
            self.learned_memory = start("initial_memory", memory_slots * word_size, spread)

    def _controller(self, units, controller):
        if isinstance(controller, (list, tuple)):
            controller = keras.layers.StackedRNNCells(controller, dtype=self.dtype_policy)
        if controller in ("lstm", "feedforward"):
            units = whole("units", units, 1)
            options = {"dtype": self.dtype_policy, "name": "controller"}
            if controller == "lstm":
                return keras.layers.LSTMCell(units, **options)
            return OwnDense(units, activation="tanh", **options)
        if not isinstance(controller, keras.layers.Layer) or not hasattr(controller, "state_size"):
            raise ValueError(
                "controller must be 'lstm', 'feedforward', a Keras RNN cell or a list of cells; "
                f"got {controller!r}"
            )
        if units is not None:
            raise ValueError(f"units must be None where the controller is a cell; got {units!r}")
        return controller

    @property
    def _controller_sizes(self):
        return keras.tree.flatten(getattr(self.controller, "state_size", []))

    @property
    def memory_dtype(self):
        """Of memory and addressing: float64 for a float64 layer, else float32."""
        return sum_dtype(self.compute_dtype)

    def build(self, inputs_shape, states_shape=None):
        if len(inputs_shape) != 2 or inputs_shape[-1] is None:
            raise ValueError(
                "NTMCell needs inputs of shape (batch, features) with known features; "
                f"got {tuple(inputs_shape)}"
            )
        self.input_spec = None
        width = inputs_shape[-1] + self.read_heads * self.word_size
        if not self.controller.built:
            self.controller.build((inputs_shape[0], width))
            self.controller.built = True
        if not all(layer.built for layer in self.controller._flatten_layers()):
            # Its first call builds layers of the cell, and must not be within a loop.
            dtype = self.controller.compute_dtype
            state = [ops.zeros((1, size), dtype) for size in self._controller_sizes]
            self.controller(ops.zeros((1, width), dtype), pack_state(self.controller, state))
        if not self.heads.built:
            self.heads.build((inputs_shape[0], self.units))

    def get_initial_state(self, batch_size):
        """The states before the first step."""

        def rows(x):
            return ops.broadcast_to(x[None], (batch_size, x.shape[-1]))

        dtype, slots = self.memory_dtype, self.memory_slots
        first = ops.cast(ops.arange(slots) == 0, dtype)
        if self.learned_memory is None:
            memory = ops.full((slots * self.word_size,), START, dtype)
        else:
            memory = ops.cast(backend.value(self.learned_memory), dtype)
        learned = [backend.value(x) for x in (*self.initial_state, self.initial_reads)]
        # Slots come last: in loops over them arithmetic is several times as fast as over words.
        return [
            *(rows(ops.cast(x, self.controller.compute_dtype)) for x in learned[:-1]),
            rows(ops.cast(learned[-1], dtype)),
            rows(ops.tile(first, [self.read_heads])),
            rows(ops.tile(first, [self.write_heads])),
            rows(memory),
        ]

    def _split(self, states):
        """Controller state, reads, and `[read weights, write weights, memory]` in their shapes."""
        *state, reads, read_weights, write_weights, memory = states
        slots = self.memory_slots
        shapes = [
            (-1, self.read_heads, slots),
            (-1, self.write_heads, slots),
            (-1, self.word_size, slots),
        ]
        memory = [
            ops.reshape(ops.cast(x, self.memory_dtype), shape)
            for x, shape in zip((read_weights, write_weights, memory), shapes)
        ]
        return state, reads, memory

    def _join(self, state, reads, memory, like):
        flat = [ops.reshape(x, (-1, math.prod(x.shape[1:]))) for x in memory]
        return [ops.cast(x, y.dtype) for x, y in zip([*state, reads, *flat], like, strict=True)]

    def call(self, inputs, states, training=False):
        state, reads, memory = self._split(states)
        dtype = self.controller.compute_dtype
        inputs = ops.concatenate([ops.cast(inputs, dtype), ops.cast(reads, dtype)], axis=-1)
        if state:
            options = {"training": training} if self.controller._call_has_training_arg else {}
            state = [ops.cast(x, dtype) for x in state]
            output, state = self.controller(inputs, pack_state(self.controller, state), **options)
            state = keras.tree.flatten(state)
        else:
            output = self.controller(inputs)
        parameters = ops.cast(self.heads(output), self.memory_dtype)
        reads, memory = self.access(parameters, memory)
        output = ops.concatenate(
            [ops.cast(output, self.compute_dtype), ops.cast(reads, self.compute_dtype)], axis=-1
        )
        return output, self._join(state, reads, memory, states)

    def parameters(self, raw):
        """What the heads are told, by name, of `(..., size)` out of the layer `heads`."""
        if self.head_limit is not None:
            raw = ops.clip(raw, -self.head_limit, self.head_limit)
        ends = [sum(self.parameter_sizes[: i + 1]) for i in range(len(self.parameter_sizes) - 1)]
        key, strength, gate, shift, power, erase, add = ops.split(raw, ends, axis=-1)
        batch = ops.shape(raw)[:-1]

        def by_head(x, size):
            return ops.reshape(x, (*batch, x.shape[-1] // size, size))

        # Keras warns of a softmax over one entry.
        shift = by_head(shift, 2 * self.shift_range + 1)
        shift = ops.softmax(shift) if self.shift_range else ops.ones_like(shift)

        return {
            "keys": by_head(ops.tanh(key), self.word_size),
            "strengths": ops.softplus(strength),
            "gates": ops.sigmoid(gate),
            "shifts": shift,
            "powers": 1 + ops.softplus(power),
            "erases": by_head(ops.sigmoid(erase), self.word_size),
            "adds": by_head(ops.tanh(add), self.word_size),
        }

    def access(self, raw, memory):
        """Moves all heads, writes, then reads.

        Args:
            raw: `(batch, size)`, out of the layer `heads`.
            memory: read weightings `(batch, read_heads, memory_slots)`, those of write heads, and
                the memory `(batch, word_size, memory_slots)`.

        Returns:
            Reads `(batch, read_heads * word_size)`, and the new `memory`.
        """
        read_weights, write_weights, memory = memory
        told = self.parameters(raw)
        erases, adds = told.pop("erases"), told.pop("adds")
        write_weights = self.address(
            memory, write_weights, **{k: v[:, self.read_heads :] for k, v in told.items()}
        )
        # Outer products as matrix products: their gradients are matrix products too.
        for head in range(self.write_heads):
            one = slice(head, head + 1)
            memory = memory * (1 - _transposed(erases[:, one]) @ write_weights[:, one])
        memory = memory + _transposed(adds) @ write_weights
        read_weights = self.address(
            memory, read_weights, **{k: v[:, : self.read_heads] for k, v in told.items()}
        )
        reads = read_weights @ _transposed(memory)
        reads = ops.reshape(reads, (-1, self.read_heads * self.word_size))
        return reads, [read_weights, write_weights, memory]

    def address(self, memory, before, keys, strengths, gates, shifts, powers):
        """New weightings `(batch, heads, memory_slots)` of heads that were at `before`."""
        similarity = keys * _inverse_length(keys, -1) @ memory * _inverse_length(memory, -2)
        content = ops.softmax(strengths[..., None] * similarity)
        gates = gates[..., None]
        gated = gates * content + (1 - gates) * before
        shifted = _turn(gated, shifts)
        return ops.softmax(powers[..., None] * ops.log(shifted + SMALLEST))

    def get_config(self):
        controller = self.kind or keras.saving.serialize_keras_object(self.controller)
        return {
            **super().get_config(),
            "units": self.units if self.kind else None,
            "controller": controller,
            "memory_slots": self.memory_slots,
            "word_size": self.word_size,
            "read_heads": self.read_heads,
            "write_heads": self.write_heads,
            "shift_range": self.shift_range,
            "initial_memory": self.initial_memory,
            "head_limit": self.head_limit,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**_with_controller(config, custom_objects))


@serializable
class NTM(SequenceLayer):
    """A Neural Turing Machine over sequences (Graves et al., 2014); see `NTMCell` for its step.

    It computes what `keras.layers.RNN(NTMCell(...))` does, with the input's product for all steps
    at once and a gradient of its own, whose products for the weights wait for the end. Training
    keeps the memory of every step: `time * batch * memory_slots * word_size` numbers.

    Args:
        units: units of the controller; not for a controller that is a cell.
        controller: `"lstm"`, `"feedforward"`, a Keras RNN cell, or a list of cells to stack.
        memory_slots: N, the rows of the memory. Weights of another number of slots fit unless the
            initial memory is learned.
        word_size: M, the width of a row.
        read_heads, write_heads: how many there are.
        shift_range: the farthest shift of a step, in both directions.
        initial_memory: `"constant"`, 1e-6 everywhere, or `"learned"`.
        head_limit: bound of what the controller gives the heads before it is squashed, or None.
        kernel_initializer, bias_initializer: of the map from controller to heads.
        return_sequences: whether to return the output of every step or of the last one.
        return_state: whether to return the last states as well.
        return_trace: whether to return, last, what the heads did at every step; or the names of
            what to return of it.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return outputs and trace in
            that order.
        memory_budget: bytes that training may use to remember the steps of the whole batch; what
            does not fit is computed again, see `plan_memory`. None for no bound. What
            `return_trace` asks for is not counted, and is much where that is all of it: the memory
            of every step.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, features)`.
        mask: `(batch, time)` boolean; False steps are skipped.
        initial_state: list of states as `NTMCell` has them; learned where it is None.
        training: whether the controller's dropout is active, and whether to keep what the gradient
            needs; without it a gradient runs the loop again.

    Returns:
        Output `(batch, time, units + read_heads * word_size)`, or without the time; then, if asked
        for, the states; then, if asked for, a dict of float32 (float64 for a float64 layer):
        `memory` `(batch, time, memory_slots, word_size)` after the step; `reads`, `adds` and
        `erases` `(batch, time, heads, word_size)`; and with `read_` or `write_` in front `weights`
        `(batch, time, heads, memory_slots)`, `keys` `(batch, time, heads, word_size)`, `shifts`
        `(batch, time, heads, 2 * shift_range + 1)`, and `strengths`, `gates` and `powers` `(batch,
        time, heads)`.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        A masked step changes no state. Its output repeats the one before (zero at the beginning),
        as in `keras.layers.RNN`, or is zero. In the trace weightings, reads and memory stay, all
        else is zero.

    Attributes:
        cell: the `NTMCell` that has all weights.

    Example:
        >>> layer = NTM(8, memory_slots=6, word_size=4, return_sequences=True, return_trace=True)
        >>> output, trace = layer(keras.ops.ones((2, 3, 5)))
        >>> output.shape, trace["read_weights"].shape
        (TensorShape([2, 3, 12]), TensorShape([2, 3, 1, 6]))

    Reference:
        Graves, Wayne and Danihelka, "Neural Turing Machines", 2014, arXiv:1410.5401.
    """

    def __init__(
        self,
        units: int | None = None,
        controller: str | keras.layers.Layer | Sequence[keras.layers.Layer] = "lstm",
        memory_slots: int = 128,
        word_size: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        initial_memory: str = "constant",
        head_limit: float = 20.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        return_sequences: bool = False,
        return_state: bool = False,
        return_trace: bool | Sequence[str] = False,
        zero_output_for_mask: bool = False,
        go_backwards: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        self.cell = NTMCell(
            units,
            controller,
            memory_slots=memory_slots,
            word_size=word_size,
            read_heads=read_heads,
            write_heads=write_heads,
            shift_range=shift_range,
            initial_memory=initial_memory,
            head_limit=head_limit,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            name="cell",
        )
        self.return_sequences = return_sequences
        self._with_state = return_state
        # What `keras.layers.Bidirectional` asks: whether there is more than the output.
        self.return_state = bool(return_state or return_trace)
        self.return_trace = return_trace if isinstance(return_trace, bool) else list(return_trace)
        known = list(self._trace_specs(None, None))
        self._traced = known if return_trace is True else self.return_trace or []
        if not set(self._traced) <= set(known):
            raise ValueError(
                f"return_trace must be True, False or names among {', '.join(known)}; "
                f"got {return_trace!r}"
            )
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.memory_budget = budget_of(memory_budget)
        self.supports_masking = True

    def build(self, sequence_shape, initial_state_shape=None):
        self.input_spec = sequence_spec("NTM", sequence_shape)
        if not self.cell.built:
            self.cell.build((sequence_shape[0], sequence_shape[-1]))
            self.cell.built = True

    def call(self, sequence, mask=None, initial_state=None, training=False):
        cell = self.cell
        dtype = cell.controller.compute_dtype
        sequence, mask = self.in_order(sequence, mask)
        real = RealSteps(sequence, mask)
        batch = ops.shape(sequence)[0]
        rows = ops.transpose(real.clear(ops.cast(sequence, dtype)), (1, 0, 2))
        mask = None if mask is None else ops.transpose(real.mask)
        start = cell.get_initial_state(batch) if initial_state is None else initial_state
        start = keras.tree.flatten(start)
        state, reads, memory = cell._split(start)
        state, reads = [ops.cast(x, dtype) for x in state], ops.cast(reads, dtype)

        first = ops.concatenate([rows[0], reads], axis=-1)
        packed = pack_state(cell.controller, state) if state else []
        dropout = SequenceDropout(cell.controller, first, packed, training)
        controller = controller_of(cell.controller, rows.shape[-1], training, dropout)
        within_budget = training and self.memory_budget is not None
        if within_budget:
            rows, weights, enter = entering(controller, rows)
        else:
            (rows, weights), enter = controller.enter(rows), None
        heads = [ops.cast(backend.value(x), dtype) for x in (cell.heads.kernel, cell.heads.bias)]
        keep = sorted({OF_STEPS.get(name, 0) for name in self._traced if name != "reads"})
        setting = Setting(controller, cell.access, real.length, tuple(keep), self.memory_budget)
        outputs, reads_of, *end, kept = memory_loop(
            setting, rows, weights, heads, state, reads, memory, mask, bool(training), enter
        )
        dropout.release()
        specs = self._state_specs(None)
        start, end = cell._join(state, reads, memory, specs), cell._join(*end, specs)
        end = [real.after(a, b) for a, b in zip(end, start)]
        outputs = ops.concatenate([outputs, reads_of], axis=-1)
        outputs = ops.transpose(ops.cast(outputs, self.compute_dtype), (1, 0, 2))
        if self.return_sequences:
            outputs = real.fill(outputs, self.zero_output_for_mask)
        else:
            outputs = real.last(real.pack(outputs), ops.zeros_like(outputs[:, 0]))
        kept = dict(zip(keep, kept))
        trace = self._trace(kept, reads_of, real) if self.return_trace else None
        return self._pack(outputs, end, trace)

    def _trace(self, kept, reads, real):
        cell, trace = self.cell, {}
        kept = {place: ops.swapaxes(x, 0, 1) for place, x in kept.items()}
        if 0 in kept:
            told = {name: real.fill(x, True) for name, x in cell.parameters(kept[0]).items()}
            trace = {name: told.pop(name) for name in ("erases", "adds")}
            for name, x in told.items():
                trace[f"read_{name}"] = x[:, :, : cell.read_heads]
                trace[f"write_{name}"] = x[:, :, cell.read_heads :]
        reads = ops.cast(ops.swapaxes(reads, 0, 1)[:, : real.given], cell.memory_dtype)
        shape = (*ops.shape(reads)[:2], cell.read_heads, cell.word_size)
        trace["reads"] = ops.reshape(reads, shape)
        for name, place in OF_STEPS.items():
            if place in kept:
                trace[name] = kept[place][:, : real.given]
        if "memory" in trace:
            trace["memory"] = ops.swapaxes(trace["memory"], 2, 3)
        return {name: trace[name] for name in self._traced}

    def _pack(self, output, state, trace):
        result = [output]
        if self._with_state:
            result += state
        if self.return_trace:
            result += [trace]
        return tuple(result) if len(result) > 1 else output

    def _state_specs(self, batch):
        controller = len(self.cell._controller_sizes)
        dtypes = [self.compute_dtype] * controller
        dtypes += [self.cell.memory_dtype] * (len(self.cell.state_size) - controller)
        sizes = self.cell.state_size
        return [keras.KerasTensor((batch, s), dtype=d) for s, d in zip(sizes, dtypes)]

    def _trace_specs(self, batch, steps):
        cell = self.cell
        shapes = {"memory": (cell.memory_slots, cell.word_size)}
        shapes["reads"] = (cell.read_heads, cell.word_size)
        shapes["adds"] = shapes["erases"] = (cell.write_heads, cell.word_size)
        for kind, heads in (("read", cell.read_heads), ("write", cell.write_heads)):
            shapes[f"{kind}_weights"] = (heads, cell.memory_slots)
            shapes[f"{kind}_keys"] = (heads, cell.word_size)
            shapes[f"{kind}_shifts"] = (heads, 2 * cell.shift_range + 1)
            for name in ("strengths", "gates", "powers"):
                shapes[f"{kind}_{name}"] = (heads,)
        return {
            name: keras.KerasTensor((batch, steps, *shape), dtype=cell.memory_dtype)
            for name, shape in shapes.items()
        }

    def compute_output_spec(self, sequence, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(sequence.shape)
        batch, steps, _ = sequence.shape
        shape = (batch, steps) if self.return_sequences else (batch,)
        output = keras.KerasTensor((*shape, self.cell.output_size), dtype=self.compute_dtype)
        trace = self._trace_specs(batch, steps)
        trace = {name: trace[name] for name in self._traced}
        return self._pack(output, self._state_specs(batch), trace)

    def compute_mask(self, sequence, mask=None):
        output = self.mask_of_sequence(mask) if self.return_sequences else None
        nothing = [None] * len(self.cell.state_size)
        return self._pack(output, nothing, dict.fromkeys(self._traced))

    def get_config(self):
        return {
            **self.cell.get_config(),
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self._with_state,
            "return_trace": self.return_trace,
            "zero_output_for_mask": self.zero_output_for_mask,
            "memory_budget": self.memory_budget,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**_with_controller(config, custom_objects))


def _units(controller):
    if isinstance(controller, keras.layers.Dense):
        return controller.units
    return output_size(controller)


def _with_controller(config, custom_objects):
    if isinstance(config["controller"], dict):
        controller = keras.saving.deserialize_keras_object(
            copy.deepcopy(config["controller"]), custom_objects=custom_objects
        )
        config = {**config, "controller": controller}
    return config


def _transposed(x):
    return ops.swapaxes(x, 1, 2)


def _inverse_length(x, axis):
    return ops.rsqrt(ops.sum(x * x, axis=axis, keepdims=True) + SOFTENING)


def _turn(weights, shifts):
    """Circular convolution (eq. 8): a shift of +1 moves a weighting one slot on."""
    farthest, slots = shifts.shape[-1] // 2, weights.shape[-1]
    if farthest == 0:
        return weights
    around = ops.concatenate(
        [weights[..., slots - farthest :], weights, weights[..., :farthest]], axis=-1
    )
    return sum(
        shifts[..., i : i + 1] * around[..., 2 * farthest - i : 2 * farthest - i + slots]
        for i in range(2 * farthest + 1)
    )
