"""Many runs of one entry side by side, and the table of what came out."""

import concurrent.futures
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading

from ._files import locked, read_json, write_json
from ._run import METRICS_REMEDY

_running = set()
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
    launch, stop = _on_ray(ray) if ray else (_here, _terminate)
    pool = concurrent.futures.ThreadPoolExecutor(len(points) if ray else jobs)
    with _sigterm_raises(), pool:
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


@contextlib.contextmanager
def _sigterm_raises():
    """Has SIGTERM raise `SystemExit` in the main thread, as it would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _here(words, environment, log):
    """Runs a program whose output goes to a file, and returns its exit code."""
    with open(log, "ab") as file:
        process = subprocess.Popen(
            words, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT
        )
        _running.add(process)
        process.wait()
        _running.discard(process)
    return process.returncode


def _terminate():
    for process in list(_running):
        process.terminate()


def _on_ray(address):
    """`_here` as a task of a Ray cluster, and what ends those that are not done."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"a cluster needs Ray ({error}): pip install 'ponderzoo[ray]'") from error
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

    return launch, ray.shutdown
