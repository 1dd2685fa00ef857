"""The Reencoder, which reads a source again for every word of its target."""

from typing import Any

import keras
from keras import ops

from ._base import budget_of, sequence_spec, serializable, whole
from ._grid_loop import Setting, grid_loop, weights_of
from ._padding import at_least_one, longer
from ._wavefront import skewed, straightened
from .grid_lstm import GridLSTMCell

DEPTH, TARGET = 0, 1


@serializable
class Reencoder(keras.layers.Layer):
    """A grid of LSTM blocks over a source, a target and depth (Kalchbrenner et al., 2015).

    Each sequence is projected linearly into the hidden vectors and the memories that enter the grid
    from its own side (section 3.4): a vector of the source where the target begins, a vector of the
    target where the source begins, in every layer. Into the first layer zeros enter along depth.
    So at each place of the target the grid scans the whole source, and what it finds there depends
    on the target so far (section 4.4).

    The layers scan the source in turns, the first from its beginning and the second from its end.
    The output at a place of the target is what leaves the last layer's last block there, along the
    source and along depth. Depth has priority. See `GridLSTMCell` for a block.

    Blocks of a layer share their weights along source and target, and are computed by diagonals, in
    `source + target - 1` steps; layers wait for one another.

    Args:
        units: d, the size of the hidden vectors and memories of every dimension.
        layers: size of the grid along depth.
        tied: whether the layers share their weights.
        hidden_form: of the blocks.
        kernel_initializer, bias_initializer: of the blocks, the former of the projections as well.
        memory_budget: bytes that training may use to remember the blocks of the whole batch, in all
            layers together; what does not fit is computed again, see `plan_memory`. None for no
            bound.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        source: `(batch, source, features)`.
        target: `(batch, target, features)`; the output at a place depends on the target up to
            there.
        lengths: `(batch,)` integers, how many vectors of each source are real; all where it is
            None. Of an empty source the target's own vectors are what leaves along it, and zeros
            leave along depth.
        training: whether to keep what the gradient needs; without it a gradient runs the grid
            again.

    Returns:
        `(batch, target, 4 * units)`: hidden vector and memory along the source, then along depth.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        There is no mask. What stands behind the length of a source has no influence. What stands
        behind the end of a target has none on what stands before it.

    Attributes:
        cells: a `GridLSTMCell` for each layer, or one for all of them. Their dimension 1 is the
            target, 2 the source.
        source_projection, target_projection: the `Dense` layers into the grid, without a bias.

    Example:
        >>> source, target = keras.ops.ones((2, 3, 5)), keras.ops.ones((2, 4, 6))
        >>> Reencoder(7)(source, target, keras.ops.array([3, 2])).shape
        TensorShape([2, 4, 28])

    Reference:
        Kalchbrenner, Danihelka and Graves, "Grid Long Short-Term Memory", 2015, arXiv:1507.01526.
    """

    def __init__(
        self,
        units: int,
        layers: int = 2,
        tied: bool = False,
        hidden_form: str = "paper",
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.layers = whole("layers", layers, 1)
        self.tied = bool(tied)
        self.memory_budget = budget_of(memory_budget)
        self.cells = [
            GridLSTMCell(
                units,
                dimensions=3,
                priority=[DEPTH],
                hidden_form=hidden_form,
                kernel_initializer=kernel_initializer,
                bias_initializer=bias_initializer,
                dtype=self.dtype_policy,
                name=f"cell_{i}",
            )
            for i in range(1 if self.tied else self.layers)
        ]
        self.source_projection, self.target_projection = (
            keras.layers.Dense(
                2 * self.units,
                use_bias=False,
                kernel_initializer=kernel_initializer,
                dtype=self.dtype_policy,
                name=f"{name}_projection",
            )
            for name in ("source", "target")
        )

    def build(self, source_shape, target_shape, lengths_shape=None):
        for name, shape, projection in (
            ("source", source_shape, self.source_projection),
            ("target", target_shape, self.target_projection),
        ):
            sequence_spec("Reencoder", shape, name)
            if not projection.built:
                projection.build(shape)
        for cell in self.cells:
            if not cell.built:
                cell.build()

    def call(self, source, target, lengths=None, training=False):
        block = self.cells[0].block
        batch, steps, given = *ops.shape(source)[:2], ops.shape(target)[1]
        lengths = ops.full((batch,), steps) if lengths is None else lengths
        lengths = ops.cast(lengths, "int32")
        # A loop that stores what it does must be able to do something.
        source, target = at_least_one(source), at_least_one(target)
        sizes = [ops.shape(target)[1], ops.shape(source)[1]]
        words = _entering(self.source_projection(source), block.dtype)
        begin = _entering(self.target_projection(target), block.dtype)
        place = ops.arange(sizes[1])
        real = place < lengths[:, None]
        turned = ops.where(real, lengths[:, None] - 1 - place, place)
        keep = ops.broadcast_to(ops.transpose(real)[..., None], (1, *sizes, batch, 1))
        budget = self.memory_budget and max(self.memory_budget // self.layers, 1)
        setting = Setting(block, sizes[0] + sizes[1] - 1, 3, True, (DEPTH, TARGET), budget=budget)
        depth = [ops.zeros((*sizes, batch, self.units), x.dtype) for x in words]
        for number in range(self.layers):
            if number:
                words, depth = ([_taken(x, turned) for x in some] for some in (words, depth))
            leaving, state = grid_loop(
                setting,
                weights_of([self.cells[0 if self.tied else number]]),
                [x[None] for x in begin],
                [
                    *(skewed(x, 2) for x in depth),
                    *(longer(x, 0, sizes[0] - 1)[:, None] for x in words),
                ],
                skewed(keep, 3),
                save=bool(training),
            )
            depth = [straightened(x, 2) for x in leaving]
        last = ops.maximum(lengths - 1, 0)[:, None]
        ends = [_taken(x, last)[:, 0] for x in depth]
        ends = [ops.where(lengths[:, None] > 0, x, ops.zeros_like(x)) for x in ends]
        output = [*(x[0] for x in state), *ends]
        output = [ops.cast(ops.swapaxes(x, 0, 1), self.compute_dtype) for x in output]
        return ops.concatenate(output, axis=-1)[:, :given]

    def compute_output_spec(self, source, target, lengths=None, training=False):
        if not self.built:
            self.build(source.shape, target.shape)
        return keras.KerasTensor((*target.shape[:2], 4 * self.units), self.compute_dtype)

    def get_config(self):
        cell = self.cells[0].get_config()
        return {
            **super().get_config(),
            "units": self.units,
            "layers": self.layers,
            "tied": self.tied,
            **{name: cell[name] for name in ("hidden_form", "kernel_initializer")},
            "bias_initializer": cell["bias_initializer"],
            "memory_budget": self.memory_budget,
        }


def _entering(projected, dtype):
    """Hidden vectors and memories `(time, batch, units)`."""
    hidden, memory = ops.split(ops.swapaxes(projected, 0, 1), 2, axis=-1)
    return [hidden, ops.cast(memory, dtype)]


def _taken(x, places):
    """The entries of `(..., time, batch, units)` at `(batch, places)` in the place of time."""
    places = ops.transpose(places)[..., None]
    return ops.take_along_axis(x, places[None] if len(x.shape) == 4 else places, axis=-3)
