"""Deep Q-learning on Pong at the paper's network: what a step of the agent costs, by its parts.

One process, one thread, CPU milliseconds of the process; a step is an action of one actor, four
frames of the emulator, and there is an update of 32 remembered steps after every fourth. Nothing is
left out but what a run does between epochs.

    emulator    four frames, the screen's preprocessing and the stack of frames
    acting      values of the frames of all actors at once, and the choice
    replay      a step is kept; 32 are drawn
    update      the gradient of 32 remembered steps and RMSProp

Needs the extra `atari`.
"""

import argparse
import os
import tempfile
import time

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax"])
PARSER.add_argument("--actors", type=int, default=8)
PARSER.add_argument("--updates", type=int, default=300)
PARSER.add_argument("--network", default="2013", choices=["2013", "2015"])
FLAGS = PARSER.parse_args()

os.environ |= {
    "KERAS_BACKEND": FLAGS.backend,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}

import keras  # noqa: E402
from ponderzoo import zoo  # noqa: E402
from ponderzoo.trainers._replay import Replay  # noqa: E402
from ponderzoo.trainers.learning import q_learning  # noqa: E402
from ponderzoo.trainers.tasks._acting import Games  # noqa: E402

WARM = 20  # updates


class Run:
    """The little that learning asks of a run here."""

    def __init__(self, directory):
        self.directory, self.record = directory, {}

    def place(self, *names):
        return os.path.join(self.directory, names[-1])


def main():
    """Prints the table."""
    entry, spent = (
        zoo.info("dqn_pong"),
        dict.fromkeys(("emulator", "acting", "replay", "update"), 0),
    )

    def timed(owner, name, part):
        function = getattr(owner, name)

        def run(*given, **named):
            start = time.process_time()
            found = function(*given, **named)
            spent[part] += time.process_time() - start
            return found

        setattr(owner, name, run)

    keras.utils.set_random_seed(1)
    task = zoo.task_of(entry)
    model = zoo.build("dqn_pong", network=FLAGS.network)
    settings = {**entry.train, "actors": FLAGS.actors, "updates": WARM + FLAGS.updates}
    settings |= {"steps_per_epoch": WARM + FLAGS.updates, "replay_start": 2000}
    recipe = q_learning.Recipe(**{k: v for k, v in settings.items() if k != "learning"})
    learner = q_learning.Learner(model, recipe)
    learner.compile(recipe.make_optimizer(), jit_compile=recipe.jit_compile)
    timed(Games, "step", "emulator")
    timed(q_learning, "outputs_of", "acting")
    timed(q_learning, "epsilon_greedy", "acting")
    for name in ("add", "sample"):
        timed(Replay, name, "replay")
    timed(learner, "train_on_batch", "update")
    with tempfile.TemporaryDirectory() as directory:
        stream = q_learning.Remembered(model, task, recipe, Run(directory))
        stream.begin(None)
        for update in range(WARM + FLAGS.updates):
            if update == WARM:
                spent.update(dict.fromkeys(spent, 0))
                begin, cpu, wall = stream.replay.head, time.process_time(), time.perf_counter()
            learner.train_on_batch(stream[update])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        steps = (stream.replay.head - begin) * FLAGS.actors
    spent["the rest"] = cpu - sum(spent.values())
    print(
        f"## Pong, network of {FLAGS.network}, {FLAGS.actors} actors, {FLAGS.backend}, one thread, "
        f"{steps} steps\n\n| part | CPU ms a step |\n|---|---|"
    )
    for part, seconds in spent.items():
        print(f"| {part} | {1000 * seconds / steps:.2f} |")
    print(f"| all | {1000 * cpu / steps:.2f} |\n\n{steps / wall:.0f} steps of the agent a second")


if __name__ == "__main__":
    main()
