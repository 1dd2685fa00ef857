"""The program `ponderzoo`: one subcommand a function."""

import dataclasses
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys

from absl import app, logging
from absl.flags import argparse_flags

from ._session import quiet

PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]
ERRORS = (ValueError, ArithmeticError, OSError, ImportError, RuntimeError)


def main():
    """Console script. Exit codes: 0 done, 1 `error: ...` in one line, 2 wrong usage."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity(logging.ERROR)
    app.run(_run, flags_parser=lambda argv: _parser().parse_args(argv[1:]))


def _run(arguments):
    try:
        _import(arguments.needs)
        code = arguments.function(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; nor must the interpreter try to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ERRORS as error:
        if os.environ.get("PONDERZOO_TRACEBACK") or isinstance(error, NotImplementedError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def _import(needs):
    """Imports what a command needs without its banner: nothing, "keras" to look, or "all"."""
    if needs == "keras" and importlib.util.find_spec("jax"):
        # Half as long as TensorFlow takes.
        os.environ.setdefault("KERAS_BACKEND", "jax")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND must be tensorflow or jax, got {backend!r}")
    if needs:
        with quiet():
            # To train on JAX, too, Keras loads TensorFlow.
            importlib.import_module("keras" if needs == "keras" else "tensorflow")


def _parser():
    parser = argparse_flags.ArgumentParser(
        prog="ponderzoo",
        description="Trains, measures, exports and serves the models of the zoo.",
        epilog="KERAS_BACKEND=jax or tensorflow (the default) chooses the backend; "
        "PONDERZOO_TRACEBACK=1 shows where an error comes from.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(function, *arguments, needs="all", within=commands):
        text = " ".join(line.strip() for line in function.__doc__.strip().splitlines())
        one = within.add_parser(
            function.__name__.split("_")[-1],
            help=text.partition(". ")[0].rstrip("."),
            description=text,
            inherited_absl_flags=None,
        )
        one.set_defaults(function=function, needs=needs)
        for names, options in arguments:
            one.add_argument(*names, **options)
        return one

    def argument(*names, **options):
        return names, options

    name = argument("name", metavar="NAME", help="an entry, as in `ponderzoo list`")
    name_or_run = argument("name", metavar="NAME-or-RUN", help="an entry or a run directory")
    run_dir = argument("--run_dir", metavar="DIR", help="where the run goes (runs/NAME)")
    output = argument("--output", metavar="DIR", help="where the files go")
    setting = argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change a setting of the model, the recipe or the task",
    )

    command(_list, needs="keras")
    command(_info, name, needs="keras")
    command(
        _train,
        name,
        run_dir,
        setting,
        argument("--no_saved_model", action="store_true", help="write no saved_model/ at the end"),
    )
    command(
        _sweep,
        name,
        argument("--run_dir", metavar="DIR", help="where the runs go (runs/NAME-sweep)"),
        argument(
            "--grid",
            metavar="KEY=VALUE,VALUE",
            nargs="+",
            action="extend",
            required=True,
            help="a setting and the values it takes",
        ),
        setting,
        argument("--jobs", type=int, default=2, help="processes at a time (%(default)s)"),
        needs="keras",
    )
    command(
        _evaluate,
        name_or_run,
        argument("--rows", type=int, default=10_000, help="rows of the test split (%(default)s)"),
    )
    command(_figures, name_or_run, output)
    command(
        _export,
        argument("names", metavar="NAME-or-RUN", nargs="+", help="entries and run directories"),
        argument("--output", metavar="DIR", required=True, help="directory of all models"),
        argument("--version", type=int, help="version number (one more than the highest)"),
        argument(
            "--versions",
            metavar="POLICY",
            help="which to serve: latest:2, all or specific:1,2 (as models.config says; latest:1)",
        ),
        argument(
            "--label",
            metavar="LABEL=VERSION",
            action="append",
            default=[],
            help="a name for a version, such as stable=1; may come several times",
        ),
        argument("--xla", action="store_true", help="compile with XLA, which servers switch off"),
        argument("--tls_key", metavar="FILE", help="PEM of the key by which servers encrypt gRPC"),
        argument("--tls_cert", metavar="FILE", help="PEM of its certificate"),
        argument("--tls_ca", metavar="FILE", help="PEM of who vouches for clients"),
        argument("--tls_verify", action="store_true", help="let in clients with certificates only"),
    )
    command(
        _verify,
        argument("directory", metavar="DIR", help="packages of models, of one, or one version"),
    )
    command(
        _publish,
        argument("name", metavar="RUN", nargs="?", help="a finished run directory"),
        argument("--baseline", metavar="RUN", help="a finished run without the paper's mechanism"),
        argument(
            "--sweep",
            metavar="DIR",
            help="a directory of runs: of time penalties, seeds or settings",
        ),
        argument("--output", metavar="DIR", help="directory of all entries (the zoo's own)"),
        argument("--readme", metavar="FILE", help="markdown to write the table of results into"),
    )
    command(
        _serve,
        argument("directory", metavar="DIR", help="what `ponderzoo export` wrote"),
        argument("--port", type=int, default=8500, help="gRPC port (%(default)s)"),
        argument(
            "--rest_port", type=int, default=8501, help="REST port, -1 for none (%(default)s)"
        ),
        argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)"),
        argument("--enable_batching", action="store_true", help="run requests together"),
        argument(
            "--batching_parameters_file",
            metavar="FILE",
            help="for models that bring no batching_params.pbtxt",
        ),
        argument(
            "--ssl_config_file",
            metavar="FILE",
            help="TLS for gRPC (DIR/ssl.config where there is one)",
        ),
        argument(
            "--monitoring_config_file",
            metavar="FILE",
            help="DIR/monitoring.config where there is one",
        ),
        argument(
            "--follow_config", action="store_true", help="serve what models.config says later"
        ),
        argument("--grace", type=float, default=30.0, help="seconds to drain (%(default)s)"),
        argument(
            "--engine",
            choices=("embedded", "tfserving"),
            default="embedded",
            help="tfserving starts tensorflow_model_server, where it is on the PATH",
        ),
        needs="",
    )
    predict = command(
        _predict,
        argument(
            "name",
            metavar="NAME-or-RUN",
            help="an entry or a run directory; with --inputs, the name of any model that is served",
        ),
        argument(
            "texts",
            metavar="INPUT",
            nargs="*",
            help="a row as people write it, such as '381 4 99' for act_addition, behind -- where "
            "it begins with -; without any, the entry's example is sent",
        ),
        argument("--address", metavar="HOST:PORT", default="localhost:8500", help="%(default)s"),
        argument("--signature", help="name of the signature (the model's default)"),
        argument("--version", type=int, help="version number (the latest)"),
        argument("--label", help="label of a version, in place of its number"),
        argument("--inputs", metavar="JSON", help="a file or text: input name -> list of rows"),
        argument("--json", action="store_true", help="print the outputs as JSON"),
        argument("--certificate", metavar="FILE", help="for TLS: PEM of the authority"),
        needs="",
    )
    predict.parse_known_args = _anywhere(predict)
    command(
        _tensorboard,
        argument("name", metavar="NAME-or-RUN", help="an entry, or a directory of runs"),
        argument("--port", type=int, default=6006, help="port to listen on (%(default)s)"),
        needs="keras",
    )
    data = commands.add_parser("data", help="Data sets: list, fetch", inherited_absl_flags=None)
    data = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command(_data_list, needs="keras", within=data)
    command(
        _data_fetch,
        argument("name", metavar="NAME", help="a data set, as in `ponderzoo data list`"),
        needs="keras",
        within=data,
    )
    return parser


def _anywhere(parser):
    """`parse_known_args` of a parser that finds positional arguments behind options, too."""
    parse_once = parser.parse_known_args

    def parse(args=None, namespace=None):
        parser.parse_known_args = parse_once
        try:
            return parser.parse_known_intermixed_args(args, namespace)
        finally:
            parser.parse_known_args = parse

    return parse


def _list(arguments):
    """Lists all entries: name, size of the weights, paper."""
    from .. import zoo

    for name in zoo.list():
        entry = zoo.info(name)
        size = f"{entry.bytes / 1e3:.0f} kB" if entry.bytes else "untrained"
        print(f"{name:28} {size:>10}  {entry.paper.title} ({entry.paper.year})")


def _info(arguments):
    """Prints everything that is known of an entry: paper, settings, metrics, card."""
    from .. import zoo

    entry = zoo.info(arguments.name)
    paper = entry.paper
    print(f"{entry.name}\n{paper.title}. {paper.authors}, {paper.year}, arXiv:{paper.arxiv}")
    metrics = {k: v for k, v in entry.metrics.items() if not isinstance(v, (dict, list))}
    for title, group in {**_settings(entry), "metrics": metrics}.items():
        print(f"\n{title}")
        _print(group)
    if entry.card:
        print(f"\n{entry.card}")


def _train(arguments):
    """Trains an entry, or goes on with a run that was killed."""
    from .. import trainers, zoo

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
    from .. import zoo
    from ..trainers._sweep import sweep

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
    from ..trainers._evaluate import evaluate

    trained = _Trained.find(arguments.name)
    _print(evaluate(trained.load(), trained.task, rows=arguments.rows))


def _figures(arguments):
    """Draws the task's figures as PNG files."""
    from ..trainers._fit import draw

    trained = _Trained.find(arguments.name)
    directory = arguments.output or os.path.join("figures", trained.name)
    for name in draw(trained.load(), trained.task, directory):
        print(os.path.join(directory, f"{name}.png"))


def _export(arguments):
    """Writes packages for TensorFlow Serving, and what a server needs to serve them.

    Beside DIR/NAME/VERSION/ stand models.config, monitoring.config, ssl.config where TLS is asked
    for, and in run/ recipes for Docker, Docker Compose, Kubernetes and KServe.
    """
    from ._package import package
    from ._repository import secure

    labels = _labels(arguments.label)
    secrets = (arguments.tls_key, arguments.tls_cert)
    if any((*secrets, arguments.tls_ca, arguments.tls_verify)):
        if not all(secrets):
            raise ValueError("TLS wants both --tls_key and --tls_cert")
        secure(arguments.output, *secrets, arguments.tls_ca, arguments.tls_verify)
    for name in arguments.names:
        trained = _Trained.find(name)
        model = trained.load()
        path = package(
            model,
            trained.entry.signatures(model, trained.task),
            trained.name,
            arguments.output,
            version=arguments.version,
            card=trained.entry.card or None,
            versions=arguments.versions,
            labels=labels,
            xla=arguments.xla,
        )
        print(path)


def _labels(pairs):
    labels = {}
    for pair in pairs:
        label, equals, number = pair.partition("=")
        if not equals or not number.isdecimal():
            raise ValueError(f"--label wants LABEL=VERSION, such as stable=1, got {pair!r}")
        labels[label] = int(number)
    return labels


def _verify(arguments):
    """Checks packages as export does before it writes one, and as often as you like.

    The graph is read for what the stock server cannot run; then the server's C++ session, with XLA
    off unless the package requires it, answers every warm-up request, one by one and eight at a
    time. The files beside the models are read, too.
    """
    from ._gate import GateError, verify
    from ._repository import failures, packages
    from ._session import THREADS

    refused = 0
    for directory in packages(arguments.directory):
        try:
            report = verify(directory)
        except GateError as error:
            refused += 1
            print(error)
        else:
            print(
                f"{directory}: passed, {len(report.signatures)} signatures, {report.runs} requests "
                f"and all again {THREADS} at a time, {report.seconds:.0f} s"
                + (", requires XLA" if report.requires_xla else "")
            )
    found = failures(arguments.directory)
    if found:
        refused += 1
        print(GateError(arguments.directory, found))
    return int(refused > 0)


def _publish(arguments):
    """Turns a finished run into the pretrained files of its entry, or writes the table of results.

    The files are weights, numbers, figures and card. --readme puts the results of all entries
    between the lines <!-- results:begin --> and <!-- results:end --> of a file.
    """
    from ..zoo._card import write_results
    from ..zoo._publish import publish

    if not (arguments.name or arguments.readme):
        raise ValueError("publish wants a RUN or --readme FILE")
    if arguments.name:
        print(publish(arguments.name, arguments.baseline, arguments.sweep, arguments.output))
    if arguments.readme:
        write_results(arguments.readme)


def _serve(arguments):
    """Serves a directory of packages by gRPC and REST until SIGTERM.

    A page to try the models in stands at the REST port.
    """
    from ._config import MONITORING, TLS
    from ._server import serve, stock_command

    def beside(name):
        path = os.path.join(arguments.directory, name)
        return path if os.path.isfile(path) else None

    common = {
        "port": arguments.port,
        "rest_port": None if arguments.rest_port < 0 else arguments.rest_port,
        "batching": arguments.batching_parameters_file or arguments.enable_batching,
        "ssl": arguments.ssl_config_file or beside(TLS),
        "monitoring": arguments.monitoring_config_file or beside(MONITORING),
    }
    if arguments.engine == "tfserving":
        command = stock_command(arguments.directory, **common)
        sys.stdout.flush()
        os.execv(command[0], command)
    return serve(
        arguments.directory,
        grace=arguments.grace,
        host=arguments.host,
        follow_config=arguments.follow_config,
        **common,
    )


def _predict(arguments):
    """Asks a server: sums, bits, numbers or text in, readable answers with the ponder out.

    Inputs that are given as JSON are answered with arrays.
    """
    from .client import Client, to_lists

    name, inputs, show = _question(arguments)
    with Client(arguments.address, certificate=arguments.certificate) as client:
        outputs = client.predict(
            name, inputs, arguments.signature, arguments.version, arguments.label
        )
    if arguments.json:
        print(json.dumps({key: to_lists(array, key) for key, array in outputs.items()}))
    else:
        print("\n\n".join(show(inputs, outputs)))


def _question(arguments):
    """The model's name, the inputs, and the function that shows inputs and outputs, a row each."""
    if arguments.inputs and arguments.texts:
        raise ValueError("predict wants INPUT or --inputs, not both")
    if arguments.inputs:
        return arguments.name, _read_json(arguments.inputs), _show_arrays
    _import("keras")
    trained = _Trained.find(arguments.name)
    signature = arguments.signature or "serve"
    notation = trained.entry.notation(trained.task)
    if signature in notation:
        chosen = notation[signature]
        inputs = chosen.read(arguments.texts) if arguments.texts else chosen.sample
        return trained.name, inputs, chosen.show
    if arguments.texts:
        raise ValueError(
            f"{trained.name} takes INPUT for {', '.join(notation) or 'no signature'}; "
            f"write the inputs of {signature!r} as --inputs JSON"
        )
    inputs, meanings = _sample(trained.name, arguments.signature)
    return trained.name, inputs, functools.partial(_show_arrays, meanings=meanings)


def _read_json(text):
    """A dict from JSON text or from a file of it. Raises `ValueError` for anything else."""
    if not text.lstrip().startswith("{"):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    inputs = json.loads(text)
    if not isinstance(inputs, dict):
        raise ValueError(f"the inputs must be a JSON object, got {text[:40]!r}")
    return inputs


def _sample(name, signature):
    """The sample inputs of an entry's signature, and what its outputs mean."""
    _import("all")
    from .. import zoo

    signatures = zoo.info(name).signatures(zoo.build(name), zoo.task_of(zoo.info(name)))
    if signature and signature not in signatures:
        raise ValueError(f"{name} has no signature {signature!r}; it has {list(signatures)}")
    chosen = signatures[signature or next(iter(signatures))]
    return chosen.sample, chosen.outputs


def _show_arrays(inputs, outputs, meanings=()):
    """All arrays of each row, after what the outputs mean."""
    told = [f"{name}: {meanings[name]}" for name in outputs if name in meanings]
    texts = ["\n".join(told)] if told else []
    for number, row in enumerate(zip(*inputs.values(), *outputs.values()), start=1):
        lines = (f"  {name:24} {_short(value)}" for name, value in zip([*inputs, *outputs], row))
        texts.append("\n".join([f"row {number}", *lines]))
    return texts


def _short(value):
    """An array in one line."""
    import numpy as np

    value = np.asarray(value)
    if value.dtype.kind == "O":
        decode = np.vectorize(lambda x: x.decode(errors="replace") if isinstance(x, bytes) else x)
        value = decode(value)[()]
    return np.array2string(value, threshold=24, precision=4, suppress_small=True).replace("\n", "")


def _tensorboard(arguments):
    """Opens TensorBoard on the event files of an entry or a run, or of a directory of runs."""
    directory = arguments.name
    if not os.path.isdir(directory):
        directory = os.path.join(_Trained.find(arguments.name).directory, "logs")
    options = ["--logdir", directory, "--port", str(arguments.port)]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *options])


def _data_list(arguments):
    """Lists all data sets: name, and the file where it is there."""
    from ..trainers import data

    for name in data.list():
        found = data.dataset(name)
        print(f"{name:20} {found.path() if found.available() else 'not fetched'}")


def _data_fetch(arguments):
    """Fetches a data set into the cache."""
    from ..trainers import data

    print(data.fetch(arguments.name))


@dataclasses.dataclass(frozen=True)
class _Trained:
    """The model of a run directory, or the pretrained one of an entry."""

    name: str
    entry: object
    task: object
    directory: str

    @classmethod
    def find(cls, name):
        """Raises `ValueError` where `name` is neither."""
        from .. import trainers, zoo

        is_run = os.path.exists(os.path.join(name, "config.json"))
        if os.path.isdir(name) and not is_run and name not in zoo.list():
            raise ValueError(f"{name} holds no run: it has no config.json")
        directory = os.path.normpath(name) if is_run else zoo.info(name).directory
        path = os.path.join(directory, "config.json")
        if not os.path.exists(path):
            entry = zoo.info(name)
            return cls(name, entry, zoo.task_of(entry), directory)
        with open(path, encoding="utf-8") as file:
            try:
                config = json.load(file)
                task = trainers.task(config["task"], **config["task_config"])
                return cls(config["entry"], zoo.info(config["entry"]), task, directory)
            except (KeyError, TypeError, UnicodeDecodeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise ValueError(f"{path} is no config.json of a run ({what})") from error

    def load(self):
        """The model.

        Raises `FileNotFoundError` where there is none (yet), `ValueError` where it is damaged.
        """
        from ..trainers._archive import read_model

        path = os.path.join(self.directory, "model.keras")
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"{self.directory} has no model.keras; `ponderzoo train {self.name}` makes one"
            )
        return read_model(path)


def _settings(entry):
    """All settings of an entry with their values: `{"model", "recipe", "task"}`."""
    from ..trainers import Recipe
    from ..zoo import task_of

    return {
        "model": dict(entry.config),
        "recipe": dataclasses.asdict(Recipe.parse(entry.train)),
        "task": dataclasses.asdict(task_of(entry)),
    }


def _choose(entry, pairs):
    """The settings of an entry after `--set`, each pair `key=value` or `group.key=value`.

    Raises:
        ValueError: for a key that is unknown, or that stands in two groups, and for a wrong value.
    """
    from ..trainers import parse_as

    groups = _settings(entry)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set wants KEY=VALUE, got {pair!r}")
        full = [f"{g}.{k}" for g, some in groups.items() for k in some if key in (k, f"{g}.{k}")]
        if len(full) > 1:
            raise ValueError(f"{key!r} is ambiguous; write one of {', '.join(full)}")
        if not full:
            known = [
                f"  {group}: " + ", ".join(f"{k}={v}" for k, v in some.items())
                for group, some in groups.items()
            ]
            raise ValueError("\n".join([f"{entry.name} has no setting {key!r}; it has", *known]))
        group, _, key = full[0].partition(".")
        groups[group][key] = parse_as(key, groups[group][key], value)
    return groups


def _print(values):
    for key, value in values.items():
        print(f"  {key:24} {value:.6g}" if isinstance(value, float) else f"  {key:24} {value}")


if __name__ == "__main__":
    main()
