"""A gRPC server that answers as TensorFlow Serving does, from the same C++ session.

Three layers: a `Session` runs tensors (`_session.py`), a `Model` is one version with its
signatures, `Models` are all that are loaded; the services only turn RPCs into calls of these.
"""

import concurrent.futures
import functools
import os
import re
import signal
import threading

import grpc

from . import client
from ._gate import read_warmup
from ._session import Session, StatusError, disable_xla

with client.light_protos():
    from google.protobuf import text_format
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

CONFIG = "models.config"
DEFAULT_SIGNATURE = "serving_default"
MESSAGE_LIMIT = 1024

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _invalid(message):
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT.value[0], message)


def _not_found(message):
    return StatusError(grpc.StatusCode.NOT_FOUND.value[0], message)


def _join(names):
    return ",".join(sorted(names))


class Model:
    """One version of a model: its session and its signatures, warmed up.

    Args:
        name: the name it is served under.
        version: its number.
        directory: its version directory.

    Raises:
        StatusError: it cannot be loaded, or a warm-up request failed.
    """

    def __init__(self, name, version, directory):
        self.name, self.version = name, version
        self.session = Session(directory)
        graph = meta_graph_pb2.MetaGraphDef.FromString(self.session.meta_graph)
        self.signatures = dict(graph.signature_def)
        try:
            for request in read_warmup(directory):
                self.predict(request)
        except ValueError as error:
            self.close()
            raise StatusError(grpc.StatusCode.DATA_LOSS.value[0], str(error)) from error
        except StatusError:
            self.close()
            raise

    def predict(self, request, timeout=None):
        """Answers a `PredictRequest` with a `PredictResponse`. Raises `StatusError`."""
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
            raise StatusError(code, f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        feeds = self._feeds(signature, request.inputs)
        aliases = self._outputs(signature, request.output_filter)
        fetches = [signature.outputs[alias].name for alias in aliases]
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = name
        response.model_spec.version.value = self.version
        for alias, array in zip(aliases, self.session.run(feeds, fetches, timeout)):
            response.outputs[alias].CopyFrom(client.to_proto(array, typed=True))
        return response

    @staticmethod
    def _feeds(signature, inputs):
        wanted, sent, defaults = set(signature.inputs), set(inputs), set(signature.defaults)
        if len(sent) > len(wanted) or (len(sent) < len(wanted) and not defaults):
            raise _invalid(
                f"input size does not match signature: {len(sent)}!={len(wanted)} "
                f"len({{{_join(sent)}}}) != len({{{_join(wanted)}}}). "
                f"Sent extra: {{{_join(sent - wanted)}}}. "
                f"Missing but required: {{{_join(wanted - sent)}}}."
            )
        feeds = {}
        for alias, info in sorted(signature.inputs.items()):
            if alias not in sent | defaults:
                raise _invalid(
                    f"Signature input alias: {alias}(feed name: {info.name}) not found in request "
                    "and no default value provided. Inputs expected to be in the request "
                    f"{{{_join(sent)}}}, or default input alias set: {_join(defaults)}"
                )
            proto = inputs[alias] if alias in sent else signature.defaults[alias]
            try:
                feeds[info.name] = client.from_proto(proto)
            except (ValueError, OverflowError, MemoryError):
                raise _invalid(f"tensor parsing error: {alias}") from None
        if sent - wanted:
            raise _invalid(
                f"Inputs contains invalid name. Used request inputs: {_join(sent & wanted)}, "
                f"request input: {_join(sent)}"
            )
        return feeds

    @staticmethod
    def _outputs(signature, wanted):
        seen = []
        for alias in wanted:
            if alias not in signature.outputs:
                raise _invalid(
                    f"output tensor alias not found in signature: {alias} "
                    f"Outputs expected to be in the set {{{_join(signature.outputs)}}}."
                )
            if alias in seen:
                raise _invalid(f"duplicate output tensor alias: {alias}")
            seen.append(alias)
        return seen or sorted(signature.outputs)

    def close(self):
        """Frees the session; no request may be under way."""
        self.session.close()


class Models:
    """All versions that a `ModelServerConfig` asks for, loaded.

    Args:
        config: `ModelServerConfig`.

    Raises:
        StatusError: one of them did not load; none is kept then.
        ValueError: the configuration asks for what cannot be.
    """

    def __init__(self, config):
        self._loaded, self._labels, failures = {}, {}, []
        for block in config.model_config_list.config:
            self._labels[block.name] = dict(block.version_labels)
            self._loaded[block.name] = {}
            for version, directory in _versions_to_serve(block):
                try:
                    model = Model(block.name, version, directory)
                except StatusError as error:
                    named = f"{{name: {block.name} version: {version}}}"
                    failures.append(f"{{{named} due to error: {error}}}")
                else:
                    self._loaded[block.name][version] = model
        if failures:
            self.close()
            raise StatusError(
                grpc.StatusCode.UNKNOWN.value[0],
                f"{len(failures)} servable(s) did not become available: {', '.join(failures)}",
            )

    def __iter__(self):
        return (model for versions in self._loaded.values() for model in versions.values())

    def find(self, spec):
        """The `Model` that a `ModelSpec` means. Raises `StatusError`."""
        if not spec.name:
            raise _invalid("ModelSpec has no name specified.")
        versions = self._loaded.get(spec.name, {})
        version = max(versions, default=None)
        wanted = f"Latest({spec.name})"
        if spec.version_label:
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version is None:
                raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
        elif spec.HasField("version"):
            version = spec.version.value
        if version is not None:
            wanted = f"Specific({spec.name}, {version})"
        if version not in versions:
            raise _not_found(f"Servable not found for request: {wanted}")
        return versions[version]

    def versions(self, spec):
        """Version numbers that a `ModelSpec` means, highest first. Raises `StatusError`."""
        versions = sorted(self._loaded.get(spec.name, {}), reverse=True)
        if spec.HasField("version"):
            if spec.version.value not in versions:
                raise _not_found(
                    f"Could not find version {spec.version.value} of model {spec.name}"
                )
            return [spec.version.value]
        if not versions:
            raise _not_found(f"Could not find any versions of model {spec.name}")
        return versions

    def close(self):
        """Frees all sessions; no request may be under way."""
        for model in self:
            model.close()
        self._loaded.clear()


def _versions_to_serve(block):
    """`(number, directory)` of the versions that a `ModelConfig` asks for, rising."""
    found = version_directories(block.base_path)
    policy, numbers = block.model_version_policy, sorted(found)
    if policy.HasField("specific"):
        missing = sorted(set(policy.specific.versions) - set(numbers))
        if missing:
            raise ValueError(f"{block.name} has no version {missing[0]} in {block.base_path}")
        numbers = sorted(policy.specific.versions)
    elif not policy.HasField("all"):
        numbers = numbers[-(policy.latest.num_versions or 1) :]
    if not numbers:
        raise ValueError(
            f"model {block.name} has no version: no numbered folder in {block.base_path}"
        )
    return [(number, found[number]) for number in numbers]


def version_directories(base):
    """Number -> path of a model's versions; folders whose names are no numbers are none."""
    if not os.path.isdir(base):
        return {}
    return {
        int(entry.name): entry.path
        for entry in os.scandir(base)
        if re.fullmatch("[0-9]+", entry.name) and entry.is_dir()
    }


def parse_config(path):
    """The `ModelServerConfig` in a text file. Raises `ValueError` where it is none."""
    with open(path, encoding="utf-8") as file:
        try:
            return text_format.Parse(file.read(), ModelServerConfig())
        except text_format.ParseError as error:
            raise ValueError(f"{path} is no ModelServerConfig: {error}") from error


def read_config(path):
    """The `ModelServerConfig` to serve a path by, which `Server` describes.

    Raises:
        FileNotFoundError: nothing stands there that could be served.
        ValueError: the file is no such configuration, or breaks a rule of it.
    """
    path = os.path.abspath(path)
    config = ModelServerConfig()
    listed = os.path.join(path, CONFIG) if os.path.isdir(path) else path
    if os.path.isfile(listed):
        config = parse_config(listed)
    elif version_directories(path):
        _add(config, os.path.basename(path), path)
    elif os.path.isdir(path):
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if version_directories(entry.path):
                _add(config, entry.name, entry.path)
    blocks = config.model_config_list.config
    if not blocks:
        raise FileNotFoundError(f"{path} holds no model: no {CONFIG} and no <name>/<version>/")
    names = [block.name for block in blocks]
    for block in blocks:
        if names.count(block.name) > 1:
            raise ValueError(f"Illegal to list model {block.name} multiple times in config list")
        if not os.path.isabs(block.base_path):
            raise ValueError(
                f"Expected model {block.name} to have an absolute path or URI; "
                f"got base_path()={block.base_path}"
            )
        if block.model_platform != "tensorflow":
            raise ValueError(
                f"model {block.name} must have the platform 'tensorflow', "
                f"got {block.model_platform!r}"
            )
    return config


def packages(path):
    """Version directories of all models that `read_config` finds; `path` itself where it is one."""
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return [os.path.abspath(path)]
    blocks = read_config(path).model_config_list.config
    found = (sorted(version_directories(block.base_path).items()) for block in blocks)
    return [directory for versions in found for _, directory in versions]


def _add(config, name, base):
    config.model_config_list.config.add(name=name, base_path=base, model_platform="tensorflow")


def _answers(method):
    """Turns a `StatusError` into the RPC's status, cut where the stock server cuts it."""

    @functools.wraps(method)
    def answer(self, request, context):
        try:
            if not request.HasField("model_spec"):
                raise _invalid("Missing ModelSpec")
            return method(self, request, context)
        except StatusError as error:
            message = error.message
            if len(message) > MESSAGE_LIMIT:
                message = f"{message[:MESSAGE_LIMIT]}...TRUNCATED"
            context.abort(_CODES[error.code], message)

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other calls answer UNIMPLEMENTED."""

    def __init__(self, models):
        self._models = models

    @_answers
    def Predict(self, request, context):
        model = self._models.find(request.model_spec)
        return model.predict(request, context.time_remaining())

    @_answers
    def GetModelMetadata(self, request, context):
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise _invalid(f"Metadata field {field} is not supported")
        model = self._models.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = model.name
        response.model_spec.version.value = model.version
        response.metadata["signature_def"].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; the other call answers UNIMPLEMENTED."""

    def __init__(self, models):
        self._models = models

    @_answers
    def GetModelStatus(self, request, context):
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in self._models.versions(request.model_spec):
            status = response.model_version_status.add(version=version)
            status.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
            status.status.error_code = 0
        return response


class Server:
    """Serves a directory of models by gRPC.

    XLA is a switch of the whole process, so a `Server` leaves it alone; `serve`, whose process is
    its own, switches it off as the stock server does.

    Args:
        directory: what `package` wrote (with `models.config`), a `models.config`, a directory of
            `<name>/<version>/` or one model's directory.
        port: 0 for any free one; `port` tells which once the server has started.
        host: the address to listen on; by default this machine alone can reach it.
        threads: how many requests are answered at a time.

    Example:

    ```python
    with Server("exports") as server, Client(server.address) as client:
        answer = client.predict("act_parity", {"sequence": sequence})
    ```
    """

    def __init__(self, directory, port=0, host="127.0.0.1", threads=16):
        self.directory, self.port, self.host = directory, port, host
        self._threads = threads
        self._server = self._models = self._pool = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def models(self):
        """The `Models` that are loaded, None before the start and after the stop."""
        return self._models

    def start(self):
        """Loads the models, then listens. Returns the server.

        Raises:
            FileNotFoundError: there is nothing to serve.
            OSError: the port is taken.
            StatusError: a model did not load.
            ValueError: `models.config` is not what it should be.
        """
        models = Models(read_config(self.directory))
        pool = concurrent.futures.ThreadPoolExecutor(self._threads)
        # Without so_reuseport=0 a second server would share the port in silence.
        server = grpc.server(pool, options=[*client.UNLIMITED, ("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(models), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
        try:
            self.port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            models.close()
            raise OSError(f"cannot listen on {self.address}: {error}") from error
        server.start()
        self._server, self._models, self._pool = server, models, pool
        return self

    def stop(self, grace=30.0):
        """Takes no new requests, answers those under way, frees the models.

        Args:
            grace: seconds after which callers who still wait are told CANCELLED.
        """
        if self._server is None:
            return
        self._server.stop(grace).wait()
        # A run cannot be taken back from the session, which must outlive it.
        self._pool.shutdown(wait=True)
        self._models.close()
        self._server = self._models = self._pool = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()


def serve(directory, port=8500, host="127.0.0.1", grace=30.0):
    """Serves until SIGTERM or SIGINT, drains for at most `grace` seconds, and returns 0.

    For a process of its own: it switches XLA off and takes the signals. Raises as `Server.start`.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    disable_xla()
    server = Server(directory, port, host).start()
    for model in server.models:
        print(f"{model.name}/{model.version} is ready on {server.address}", flush=True)
    ended.wait()
    server.stop(grace)
    return 0
