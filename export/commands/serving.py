"""Commands that package and serve."""

import os
import sys

from ...zoo._trained import _Trained


def _export(arguments):
    """Writes packages for TensorFlow Serving, and what a server needs to serve them.

    Beside DIR/NAME/VERSION/ stand models.config, monitoring.config, ssl.config where TLS is asked
    for, and in run/ recipes for Docker, Docker Compose, Kubernetes and KServe.
    """
    from .._package import package
    from .._repository import secure

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
    from .._gate import verify
    from .._repository import failures, packages
    from .._session import THREADS
    from .._version import GateError

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


def _serve(arguments):
    """Serves a directory of packages by gRPC and REST until SIGTERM.

    A page to try the models in stands at the REST port.
    """
    from .._config import MONITORING, TLS
    from ..server._server import serve, stock_command

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
