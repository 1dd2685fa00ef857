"""The command that plays a game against a server."""

import json

from ._command import (
    AS_JSON,
    NAME_OR_RUN,
    PICTURES,
    argument,
    command,
    write_pictures,
)


@command(
    "play",
    NAME_OR_RUN,
    argument("--address", metavar="HOST:PORT", default="localhost:8500", help="%(default)s"),
    argument("--version", type=int, help="version number (the latest)"),
    argument("--label", help="label of a version, in place of its number"),
    argument("--seed", type=int, default=1, help="of the game, and of actions (%(default)s)"),
    argument(
        "--epsilon", type=float, default=0.0, help="share of the actions at random (%(default)s)"
    ),
    argument("--output", metavar="DIR", default=PICTURES, help="where the game goes (%(default)s)"),
    argument("--certificate", metavar="FILE", help="for TLS: PEM of the authority"),
    AS_JSON,
    place=42,
    needs="keras",
)
def play(arguments):
    """Plays a game whose every action a server is asked for, and writes it as a GIF.

    The rules are those of the entry's task, in this process; the server sees frames.
    """
    import numpy as np

    from ...trainers.figures.games import coloured
    from ...trainers.tasks._acting import Acting, Games
    from ...zoo._trained import Trained
    from ...zoo.signatures._drawing import image_of
    from ...zoo.signatures._playing import PACE
    from ..client import Client

    trained = Trained.find(arguments.name)
    task, name = trained.task, trained.name
    if not isinstance(task, Acting):
        raise ValueError(f"{name} plays no games: its task {task.name} has no actions")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {arguments.seed}")
    rng = np.random.default_rng(arguments.seed)
    games, frames, actions, worth, reward, ended = Games(task, 1, rng), [], [], [], 0.0, False
    epsilon = np.array([arguments.epsilon], "float32")
    with Client(arguments.address, certificate=arguments.certificate) as client:
        state = _no_state(client.metadata(name, arguments.version, arguments.label))
        while not ended:
            seen = {"frames": games.frames, "epsilon": epsilon, **state}
            seen["seed"] = rng.integers(0, 2**31, 1, "int32")
            asked = arguments.version, arguments.label, ("action", "value", *state)
            answer = client.predict(name, seen, "act", *asked)
            state = {name: answer[name] for name in state}
            frames.append(coloured(games.frames[0, ..., -task.shape[-1] :]))
            actions.append(task.actions[answer["action"][0]])
            worth.append(float(answer["value"][0]))
            earned, over, cut = games.step(answer["action"], rng)
            reward, ended = reward + float(earned[0]), bool(over[0] or cut[0])
    if arguments.json:
        told = {"return": reward, "over": bool(over[0]), "actions": actions, "values": worth}
        print(json.dumps(told))
    else:
        how = "over" if over[0] else "cut off"
        print(f"return    {reward:g}, {how} after {len(actions)} steps")
        write_pictures([image_of(frames[-1], name, frames, pace=PACE)], arguments.output, name)


def _no_state(metadata):
    """What a model keeps from step to step, before the first: zeros for what goes in and out."""
    import numpy as np

    inputs, outputs = metadata["act"]["inputs"], metadata["act"]["outputs"]
    kept = {name: x for name, x in inputs.items() if name in outputs}
    return {name: np.zeros((1, *shape[1:]), dtype) for name, (dtype, shape) in kept.items()}
