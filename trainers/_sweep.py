"""Many runs of one entry side by side, and the table of what came out."""

import concurrent.futures
import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import threading

from ._files import locked, read_json, write_json
from ._outlived import outlived_by
from ._run import METRICS_REMEDY

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def sweep(command, grid, run_dir, jobs=2, shard=(0, 1), ray=None):
    """Trains every point of a grid in a process of its own, with one thread each.

    Runs that are finished are not run again, and runs that were killed go on where they stood: the
    same call again completes a sweep.

    Args:
        command: argument list of the training program, which understands `--run_dir` and `--set`.
        grid: dict: setting -> list of values.
        run_dir: one run directory for each point goes in here, and `sweep.json`.
        jobs: processes at a time.
        shard: `(number, of)`: of the points, those that are trained here: every `of`-th from
            `number` on. Others share `run_dir`, and whoever ends last completes the table.
        ray: address of a Ray cluster, as `ray.init` takes it, whose machines train, a point for
            every processor, whatever `jobs` says. They share `run_dir`, and `command` is theirs,
            too. None to train here.

    Returns:
        The table, as in `sweep.json`: for each point a dict of its settings, `run_dir`, and the
        metrics of the run or `failed`, a message; neither where another has yet to train it.

    Raises:
        ValueError: for a setting without values or with one twice, `jobs` under 1, or a shard that
            is none.
        ImportError: Ray is asked for, and not installed.
        ConnectionError: there is no such cluster.
        RuntimeError: Ray cannot go on with a point.
    """
    number, of = shard
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, got {jobs}")
    if not 0 <= number < of:
        raise ValueError(f"a shard I/N must have an I from 0 to N - 1, got {number}/{of}")
    for name, values in grid.items():
        if not values:
            raise ValueError(f"the grid has no values for {name!r}")
        if len(set(values)) < len(values):
            told = ", ".join(map(str, values))
            raise ValueError(f"the grid has a value of {name!r} twice: {told}")
    points = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    table = [{**point, "run_dir": os.path.join(run_dir, _name(point))} for point in points]
    others = [row for place, row in enumerate(table) if place % of != number]
    pool = concurrent.futures.ThreadPoolExecutor(len(points) if ray else jobs)
    with _on_ray(ray) if ray else _here() as (launch, stop), pool:
        waiting = {
            pool.submit(_run, launch, command, points[place], table[place]["run_dir"]): table[place]
            for place in range(number, len(points), of)
        }
        try:
            for count, done in enumerate(concurrent.futures.as_completed(waiting), start=1):
                row = waiting[done]
                row.update(done.result())
                told = f" ({count} of {len(waiting)})" if sys.stdout.isatty() else ""
                print(f"{row['run_dir']}: {row.get('failed', 'done')}{told}", flush=True)
                with locked(os.path.join(run_dir, "sweep.lock")):
                    _learn(run_dir, others)
                    write_json(os.path.join(run_dir, "sweep.json"), table)
        except BaseException:
            # As on Ctrl-C: nothing more begins, and what goes on loses nothing by its end.
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
    return table


def _learn(run_dir, rows):
    """Fills in what others have told of their points."""
    path = os.path.join(run_dir, "sweep.json")
    told = {row["run_dir"]: row for row in read_json(path)} if rows and os.path.exists(path) else {}
    for row in rows:
        row.update(told.get(row["run_dir"], {}))


def _name(point):
    return ",".join(f"{key}={value}" for key, value in point.items()).replace(os.sep, "_")


def _run(launch, command, point, run_dir):
    os.makedirs(run_dir, exist_ok=True)
    settings = [f"{key}={value}" for key, value in point.items()]
    settings = ["--set", *settings] if settings else []
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), ONE_THREAD["XLA_FLAGS"]]).strip()
    log = os.path.join(run_dir, "log.txt")
    words = [*command, "--run_dir", run_dir, *settings]
    if code := launch(words, {**ONE_THREAD, "XLA_FLAGS": flags}, log):
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        return {"failed": lines[-1] if lines else f"exit code {code}"}
    return read_json(os.path.join(run_dir, "metrics.json"), METRICS_REMEDY)


@contextlib.contextmanager
def _here():
    """Gives what runs a program, its output in a file, to its exit code; and what ends all of them.

    No program outlives this process.
    """
    running, lock = set(), threading.Lock()

    def note(change, process):
        with lock:
            change(process)
            tell(" ".join(str(process.pid) for process in running))

    def launch(words, environment, log):
        environment = {**os.environ, **environment}
        with open(log, "ab") as file:
            process = subprocess.Popen(words, env=environment, stdout=file, stderr=file)
        note(running.add, process)
        process.wait()
        note(running.discard, process)
        return process.returncode

    def stop():
        for process in list(running):
            process.terminate()

    with outlived_by("kill $line") as tell:
        yield launch, stop


@contextlib.contextmanager
def _on_ray(address):
    """As `_here`, each program a task of a Ray cluster."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"a cluster needs Ray ({error}): pip install 'ponderzoo[ray]'") from error
    if place := re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+)\]?:(\d+)", address):
        # Ray itself would try for minutes.
        try:
            socket.create_connection(place.groups(), 5).close()
        except OSError as error:
            raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    ours = {name: os.environ[name] for name in ("KERAS_BACKEND",) if name in os.environ}

    @ray.remote(num_cpus=1)
    def there(words, environment, log):  # goes as code, as a worker need not import all of this
        import os
        import subprocess

        with open(log, "ab") as file:
            environment = {**os.environ, **environment}
            return subprocess.call(words, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def launch(words, environment, log):
        try:
            return ray.get(there.remote(words, {**ours, **environment}, log))
        except ray.exceptions.RayError as error:
            raise RuntimeError(f"Ray cannot run {log}: {str(error).splitlines()[0]}") from error

    try:
        yield launch, ray.shutdown
    finally:
        ray.shutdown()
