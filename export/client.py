"""Clients for TensorFlow Serving, and numpy's way into and out of its messages."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import grpc

from ._session import STRING, TYPES
from ._tensors import UNLIMITED, from_proto, light_protos, to_proto

MOST_RETRIES = 4
"""gRPC sends a request five times at most."""


with light_protos():
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )


class PredictError(RuntimeError):
    """The server refused, or could not be reached.

    Attributes:
        code: `grpc.StatusCode`.
        details: the server's own words, or gRPC's.
    """

    def __init__(self, address: str, code: grpc.StatusCode, details: str) -> None:
        hint = ""
        if code == grpc.StatusCode.UNAVAILABLE and re.search("connect|resolv", details or ""):
            hint = f". Does a server listen on {address}?"
        super().__init__(f"{address} answered {code.name}: {details}{hint}")
        self.code, self.details = code, details


class _Calls:
    """All that a client asks, for the two that only differ in how they wait (`_call`)."""

    _library = None  # grpc or grpc.aio

    def __init__(
        self,
        address: str,
        timeout: float = 60.0,
        retries: int = 3,
        certificate: str | bytes | os.PathLike | None = None,
        client_certificate: str | bytes | os.PathLike | None = None,
        client_key: str | bytes | os.PathLike | None = None,
    ) -> None:
        if not 0 <= retries <= MOST_RETRIES:
            raise ValueError(f"retries must be 0 to {MOST_RETRIES}, got {retries}")
        if certificate is None and (client_certificate or client_key):
            raise ValueError("a client_certificate wants the server's certificate, too")
        self.address, self.timeout = address, timeout
        options = _options(retries)
        if certificate is None:
            self._channel = self._library.insecure_channel(address, options)
        else:
            pem = (certificate, client_key, client_certificate)
            credentials = grpc.ssl_channel_credentials(*map(_read_pem, pem))
            self._channel = self._library.secure_channel(address, credentials, options)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        signature: str | None = None,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Any:
        """Calls a signature of a model.

        Args:
            model: the name it is served under.
            inputs: dict: input name -> array or nested list; see `to_proto` for types.
            signature: None for the model's default one.
            version: a number; None for the latest one.
            label: the label of a version, in place of its number.
            outputs: names of the outputs to send; None for all.

        Returns:
            Dict: output name -> numpy array.

        Raises:
            PredictError: with the server's code and words.
            ValueError: an input cannot be made a tensor, or both version and label are given.
        """
        request = predict_pb2.PredictRequest(output_filter=outputs)
        _specify(request.model_spec, model, version, label)
        if signature:
            request.model_spec.signature_name = signature
        for name, value in inputs.items():
            try:
                proto = to_proto(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"input {name!r} is no tensor: {error}") from None
            request.inputs[name].CopyFrom(proto)
        return self._call(self._prediction.Predict, request, _read_outputs)

    def metadata(self, model: str, version: int | None = None, label: str | None = None) -> Any:
        """The signatures of a model.

        Args:
            model: the name it is served under.
            version: a number; None for the latest one.
            label: the label of a version, in place of its number.

        Returns:
            Dict: signature -> `{"inputs": tensors, "outputs": tensors}`, where `tensors` is a dict:
            name -> (dtype, shape). The dtype is a name, "string" for text; the shape has None where
            a size is free, and is None where nothing is known of it.

        Raises:
            PredictError: with the server's code and words.
            ValueError: both version and label are given.
        """
        fields = ["signature_def"]
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        _specify(request.model_spec, model, version, label)
        return self._call(self._prediction.GetModelMetadata, request, _read_signatures)

    def status(self, model: str, version: int | None = None) -> Any:
        """What state the versions of a model are in.

        Args:
            model: the name it is served under.
            version: a number; None for all that the server knows of.

        Returns:
            Dict: version -> `{"state": name, "error": text}`, the highest version first. The states
            are "START", "LOADING", "AVAILABLE", "UNLOADING" and "END"; the text is empty where
            nothing went wrong.

        Raises:
            PredictError: with the server's code and words.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        _specify(request.model_spec, model, version, None)
        return self._call(self._models.GetModelStatus, request, _read_states)

    def _call(self, method, request, read):
        """What `read` makes of the response. Raises `PredictError`."""
        raise NotImplementedError


class Client(_Calls):
    """Asks one server; works with the stock TensorFlow Serving and with `ponderzoo serve`.

    Threads may share a client.

    Args:
        address: `"host:port"` of the gRPC port.
        timeout: seconds to wait for each answer, retries included; None for as long as it takes.
        retries: how often to ask again, 0 to 4, where the server could not be reached or had no
            room (UNAVAILABLE); after 0.1 s first, then after twice as long each time, give or take
            a fifth. All else that goes wrong is told at once.
        certificate: for TLS, the PEM file or bytes of the authority that signed the server's
            certificate; None for no TLS.
        client_certificate: the client's own certificate chain, where the server wants to see one.
        client_key: its private key.

    Raises:
        OSError: a PEM file cannot be read.
        ValueError: retries out of range, or a client's certificate without the server's.

    Example:

    ```python
    with Client("localhost:8500") as client:
        answer = client.predict("act_parity", {"bits": bits})
    ```
    """

    _library = grpc

    def _call(self, method, request, read):
        try:
            response = method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise PredictError(self.address, error.code(), error.details()) from None
        return read(response)

    def close(self):
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception):
        self.close()


class AsyncClient(_Calls):
    """`Client` for asyncio: the same arguments and calls, each to be awaited.

    To be made where a loop runs, and used in that loop.

    Example:

    ```python
    async with AsyncClient("localhost:8500") as client:
        answer = await client.predict("act_parity", {"bits": bits})
    ```
    """

    _library = grpc.aio

    async def _call(self, method, request, read):
        try:
            response = await method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise PredictError(self.address, error.code(), error.details()) from None
        return read(response)

    async def close(self):
        """Closes the channel."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception):
        await self.close()


def _options(retries):
    """Options of a channel that asks again by itself, within the deadline of each call.

    Every call here only asks, so one that the server may have begun to answer can be sent again.
    """
    options = [
        *UNLIMITED,
        # A request that does not fit into this buffer is sent once only.
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        # gRPC waits 1 s to 2 min before it connects again, which no retry would live to see.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5000),
    ]
    if retries:
        policy = {
            "maxAttempts": 1 + retries,
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        services = [
            {"service": f"tensorflow.serving.{name}"}
            for name in ("PredictionService", "ModelService")
        ]
        config = {"methodConfig": [{"name": services, "retryPolicy": policy}]}
        options.append(("grpc.service_config", json.dumps(config)))
    return options


def _read_pem(source):
    """The bytes of a PEM file; bytes are taken as they are."""
    if source is None or isinstance(source, bytes):
        return source
    with open(os.fspath(source), "rb") as file:
        return file.read()


def _specify(spec, model, version, label):
    if version is not None and label is not None:
        raise ValueError(f"a version or a label, not both: got {version} and {label!r}")
    spec.name = model
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def _read_outputs(response):
    return {name: from_proto(response.outputs[name]) for name in sorted(response.outputs)}


def _read_signatures(response):
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        name: {
            side: {key: _read_info(info) for key, info in sorted(getattr(signature, side).items())}
            for side in ("inputs", "outputs")
        }
        for name, signature in sorted(signatures.signature_def.items())
        if name != "__saved_model_init_op"
    }


def _read_info(info):
    dtype = "string" if info.dtype == STRING else TYPES.get(info.dtype, info.dtype)
    if info.tensor_shape.unknown_rank:
        return str(dtype), None
    sizes = (dim.size for dim in info.tensor_shape.dim)
    return str(dtype), tuple(None if size < 0 else size for size in sizes)


def _read_states(response):
    name_of = get_model_status_pb2.ModelVersionStatus.State.Name
    return {
        status.version: {"state": name_of(status.state), "error": _read_error(status.status)}
        for status in sorted(response.model_version_status, key=lambda s: s.version, reverse=True)
    }


def _read_error(status):
    if not status.error_code:
        return ""
    code = type(status).DESCRIPTOR.fields_by_name["error_code"].enum_type
    return f"{code.values_by_number[status.error_code].name}: {status.error_message}"
