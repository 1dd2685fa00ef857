"""Frames in, what each action is worth and an action out: what all worlds serve."""

import numpy as np

from ...layers import _chance
from ...trainers._evaluate import no_state
from ._checks import check_range
from ._playing import notation, played
from ._signature import Signature

__all__ = ["notation", "signatures"]

SCORE = {
    "values": "what each action is worth, the rewards to come, (batch, actions)",
    "policy": "logits of the actions, (batch, actions)",
}
VALUE = {
    "values": "the largest of them, (batch,)",
    "policy": "the rewards that are expected to come, (batch,)",
}
STATE = "state to send with the next frame; zeros to begin"


def signatures(model, task, told):
    """`serve`: frames in, values and the best action out; `act`: an action by chance at times.

    And `play`, whole games, where the world can be played in a graph.
    """
    import tensorflow as tf

    shape, _ = task.input_spec["frames"]
    actions, kept = len(task.actions), no_state(model, 2)
    score = "values" if "values" in model.output else "policy"
    worth = {score: SCORE[score], "value": VALUE[score], **told}
    worth |= {name: f"{STATE}, of the model's `{name}`" for name in kept}

    def serve(frames, **given):
        if "seed" in model.input and "seed" not in given:
            given["seed"] = tf.zeros_like(frames[:, 0, 0, 0], tf.int32)
        answer = model({"frames": frames, **{k: x for k, x in given.items() if k in model.input}})
        best = tf.argmax(answer[score], axis=-1, output_type=tf.int32)
        told = {name: tf.cast(answer[name], tf.float32) for name in worth}
        return {"action": best, **told}

    def act(frames, epsilon, seed, **state):
        check_range("epsilon", epsilon, 0.0, 1.0)
        answer = serve(frames, seed=seed, **state)
        at_random, which = tf.unstack(_chance.uniform(seed, (2,), dtype="float32"), axis=-1)
        other = _chance.below(which, actions)
        chosen = tf.where(at_random < epsilon, other, answer["action"])
        return {**answer, "best": answer["action"], "action": chosen}

    given = {"frames": ((None, *shape), "uint8")}
    given |= {name: ((None, *x.shape[1:]), "float32") for name, x in kept.items()}
    sample = {**task.inputs_without_data(np.random.default_rng(0), 2), **kept}
    named = ", ".join(f"{number} {name}" for number, name in enumerate(task.actions))
    best = f"that of the largest of {score}: {named}, (batch,)"
    chance = {"epsilon": np.array([0, 0.5], "float32"), "seed": np.array([1, 2], "int32")}
    served = {
        "serve": Signature(
            serve, given, sample, {"action": best, **worth}, names={score: task.actions}
        ),
        "act": Signature(
            act,
            {**given, "epsilon": ((None,), "float32"), "seed": ((None,), "int32")},
            {**sample, **chance},
            {
                "action": "the action to take: the best one, or with the chance epsilon any, "
                "(batch,)",
                "best": best,
                **worth,
            },
            names={score: task.actions},
        ),
    }
    if task.in_graphs:
        served["play"] = played(task, act, {name: x.shape[1:] for name, x in kept.items()})
    return served
