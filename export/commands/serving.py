"""Commands that package and serve."""

import os
import sys

from ._command import argument, command, counted

OF_PACKAGES = (
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


@command(
    "export",
    argument("names", metavar="NAME-or-RUN", nargs="+", help="entries and run directories"),
    argument("--output", metavar="DIR", required=True, help="directory of all models"),
    argument(
        "--format",
        choices=("saved_model", "onnx"),
        default="saved_model",
        help="saved_model, a package for TensorFlow Serving, or onnx, DIR/NAME/SIGNATURE.onnx for "
        "each signature that can be converted (%(default)s)",
    ),
    *OF_PACKAGES,
    place=30,
)
def export(arguments):
    """Writes packages for TensorFlow Serving, and what a server needs to serve them.

    Beside DIR/NAME/VERSION/ stand models.config, monitoring.config, ssl.config where TLS is asked
    for, and in run/ recipes for Docker, Docker Compose, Kubernetes and KServe.
    """
    from ...zoo._trained import Trained
    from .._package import package
    from .._repository import secure

    if arguments.format == "onnx":
        return _export_onnx(arguments)
    labels = parse_labels(arguments.label)
    secrets = (arguments.tls_key, arguments.tls_cert)
    if any((*secrets, arguments.tls_ca, arguments.tls_verify)):
        if not all(secrets):
            raise ValueError("TLS wants both --tls_key and --tls_cert")
        secure(arguments.output, *secrets, arguments.tls_ca, arguments.tls_verify)
    for name in counted(arguments.names):
        trained = Trained.find(name)
        model = trained.load()
        path = package(
            model,
            trained.entry.signatures(model, trained.task),
            trained.name,
            arguments.output,
            version=arguments.version,
            card=trained.entry.card or None,
            figures=trained.entry.figures,
            entry=trained.entry.origin(trained.task),
            versions=arguments.versions,
            labels=labels,
            xla=arguments.xla,
        )
        print(path)


def _export_onnx(arguments):
    """The exit code: 1 where nothing of an entry could be written."""
    from ...zoo._trained import Trained
    from .._onnx import write_onnx

    for (option,), _ in OF_PACKAGES:
        given = getattr(arguments, option.strip("-"))
        if given not in (None, []) and given is not False:  # 0 is a version
            raise ValueError(f"{option} is for packages, which --format=onnx writes none of")
    code = 0
    for name in counted(arguments.names):
        trained = Trained.find(name)
        signatures = trained.entry.signatures(trained.load(), trained.task)
        written, refused = write_onnx(signatures, os.path.join(arguments.output, trained.name))
        print(*written.values(), sep="\n", end="\n" * bool(written))
        for signature, reason in refused.items():
            print(f"{trained.name}: {signature} is not written: {reason}", file=sys.stderr)
        code = code if written else 1
    return code


def parse_labels(pairs):
    """Label -> version number, of texts LABEL=VERSION."""
    labels = {}
    for pair in pairs:
        label, equals, number = pair.partition("=")
        if not equals or not number.isdecimal():
            raise ValueError(f"--label wants LABEL=VERSION, such as stable=1, got {pair!r}")
        labels[label] = int(number)
    return labels


@command(
    "verify",
    argument("directory", metavar="DIR", help="packages of models, of one, or one version"),
    place=31,
)
def verify(arguments):
    """Checks packages as export does before it writes one, and as often as you like.

    The graph is read for what the stock server cannot run; then the server's C++ session, with XLA
    off unless the package requires it, answers every warm-up request, one by one and eight at a
    time. The files beside the models are read, too.
    """
    from .. import _gate
    from .._repository import failures, packages
    from .._session import THREADS
    from .._version import GateError

    refused = 0
    for directory in counted(packages(arguments.directory)):
        try:
            report = _gate.verify(directory)
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


@command(
    "serve",
    argument("directory", metavar="DIR", help="what `ponderzoo export` wrote"),
    argument("--port", type=int, default=8500, help="gRPC port (%(default)s)"),
    argument("--rest_port", type=int, default=8501, help="REST port, -1 for none (%(default)s)"),
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
        "--allowed_hosts",
        metavar="HOST,...",
        type=lambda text: [name for name in text.lower().split(",") if name],
        default=[],
        help="names by which REST may be called, and hosts whose pages may call it; * for all "
        "(--host, localhost and addresses)",
    ),
    argument(
        "--rest_api_enable_cors_support",
        "--enable_cors_support",
        dest="cors",
        action="store_true",
        help="let web pages of all hosts call REST",
    ),
    argument(
        "--allow_version_labels_for_unavailable_models",
        dest="labels_early",
        action="store_true",
        help="let a new label mean a version that is not loaded yet",
    ),
    argument("--follow_config", action="store_true", help="serve what models.config says later"),
    argument("--grace", type=float, default=30.0, help="seconds to drain (%(default)s)"),
    argument(
        "--engine",
        choices=("embedded", "tfserving"),
        default="embedded",
        help="tfserving starts tensorflow_model_server, where it is on the PATH",
    ),
    place=40,
    needs="",
)
def serve(arguments):
    """Serves a directory of packages by gRPC and REST until SIGTERM.

    A page to try the models in stands at the REST port.
    """
    from .._config import MONITORING, TLS
    from ..server import _server

    def beside(name):
        path = os.path.join(arguments.directory, name)
        return path if os.path.isfile(path) else None

    common = {
        "port": arguments.port,
        "rest_port": None if arguments.rest_port < 0 else arguments.rest_port,
        "batching": arguments.batching_parameters_file or arguments.enable_batching,
        "ssl": arguments.ssl_config_file or beside(TLS),
        "monitoring": arguments.monitoring_config_file or beside(MONITORING),
        "cors": arguments.cors,
    }
    if arguments.engine == "tfserving":
        command = _server.stock_command(arguments.directory, **common)
        sys.stdout.flush()
        os.execv(command[0], command)
    return _server.serve(
        arguments.directory,
        grace=arguments.grace,
        host=arguments.host,
        follow_config=arguments.follow_config,
        allowed_hosts=arguments.allowed_hosts,
        labels_early=arguments.labels_early,
        **common,
    )
