"""The codes of a data set, and those among them that a new one is near to."""

import math
from typing import Any

import keras
from keras import ops

from . import _backend as backend
from . import _chance
from ._base import serializable, sum_dtype, whole
from ._distributions import LOG_TWO_PI
from ._scan import scan, stacked


@serializable
class CodeStore(keras.layers.Layer):
    """The codes of all items of a data set, of which each is told by one next to it.

    Data that are sent in an order in which every item is like one before it cost less than data in
    any order (Graves, Menick and van den Oord, 2018). The store knows the code that every item had
    when it was last trained on, standard Gaussian numbers at first, and picks one of the
    `neighbours` that are nearest to a code by Euclidean distance, all as probable; never the item
    itself. An item's code is kept after the search (algorithm 1). No gradient flows through either.

    Args:
        count: N, items of the data set.
        neighbours: K, of which one is picked.
        code_dtype: in which codes are kept; the layer's own where it is None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        code: `(batch, size)`; None to pick any item.
        index: `(batch,)` integers, which item of the data set each is, from 0 on; -1 for one that
            is not of it. None where there is no code.
        seed: `(batch,)` integers, the chance of each row.
        sample: `(batch, size)`, samples of codes, or None.
        used: `(count,)` bool, items that are not to be picked, or None. With it no item is picked
            twice, as it is where a whole set is sent in one order ("uniqueness"): the rows pick one
            after the other, and as many items and K more must be left.
        training: whether the codes of items are kept. Of several replicas the first keeps its own.

    Returns:
        A dict: `neighbour`, `(batch, size)`, the codes picked, float64 for float64 and float32 for
        all other dtypes; `number`, `(batch,)` int32, which items they are; with samples
        `log_density`, `(batch,)`, what `log_density` gives for them; and with `used` the same with
        those picked.

    Raises:
        ValueError: there are fewer items than neighbours and one, or the codes have no known size.

    Example:
        >>> store = CodeStore(count=100)
        >>> seed = keras.ops.arange(2)
        >>> found = store(keras.ops.ones((2, 3)), index=seed, seed=seed)
        >>> found["neighbour"].shape, found["number"].shape
        (TensorShape([2, 3]), TensorShape([2]))

    Reference:
        Graves, Menick and van den Oord, "Associative Compression Networks for Representation
        Learning", 2018, arXiv:1804.02476.
    """

    def __init__(
        self, count: int, neighbours: int = 5, code_dtype: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.count, self.neighbours = whole("count", count, 2), whole("neighbours", neighbours, 1)
        if self.neighbours >= self.count:
            raise ValueError(
                f"{count} items have at most {self.count - 1} neighbours; got {neighbours}"
            )
        self.code_dtype = code_dtype and keras.backend.standardize_dtype(code_dtype)

    def build(self, code_shape, *shapes, **more_shapes):
        if len(code_shape) != 2 or code_shape[-1] is None:
            raise ValueError(
                f"CodeStore needs codes (batch, size) of known size; got {tuple(code_shape)}"
            )
        self.codes = self.add_weight(
            (self.count, code_shape[-1]),
            keras.initializers.RandomNormal(stddev=1.0),
            dtype=self.code_dtype,
            trainable=False,
            aggregation="only_first_replica",
            name="codes",
        )

    def call(self, code=None, index=None, seed=None, sample=None, used=None, training=False):
        chance, found = _chance.uniform(_chance.fold(seed, "neighbour"), (), dtype="float32"), {}
        if code is None:
            number = _chance.below(chance, self.count)
        elif used is not None:
            number, found["used"] = self._once(code, index, chance, used)
        else:
            near, _ = self.nearest(code, self.neighbours, index)
            place = _chance.below(chance, self.neighbours)[:, None]
            number = ops.take_along_axis(near, place, axis=1)[:, 0]
        found |= {"neighbour": self.at(number), "number": number}
        if sample is not None:
            found["log_density"] = self.log_density(sample)
        if training and code is not None:
            self._keep(code, index)
        return found

    def _once(self, code, index, chance, used):
        """Which items are picked, and all that are used then."""
        rows, places = ops.shape(code)[0], ops.arange(self.count, dtype="int32")
        # Those before a row take no more of its nearest ones than they are.
        some = self.neighbours + code.shape[0]
        near, _ = self.nearest(code, min(some, self.count), index, used)

        def pick(used, _, row):
            near, chance = row
            is_free = ops.logical_not(ops.take(used, near))
            rank = ops.cumsum(ops.cast(is_free, "int32"))
            wanted = ops.logical_and(is_free, rank == 1 + _chance.below(chance, self.neighbours))
            number = ops.take(near, ops.argmax(wanted))
            return ops.logical_or(used, places == number), number

        used, number = scan(pick, ops.cast(used, "bool"), rows, ahead=(near, chance))
        return stacked(number), used

    def at(self, number):
        """The codes of items by their numbers, `(..., size)`, without a gradient."""
        return ops.take(self._known(), number, axis=0)

    def nearest(self, code, count, index=None, used=None):
        """The items nearest to codes, but for those that they are and those used: nearest first.

        Returns:
            Their numbers, `(batch, count)` int32, and the squares of their distances, likewise.
        """
        known = self._known()
        code = ops.stop_gradient(ops.cast(code, known.dtype))
        near = self._near(code, known)
        if index is not None:
            itself = ops.cast(index, "int32")[:, None] == ops.arange(self.count, dtype="int32")
            near = ops.where(itself, ops.full_like(near, -math.inf), near)
        if used is not None:
            near = ops.where(used[None], ops.full_like(near, -math.inf), near)
        near, found = ops.top_k(near, count)
        far = ops.sum(ops.square(code), axis=1, keepdims=True) - 2 * near
        return ops.cast(found, "int32"), ops.maximum(far, 0)

    def log_density(self, sample):
        """What all items make of a sample of a code when nothing is known of its neighbours.

        That is the logarithm of the mean of unit Gaussians around the codes of all items: of the
        codes' distribution as a whole. Its gradient flows to the sample.

        Args:
            sample: `(batch, size)`.

        Returns:
            Nats, `(batch,)`.
        """
        known = self._known()
        sample = ops.cast(sample, known.dtype)
        together = ops.logsumexp(self._near(sample, known), axis=1)
        alone = ops.sum(ops.square(sample) + LOG_TWO_PI, axis=1) / 2
        return together - alone - math.log(self.count)

    def _known(self):
        known = ops.cast(backend.value(self.codes), sum_dtype(self.compute_dtype))
        return ops.stop_gradient(known)

    def _near(self, code, known):
        """Minus half of the square of each distance, but for what a row's code adds to all."""
        return ops.matmul(code, ops.transpose(known)) - ops.sum(ops.square(known), axis=1) / 2

    def _keep(self, code, index):
        """Overwrites the codes of items; rows that are none go behind the last, and are cut off."""
        known = ops.pad(backend.value(self.codes), [(0, 1), (0, 0)])
        place = ops.where(index < 0, self.count, ops.cast(index, "int32"))
        code = ops.stop_gradient(ops.cast(code, known.dtype))
        self.codes.assign(ops.scatter_update(known, place[:, None], code)[:-1])

    def compute_output_spec(
        self, code=None, index=None, seed=None, sample=None, used=None, training=False
    ):
        if not self.built:
            self.build(code.shape)
        dtype, batch = sum_dtype(self.compute_dtype), seed.shape[:1]
        found = {
            "neighbour": keras.KerasTensor((*batch, self.codes.shape[1]), dtype=dtype),
            "number": keras.KerasTensor(batch, dtype="int32"),
        }
        if sample is not None:
            found["log_density"] = keras.KerasTensor(batch, dtype=dtype)
        if used is not None:
            found["used"] = keras.KerasTensor((self.count,), dtype="bool")
        return found

    def get_config(self):
        return {
            **super().get_config(),
            "count": self.count,
            "neighbours": self.neighbours,
            "code_dtype": self.code_dtype,
        }
