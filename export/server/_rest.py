"""TensorFlow Serving's REST interface, the metrics and the page, on the same `Frontend` as gRPC."""

import asyncio
import contextlib
import importlib.resources
import ipaddress
import json
import logging
import os
import re
import threading
import urllib.parse
import zlib

import numpy as np
import orjson
from aiohttp import web
from google.protobuf import json_format

from .. import _tensors
from .._config import METRICS_PATH
from .._session import NUMBERS, StatusError, release_memory
from .._version import CARD, EXTRA, FIGURES, TOLD
from ._metrics import CONTENT_TYPE
from ._models import State
from ._reading import UNREADABLE, too_deep, type_name
from ._refusals import Caller, invalid
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
LARGEST_UNPACKED = 100 * 2**20
"""Bytes of a body that came packed by gzip."""

PATIENCE = 30.0
"""Seconds for the head of a request, and between two parts of its body."""

_LARGE = 2**20  # bytes of a body after which memory is given back
_PACKED = 2**16  # bytes of a packed body that are looked at at a time
_OF = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_CALL = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_OF}:(?P<method>classify|regress|predict)", _FLAGS
)
_LOOK = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_OF}(?P<metadata>/metadata)?", _FLAGS)
_HTTP = {1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400}
_HTTP |= {12: 501, 14: 503, 16: 401}
_HEADERS = {"X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


def call(frontend, readers, method, path, body, caller):
    """Answers a request below `/v1/`.

    Args:
        frontend: `Frontend`.
        readers: `Readers` of bodies.
        method: the HTTP method.
        path: path and query as they came, not decoded.
        body: bytes.
        caller: `Caller`, who waits.

    Returns:
        `(HTTP status, parts)`: JSON, as bytes in parts.
    """
    try:
        answer = _call(frontend, readers, method, path, body, caller)
        return 200, answer if isinstance(answer, list) else [answer]
    # An error that had another name would make a circle with this frame, and keep the body.
    except StatusError as error:
        return refused(error)
    except RecursionError:
        return refused(too_deep())
    except Exception as error:
        return refused(internal(error))


def refused(error):
    """`(HTTP status, parts)` that tell of a `StatusError`, as of `call`."""
    text = json.dumps({"error": cut(error.message)}, indent=4, ensure_ascii=False)
    return _HTTP.get(error.code, 500), [text.encode(errors="replace")]


def _call(frontend, readers, method, path, body, caller):
    found = _CALL.fullmatch(path) if method == "POST" else None
    if found:
        if found["method"].lower() == "predict":
            return _predict(frontend, readers, found, body, caller)
        kinds = {
            "classify": (classification_pb2.ClassificationRequest, frontend.classify),
            "regress": (regression_pb2.RegressionRequest, frontend.regress),
        }
        kind, ask = kinds[found["method"].lower()]
        request = kind()
        _fill_spec(request.model_spec, found)
        request.model_spec.signature_name = readers.read("read_examples", caller, body)
        return ask(request, entry="REST")
    found = _LOOK.fullmatch(path) if method == "GET" else None
    if found and not found["name"]:
        raise invalid("Missing model name in request.")
    if found and found["metadata"]:
        return _metadata(frontend, found)
    if found:
        request = get_model_status_pb2.GetModelStatusRequest()
        _fill_spec(request.model_spec, found)
        return _message(frontend.status(request))
    raise invalid(f"Malformed request: {method} {path}")


def _fill_spec(spec, found):
    spec.name = _decoded(found["name"])
    if found["version"]:
        digits = found["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(digits)
    if found["label"]:
        spec.version_label = _decoded(found["label"])


def _decoded(text):
    return urllib.parse.unquote(text, errors="replace")


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


def _predict(frontend, readers, found, body, caller):
    spec = predict_pb2.PredictRequest().model_spec
    _fill_spec(spec, found)
    try:
        with frontend.models.use(spec) as model:
            signatures = {
                name: {key: info.dtype for key, info in sorted(signature.inputs.items())}
                for name, signature in model.signatures.items()
            }
    except StatusError as error:
        signatures = error.with_traceback(None)
    name, rows, inputs = readers.read("read_inputs", caller, body, signatures)
    del body
    spec.signature_name = name
    outputs = frontend.predict_arrays(spec, inputs, caller)
    try:
        return [*(_rows_of(outputs) if rows else _columns_of(outputs))]
    finally:
        _tensors.forget(outputs.values())


def _writable(name, array):
    """The array, or what stands for it, as orjson writes it."""
    if array.dtype.kind == "O":
        return _tensors.to_lists(array, name)
    number = NUMBERS[array.dtype]
    if number in UNREADABLE or array.dtype.kind == "c":
        text = f"Failed to write JSON value for tensor type: {type_name(number)}"
        raise invalid(text)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [_named(row) for row in array] if array.ndim else _named(array)
    return array if array.ndim else array[()]


def _named(array):
    """JSON in which NaN and Infinity have their names; orjson would write null."""
    # By way of text: 0.2 and not 0.20000000298023224.
    return orjson.Fragment(json.dumps(array.astype("U32").astype("float64").tolist()))


def _rows_of(outputs):
    """The parts of an answer, between which others have their turn."""
    sizes, expected = {}, 0
    for key, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {key} has no shape information ")
        if not len(array):
            raise invalid(f"Tensor name: {key} has invalid batch size: 0")
        sizes[key] = len(array)
        expected = next(iter(sizes.values()))
        if len(array) != expected:
            raise invalid(
                f"Tensor name: {key} has inconsistent batch size: {len(array)} "
                f"expecting: {expected}"
            )
    yield b'{"predictions":'
    if len(outputs) == 1:
        yield from _parts(*outputs.items())
    else:
        size = sum(array.size for array in outputs.values())
        step, before = max(1, _tensors.BLOCK * expected // max(1, size)), b"["
        for start in range(0, expected, step):
            yield before
            before = b","
            some = {key: array[start : start + step] for key, array in outputs.items()}
            if step == 1:
                yield from _object({key: array[0, ...] for key, array in some.items()})
            else:
                columns = [_writable(key, array) for key, array in some.items()]
                yield _dump([dict(zip(some, row)) for row in zip(*columns)])[1:-1]
        yield b"]"
    yield b"}"


def _columns_of(outputs):
    """As `_rows_of`."""
    yield b'{"outputs":'
    yield from _parts(*outputs.items()) if len(outputs) == 1 else _object(outputs)
    yield b"}"


def _object(arrays):
    before = b"{"
    for item in arrays.items():
        yield before + _dump(item[0]) + b":"
        yield from _parts(item)
        before = b","
    yield b"}"


def _parts(item):
    """The parts of an array's JSON."""
    name, array = item
    if array.size <= _tensors.BLOCK:
        yield _dump(_writable(name, array))
        return
    step, before = max(1, _tensors.BLOCK * len(array) // array.size), b"["
    for start in range(0, len(array), step):
        yield before
        before = b","
        if step == 1:
            yield from _parts((name, array[start, ...]))
        else:
            yield _dump(_writable(name, array[start : start + step]))[1:-1]
    yield b"]"


def _dump(value):
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


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
        told = sorted(_told(model.directory)) if model else []
        listed.append({"name": name, "versions": versions, "card": card, "told": told})
    return {"grpc_port": grpc_port, "models": listed}


def _told(directory):
    """What a package tells people of its model: {name in a URL: path}, its card and pictures."""
    files = [TOLD]
    with contextlib.suppress(OSError):
        names = os.listdir(os.path.join(directory, FIGURES))
        files += [os.path.join(FIGURES, name) for name in names if name.endswith(".png")]
    paths = [os.path.join(directory, file) for file in files]
    found = [path for path in paths if os.path.isfile(path)]
    start = os.path.join(directory, EXTRA)
    return {os.path.relpath(path, start).replace(os.sep, "/"): path for path in found}


def told_file(models, name, file):
    """The bytes of a file that the newest version of a model tells of itself, None for no such."""
    *_, model = models.overview().get(name, (None,))
    path = _told(model.directory).get(file) if model else None
    try:
        with open(path or os.devnull, "rb") as opened:
            return opened.read() if path else None
    except OSError:
        return None


def _read_card(directory):
    try:
        with open(os.path.join(directory, CARD), "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


class Rest:
    """The HTTP server, with an event loop in a thread of its own.

    Args:
        frontend: `Frontend`.
        readers: `Readers` of bodies.
        pool: executor that runs the models.
        light: executor of what never waits for a run: status, metadata, the page's list.
        host: the address to listen on.
        port: 0 for any free one; `port` tells which after the start.
        metrics_path: where Prometheus reads, or None.
        timeout: seconds for a request.
        grpc_port: where gRPC listens, for the page to tell.
        allowed_hosts: names beside `host`, localhost and any address by which a request may call
            this server, and hosts whose pages may; "*" for all.
        cors: whether pages of all hosts may, as they are told by CORS headers.

    Raises (from `start`):
        OSError: the port is taken.
    """

    def __init__(
        self,
        frontend,
        readers,
        pool,
        light,
        host,
        port,
        metrics_path=METRICS_PATH,
        timeout=30.0,
        grpc_port=None,
        allowed_hosts=(),
        cors=False,
    ):
        self._frontend, self._pool, self._light = frontend, pool, light
        self._timeout, self._grpc_port = timeout, grpc_port
        self.host, self.port, self._metrics_path = host, port, metrics_path
        self._hosts, self._cors = {"localhost", host, *allowed_hosts}, cors
        self._silent, self._readers = {}, readers
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
        application = web.Application(middlewares=[self._admit])
        application.router.add_get("/", self._page)
        application.router.add_get("/ponderzoo/models", self._overview)
        application.router.add_get("/ponderzoo/models/{name}/{file:.+}", self._told)
        if self._metrics_path:
            application.router.add_get(self._metrics_path, self._metrics)
        application.router.add_route("*", "/v1{rest:(/.*)?}", self._call)
        # `stop` knows how long it may take; what clients do wrong is no news of this server's.
        logger = logging.Logger("ponderzoo.rest", logging.CRITICAL + 1)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=logger,
            shutdown_timeout=1e6,
            auto_decompress=False,
            handler_cancellation=True,
        )
        await self._runner.setup()
        self._listener = await self._loop.create_server(self._connection, self.host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _connection(self):
        """A connection that is closed if no head of a request comes."""
        connection = self._runner.server()
        self._silent[connection] = self._loop.call_later(PATIENCE, self._drop, connection)
        return connection

    def _drop(self, connection):
        self._silent.pop(connection)
        connection.close()
        if connection.transport:
            connection.transport.close()

    @web.middleware
    async def _admit(self, request, handler):
        """Pages of other hosts must not run models, even if they gave this server a name."""
        timer = self._silent.pop(request.protocol, None)
        if timer:
            timer.cancel()
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if not self._knows(host):
            return _refused(403, f"Host {host!r} is not this server's; see --allowed_hosts")
        if origin is not None and request.method != "OPTIONS" and not self._cors:
            place = urllib.parse.urlsplit(origin).netloc
            if place != host and not self._allows(_name(place)):
                return _refused(403, f"Origin {origin!r} is not this server's; see --allowed_hosts")
        return await handler(request)

    def _knows(self, host):
        name = _name(host)
        if not host or self._allows(name):
            return True
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return name in self._hosts

    def _allows(self, name):
        return "*" in self._hosts or name in self._hosts - {"localhost", self.host}

    async def _in(self, pool, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)

    async def _call(self, request):
        headers = _CORS if self._cors else {}
        if request.method == "OPTIONS":
            found = re.search("https?://", request.headers.get("Origin", ""))
            return web.Response(status=200 if found else 400, headers=headers)
        try:
            body = await self._read(request)
        except (TimeoutError, OSError, web.RequestPayloadError) as error:
            late = isinstance(error, TimeoutError)
            return _refused(408, "the body did not come") if late else _refused(400, str(error))
        except web.HTTPRequestEntityTooLarge:
            return _refused(413, f"a body may have {LARGEST_BODY} bytes")
        packed = "gzip" in request.headers.get("Content-Encoding", "")
        caller = Caller(self._timeout)
        pool = self._light if request.method == "GET" else self._pool
        path = re.sub("^https?://[^/]*", "", request.raw_path)
        arguments = self._frontend, self._readers, request.method, path, body, caller
        large = len(body) > _LARGE
        del body
        try:
            status, parts = await self._in(pool, _unpack_and_call, packed, *arguments)
        except asyncio.CancelledError:
            caller.leave()
            raise
        finally:
            del arguments
            if large or packed:
                # When the answer is sent, which may be as large.
                loop = asyncio.get_running_loop()
                loop.call_later(1.0, loop.run_in_executor, None, release_memory)
        size = sum(map(len, parts))
        if size <= _LARGE:
            return _json(b"".join(parts), status, headers)
        # As a whole it would be copied, and again for the socket, with Python's lock held.
        response = web.StreamResponse(status=status, headers=_headers(headers))
        response.content_length = size
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        return response

    async def _read(self, request):
        body = bytearray()
        while True:
            part = await asyncio.wait_for(request.content.readany(), PATIENCE)
            if not part:
                return body
            body += part
            if len(body) > LARGEST_BODY:
                raise web.HTTPRequestEntityTooLarge(LARGEST_BODY, len(body))

    async def _overview(self, request):
        answer = await self._in(self._light, overview, self._frontend.models, self._grpc_port)
        return _json(json.dumps(answer).encode())

    async def _told(self, request):
        name, file = request.match_info["name"], request.match_info["file"]
        found = await self._in(self._light, told_file, self._frontend.models, name, file)
        if found is None:
            return _refused(404, f"no file {file!r} of model {name!r}")
        kind = "image/png" if file.endswith(".png") else "text/plain; charset=utf-8"
        return web.Response(body=found, headers={"Content-Type": kind, **_HEADERS})

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
            self._listener.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._runner.cleanup(), grace)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1.0) if others else None

        self._wait(stop())
        self._end()

    def _end(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _unpack_and_call(packed, frontend, readers, method, path, body, caller):
    try:
        body = _unpacked(body, caller) if packed else body
    except StatusError as error:
        return refused(error)
    return call(frontend, readers, method, path, body, caller)


def _unpacked(body, caller):
    """What gzip packed, one part after another, so that little can never become much."""
    whole, unpacker = bytearray(), zlib.decompressobj(31)
    for start in range(0, len(body), _PACKED):
        rest = body[start : start + _PACKED]
        while rest:
            caller.left()
            try:
                whole += unpacker.decompress(rest, _LARGE)
            except zlib.error as error:
                raise invalid(f"the body is no gzip: {error}") from None
            if len(whole) > LARGEST_UNPACKED:
                text = f"the body has more than {LARGEST_UNPACKED} bytes when it is unpacked"
                raise invalid(text)
            rest = unpacker.unconsumed_tail
            if unpacker.eof:
                rest, unpacker = unpacker.unused_data, zlib.decompressobj(31)
    return whole


def _name(host):
    """The host without its port."""
    found = re.fullmatch(r"\[(.*)\](:\d+)?|(.*?)(:\d+)?", host, re.DOTALL)
    return (found[1] or found[3] or "").lower().rstrip(".")


def _refused(status, text):
    return _json(json.dumps({"error": text}, indent=4).encode(), status)


def _json(body, status=200, more=None):
    return web.Response(body=body, status=status, headers=_headers(more))


def _headers(more=None):
    return {"Content-Type": "application/json", **_HEADERS, **(more or {})}
