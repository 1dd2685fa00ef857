"""A server that answers as TensorFlow Serving does, from the same C++ session.

A `Session` runs tensors (`_session.py`), `Models` keep the versions that are served
(`_models.py`), a `Frontend` answers the calls (`_services.py`); gRPC and REST (`_rest.py`) are two
ways to it, which `Server` opens and closes.
"""

import concurrent.futures
import contextlib
import functools
import os
import shutil
import signal
import socket
import ssl as tls
import sys
import tempfile
import threading

import grpc
from grpc_health.v1 import health, health_pb2

from .. import _tensors
from .._config import CONFIG, METRICS_PATH, config_path, read_config
from .._recipes import needs_xla, start_flags
from .._schema import BatchingParameters, MonitoringConfig, SSLConfig, read_text
from .._session import disable_xla
from ._metrics import Metrics
from ._models import Models
from ._readers import Readers
from ._rest import Rest
from ._services import Frontend, ModelService, PredictionService, health_handler

BINARY = "tensorflow_model_server"
LIGHT_THREADS = 4
HEALTH = ("", "ModelService", "PredictionService")
"""Names that the stock server's health service knows."""


class Server:
    """Serves a directory of models by gRPC and, where asked, by REST.

    XLA is a switch of the whole process, so a `Server` leaves it alone; `serve`, whose process is
    its own, switches it off as the stock server does.

    Args:
        directory: what `package` wrote (with `models.config`), a `models.config`, a directory of
            `<name>/<version>/` or one model's directory.
        port: of gRPC, 0 for any free one; `port` tells which once the server has started.
        host: the address to listen on; by default this machine alone can reach it.
        threads: how many requests are answered at a time.
        rest_port: of REST, the metrics and the page; 0 for any free one, None for no REST.
        batching: True to batch models that bring a `batching_params.pbtxt`, or the path of a file
            for those that bring none.
        ssl: path of an SSL configuration; gRPC then speaks TLS, REST does not, as in the stock
            server.
        monitoring: path of a monitoring configuration; without one the metrics are on.
        poll_seconds: how often the directories are looked at for versions that come and go.
        follow_config: serve what `models.config` asks for when it changes.
        retries: how often the load of a version that appears later is tried again.
        retry_seconds: the time between.
        rest_timeout: seconds for a request by REST.
        allowed_hosts: names, beside `host`, localhost and any address, by which REST may be called,
            and hosts whose web pages may call it; "*" for all.
        cors: whether web pages of all hosts may call REST.
        labels_early: whether a new label may mean a version that is not available yet.
        log: a function that is told, in a line, what happens to versions after the start, or None.

    Example:

    ```python
    with Server("exports") as server, Client(server.address) as client:
        answer = client.predict("act_parity", {"bits": bits})
    ```
    """

    def __init__(
        self,
        directory,
        port=0,
        host="127.0.0.1",
        threads=16,
        rest_port=None,
        batching=False,
        ssl=None,
        monitoring=None,
        poll_seconds=1.0,
        follow_config=False,
        retries=5,
        retry_seconds=60.0,
        rest_timeout=30.0,
        allowed_hosts=(),
        cors=False,
        labels_early=False,
        log=None,
    ):
        self.directory, self.port, self.host, self.rest_port = directory, port, host, rest_port
        self._threads, self._ssl, self._monitoring = threads, ssl, monitoring
        self._batching, self._rest_timeout = batching, rest_timeout
        self._poll_seconds, self._follow_config = poll_seconds, follow_config
        self._retries, self._retry_seconds = retries, retry_seconds
        self._allowed_hosts, self._cors = allowed_hosts, cors
        self._labels_early, self._log = labels_early, log
        self._models = self._running = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def rest_address(self):
        """`http://host:port`, or None where there is no REST."""
        return None if self.rest_port is None else f"http://{self.host}:{self.rest_port}"

    @property
    def models(self):
        """The `Models` that are served, None before the start and after the stop."""
        return self._models

    def start(self):
        """Loads the models, then listens. Returns the server.

        Raises:
            FileNotFoundError: there is nothing to serve, or a file that was named is not there.
            OSError: a port is taken.
            StatusError: a model did not load.
            ValueError: `models.config` or another file is not what it should be, or a port is none.
        """
        _check_ports(self.host, self.port, self.rest_port)
        credentials = _credentials(self._ssl) if self._ssl else None
        metrics_path = _metrics_path(self._monitoring) if self._monitoring else METRICS_PATH
        batching = None
        if self._batching:
            batching = BatchingParameters()
            if self._batching is not True:
                read_text(self._batching, batching)
        metrics = Metrics()
        # Taken down in reverse where the start fails, and by `stop`.
        with contextlib.ExitStack() as stack:
            models = Models(
                read_config(self.directory),
                batching,
                metrics,
                self._retries,
                self._retry_seconds,
                roots=[os.path.abspath(self.directory)],
                labels_early=self._labels_early,
                log=self._log,
            )
            stack.callback(models.close)
            readers = Readers()
            stack.callback(readers.close)
            pool = concurrent.futures.ThreadPoolExecutor(self._threads)
            # A run cannot be taken back from the session, which must outlive it.
            stack.callback(pool.shutdown)
            light = concurrent.futures.ThreadPoolExecutor(LIGHT_THREADS)
            stack.callback(light.shutdown)
            frontend = Frontend(models, metrics)
            server, checks = self._grpc(frontend, readers, pool, light, credentials)
            rest = None
            if self.rest_port is not None:
                rest = Rest(
                    frontend,
                    readers,
                    pool,
                    light,
                    self.host,
                    self.rest_port,
                    metrics_path,
                    self._rest_timeout,
                    self.port,
                    self._allowed_hosts,
                    self._cors,
                )
                self.rest_port = rest.start().port
            models.watch(self._poll_seconds, self._reread())
            server.start()
            for name in HEALTH:
                checks.set(name, health_pb2.HealthCheckResponse.SERVING)
            self._running = server, rest, checks, stack.pop_all()
        self._models = models
        return self

    def _grpc(self, frontend, readers, pool, light, credentials):
        # Without so_reuseport=0 a second server would share the port in silence.
        server = grpc.server(pool, options=[*_tensors.UNLIMITED, ("grpc.so_reuseport", 0)])
        checks = health.HealthServicer(experimental_non_blocking=True)
        for name in HEALTH:
            checks.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        server.add_generic_rpc_handlers(
            [
                PredictionService(frontend, readers, light).handler(),
                ModelService(frontend, light).handler(),
                health_handler(checks, light),
            ]
        )
        try:
            if credentials:
                self.port = server.add_secure_port(self.address, credentials)
            else:
                self.port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.address}: {error}") from error
        return server, checks

    def _reread(self):
        """A function that tells what `models.config` says now, where it has changed since."""
        path = config_path(self.directory)
        if not self._follow_config or not os.path.isfile(path):
            return None
        known = [os.stat(path).st_mtime_ns]

        def reread():
            changed = os.stat(path).st_mtime_ns
            if changed == known[0]:
                return None
            known[0] = changed
            return read_config(path)

        return reread

    def stop(self, grace=30.0):
        """Takes no new requests, answers those under way, frees the models.

        Args:
            grace: seconds after which runs are ended and callers who still wait are cut off.
        """
        if self._running is None:
            return
        server, rest, checks, stack = self._running
        checks.enter_graceful_shutdown()
        stopped = server.stop(grace)
        if rest:
            rest.stop(grace)
        stopped.wait()
        self._models.cancel()
        stack.close()
        self._running = self._models = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()


def _credentials(path):
    config = read_text(path, SSLConfig())
    if not (config.server_key and config.server_cert):
        raise ValueError(f"{path} must hold a server_key and a server_cert")
    _check_keys(path, config)
    authority = config.custom_ca.encode() or None
    if config.client_verify and not authority:
        raise ValueError(f"{path} asks for client_verify, which needs a custom_ca")
    pair = config.server_key.encode(), config.server_cert.encode()
    return grpc.ssl_server_credentials([pair], authority, config.client_verify)


def _check_keys(path, config):
    """Raises `ValueError` for a PEM that is none, in more words than gRPC has."""
    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
    for field in ("server_cert", "custom_ca"):
        text = getattr(config, field)
        try:
            if text:
                context.load_verify_locations(cadata=text)
        except (tls.SSLError, ValueError) as error:
            wrong = f"the {field} in {path} is no PEM of a certificate: {error}"
            raise ValueError(wrong) from None
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, field) for field in ("server_cert", "server_key")]
        for file, text in zip(files, (config.server_cert, config.server_key)):
            with open(file, "w", encoding="utf-8") as writable:
                writable.write(text)
        try:
            context.load_cert_chain(*files, password="")
        except (tls.SSLError, ValueError) as error:
            other = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
            what = "does not belong to its server_cert" if other else "is no PEM of a key"
            raise ValueError(f"the server_key in {path} {what}: {error}") from None


def _check_ports(host, *ports):
    """Raises before anything is loaded what would be raised when the ports are opened."""
    with contextlib.ExitStack() as stack:
        for port in ports:
            if port is None:
                continue
            if not 0 <= port <= 65535:
                raise ValueError(f"a port is a number from 0 to 65535, got {port}")
            try:
                family, kind, _, _, address = socket.getaddrinfo(
                    host.strip("[]"), port, type=socket.SOCK_STREAM
                )[0]
                tried = stack.enter_context(socket.socket(family, kind))
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
                # Two sockets may have one address until one of them listens.
                tried.listen()
            except OSError as error:
                raise OSError(f"cannot listen on {host}:{port}: {error}") from error


def _metrics_path(path):
    config = read_text(path, MonitoringConfig()).prometheus_config
    if not config.enable:
        return None
    if config.path and not config.path.startswith("/"):
        raise ValueError(f"{path}: the path must begin with /, got {config.path!r}")
    return config.path or METRICS_PATH


def serve(directory, grace=30.0, **options):
    """Serves until SIGTERM or SIGINT, drains for at most `grace` seconds, and returns 0.

    For a process of its own: it takes the signals and switches XLA off, as the stock server does,
    unless a package requires it. Other options, and what it raises, as `Server`.
    """
    ended = threading.Event()
    told, tell = os.pipe()

    def obey():
        os.read(told, 1)
        ended.set()
        os._exit(128 + os.read(told, 1)[0])  # asked twice: nothing is waited for

    # Python's own handlers run once for two signals, or late, while the main thread has no turn.
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=obey, daemon=True).start()
    # Who asks for the status has its turn soon, whatever else is read and written.
    sys.setswitchinterval(0.001)
    if not needs_xla(read_config(directory)):
        disable_xla()
    options.setdefault("log", functools.partial(print, file=sys.stderr, flush=True))
    server = Server(directory, **options).start()
    for model in server.models:
        print(f"{model.name}/{model.version} is ready on {server.address}", flush=True)
    if server.rest_address:
        print(f"REST and a page to try the models: {server.rest_address}", flush=True)
    ended.wait()
    server.stop(grace)
    return 0


def stock_command(
    directory, port, rest_port, batching=False, ssl=None, monitoring=None, cors=False
):
    """The command line by which the stock server serves the same.

    Raises:
        FileNotFoundError: `tensorflow_model_server` is not on the PATH, or there is no
            `models.config`.
    """
    binary = shutil.which(BINARY)
    if binary is None:
        raise FileNotFoundError(f"{BINARY} is not on the PATH; serve without --engine=tfserving")
    file = config_path(directory)
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{BINARY} wants a {CONFIG}; there is none in {directory}")
    config = read_config(file)
    ports = [f"--port={port}"] + ([f"--rest_api_port={rest_port}"] if rest_port is not None else [])
    ports += ["--rest_api_enable_cors_support=true"] if cors else []
    # The stock server counts for REST alone to read.
    monitoring = monitoring if rest_port is not None else None
    return [
        binary,
        *ports,
        *start_flags(config, file, monitoring, ssl, needs_xla(config), batching),
    ]
