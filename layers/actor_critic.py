"""What an actor is told by a critic (Mnih et al., 2016, "A3C"; Vezhnevets et al., 2016)."""

from typing import Any

from keras import ops


def returns(reward: Any, over: Any, last_value: Any, discount: float) -> Any:
    """What came of each step of a stretch of a game, to its end or to where the stretch ends.

    That is the rewards to come, discounted, and what the critic expects of the time behind the
    stretch, where the game is not over by then. No gradient flows through it.

    Args:
        reward: `(time, batch)`, of a known number of steps.
        over: `(time, batch)`, bool or 0 and 1: whether the game ended with the step.
        last_value: `(batch,)`, of what is seen behind the last step.
        discount: gamma.

    Returns:
        `(time, batch)`.
    """
    goes_on = 1 - ops.cast(over, reward.dtype)
    value, found = ops.cast(last_value, reward.dtype), []
    for step in reversed(range(reward.shape[0])):
        value = reward[step] + discount * goes_on[step] * value
        found.append(value)
    return ops.stop_gradient(ops.stack(found[::-1]))


def actor_critic_loss(
    logits: Any,
    value: Any,
    action: Any,
    target: Any,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
    most_advantage: float | None = None,
    log_chance: Any = 0.0,
) -> Any:
    """What a step costs: `-log p(action) * advantage - entropy + (target - value)^2`, weighted.

    The advantage is by how much the target is above the value, and has no gradient.

    Args:
        logits: `(..., actions)`, of the policy.
        value: `(...)`, what the critic expected.
        action: `(...)` integers, what was done.
        target: `(...)`, as `returns` gives it.
        entropy_weight: of the policy's entropy in nats, which is to be large.
        value_weight: of the squared error of the value.
        most_advantage: where advantages are cut on both sides, for the policy alone; None for
            nowhere. 1 for STRAW.
        log_chance: `(...)`, the log-probability of what else was chosen in the step, which is
            rewarded as the action is.

    Returns:
        `(...)`.
    """
    log_chances = ops.log_softmax(logits)
    chosen = ops.one_hot(action, logits.shape[-1], dtype=logits.dtype)
    error = target - value
    advantage = ops.stop_gradient(error)
    if most_advantage is not None:
        advantage = ops.clip(advantage, -most_advantage, most_advantage)
    entropy = -ops.sum(ops.exp(log_chances) * log_chances, axis=-1)
    told = (ops.sum(chosen * log_chances, axis=-1) + log_chance) * advantage
    return value_weight * ops.square(error) - told - entropy_weight * entropy
