"""DRAW: an image that is looked at and painted in steps."""

from typing import Any

import keras
from keras import ops

from . import _chance, _filterbank
from ._affine import affine_recurrence, kernel_and_bias
from ._base import OwnDense, budget_of, serializable, sum_dtype, whole
from ._recurrent_loop import lstm_step


@serializable
class DRAW(keras.layers.Layer):
    """Deep Recurrent Attentive Writer (Gregor et al., 2015): an image is painted in steps.

    At each step an encoder looks at the image and at what is still missing on the canvas, and gives
    a Gaussian over latents; a decoder reads a sample of it and adds to the canvas, whose sum holds
    the logits of the pixels (eqs. 3 to 8). Where patches have a size both go through a grid of
    Gaussian filters that the decoder moves (eqs. 19 to 29); elsewhere it is the whole image. The
    first canvas, outputs and cells are learnt.

    All steps are one loop, of so many products with weights as the equations have, and one graph
    however many steps there are.

    Args:
        steps: T, how often it looks and paints.
        units: of the LSTM of the encoder and of that of the decoder.
        latent_size: latents of a step.
        read_patch: N, filters along each side of what is looked at, or None for no attention.
        write_patch: the same of what is painted.
        memory_budget: bytes that training may use to remember the steps, as in `PeepholeLSTM`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        image: `(batch, height, width)` or `(batch, height, width, colours)`, from 0 to 1, of known
            size; or None, where the layer is built, to paint what latents of the standard normal
            distribution make.
        seed: `(batch,)` integers, the chance of each image (the same for the same seed in any
            batch).
        training: whether to store what the gradient needs; without it, it is computed again where
            one is asked for.

    Returns:
        Dict of tensors, float64 for float64 and float32 for all other dtypes:
        `canvases`, `(batch, steps, *image)`, logits of the pixels after each step;
        `mean` and `log_deviation`, `(batch, steps, latent_size)`, of the latents given the image;
        `latents`, `(batch, steps, latent_size)`, the sample;
        `read_windows` and `write_windows`, `(batch, steps, 5)`, where there is attention: x and y
        of the grid's centre, the stride between its filters, and their deviation, in pixels counted
        from 1; and the intensity. Without an image there are `canvases`, `latents` and
        `write_windows` alone.

    Raises:
        ValueError: an argument is no whole number from 1 on, only one of the patches is given, or
            an image has another rank or no known size.

    Example:
        >>> layer = DRAW(steps=3, units=8, latent_size=4, read_patch=2, write_patch=3)
        >>> layer(keras.ops.ones((2, 6, 5)), keras.ops.arange(2))["canvases"].shape
        TensorShape([2, 3, 6, 5])

    Reference:
        Gregor, Danihelka, Graves, Rezende and Wierstra, "DRAW: A Recurrent Neural Network for Image
        Generation", 2015, arXiv:1502.04623.
    """

    def __init__(
        self,
        steps: int,
        units: int,
        latent_size: int,
        read_patch: int | None = None,
        write_patch: int | None = None,
        memory_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.steps = whole("steps", steps, 1)
        self.units = whole("units", units, 1)
        self.latent_size = whole("latent_size", latent_size, 1)
        if (read_patch is None) != (write_patch is None):
            raise ValueError(
                "read_patch and write_patch must be two sizes, or None for no attention; "
                f"got {read_patch!r} and {write_patch!r}"
            )
        attention = read_patch is not None
        self.read_patch = whole("read_patch", read_patch, 1) if attention else None
        self.write_patch = whole("write_patch", write_patch, 1) if attention else None
        self.memory_budget = budget_of(memory_budget)
        dtype = self.dtype_policy
        self.encoder = keras.layers.LSTMCell(units, name="encoder", dtype=dtype)
        self.decoder = keras.layers.LSTMCell(units, name="decoder", dtype=dtype)
        self.infer = OwnDense(2 * latent_size, name="infer", dtype=dtype)

    @property
    def attention(self) -> bool:
        """Whether it looks and paints through filters."""
        return self.read_patch is not None

    def build(self, image_shape, seed_shape=None):
        self.image_shape = _filterbank.image_shape("DRAW", image_shape)
        self.height, self.width, self.colours = (*self.image_shape, 1)[:3]
        pixels, units = self.height * self.width * self.colours, self.units
        seen, written = 2 * pixels, pixels
        if self.attention:
            seen = 2 * self.colours * self.read_patch**2
            written = self.colours * self.write_patch**2 + _filterbank.RAW
            size, dtype = (self.height, self.width), self.dtype_policy
            self.look = _filterbank.pointing(_filterbank.RAW, self.read_patch, *size, "look", dtype)
            self.write = _filterbank.pointing(written, self.write_patch, *size, "write", dtype)
        else:
            self.write = OwnDense(written, name="write", dtype=self.dtype_policy)
        for layer, size in (
            (self.encoder, seen + units),
            (self.infer, units),
            (self.decoder, self.latent_size),
            (self.write, units),
            *([(self.look, units)] if self.attention else []),
        ):
            layer.build((None, size))
        self.first_canvas = self.add_weight(
            shape=(self.height, self.colours * self.width), initializer="zeros", name="first_canvas"
        )
        self.first_state = [
            self.add_weight(shape=(units,), initializer="zeros", name=f"first_{name}")
            for name in ("decoder_output", "decoder_cell", "encoder_output", "encoder_cell")
        ]

    @property
    def _dtype(self):
        return sum_dtype(self.compute_dtype)

    def call(self, image, seed, training=False):
        noise = _chance.normal(seed, (self.steps, self.latent_size), dtype=self._dtype)
        if image is None:
            return {**self.generate(noise, training), "latents": noise}
        return self.reconstruct(image, noise, training)

    def reconstruct(self, image: Any, noise: Any, training: bool = False) -> dict[str, Any]:
        """What a call gives, by standard normal noise `(batch, steps, latent_size)`: 0 is the mean.

        The layer must be built.
        """
        image = _filterbank.rows_of(ops.cast(image, self._dtype))
        weights = self._weights("encoder", "infer", "decoder", "write")
        constants = [image]
        if not self.attention:
            # What is seen of the image itself stays the same for all steps.
            pixels = self.height * self.width * self.colours
            kernel, bias = weights["encoder"]
            weights["encoder"] = kernel[pixels:], bias
            seen = ops.cast(ops.reshape(image, (-1, pixels)), kernel.dtype) @ kernel[:pixels]
            constants.append(ops.cast(seen, self._dtype))
        rows = ops.transpose(ops.cast(noise, self._dtype), (1, 0, 2))
        found = self._run(self._encode, rows, weights, constants, self.first_state, training)
        canvases, inferred, latents, *windows = found
        mean, log_deviation = ops.split(inferred, 2, axis=-1)
        return {
            "canvases": self._outside(canvases),
            "mean": mean,
            "log_deviation": log_deviation,
            "latents": latents,
            **dict(zip(("write_windows", "read_windows"), windows)),
        }

    def generate(self, latents: Any, training: bool = False) -> dict[str, Any]:
        """`canvases` and `write_windows` of latents `(batch, steps, latent_size)`, as in a call.

        Latents of the standard normal distribution make new images. The layer must be built.
        """
        rows = ops.transpose(ops.cast(latents, self._dtype), (1, 0, 2))
        weights, start = self._weights("decoder", "write"), self.first_state[:2]
        canvases, *windows = self._run(self._decode, rows, weights, [], start, training)
        return {"canvases": self._outside(canvases), **dict(zip(["write_windows"], windows))}

    def _run(self, step, rows, weights, constants, start, training):
        start = [self.first_canvas, *start]
        return affine_recurrence(
            step, rows, weights, constants, start, self.steps, bool(training), self.memory_budget
        )

    # A step, as the equations have it.

    def _encode(self, affine, noise, state, constants):
        (canvas, *decoder, h, c), (image, *seen_of_image) = state, constants
        missing = image - ops.sigmoid(canvas)
        if self.attention:
            read = self._grid(affine("look", decoder[0]), self.read_patch)
            of_y, of_x = self._filters(read, self.read_patch)
            both = ops.concatenate([image, missing], axis=-1)
            seen = read[:, 4:] * _filterbank.look(both, of_y, of_x)
            gates = affine("encoder", seen, decoder[0], h)
        else:
            seen = ops.reshape(missing, (-1, self.height * self.width * self.colours))
            gates = affine("encoder", seen, decoder[0], h) + seen_of_image[0]
        h, c = lstm_step(gates, c)
        inferred = affine("infer", h)
        mean, log_deviation = ops.split(inferred, 2, axis=-1)
        latents = mean + ops.exp(log_deviation) * noise
        drawn, (canvas, *windows) = self._decode(affine, latents, [canvas, *decoder], [])
        answers = [canvas, inferred, latents, *windows]
        return [*drawn, h, c], [*answers, read] if self.attention else answers

    def _decode(self, affine, latents, state, constants):
        canvas, h, c = state
        h, c = lstm_step(affine("decoder", latents, h), c)
        written = affine("write", h)
        if not self.attention:
            canvas = canvas + ops.reshape(written, (-1, *self.first_canvas.shape))
            return [canvas, h, c], [canvas]
        patch, raw = written[:, : -_filterbank.RAW], written[:, -_filterbank.RAW :]
        write = self._grid(raw, self.write_patch)
        of_y, of_x = self._filters(write, self.write_patch)
        canvas = canvas + _filterbank.paint(patch / write[:, 4:], of_y, of_x)
        return [canvas, h, c], [canvas, write]

    def _grid(self, raw, patch):
        return _filterbank.grid(raw, patch, self.height, self.width)

    def _filters(self, grid, patch):
        return _filterbank.filters(grid, patch, self.height, self.width)

    def _outside(self, canvases):
        if len(self.image_shape) == 2:
            return canvases
        shape = (-1, self.steps, self.height, self.colours, self.width)
        return ops.transpose(ops.reshape(canvases, shape), (0, 1, 2, 4, 3))

    def _weights(self, *names):
        """Kernels and biases by name; that of an LSTM has its recurrent kernel below its own."""
        names = [*names, "look"] if self.attention and "encoder" in names else names
        return {name: kernel_and_bias(getattr(self, name), self.compute_dtype) for name in names}

    def compute_output_spec(self, image, seed, training=False):
        if not self.built:
            self.build(image.shape)
        batch, latents = seed.shape[0], (self.latent_size,)
        sizes = {"canvases": self.image_shape, "latents": latents}
        if self.attention:
            sizes["write_windows"] = (_filterbank.RAW,)
        if image is not None:
            sizes |= {"mean": latents, "log_deviation": latents}
        if self.attention and image is not None:
            sizes["read_windows"] = (_filterbank.RAW,)
        return {
            name: keras.KerasTensor((batch, self.steps, *size), dtype=self._dtype)
            for name, size in sizes.items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "steps": self.steps,
            "units": self.units,
            "latent_size": self.latent_size,
            "read_patch": self.read_patch,
            "write_patch": self.write_patch,
            "memory_budget": self.memory_budget,
        }
