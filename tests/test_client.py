"""The clients against a server of a few lines: retries, TLS, versions, and what errors say."""

import asyncio
import concurrent.futures
import socket
import threading
import time

import grpc
import numpy as np
import pytest
from ponderzoo.export._tensors import UNLIMITED, from_proto, to_proto
from ponderzoo.export.client import AsyncClient, Client, PredictError
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

CODE = grpc.StatusCode
DTYPES = "bool int8 uint16 int32 uint64 float32 complex64 object"
FULL = "The batch scheduling queue to which this task was submitted is full"


class Fake(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Answers with what it was asked, after it has refused as often as `refusals` says."""

    def __init__(self):
        self.asked, self.times, self.refusals = [], [], []

    def _receive(self, request, context):
        self.asked.append(request)
        self.times.append(time.monotonic())
        if self.refusals:
            context.abort(self.refusals.pop(0), FULL)

    def Predict(self, request, context):
        self._receive(request, context)
        kept = request.output_filter or request.inputs
        return predict_pb2.PredictResponse(outputs={name: request.inputs[name] for name in kept})

    def GetModelMetadata(self, request, context):
        self._receive(request, context)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        serve = signatures.signature_def["serve"]
        for name, number, shape in (("text", 7, (-1,)), ("step", 1, (-1, 4)), ("all", 3, None)):
            serve.inputs[name].dtype = number
            serve.inputs[name].tensor_shape.unknown_rank = shape is None
            for size in shape or ():
                serve.inputs[name].tensor_shape.dim.add(size=size)
        serve.outputs["next"].dtype = 9
        signatures.signature_def["__saved_model_init_op"].outputs["none"].dtype = 1
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures)
        return response

    def GetModelStatus(self, request, context):
        self._receive(request, context)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=1, state="AVAILABLE")
        broken = response.model_version_status.add(version=2, state="END")
        broken.status.error_code, broken.status.error_message = 5, "no file"
        return response


def start(fake, port=0, credentials=None):
    """The server of a `Fake`, and its address."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=UNLIMITED)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(fake, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(fake, server)
    address = f"127.0.0.1:{port}"
    if credentials:
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    return server, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def served():
    fake = Fake()
    server, address = start(fake)
    yield fake, address
    server.stop(None)


@pytest.fixture
def fake(served):
    served[0].__init__()
    return served[0]


@pytest.fixture
def address(served):
    return served[1]


@pytest.fixture
def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ask_now(address, call, *arguments, options=None, **named):
    with Client(address, **(options or {})) as client:
        return getattr(client, call)(*arguments, **named)


def ask_async(address, call, *arguments, options=None, **named):
    async def ask():
        async with AsyncClient(address, **(options or {})) as client:
            return await getattr(client, call)(*arguments, **named)

    return asyncio.run(ask())


each_client = pytest.mark.parametrize("ask", [ask_now, ask_async])
ONE = {"a": np.ones(2, "float32")}


@each_client
def test_request_says_what_was_asked(ask, fake, address):
    inputs = {"a": [[1.5, 2]], "b": ["ä", b"\x00"]}
    answer = ask(address, "predict", "m", inputs, "score", version=3)
    assert answer["a"].tolist() == [[1.5, 2]] and answer["b"].tolist() == ["ä".encode(), b"\x00"]
    spec = fake.asked[0].model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("m", "score", 3)
    assert list(ask(address, "predict", "m", inputs, label="stable", outputs=["b"])) == ["b"]
    spec = fake.asked[1].model_spec
    assert (spec.signature_name, spec.version_label) == ("", "stable")
    ask(address, "predict", "m", inputs)
    assert fake.asked[2].model_spec.WhichOneof("version_choice") is None


@each_client
def test_metadata_are_dtypes_and_shapes(ask, fake, address):
    assert ask(address, "metadata", "m", version=2) == {
        "serve": {
            "inputs": {
                "all": ("int32", None),
                "step": ("float32", (None, 4)),
                "text": ("string", (None,)),
            },
            "outputs": {"next": ("int64", ())},
        }
    }
    assert fake.asked[0].model_spec.version.value == 2
    assert fake.asked[0].metadata_field == ["signature_def"]


@each_client
def test_status_is_of_every_version(ask, fake, address):
    states = ask(address, "status", "m")
    assert list(states.items()) == [
        (2, {"state": "END", "error": "NOT_FOUND: no file"}),
        (1, {"state": "AVAILABLE", "error": ""}),
    ]
    ask(address, "status", "m", version=7)
    assert fake.asked[1].model_spec.version.value == 7


@each_client
@pytest.mark.parametrize(
    ("named", "text"),
    [
        ({"version": 1, "label": "stable"}, "a version or a label, not both: got 1 and 'stable'"),
        ({"inputs": {"a": [[1], [2, 3]]}}, "input 'a' is no tensor: .*inhomogeneous"),
        ({"inputs": {"b": ["x", None]}}, "input 'b' is no tensor"),
        ({"inputs": {"b": np.array([b"x", 3], object)}}, "input 'b' is no tensor"),
        ({"inputs": {"c": np.zeros(2, "datetime64[s]")}}, "input 'c' .*not datetime64"),
    ],
)
def test_wrong_questions_are_not_sent(ask, fake, address, named, text):
    with pytest.raises(ValueError, match=text):
        ask(address, "predict", "m", **{"inputs": ONE, **named})
    assert not fake.asked


@each_client
def test_asks_again_where_there_was_no_room(ask, fake, address):
    fake.refusals = [CODE.UNAVAILABLE] * 2
    assert ask(address, "predict", "m", ONE)["a"].tolist() == [1, 1]
    first, second = np.diff(fake.times)
    assert first > 0.07 and second > 0.14  # 0.1 s and 0.2 s, give or take
    for call in ("metadata", "status"):
        fake.refusals = [CODE.UNAVAILABLE]
        assert ask(address, call, "m")


@each_client
def test_large_requests_are_sent_again_too(ask, fake, address):
    fake.refusals = [CODE.UNAVAILABLE]
    large = {"a": np.arange(2_000_000)}
    assert np.array_equal(ask(address, "predict", "m", large)["a"], large["a"])
    assert len(fake.asked) == 2


@each_client
@pytest.mark.parametrize(
    ("code", "retries", "sent"),
    [(CODE.UNAVAILABLE, 1, 2), (CODE.UNAVAILABLE, 0, 1)]
    + [
        (code, 3, 1)
        for code in (
            CODE.INTERNAL,
            CODE.DEADLINE_EXCEEDED,
            CODE.RESOURCE_EXHAUSTED,
            CODE.INVALID_ARGUMENT,
            CODE.UNKNOWN,
        )
    ],
)
def test_asks_no_oftener_than_is_safe(ask, fake, address, code, retries, sent):
    fake.refusals = [code] * 10
    with pytest.raises(PredictError) as caught:
        ask(address, "predict", "m", ONE, options={"retries": retries})
    assert len(fake.asked) == sent
    assert (caught.value.code, caught.value.details) == (code, FULL)
    assert str(caught.value) == f"{address} answered {code.name}: {FULL}"


@each_client
def test_retries_end_with_the_timeout(ask, fake, address):
    fake.refusals = [CODE.UNAVAILABLE] * 10
    begin = time.monotonic()
    with pytest.raises(PredictError) as caught:
        ask(address, "predict", "m", ONE, options={"timeout": 0.5, "retries": 4})
    assert caught.value.code == CODE.DEADLINE_EXCEEDED
    assert 0.4 < time.monotonic() - begin < 1.2 and len(fake.asked) < 5


@each_client
def test_waits_for_a_server_that_is_about_to_start(ask, free_port):
    started = []
    timer = threading.Timer(0.2, lambda: started.append(start(Fake(), free_port)[0]))
    timer.start()
    try:
        assert ask(f"127.0.0.1:{free_port}", "predict", "m", ONE, options={"retries": 4})
    finally:
        timer.join()
        started[0].stop(None)


@each_client
def test_says_where_no_server_is(ask):
    with pytest.raises(PredictError, match=r"refused\. Does a server listen on 127.0.0.1:1\?"):
        ask("127.0.0.1:1", "predict", "m", ONE, options={"retries": 0})
    for retries in (-1, 5):
        with pytest.raises(ValueError, match=f"retries must be 0 to 4, got {retries}"):
            ask("127.0.0.1:1", "predict", "m", ONE, options={"retries": retries})


@pytest.fixture(scope="module")
def certificate(make_certificate, tmp_path_factory):
    """Key and certificate of 127.0.0.1, signed by itself."""
    return make_certificate(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.mark.parametrize("mutual", [False, True])
def test_speaks_tls(certificate, mutual):
    key, certificate = certificate
    pair = (key.read_bytes(), certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], pair[1] if mutual else None, mutual)
    server, address = start(Fake(), credentials=credentials)
    own = {"client_key": key, "client_certificate": str(certificate)} if mutual else {}
    try:
        for ask in (ask_now, ask_async):
            for ca in (certificate, pair[1]):
                options = {"certificate": ca, **own}
                assert ask(address, "predict", "m", ONE, options=options)["a"].tolist() == [1, 1]
        for options in ({}, {"certificate": certificate}) if mutual else ({},):
            with pytest.raises(PredictError) as caught:
                ask_now(address, "predict", "m", ONE, options={**options, "retries": 0})
            assert caught.value.code == CODE.UNAVAILABLE
    finally:
        server.stop(None)


def test_wrong_certificates_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Client("127.0.0.1:1", certificate=tmp_path / "nowhere.pem")
    with pytest.raises(ValueError, match="wants the server's certificate"):
        Client("127.0.0.1:1", client_certificate=b"pem")


def test_many_questions_at_a_time_share_a_client(fake, address):
    async def ask():
        async with AsyncClient(address) as client:
            calls = [client.predict("m", {"a": np.full(3, i)}) for i in range(50)]
            return await asyncio.gather(*calls)

    assert [answer["a"].tolist() for answer in asyncio.run(ask())] == [[i] * 3 for i in range(50)]


@pytest.mark.parametrize("size", [0, 1, 59, 60, 1000])
@pytest.mark.parametrize("dtype", DTYPES.split())
def test_arrays_come_back_whatever_their_size(dtype, size):
    array = np.array([str(i).encode() for i in range(size)], object)
    if dtype != "object":
        array = (np.arange(size) * 3 % 100).astype(dtype)
    for typed in (False, True):
        sent = to_proto(array, typed).SerializeToString()
        read = from_proto(tensor_pb2.TensorProto.FromString(sent))
        assert read.dtype == array.dtype and np.array_equal(read, array)
        assert read.flags.writeable
