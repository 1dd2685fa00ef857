"""A client for TensorFlow Serving's Predict, and numpy's way into and out of its messages."""

import contextlib
import importlib.util
import math
import sys
import types

import grpc
import numpy as np

from ._session import STRING, TYPES

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", 2**31 - 1)]
"""Channel and server options; gRPC's own default refuses messages over 4 MiB."""

_NUMBERS = {dtype: number for number, dtype in TYPES.items()}
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "object": "string_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
}
_PARTS = {"complex64": "float32", "complex128": "float64"}


@contextlib.contextmanager
def light_protos():
    """Inside, `tensorflow.*_pb2` can be imported without `import tensorflow` (0.1 s for 3 s).

    The generated messages lie inside the package `tensorflow`, whose `__init__` loads everything.
    An empty package with the same folders stands in for it, and goes when the block ends: a later
    `import tensorflow` runs in full and takes over the message modules that are loaded already, so
    every message class exists once. Where TensorFlow is loaded, nothing happens. Meant for the top
    of a module; no other thread should import TensorFlow meanwhile.
    """
    spec = None if "tensorflow" in sys.modules else importlib.util.find_spec("tensorflow")
    if spec is None:
        yield
        return
    package = types.ModuleType("tensorflow")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = package
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with light_protos():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


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
        smaller = {"float64": "float32", "int64": "int32"}
        array = array.astype(smaller.get(array.dtype.name, array.dtype))
    if array.dtype not in _NUMBERS:
        names = sorted(dtype.name for dtype in _NUMBERS if dtype.name != "object")
        raise TypeError(f"a tensor holds text or one of {names}, not {array.dtype}")
    number = _NUMBERS[array.dtype]
    proto = tensor_pb2.TensorProto(dtype=number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if number == STRING:
        proto.string_val.extend(v.encode() if isinstance(v, str) else bytes(v) for v in flat)
    elif typed:
        parts = flat.view(_PARTS.get(array.dtype.name, array.dtype))
        getattr(proto, _FIELDS[array.dtype.name]).extend(parts.tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto


def from_proto(proto):
    """The numpy array of a `TensorProto`; strings come as `bytes` objects.

    Reads the typed fields and `tensor_content`. As in TensorFlow, the last value of a typed field
    stands for all that follow.

    Raises:
        ValueError: the message holds no tensor.
    """
    if proto.dtype not in TYPES:
        raise ValueError(f"type number {proto.dtype} is none of {sorted(TYPES)}")
    dtype, shape = TYPES[proto.dtype], [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError("the shape is not known")
    size = math.prod(shape)
    if proto.tensor_content:
        values = _read_content(proto.tensor_content, dtype, size)
    else:
        values = _read_field(getattr(proto, _FIELDS[dtype.name]), dtype)[:size]
        if len(values) < size:
            last = values[-1] if len(values) else (b"" if proto.dtype == STRING else 0)
            values = np.concatenate([values, np.full(size - len(values), last, dtype)])
    if len(values) != size:
        raise ValueError(f"{len(values)} values do not fill the shape {shape}")
    return values.reshape(shape)


def _read_field(field, dtype):
    if dtype.kind == "O":
        values = np.empty(len(field), object)
        values[:] = list(field)
        return values
    if dtype.name in _PARTS:
        return np.fromiter(field, _PARTS[dtype.name], len(field)).view(dtype)
    wide = "int64" if dtype.kind == "i" else "uint64" if dtype.kind == "u" else dtype
    return np.fromiter(field, wide, len(field)).astype(dtype)


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


class PredictError(RuntimeError):
    """The server refused, or could not be reached.

    Attributes:
        code: `grpc.StatusCode`.
        details: the server's own words.
    """

    def __init__(self, address, code, details):
        hint = ""
        if code == grpc.StatusCode.UNAVAILABLE:
            hint = f" Does a server listen on {address}?"
        super().__init__(f"{address} answered {code.name}: {details}{hint}")
        self.code, self.details = code, details


class Client:
    """Asks one server; works with the stock TensorFlow Serving and with `ponderzoo serve`.

    Args:
        address: `"host:port"` of the gRPC port.
        timeout: seconds to wait for each answer.

    Example:

    ```python
    with Client("localhost:8500") as client:
        answer = client.predict("act_parity", {"sequence": sequence})
    ```
    """

    def __init__(self, address, timeout=60.0):
        self.address, self.timeout = address, timeout
        self._channel = grpc.insecure_channel(address, options=UNLIMITED)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, model, inputs, signature=None, version=None):
        """Calls a signature of a model.

        Args:
            model: the name it is served under.
            inputs: dict: input name -> array or nested list; see `to_proto` for types.
            signature: None for the model's default one.
            version: None for the latest one.

        Returns:
            Dict: output name -> numpy array.

        Raises:
            PredictError: with the server's code and words.
            TypeError: an input cannot be made a tensor.
        """
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature or ""
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_proto(value))
        try:
            response = self._service.Predict(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise PredictError(self.address, error.code(), error.details()) from None
        return {name: from_proto(proto) for name, proto in response.outputs.items()}

    def close(self):
        """Closes the channel."""
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
