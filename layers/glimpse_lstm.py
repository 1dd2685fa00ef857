"""An LSTM that looks at an image where it wants to: DRAW that reads only."""

from typing import Any

import keras
from keras import ops

from . import _filterbank
from ._affine import affine_recurrence, kernel_and_bias
from ._base import budget_of, serializable, sum_dtype, whole
from ._recurrent_loop import lstm_step


@serializable
class GlimpseLSTM(keras.layers.Layer):
    """An LSTM over glimpses of an image, each through filters that it moved (Gregor et al., 2015).

    The "differentiable RAM" of section 4.1: DRAW's read attention (eqs. 19 to 27) without a canvas.
    At first all glimpses are of the whole image. The output and the cell before the first glimpse
    are learnt, and with them where it looks.

    Args:
        units: of the LSTM.
        glimpses: how often it looks.
        patch: N, filters along each side of a glimpse.
        memory_budget: bytes that training may use to remember the steps, as in `PeepholeLSTM`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        image: `(batch, height, width)` or `(batch, height, width, colours)`, of known size.
        training: whether to store what the gradient needs; without it, it is computed again where
            one is asked for.

    Returns:
        Dict of tensors: `outputs`, `(batch, glimpses, units)`; and `windows`, `(batch, glimpses,
        5)`: x and y of the grid's centre, the stride between its filters, and their deviation, in
        pixels counted from 1; and the intensity. Both are float64 for float64 and float32 for all
        other dtypes.

    Raises:
        ValueError: an argument is no whole number from 1 on, or an image has another rank or no
            known size.

    Example:
        >>> layer = GlimpseLSTM(units=8, glimpses=3, patch=2)
        >>> layer(keras.ops.ones((2, 6, 5)))["outputs"].shape
        TensorShape([2, 3, 8])

    Reference:
        Gregor, Danihelka, Graves, Rezende and Wierstra, "DRAW: A Recurrent Neural Network for Image
        Generation", 2015, arXiv:1502.04623.
    """

    def __init__(
        self,
        units: int,
        glimpses: int,
        patch: int,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.glimpses = whole("glimpses", glimpses, 1)
        self.patch = whole("patch", patch, 1)
        self.memory_budget = budget_of(memory_budget)
        self.cell = keras.layers.LSTMCell(units, name="cell", dtype=self.dtype_policy)

    def build(self, image_shape):
        shape = _filterbank.image_shape("GlimpseLSTM", image_shape)
        self.height, self.width, colours = (*shape, 1)[:3]
        self.look = _filterbank.pointing(
            _filterbank.RAW, self.patch, self.height, self.width, "look", self.dtype_policy
        )
        self.look.build((None, self.units))
        self.cell.build((None, colours * self.patch**2))
        self.first_state = [
            self.add_weight(shape=(self.units,), initializer="zeros", name=f"first_{name}")
            for name in ("output", "cell")
        ]

    @property
    def _dtype(self):
        return sum_dtype(self.compute_dtype)

    def call(self, image, training=False):
        image = _filterbank.rows_of(ops.cast(image, self._dtype))
        maps = {
            name: kernel_and_bias(layer, self.compute_dtype)
            for name, layer in (("look", self.look), ("cell", self.cell))
        }
        nothing = ops.zeros((self.glimpses, ops.shape(image)[0], 0), self._dtype)
        outputs, windows = affine_recurrence(
            self._step,
            nothing,
            maps,
            [image],
            self.first_state,
            self.glimpses,
            bool(training),
            self.memory_budget,
        )
        return {"outputs": outputs, "windows": windows}

    def _step(self, affine, nothing, state, constants):
        (h, c), (image,) = state, constants
        size = self.patch, self.height, self.width
        window = _filterbank.grid(affine("look", h), *size)
        seen = window[:, 4:] * _filterbank.look(image, *_filterbank.filters(window, *size))
        h, c = lstm_step(affine("cell", seen, h), c)
        return [h, c], [h, window]

    def compute_output_spec(self, image, training=False):
        if not self.built:
            self.build(image.shape)
        sizes = {"outputs": self.units, "windows": _filterbank.RAW}
        return {
            name: keras.KerasTensor((image.shape[0], self.glimpses, size), dtype=self._dtype)
            for name, size in sizes.items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "glimpses": self.glimpses,
            "patch": self.patch,
            "memory_budget": self.memory_budget,
        }
