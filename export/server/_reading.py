"""What a request says: JSON as the stock server reads it, down to its words, and messages.

Light on purpose: it is imported by the processes that read large bodies, too (`_readers.py`).
"""

import base64
import binascii
import itertools
import json
import re

import numpy as np
import orjson
import rapidjson
from google.protobuf.message import DecodeError

from .._session import HALVES, STRING, TYPES, StatusError
from .._tensors import BLOCK, MOST_AXES, from_protos, light_protos
from .._version import DEFAULT_SIGNATURE
from ._refusals import invalid

with light_protos():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        inference_pb2,
        predict_pb2,
        regression_pb2,
    )

LARGE_FIELDS = {
    predict_pb2.PredictRequest: "inputs",
    classification_pb2.ClassificationRequest: "input",
    regression_pb2.RegressionRequest: "input",
    inference_pb2.MultiInferenceRequest: "input",
}
"""Where the tensors or the examples of a message are."""

LARGEST_FILL = 2**25
"""Bytes of a message's tensors that single values may stand for."""

LARGEST_REST = 2**16
"""Bytes that a message may have beside its tensors and examples."""

MOST_INPUTS = 1000
"""Inputs that a message may have; no signature comes near it."""

SHOWN = 256
"""Bytes of a value that an error text tells."""

UNREADABLE = (*HALVES, 17)
"""Types that the stock server has no way to from JSON, or back."""

_RESOURCE_EXHAUSTED, _INTERNAL = 8, 13
_CODES = {3: "INVALID_ARGUMENT", 12: "UNIMPLEMENTED"}
_NAMES = {1: "float", 2: "double", STRING: "string", 19: "half"}
_INTEGERS = {3: 31, 4: 31, 5: 31, 6: 31, 9: 63}
_UNSIGNED = {22: 32, 23: 64}
_FLOATS = (1, 2)


def parse_message(body, kind):
    """The message of a class that bytes hold. Raises `StatusError`, in gRPC's words."""
    try:
        return kind.FromString(body)
    except DecodeError:
        raise StatusError(_INTERNAL, "Exception deserializing request!") from None


def read_message(body, kind, caller=None):
    """A message, without the tensors or examples in it, and its inputs.

    Args:
        body: bytes.
        kind: the message's class, one of `LARGE_FIELDS`.
        caller: not asked.

    Returns:
        `(message, arrays)`: `{input: array}`, in place of an array the `ValueError` that says why
        there is none; empty where a message has examples.

    Raises:
        StatusError: it is no such message, or too large in what is not taken out of it.
    """
    message = parse_message(body, kind)
    arrays = read_tensors(message.inputs) if kind is predict_pb2.PredictRequest else {}
    message.ClearField(LARGE_FIELDS[kind])
    if len(body) > LARGEST_REST:
        message.DiscardUnknownFields()
        if message.ByteSize() > LARGEST_REST:
            text = f"a message may have {LARGEST_REST} bytes beside its tensors and examples"
            raise StatusError(_RESOURCE_EXHAUSTED, text)
    return message, arrays


_NUMBERS = {field.name: field.number for field in tensor_pb2.TensorProto.DESCRIPTOR.fields}
_SIZES = {1: 8, 5: 4}  # on the wire, by the kind that a tag tells
_COPIED = {_NUMBERS[name] for name in ("tensor_content", "float_val", "double_val")}


def weight(body):
    """Bytes of a `PredictRequest` that take time to read.

    protobuf copies the contents of tensors and floats at once, and takes all else one by one.
    """
    try:
        return _weight(memoryview(body), 0)
    except (IndexError, KeyError):  # damaged, or of a kind that nobody writes
        return len(body)


def _weight(view, depth):
    """As `weight`; the `PredictRequest` is at depth 0, an input at 1, its `TensorProto` at 2."""
    place, light, text = 0, 0, False
    while place < len(view) and place - light <= LARGEST_REST:
        tag, place = _varint(view, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _varint(view, place)
            text = text or (depth == 2 and number == _NUMBERS["dtype"] and value == STRING)
            continue
        size, place = (_SIZES[kind], place) if kind != 2 else _varint(view, place)
        if kind == 2 and number == 2 and depth < 2:
            light += size - _weight(view[place : place + size], depth + 1)
        elif kind == 2 and number in _COPIED and depth == 2:
            light += size
        place += size
    if place > len(view):
        raise IndexError
    return len(view) - (0 if text else light)


def _varint(view, place):
    """The number that stands there, and the place after it."""
    number = shift = 0
    while view[place] > 127 and shift < 63:
        number |= (view[place] & 127) << shift
        place, shift = place + 1, shift + 7
    return number | view[place] << shift, place + 1


def read_tensors(protos):
    """The arrays of a `PredictRequest`'s inputs, as `read_message` has them."""
    if len(protos) > MOST_INPUTS:
        raise invalid(f"{len(protos)} inputs, {MOST_INPUTS} are the most")
    return from_protos(protos, LARGEST_FILL)


def read_examples(body, caller=None):
    """The name of the signature that a body asks to classify or regress.

    Args:
        body: bytes.
        caller: not asked.

    Raises:
        StatusError: it could not be read; nothing here takes `tf.Example` otherwise.
    """
    document = _parse(body)
    name = _signature_name(document)
    _check_examples(document)
    return name


def read_inputs(body, signatures, caller=None):
    """The inputs that a body holds.

    Args:
        body: bytes.
        signatures: {name: {input: TensorFlow's number of its type}}, or the `StatusError` that is
            raised where the body can be read so far.
        caller: `Caller` who is asked between two blocks whether to go on, or None.

    Returns:
        `(name, rows, arrays)`: the signature's name as it came, whether the body holds rows, and
        `{input: array}`.

    Raises:
        StatusError: the body does not fit, in the stock server's words.
        RecursionError: it is nested too deep.
    """
    document = _parse(body)
    name = _signature_name(document)
    if isinstance(signatures, StatusError):
        raise signatures
    types = signatures.get(name or DEFAULT_SIGNATURE)
    if types is None:
        text = f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
        raise invalid(text)
    if not types:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    rows = "instances" in document
    if rows and "inputs" in document:
        raise _wrong(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if rows:
        arrays = _from_rows(document, types, caller)
    elif "inputs" in document:
        arrays = _from_columns(document["inputs"], types, caller)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    return name, rows, arrays


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
        first = None
        for value in values if isinstance(values, list) else [values]:
            if value is None or (isinstance(value, list | dict) and not _is_base64(value)):
                raise invalid(
                    f"Feature: {name} has element with unexpected JSON type: {_kind(value)}"
                )
            kind = _feature_kind(value)
            first = first or kind
            if kind != first:
                text = f"Unexpected element type in feature: {name} expecting type: {first}"
                raise invalid(text)
            if kind == "int64" and value >= 2**63:
                raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
            if isinstance(value, dict):
                _unescaped(value["b64"])


def _feature_kind(value):
    if isinstance(value, str | dict):
        return "bytes"
    # What has no room in 64 bits is a float in JSON.
    return "int64" if isinstance(value, int) and -(2**63) <= value < 2**64 else "float"


def _kind(value):
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return str(value) if isinstance(value, bool) else names.get(type(value), "Number")


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


def too_deep():
    """The refusal of what is nested deeper than anything here can follow."""
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
    for start in range(1, len(instances), BLOCK):
        rows = instances[start : start + BLOCK]
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
    if len(shape) >= MOST_AXES:  # of rows, one more than of a row
        raise too_deep()
    flat = [value]
    for level, size in enumerate(shape):
        below = []
        for block in _blocks(flat, caller):
            if set(map(type, block)) - {list} or set(map(len, block)) - {size}:
                raise _wrong_list(block, level, size, len(shape))
            # Few long lists in a block, or many short ones.
            for item in block if size > BLOCK else [itertools.chain.from_iterable(block)]:
                below.extend(item)
        flat = below
    if number not in TYPES or number in UNREADABLE or TYPES[number].kind == "c":
        if flat:
            name = type_name(number)
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
    for start in range(0, len(items), BLOCK):
        if caller:
            caller.left()
        yield items[start : start + BLOCK] if len(items) > BLOCK else items


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
    return _wrong(wrong, f"Type: {_kind(wrong)} is not of expected type: {type_name(number)}")


def type_name(number):
    """The stock server's name of a type."""
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
