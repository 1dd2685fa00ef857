"""The memory of the Kanerva Machine: a matrix of chance that Bayes' rule writes into."""

from typing import Any

import keras
from keras import ops

from . import _backend as backend
from . import _chance
from ._base import serializable, sum_dtype, whole

# Of the mean variance, which is added to all before a root is taken of a covariance.
LEAST_SHARE = {"float64": 1e-14, "float32": 1e-6}


def kanerva_write(
    mean: Any, covariance: Any, weights: Any, codes: Any, noise: float = 1.0
) -> tuple[Any, Any]:
    """A memory after all codes of an episode, written at once (Wu et al., 2018, section 3).

    A memory is a matrix M of chance: its columns are independent Gaussians with the means
    `mean[:, c]` and one covariance. A code is seen of it through weights, `z = w M + noise * e`
    with a standard normal e, and what it leaves is the exact posterior.

    Args:
        mean: R, `(batch, slots, code_size)`.
        covariance: U, `(batch, slots, slots)`.
        weights: `(batch, time, slots)`, a row for each code; zeros write nothing.
        codes: `(batch, time, code_size)`.
        noise: standard deviation of a code around what is read. In float32 its square must be more
            than a millionth of the variance `w U w^T` of what is read, or rounding loses it.

    Returns:
        `(mean, covariance)` of the memory, whatever the order of the codes.
    """
    places = ops.arange(ops.shape(weights)[1])
    diagonal = ops.cast(places[:, None] == places, weights.dtype)
    cross = weights @ covariance
    root = ops.cholesky(cross @ _turned(weights) + noise**2 * diagonal)
    both = ops.concatenate([cross, codes - weights @ mean], axis=-1)
    both = ops.solve_triangular(root, both, lower=True)
    cross, error = both[..., : weights.shape[-1]], both[..., weights.shape[-1] :]
    return mean + _turned(cross) @ error, _symmetric(covariance - _turned(cross) @ cross)


def kanerva_write_one(
    mean: Any, covariance: Any, weights: Any, code: Any, noise: float = 1.0
) -> tuple[Any, Any]:
    """`kanerva_write` of a single code, without a matrix to solve for, as often as one likes.

    The covariance is a sum of two squares (Joseph's form), which rounding leaves positive.

    Args:
        mean, covariance, noise: as of `kanerva_write`.
        weights: `(batch, slots)`.
        code: `(batch, code_size)`.

    Returns:
        `(mean, covariance)` of the memory.
    """
    weights = weights[..., None]
    cross = covariance @ weights
    gain = cross / (_turned(weights) @ cross + noise**2)
    mean = mean + gain @ (code[:, None] - _turned(weights) @ mean)
    covariance = covariance - gain @ _turned(cross)
    rest = noise**2 * gain - covariance @ weights
    return mean, _symmetric(covariance + rest @ _turned(gain))


def kanerva_root(covariance: Any) -> Any:
    """The lower root `(..., slots, slots)` of a covariance that rounding may have made singular."""
    mean = ops.mean(ops.diagonal(covariance, axis1=-2, axis2=-1), axis=-1)[..., None, None]
    dtype = keras.backend.standardize_dtype(covariance.dtype)
    least = LEAST_SHARE[dtype] * mean
    return ops.cholesky(covariance + least * ops.eye(covariance.shape[-1], dtype=dtype))


def _turned(x):
    return ops.swapaxes(x, -2, -1)


def _symmetric(x):
    return (x + _turned(x)) / 2


@serializable
class KanervaMemory(keras.layers.Layer):
    """A memory that is written by Bayes' rule and read through learnt addresses (Wu et al., 2018).

    The memory of an episode is a Gaussian over matrices of slots and codes (see `kanerva_write`):
    what a call hands out, another takes. The empty memory is learnt. An address y, in the model a
    standard normal vector, says how much of each slot is read, `w = b(y) A` with a network b of two
    layers and a matrix A whose columns have the length 1.

    Args:
        slots: K, rows of the memory.
        code_size: C, numbers of a code.
        noise: standard deviation of a code around what is read, when it is written.
        kl_share: of the KL that tells the memory from the empty one, an item that is written; so
            much of it is a loss of the layer. With 0, as in the paper, nothing keeps a memory from
            knowing its items by heart.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        codes: `(batch, time, code_size)`, what is written, or None to read alone.
        addresses: `(batch, time, address_size)`, where it is written; None without codes.
        queries: `(batch, reads, address_size)`, where is read.
        seed: `(batch,)` integers, the chance of the memory that is read, or None to read its mean.
        memory: `(mean, covariance)` to write to, `(batch, slots, code_size)` and `(batch, slots,
            slots)`, or None for the empty one.
        written: `(batch, time)`, 1 or True for codes that are written; None for all.

    Returns:
        Dict of tensors, float64 for float64 and float32 for all other dtypes:
        `mean` and `covariance`, the memory after all codes;
        `kl`, `(batch,)`, the nats that tell it from the empty one;
        `read`, `(batch, reads, code_size)`, of one sample of the memory for all queries;
        `weights`, `(batch, reads, slots)`, of the slots.

    Raises:
        ValueError: a size is no whole number from 1 on, or `noise` is not above 0, or `kl_share`
            is below 0.

    Example:
        >>> memory, ones = KanervaMemory(slots=5, code_size=3), keras.ops.ones
        >>> found = memory(ones((2, 4, 3)), ones((2, 4, 6)), ones((2, 7, 6)), keras.ops.arange(2))
        >>> found["read"].shape
        TensorShape([2, 7, 3])

    Reference:
        Wu, Wayne, Graves and Lillicrap, "The Kanerva Machine: A Generative Distributed Memory",
        2018, arXiv:1804.01756.
    """

    def __init__(
        self, slots: int, code_size: int, noise: float = 1.0, kl_share: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.slots = whole("slots", slots, 1)
        self.code_size = whole("code_size", code_size, 1)
        if not noise > 0:
            raise ValueError(f"noise must be above 0; got {noise!r}")
        if not kl_share >= 0:
            raise ValueError(f"kl_share must be 0 or more; got {kl_share!r}")
        self.noise, self.kl_share = float(noise), float(kl_share)

    def build(self, codes_shape, addresses_shape, queries_shape, *_):
        size, dtype = queries_shape[-1], self.dtype_policy
        self.hidden = keras.layers.Dense(size, "tanh", name="hidden", dtype=dtype)
        self.address = keras.layers.Dense(size, name="address", dtype=dtype)
        self.hidden.build((None, size))
        self.address.build((None, size))
        self.addresses = self.add_weight(
            shape=(size, self.slots), initializer="random_normal", name="addresses"
        )
        spread = keras.initializers.RandomNormal(stddev=0.1)
        self.first_mean = self.add_weight(
            shape=(self.slots, self.code_size), initializer=spread, name="first_mean"
        )
        self.first_log_variance = self.add_weight(
            shape=(self.slots,), initializer="zeros", name="first_log_variance"
        )

    @property
    def _dtype(self):
        return sum_dtype(self.compute_dtype)

    def _value(self, variable):
        return ops.cast(backend.value(variable), self._dtype)

    def call(self, codes, addresses, queries, seed=None, memory=None, written=None):
        mean, covariance = memory or self.empty(ops.shape(queries)[0])
        if codes is not None:
            weights = self.weigh(addresses)
            if written is not None:
                weights = weights * ops.cast(written, weights.dtype)[..., None]
            codes = ops.cast(codes, self._dtype)
            mean, covariance = kanerva_write(mean, covariance, weights, codes, self.noise)
        root, matrix = kanerva_root(covariance), mean
        if seed is not None:
            chance = _chance.normal(seed, (self.slots, self.code_size), dtype=self._dtype)
            matrix = mean + root @ chance
        weights, kl = self.weigh(queries), self._kl(mean, covariance, root)
        if self.kl_share and codes is not None:
            real = ops.ones(ops.shape(codes)[:2]) if written is None else written
            items = ops.maximum(ops.sum(ops.cast(real, kl.dtype), axis=1), 1)
            self.add_loss(self.kl_share * ops.mean(kl / items))
        return {
            "mean": mean,
            "covariance": covariance,
            "kl": kl,
            "read": weights @ matrix,
            "weights": weights,
        }

    def empty(self, batch: Any) -> tuple[Any, Any]:
        """`(mean, covariance)` of so many memories that nothing was written to."""
        mean = self._value(self.first_mean)
        variance = ops.exp(self._value(self.first_log_variance))
        covariance = variance * ops.eye(self.slots, dtype=self._dtype)
        return tuple(ops.broadcast_to(x[None], (batch, *x.shape)) for x in (mean, covariance))

    def weigh(self, addresses: Any) -> Any:
        """The weights of the slots, `(..., slots)`, at addresses `(..., address_size)`."""
        matrix = self._value(self.addresses)
        matrix = matrix / ops.sqrt(ops.sum(ops.square(matrix), axis=0))
        return ops.cast(self.address(self.hidden(addresses)), self._dtype) @ matrix

    def _kl(self, mean, covariance, root):
        """KL(MN(mean, covariance, I) || the empty memory)."""
        log_variance = self._value(self.first_log_variance)
        moved = mean - self._value(self.first_mean)
        variance = ops.diagonal(covariance, axis1=-2, axis2=-1)
        diagonal = ops.diagonal(root, axis1=-2, axis2=-1)
        kept = ops.exp(-log_variance) * (
            self.code_size * variance + ops.sum(ops.square(moved), axis=-1)
        )
        shrunk = self.code_size * (log_variance - 2 * ops.log(diagonal) - 1)
        return 0.5 * ops.sum(kept + shrunk, axis=-1)

    def compute_output_spec(self, codes, addresses, queries, seed=None, memory=None, written=None):
        if not self.built:
            shapes = (None if x is None else x.shape for x in (codes, addresses, queries))
            self.build(*shapes)
        batch, reads = queries.shape[:2]
        sizes = {
            "mean": (self.slots, self.code_size),
            "covariance": (self.slots, self.slots),
            "kl": (),
            "read": (reads, self.code_size),
            "weights": (reads, self.slots),
        }
        return {
            name: keras.KerasTensor((batch, *size), dtype=self._dtype)
            for name, size in sizes.items()
        }

    def get_config(self):
        return {
            **super().get_config(),
            "slots": self.slots,
            "code_size": self.code_size,
            "noise": self.noise,
            "kl_share": self.kl_share,
        }
