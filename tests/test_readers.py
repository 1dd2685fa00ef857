"""Large bodies are read in other processes, to the same arrays and the same words."""

import contextlib
import gc
import json
import os
import signal
import types
import weakref

import numpy as np
import pytest
from ponderzoo.export._session import StatusError
from ponderzoo.export._tensors import light_protos
from ponderzoo.export.server import _readers, _reading, _rest
from ponderzoo.export.server._refusals import Caller

with light_protos():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import classification_pb2, predict_pb2

SIGNATURES = {
    "serve": {"x": 1},
    "two": {"text": 7, "whole": 9},
    "odd": {"half": 19},
    "none": {},
}


@pytest.fixture
def readers(monkeypatch):
    """Which send out everything, to one process at a time."""
    monkeypatch.setattr(_readers, "LARGE", 0)
    monkeypatch.setattr(_readers, "PROCESSES", 1)
    readers = _readers.Readers()
    yield readers
    readers.close()
    assert all(process.returncode is not None for process in readers.processes)


def outcome(read, *arguments):
    """What a reading says, so that two can be compared."""
    try:
        answer = read(*arguments)
    except Exception as error:
        return type(error), error.args
    if isinstance(answer, str):
        return answer
    *others, arrays = answer
    return *others, {key: told(array) for key, array in arrays.items()}


def told(array):
    """What an array, or the error in place of it, is."""
    if isinstance(array, Exception):
        return type(array), array.args
    return array.dtype, array.shape, array.tolist()


def body(**document):
    return json.dumps(document).encode()


ROWS = [{"text": {"b64": "AAE="}, "whole": 2**53 + 1}, {"text": "\u00e4", "whole": -1}]
BODIES = {
    "columns": body(inputs=[[1.5, float("nan")], [2, 1e39]]),
    "rows": body(signature_name="serve", instances=[[1.5], [2]]),
    "text": body(signature_name="two", instances=ROWS),
    "no text": body(signature_name="two", inputs={"text": [], "whole": [[]]}),
    "a scalar": body(inputs=1),
    "no halves": body(signature_name="odd", inputs=[]),
    "halves": body(signature_name="odd", inputs=[1]),
    "no inputs": body(signature_name="none", inputs=[1]),
    "another signature": body(signature_name="other", inputs=[1]),
    "a wrong row": body(instances=[[1.5], [None]]),
    "no JSON": b"{",
    "more than JSON": b'{"inputs": 1} 2',
    "nothing": b"",
    "deep": b'{"inputs":' + b"[" * 100_000,
    "half a pair": b'{"signature_name": "\\ud800"}',
}


def test_what_another_process_reads_is_the_same(readers):
    for case, text in BODIES.items():
        for signatures in (SIGNATURES, StatusError(5, "no model")):
            here = outcome(_reading.read_inputs, text, signatures)
            there = outcome(readers.read, "read_inputs", Caller(60), text, signatures)
            assert str(here) == str(there), case
        here = outcome(_reading.read_examples, text)
        assert here == outcome(readers.read, "read_examples", Caller(60), text), case
    examples = body(signature_name="a", examples=[{"x": 1}])
    assert readers.read("read_examples", Caller(60), examples) == "a"
    assert len(readers.processes) == 1


def tensor(dtype, *sizes, **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


TENSORS = {
    "floats": tensor(1, 2, float_val=[0.5, 1.5]),
    "content": tensor(1, 2, tensor_content=b"\0" * 8),
    "filled": tensor(9, 3, int64_val=[-1]),
    "halves": tensor(19, 1, half_val=[15360]),
    "brain": tensor(14, 1, half_val=[16256]),
    "texts": tensor(7, 2, string_val=[b"", b"\xff\0"]),
    "texts as content": tensor(7, 2, tensor_content=b"\1\2abc"),
    "nothing": tensor(1, 0),
    "no type": tensor(0),
    "too short": tensor(1, 3, tensor_content=b"123"),
    "too much of one value": tensor(1, 2**23 + 1, float_val=[1]),
    "an endless shape": tensor(1, 2**62, 2**62, float_val=[1]),
}


def message(kind=predict_pb2.PredictRequest, **tensors):
    question = kind()
    question.model_spec.name = "dense"
    for name, proto in tensors.items():
        question.inputs[name].CopyFrom(proto)
    return question


def test_messages_that_another_process_reads_are_the_same(readers):
    cases = {name: message(**{name: proto}) for name, proto in TENSORS.items()}
    cases["all at once"] = message(**TENSORS)
    cases["too many"] = message(**{str(number): tensor(1) for number in range(1001)})
    cases["nothing"] = predict_pb2.PredictRequest()
    cases["a filter"] = predict_pb2.PredictRequest(output_filter=["a", "a"])
    cases["a long filter"] = predict_pb2.PredictRequest(output_filter=["a" * 2**16])
    examples = message(classification_pb2.ClassificationRequest)
    examples.input.example_list.examples.add()
    cases["examples"] = examples
    for case, question in cases.items():
        arguments = question.SerializeToString(), type(question)
        here = outcome(_reading.read_message, *arguments)
        there = outcome(readers.read, "read_message", Caller(60), *arguments)
        assert str(here) == str(there), case
        assert "example_list" not in str(there)
    for damaged in (b"\xff", message(**TENSORS).SerializeToString()[:-1]):
        with pytest.raises(StatusError, match="Exception deserializing request!"):
            readers.read("read_message", Caller(60), damaged, predict_pb2.PredictRequest)


def test_single_values_stand_for_so_many_bytes_of_a_message_and_no_more():
    half = tensor(1, 2**22 + 2, float_val=[1])
    _, arrays = _reading.read_message(
        message(a=half, b=half).SerializeToString(), predict_pb2.PredictRequest
    )
    assert arrays["a"].nbytes == 2**24 + 8 and isinstance(arrays["b"], ValueError)


def test_what_protobuf_copies_at_once_has_no_weight():
    many, large = np.ones(2**17), 2**19
    content = tensor(9, 2**17, tensor_content=many.tobytes())
    light = {
        "content": content,
        "floats": tensor(1, 2**17, float_val=many),
        "doubles": tensor(2, 2**17, double_val=many),
        "two": content,
    }
    for case in (*([name] for name in light), list(light)):
        question = message(**{name: light[name] for name in case}).SerializeToString()
        assert len(question) > large and _reading.weight(question) < 1000
    heavy = {
        "whole": tensor(9, 2**17, int64_val=many.astype(int)),
        "texts": tensor(7, 2**17, string_val=[b""] * 2**17),
        "texts as content": tensor(7, 2**17, tensor_content=bytes(2**17)),
    }
    for name, proto in heavy.items():
        question = message(content=content, **{name: proto}).SerializeToString()
        assert _readers.LARGE < _reading.weight(question) <= len(question)
    filters = predict_pb2.PredictRequest(output_filter=[""] * 2**17).SerializeToString()
    assert _reading.weight(filters) == len(filters)


def test_what_is_damaged_or_odd_has_a_weight():
    whole = message(**TENSORS).SerializeToString()
    for cut in range(len(whole)):
        assert 0 <= _reading.weight(whole[:cut]) <= len(whole)
    assert _reading.weight(b"\xff" * 100_000) == 100_000
    assert _reading.weight(b"\x0b" * 100) == 100  # a group


def read(readers, caller=None):
    _, _, arrays = readers.read("read_inputs", caller or Caller(60), BODIES["rows"], SIGNATURES)
    return arrays["x"].tolist()


def test_large_bodies_are_read_elsewhere(readers, monkeypatch):
    def here(*_):
        raise AssertionError("read in this process")

    monkeypatch.setattr(_reading, "read_inputs", here)
    assert read(readers) == [[1.5], [2]]
    monkeypatch.setattr(_readers, "LARGE", 1000)
    with pytest.raises(AssertionError, match="this process"):
        read(readers)


def test_arrays_of_another_process_can_be_written(readers):
    _, _, arrays = readers.read("read_inputs", Caller(60), BODIES["rows"], SIGNATURES)
    arrays["x"] += 1
    np.testing.assert_array_equal(arrays["x"], [[2.5], [3]])


def test_who_has_no_time_left_waits_for_no_process(readers):
    read(readers)
    (first,) = readers.processes
    os.kill(first.pid, signal.SIGSTOP)
    with pytest.raises(StatusError, match="the time is over"):
        read(readers, Caller(0.2))
    assert first.poll() == -signal.SIGKILL
    assert read(readers) == [[1.5], [2]]
    assert first not in readers.processes


def test_who_has_left_leaves_no_process_behind(readers):
    caller = Caller()
    read(readers, caller)
    (first,) = readers.processes
    caller.leave()
    assert first.poll() is None  # it may be another caller's by now
    with pytest.raises(StatusError, match="the caller has left"):
        read(readers, caller)


class Body(bytearray):
    """Which can be asked whether it is still there."""


@pytest.mark.parametrize("late", [False, True])
def test_no_refusal_keeps_a_body(readers, late):
    read(readers)
    (process,) = readers.processes
    large = Body(b"[1," * 10_000)
    kept = weakref.ref(large)
    model = types.SimpleNamespace(signatures={})
    models = types.SimpleNamespace(use=lambda spec: contextlib.nullcontext(model))
    frontend, path = types.SimpleNamespace(models=models), "/v1/models/m:predict"
    gc.disable()
    try:
        if late:
            os.kill(process.pid, signal.SIGSTOP)
        code, _ = _rest.call(frontend, readers, "POST", path, large, Caller(0.2 if late else 60))
        del large
        assert code == (504 if late else 400) and kept() is None
    finally:
        gc.enable()


def test_a_process_that_has_died_is_replaced(readers):
    read(readers)
    (first,) = readers.processes
    first.kill()
    first.wait()
    assert read(readers) == [[1.5], [2]]


def test_what_takes_too_much_memory_is_refused(readers, monkeypatch):
    monkeypatch.setattr(_readers, "MEMORY", 2**28)
    objects = b'{"inputs":[' + b'{"a":1},' * 1_500_000 + b"[]]}"
    with pytest.raises(StatusError, match="takes more memory to read") as refused:
        readers.read("read_inputs", Caller(60), objects, SIGNATURES)
    assert refused.value.code == 8
    assert read(readers) == [[1.5], [2]]
