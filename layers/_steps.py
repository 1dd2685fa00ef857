"""How one update of a recurrent cell is taken, and its gradient.

A step reads a row (what the cell makes of its input before the state is known), the flag of the
first update and the state. `step_of` gives the fast step of a plain Keras LSTM, GRU or simple RNN
cell, whose input projection is taken out of the loop and whose gradient is written by hand, and the
generic step of any other.
"""

import keras
from keras import ops

from . import _backend as backend

BLOCK = 8  # updates whose weight gradients are taken together


class Projected:
    """Steps that read `row + flag * flag_kernel` and `h @ kernel + bias`.

    Attributes of subclasses:
        leaf_sizes: sizes of what is averaged, the states.
        weight_count: flag kernel, recurrent kernel, and a recurrent bias where there is one.
        fixed_rows: whether the step must be given all rows of the batch, in their order.
    """

    output_leaf = 0
    fixed_rows = False

    def __init__(self, cell):
        self.units = cell.units
        self.leaf_sizes = [cell.units] * self.state_count
        self.bias_count = 0
        self.cell = cell

    @property
    def weight_count(self):
        return 2 + self.bias_count

    def enter(self, sequence):
        """`(rows (batch * time, width), weights)` of a sequence `(batch, time, features)`."""
        cell = self.cell
        features = sequence.shape[-1]
        kernel, recurrent = (
            ops.cast(backend.value(x), sequence.dtype) for x in (cell.kernel, cell.recurrent_kernel)
        )
        # Only ACT has a flag.
        weights = [kernel[features] if kernel.shape[0] > features else None, recurrent]
        rows = ops.reshape(sequence, (-1, features)) @ kernel[:features]
        if cell.use_bias:
            bias = ops.cast(backend.value(cell.bias), sequence.dtype)
            if len(bias.shape) == 2:
                bias, recurrent_bias = bias[0], bias[1]
                weights.append(recurrent_bias)
            rows = rows + bias
        return rows, weights

    def leaves(self, output, state):
        return list(state)

    def recurrent(self, weights, state):
        """What the state adds to the gates, `(batch, width)`."""
        inner = state[0] @ weights[1]
        return inner + weights[2] if self.bias_count else inner

    def forward(self, weights, row, flag, state):
        outer = row + flag * weights[0]
        state, saved = self.advance(outer, self.recurrent(weights, state), state)
        return state[0], state, saved

    def prepare(self, weights):
        return ops.transpose(weights[1])

    def backward(self, transposed, row, flag, state, saved):
        new_state, reverse = self.reverse(state, saved)

        def pull(d_state):
            d_outer, d_inner, d_old = reverse(d_state)
            d_old[0] = d_old[0] + d_inner @ transposed
            return d_outer, d_old, [d_outer] if d_inner is d_outer else [d_outer, d_inner]

        return new_state, pull

    def weight_gradients(self, weights, row, flag, state, memo):
        d_outer, d_inner = memo[0], memo[-1]
        gradients = [ops.sum(flag * d_outer, axis=0), ops.transpose(state[0]) @ d_inner]
        return gradients + ([ops.sum(d_inner, axis=0)] if self.bias_count else [])


class _LSTM(Projected):
    state_count = 2

    def advance(self, outer, inner, state):
        i, f, g, o = ops.split(outer + inner, 4, axis=-1)
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        c = f * state[1] + i * g
        return [o * ops.tanh(c), c], [ops.concatenate([i, f, g, o], axis=-1)]

    def reverse(self, state, saved):
        i, f, g, o = ops.split(saved[0], 4, axis=-1)
        c = f * state[1] + i * g
        squashed = ops.tanh(c)

        def reverse(d_state):
            d_h, d_c = d_state
            d_c = d_c + d_h * o * (1 - squashed * squashed)
            d = [
                d_c * g * i * (1 - i),
                d_c * state[1] * f * (1 - f),
                d_c * i * (1 - g * g),
                d_h * squashed * o * (1 - o),
            ]
            d = ops.concatenate(d, axis=-1)
            return d, d, [ops.zeros_like(d_h), d_c * f]

        return [o * squashed, c], reverse


class _GRU(Projected):
    state_count = 1

    def __init__(self, cell):
        super().__init__(cell)
        self.bias_count = int(cell.use_bias)

    def advance(self, outer, inner, state):
        outer_z, outer_r, outer_h = ops.split(outer, 3, axis=-1)
        inner_z, inner_r, inner_h = ops.split(inner, 3, axis=-1)
        z, r = ops.sigmoid(outer_z + inner_z), ops.sigmoid(outer_r + inner_r)
        candidate = ops.tanh(outer_h + r * inner_h)
        return [z * state[0] + (1 - z) * candidate], [
            ops.concatenate([z, r, candidate, inner_h], axis=-1)
        ]

    def reverse(self, state, saved):
        z, r, candidate, inner_h = ops.split(saved[0], 4, axis=-1)

        def reverse(d_state):
            (d_h,) = d_state
            d_candidate = d_h * (1 - z) * (1 - candidate * candidate)
            d_z = d_h * (state[0] - candidate) * z * (1 - z)
            d_r = d_candidate * inner_h * r * (1 - r)
            outer = ops.concatenate([d_z, d_r, d_candidate], axis=-1)
            inner = ops.concatenate([d_z, d_r, d_candidate * r], axis=-1)
            return outer, inner, [d_h * z]

        return [z * state[0] + (1 - z) * candidate], reverse


class _SimpleRNN(Projected):
    state_count = 1

    def advance(self, outer, inner, state):
        h = ops.tanh(outer + inner)
        return [h], [h]

    def reverse(self, state, saved):
        (h,) = saved

        def reverse(d_state):
            d = d_state[0] * (1 - h * h)
            return d, d, [ops.zeros_like(h)]

        return [h], reverse


class Generic:
    """Any cell, through a stateless call; its gradient is the backend's own, update by update."""

    output_leaf = -1

    def __init__(self, cell, training, dropout):
        self.cell = cell
        self.training = training
        self.dropout = dropout
        self.fixed_rows = dropout.active  # a mask belongs to a row
        self.uses = None  # places in the memo of what each weight is multiplied with
        self.output_size = output_size(cell)
        self.leaf_sizes = [*keras.tree.flatten(cell.state_size), self.output_size]
        self.weight_count = len(cell.trainable_variables)

    def enter(self, sequence):
        rows = ops.reshape(sequence, (-1, sequence.shape[-1]))
        # Read here: the gradient is traced later, when Keras may have taken the variables' values
        # away.
        self.fixed = [backend.value(v) for v in self.cell.non_trainable_variables]
        return rows, [backend.value(v) for v in self.cell.trainable_variables]

    def leaves(self, output, state):
        return [*state, output]

    def call_with(self, weights, row, flag, state, times=1):
        """The new state and then the output, of `times` batches below one another."""
        self.dropout.repeat(times)
        inputs = ops.concatenate([row, flag], axis=-1)
        state = pack_state(self.cell, state)
        options = {"training": self.training} if self.cell._call_has_training_arg else {}
        variables = [*self.cell.trainable_variables, *self.cell.non_trainable_variables]
        # A call, unlike `stateless_call`, casts the variables as the cell's own policy has it.
        with keras.StatelessScope(state_mapping=list(zip(variables, [*weights, *self.fixed]))):
            output, state = self.cell(inputs, state, **options)
        return [*keras.tree.flatten(state), output]

    def forward(self, weights, row, flag, state):
        *state, output = self.call_with(weights, row, flag, state)
        return output, state, []

    def prepare(self, weights):
        return weights

    def backward(self, weights, row, flag, state, saved):
        leaves, pull_back = backend.vjp_and_uses(
            lambda weights, row, *state: self.call_with(weights, row, flag, state),
            weights,
            row,
            *state,
        )

        def pull(d_leaves):
            (d_row, *d_state), uses = pull_back(d_leaves)
            if uses is None:
                return d_row, d_state, d_leaves
            memo = {id(x): x for pairs in uses for pair in pairs for x in pair if x is not None}
            places = list(memo)
            self.uses = [
                [[None if x is None else places.index(id(x)) for x in pair] for pair in pairs]
                for pairs in uses
            ]
            return d_row, d_state, list(memo.values())

        return leaves, pull

    def weight_gradients(self, weights, row, flag, state, memo):
        if self.uses is not None:
            return [
                sum(
                    ops.sum(memo[z], axis=0) if a is None else ops.transpose(memo[a]) @ memo[z]
                    for a, z in pairs
                )
                for pairs in self.uses
            ]
        _, pull_back = backend.vjp(
            lambda *weights: self.call_with(weights, row, flag, state, times=BLOCK), *weights
        )
        return pull_back(memo)


class Dropout:
    """The dropout masks of Keras's cells within a cell, the same for all updates of a sequence."""

    def __init__(self, cell, inputs, state, training):
        """Draws the masks for inputs `(batch, features + 1)` where `training` asks for them."""
        self.cells = [c for c in cell._flatten_layers() if hasattr(c, "get_dropout_mask")]
        self.release()
        others = [c for c in cell._flatten_layers() if c not in self.cells and c._seed_generators]
        if training and others:
            raise ValueError(
                f"{others[0].name} in the cell draws random numbers at every update, which the "
                "gradient cannot repeat; use the dropout arguments of Keras's own cells"
            )
        self.active = training and any(c.dropout or c.recurrent_dropout for c in self.cells)
        if self.active:
            self._draw(cell, inputs, state)
        self.masks = [self._of(c) for c in self.cells]

    def _draw(self, cell, inputs, state):
        if isinstance(cell, keras.layers.StackedRNNCells):
            for inner, inner_state in zip(cell.cells, state):
                self._draw(inner, inputs, inner_state)
                nested = keras.tree.is_nested(inner_state)
                inputs, _ = inner(inputs, list(inner_state) if nested else [inner_state])
        elif cell in self.cells:
            cell.get_dropout_mask(inputs)
            cell.get_recurrent_dropout_mask(keras.tree.flatten(state)[0])

    def _of(self, cell):
        names = ("_dropout_mask", "_recurrent_dropout_mask")
        return {name: getattr(cell, name, None) for name in names}

    def repeat(self, times):
        """Makes the masks fit a batch that is `times` batches below one another."""
        for cell, masks in zip(self.cells, self.masks):
            for name, mask in masks.items():
                if mask is not None and times > 1:
                    mask = keras.tree.map_structure(lambda m: ops.tile(m, (times, 1)), mask)
                setattr(cell, name, mask)

    def release(self):
        """Forgets the masks."""
        for cell in self.cells:
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()


def pack_state(cell, tensors):
    """A list of state tensors, nested as the cell wants them."""
    size = cell.state_size
    return keras.tree.pack_sequence_as(size if keras.tree.is_nested(size) else [size], [*tensors])


def zero_state(cell, batch):
    """The tensors of a cell's state before the first step."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch)
    return [
        ops.zeros((batch, size), cell.compute_dtype) for size in keras.tree.flatten(cell.state_size)
    ]


def output_size(cell):
    """Units of a cell's output."""
    size = getattr(cell, "output_size", None)
    return size if size is not None else keras.tree.flatten(cell.state_size)[0]


_FAST = {
    keras.layers.LSTMCell: _LSTM,
    keras.layers.GRUCell: _GRU,
    keras.layers.SimpleRNNCell: _SimpleRNN,
}


def _is_plain(cell):
    """Whether the fast step's formulas are the cell's."""
    gates = getattr(cell, "recurrent_activation", keras.activations.sigmoid)
    return (
        cell.activation is keras.activations.tanh
        and gates is keras.activations.sigmoid
        and getattr(cell, "reset_after", True)
    )


def step_of(cell, training, dropout):
    """The step of a built cell, with the `Dropout` of the sequence."""
    fast = _FAST.get(type(cell))
    if fast and _is_plain(cell) and not dropout.active:
        return fast(cell)
    return Generic(cell, training, dropout)
