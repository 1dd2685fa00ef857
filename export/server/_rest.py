"""TensorFlow Serving's REST interface, the metrics and the page, on the same `Frontend` as gRPC."""

import asyncio
import base64
import binascii
import contextlib
import gc
import importlib.resources
import ipaddress
import itertools
import json
import logging
import os
import re
import threading
import urllib.parse
import zlib

import numpy as np
import orjson
import rapidjson
from aiohttp import web
from google.protobuf import json_format

from .. import _tensors
from .._config import METRICS_PATH
from .._session import HALVES, NUMBERS, STRING, TYPES, StatusError, release_memory
from .._version import CARD, DEFAULT_SIGNATURE, EXTRA, FIGURES, TOLD
from ._metrics import CONTENT_TYPE
from ._models import State
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

SHOWN = 256
"""Bytes of a value that an error text tells."""

_BLOCK = 2**14  # values or rows that are read at once, before others have their turn
_LARGE = 2**20  # bytes of a body after which memory is given back
_OF = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_CALL = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_OF}:(?P<method>classify|regress|predict)", _FLAGS
)
_LOOK = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_OF}(?P<metadata>/metadata)?", _FLAGS)
_HTTP = {1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400}
_HTTP |= {12: 501, 14: 503, 16: 401}
_CODES = {3: "INVALID_ARGUMENT", 12: "UNIMPLEMENTED"}
_NAMES = {1: "float", 2: "double", STRING: "string", 19: "half"}
_INTEGERS = {3: 31, 4: 31, 5: 31, 6: 31, 9: 63}
_UNSIGNED = {22: 32, 23: 64}
_FLOATS = (1, 2)
_UNREADABLE = (*HALVES, 17)  # the stock server has no way from JSON to them, or back
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


def call(frontend, method, path, body, caller):
    """Answers a request below `/v1/`.

    Args:
        frontend: `Frontend`.
        method: the HTTP method.
        path: path and query as they came, not decoded.
        body: bytes.
        caller: `Caller`, who waits.

    Returns:
        `(HTTP status, bytes)`, JSON.
    """
    try:
        return 200, _call(frontend, method, path, body, caller)
    except StatusError as error:
        refusal = error
    except RecursionError:
        refusal = _too_deep()
    except Exception as error:
        refusal = internal(error)
    return refused(refusal)


def refused(error):
    """`(HTTP status, bytes)` that tell of a `StatusError`."""
    text = json.dumps({"error": cut(error.message)}, indent=4, ensure_ascii=False)
    return _HTTP.get(error.code, 500), text.encode(errors="replace")


def _call(frontend, method, path, body, caller):
    found = _CALL.fullmatch(path) if method == "POST" else None
    if found:
        if found["method"].lower() == "predict":
            return _predict(frontend, found, body, caller)
        document = _parse(body)
        kinds = {
            "classify": (classification_pb2.ClassificationRequest, frontend.classify),
            "regress": (regression_pb2.RegressionRequest, frontend.regress),
        }
        kind, ask = kinds[found["method"].lower()]
        request = kind()
        _fill_spec(request.model_spec, found)
        request.model_spec.signature_name = _signature_name(document)
        _check_examples(document)
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


def _check_examples(document):
    """Refuses what could not be read, although nothing here takes `tf.Example`."""
    if "context" in document:
        _check_example(document["context"])
    if "examples" not in document:
        text = "When method is classify, key 'examples' is expected and was not found"
        raise _wrong(document, text)
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _wrong(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _wrong(document, "'examples' value is an empty array")
    for example in examples:
        _check_example(example)


def _check_example(example):
    if not isinstance(example, dict):
        raise invalid(f"Example must be JSON object but got JSON {_kind(example)}")
    for name, values in example.items():
        for value in values if isinstance(values, list) else [values]:
            if value is None or (isinstance(value, list | dict) and not _is_base64(value)):
                raise invalid(
                    f"Feature: {name} has element with unexpected JSON type: {_kind(value)}"
                )


def _kind(value):
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return str(value) if isinstance(value, bool) else names.get(type(value), "Number")


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


def _predict(frontend, found, body, caller):
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
        tensors = _from_rows(document, types, caller)
    elif "inputs" in document:
        tensors = _from_columns(document["inputs"], types, caller)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    document.clear()
    for key, array in tensors.items():
        request.inputs[key].CopyFrom(_tensors.to_proto(array))
    tensors.clear()
    response = frontend.predict(request, caller, entry="REST")
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


_FAULT = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
_MARK = b"\xef\xbb\xbf"
_MORE = "The document root must not be followed by other values."


def _parse_leniently(body):
    """By the stock server's own parser: knows NaN and Inf, and stops where the document ends."""
    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode(errors="replace").encode()
    mark = len(_MARK) if body.startswith(_MARK) else 0
    try:
        return _rapid(body[mark:])
    except rapidjson.JSONDecodeError as error:
        offset, text = _FAULT.match(str(error)).groups()
        end = mark + int(offset)
        if text == _MORE:
            return _rapid(body[mark:end])
        raise invalid(f"JSON Parse error: {text} at offset: {end}") from None


def _rapid(body):
    return rapidjson.loads(body, number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


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
    return invalid(f"JSON Value: {shown(value)} {text}")


def shown(value):
    """The first `SHOWN` bytes of a value's JSON; no more of it is written."""
    parts, size = [], 0
    for part in _pieces(value):
        parts.append(part)
        size += len(part)
        if size >= SHOWN:
            break
    return "".join(parts).encode(errors="replace")[:SHOWN].decode(errors="ignore")


def _pieces(value):
    if isinstance(value, list | dict):
        yield "[" if isinstance(value, list) else "{"
        for number, item in enumerate(value):
            if number:
                yield ","
            if isinstance(value, dict):
                yield from _pieces(item)
                yield ":"
                item = value[item]
            yield from _pieces(item)
        yield "]" if isinstance(value, list) else "}"
    else:
        short = value[:SHOWN] if isinstance(value, str) else value
        yield json.dumps(short, ensure_ascii=False)


def _is_base64(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _from_rows(document, types, caller):
    instances = document["instances"]
    if not isinstance(instances, list):
        raise _wrong(document, "Expecting 'instances' to be an list/array")
    if not instances:
        raise _wrong(document, "No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    objects = _is_object(instances[0])
    first = _read_rows(instances[:1], 0, objects, types, caller, {})
    blocks = [first]
    for start in range(1, len(instances), _BLOCK):
        rows = instances[start : start + _BLOCK]
        # A block is read as columns are; where that fails, one of its rows tells why.
        block = _read_block(rows, objects, types, caller, first)
        blocks.append(block or _read_rows(rows, start, objects, types, caller, first))
    return {key: np.concatenate([block[key] for block in blocks]) for key in types}


def _read_block(rows, objects, types, caller, first):
    """The arrays of many rows by key, or None where they are not all like the first one."""
    if objects:
        if any(type(row) is not dict or row.keys() != types.keys() for row in rows):
            return None
        columns = {key: [row[key] for row in rows] for key in types}
    elif any(map(_is_object, rows)):
        return None
    else:
        columns = {next(iter(types)): rows}
    try:
        arrays = {key: _array(columns[key], number, caller) for key, number in types.items()}
    except StatusError as error:
        if error.code not in _CODES:
            raise
        return None
    like = all(array.shape[1:] == first[key].shape[1:] for key, array in arrays.items())
    return arrays if like else None


def _read_rows(rows, start, objects, types, caller, first):
    """As `_read_block`, row by row. Raises `StatusError` for the first row that is wrong."""
    arrays, only = {key: [] for key in types}, next(iter(types))
    for number, row in enumerate(rows, start):
        is_object = _is_object(row)
        if objects != is_object:
            text = "object but got list" if objects else "value/list but got object"
            raise invalid(f"Expecting {text} at item {number} of input list")
        for key, value in (row if objects else {only: row}).items():
            try:
                if key not in types:
                    raise invalid(f"JSON object: does not have named input: {key}")
                array = _array(value, types[key], caller)
                _check_like(first[key][0] if first else array, array)
            except StatusError as error:
                if error.code not in _CODES:
                    raise
                which = f" key: {key}" if objects else ""
                raise invalid(
                    f"Failed to process element: {number}{which} of 'instances' list. "
                    f"Error: {_CODES[error.code]}: {error.message}"
                ) from None
            arrays[key].append(array)
        if objects and set(row) != set(types):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{shown(row)} keys must be equal to: {','.join(types)}"
            )
    return {key: np.stack(some) for key, some in arrays.items()}


def _is_object(row):
    return isinstance(row, dict) and not _is_base64(row)


def _check_like(before, array):
    if before.size != array.size:
        raise invalid(f"Expecting tensor size: {before.size} but got: {array.size}")
    if before.shape != array.shape:
        old, new = (",".join(map(str, one.shape)) for one in (before, array))
        raise invalid(f"Expecting shape [{old}] but got: [{new}]")


def _from_columns(inputs, types, caller):
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(types) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        return {key: _array(inputs, number, caller) for key, number in types.items()}
    for key in types:
        if key not in inputs:
            raise invalid(f"Missing named input: {key} in 'inputs' object.")
    return {key: _array(inputs[key], number, caller) for key, number in types.items()}


def _array(value, number, caller=None):
    """The array of TensorFlow's type `number` that nested lists hold.

    Between two blocks of it the caller is asked whether to go on.
    """
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) >= _tensors.MOST_AXES:  # of rows, one more than of a row
        raise _too_deep()
    flat = [value]
    for level, size in enumerate(shape):
        below = []
        for block in _blocks(flat, caller):
            if set(map(type, block)) - {list} or set(map(len, block)) - {size}:
                raise _wrong_list(block, level, size, len(shape))
            # Few long lists in a block, or many short ones.
            for item in block if size > _BLOCK else [itertools.chain.from_iterable(block)]:
                below.extend(item)
        flat = below
    if number not in TYPES or number in _UNREADABLE or TYPES[number].kind == "c":
        if flat:
            name = _type_name(number)
            text = f"Conversion of JSON Value: {shown(flat[0])} to type: {name}"
            raise StatusError(12, text)
        return np.empty(shape, TYPES.get(number, object))
    array, start = np.empty(len(flat), TYPES[number]), 0
    for block in _blocks(flat, caller):
        kinds = set(map(type, block))
        if list in kinds:
            rank = len(shape)
            raise invalid(f"Encountered list at unexpected level: {rank} expected < {rank}")
        with np.errstate(over="ignore"):
            array[start : start + len(block)] = _values(block, kinds, number)
        start += len(block)
    return array.reshape(shape)


def _blocks(items, caller):
    """Parts of a list; others have their turn in between, and the caller may leave."""
    for start in range(0, len(items), _BLOCK):
        if caller:
            caller.left()
        yield items[start : start + _BLOCK] if len(items) > _BLOCK else items


def _wrong_list(items, level, size, rank):
    for item in items:
        if not isinstance(item, list):
            text = f"found at incorrect level: {level + 1} in the JSON DOM. "
            return _wrong(item, f"{text}Expected at level: {rank}")
        if len(item) != size:
            return invalid(
                f"Encountered list at unexpected size: {len(item)} at level: {level} "
                f"expected size: {size}"
            )


def _values(flat, kinds, number):
    """`flat`, which has items of the types `kinds`, as the tensor's type takes it."""
    if number == STRING:
        return [_string(item) for item in flat]
    if number in _FLOATS:
        if kinds - {int, float}:
            raise _wrong_type(flat, number, (int, float))
        return np.array(flat, "float64")
    if number in _INTEGERS or number in _UNSIGNED:
        lowest = -(2 ** _INTEGERS[number]) if number in _INTEGERS else 0
        highest = 2 ** (_INTEGERS.get(number) or _UNSIGNED[number])
        if kinds - {int} or (flat and not lowest <= min(flat) <= max(flat) < highest):
            raise _wrong_type(flat, number, (int,), lowest, highest)
        # Small types wrap, as they do where a message's int_val is read.
        wide = "uint64" if number in _UNSIGNED else "int64"
        return np.array(flat, wide).astype(TYPES[number])
    if kinds - {bool}:
        raise _wrong_type(flat, number, (bool,))
    return flat


def _wrong_type(flat, number, kinds, lowest=-float("inf"), highest=float("inf")):
    wrong = next(
        item
        for item in flat
        # What is not a number is not in order with any; NaN is a number here.
        if type(item) not in kinds or (kinds == (int,) and not lowest <= item < highest)
    )
    return _wrong(wrong, f"Type: {_kind(wrong)} is not of expected type: {_type_name(number)}")


def _type_name(number):
    return _NAMES.get(number) or (TYPES[number].name if number in TYPES else str(number))


def _string(item):
    if isinstance(item, str):
        return _encodable(item).encode()
    if not isinstance(item, dict):
        raise _wrong_type([item], STRING, (str,))
    if not _is_base64(item):
        raise _wrong(item, "not formatted correctly for base64 data")
    return _unescaped(item["b64"])


_SPACE = str.maketrans("", "", " \t\n\v\f\r")


def _unescaped(text):
    """Bytes of base64 that may lack its padding and have blanks, as the stock server reads it."""
    text = text.translate(_SPACE)
    bare = text.rstrip("=.")
    missing, given = -len(bare) % 4, len(text) - len(bare)
    try:
        if given not in (0, missing):
            raise ValueError(f"{given} signs fill {missing} places")
        return base64.b64decode(bare + "=" * missing, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _writable(name, array):
    """The array, or what stands for it, as orjson writes it."""
    if array.dtype.kind == "O":
        return _tensors.to_lists(array, name)
    number = NUMBERS[array.dtype]
    if number in _UNREADABLE or array.dtype.kind == "c":
        text = f"Failed to write JSON value for tensor type: {_type_name(number)}"
        raise invalid(text)
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
        if not len(array):
            raise invalid(f"Tensor name: {key} has invalid batch size: 0")
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
        self._silent = {}
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
        arguments = self._frontend, request.method, path, body, caller
        large = len(body) > _LARGE
        del body
        try:
            status, answer = await self._in(pool, _unpack_and_call, packed, *arguments)
        except asyncio.CancelledError:
            caller.leave()
            raise
        finally:
            del arguments
            if large or packed:
                await self._in(None, release_memory)
        return _json(answer, status, headers)

    async def _read(self, request):
        body = bytearray()
        while True:
            part = await asyncio.wait_for(request.content.readany(), PATIENCE)
            if not part:
                return bytes(body)
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


def _unpack_and_call(packed, frontend, method, path, body, caller):
    try:
        body = _unpacked(body, caller) if packed else body
    except StatusError as error:
        return refused(error)
    if len(body) < _LARGE:
        return call(frontend, method, path, body, caller)
    with _collector.off():
        return call(frontend, method, path, body, caller)


class _Collector:
    """Python's collector of circles, off while large documents are read.

    It would go over all that was read again and again, and hold up everybody meanwhile.
    """

    def __init__(self):
        self._lock, self._users = threading.Lock(), 0

    @contextlib.contextmanager
    def off(self):
        with self._lock:
            self._users += 1
            gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    gc.enable()


_collector = _Collector()


def _unpacked(body, caller):
    """What gzip packed, one part after another, so that little can never become much."""
    parts, size, unpacker = [], 0, zlib.decompressobj(31)
    while body:
        caller.left()
        try:
            part = unpacker.decompress(body, _LARGE)
        except zlib.error as error:
            raise invalid(f"the body is no gzip: {error}") from None
        size += len(part)
        if size > LARGEST_UNPACKED:
            text = f"the body has more than {LARGEST_UNPACKED} bytes when it is unpacked"
            raise invalid(text)
        parts.append(part)
        body = unpacker.unconsumed_tail
        if unpacker.eof:
            body, unpacker = unpacker.unused_data, zlib.decompressobj(31)
    return b"".join(parts)


def _name(host):
    """The host without its port."""
    found = re.fullmatch(r"\[(.*)\](:\d+)?|(.*?)(:\d+)?", host, re.DOTALL)
    return (found[1] or found[3] or "").lower().rstrip(".")


def _refused(status, text):
    return _json(json.dumps({"error": text}, indent=4).encode(), status)


def _json(body, status=200, more=None):
    headers = {"Content-Type": "application/json", **_HEADERS, **(more or {})}
    return web.Response(body=body, status=status, headers=headers)
