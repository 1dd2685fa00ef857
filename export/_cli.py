"""The program `ponderzoo`: one subcommand a function."""

import os
import sys

from absl import app, logging
from absl.flags import argparse_flags

from .commands._command import ERRORS, _import
from .commands.catalogue import _data_fetch, _data_list, _info, _list
from .commands.predict import _anywhere, _predict
from .commands.serving import _export, _serve, _verify
from .commands.training import _evaluate, _figures, _publish, _sweep, _tensorboard, _train


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


if __name__ == "__main__":
    main()
