"""What Q-learning aims at, and what it costs to miss it (Watkins, 1989; Mnih et al., 2013)."""

from typing import Any

from keras import ops


def q_target(
    reward: Any, over: Any, next_values: Any, discount: float, chosen_by: Any = None
) -> Any:
    """What an action is worth by its reward and by what came of it (Algorithm 1).

    That is the reward, and unless the game is over the largest value of what can be done next,
    discounted. A game that was cut off is not over. No gradient flows through it.

    Args:
        reward: `(batch,)`.
        over: `(batch,)`, bool or 0 and 1: whether the game ended there.
        next_values: `(batch, actions)`.
        discount: gamma.
        chosen_by: `(batch, actions)`, other values by which the next action is chosen, or None
            (double Q-learning; van Hasselt, Guez and Silver, 2016, arXiv:1509.06461, equation 4).

    Returns:
        `(batch,)`.
    """
    best = ops.argmax(next_values if chosen_by is None else chosen_by, axis=-1)
    to_come = value_of(next_values, best)
    goes_on = 1 - ops.cast(over, to_come.dtype)
    return ops.stop_gradient(reward + discount * goes_on * to_come)


def q_loss(values: Any, action: Any, target: Any, clip_errors: bool = False) -> Any:
    """The squared error of the action's value (equation 2), `(batch,)`.

    Args:
        values: `(batch, actions)`.
        action: `(batch,)` integers, what was done.
        target: `(batch,)`, as `q_target` gives it.
        clip_errors: whether its gradient by the value is no larger than that of an error of 1,
            whatever the error (Mnih et al., 2015, Methods).
    """
    error = value_of(values, action) - target
    squared = ops.square(error)
    if not clip_errors:
        return squared
    size = ops.abs(error)
    return ops.where(size <= 1, squared, 2 * size - 1)


def value_of(values: Any, action: Any) -> Any:
    """The value of an action in each row, `(batch,)`, of `values (batch, actions)`."""
    return ops.take_along_axis(values, ops.cast(action, "int32")[:, None], axis=-1)[:, 0]
