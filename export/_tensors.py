"""Tensors as messages, and as what JSON can say."""

import base64
import contextlib
import functools
import importlib.machinery
import math
import sys
import types

import numpy as np

from ._session import HALVES, NUMBERS, STRING, TYPES, varint

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", 2**31 - 1)]
"""Channel and server options; gRPC's own default refuses messages over 4 MiB."""

MOST_AXES = 64

BLOCK = 2**14
"""Values that are read or written at once, before other threads have their turn."""

_HALVES = {TYPES[number] for number in HALVES}
_STRING = 32  # bytes that a string takes beside its own, in numpy and in TensorFlow
_SMALLER = {np.dtype("float64"): np.dtype("float32"), np.dtype("int64"): np.dtype("int32")}
_FIELDS = {
    "float_val": ("float32", "float32"),
    "double_val": ("float64", "float64"),
    "int_val": ("int32", "int8 int16 int32 uint8 uint16"),
    "int64_val": ("int64", "int64"),
    "uint32_val": ("uint32", "uint32"),
    "uint64_val": ("uint64", "uint64"),
    "bool_val": ("bool", "bool"),
    "scomplex_val": ("float32", "complex64"),
    "dcomplex_val": ("float64", "complex128"),
    "string_val": ("object", "object"),
    "half_val": ("int32", "bfloat16 float16"),
}
"""Typed fields of `TensorProto`: what protobuf keeps in them, and the tensors that use them."""


@contextlib.contextmanager
def light_protos():
    """Inside, `tensorflow.*_pb2` can be imported without `import tensorflow` (0.1 s for 3 s).

    The generated messages lie inside the package `tensorflow`, whose `__init__` loads everything.
    An empty package with the same folders stands in for it, and goes when the block ends: a later
    `import tensorflow` runs in full and takes over the message modules that are loaded already, so
    every message class exists once. Where TensorFlow is loaded, nothing happens. Meant for the top
    of a module; no other thread should import TensorFlow meanwhile.
    """
    there = sys.modules.get("tensorflow")
    # By the path alone: what `_outline` puts in the place of TensorFlow has no messages.
    spec = importlib.machinery.PathFinder.find_spec("tensorflow")
    if spec is None or (there and there.__path__):
        yield
        return
    package = types.ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = package
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
        if there:
            sys.modules["tensorflow"] = there


with light_protos():
    from tensorflow.core.framework import tensor_pb2


_TYPED = {
    NUMBERS[np.dtype(name)]: (field, np.dtype(kept))
    for field, (kept, names) in _FIELDS.items()
    for name in names.split()
}


@functools.lru_cache(1024)
def _head(number, shape):
    """A `TensorProto` of a type and a shape without values, serialized."""
    proto = tensor_pb2.TensorProto(dtype=number)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto.SerializeToString()


def to_proto(value, typed=False):
    """A `TensorProto` of an array, a list or a number.

    Args:
        value: a numpy array goes as it is. In lists and numbers, floats become float32 and integers
            int32, as TensorFlow does; text becomes UTF-8 bytes.
        typed: fill `float_val` and its like, as the stock server answers, and not `tensor_content`.

    Raises:
        TypeError: no tensor can hold the value.
    """
    array = np.asarray(value, order="C")
    if array.dtype.kind in "SU":
        # From the value itself: numpy's own bytes have lost the zeros at their ends.
        array = np.array(value, object)
    elif not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype(_SMALLER.get(array.dtype, array.dtype), copy=False)
    number = NUMBERS.get(array.dtype)
    if number is None:
        names = sorted(dtype.name for dtype in NUMBERS if dtype.name != "object")
        raise TypeError(f"a tensor holds text or one of {names}, not {array.dtype}")
    if typed or number == STRING:
        return tensor_pb2.TensorProto.FromString(b"".join(write(array)))
    proto = tensor_pb2.TensorProto.FromString(_head(number, array.shape))
    proto.tensor_content = array.tobytes()
    return proto


def write(array):
    """The bytes of a `TensorProto` with typed fields, as the stock server answers, in parts.

    Others have their turn between two parts, which a message as a whole would not let them.

    Args:
        array: in C's order, of a type that tensors have.
    """
    number, flat = NUMBERS[array.dtype], array.reshape(-1)
    parts, (name, kept) = [_head(number, array.shape)], _TYPED[number]
    if kept.kind in "fb":
        # Such a field's bytes are the array's, which protobuf would take in one by one.
        tag = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[name].number
        return parts + framed(tag, [flat.view("uint8")] if array.size else [])
    flat = flat.view("uint16") if number in HALVES else flat
    for block in _blocks(flat):
        values = block.tolist() if number != STRING else [_to_bytes(text) for text in block]
        parts.append(tensor_pb2.TensorProto(**{name: values}).SerializeToString())
    return parts


def framed(number, parts):
    """The parts of a message's field `number` that holds some parts, which have bytes as items."""
    size = sum(map(len, parts))
    return [varint(number << 3 | 2) + varint(size), *parts]


def forget(arrays):
    """Empties the arrays of strings among some, which to free at once would hold up all others."""
    for array in arrays:
        if isinstance(array, np.ndarray) and array.dtype.kind == "O":
            for block in _blocks(array.reshape(-1)):
                block[:] = None


def _blocks(values):
    return (values[start : start + BLOCK] for start in range(0, len(values), BLOCK))


def _to_bytes(text):
    if isinstance(text, str):
        return text.encode()
    # bytes(3) would be three zeros.
    return text if isinstance(text, bytes) else bytes(memoryview(text))


def from_proto(proto, largest_fill=math.inf):
    """The numpy array of a `TensorProto`; strings come as `bytes` objects.

    Reads the typed fields and `tensor_content`. As in TensorFlow, the last value of a typed field
    stands for all that follow.

    Args:
        proto: the message.
        largest_fill: bytes that such values may take; a few bytes could declare a tensor that no
            memory holds.

    Raises:
        ValueError: the message holds no tensor, or one that is filled with more.
    """
    return _read(proto, largest_fill)[0]


def from_protos(protos, largest_fill):
    """{name: array} of {name: `TensorProto`}, or the `ValueError` that says why there is none.

    Args:
        protos: the messages.
        largest_fill: bytes that may be filled by last values, as of `from_proto`, in all of them.
    """
    arrays = {}
    for name in sorted(protos):
        try:
            arrays[name], filled = _read(protos[name], largest_fill)
            largest_fill -= filled
        except (ValueError, OverflowError, MemoryError) as error:
            arrays[name] = ValueError(str(error))
    return arrays


def _read(proto, largest_fill):
    """The array, and the bytes in it for which one value stood."""
    number, shape = proto.dtype, proto.tensor_shape
    dtype = TYPES.get(number)
    if dtype is None:
        raise ValueError(f"type number {number} is none of {sorted(TYPES)}")
    if len(shape.dim) > MOST_AXES:
        raise ValueError(f"{len(shape.dim)} axes, {MOST_AXES} are the most")
    sizes = [dim.size for dim in shape.dim]
    if shape.unknown_rank or (sizes and min(sizes) < 0):
        raise ValueError("the shape is not known")
    size, content, filled = math.prod(sizes), proto.tensor_content, 0
    if content:
        values = _read_content(content, dtype, size)
    else:
        name, kept = _TYPED[number]
        values = _read_field(getattr(proto, name), dtype, kept)[:size]
        missing = size - len(values)
        if missing:
            last = values[-1] if len(values) else (b"" if number == STRING else 0)
            filled = missing * (len(last) + _STRING if number == STRING else dtype.itemsize)
            if filled > largest_fill:
                raise ValueError(f"{filled} bytes of one value, {largest_fill} are the most")
            values = np.concatenate([values, np.full(missing, last, dtype)])
    if len(values) != size:
        raise ValueError(f"{len(values)} values do not fill the shape {sizes}")
    return values.reshape(sizes), filled


def _read_field(field, dtype, kept):
    if dtype.kind == "O":
        values = np.empty(len(field), object)
        for part, block in zip(_blocks(values), _blocks(field)):
            part[:] = block
        return values
    # protobuf's own way to an array is one copy, but takes as long as 60 numbers one by one.
    values = np.fromiter(field, kept, len(field)) if len(field) < 60 else np.asarray(field, kept)
    if dtype in _HALVES:
        return values.astype("uint16").view(dtype)
    return values.view(dtype) if dtype.kind == "c" else values.astype(dtype, copy=False)


def _read_content(content, dtype, size):
    if dtype.kind != "O":
        return np.frombuffer(content, dtype).copy()
    # Strings: all lengths as varints, then all bytes.
    lengths, start = [], 0
    for _ in range(size):
        length = shift = 0
        while content[start : start + 1] > b"\x7f":
            length |= (content[start] & 127) << shift
            start, shift = start + 1, shift + 7
        if start == len(content):
            raise ValueError(f"the content ends before the lengths of {size} strings do")
        lengths.append(length | content[start] << shift)
        start += 1
    if sum(lengths) != len(content) - start:
        raise ValueError(f"strings of {sum(lengths)} bytes, content of {len(content) - start}")
    values = np.empty(size, object)
    for index, length in enumerate(lengths):
        values[index], start = content[start : start + length], start + length
    return values


def to_lists(array, name=None):
    """Nested lists that JSON can write, text in them as TensorFlow Serving's REST has it.

    Args:
        array: numbers or text.
        name: the output that this is. Its text is written as text, and what is no UTF-8 in it as
            question marks, but as `{"b64": ...}` where the name ends in `_bytes`. None for an
            input, whose text may be any bytes and is written as `{"b64": ...}`.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "OSU":
        return array.tolist()
    write = _to_base64 if name is None or name.endswith("_bytes") else _to_text
    return np.asarray(np.frompyfunc(write, 1, 1)(array), object).tolist()


def _to_base64(text):
    return {"b64": base64.b64encode(_to_bytes(text)).decode()}


def _to_text(text):
    return _to_bytes(text).decode(errors="replace")
