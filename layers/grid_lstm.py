"""Grid LSTM."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ._base import SequenceLayer, budget_of, serializable, whole
from ._grid_loop import (
    Block,
    LSTMTransform,
    PlainTransform,
    Setting,
    grid_loop,
    weights_of,
)
from ._padding import RealSteps, longer
from ._wavefront import skewed, straightened

BLOCK = (
    "priority",
    "plain",
    "plain_activation",
    "hidden_form",
    "kernel_initializer",
    "bias_initializer",
)


@serializable
class GridLSTMCell(keras.layers.Layer):
    """A block of a grid: an LSTM along each dimension (Kalchbrenner et al., 2015, section 3.1).

    From each of its N dimensions a block receives a hidden vector and a memory, and it sends such a
    pair out along each. Every dimension has its own gates and candidate, which read the hidden
    vectors of all dimensions, and its own memory (eqs. 1 and 4):

        memory' = forget * memory + update * candidate
        hidden' = tanh(output * memory')

    Dimensions with priority are computed last and read what the others send out in the place of
    what those received (section 3.2). A plain dimension has no memory and sends an activation of
    one product (section 3.3). Memory is float32 at least.

    Args:
        units: d, the size of each vector.
        dimensions: N; the first is depth.
        priority: numbers of the dimensions with priority, from 0 to N - 1.
        plain: numbers of the dimensions without a memory.
        plain_activation: their activation.
        hidden_form: `"paper"`, or `"lstm"` for `output * tanh(memory')`, as LSTM layers have it.
        kernel_initializer, bias_initializer: of the weights of every dimension.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        hidden: list of N tensors `(batch, units)`.
        memory: list of such tensors, one for each dimension that is not plain, in their order.

    Returns:
        `(hidden, memory)`, two such lists.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Example:
        >>> cell = GridLSTMCell(4, dimensions=2, priority=[0])
        >>> ones = keras.ops.ones((3, 4))
        >>> hidden, memory = cell([ones, ones], [ones, ones])
        >>> hidden[0].shape
        TensorShape([3, 4])

    Reference:
        Kalchbrenner, Danihelka and Graves, "Grid Long Short-Term Memory", 2015, arXiv:1507.01526.
    """

    def __init__(
        self,
        units: int,
        dimensions: int,
        priority: Sequence[int] = (),
        plain: Sequence[int] = (),
        plain_activation: str = "tanh",
        hidden_form: str = "paper",
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.dimensions = whole("dimensions", dimensions, 1)
        self.priority = _dimensions("priority", priority, self.dimensions)
        self.plain = _dimensions("plain", plain, self.dimensions)
        self.plain_activation = keras.activations.get(plain_activation)
        if hidden_form not in ("paper", "lstm"):
            raise ValueError(f"hidden_form must be 'paper' or 'lstm'; got {hidden_form!r}")
        self.hidden_form = hidden_form
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.block = Block(
            self.units,
            tuple(
                PlainTransform(self.plain_activation)
                if i in self.plain
                else LSTMTransform(hidden_form == "paper")
                for i in range(self.dimensions)
            ),
            tuple(
                group
                for group in (
                    tuple(i for i in range(self.dimensions) if i not in self.priority),
                    tuple(self.priority),
                )
                if group
            ),
            keras.backend.result_type(self.compute_dtype, "float32"),
        )

    def build(self, *shapes):
        self.kernels, self.biases = [], []
        for i, transform in enumerate(self.block.transforms):
            width = transform.parts * self.units
            size = self.dimensions * self.units
            self.kernels.append(
                self.add_weight((size, width), self.kernel_initializer, name=f"kernel_{i}")
            )
            self.biases.append(self.add_weight((width,), self.bias_initializer, name=f"bias_{i}"))
        self.built = True

    def call(self, hidden, memory):
        with_memory = [i for i in range(self.dimensions) if i not in self.plain]
        if len(hidden) != self.dimensions or len(memory) != len(with_memory):
            raise ValueError(
                f"a block of {self.dimensions} dimensions takes as many hidden vectors and "
                f"{len(with_memory)} memories; got {len(hidden)} and {len(memory)}"
            )
        hidden = {i: ops.cast(x, self.compute_dtype) for i, x in enumerate(hidden)}
        memory = {i: ops.cast(x, self.block.dtype) for i, x in zip(with_memory, memory)}
        hidden, memory, *_ = self.block.forward(weights_of([self]), hidden, memory)
        return [hidden[i] for i in range(self.dimensions)], [memory[i] for i in with_memory]

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "dimensions": self.dimensions,
            "priority": self.priority,
            "plain": self.plain,
            "plain_activation": keras.activations.serialize(self.plain_activation),
            "hidden_form": self.hidden_form,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@serializable
class GridLSTM(SequenceLayer):
    """A grid of LSTM blocks over vectors, sequences or images (Kalchbrenner et al., 2015).

    The first dimension of the grid is depth. Inputs are projected linearly into the hidden vector
    and the memory that enter the first layer; what leaves the last layer, hidden vector and memory
    side by side, is the output. The other dimensions are those of the input: none for a vector
    (the paper's 1-LSTM), time for a sequence, height and width for an image, and more if there
    are more. They begin with zeros. See `GridLSTMCell` for a block.

    All blocks of a layer share their weights, and with `tied` those of all layers do. Blocks are
    computed by diagonals: a sequence takes `time + layers - 1` steps of all layers at once.

    Args:
        units: d, the size of the hidden vectors and memories of every dimension.
        layers: size of the grid along depth.
        tied: whether the layers share their weights.
        priority, plain, plain_activation, hidden_form: of the blocks; depth is dimension 0, the
            input's dimensions follow from 1 on.
        alternate_corners: whether every layer scans from another corner of the input than the one
            before, in turns (layer l from the far end of dimension j where bit j - 1 of l is set),
            as the paper does with images. Layers then wait for one another.
        kernel_initializer, bias_initializer: of the blocks and of the projection.
        return_state: whether to return the last states along time as well; for sequences.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return its outputs in that
            order; for sequences.
        memory_budget: bytes that training may use to remember the blocks of the whole batch; what
            does not fit is computed again, see `plan_memory`. None for no bound.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, features)`, `(batch, time, features)`, `(batch, height, width, features)`
            or with more dimensions before the features.
        mask: `(batch, time)` boolean, for sequences.
        initial_state: for sequences, `[hidden, memory]`, each `(batch, layers, units)`, or
            `[hidden]` where time is plain; zeros where it is None.
        training: whether to keep what the gradient needs; without it a gradient runs the grid
            again.

    Returns:
        Output `(batch, ..., 2 * units)`, or `units` where depth is plain; then, if asked for, the
        states.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        A masked step changes no state along time. Its output is zero, or repeats the one before
        (zero at the beginning), as in `keras.layers.RNN`. With `alternate_corners` sequences cannot
        be masked.

    Attributes:
        cells: a `GridLSTMCell` for each layer, or one for all of them.
        projection: the `Dense` layer into the grid, without a bias.

    Example:
        >>> layer = GridLSTM(4, layers=3, priority=[0])
        >>> layer(keras.ops.ones((2, 5, 6))).shape
        TensorShape([2, 5, 8])

    Reference:
        Kalchbrenner, Danihelka and Graves, "Grid Long Short-Term Memory", 2015, arXiv:1507.01526.
    """

    def __init__(
        self,
        units: int,
        layers: int = 1,
        tied: bool = True,
        priority: Sequence[int] = (),
        plain: Sequence[int] = (),
        plain_activation: str = "tanh",
        hidden_form: str = "paper",
        alternate_corners: bool = False,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        return_state: bool = False,
        zero_output_for_mask: bool = True,
        go_backwards: bool = False,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.layers = whole("layers", layers, 1)
        self.tied = bool(tied)
        self.alternate_corners = bool(alternate_corners)
        self.return_state = bool(return_state)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.memory_budget = budget_of(memory_budget)
        self.supports_masking = True
        # Wrong settings are told here, whatever the input will be.
        block = GridLSTMCell(
            units,
            1 + max([0, *priority, *plain]),
            priority,
            plain,
            plain_activation,
            hidden_form,
            kernel_initializer,
            bias_initializer,
        ).get_config()
        self._block_config = {name: block[name] for name in BLOCK}
        width = self.units * (1 if 0 in plain else 2)
        self.projection = keras.layers.Dense(
            width,
            use_bias=False,
            kernel_initializer=kernel_initializer,
            dtype=self.dtype_policy,
            name="projection",
        )
        self.cells = []

    def build(self, inputs_shape, initial_state_shape=None):
        if len(inputs_shape) < 2 or inputs_shape[-1] is None:
            raise ValueError(
                "GridLSTM needs inputs of shape (batch, ..., features) with known features; got "
                f"{tuple(inputs_shape)}"
            )
        self.dimensions = len(inputs_shape) - 1
        self.input_spec = keras.layers.InputSpec(
            ndim=len(inputs_shape), axes={-1: inputs_shape[-1]}
        )
        for name in ("return_state", "go_backwards"):
            if getattr(self, name) and self.dimensions != 2:
                raise ValueError(
                    f"{name} needs inputs of shape (batch, time, features); got "
                    f"{tuple(inputs_shape)}"
                )
        if not self.projection.built:
            self.projection.build(inputs_shape)
        if not self.cells:
            self.cells = [
                GridLSTMCell(
                    self.units,
                    self.dimensions,
                    **self._block_config,
                    dtype=self.dtype_policy,
                    name=f"cell_{i}",
                )
                for i in range(1 if self.tied else self.layers)
            ]
        for cell in self.cells:
            if not cell.built:
                cell.build()

    def call(self, inputs, mask=None, initial_state=None, training=False):
        self._check(mask, initial_state)
        inputs, mask = self.in_order(inputs, mask)
        block, spatial = self.cells[0].block, self.dimensions - 1
        real = RealSteps(inputs, mask) if spatial else None
        entering = self.projection(real.clear(inputs) if spatial else inputs)
        entering = ops.split(entering, 2, axis=-1) if block.transforms[0].has_memory else [entering]
        entering = [ops.moveaxis(x, 0, -2) for x in entering]
        entering[1:] = [ops.cast(x, block.dtype) for x in entering[1:]]
        if spatial == 0:
            _, output = self._vectors(entering, training)
            return self._output(output)
        if initial_state is None:
            state = None
        else:
            state = [ops.swapaxes(x, 0, 1) for x in initial_state]
            state = [ops.cast(x, like.dtype) for x, like in zip(state, entering)]
        if not self.alternate_corners:
            output, state = self._grid(entering, self.cells, self.layers, real, state, training)
        else:
            output = entering
            for number in range(self.layers):
                far = [axis for axis in range(spatial) if number >> axis & 1]
                turned = [ops.flip(x, far) if far else x for x in output]
                cells = [self.cells[0 if self.tied else number]]
                turned, _ = self._grid(turned, cells, 1, real, None, training)
                output = [ops.flip(x, far) if far else x for x in turned]
        output = self._output(output)
        if mask is None:
            output = output[..., : real.given, :]
        else:
            output = real.fill(output, self.zero_output_for_mask)
        if self.return_state:
            state = [ops.cast(ops.swapaxes(x, 0, 1), self.compute_dtype) for x in state]
            return (output, *state)
        return output

    def _check(self, mask, initial_state):
        for name, value in (("a mask", mask), ("an initial_state", initial_state)):
            if value is not None and (self.dimensions != 2 or self.alternate_corners):
                raise ValueError(
                    f"{name} needs inputs of shape (batch, time, features) and no alternate_corners"
                )
        count = 1 if 1 in self._block_config["plain"] else 2
        if initial_state is not None and len(initial_state) != count:
            raise ValueError(
                f"initial_state must have {count} tensors of shape (batch, layers, units); got "
                f"{len(initial_state)}"
            )

    def _output(self, parts):
        parts = [ops.cast(ops.moveaxis(x, -2, 0), self.compute_dtype) for x in parts]
        return ops.concatenate(parts, axis=-1)

    def _vectors(self, entering, training):
        setting = Setting(self.cells[0].block, self.layers, 1, False, budget=self.memory_budget)
        return grid_loop(setting, weights_of(self.cells), entering, save=bool(training))

    def _grid(self, entering, cells, layers, real, state, training):
        """Runs layers over `(*spatial, batch, units)`; gives what leaves them, and the state."""
        block, spatial = cells[0].block, self.dimensions - 1
        shape = ops.shape(entering[0])
        sizes, batch = shape[:spatial], shape[spatial]
        keep = ops.ones((layers, *sizes, 1, 1), "bool")
        if real.mask is not None:
            keep = ops.logical_and(keep, ops.transpose(real.mask)[..., None])
        keep = skewed(keep, self.dimensions)
        entering = [longer(skewed(x, spatial), 0, layers - 1) for x in entering]
        slots = (layers, *sizes[:-1])
        if state is None:
            dtypes = [entering[0].dtype] + [block.dtype] * block.transforms[-1].has_memory
            state = [ops.zeros((*slots, batch, self.units), dtype) for dtype in dtypes]
        steps = sizes[-1] + sum(size - 1 for size in slots)
        kept = real.mask is not None or any(size != 1 for size in slots)
        budget = self.memory_budget
        if budget is not None and self.alternate_corners:
            budget = max(budget // self.layers, 1)
        setting = Setting(block, steps, self.dimensions, kept, budget=budget)
        leaving, end = grid_loop(
            setting, weights_of(cells), state, entering, keep, save=bool(training)
        )
        end = [real.after(a, b) for a, b in zip(end, state)]
        return [straightened(x[layers - 1 :], spatial) for x in leaving], end

    def compute_output_spec(self, inputs, mask=None, initial_state=None, training=False):
        if not self.built:
            self.build(inputs.shape)
        width = self.projection.units
        output = keras.KerasTensor((*inputs.shape[:-1], width), dtype=self.compute_dtype)
        if not self.return_state:
            return output
        state = keras.KerasTensor((inputs.shape[0], self.layers, self.units), self.compute_dtype)
        return (output, *[state] * (1 + self.cells[0].block.transforms[1].has_memory))

    def compute_mask(self, inputs, mask=None):
        mask = self.mask_of_sequence(mask)
        if not self.return_state:
            return mask
        return mask, *[None] * (1 + self.cells[0].block.transforms[1].has_memory)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "layers": self.layers,
            "tied": self.tied,
            **self._block_config,
            "alternate_corners": self.alternate_corners,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
            "memory_budget": self.memory_budget,
        }


def _dimensions(name, value, dimensions):
    value = list(value)
    wrong = [i for i in value if not isinstance(i, int) or not 0 <= i < dimensions]
    if wrong or len(set(value)) != len(value):
        raise ValueError(
            f"{name} must name dimensions from 0 to {dimensions - 1}, each once; got {value!r}"
        )
    return value
