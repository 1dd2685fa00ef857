"""Random numbers as a function of a seed a row: the same whenever, wherever and beside whom.

bits                        the words that all numbers are made of
uniform, normal, gumbel     numbers `(batch, *shape)`
choose                      a level for each row, by its odds
below                       whole numbers of uniform ones
fold                        seeds for the parts of what has a seed, or for the steps of a loop

A seed is `(batch,)` integers, modulo 2^32, so that negative ones are as good as others, or the
`(batch, 2)` words that `fold` returns; anything else raises `ValueError`. Each row has a stream of
2^32 numbers of its own, and `shape` takes those from `start` on in C order:

- A row depends on its own seed alone, not on the batch or on its place there.
- Who asks for more numbers gets the same ones first. A loop that draws `(size,)` numbers with
  `start=step * size` draws what `(steps, size)` numbers at once would be.
- The same numbers come again at the next call: what needs several kinds of them folds its seed.
- Number i is made of the same 64 bits in all types, which therefore agree as closely as they round.

Words and uniform numbers are so to the bit: on both backends, eager, in graphs, under XLA and in an
export. Normal and Gumbel numbers are so but for rounding, as the same logarithm or cosine rounds
otherwise elsewhere in a vector. No gradient flows into a seed.

`start` is an integer or `(batch,)` of them, and may be traced, as may the entries of `shape`
outside XLA. `dtype` is `keras.config.floatx()` by default. JAX has float64 only where
`jax_enable_x64` is set.

Reference: Salmon, Moraes, Dror and Shaw, 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import math
import zlib

import keras
from keras import ops

from ._base import sum_dtype

# Where uniform numbers end. 2^-14 is the least float16 that is not subnormal.
_BOUNDS = {
    "float64": (2**-65, 1 - 2**-53),
    "float32": (2**-65, 1 - 2**-24),
    "bfloat16": (2**-65, 1 - 2**-8),
    "float16": (2**-14, 1 - 2**-11),
}
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def bits(seed, count, start=0):
    """Two `(batch, count)` words of 32 bits, uint32, for each number: Threefry at (0, index).

    These are the upper and lower words of `jax.random.bits(jax.random.key(seed), count, "uint64")`.
    """
    index = ops.cast(ops.arange(count, dtype="int32"), "uint32")
    index = ops.reshape(_word(start), (-1, 1)) + index
    return _threefry([word[:, None] for word in _key(seed)], (0, index))


def fold(seed, number):
    """Seeds `(batch, 2)`, uint32, which are others for every number: Threefry at (1, number).

    Args:
        seed: `(batch,)` integers, or the seeds of `fold`.
        number: an integer or `(batch,)` of them, which may be traced, or a name.
    """
    if isinstance(number, str):
        number = zlib.crc32(number.encode())
    return ops.stack(_threefry(_key(seed), (1, _word(number))), axis=-1)


def uniform(seed, shape, start=0, dtype=None):
    """Numbers `(batch, *shape)` between 0 and 1, never 0 and never 1, not even in float16."""
    return _draw(_uniform, seed, shape, start, dtype)


def normal(seed, shape, start=0, dtype=None):
    """Numbers `(batch, *shape)` of mean 0 and variance 1, within 9.5 (Box and Muller, 1958)."""
    return _draw(_normal, seed, shape, start, dtype)


def gumbel(seed, shape, start=0, dtype=None):
    """Numbers `(batch, *shape)` distributed as `-log(-log(u))`, `u` uniform in (0, 1)."""
    return _draw(_gumbel, seed, shape, start, dtype)


def choose(logits, temperature, uniform):
    """A level for each row, `(batch,)` int32: the first whose cumulative probability is enough.

    Args:
        logits: `(batch, levels)`.
        temperature: `(batch,)`, which they are divided by; 0 takes the most probable level, the
            first of equals.
        uniform: `(batch,)`, between 0 and 1.
    """
    cold = temperature == 0
    # What is divided is 0 at the largest, so that a small temperature makes no infinity of it.
    below_best = logits - ops.max(logits, axis=-1, keepdims=True)
    scaled = below_best / ops.where(cold, ops.ones_like(temperature), temperature)[:, None]
    total = ops.cumsum(ops.softmax(scaled), axis=-1)
    passed = total < uniform[:, None] * total[:, -1:]
    warm = ops.minimum(ops.sum(ops.cast(passed, "int32"), axis=-1), logits.shape[-1] - 1)
    return ops.where(cold, ops.cast(ops.argmax(logits, axis=-1), "int32"), warm)


def below(uniform, count, dtype="int32"):
    """Whole numbers from 0 on, below `count`, alike in chance, of numbers between 0 and 1."""
    # Rounded, the product may be as much as `count`.
    return ops.minimum(ops.cast(uniform * count, dtype), count - 1)


def _draw(make, seed, shape, start, dtype):
    dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    words = bits(seed, math.prod(shape), start)
    return ops.reshape(make(*words, dtype), (ops.shape(words[0])[0], *shape))


def _uniform(high, low, dtype):
    """The 64 bits and a half as a fraction of 2^64, rounded, but not to 0 or 1."""
    wide = sum_dtype(dtype)
    part = (ops.cast(low, wide) + 0.5) * 2**-32
    fraction = ops.cast((ops.cast(high, wide) + part) * 2**-32, dtype)
    # Not `dtype`, since JAX makes float32 of float64 by default.
    return ops.clip(fraction, *_BOUNDS[keras.backend.standardize_dtype(fraction.dtype)])


def _normal(high, low, dtype):
    wide = sum_dtype(dtype)
    # The low word does no more than round the radius, which leaves it free to be the angle. Half of
    # the circle has all cosines.
    radius = ops.sqrt(-2 * ops.log(_uniform(high, low, wide)))
    return ops.cast(radius * ops.cos(math.pi * 2**-32 * (ops.cast(low, wide) + 0.5)), dtype)


def _gumbel(high, low, dtype):
    # As 1 - u is uniform too, large numbers come of small u, which floats have more of.
    return ops.cast(-ops.log(-ops.log1p(-_uniform(high, low, sum_dtype(dtype)))), dtype)


def _word(number):
    return ops.cast(number % 2**32 if isinstance(number, int) else number, "uint32")


def _key(seed):
    """The two words of each row's key."""
    seed = ops.convert_to_tensor(seed)
    whole = "int" in keras.backend.standardize_dtype(seed.dtype)
    if not whole or (len(seed.shape) != 1 and tuple(seed.shape[1:]) != (2,)):
        raise ValueError(f"a seed must be (batch,) integers; got {seed.dtype} {seed.shape}")
    seed = ops.cast(seed, "uint32")
    return (ops.zeros_like(seed), seed) if len(seed.shape) == 1 else (seed[:, 0], seed[:, 1])


def _threefry(key, counter):
    """Threefry-2x32 with 20 rounds: two words of each counter under each key (section 3.2)."""
    parity = ops.convert_to_tensor(0x1BD11BDA, "uint32")
    keys = (*key, ops.bitwise_xor(ops.bitwise_xor(*key), parity))
    a, b = counter[0] + keys[0], counter[1] + keys[1]
    for turn in range(1, 6):
        for distance in _ROTATIONS[(turn + 1) % 2]:
            a = a + b
            b = ops.bitwise_xor(_rotate(b, distance), a)
        a, b = a + keys[turn % 3], b + (keys[(turn + 1) % 3] + turn)
    return a, b


def _rotate(word, distance):
    up, down = ops.bitwise_left_shift(word, distance), ops.bitwise_right_shift(word, 32 - distance)
    return ops.bitwise_or(up, down)
