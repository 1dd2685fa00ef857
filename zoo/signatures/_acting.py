"""Frames in, what each action is worth and an action out: what all worlds serve."""

import numpy as np

from ...layers import _chance
from ._checks import check_range
from ._signature import Signature, handed_on

WORTH = {
    "values": "what each action is worth, the rewards to come, (batch, actions)",
    "value": "the largest of them, (batch,)",
}


def signatures(model, task, told):
    """`serve`: frames in, values and the best action out; `act`: an action by chance at times."""
    import tensorflow as tf

    shape, _ = task.input_spec["frames"]
    actions = len(task.actions)

    def serve(frames):
        answer = model({"frames": frames})
        best = tf.argmax(answer["values"], axis=-1, output_type=tf.int32)
        worth = {name: tf.cast(answer[name], tf.float32) for name in WORTH}
        return {"action": best, **worth, **handed_on(answer, told)}

    def act(frames, epsilon, seed):
        check_range("epsilon", epsilon, 0.0, 1.0)
        answer = serve(frames)
        at_random, which = tf.unstack(_chance.uniform(seed, (2,), dtype="float32"), axis=-1)
        other = tf.cast(which * actions, tf.int32)
        # Rounded, the product may be the number of actions.
        other = tf.minimum(other, actions - 1)
        chosen = tf.where(at_random < epsilon, other, answer["action"])
        return {**answer, "best": answer["action"], "action": chosen}

    given = {"frames": ((None, *shape), "uint8")}
    sample = task.inputs_without_data(np.random.default_rng(0), 2)
    named = ", ".join(f"{number} {name}" for number, name in enumerate(task.actions))
    best = f"that of the largest value: {named}, (batch,)"
    worth = {**WORTH, **told}
    chance = {"epsilon": np.array([0, 0.5], "float32"), "seed": np.array([1, 2], "int32")}
    return {
        "serve": Signature(
            serve, given, sample, {"action": best, **worth}, names={"values": task.actions}
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
            names={"values": task.actions},
        ),
    }


def notation(task):
    """None: nobody writes frames."""
    return {}
