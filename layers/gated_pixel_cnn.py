"""The Gated PixelCNN: images one pixel after the other, by masked convolutions."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from . import _backend as backend
from . import _chance
from ._affine import affine_map
from ._base import serializable, sum_dtype, whole
from ._masked_convolution import colour_mask, convolve, convolve_rows
from ._scan import scan, stacked


@serializable
class GatedPixelCNN(keras.layers.Layer):
    """Gated PixelCNN (van den Oord et al., 2016): the odds of each pixel given those before it.

    Pixels come row by row, the colours of a pixel one after the other. Each layer has two stacks
    (section 2.2): the vertical one sees all rows above, the horizontal one what is left in the row,
    and the vertical one by a link that is taken before the gate. Of a pixel itself a unit sees the
    colours before its own. Both stacks are gated (eq. 2), and see a vector that is the same at all
    places (eq. 4), such as a class, or maps of the image's size (eq. 5).

    Args:
        filters: p, features of each stack.
        layers: how many there are.
        kernel_size: n, an odd number; a layer sees n // 2 rows above and as many columns on each
            side.
        first_kernel_size: of the first layer.
        head: units of the layer between the last stack and the odds.
        levels: values that a pixel's colour may have, 2 or more.
        joint_colours: whether a pixel's colours see those of them that come before; without it they
            are independent given the pixels before.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        image: `(batch, height, width)` or `(batch, height, width, colours)`, whole numbers from 0
            to levels - 1, of known size.
        condition: `(batch, features)`, or None.
        maps: `(batch, height, width, features)`, or None.
        seed: `(batch,)` integers, which ask for images in the place of logits, or None.
        known: `(batch,)` integers, how many pixels of image these keep, or None for none.

    Returns:
        Logits: of each level, `(*image, levels)`; with two levels that of a 1, `(*image,)`.
        float64 for float64, and float32 for all other dtypes. Where a seed is given, the images
        that `generate` makes, int32.

    Raises:
        ValueError: an argument is not what it must be, filters and head cannot be shared out to the
            colours, or an image has another rank or no known size.

    Example:
        >>> layer = GatedPixelCNN(filters=8, layers=2)
        >>> layer(keras.ops.ones((2, 6, 5), dtype="int32")).shape
        TensorShape([2, 6, 5])
        >>> image, log_probability = layer.generate(keras.ops.arange(4))
        >>> image.shape, log_probability.shape
        (TensorShape([4, 6, 5]), TensorShape([4, 6, 5]))

    Reference:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, "Conditional Image
        Generation with PixelCNN Decoders", 2016, arXiv:1606.05328.
    """

    def __init__(
        self,
        filters: int,
        layers: int,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        head: int = 64,
        levels: int = 2,
        joint_colours: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.filters, self.head = whole("filters", filters, 1), whole("head", head, 1)
        self._graph = backend.traced(self._generated)
        self.levels, self.joint_colours = whole("levels", levels, 2), bool(joint_colours)
        self.kernel_size = _odd("kernel_size", kernel_size)
        self.first_kernel_size = _odd("first_kernel_size", first_kernel_size)
        sizes = [self.first_kernel_size] + [self.kernel_size] * (whole("layers", layers, 1) - 1)
        self.layers = [
            _GatedLayer(
                self.filters,
                size,
                is_first=not i,
                is_last=i == len(sizes) - 1,
                dtype=self.dtype_policy,
                name=f"{i}",
            )
            for i, size in enumerate(sizes)
        ]

    def build(self, image_shape, condition_shape=None, maps_shape=None):
        if len(image_shape) not in (3, 4) or None in image_shape[1:]:
            raise ValueError(
                "GatedPixelCNN needs images of known size, (batch, height, width) or (batch, "
                f"height, width, colours); got {tuple(image_shape)}"
            )
        self.image_shape = tuple(image_shape[1:])
        self.height, self.width, self.colours = (*self.image_shape, 1)[:3]
        for name, units in (("filters", self.filters), ("head", self.head)):
            if units % self.colours:
                raise ValueError(
                    f"{name} must be a multiple of the {self.colours} colours; got {units}"
                )
        # In one group units see none of the pixel's colours, and so all other units.
        groups = self.colours if self.joint_colours else 1
        self.takes = [shape is not None for shape in (condition_shape, maps_shape)]
        sizes = [shape[-1] for shape in (condition_shape, maps_shape) if shape is not None]
        for i, layer in enumerate(self.layers):
            layer.build(self.filters if i else self.colours, groups, sizes)
        odds = self.colours * (1 if self.levels == 2 else self.levels)
        self.head_weights = [
            _pointwise(self, name, *size, groups)
            for name, size in (("hidden", (self.filters, self.head)), ("odds", (self.head, odds)))
        ]

    def call(self, image, condition=None, maps=None, seed=None, known=None):
        if seed is not None:
            return self.generate(seed, condition, maps, image, known)[0]
        layers, head = self._ready()
        vertical = self._entering(image, (self.height, self.width))
        horizontal, batch = vertical, ops.shape(vertical)[0]
        for layer, (below, beside) in zip(layers, self._seen(condition, maps)):
            above = (batch, layer.reach, self.width, vertical.shape[-1])
            above = ops.zeros(above, self.compute_dtype)
            vertical, link, _ = layer.down(vertical, above, below)
            # A row sees what the stack knows of the row above it.
            link = _plus(ops.pad(link, [(0, 0), (1, 0), (0, 0), (0, 0)])[:, :-1], beside)
            x, link = (ops.reshape(y, (-1, *y.shape[2:])) for y in (horizontal, link))
            left = ops.zeros((ops.shape(x)[0], layer.reach, x.shape[-1]), self.compute_dtype)
            x, _ = layer.along(x, left, link)
            horizontal = ops.reshape(x, (-1, self.height, self.width, self.filters))
        logits = self._logits(head, horizontal)
        return logits if len(self.image_shape) == 3 else ops.squeeze(logits, axis=3)

    def generate(self, seed, condition=None, maps=None, image=None, known=None, temperature=None):
        """Draws images pixel by pixel; each costs one place of every layer, in one loop.

        Args:
            seed: `(batch,)` integers, the chance of each image.
            condition, maps: as of `call`.
            image: images whose first pixels are kept, or None.
            known: `(batch,)` integers, how many of them, row by row, or None for none.
            temperature: `(batch,)`, which logits are divided by; 0 takes the most probable level. 1
                where it is None.

        Returns:
            The images, `(batch, *image_shape)` int32, of the size that the layer was built for; and
            the log-probability of each of their levels given those before, likewise, in the dtype
            of `call`, whatever the temperature.

        Raises:
            ValueError: the layer is not built yet, or was built for other arguments.
        """
        if not self.built:
            raise ValueError("generate needs a layer that is built; call it on an image first")
        # Called eagerly, a loop over pixels would take some hundred times as long.
        return self._graph(seed, condition, maps, image, known, temperature)

    def _generated(self, seed, condition, maps, image, known, temperature):
        size = self.height, self.width, self.colours
        (layers, head), batch = self._ready(), ops.shape(seed)[0]
        wide = sum_dtype(self.compute_dtype)
        if image is None or known is None:
            image, known = ops.zeros((batch, *size), "int32"), ops.zeros((batch,), "int32")
        place = ops.reshape(ops.arange(self.height * self.width, dtype="int32"), size[:2])
        if temperature is None:
            temperature = ops.ones((batch,))
        temperature = ops.cast(temperature, wide)
        seen = self._seen(condition, maps)
        rows = (
            ops.cast(ops.reshape(image, (-1, *size)), "int32"),
            place < ops.cast(known, "int32")[:, None, None],
            _chance.uniform(seed, size, dtype=wide),
            seen if self.takes[1] else [],
        )
        always = [] if self.takes[1] else tree.map_structure(lambda x: x[:, 0], seen)

        def pixel(queues, _, read):
            given, is_kept, uniform, links = read
            values, found = [ops.zeros((batch,), "int32")] * self.colours, []
            for colour in range(self.colours):
                x, behind = self._entering(ops.stack(values, axis=-1), (1,)), []
                for layer, queue, link in zip(layers, queues, links):
                    x, queue = layer.along(x, queue, link[:, None])
                    behind.append(queue)
                logits = self._logits(head, x)[:, 0, colour]
                if self.levels == 2:
                    logits = ops.stack([ops.zeros_like(logits), logits], axis=-1)
                drawn = _chance.choose(logits, temperature, uniform[:, colour])
                values[colour] = ops.where(is_kept, given[:, colour], drawn)
                odds = ops.log_softmax(logits)
                found.append(ops.take_along_axis(odds, values[colour][:, None], axis=-1)[:, 0])
            # No layer sees a place's last colour there; the first one sees it further on.
            value = ops.stack(values, axis=-1)
            entering = self._entering(value, (1,))
            entering = ops.cast(entering, queues[0].dtype)
            behind[0] = ops.concatenate([queues[0], entering], axis=1)[:, 1:]
            return behind, [value, ops.stack(found, axis=-1)]

        def row(state, _, read):
            (above, links), (given, is_kept, uniform, maps) = state, read
            seen = maps or always
            links = [_plus(link, beside) for link, (_, beside) in zip(links, seen)]
            read = _turned((given, is_kept, uniform, links))
            queues = [ops.zeros((batch, x.shape[1], x.shape[3]), x.dtype) for x in above]
            like = [given[:, 0], uniform[:, 0]]
            _, answers = scan(pixel, queues, self.width, ahead=read, like=like)
            values, odds = _turned(stacked(answers))
            x, behind, links = self._entering(values, (1, self.width)), [], []
            for layer, queue, (below, _) in zip(layers, above, seen):
                x, link, queue = layer.down(x, queue, [y[:, None] for y in below])
                behind.append(queue)
                links.append(link[:, 0])
            return (behind, links), [values, odds]

        sizes = [self.colours] + [self.filters] * (len(layers) - 1)
        above = [
            ops.zeros((batch, layer.reach, self.width, features), self.compute_dtype)
            for layer, features in zip(layers, sizes)
        ]
        links = [ops.zeros((batch, self.width, 2 * self.filters), wide) for _ in layers]
        like = [rows[0][:, 0], rows[2][:, 0]]
        _, answers = scan(row, (above, links), self.height, ahead=_turned(rows), like=like)
        shape = (-1, *self.image_shape)
        return tuple(ops.reshape(x, shape) for x in _turned(stacked(answers)))

    def _entering(self, image, places):
        """`(batch, *places, colours)`, levels as numbers from 0 to 1."""
        wide = sum_dtype(self.compute_dtype)
        x = ops.reshape(ops.cast(image, wide), (-1, *places, self.colours))
        return x / (self.levels - 1)

    def _ready(self):
        """What all places are multiplied by, with masks; products have the layer's dtype."""
        dtype = self.compute_dtype
        return [x.ready() for x in self.layers], [_masked(x, dtype) for x in self.head_weights]

    def _seen(self, condition, maps):
        """What both stacks of each layer see besides the image.

        `[]`, or a list of one `(batch, height or 1, width or 1, 2 * filters)`, for each.
        """
        if [x is not None for x in (condition, maps)] != self.takes:
            told = [f"{'a' if x else 'no'} {y}" for x, y in zip(self.takes, ("condition", "map"))]
            raise ValueError(f"this layer was built for {' and '.join(told)}")
        given = [] if condition is None else [condition[:, None, None]]
        given += [] if maps is None else [maps]
        return [layer.seen(given) for layer in self.layers]

    def _logits(self, head, x):
        """`(batch, *places, colours)`, or `(batch, *places, colours, levels)`."""
        for weights in head:
            x = affine_map(ops.relu(x), *weights)
        if self.levels == 2:
            return x
        return ops.reshape(x, (-1, *x.shape[1:-1], self.colours, self.levels))

    def compute_output_spec(self, image, condition=None, maps=None, seed=None, known=None):
        if not self.built:
            self.build(*(None if x is None else x.shape for x in (image, condition, maps)))
        if seed is not None:
            return keras.KerasTensor((seed.shape[0], *self.image_shape), dtype="int32")
        shape = image.shape if self.levels == 2 else (*image.shape, self.levels)
        return keras.KerasTensor(shape, dtype=sum_dtype(self.compute_dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "layers": len(self.layers),
            "kernel_size": self.kernel_size,
            "first_kernel_size": self.first_kernel_size,
            "head": self.head,
            "levels": self.levels,
            "joint_colours": self.joint_colours,
        }


class _GatedLayer(keras.layers.Layer):
    """The weights of a layer of figure 2 of the paper."""

    def __init__(self, filters, size, is_first, is_last, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.size = filters, size
        self.is_first, self.is_last = is_first, is_last

    def build(self, features, groups, sizes):
        reach, units = self.size // 2, 2 * self.filters
        mask = np.ones((reach + 1, features, units), "float32")
        mask[-1] = colour_mask(features, units, groups, parts=2, strict=self.is_first)
        self.vertical, self.link, self.horizontal = (
            _weights(self, name, mask)
            for name, mask in (
                ("vertical", np.ones((reach + 1, self.size, features, units), "float32")),
                ("link", np.ones((units, units), "float32")),
                ("horizontal", mask),
            )
        )
        self.out = _pointwise(self, "out", self.filters, self.filters, groups)
        # What the last vertical stack puts out, nothing sees.
        self.conditions = [
            [self.add_weight((n, units), name=f"{stack}_{i}_kernel") for i, n in enumerate(some)]
            for stack, some in (("below", [] if self.is_last else sizes), ("beside", sizes))
        ]
        self.built = True

    def ready(self):
        some = self.vertical, self.link, self.horizontal, self.out
        some = [_masked(x, self.compute_dtype) for x in some]
        return _Ready(self.size // 2, self.is_first, *some)

    def seen(self, given):
        """What both stacks make of what they see besides."""
        found = []
        for kernels in self.conditions:
            dtype = self.compute_dtype
            some = [ops.cast(x, dtype) @ ops.cast(y, dtype) for x, y in zip(given, kernels)]
            some = [ops.cast(x, sum_dtype(dtype)) for x in some]
            found.append([functools.reduce(ops.add, some)] if some else [])
        return found


@dataclasses.dataclass
class _Ready:
    """What a layer computes of rows, or of places of a row, behind those that came before them."""

    reach: int
    is_first: bool
    vertical: tuple
    link: tuple
    horizontal: tuple
    out: tuple

    def down(self, x, above, seen):
        """What the vertical stack puts out, its link to the rows below, and the rows above them."""
        kernel, bias = self.vertical
        z, above = convolve_rows(ops.cast(x, kernel.dtype), above, kernel)
        z = ops.cast(z, bias.dtype) + bias
        return _gated(_plus(z, seen)), affine_map(z, *self.link), above

    def along(self, x, left, link):
        """What the horizontal stack puts out, and what is left of the places behind these."""
        kernel, bias = self.horizontal
        z, left = convolve(ops.cast(x, kernel.dtype), left, kernel)
        z = _gated(ops.cast(z, bias.dtype) + bias + link)
        y = affine_map(z, *self.out)
        return y if self.is_first else x + y, left


class _Glorot(keras.initializers.Initializer):
    """Glorot's uniform numbers where a mask is 1, larger where a unit sees less."""

    def __init__(self, mask):
        self.mask = mask

    def __call__(self, shape, dtype=None):
        x = keras.initializers.GlorotUniform()(shape, dtype=dtype)
        share = self.mask.mean(axis=tuple(range(self.mask.ndim - 1)))
        return x * ops.cast(self.mask / np.sqrt(np.maximum(share, 1e-9)), dtype)


def _weights(layer, name, mask, bias="zeros"):
    """A kernel, its mask, and a bias of its units."""
    kernel = layer.add_weight(mask.shape, _Glorot(mask), name=f"{name}_kernel")
    return kernel, mask, layer.add_weight((mask.shape[-1],), bias, name=f"{name}_bias")


def _pointwise(layer, name, features, units, colours):
    """Weights of a product at each place, in which a colour sees itself and those before it."""
    # The first place sees nothing: without a bias its ReLUs would stand at 0, and learn nothing.
    bias = keras.initializers.RandomUniform(-0.05, 0.05)
    return _weights(layer, name, colour_mask(features, units, colours), bias)


def _masked(weights, dtype):
    kernel, mask, bias = weights
    kernel = ops.cast(backend.value(kernel), dtype)
    kernel = kernel if mask.all() else kernel * ops.cast(mask, dtype)
    return kernel, ops.cast(backend.value(bias), sum_dtype(dtype))


def _gated(z):
    """Eq. 2."""
    a, b = ops.split(z, 2, axis=-1)
    return ops.tanh(a) * ops.sigmoid(b)


def _plus(x, some):
    for y in some:
        x = x + y
    return x


def _turned(nest):
    """Tensors with their second axis in front, which is what loops go along."""
    return tree.map_structure(lambda x: ops.moveaxis(x, 1, 0), nest)


def _odd(name, size):
    if whole(name, size, 1) % 2 == 0:
        raise ValueError(f"{name} must be odd; got {size!r}")
    return int(size)
