"""ByteNet: stacks of dilated convolutions, one over a source and one over a target on top of it."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from ._affine import affine_map
from ._base import SequenceLayer, sequence_spec, serializable, sum_dtype, whole
from ._masked_convolution import convolve
from ._padding import RealSteps, at_least_one, longer

BLOCKS = "relu", "multiplicative"
COMBINATIONS = "add", "concatenate"


@serializable
class ByteNetStack(SequenceLayer):
    """Residual blocks of dilated convolutions: ByteNet's encoder, or its decoder.

    A stream of 2 d features runs through all blocks (Kalchbrenner et al., 2016, sections 3.4 to
    3.6). A ReLU block adds to it what these make of it, one after the other: normalization and
    ReLU, a product to d features at each place, normalization and ReLU, a dilated convolution,
    normalization and ReLU, a product back to 2 d. In a multiplicative block a unit stands in the
    place of the second ReLU and the convolution (Kalchbrenner et al., 2016, "Video Pixel Networks",
    section 3.3): of h it makes `g1 tanh(g2 h + g3 u)`, with sigmoid gates and u = tanh, each by a
    convolution of its own. Normalization is over the features of a place alone.

    Dilations double from block to block up to `most_dilation`, and begin again at 1.

    Args:
        units: d, the features inside of a block.
        blocks: how many there are.
        block: "relu", as the paper translates, or "multiplicative", as it predicts characters.
        causal: whether a place sees none behind it, or as many behind it as before it.
        kernel_size: k, taps of a convolution, an odd number.
        most_dilation: a power of 2.
        return_state: whether to return the queues as well, of a causal stack.
        zero_output_for_mask: whether the output of masked steps is zero.
        go_backwards: whether to read the sequence from its end, and to return its outputs in that
            order.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        sequence: `(batch, time, 2 * units)`.
        mask: `(batch, time)` boolean; False steps count as if they were not there.
        initial_state: of a causal stack, for each block what its convolution saw last, `(batch,
            (kernel_size - 1) * dilation, units)`; zeros where it is None.

    Returns:
        `(batch, time, 2 * units)`, the stream behind the last block; then, if asked for, the queue
        of each block behind the last real step. Parts of a sequence that are read one after the
        other, with these queues, give the numbers of the whole.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        A masked step is seen by none, and changes no queue. Its output repeats the one before (zero
        at the beginning), or is zero.

    Attributes:
        dilations: of each block.
        receptive_field: places that an output depends on; 373 for 30 blocks, where the text of the
            paper has 315.

    Example:
        >>> stack = ByteNetStack(4, blocks=3)
        >>> stack(keras.ops.ones((2, 6, 8))).shape, stack.receptive_field
        (TensorShape([2, 6, 8]), 15)

    Reference:
        Kalchbrenner, Espeholt, Simonyan, van den Oord, Graves and Kavukcuoglu, "Neural Machine
        Translation in Linear Time", 2016, arXiv:1610.10099.
    """

    def __init__(
        self,
        units: int,
        blocks: int = 30,
        block: str = "relu",
        causal: bool = True,
        kernel_size: int = 3,
        most_dilation: int = 16,
        return_state: bool = False,
        zero_output_for_mask: bool = False,
        go_backwards: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(go_backwards, autocast=False, **kwargs)
        self.units, self.block, self.causal = whole("units", units, 1), block, bool(causal)
        self.kernel_size = whole("kernel_size", kernel_size, 1)
        self.most_dilation = whole("most_dilation", most_dilation, 1)
        _one_of("block", block, BLOCKS)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size!r}")
        if self.most_dilation & (self.most_dilation - 1):
            raise ValueError(f"most_dilation must be a power of 2; got {most_dilation!r}")
        if return_state and not causal:
            raise ValueError("a stack that sees what follows has no state to return: causal=False")
        count, ways = whole("blocks", blocks, 1), self.most_dilation.bit_length()
        self.dilations = [2 ** (i % ways) for i in range(count)]
        self.receptive_field = 1 + (self.kernel_size - 1) * sum(self.dilations)
        self.return_state = bool(return_state)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.supports_masking = True
        self.blocks = [
            _Block(
                self.units,
                block,
                self.kernel_size,
                dilation,
                self.causal,
                scale=1 / count,
                dtype=self.dtype_policy,
                name=f"{number}",
            )
            for number, dilation in enumerate(self.dilations)
        ]

    def build(self, sequence_shape, initial_state_shape=None):
        self.input_spec = sequence_spec("ByteNetStack", sequence_shape)
        if sequence_shape[-1] != 2 * self.units:
            raise ValueError(
                f"ByteNetStack of {self.units} units needs a sequence of {2 * self.units} "
                f"features; got {tuple(sequence_shape)}"
            )
        for block in self.blocks:
            if not block.built:
                block.build(sequence_shape)

    def get_initial_state(self, batch_size):
        """Zeros, as many as the convolutions look back."""
        return [ops.zeros(shape, self.compute_dtype) for shape in self._queues(batch_size)]

    def _queues(self, batch):
        return [(batch, (self.kernel_size - 1) * r, self.units) for r in self.dilations]

    def call(self, sequence, mask=None, initial_state=None):
        if initial_state is not None and not self.causal:
            raise ValueError("a stack that sees what follows has no state: causal=False")
        sequence, mask = self.in_order(sequence, mask)
        steps = RealSteps(sequence, mask)
        before = initial_state
        if before is None:
            before = self.get_initial_state(ops.shape(sequence)[0])
        count = None if mask is None else steps.count
        output, behind = self.read(steps.pack(sequence), steps.front, before, count)
        output = steps.spread(output, self.zero_output_for_mask)
        output = ops.cast(output, self.compute_dtype)
        if not self.return_state:
            return output
        if mask is None:
            behind = [steps.after(*both) for both in zip(behind, before)]
        return output, *behind

    def read(self, x, real=None, before=None, count=None):
        """What leaves the last block, of steps of which the real ones stand in front.

        Args:
            x: `(batch, time, 2 * units)`, one step or more.
            real: `(batch, time)` boolean, or None where all steps are.
            before: the queues in front of them; None where there are none.
            count: `(batch,)`, how many steps are real, or None where all are.

        Returns:
            `(batch, time, 2 * units)`, float32 at least; and a list of the queues behind the last
            real step.
        """
        x, behind = ops.cast(x, sum_dtype(self.compute_dtype)), []
        before = before or [None] * len(self.blocks)
        for block, queue in zip(self.blocks, before):
            x, queue = block(x, real, queue, count)
            behind.append(queue)
        return x, behind

    def compute_output_spec(self, sequence, mask=None, initial_state=None):
        if not self.built:
            self.build(sequence.shape)
        output = keras.KerasTensor(sequence.shape, dtype=self.compute_dtype)
        if not self.return_state:
            return output
        shapes = self._queues(sequence.shape[0])
        return output, *(keras.KerasTensor(shape, self.compute_dtype) for shape in shapes)

    def compute_mask(self, sequence, mask=None):
        output = self.mask_of_sequence(mask)
        return (output, *[None] * len(self.blocks)) if self.return_state else output

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "blocks": len(self.blocks),
            "block": self.block,
            "causal": self.causal,
            "kernel_size": self.kernel_size,
            "most_dilation": self.most_dilation,
            "return_state": self.return_state,
            "zero_output_for_mask": self.zero_output_for_mask,
        }


class _Block(keras.layers.Layer):
    """The weights of a residual block of figure 3 of the paper."""

    def __init__(self, units, block, kernel_size, dilation, causal, scale, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.units, self.is_multiplicative = units, block == "multiplicative"
        self.kernel_size, self.dilation, self.causal = kernel_size, dilation, causal
        self.scale = scale

    def build(self, shape):
        features, units = shape[-1], self.units
        size = units * (4 if self.is_multiplicative else 1)
        # Small, as what all blocks add goes into one stream.
        small = keras.initializers.VarianceScaling(self.scale, "fan_avg", "uniform")
        self.narrow, self.convolution, self.wide = (
            (
                self.add_weight(shape, initializer, name=f"{name}_kernel"),
                self.add_weight(shape[-1:], "zeros", name=f"{name}_bias"),
            )
            for name, shape, initializer in (
                ("narrow", (features, units), "glorot_uniform"),
                ("convolution", (self.kernel_size, units, size), "glorot_uniform"),
                ("wide", (units, features), small),
            )
        )
        self.norms = [
            (
                self.add_weight((size,), "ones", name=f"norm_{i}_scale"),
                self.add_weight((size,), "zeros", name=f"norm_{i}_shift"),
            )
            for i, size in enumerate((features, units, units))
        ]
        self.built = True

    def call(self, x, real=None, before=None, count=None):
        h = self._product(self._activated(x, 0), self.narrow)
        h = self._normalized(h, 1) if self.is_multiplicative else self._activated(h, 1)
        if real is not None:
            # What a convolution sees of padding must be zero, as what it sees beyond the ends is:
            # so here, and not in front of the normalization, which would make numbers of it.
            h = ops.where(real[..., None], h, ops.zeros_like(h))
        kernel, bias = self._read(self.convolution, x.dtype)
        seen, behind = ops.cast(h, kernel.dtype), None
        if self.causal:
            if before is None:
                reach = (self.kernel_size - 1) * self.dilation
                before = ops.zeros((ops.shape(x)[0], reach, self.units), kernel.dtype)
            before = ops.cast(before, kernel.dtype)
            z, behind = convolve(seen, before, kernel, self.dilation)
            if count is not None:
                places = ops.cast(count, "int32")[:, None] + ops.arange(before.shape[1])
                behind = backend.taken(ops.concatenate([before, seen], axis=1), places)
        else:
            z = ops.conv(seen, kernel, 1, "same", dilation_rate=self.dilation)
        z = ops.cast(z, x.dtype) + bias
        if self.is_multiplicative:
            *gates, update = ops.split(z, 4, axis=-1)
            first, second, third = map(ops.sigmoid, gates)
            z = first * ops.tanh(second * h + third * ops.tanh(update))
        return x + self._product(self._activated(z, 2), self.wide), behind

    def _read(self, weights, wide):
        kernel, bias = map(backend.value, weights)
        return ops.cast(kernel, self.compute_dtype), ops.cast(bias, wide)

    def _product(self, x, weights):
        return affine_map(x, *self._read(weights, x.dtype))

    def _normalized(self, x, number):
        """Keras's `LayerNormalization` in half its operations: what a place costs."""
        x = x - ops.mean(x, axis=-1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-5)
        scale, shift = (ops.cast(backend.value(w), x.dtype) for w in self.norms[number])
        return x * scale + shift

    def _activated(self, x, number):
        return ops.relu(self._normalized(x, number))


@serializable
class ByteNet(keras.layers.Layer):
    """A decoder over a target, built on top of an encoder over a source.

    The encoder reads the source, and goes on with a learnt vector where the source has ended, until
    it has a representation for each place of a target of `|t^| = ratio |s| + extra` (Kalchbrenner
    et al., 2016, section 3.2, dynamic unfolding). The decoder reads at each place of the target
    this representation and what the target has there; zeros where the target is longer.

    Args:
        units: d of both; the decoder's is twice as large where they are concatenated.
        encoder_blocks, decoder_blocks: how many blocks each has.
        ratio, extra: a and b of dynamic unfolding; a counts in thousandths.
        combination: "add", or "concatenate", by which the decoder's weights are about four times
            as many.
        block, kernel_size, most_dilation: as in `ByteNetStack`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        source: `(batch, source, 2 * units)`.
        target: `(batch, target, 2 * units)`; the output at a place depends on the target up to
            there.
        lengths: `(batch,)` integers, how many vectors of each source are real; all where it is
            None.

    Returns:
        `(batch, target, 2 * units)`, or `(batch, target, 4 * units)` where they are concatenated.

    Raises:
        ValueError: an argument is not what it must be; the message says what that is.

    Masking:
        There is no mask. What stands behind the length of a source has no influence. What stands
        behind the end of a target has none on what stands before it.

    Attributes:
        encoder, decoder: `ByteNetStack` each.

    Example:
        >>> source, target = keras.ops.ones((2, 5, 14)), keras.ops.ones((2, 4, 14))
        >>> net = ByteNet(7, encoder_blocks=2, decoder_blocks=2)
        >>> net(source, target, keras.ops.array([5, 2])).shape
        TensorShape([2, 4, 14])

    Reference:
        Kalchbrenner, Espeholt, Simonyan, van den Oord, Graves and Kavukcuoglu, "Neural Machine
        Translation in Linear Time", 2016, arXiv:1610.10099.
    """

    def __init__(
        self,
        units: int,
        encoder_blocks: int = 30,
        decoder_blocks: int = 30,
        ratio: float = 1.2,
        extra: int = 0,
        combination: str = "add",
        block: str = "relu",
        kernel_size: int = 3,
        most_dilation: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units, self.extra = whole("units", units, 1), whole("extra", extra, 0)
        if not 0 < ratio < 1000:
            raise ValueError(f"ratio must be more than 0, and less than 1000; got {ratio!r}")
        self.ratio, self.combination = float(ratio), combination
        _one_of("combination", combination, COMBINATIONS)
        options = {
            "block": block,
            "kernel_size": kernel_size,
            "most_dilation": most_dilation,
            "dtype": self.dtype_policy,
        }
        self.encoder = ByteNetStack(
            self.units, encoder_blocks, causal=False, name="encoder", **options
        )
        width = self.units * (2 if combination == "concatenate" else 1)
        self.decoder = ByteNetStack(width, decoder_blocks, name="decoder", **options)

    def build(self, source_shape, target_shape, lengths_shape=None):
        for name, shape in (("source", source_shape), ("target", target_shape)):
            if len(shape) != 3 or shape[-1] != 2 * self.units:
                raise ValueError(
                    f"ByteNet of {self.units} units needs a {name} of shape (batch, {name}, "
                    f"{2 * self.units}); got {tuple(shape)}"
                )
        self.beyond = self.add_weight((2 * self.units,), "glorot_uniform", name="beyond")
        for stack in (self.encoder, self.decoder):
            if not stack.built:
                stack.build((None, None, 2 * stack.units))
                stack.built = True

    def call(self, source, target, lengths=None):
        output, _ = self.decode(target, self.encode(source, lengths))
        return ops.cast(output, self.compute_dtype)

    def unfolded(self, length):
        """`|t^|` of the lengths of sources, whole numbers or tensors of them."""
        return (length * round(1000 * self.ratio) + 999) // 1000 + self.extra

    def encode(self, source, lengths=None):
        """Representations of sources, `(batch, places, 2 * units)`, zeros behind `|t^|` of each."""
        batch, given = ops.shape(source)[:2]
        lengths = ops.full((batch,), given) if lengths is None else lengths
        lengths = ops.cast(lengths, "int32")[:, None]
        source, places = at_least_one(source), self.unfolded(given)
        size = _most(ops.shape(source)[1], places)
        source = longer(source, 1, size - ops.shape(source)[1])
        place = ops.arange(size, dtype="int32")
        source = ops.cast(source, sum_dtype(self.compute_dtype))
        beyond = ops.cast(backend.value(self.beyond), source.dtype)
        x = ops.where((place < lengths)[..., None], source, beyond)
        # As long as the source where its target is shorter: the encoder reads all of it.
        unfolded = self.unfolded(lengths)
        real = place < ops.maximum(unfolded, lengths)
        x, _ = self.encoder.read(x, real)
        x = ops.where((place < unfolded)[..., None], x, ops.zeros_like(x))
        return at_least_one(x[:, :places])

    def decode(self, target, encoded, place=0, before=None):
        """What the decoder says at some places of a target.

        Args:
            target: `(batch, time, 2 * units)`, one place or more of it.
            encoded: what `encode` gives.
            place: the first of these places.
            before: the decoder's queues in front of it; zeros where it is None.

        Returns:
            `(batch, time, 2 * units)`, or twice as wide, float32 at least; and the queues behind.
        """
        target, given = at_least_one(target), ops.shape(target)[1]
        there, places = ops.shape(encoded)[1], place + ops.arange(ops.shape(target)[1])
        seen = ops.take(encoded, ops.minimum(places, there - 1), axis=1)
        seen = ops.where((places < there)[:, None], seen, ops.zeros_like(seen))
        target = ops.cast(target, seen.dtype)
        added = self.combination == "add"
        x = target + seen if added else ops.concatenate([target, seen], axis=-1)
        x, behind = self.decoder.read(x, before=before)
        return x[:, :given], behind

    def compute_output_spec(self, source, target, lengths=None):
        if not self.built:
            self.build(source.shape, target.shape)
        return keras.KerasTensor((*target.shape[:2], 2 * self.decoder.units), self.compute_dtype)

    def get_config(self):
        stack = self.decoder.get_config()
        return {
            **super().get_config(),
            "units": self.units,
            "encoder_blocks": len(self.encoder.blocks),
            "decoder_blocks": len(self.decoder.blocks),
            "ratio": self.ratio,
            "extra": self.extra,
            "combination": self.combination,
            **{name: stack[name] for name in ("block", "kernel_size", "most_dilation")},
        }


def _one_of(name, value, known):
    if value not in known:
        raise ValueError(f"{name} must be one of {known}; got {value!r}")


def _most(a, b):
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return ops.maximum(a, b)
