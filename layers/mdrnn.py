"""Recurrent layers over arrays of any number of dimensions."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._base import bound, budget_of, serializable, sum_dtype, whole
from ._multidimensional_loop import LSTMPoint, PlainPoint, StablePoint, multidimensional_loop
from ._padding import at_least_one


class _MultiDimensional(keras.layers.Layer):
    """What recurrent layers over arrays share: their directions, and how these see an array."""

    def __init__(
        self,
        units,
        multidirectional,
        kernel_initializer,
        recurrent_initializer,
        bias_initializer,
        memory_budget,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.units = whole("units", units, 1)
        self.multidirectional = bool(multidirectional)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.memory_budget = budget_of(memory_budget)
        self.supports_masking = True

    def build(self, inputs_shape):
        if len(inputs_shape) < 3 or inputs_shape[-1] is None:
            raise ValueError(
                f"{type(self).__name__} needs inputs of shape (batch, time, features), (batch, "
                "height, width, features) or with more dimensions, with known features; got "
                f"{tuple(inputs_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=len(inputs_shape), axes={-1: inputs_shape[-1]}
        )
        self.dimensions = len(inputs_shape) - 2
        width = self._width()
        recurrent = (self.dimensions * self.units, width)
        self.kernels = self._add("kernel", (inputs_shape[-1], width), self.kernel_initializer)
        self.recurrent_kernels = self._add(
            "recurrent_kernel", recurrent, self.recurrent_initializer
        )
        self.biases = self._add("bias", (width,), self._initial_bias)

    @property
    def _directions(self):
        return 2**self.dimensions if self.multidirectional else 1

    def _add(self, name, shape, initializer):
        """A weight for each direction; an initializer that is used twice would repeat itself."""
        return [
            self.add_weight(
                shape,
                initializer.clone() if hasattr(initializer, "clone") else initializer,
                name=f"{name}_{number}",
            )
            for number in range(self._directions)
        ]

    def _initial_bias(self, shape, dtype=None):
        return self.bias_initializer(shape, dtype=dtype)

    def _weights(self, variables):
        """`(directions, ...)`, of the weights of all directions."""
        wide = sum_dtype(self.compute_dtype)
        return ops.stack([ops.cast(backend.value(x), wide) for x in variables])

    def call(self, inputs, mask=None, training=False):
        inputs = ops.cast(inputs, sum_dtype(self.compute_dtype))
        given = ops.shape(inputs)[1:-1]
        mask = None if mask is None else ops.cast(mask, "bool")
        for axis in range(1, 1 + self.dimensions):
            inputs = at_least_one(inputs, axis)
            mask = None if mask is None else at_least_one(mask, axis)
        parts = [self.recurrent_kernels, self.kernels]
        kernel = [self._weights(x) for x in parts] + [self._weights(self.biases)[:, None]]
        outputs = multidimensional_loop(
            self._point(),
            inputs,
            ops.concatenate(kernel, axis=1),
            self._peepholes(),
            mask,
            bool(training),
            self.memory_budget,
        )
        outputs = outputs[(slice(None), *(slice(0, size) for size in given))]
        return ops.cast(outputs, self.compute_dtype)

    def _peepholes(self):
        return []

    def compute_output_spec(self, inputs, mask=None, training=False):
        if not self.built:
            self.build(inputs.shape)
        shape = (*inputs.shape[:-1], self._directions * self.units)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return mask

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "multidirectional": self.multidirectional,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "memory_budget": self.memory_budget,
        }


@serializable
class MDRNN(_MultiDimensional):
    """A recurrent layer over sequences, images and volumes (Graves et al., 2007, section 2).

    A point of an array of n dimensions sees its input and what the n points before it put out, one
    step back along each dimension. Outside of the array that is zero. With the point before x along
    dimension d as x - d, and a kernel U_d for each dimension,

        h(x) = activation(W I(x) + sum over d of U_d h(x - d) + b)

    What a layer sees at a point is all that lies between it and the corner where it began, so there
    is a layer for each of the 2^n corners, which do not see one another. Points whose coordinates
    have the same sum are computed at once, of all directions and rows, so that an image takes
    `height + width - 1` steps. Choose the longest dimension as the last.

    Args:
        units: of each direction.
        multidirectional: whether there is a direction from each corner, or from the first alone.
        activation: of the units.
        kernel_initializer, recurrent_initializer, bias_initializer: of the weights.
        memory_budget: bytes that training may use to remember diagonals of the whole batch, all
            directions together; what does not fit is computed again (`plan_memory`). None for no
            bound.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, time, features)`, `(batch, height, width, features)`, or with more
            dimensions before the features.
        mask: `(batch, time)`, `(batch, height, width)` and so on, boolean; False outside of an
            array, so that a batch may have arrays of different sizes.
        training: whether to keep what the gradient needs; without it a gradient runs the loop
            again.

    Returns:
        `(batch, ..., directions * units)`. The bits of a direction's number say along which
        dimensions it begins at the end: an image's are those from the upper left, the lower left,
        the upper right and the lower right corner.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        A masked point is outside: what others see of it is zero, as at the border, and so is its
        output. So an array with padding behind it gives what it gives alone.

    Example:
        >>> layer = MDRNN(4)
        >>> layer(keras.ops.ones((2, 3, 5, 6))).shape
        TensorShape([2, 3, 5, 16])

    Reference:
        Graves, Fernandez and Schmidhuber, "Multi-Dimensional Recurrent Neural Networks", 2007,
        arXiv:0705.2011.
    """

    def __init__(
        self,
        units: int,
        multidirectional: bool = True,
        activation: str = "tanh",
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            multidirectional,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            memory_budget,
            **kwargs,
        )
        self.activation = keras.activations.get(activation)

    def _width(self):
        return self.units

    def _point(self):
        return PlainPoint(self.activation)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation}


@serializable
class MDLSTM(_MultiDimensional):
    """A layer of LSTM cells over sequences, images and volumes (Graves et al., 2007, section 3).

    A cell at a point of an array of n dimensions has the memories of the n points before it, one
    step back along each dimension, and a forget gate for each. All gates see the outputs of all
    those points, the input gate their memories' sum, and a forget gate the memory that it forgets.
    With the point before x along dimension d as x - d,

        i = sigmoid(W_i I(x) + sum over d of U_id h(x - d) + p_i * sum over d of c(x - d) + b_i)
        f_d = sigmoid(W_fd I(x) + sum over e of U_fde h(x - e) + p_fd * c(x - d) + b_fd)
        g = tanh(W_g I(x) + sum over d of U_gd h(x - d) + b_g)
        c(x) = i * g + sum over d of f_d * c(x - d)
        o = sigmoid(W_o I(x) + sum over d of U_od h(x - d) + p_o * c(x) + b_o)
        h(x) = o * tanh(c(x))

    Over sequences this is `PeepholeLSTM`, whose weights it takes. Directions, borders and the order
    of points are those of `MDRNN`. Where the layer computes in half precision its loop is float32.

    The forget gates of a point may add up to more than 1, so that memories grow along an image.
    With `stable` there is one gate that forgets, and the memory before a point is a mean of those
    of its neighbours, in shares that the cell chooses (Leifert et al., 2016):

        c(x) = i * g + f * sum over d of s_d * c(x - d)

    where the shares s are a softmax of 0 and of n - 1 further products; input and forget gate see
    the mean.

    Args:
        units: of each direction.
        multidirectional, memory_budget: as in `MDRNN`.
        stable: whether there is one forget gate, over a mean.
        clip_derivatives: bound of the loss's derivatives by what enters the gates, or 0 for none.
            The authors' program has 10.
        kernel_initializer, recurrent_initializer, bias_initializer: of the weights; the peepholes
            begin as the recurrent weights do.
        forget_bias: what the biases of the forget gates begin with, beside their initializer. With
            several dimensions even 0 lets half of each memory through.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs, mask, training: as in `MDRNN`.

    Returns:
        `(batch, ..., directions * units)`, as `MDRNN`.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        As in `MDRNN`: a masked point is outside, and `PeepholeLSTM`, which passes over it, differs
        where real steps follow it.

    Example:
        >>> layer = MDLSTM(4)
        >>> layer(keras.ops.ones((2, 3, 5, 6))).shape
        TensorShape([2, 3, 5, 16])

    Reference:
        Graves, Fernandez and Schmidhuber, "Multi-Dimensional Recurrent Neural Networks", 2007,
        arXiv:0705.2011; Leifert, Strauß, Grüning, Wustlich and Labahn, "Cells in Multidimensional
        Recurrent Neural Networks", 2016, arXiv:1412.2620.
    """

    def __init__(
        self,
        units: int,
        multidirectional: bool = True,
        stable: bool = False,
        clip_derivatives: float = 0.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "orthogonal",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        forget_bias: float = 0.0,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            multidirectional,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            memory_budget,
            **kwargs,
        )
        self.stable = bool(stable)
        self.clip_derivatives = bound("clip_derivatives", clip_derivatives)
        self.forget_bias = float(forget_bias)

    @property
    def _forget_gates(self):
        return 1 if self.stable else self.dimensions

    def build(self, inputs_shape):
        super().build(inputs_shape)
        shape = (2 + self._forget_gates, self.units)
        self.peephole_weights = self._add("peepholes", shape, self.recurrent_initializer)

    def _width(self):
        return (3 + self.dimensions) * self.units

    def _initial_bias(self, shape, dtype=None):
        gate = ops.arange(shape[0]) // self.units
        is_forget = ops.logical_and(gate >= 1, gate <= self._forget_gates)
        bias = super()._initial_bias(shape, dtype)
        return bias + self.forget_bias * ops.cast(is_forget, dtype)

    def _point(self):
        return (StablePoint if self.stable else LSTMPoint)(self.clip_derivatives)

    def _peepholes(self):
        """Those of the gates that see what was before, and those of the output gate."""
        peepholes = self._weights(self.peephole_weights)
        before = ops.reshape(peepholes[:, :-1], (self._directions, 1, -1))
        return [before, peepholes[:, -1:]]

    def get_config(self):
        return {
            **super().get_config(),
            "stable": self.stable,
            "clip_derivatives": self.clip_derivatives,
            "forget_bias": self.forget_bias,
        }
