"""Commands that train, measure and publish."""

import glob
import itertools
import os
import re
import shutil
import subprocess
import sys

from ._command import NAME, NAME_OR_RUN, PROGRAM, argument, command, print_values

SETTING = argument(
    "--set",
    metavar="KEY=VALUE",
    nargs="+",
    action="extend",
    default=[],
    help="change a setting of the model, the recipe or the task",
)
GROUP = (
    argument("--coordinator", metavar="HOST:PORT", help="of process 0, of several that train"),
    argument("--num_processes", metavar="N", type=int, help="how many train this run together"),
    argument("--process_id", metavar="I", type=int, help="which of them this is, 0 to N - 1"),
)
LEVELS = 16  # at most are printed


@command(
    "train",
    NAME,
    argument("--run_dir", metavar="DIR", help="where the run goes (runs/NAME)"),
    SETTING,
    argument("--no_saved_model", action="store_true", help="write no saved_model/ at the end"),
    *GROUP,
    place=20,
)
def train(arguments):
    """Trains an entry, or goes on with a run that was killed.

    Several processes, on one machine or many, train it together on JAX, each with its share of
    every batch: give all of them the same words but for --process_id. Process 0 alone reads and
    writes the run directory.
    """
    from ... import trainers, zoo
    from ...zoo._settings import choose, model_defaults

    entry = zoo.info(arguments.name)
    run_dir = arguments.run_dir or os.path.join("runs", entry.name)
    chosen = choose(entry, arguments.set)
    task = trainers.task(entry.task, **chosen["task"])
    group = _group(arguments)
    metrics = trainers.fit(
        lambda: entry.build(task, **chosen["model"]),
        task,
        chosen["recipe"],
        run_dir,
        {"entry": entry.name, "config": chosen["model"], "defaults": model_defaults(entry)},
        find=lambda name: zoo.path(name) if name in zoo.list() else name,
        measures=entry.measures,
        group=group,
    )
    if not group.leads:
        return
    plain = {key: x for key, x in metrics.items() if not isinstance(x, (dict, list))}
    print_values(plain)
    _print_levels(task, metrics.get("difficulty", []))
    if not arguments.no_saved_model:
        _save_model(run_dir)


def _group(arguments):
    """The `ProcessGroup` that is asked for, of this process alone where none is."""
    from ... import trainers

    values = [arguments.coordinator, arguments.num_processes, arguments.process_id]
    if values == [None] * 3:
        return trainers.ProcessGroup()
    if None in values:
        raise ValueError("--coordinator, --num_processes and --process_id go together")
    return trainers.ProcessGroup(*values)


def _print_levels(task, points):
    """Prints the error and what the model tells of itself at some levels of difficulty."""
    if not points:
        return
    told = [name.removesuffix("_std") for name in points[0] if name.endswith("_std")]
    names = [task.measured[0], *told]
    print("", f"  {task.axis:24} {'  '.join(names)}", sep="\n")
    for point in points[:: -(-len(points) // LEVELS)]:
        values = "  ".join(f"{point[name]:<{len(name)}.3g}" for name in names)
        print(f"  {point['difficulty']:<24} {values}".rstrip())


def _save_model(run_dir):
    """Writes `saved_model/` of a run, in a process of its own since only TensorFlow exports."""
    final, draft = os.path.join(run_dir, "saved_model"), os.path.join(run_dir, "backup", "export")
    if os.path.exists(final):
        return
    shutil.rmtree(draft, ignore_errors=True)
    words = [*PROGRAM, "export", run_dir, "--output", draft, "--version", "1"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        error = next((line for line in lines if line.startswith("error: ")), lines[-1])
        raise RuntimeError(f"no saved_model: {error.removeprefix('error: ')}")
    os.replace(done.stdout.splitlines()[-1], final)
    shutil.rmtree(draft)


@command(
    "sweep",
    NAME,
    argument("--run_dir", metavar="DIR", help="where the runs go (runs/NAME-sweep)"),
    argument(
        "--grid",
        metavar="KEY=VALUE,VALUE",
        nargs="+",
        action="extend",
        required=True,
        help="a setting and the values it takes",
    ),
    SETTING,
    argument("--jobs", type=int, default=2, help="processes at a time (%(default)s)"),
    argument(
        "--shard",
        metavar="I/N",
        default="0/1",
        help="trains every N-th point from the I-th on, I from 0 to N - 1; other machines train "
        "the others, in the same folder (%(default)s)",
    ),
    argument(
        "--ray",
        metavar="ADDRESS",
        help="trains on the machines of a Ray cluster, which share the folder; auto for the "
        "cluster that this machine is in",
    ),
    place=21,
    needs="keras",
)
def sweep(arguments):
    """Trains an entry at every point of a grid, each in a process with one thread.

    It trains on JAX where that is installed, unless KERAS_BACKEND says tensorflow; `train` does so
    where KERAS_BACKEND says jax. The same call again goes on with what is not finished.
    """
    from ... import trainers, zoo
    from ...trainers import _sweep
    from ...zoo._settings import choose

    entry = zoo.info(arguments.name)
    grid, given = {}, {pair.partition("=")[0] for pair in arguments.set}
    for key, _, values in (pair.partition("=") for pair in arguments.grid):
        if key in grid or key in given:
            raise ValueError(f"{key} has values by --grid, and others by --grid or --set")
        grid[key] = values.split(",")
    for values in itertools.product(*grid.values()):
        point = (f"{key}={value}" for key, value in zip(grid, values))
        chosen = choose(entry, [*arguments.set, *point])
        task = trainers.task(entry.task, **chosen["task"])
        trainers.Recipe.parse(chosen["recipe"]).check(task)
    run_dir = arguments.run_dir or os.path.join("runs", f"{entry.name}-sweep")
    shard = re.fullmatch(r"(\d{1,6})/(\d{1,6})", arguments.shard)
    if not shard:
        raise ValueError(f"--shard must be I/N, such as 0/4, got {arguments.shard!r}")
    words = [*PROGRAM, "train", entry.name, "--no_saved_model"]
    words += ["--set", *arguments.set] if arguments.set else []
    run_dir = os.path.abspath(run_dir) if arguments.ray else run_dir
    shard = tuple(map(int, shard.groups()))
    table = _sweep.sweep(words, grid, run_dir, arguments.jobs, shard, arguments.ray)
    return int(any("failed" in row for row in table))


@command(
    "evaluate",
    NAME_OR_RUN,
    argument("--rows", type=int, default=10_000, help="rows of the test split (%(default)s)"),
    place=22,
)
def evaluate(arguments):
    """Measures the task's metrics on rows of the test split."""
    from ...zoo._trained import Trained

    trained = Trained.find(arguments.name)
    measures = trained.entry.measures
    print_values(trained.task.measure(trained.load(), "test", arguments.rows, measures))


@command(
    "figures",
    NAME_OR_RUN,
    argument("--output", metavar="DIR", help="where the files go"),
    place=23,
)
def figures(arguments):
    """Draws the task's figures as PNG files."""
    from ...trainers._evaluate import figures_of
    from ...trainers._files import write_file
    from ...trainers.figures._panels import small_png
    from ...zoo._trained import Trained

    trained = Trained.find(arguments.name)
    directory = arguments.output or os.path.join("figures", trained.name)
    drawn = figures_of(trained.load(), trained.task, trained.entry.measures)
    for name, figure in drawn.items():
        path = os.path.join(directory, f"{name}.png")
        write_file(path, small_png(figure))
        print(path)


@command(
    "publish",
    argument("name", metavar="RUN", nargs="?", help="a finished run directory"),
    argument("--baseline", metavar="RUN", help="a finished run without the paper's mechanism"),
    argument(
        "--sweep",
        metavar="DIR",
        help="a directory of runs: of time penalties, seeds or settings",
    ),
    argument("--output", metavar="DIR", help="directory of all entries (the zoo's own)"),
    argument("--readme", metavar="FILE", help="markdown to write the table of results into"),
    place=32,
)
def publish(arguments):
    """Turns a finished run into the pretrained files of its entry, or writes the table of results.

    The files are weights, numbers, figures and card. --readme puts the results of all entries
    between the lines <!-- results:begin --> and <!-- results:end --> of a file.
    """
    from ...zoo import _publish
    from ...zoo._card import write_results

    if not (arguments.name or arguments.readme):
        raise ValueError("publish wants a RUN or --readme FILE")
    if arguments.name:
        print(
            _publish.publish(arguments.name, arguments.baseline, arguments.sweep, arguments.output)
        )
    if arguments.readme:
        write_results(arguments.readme)


@command(
    "tensorboard",
    argument("name", metavar="NAME-or-RUN", help="an entry, or a directory of runs"),
    argument("--port", type=int, default=6006, help="port to listen on (%(default)s)"),
    place=50,
    needs="names",
)
def tensorboard(arguments):
    """Opens TensorBoard on the event files of an entry or a run, or of a directory of runs."""
    options = [*logs_of(arguments.name), "--port", str(arguments.port)]
    # TensorBoard loads TensorFlow, whose banner nobody asked for.
    code = f"from {__package__}._command import import_backend; import_backend('all'); "
    code += "from tensorboard.main import run_main; run_main()"
    os.execv(sys.executable, [sys.executable, "-c", code, *options])


def logs_of(name):
    """TensorBoard's options for an entry, a run, or a directory of runs, each by its name.

    Raises `FileNotFoundError` where there are no event files.
    """
    from ...zoo._trained import Trained

    is_run = os.path.exists(os.path.join(name, "config.json"))
    if os.path.isdir(name) and not is_run:
        directory = name
    else:
        trained = Trained.find(name)
        name, directory = trained.name, os.path.join(trained.directory, "logs")
    pattern = os.path.join(glob.escape(directory), "**", "*tfevents*")
    if not any(glob.iglob(pattern, recursive=True)):
        if not is_run and not os.path.isdir(name):
            raise FileNotFoundError(
                f"{name} ships no curves; `ponderzoo train {name} --run_dir runs/{name}` draws "
                f"some, which `ponderzoo tensorboard runs/{name}` shows"
            )
        raise FileNotFoundError(f"there are no event files in {directory} yet")
    # A directory of a run is called `logs`, and so would be the run.
    if name == directory or set(directory) & set(",:"):
        return ["--logdir", directory]
    return ["--logdir_spec", f"{name}:{directory}"]
