"""TensorFlow Serving's REST interface, the metrics and the page, on the same `Frontend` as gRPC."""

import asyncio
import base64
import binascii
import contextlib
import importlib.resources
import itertools
import json
import math
import os
import re
import threading

import numpy as np
import orjson
from aiohttp import web
from google.protobuf import json_format

from .. import _tensors
from .._config import METRICS_PATH
from .._session import STRING, TYPES, StatusError
from .._version import DEFAULT_SIGNATURE
from ._metrics import CONTENT_TYPE
from ._models import MOST_AXES, State
from ._refusals import invalid
from ._services import cut, internal

with _tensors.light_protos():
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
        regression_pb2,
    )

LARGEST_BODY = 2**30

_VERSION = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_CALL = re.compile(rf"{_VERSION}:(?P<method>classify|regress|predict)", _FLAGS)
_LOOK = re.compile(rf"{_VERSION}(?P<metadata>/metadata)?", _FLAGS)
_HTTP = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503, 16: 401}
_NAMES = {1: "float", 2: "double", STRING: "string"}
_INTEGERS = {3: 31, 4: 31, 5: 31, 6: 31, 9: 63}
_UNSIGNED = {22: 32, 23: 64}
_LARGEST_FLOAT = {1: (2**24 - 1, float(np.finfo("float32").max)), 2: (2**53 - 1, math.inf)}
_HEADERS = {"X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
}


def call(frontend, method, path, body, timeout):
    """Answers a request below `/v1/`.

    Args:
        frontend: `Frontend`.
        method: the HTTP method.
        path: the path, decoded.
        body: bytes.
        timeout: seconds for a run.

    Returns:
        `(HTTP status, bytes)`, JSON.
    """
    try:
        return 200, _call(frontend, method, path, body, timeout)
    except StatusError as error:
        refusal = error
    except RecursionError:
        refusal = _too_deep()
    except Exception as error:
        refusal = internal(error)
    text = json.dumps({"error": cut(refusal.message)}, indent=4, ensure_ascii=False)
    return _HTTP.get(refusal.code, 500), text.encode(errors="replace")


def _call(frontend, method, path, body, timeout):
    found = _CALL.fullmatch(path) if method == "POST" else None
    if found:
        if found["method"].lower() == "predict":
            return _predict(frontend, found, body, timeout)
        document = _parse(body)
        kinds = {
            "classify": (classification_pb2.ClassificationRequest, frontend.classify),
            "regress": (regression_pb2.RegressionRequest, frontend.regress),
        }
        kind, ask = kinds[found["method"].lower()]
        request = kind()
        _fill_spec(request.model_spec, found)
        request.model_spec.signature_name = _signature_name(document)
        return ask(request, entry="REST")
    found = _LOOK.fullmatch(path) if method == "GET" else None
    if found and found["metadata"]:
        return _metadata(frontend, found)
    if found:
        request = get_model_status_pb2.GetModelStatusRequest()
        _fill_spec(request.model_spec, found)
        return _message(frontend.status(request))
    if method == "GET" and re.fullmatch("/v1/models/?", path, re.IGNORECASE):
        raise invalid("Missing model name in request.")
    raise invalid(f"Malformed request: {method} {path}")


def _fill_spec(spec, found):
    spec.name = found["name"]
    if found["version"]:
        digits = found["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(digits)
    if found["label"]:
        spec.version_label = found["label"]


def _message(message):
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=1,
    ).encode()


def _metadata(frontend, found):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    _fill_spec(request.model_spec, found)
    response = frontend.metadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec, signatures = json.loads(_message(response.model_spec)), json.loads(_message(signatures))
    answer = {"model_spec": spec, "metadata": {"signature_def": signatures}}
    return json.dumps(answer, indent=1).encode()


def _predict(frontend, found, body, timeout):
    request = predict_pb2.PredictRequest()
    _fill_spec(request.model_spec, found)
    document = _parse(body)
    name = _signature_name(document)
    with frontend.models.use(request.model_spec) as model:
        signature = model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        text = f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
        raise invalid(text)
    request.model_spec.signature_name = name
    types = {key: info.dtype for key, info in sorted(signature.inputs.items())}
    if not types:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    rows = "instances" in document
    if rows and "inputs" in document:
        raise _wrong(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if rows:
        tensors = _from_rows(document, types)
    elif "inputs" in document:
        tensors = _from_columns(document["inputs"], types)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    for key, array in tensors.items():
        request.inputs[key].CopyFrom(_tensors.to_proto(array))
    response = frontend.predict(request, timeout, entry="REST")
    outputs = {key: _tensors.from_proto(proto) for key, proto in sorted(response.outputs.items())}
    return _rows_of(outputs) if rows else _columns_of(outputs)


def _parse(body):
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise _wrong(document, "Is not object")
    return document


def _parse_leniently(body):
    """NaN and Infinity are legal here, though not in JSON."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None


def _too_deep():
    return invalid("JSON Parse error: it is nested too deep")


def _signature_name(document):
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _wrong(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    return _encodable(name)


def _encodable(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: a string holds half a surrogate pair") from None
    return text


def _wrong(value, text):
    return invalid(f"JSON Value: {json.dumps(value, indent=4)} {text}")


def _is_base64(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _from_rows(document, types):
    instances = document["instances"]
    if not isinstance(instances, list):
        raise _wrong(document, "Excepting 'instances' to be an list/array")
    if not instances:
        raise _wrong(document, "No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    objects = isinstance(instances[0], dict) and not _is_base64(instances[0])
    arrays, only = {key: [] for key in types}, next(iter(types))
    for number, row in enumerate(instances):
        is_object = isinstance(row, dict) and not _is_base64(row)
        if objects != is_object:
            text = "object but got list" if objects else "value/list but got object"
            raise invalid(f"Expecting {text} at item {number} of input list")
        for key, value in (row if objects else {only: row}).items():
            try:
                if key not in types:
                    raise invalid(f"JSON object: does not have named input: {key}")
                array = _array(value, types[key])
                _check_like(arrays[key], array)
            except StatusError as error:
                which = f" key: {key}" if objects else ""
                raise invalid(
                    f"Failed to process element: {number}{which} of 'instances' list. "
                    f"Error: INVALID_ARGUMENT: {error.message}"
                ) from None
            arrays[key].append(array)
        if objects and set(row) != set(types):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{json.dumps(row, indent=4)} keys must be equal to: {','.join(types)}"
            )
    return {key: np.stack(some) for key, some in arrays.items()}


def _check_like(before, array):
    if not before:
        return
    if before[0].size != array.size:
        raise invalid(f"Expecting tensor size: {before[0].size} but got: {array.size}")
    if before[0].shape != array.shape:
        old, new = (",".join(map(str, one.shape)) for one in (before[0], array))
        raise invalid(f"Expecting shape [{old}] but got: [{new}]")


def _from_columns(inputs, types):
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(types) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        return {key: _array(inputs, number) for key, number in types.items()}
    for key in types:
        if key not in inputs:
            raise invalid(f"Missing named input: {key} in 'inputs' object.")
    return {key: _array(inputs[key], number) for key, number in types.items()}


def _array(value, number):
    """The array of TensorFlow's type `number` that nested lists hold."""
    if number not in TYPES:
        raise StatusError(12, f"Conversion of JSON Value: {json.dumps(value)} to type: {number}")
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) >= MOST_AXES:  # of rows, one more than of a row
        raise _too_deep()
    flat = [value]
    for level, size in enumerate(shape):
        for item in flat:
            if not isinstance(item, list):
                raise _wrong(
                    item,
                    f"found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}",
                )
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {level} "
                    f"expected size: {size}"
                )
        flat = list(itertools.chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if list in kinds:
        rank = len(shape)
        raise invalid(f"Encountered list at unexpected level: {rank} expected < {rank}")
    array = np.empty(len(flat), TYPES[number])
    try:
        array[:] = _values(flat, kinds, number)
    except OverflowError as error:
        raise invalid(f"JSON Value: {error}") from None
    return array.reshape(shape)


def _values(flat, kinds, number):
    """`flat`, which has items of the types `kinds`, as the tensor's type takes it."""
    if number == STRING:
        return [_string(item) for item in flat]
    if number in _LARGEST_FLOAT:
        if kinds - {int, float}:
            raise _wrong_type(flat, number, (int, float))
        return _floats(flat, number)
    if number in _INTEGERS or number in _UNSIGNED:
        lowest = -(2 ** _INTEGERS[number]) if number in _INTEGERS else 0
        highest = 2 ** (_INTEGERS.get(number) or _UNSIGNED[number])
        if kinds - {int} or (flat and not lowest <= min(flat) <= max(flat) < highest):
            raise _wrong_type(flat, number, (int,), lowest, highest)
        # Small types wrap, as they do where a message's int_val is read.
        wide = "uint64" if number in _UNSIGNED else "int64"
        return np.array(flat, wide).astype(TYPES[number])
    if number == 10:
        if kinds - {bool}:
            raise _wrong_type(flat, number, (bool,))
        return flat
    text = f"Conversion of JSON Value: {json.dumps(flat[:1])} to type: {TYPES[number].name}"
    raise StatusError(12, text)


def _floats(flat, number):
    values = np.array(flat, "float64")
    whole, largest = _LARGEST_FLOAT[number]
    for place in np.flatnonzero(np.isfinite(values) & (np.abs(values) > whole)):
        item = flat[place]
        if type(item) is int or abs(item) > largest:
            raise invalid(
                f"Cannot convert JSON value: {item} to {_NAMES[number]} without loss of precision."
            )
    return values


def _wrong_type(flat, number, kinds, lowest=-math.inf, highest=math.inf):
    wrong = next(item for item in flat if type(item) not in kinds or not lowest <= item < highest)
    names = {type(None): "Null", bool: str(wrong), dict: "Object", str: "String"}
    name = _NAMES.get(number, TYPES[number].name)
    kind = names.get(type(wrong), "Number")
    return _wrong(wrong, f"Type: {kind} is not of expected type: {name}")


def _string(item):
    if isinstance(item, str):
        return _encodable(item).encode()
    if not isinstance(item, dict):
        raise _wrong_type([item], STRING, (str,))
    if not _is_base64(item):
        raise _wrong(item, "not formatted correctly for base64 data")
    try:
        return base64.b64decode(_encodable(item["b64"]), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _writable(name, array):
    """The array, or what stands for it, as orjson writes it."""
    if array.dtype.kind == "O":
        return _tensors.to_lists(array, name)
    if array.dtype.kind == "c":
        raise StatusError(12, f"Tensor {name} of {array.dtype.name} cannot be written as JSON")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [_named(row) for row in array] if array.ndim else _named(array)
    return array if array.ndim else array[()]


def _named(array):
    """JSON in which NaN and Infinity have their names; orjson would write null."""
    # By way of text: 0.2 and not 0.20000000298023224.
    return orjson.Fragment(json.dumps(array.astype("U32").astype("float64").tolist()))


def _rows_of(outputs):
    sizes = {}
    for key, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {key} has no shape information ")
        sizes[key] = len(array)
        expected = next(iter(sizes.values()))
        if len(array) != expected:
            raise invalid(
                f"Tensor name: {key} has inconsistent batch size: {len(array)} "
                f"expecting: {expected}"
            )
    columns = {key: _writable(key, array) for key, array in outputs.items()}
    if len(columns) == 1:
        rows = next(iter(columns.values()))
    else:
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return _write({"predictions": rows})


def _columns_of(outputs):
    columns = {key: _writable(key, array) for key, array in outputs.items()}
    if len(columns) == 1:
        columns = next(iter(columns.values()))
    return _write({"outputs": columns})


def _write(answer):
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def overview(models, grpc_port=None):
    """What the page lists: models, their versions and states, and the cards of their packages."""
    listed = []
    for name, (labels, states, model) in models.overview().items():
        versions = [
            {
                "version": number,
                "state": State.Name(state),
                "error": error.message if error else "",
                "labels": sorted(label for label, where in labels.items() if where == number),
            }
            for number, state, error in states
        ]
        card = _read_card(model.directory) if model else None
        listed.append({"name": name, "versions": versions, "card": card})
    return {"grpc_port": grpc_port, "models": listed}


def _read_card(directory):
    try:
        with open(os.path.join(directory, "assets.extra", "signatures.json"), "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


class Rest:
    """The HTTP server, with an event loop in a thread of its own.

    Args:
        frontend: `Frontend`.
        pool: executor that runs the models.
        host: the address to listen on.
        port: 0 for any free one; `port` tells which after the start.
        metrics_path: where Prometheus reads, or None.
        timeout: seconds for a run.
        grpc_port: where gRPC listens, for the page to tell.

    Raises (from `start`):
        OSError: the port is taken.
    """

    def __init__(
        self, frontend, pool, host, port, metrics_path=METRICS_PATH, timeout=30.0, grpc_port=None
    ):
        self._frontend, self._pool, self._timeout = frontend, pool, timeout
        self._grpc_port = grpc_port
        self.host, self.port, self._metrics_path = host, port, metrics_path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)

    def start(self):
        self._thread.start()
        try:
            self._wait(self._start())
        except OSError:
            self._end()
            raise
        return self

    async def _start(self):
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_get("/", self._page)
        application.router.add_get("/ponderzoo/models", self._overview)
        if self._metrics_path:
            application.router.add_get(self._metrics_path, self._metrics)
        application.router.add_route("*", "/v1{rest:(/.*)?}", self._call)
        # `stop` knows how long it may take.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1e6)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _in_pool(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def _call(self, request):
        body = await request.read()
        arguments = self._frontend, request.method, request.path, body, self._timeout
        status, answer = await self._in_pool(call, *arguments)
        return _json(answer, status)

    async def _overview(self, request):
        answer = await self._in_pool(overview, self._frontend.models, self._grpc_port)
        return _json(json.dumps(answer).encode())

    async def _metrics(self, request):
        text = self._frontend.metrics.text()
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _page(self, request):
        page = importlib.resources.files(__package__).joinpath("page.html").read_bytes()
        headers = {"Content-Type": "text/html; charset=utf-8", **_PAGE_HEADERS}
        return web.Response(body=page, headers=headers)

    def _wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self, grace):
        """Takes no new requests and answers those under way for at most `grace` seconds."""

        async def stop():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._runner.cleanup(), grace)

        self._wait(stop())
        self._end()

    def _end(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _json(body, status=200):
    headers = {"Content-Type": "application/json", **_HEADERS}
    return web.Response(body=body, status=status, headers=headers)
