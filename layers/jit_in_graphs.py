"""A switch for what is compiled within TensorFlow's graphs."""

from . import _backend as backend


def jit_in_graphs(allowed: bool | None = None) -> bool:
    """Whether losses and LSTM layers compile themselves in a graph that XLA does not compile.

    Keras trains in such graphs on a CPU (`jit_compile="auto"`). There XLA then compiles the loops
    of LSTM layers that are called with `training=True`, the sums of `CTCLoss` and the walk of
    `TransducerLoss` over its lattice, which makes a step several times as fast and costs a second
    or so once for every bucket of lengths (8, 10, 12, 14, 16, 20, 24, ...). It is on, and holds for
    graphs traced from then on. Nothing of it is in what is exported.

    Args:
        allowed: whether they do; None leaves it as it is.

    Returns:
        Whether they did.
    """
    before = backend.allow_jit(allowed)
    if allowed is None:
        backend.allow_jit(before)
    return before
