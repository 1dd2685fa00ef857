"""Commands that train, measure and publish."""

import os
import shutil
import subprocess
import sys

from ...zoo._settings import _choose
from ...zoo._trained import _Trained
from ._command import PROGRAM, _print


def _train(arguments):
    """Trains an entry, or goes on with a run that was killed."""
    from ... import trainers, zoo

    entry = zoo.info(arguments.name)
    run_dir = arguments.run_dir or os.path.join("runs", entry.name)
    chosen = _choose(entry, arguments.set)
    task = trainers.task(entry.task, **chosen["task"])
    description = {"entry": entry.name, "config": chosen["model"]}
    metrics = trainers.fit(
        lambda: entry.build(task, **chosen["model"]),
        task,
        chosen["recipe"],
        run_dir,
        description,
        find=lambda name: zoo.path(name) if name in zoo.list() else name,
    )
    _print({key: value for key, value in metrics.items() if not isinstance(value, dict)})
    if not arguments.no_saved_model:
        _save_model(run_dir)


def _save_model(run_dir):
    """Writes `saved_model/` of a run, in a process of its own since only TensorFlow exports."""
    final, draft = os.path.join(run_dir, "saved_model"), os.path.join(run_dir, "backup", "export")
    if os.path.exists(final):
        return
    shutil.rmtree(draft, ignore_errors=True)
    command = [*PROGRAM, "export", run_dir, "--output", draft, "--version", "1"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        error = next((line for line in words if line.startswith("error: ")), words[-1])
        raise RuntimeError(f"no saved_model: {error.removeprefix('error: ')}")
    os.replace(done.stdout.splitlines()[-1], final)
    shutil.rmtree(draft)


def _sweep(arguments):
    """Trains an entry at every point of a grid, each in a process with one thread.

    The same call again goes on with what is not finished.
    """
    from ... import zoo
    from ...trainers._sweep import sweep

    entry = zoo.info(arguments.name)
    grid = {}
    for pair in arguments.grid:
        key, _, values = pair.partition("=")
        grid[key] = values.split(",")
        for value in grid[key]:
            _choose(entry, [*arguments.set, f"{key}={value}"])
    run_dir = arguments.run_dir or os.path.join("runs", f"{entry.name}-sweep")
    command = [*PROGRAM, "train", entry.name, "--no_saved_model"]
    command += ["--set", *arguments.set] if arguments.set else []
    table = sweep(command, grid, run_dir, arguments.jobs)
    return int(any("failed" in row for row in table))


def _evaluate(arguments):
    """Measures the task's metrics on rows of the test split."""
    from ...trainers._evaluate import evaluate

    trained = _Trained.find(arguments.name)
    _print(evaluate(trained.load(), trained.task, rows=arguments.rows))


def _figures(arguments):
    """Draws the task's figures as PNG files."""
    from ...trainers._run import draw

    trained = _Trained.find(arguments.name)
    directory = arguments.output or os.path.join("figures", trained.name)
    for name in draw(trained.load(), trained.task, directory):
        print(os.path.join(directory, f"{name}.png"))


def _publish(arguments):
    """Turns a finished run into the pretrained files of its entry, or writes the table of results.

    The files are weights, numbers, figures and card. --readme puts the results of all entries
    between the lines <!-- results:begin --> and <!-- results:end --> of a file.
    """
    from ...zoo._card import write_results
    from ...zoo._publish import publish

    if not (arguments.name or arguments.readme):
        raise ValueError("publish wants a RUN or --readme FILE")
    if arguments.name:
        print(publish(arguments.name, arguments.baseline, arguments.sweep, arguments.output))
    if arguments.readme:
        write_results(arguments.readme)


def _tensorboard(arguments):
    """Opens TensorBoard on the event files of an entry or a run, or of a directory of runs."""
    directory = arguments.name
    if not os.path.isdir(directory):
        directory = os.path.join(_Trained.find(arguments.name).directory, "logs")
    options = ["--logdir", directory, "--port", str(arguments.port)]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *options])
