"""The wire: tensors in messages, the client, and what the server answers to right and wrong."""

import contextlib
import gzip
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from ponderzoo.export import _tensors
from ponderzoo.export._session import StatusError, in_words
from ponderzoo.export._tensors import from_proto, to_lists, to_proto
from ponderzoo.export.client import Client, PredictError
from ponderzoo.export.server import _reading, _rest
from ponderzoo.export.server._models import Model
from ponderzoo.export.server._refusals import Caller
from ponderzoo.export.server._server import Server
from serving import (
    NOT_FOUND,
    ONES,
    SAMPLE,
    ServerProcess,
    make_model,
    make_signatures,
    request,
    write_config,
    write_packages,
    write_unsound,
)
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


@pytest.fixture(scope="module")
def models():
    return [make_model(), make_model(bias=1.0)]


@pytest.fixture(scope="module")
def exports(models, tmp_path_factory):
    """Two versions of one model."""
    return write_packages(models, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def server(exports):
    with Server(exports) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def status(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus


DTYPES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"
)
HALVES = [np.dtype("float16"), tf.bfloat16.as_numpy_dtype]


@pytest.mark.parametrize("dtype", [*DTYPES.split(), *HALVES])
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 3)])
@pytest.mark.parametrize("typed", [False, True])
def test_messages_mean_what_tensorflow_reads_in_them(dtype, shape, typed):
    array = np.array(np.arange(np.prod(shape)).reshape(shape) * 3, dtype)
    proto = to_proto(array, typed)
    assert bool(proto.tensor_content) != typed or not array.size
    for read in (from_proto(proto), tf.make_ndarray(proto)):
        assert read.dtype == array.dtype and read.shape == shape
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(from_proto(tf.make_tensor_proto(array)), array)


def test_strings_travel_as_bytes():
    for value in (["ä", b"\x00b\x00"], np.array(["ä", b"\x00b\x00"], object)):
        assert from_proto(to_proto(value)).tolist() == ["ä".encode(), b"\x00b\x00"]
    assert from_proto(to_proto("word")).item() == b"word"
    packed = tensor_pb2.TensorProto(dtype=7, tensor_content=b"\x02\x80\x01" + b"ab" + b"c" * 128)
    packed.tensor_shape.dim.add(size=2)
    assert from_proto(packed).tolist() == [b"ab", b"c" * 128]


def test_strings_are_forgotten_in_place_and_numbers_are_not():
    texts, numbers = np.array([[b"a", b"b"]], object), np.ones(2)
    shown = texts[0]
    _tensors.forget([texts, numbers, ValueError("no tensor")])
    assert shown.tolist() == [None, None] and numbers.tolist() == [1, 1]


def test_text_in_json_is_bytes_in_base64_or_text_by_the_name():
    texts = np.array([[b"12", "ä"], ["", b"\xff"]], object)
    coded = [[{"b64": "MTI="}, {"b64": "w6Q="}], [{"b64": ""}, {"b64": "/w=="}]]
    assert to_lists(texts) == to_lists(texts, "next_bytes") == coded
    assert to_lists(texts, "sums") == [["12", "ä"], ["", "\N{REPLACEMENT CHARACTER}"]]
    assert to_lists(np.array(b"a", object)) == {"b64": "YQ=="}
    assert to_lists(texts[:0]) == [] and to_lists(np.ones((1, 2))) == [[1.0, 1.0]]


def written(write, outputs):
    return b"".join(write(outputs))


READABLE = [dtype for dtype in DTYPES.split()[:-2] if dtype != "uint16"]


@pytest.mark.parametrize("dtype", READABLE)
@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 0), (5, 2), (9,), (2, 3, 4)])
def test_rest_writes_every_number_so_that_it_reads_back(dtype, shape, monkeypatch):
    """Also where an answer is written in parts."""
    monkeypatch.setattr(_tensors, "BLOCK", 6)
    dtype = np.dtype(dtype)
    limits = [0, 1, 0.1, 1e-30, 3.4e38]
    if dtype.kind in "iu":
        limits = [np.iinfo(dtype).max, np.iinfo(dtype).min, 7]
    given = np.resize(np.array(limits, dtype), shape)
    (outputs,) = json.loads(written(_rest._columns_of, {"a": given})).values()
    np.testing.assert_array_equal(np.array(outputs, dtype).reshape(shape), given)
    (rows,) = json.loads(written(_rest._rows_of, {"a": given, "b": given})).values()
    assert [row["a"] for row in rows] == [row["b"] for row in rows] == outputs
    whole = [type(item) for item in np.array(outputs, object).ravel()]
    assert set(whole) <= {{"b": bool, "f": float}.get(dtype.kind, int)}


@pytest.mark.parametrize("shape", [(3,), (7,), (5, 3)])
def test_strings_are_the_same_in_parts(shape, monkeypatch):
    texts = np.array([str(number).encode() for number in range(np.prod(shape))], object)
    texts = texts.reshape(shape)
    whole = [*written(_rest._rows_of, {"a": texts, "b": texts}), *to_proto(texts).string_val]
    monkeypatch.setattr(_tensors, "BLOCK", 2)
    parts = [*written(_rest._rows_of, {"a": texts, "b": texts}), *to_proto(texts).string_val]
    assert parts == whole and from_proto(to_proto(texts)).tolist() == texts.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rest_writes_floats_in_the_fewest_digits_and_what_is_no_number_by_name(dtype):
    column = np.array([0.2, 1, 16777216, 1e-7, -0.0], dtype)
    found = json.loads(written(_rest._columns_of, {"a": column}), parse_float=str)["outputs"]
    assert [float(text) for text in found] == [0.2, 1.0, 16777216.0, 1e-7, 0.0]
    assert all("." in text or "e" in text for text in found)
    odd = np.array([[0.2, np.nan], [np.inf, -np.inf]], dtype)
    text = b'{"outputs":[[0.2, NaN],[Infinity, -Infinity]]}'
    assert written(_rest._columns_of, {"a": odd}) == text
    answer = written(_rest._rows_of, {"a": odd, "b": odd[:, 1]})
    rows = b'[{"a":[0.2, NaN],"b":NaN},{"a":[Infinity, -Infinity],"b":-Infinity}]'
    assert answer == b'{"predictions":' + rows + b"}"
    assert written(_rest._columns_of, {"a": odd[0, 1]}) == b'{"outputs":NaN}'
    assert written(_rest._columns_of, {"a": np.array(0.2, dtype)}) == b'{"outputs":0.2}'


@pytest.mark.parametrize(
    ("number", "dtype", "value"),
    [
        (1, "float32", [[1, 2.5], [float("nan"), float("-inf")]]),
        (1, "float32", [2**24 + 1, -(2**24) - 1, 3.4028234663852886e38, 1e39]),
        (2, "float64", [2**53 + 1, 1e308, 0.1]),
        (9, "int64", [2**63 - 1, -(2**63)]),
        (23, "uint64", [2**64 - 1, 0]),
        (4, "uint8", [255, 256, -1]),
        (10, "bool", [[True], [False]]),
        (1, "float32", [[], []]),
        (3, "int32", 7),
    ],
)
def test_rest_reads_numbers_as_they_are(number, dtype, value):
    array = _reading._array(_reading._parse(json.dumps({"a": value}).encode())["a"], number)
    assert array.dtype == dtype and array.shape == np.shape(value)
    with np.errstate(over="ignore"):
        expected = np.array(value, "int64" if dtype == "uint8" else dtype)
    np.testing.assert_array_equal(array, expected.astype(dtype))


@pytest.mark.parametrize(
    ("number", "value", "text"),
    [
        (1, True, "Type: True is not of expected type: float"),
        (1, None, "Type: Null is not of expected type: float"),
        (3, 2**31, "Type: Number is not of expected type: int32"),
        (3, 1.0, "Type: Number is not of expected type: int32"),
        (9, 2**63, "Type: Number is not of expected type: int64"),
        (23, -1, "Type: Number is not of expected type: uint64"),
        (10, 1, "Type: Number is not of expected type: bool"),
    ],
)
def test_rest_refuses_what_is_of_another_type(number, value, text):
    with pytest.raises(StatusError, match=text):
        _reading._array([0.5 if number < 3 else True if number == 10 else 0, value], number)


@pytest.mark.parametrize("named", [False, True])
def test_rest_reads_rows_as_columns(monkeypatch, named):
    """Also where a block of rows ends, and names the row that is wrong."""
    monkeypatch.setattr(_reading, "BLOCK", 4)
    column = np.arange(22.0).reshape(11, 2)
    types = {"a": 1, "b": 9} if named else {"a": 1}

    def read(rows):
        rows = [{"a": row, "b": 7} for row in rows] if named else rows
        return _reading._from_rows({"instances": rows}, types, Caller())

    arrays = read(column.tolist())
    np.testing.assert_array_equal(arrays["a"], column)
    assert not named or arrays["b"].tolist() == [7] * 11
    key = " key: a" if named else ""
    for wrong, text in (
        ([1.0, None], "JSON Value: null Type: Null is not of expected type: float"),
        ([1.0], "Expecting tensor size: 2 but got: 1"),
        ([[1.0, 2.0]], r"Expecting shape \[2\] but got: \[1,2\]"),
    ):
        text = f"Failed to process element: 9{key} of 'instances' list. Error: .*{text}"
        with pytest.raises(StatusError, match=text):
            read([*column[:9].tolist(), wrong, wrong])


def test_reading_ends_when_nobody_waits_for_it(monkeypatch):
    monkeypatch.setattr(_reading, "BLOCK", 4)
    gone, late = Caller(), Caller(timeout=0)
    gone.leave()
    for caller, text in ((gone, "the caller has left"), (late, "the time is over")):
        with pytest.raises(StatusError, match=text):
            _reading._array([1.0] * 9, 1, caller)
        with pytest.raises(StatusError, match=text):
            _reading._from_rows({"instances": [1.0] * 9}, {"a": 1}, caller)


def test_texts_of_errors_tell_no_more_than_the_start_of_a_value():
    endless = []
    endless.append(endless)
    assert _reading.shown(endless) == "[" * 256
    assert _reading.shown({"a": ["ä" * 10**6]}) == '{"a":["' + "ä" * 124
    assert _reading.shown([None, True, 0.5, {"b": []}]) == '[null,true,0.5,{"b":[]}]'


def test_gzip_is_unpacked_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(_rest, "LARGEST_UNPACKED", 10**6)
    text = b"ab" * 10**5
    assert _rest._unpacked(gzip.compress(text) + gzip.compress(text), Caller()) == text * 2
    with pytest.raises(StatusError, match="more than 1000000 bytes when it is unpacked"):
        _rest._unpacked(gzip.compress(bytes(10**7)), Caller())
    with pytest.raises(StatusError, match="the body is no gzip"):
        _rest._unpacked(text, Caller())


def test_values_that_stand_for_many_are_counted_in_bytes():
    proto = tensor_pb2.TensorProto(dtype=7, string_val=[b"a" * 1000])
    proto.tensor_shape.dim.add(size=100)
    assert from_proto(proto).tolist() == [b"a" * 1000] * 100
    with pytest.raises(ValueError, match="bytes of one value, 50000 are the most"):
        from_proto(proto, 50_000)


@pytest.fixture(scope="module")
def rest(exports):
    """`ask(headers)`: HTTP status of a model's status, by a server that knows `friend`."""
    with Server(exports, rest_port=0, allowed_hosts=["friend"]) as server:

        def ask(**headers):
            request = urllib.request.Request(f"{server.rest_address}/v1/models/dense")
            for name, value in headers.items():
                request.add_header(name, value.format(port=server.rest_port))
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                assert "is not this server's" in json.load(error)["error"]
                return error.code

        ask.port = server.rest_port
        yield ask


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "127.0.0.9:80"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "friend:80"}, 200),
        ({"Host": "stranger"}, 403),
        ({"Host": "stranger.localhost.example:80"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "https://friend"}, 200),
        ({"Origin": "http://stranger"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_rest_is_called_by_its_own_names_and_pages_alone(rest, headers, code):
    assert rest(**headers) == code


def test_cors_lets_pages_of_all_hosts_in(exports):
    with Server(exports, rest_port=0, cors=True) as server:
        request = urllib.request.Request(f"{server.rest_address}/v1/models/dense")
        request.add_header("Origin", "http://stranger")
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"


HEAD = b"POST /v1/models/dense:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"), [(b"", b""), (HEAD, b""), (HEAD + b"\r\n{", b"HTTP/1.1 408 ")]
)
def test_rest_does_not_wait_for_ever_for_the_rest_of_a_request(rest, monkeypatch, sent, answer):
    monkeypatch.setattr(_rest, "PATIENCE", 0.2)
    with socket.create_connection(("127.0.0.1", rest.port), timeout=10) as connection:
        connection.sendall(sent)
        received = connection.recv(2**16)
    assert received.startswith(answer) and bool(received) == bool(answer)
    assert rest() == 200


def test_plain_numbers_become_what_tensorflow_makes_of_them():
    assert from_proto(to_proto([1.5, 2])).dtype == "float32"
    assert from_proto(to_proto([1, 2])).dtype == "int32"
    assert from_proto(to_proto(np.float64(1))).dtype == "float64"
    with pytest.raises(TypeError, match="not datetime64"):
        to_proto(np.zeros(2, "datetime64[s]"))


def test_last_value_of_a_typed_field_stands_for_the_rest():
    proto = tensor_pb2.TensorProto(dtype=1, float_val=[1, 2])
    proto.tensor_shape.dim.add(size=4)
    assert from_proto(proto).tolist() == [1, 2, 2, 2]
    del proto.float_val[:]
    assert from_proto(proto).tolist() == [0, 0, 0, 0]


LIGHT = """
import sys
from ponderzoo.export import client
from ponderzoo.export.server import _server
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
proto = client.to_proto([[1.0, 2.0]])
import tensorflow as tf
assert type(tf.make_tensor_proto([1.0])) is type(proto)
assert tf.make_ndarray(proto).tolist() == [[1, 2]] and int(tf.constant(1) + 1) == 2
"""


def test_client_and_server_do_without_tensorflow_and_do_not_disturb_it():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_answers_equal_keras(server, models):
    inputs = {"state": SAMPLE, "scale": np.array([1, 2, 3], "float32")}
    with Client(server.address) as client:
        expected = make_signatures(models[1])["serve"].function(**inputs)
        for signature, version in ((None, None), ("serve", None), ("serve", 2)):
            answer = client.predict("dense", inputs, signature, version)
            assert sorted(answer) == ["norm", "state"]
            for key, value in expected.items():
                np.testing.assert_allclose(answer[key], value, 1e-5, 1e-6)
        answer = client.predict("dense", {"text": ["ab", b"c"]}, "shout")
        assert answer["text"].tolist() == [b"AB", b"C"]


def test_sample_request_of_the_package_is_answered(exports, stub):
    with open(exports / "dense" / "2" / "assets.extra" / "signatures.json") as file:
        described = json.load(file)
    for name, signature in described["signatures"].items():
        message = json_format.ParseDict(signature["grpc"], predict_pb2.PredictRequest())
        answer = stub.Predict(message)
        assert answer.model_spec.signature_name == name
        assert sorted(answer.outputs) == sorted(signature["outputs"])


def test_answer_names_the_model_and_fills_typed_fields(stub):
    answer = stub.Predict(request())
    spec = answer.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("dense", "serving_default", 2)
    state = answer.outputs["state"]
    assert len(state.float_val) == 12 and not state.tensor_content
    assert sorted(stub.Predict(request(outputs=["norm"])).outputs) == ["norm"]


def test_messages_above_four_mebibytes_pass(server):
    state = np.zeros((400_000, 4), "float32")
    with Client(server.address) as client:
        answer = client.predict("dense", {"state": state, "scale": state[:, 0]})
    assert answer["state"].shape == state.shape


def test_errors_of_a_graph_are_sentences_that_name_no_node(tmp_path):
    """Whether one thing is wrong or, as where all inputs are looked at, several at once."""

    def serve(bits, lengths):
        tf.debugging.Assert(tf.reduce_all(bits < 2), ["bits must be 0 or 1, got", bits])
        told = ["lengths must be 0 to", tf.shape(bits)[0], "and no more; got", lengths]
        tf.debugging.Assert(tf.reduce_all(lengths < 9), told)
        return {"sum": bits + lengths}

    archive = keras.export.ExportArchive()
    spec = [tf.TensorSpec((None,), "int32", name=name) for name in ("bits", "lengths")]
    archive.add_endpoint("serve", serve, input_signature=spec)
    archive.write_out(str(tmp_path / "1"), verbose=False)
    model = Model("checked", 1, str(tmp_path / "1"))
    wanted = {
        (5, 1): "bits must be 0 or 1, got [5 0]",
        (1, 9): "lengths must be 0 to [2] and no more; got [9 0]",
    }
    for (bits, length), text in [*wanted.items(), ((5, 9), None)]:
        inputs = {"bits": np.int32([bits, 0]), "lengths": np.int32([length, 0])}
        with pytest.raises(StatusError) as refused:
            model.run("serve", inputs)
        assert refused.value.message in ([text] if text else wanted.values())
    with pytest.raises(StatusError) as refused:
        model.run("serve", {"bits": np.zeros(2, "int32"), "lengths": np.zeros(3, "int32")})
    assert refused.value.message == "Incompatible shapes: [2] vs. [3]"
    model.close()


def test_several_errors_at_once_are_one():
    text = (
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT: assertion failed: [x must be 1, got] "
        "[[2 3][4 5]]\n\t [[{{function_node f}}{{node a/Assert}}]]\n\t [[b/_5]]\n  (1) "
        "INVALID_ARGUMENT: another\n\t [[{{node c}}]]\n0 successful operations.\n"
    )
    assert in_words(text) == "x must be 1, got [[2 3][4 5]]"


def test_long_texts_are_cut(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request(signature="x" * 2000))
    assert len(caught.value.details()) == 1024 + len("...TRUNCATED")
    assert caught.value.details().endswith("xx...TRUNCATED")


def test_metadata_holds_the_signatures(stub):
    question = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    question.model_spec.name = "dense"
    answer = stub.GetModelMetadata(question)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("dense", 2)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    names = ["__saved_model_init_op", "any", "near", "repeat", "serve", "serving_default", "shout"]
    assert sorted(signatures.signature_def) == names
    assert signatures.signature_def["serve"].inputs["scale"].dtype == 1


def test_status_lists_what_is_available(status):
    question = get_model_status_pb2.GetModelStatusRequest()
    question.model_spec.name = "dense"
    answers = status(question).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(answer.version, answer.state) for answer in answers] == [(2, available)]
    assert answers[0].status.error_code == 0
    for name, version, text in (
        ("dense", 7, "Could not find version 7 of model dense"),
        ("other", None, "Could not find any versions of model other"),
    ):
        question.model_spec.name = name
        question.model_spec.ClearField("version")
        if version:
            question.model_spec.version.value = version
        with pytest.raises(grpc.RpcError, match=text) as caught:
            status(question)
        assert caught.value.code() == NOT_FOUND


LATEST = "Servable not found for request: Latest(other)"


def test_client_tells_who_said_what(server):
    with Client(server.address) as client, pytest.raises(PredictError) as caught:
        client.predict("other", {"state": SAMPLE})
    assert caught.value.code == NOT_FOUND and caught.value.details == LATEST
    assert str(caught.value) == f"{server.address} answered NOT_FOUND: {LATEST}"
    with Client("127.0.0.1:1") as client, pytest.raises(PredictError, match="Does a server listen"):
        client.predict("dense", {"state": SAMPLE})
    slow = {"state": SAMPLE, "times": np.full(3, 10**9, "int32")}
    with Client(server.address, timeout=0.3) as client, pytest.raises(PredictError) as caught:
        client.predict("dense", slow, "repeat")
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_requests_of_many_threads_do_not_mix(server):
    wrong = []

    def ask(factor):
        scale = np.full(3, factor, "float32")
        with Client(server.address) as client:
            for _ in range(20):
                answer = client.predict("dense", {"state": SAMPLE, "scale": scale})["state"]
                single = client.predict("dense", {"state": SAMPLE, "scale": ONES})["state"]
                if not np.allclose(answer, single * factor, 1e-5):
                    wrong.append(factor)

    threads = [threading.Thread(target=ask, args=(factor,)) for factor in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_config_chooses_versions_and_labels(exports, tmp_path):
    block = f'name: "m" base_path: "{exports}/dense" model_platform: "tensorflow" '
    block += "model_version_policy { specific { versions: 1 versions: 2 } } "
    block += 'version_labels { key: "stable" value: 1 }'
    with Server(write_config(tmp_path / "chosen", block)) as server:
        assert [model.version for model in server.models] == [1, 2]
        with grpc.insecure_channel(server.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for asked, version in ((request("m"), 2), (request("m", label="stable"), 1)):
                assert stub.Predict(asked).model_spec.version.value == version


def test_one_model_directory_is_enough(exports):
    with Server(exports / "dense") as server:
        assert [(model.name, model.version) for model in server.models] == [("dense", 2)]
        with pytest.raises(OSError, match="cannot listen on"):
            Server(exports / "dense", port=server.port).start()


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        (['name: "m" base_path: "m" model_platform: "tensorflow"'], "absolute path or URI; got"),
        (['name: "m" base_path: "/m"'], "Illegal setting neither .* model name is m"),
        (
            ['name: "m" base_path: "/no" model_platform: "tensorflow"'],
            "m has no version to serve in /no",
        ),
        (['name: "m"', 'name: "m"'], "Illegal to list model m multiple times in config list"),
        (["nonsense"], "is no ModelServerConfig"),
    ],
)
def test_wrong_configs_are_refused(tmp_path, blocks, text):
    with pytest.raises(ValueError, match=text):
        Server(write_config(tmp_path / "models.config", *blocks)).start()
    (tmp_path / "models.config").unlink()
    with pytest.raises(FileNotFoundError, match="holds no model"):
        Server(tmp_path).start()


def test_model_that_does_not_load_stops_the_start(exports, tmp_path):
    broken = shutil.copytree(exports / "dense" / "2", tmp_path / "dense" / "2")
    shutil.rmtree(broken / "variables")
    with pytest.raises(StatusError, match="1 servable") as caught:
        Server(tmp_path).start()
    assert "{name: dense version: 2} due to error: " in str(caught.value)


def test_operation_that_nobody_knows_stops_the_start(exports, tmp_path):
    shutil.copytree(exports / "dense", tmp_path / "dense")
    write_unsound(tmp_path, "unknown")
    with pytest.raises(StatusError, match="Op type not registered 'TanhOfSomebody' in binary"):
        Server(tmp_path).start()


SERVE = """
import sys
from ponderzoo.export.server._server import serve
sys.exit(serve(sys.argv[1], port=0))
"""


def test_sigterm_answers_what_is_under_way_and_ends_well(exports, server):
    command = [sys.executable, "-c", SERVE, str(exports)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("dense/2 is ready on 127.0.0.1:")
        inputs = {"state": SAMPLE, "times": np.full(3, 150_000, "int32")}
        answers = []

        def ask(address):
            with Client(address) as client:
                answers.append(client.predict("dense", inputs, "repeat")["state"])

        asking = threading.Thread(target=ask, args=(line.split()[-1],))
        asking.start()
        time.sleep(0.3)
        assert not answers
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        asking.join()
    finally:
        process.kill()
    with Client(server.address) as client:
        expected = client.predict("dense", inputs, "repeat")["state"]
    np.testing.assert_allclose(answers[0], expected, 1e-5, 1e-6)


def test_second_signal_ends_at_once(exports):
    with (
        ServerProcess(exports, grace=3600) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        endless = request(signature="repeat", state=SAMPLE, times=np.full(3, 2**31 - 1, "int32"))
        asked = predict.future(endless)
        with contextlib.suppress(grpc.RpcError):  # of one processor the endless run has all
            predict(request(), timeout=2)
        server.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 128 + signal.SIGINT
        asked.cancel()
