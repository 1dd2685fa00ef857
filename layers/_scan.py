"""The loop over the steps of a sequence."""

from keras import ops

from . import _backend as backend


def scan(step, carry, rows, likes, reverse=False):
    """`ops.scan` that may return something else than it carries.

    Args:
        step: `step(carry, rows of a frame) -> (carry, answers)`.
        carry: tuple of tensors.
        rows: tuple of tensors, time first.
        likes: tuple of tensors like the answers of a frame.
        reverse: whether to begin at the last frame.

    Returns:
        The carry at the end, and the answers of all frames, time first.
    """
    time = ops.shape(rows[0])[0]

    def body(i, carry, buffers):
        t = time - 1 - i if reverse else i
        carry, answers = step(carry, tuple(x[t] for x in rows))
        return i + 1, carry, backend.write_all(buffers, t, answers)

    buffers = tuple(backend.buffer(time, like) for like in likes)
    _, carry, buffers = ops.while_loop(
        lambda i, *_: i < time, body, (0, carry, buffers), maximum_iterations=time
    )
    return carry, tuple(backend.stack(x) for x in buffers)
