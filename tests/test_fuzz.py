"""Whatever comes by the wire, stands in the repository or in a `.keras` file: it is refused or
answered, and the server goes on.

The server is a process of its own, so that a crash of TensorFlow is told as a failure of the
example that caused it. `make fuzz MINUTES=5` tries more.
"""

import codecs
import concurrent.futures
import contextlib
import functools
import gzip
import http.client
import itertools
import json
import marshal
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile
import time
import urllib.parse
import zipfile

import grpc
import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ponderzoo.export._config import read_config, versions_to_serve
from ponderzoo.trainers._weights import read_model
from serving import (
    BATCHING,
    SAMPLE,
    ServerProcess,
    make_model,
    request,
    write_config,
    write_packages,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

LONG = os.environ.get("FUZZ") == "long"
TIMEOUT = 10.0
MORE_MEMORY = 300.0  # megabytes, for a request that is refused
SIGNATURES = ["", "serve", "shout", "repeat", "near", "any", "__saved_model_init_op", "x"]
ROWS = {"state": SAMPLE, "scale": np.ones(3, "float32")}
GOOD = {
    "serve": request(signature="serve", **ROWS),
    "": request(**ROWS),
    "shout": request(signature="shout", text=np.array([b"a", b"\xff"], object)),
    "repeat": request(signature="repeat", state=SAMPLE, times=np.ones(3, "int32")),
    "any": request(signature="any", sequence=SAMPLE),
}
MESSAGES = {
    "PredictionService/Predict": predict_pb2.PredictRequest,
    "PredictionService/Classify": classification_pb2.ClassificationRequest,
    "PredictionService/Regress": regression_pb2.RegressionRequest,
    "PredictionService/MultiInference": inference_pb2.MultiInferenceRequest,
    "PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "ModelService/HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}
PREDICT, RELOAD = next(iter(MESSAGES)), list(MESSAGES)[-1]
Code = grpc.StatusCode
DOCUMENTED = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.FAILED_PRECONDITION,
    Code.UNIMPLEMENTED,
    Code.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED,
    Code.UNAVAILABLE,
}
PIPE, LINK, CIRCLE, FOLDER, GONE = "a pipe", "a link outside", "a circle", "a folder", "gone"
BATCHING_FILE, MANIFEST = "batching_params.pbtxt", "assets.extra/manifest.json"
FILES = [
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets.extra/tf_serving_warmup_requests",
    "assets.extra/signatures.json",
    MANIFEST,
    BATCHING_FILE,
]
NUMBERS = itertools.count(1000)


def examples(number):
    """Settings of a test with so many examples in `make test`; a round of `make fuzz` has more."""
    return settings(
        max_examples=5 * number if LONG else number,
        deadline=None,
        derandomize=not LONG,
        suppress_health_check=list(HealthCheck),
    )


class Target(ServerProcess):
    """A server, and the ways to it."""

    def __enter__(self):
        super().__enter__()
        self._channel = grpc.insecure_channel(self.address)
        self._good = None
        self.check()
        return self

    def ask(self, method, data):
        """Code, and the answer's bytes or the error's text."""
        call = self._channel.unary_unary(f"/tensorflow.serving.{method}")
        try:
            return Code.OK, call(data, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return error.code(), error.details()

    def check(self):
        """The server lives and answers as it did at first."""
        assert self.process.poll() is None, "the server's process has ended"
        code, answer = self.ask(PREDICT, GOOD["serve"].SerializeToString())
        assert code == Code.OK, (code, answer)
        outputs = dict(predict_pb2.PredictResponse.FromString(answer).outputs)
        self._good = self._good or outputs
        assert outputs == self._good

    def states(self, name):
        """Version -> (state, error)."""
        question = get_model_status_pb2.GetModelStatusRequest()
        question.model_spec.name = name
        code, answer = self.ask("ModelService/GetModelStatus", question.SerializeToString())
        assert code == Code.OK, (code, answer)
        response = get_model_status_pb2.GetModelStatusResponse.FromString(answer)
        return {
            one.version: (one.State.Name(one.state), one.status.error_message)
            for one in response.model_version_status
        }

    def settled(self, name, version):
        """State and error of a version, once it is served or given up."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            state, error = self.states(name).get(version, ("", ""))
            if state in ("AVAILABLE", "END"):
                return state, error
            time.sleep(0.02)
        raise AssertionError(f"the load of version {version} hangs")

    def fetch(self, method, path, body, headers=None):
        """HTTP status and the answer's bytes."""
        with contextlib.closing(http.client.HTTPConnection(self.rest_address, timeout=30)) as http_:
            http_.request(method, path, body, headers or {})
            answer = http_.getresponse()
            return answer.status, answer.read()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A version directory."""
    output = write_packages([make_model()], tmp_path_factory.mktemp("package"))
    (output / "dense" / "1" / BATCHING_FILE).write_text(BATCHING.replace("50000", "500"))
    return output / "dense" / "1"


@pytest.fixture(scope="module")
def repository(package, tmp_path_factory):
    """Two models: `dense`, which stays, and `other`, all versions of which are served."""
    home = tmp_path_factory.mktemp("repository")
    for name in ("dense", "other"):
        shutil.copytree(package, home / name / "1")
    write_config(
        home / "models.config",
        f'name: "dense" base_path: "{home}/dense" model_platform: "tensorflow"',
        f'name: "other" base_path: "{home}/other" model_platform: "tensorflow" '
        "model_version_policy { all {} }",
    )
    return home


@pytest.fixture(scope="module")
def target(repository):
    options = {"poll_seconds": 0.02, "retries": 0, "rest_timeout": 2.0, "batching": True}
    with Target(repository, grace=1.0, **options) as server:
        yield server
    assert server.process.returncode == 0


# Messages: any field of any message, set to what it should not be.

SIZES = [-1, 0, 1, 2, 3, 4, 64, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63)]
TEXTS = st.text(max_size=12) | st.sampled_from(["", "\0", "..", "/", "é" * 100])
PATHS = ["/", "/etc", "relative", "gs://bucket", "/\0", "/a" * 3000, "{home}/../..", "{home}/link"]
INSIDE = ["{home}", "{home}/dense", "{home}/other", "{home}/other/1", "{home}/none"]
WORDS = {
    "name": st.sampled_from(["dense", "other", "none"]) | TEXTS,
    "signature_name": st.sampled_from(SIGNATURES) | TEXTS,
    "version_label": st.sampled_from(["", "stable"]) | TEXTS,
    "output_filter": st.sampled_from(["state", "norm", "text", "sum"]) | TEXTS,
    "metadata_field": st.just("signature_def") | TEXTS,
    "method_name": st.sampled_from([f"tensorflow/serving/{m}" for m in ("classify", "regress")]),
    "model_platform": st.just("tensorflow") | TEXTS,
    "base_path": st.sampled_from(INSIDE + PATHS),
    "size": st.sampled_from(SIZES),
    "dtype": st.integers(0, 30) | st.sampled_from([101, 107, 2**31 - 1, -1]),
}


def scalars(field):
    """Values of a field that holds no message."""
    kind = field.cpp_type
    if field.name in WORDS:
        return WORDS[field.name]
    if kind == field.CPPTYPE_STRING:
        return st.binary(max_size=40) if field.type == field.TYPE_BYTES else TEXTS
    if kind == field.CPPTYPE_BOOL:
        return st.booleans()
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return st.floats(width=32)
    unsigned = kind in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    bits = 64 if kind in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else 32
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.sampled_from([0, 1, 2, 5, low, high])


def disturb(draw, message, depth=5):
    """Sets some fields of a message, at every depth."""
    for field in message.DESCRIPTOR.fields:
        if draw(st.integers(0, 9)) < 6:
            continue
        value, inner = getattr(message, field.name), field.message_type
        if inner and inner.GetOptions().map_entry:
            key, kept = inner.fields_by_name["key"], inner.fields_by_name["value"]
            some = st.sampled_from(sorted(value)) if value else scalars(key)
            name = draw(some | scalars(key))
            if kept.message_type:
                disturb(draw, value[name], depth - 1)
            else:
                value[name] = draw(scalars(kept))
        elif inner and field.is_repeated:
            if depth:
                disturb(draw, draw(st.sampled_from([*value, None])) or value.add(), depth - 1)
        elif inner:
            if depth:
                value.SetInParent()
                disturb(draw, value, depth - 1)
        elif field.is_repeated:
            value[:] = draw(st.lists(scalars(field), max_size=5))
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


@st.composite
def predictions(draw):
    message = predict_pb2.PredictRequest()
    message.CopyFrom(draw(st.sampled_from(list(GOOD.values()))))
    if draw(st.booleans()):
        return disturb(draw, message)
    # One input alone, so that more of what comes after the first check is seen.
    disturb(draw, message.inputs[draw(st.sampled_from(sorted(message.inputs)))])
    return message


@st.composite
def calls(draw):
    """A method other than Predict, and a message."""
    method = draw(st.sampled_from(list(MESSAGES)[1:]))
    message = MESSAGES[method]()
    if "model_spec" in message.DESCRIPTOR.fields_by_name:
        message.model_spec.name = "dense"
    if method == RELOAD:
        message.config.model_config_list.config.add(
            name="dense", base_path="{home}/dense", model_platform="tensorflow"
        )
    return method, disturb(draw, message, 7)


def allow(method, code, text):
    """Whether an answer is one that the contract knows."""
    if code == Code.UNKNOWN:  # the stock server's own word for a model that does not load
        return method == RELOAD and re.match(r"\d+ model\(s\) did not become available", text)
    return code in DOCUMENTED


@examples(100)
@given(predictions())
def test_no_request_harms_the_server(target, message):
    code, text = target.ask(PREDICT, message.SerializeToString())
    slow = message.model_spec.signature_name == "repeat"
    assert allow(PREDICT, code, text) or (slow and code == Code.DEADLINE_EXCEEDED), (code, text)
    target.check()


def reloaded(path):
    """A call for a model in a directory."""
    message = model_management_pb2.ReloadConfigRequest()
    message.config.model_config_list.config.add(
        name="dense", base_path=path, model_platform="tensorflow"
    )
    return RELOAD, message


@examples(25)
@given(calls())
@example(reloaded("/etc"))
@example(reloaded("/\0"))
@example(reloaded("{home}/../.."))
@example(reloaded("{home}/other/1"))
def test_no_call_harms_the_server(target, repository, call):
    method, message = call
    if method == RELOAD:
        for block in message.config.model_config_list.config:
            block.base_path = block.base_path.replace("{home}", str(repository))
    before = target.states("dense")
    code, text = target.ask(method, message.SerializeToString())
    assert allow(method, code, text), (code, text)
    if method == RELOAD:
        outside = [
            block.base_path
            for block in message.config.model_config_list.config
            if not os.path.abspath(block.base_path.replace("\0", "")).startswith(str(repository))
        ]
        assert not outside or code != Code.OK
        kept = read_config(repository)
        good = model_management_pb2.ReloadConfigRequest(config=kept)
        code, text = target.ask(RELOAD, good.SerializeToString())
        assert code == Code.OK, text
        for number, (state, _) in before.items():
            assert state != "AVAILABLE" or target.states("dense")[number][0] == state
    target.check()


@examples(40)
@given(st.sampled_from(list(MESSAGES)), st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_harm_the_server(target, method, data, cut):
    """gRPC's own answer to what is no message is INTERNAL, here and in the stock server."""
    whole = GOOD["serve"].SerializeToString()
    for some in (data, whole[:cut] + data + whole[cut:], whole[:cut]):
        code, text = target.ask(method, some)
        garbage = code == Code.INTERNAL and text == "Exception deserializing request!"
        assert garbage or allow(method, code, text), (code, text)
    target.check()


def shaped(*sizes, axes=1, **fields):
    """A request for one tensor of a shape."""
    message = request(signature="any", sequence=SAMPLE)
    tensor = message.inputs["sequence"]
    tensor.Clear()
    tensor.dtype = fields.pop("dtype", 1)
    for size in sizes * axes:
        tensor.tensor_shape.dim.add(size=size)
    for name, values in fields.items():
        getattr(tensor, name).extend(values)
    return message


OVERSIZED = {
    "more than can be counted": shaped(2**31, 2**31),
    "more than there is": shaped(2**35, float_val=[1.0]),
    "2 GB of one value": shaped(2**10, 2**19, float_val=[1.0]),
    "a long string many times": shaped(2**23, dtype=7, string_val=[b"a" * 1000]),
    "halves": shaped(2**30, dtype=19, half_val=[1]),
    "strings": shaped(2**29, dtype=7, string_val=[b"a"]),
    "none, but many": shaped(2**40, 2**40, 0),
    "negative twice": shaped(-(2**31), -(2**31)),
    "65 axes": shaped(1, axes=65, float_val=[1.0]),
    "a million axes": shaped(2**62, axes=10**6),
}


@pytest.mark.parametrize("case", OVERSIZED)
def test_what_is_too_large_is_refused_before_it_takes_memory(target, case):
    before, start = target.memory("VmHWM"), time.monotonic()
    code, text = target.ask(PREDICT, OVERSIZED[case].SerializeToString())
    assert (code, text) == (Code.INVALID_ARGUMENT, "tensor parsing error: sequence")
    assert time.monotonic() - start < 5
    assert target.memory("VmHWM") - before < MORE_MEMORY
    target.check()


# REST.

ROW = {"state": [0.0, 1.0, 2.0, 3.0], "scale": 2.0}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from([10**400, 1e39, 2**24 + 1, "\ud800", ROW, [ROW], {"b64": "YQ=="}])
    | st.builds(lambda text: {"b64": text}, st.sampled_from(["", "%", "=", "\ud800", 1]))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["state", "scale", "text", "b64", "\ud800"]), inner)
    ),
    max_leaves=12,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(SIGNATURES) | LEAVES,
        "instances": VALUES,
        "inputs": VALUES,
        "examples": VALUES,
    },
)
ANY = b'{"signature_name":"any","inputs":'


def nested(depth, head=ANY, tail=b"}"):
    return head + b"[" * depth + b"1" + b"]" * depth + tail


NESTED = st.builds(
    nested,
    st.integers(0, 1200) | st.integers(60, 70) | st.integers(900, 1000),
    st.sampled_from([b'{"instances":', b'{"signature_name":"any","instances":', ANY]),
    st.sampled_from([b"}", b"", b',"instances":1}']),
)
BODIES = (
    st.builds(lambda value: json.dumps(value).encode(), DOCUMENTS | VALUES)
    | NESTED
    | st.binary(max_size=60)
    | st.sampled_from(
        [
            b'{"instances": [1e999, -1e999]}',
            b'{"signature_name": "any", "inputs": [[' + b"9" * 5000 + b"]]}",
            b'{"signature_name": "repeat", "instances": [{"state": [0,0,0,0], "times": 2e9}]}',
            b'\xff\xfe{"\x00',
            b'{"instances": "\xc3("}',
        ]
    )
)
ROUTES = [
    "/v1/models/dense:predict",
    "/v1/models/dense/versions/1:predict",
    "/v1/models/dense/versions/٣:predict",
    f"/v1/models/dense/versions/{'9' * 5000}:predict",
    f"/v1/models/dense/versions/{'0' * 5000}1:predict",
    "/v1/models/dense/labels/stable:predict",
    "/v1/models/dense:classify",
    "/v1/models/dense:regress",
    "/v1/models/dense",
    "/v1/models/dense/metadata",
    "/v1/models/dense/versions/99999999999999999999",
    "/v1/models/..:predict",
    "/v1/models/\0/metadata",
    "/v1/../etc/passwd",
    "/v1/models/dense/../../../../etc/passwd",
    "/",
    "/ponderzoo/models",
    "/ponderzoo/../../etc/passwd",
    "/monitoring/prometheus/metrics",
]
STATUSES = {200, 400, 403, 404, 405, 413, 429, 501, 503}


@examples(120)
@given(
    st.sampled_from(["POST"] * 6 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.sampled_from(ROUTES[:1] * 12 + ROUTES) | st.text(max_size=30).map("/v1/models/{}".format),
    BODIES,
)
@example("POST", ROUTES[0], nested(64))
@example("POST", ROUTES[0], nested(65))
@example("POST", ROUTES[0], nested(65, b'{"signature_name":"any","instances":'))
@example("POST", ROUTES[0], nested(950, b'{"signature_name":'))
@example("GET", ROUTES[3].removesuffix(":predict"), b"")
@example("GET", ROUTES[4].removesuffix(":predict"), b"")
def test_no_http_harms_the_server(target, method, route, body):
    code, answer = target.fetch(method, urllib.parse.quote(route, errors="replace"), body)
    assert code in STATUSES or (code == 504 and b"repeat" in body), (code, answer)
    assert b"root:" not in answer
    if route.startswith("/v1/models/dense") and method not in ("HEAD", "OPTIONS"):
        assert (code == 200) != ("error" in json.loads(answer))
    target.check()


@examples(15)
@given(st.booleans(), st.binary(max_size=200), st.sampled_from([b"", b"POST /v1/models/dense:p"]))
def test_no_garbage_on_a_port_harms_the_server(target, rest, data, head):
    host, port = (target.rest_address if rest else target.address).split(":")
    with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
        connection.sendall(head + data)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(2**16):
                pass
    target.check()


def bodies(size):
    """Documents of about so many values, and their headers."""
    packed = {"Content-Encoding": "gzip"}
    numbers = [[0.5, 1.25]] * (size // 2)
    yield {"signature_name": "any", "instances": numbers}, {}
    yield {"signature_name": "any", "instances": [{"sequence": row} for row in numbers]}, {}
    yield {"signature_name": "any", "instances": [*numbers, [None]]}, {}
    yield {"signature_name": "shout", "inputs": ["a"] * size}, {}
    yield {"signature_name": "any", "inputs": [[]] * size + [1]}, {}
    yield [{"a": number} for number in range(size // 4)], {}
    yield {str(number): number for number in range(size // 4)}, {}
    yield {"inputs": "a" * 8 * size}, {}
    yield gzip.compress(b"[" * 400 * size), packed
    yield gzip.compress(b'{"inputs":[' + b"[]," * size + b"[]]}"), packed
    yield b"[1," * 100 * size, {}


def test_memory_is_given_back_after_large_documents(target):
    size, most = (2_000_000, 1.2) if LONG else (250_000, 1.2)
    target.check()
    before = target.memory()
    for document, headers in bodies(size):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        code, answer = target.fetch("POST", ROUTES[0], body, headers)
        assert code in STATUSES | {504} and len(answer) < 20 * size
        target.check()
    end = time.monotonic() + 10
    while target.memory() > most * before and time.monotonic() < end:
        time.sleep(0.1)
    assert target.memory() <= most * before


@pytest.mark.parametrize("wire", ["REST", "gRPC"])
def test_status_is_told_while_a_large_body_is_read(target, wire):
    if wire == "REST":
        large = json.dumps({"signature_name": "any", "inputs": [[0.5] * 5000] * 20}).encode()
        ask = functools.partial(target.fetch, "POST", ROUTES[0], large)
    else:
        large = request(signature="shout", text=np.array([b"a" * 10_000] * 20, object))
        ask = functools.partial(target.ask, PREDICT, large.SerializeToString())
    expected = ask()
    assert expected[0] in (200, Code.OK), expected
    (reader,) = target.children()
    os.kill(reader, signal.SIGSTOP)
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answer = pool.submit(ask)
            assert target.fetch("GET", "/v1/models/dense", b"")[0] == 200
            target.check()
            assert not answer.done()
            os.kill(reader, signal.SIGCONT)
            assert answer.result() == expected
    finally:
        os.kill(reader, signal.SIGCONT)


def test_requests_that_are_dropped_half_sent_cost_no_words(target, capfd):
    host, port = target.rest_address.split(":")
    head = b"POST /v1/models/dense:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    for number in range(2000 if LONG else 200):
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            connection.sendall(head + b"\r\n{" * (number % 2))
    target.check()
    assert target.fetch("GET", "/v1/models/dense", b"")[0] == 200
    assert capfd.readouterr().err == ""


# Repositories.

SPLICES = st.tuples(st.integers(0, 2**20), st.integers(0, 40), st.binary(max_size=8))
FLIPS = st.tuples(st.integers(0, 2**20), st.integers(0, 7))
DAMAGES = st.sampled_from([PIPE, LINK, CIRCLE, FOLDER, GONE, b""]) | SPLICES | FLIPS | FLIPS


def spoil(path, damage, outside):
    """Damages a file; bytes are its new content, tuples change a part."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == PIPE:
        os.mkfifo(path)
    elif damage == LINK:
        path.symlink_to(outside)
    elif damage == CIRCLE:
        path.symlink_to(path.name)
    elif damage == FOLDER:
        path.mkdir()
    elif damage != GONE:
        if len(damage) == 2:
            data[damage[0] % len(data)] ^= 1 << damage[1]
        elif len(damage) == 3:
            place, size, new = damage
            data[place % len(data) :][:size] = new
            data[place % len(data) : place % len(data) + size] = new
        path.write_bytes(data if damage else b"")


@contextlib.contextmanager
def version_of(repository, name):
    """A name for a version of `other`, free again after the block."""
    path = repository / "other" / name
    try:
        yield path
    finally:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)


@examples(20)
@given(st.dictionaries(st.sampled_from(FILES), DAMAGES, min_size=1, max_size=2), st.booleans())
@example({"saved_model.pb": PIPE}, False)
@example({"saved_model.pb": LINK}, False)
@example({"variables/variables.index": CIRCLE}, False)
@example({"saved_model.pb": (20000, 3)}, True)
@example({"fingerprint.pb": b""}, True)
@example({MANIFEST: LINK}, False)
def test_no_damaged_version_harms_the_server(target, package, repository, damages, listed):
    number, draft = next(NUMBERS), repository / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(package, draft)
    for file, damage in damages.items():
        spoil(draft / file, damage, package / file)
    if not listed and MANIFEST not in damages:
        (draft / MANIFEST).unlink()
    kept = {BATCHING_FILE, MANIFEST}  # the manifest lists neither
    changed = [f for f in set(damages) - kept if not same(draft / f, package / f)]
    with version_of(repository, str(number)) as path:
        draft.rename(path)
        state, error = target.settled("other", number)
        target.check()
        odd = {PIPE, LINK, CIRCLE} & {d for d in damages.values() if isinstance(d, str)}
        if odd or (listed and MANIFEST not in damages and changed):
            assert state == "END" and error, damages
        assert LINK not in odd or len(damages) > 1 or "leads outside" in error


def same(path, other):
    return path.is_file() and path.read_bytes() == other.read_bytes()


@examples(6)
@given(
    st.sampled_from(
        ["num_batch_threads", "max_batch_size", "max_enqueued_batches", "batch_timeout_micros"]
    ),
    st.sampled_from([-(2**63), -1, 0, 1, 4, 1000, 2**31, 2**62, 2**63 - 1]),
    st.booleans(),
)
@example("num_batch_threads", 0, False)
@example("num_batch_threads", 2**31, False)
@example("batch_timeout_micros", 2**63 - 1, False)
@example("max_batch_size", 2**31, True)
def test_no_batching_parameters_harm_the_server(target, package, repository, field, value, fill):
    number, draft = next(NUMBERS), repository / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(package, draft)
    text = f"{field} {{ value: {value} }} "
    if fill and field == "max_batch_size":
        text += f"allowed_batch_sizes: {value}"
    (draft / BATCHING_FILE).write_text(text)
    before = target.memory("VmHWM")
    with version_of(repository, str(number)) as path:
        draft.rename(path)
        target.settled("other", number)
        target.check()
    assert target.memory("VmHWM") - before < MORE_MEMORY


NAMES = [" 7", "7 ", "+7", "-7", "7.0", "1e3", "0x10", "1_000", "٣", "²", "9" * 18, "9" * 19]
NAMES += ["9" * 30, "7\n", "\n7", "007", "7.tmp", ".7", "...", "1\\..\\7", "\udcff", "7\udcff"]


@examples(6)
@given(
    # What a file can be called: any bytes but two.
    st.sampled_from(NAMES)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), max_size=20)
    | st.binary(max_size=20).map(lambda x: os.fsdecode(x.translate(None, b"/\0"))),
    st.sampled_from(["package", "file", "link inside", "link outside", "circle", "empty"]),
)
@example("77", "circle")
@example("78", "link inside")
@example("79", "link outside")
def test_no_name_harms_the_server(target, package, repository, name, kind):
    known = target.states("other")
    if name in ("", ".", "..") or (re.fullmatch("[0-9]{1,18}", name) and int(name) in known):
        return
    before = {number for number, (state, _) in known.items() if state != "END"}
    with version_of(repository, name) as path:
        if kind == "package":
            shutil.copytree(package, path.with_name(".draft"))
            path.with_name(".draft").rename(path)
        elif kind == "file":
            path.write_text("")
        elif kind == "empty":
            path.mkdir()
        else:
            links = {"link inside": repository / "dense" / "1", "link outside": package}
            path.symlink_to(links.get(kind, name))
        is_number = re.fullmatch("[0-9]{1,18}", name) and kind not in ("file", "circle")
        if is_number:
            state, error = target.settled("other", int(name))
            served = kind in ("package", "link inside")
            assert state == ("AVAILABLE" if served else "END")
            assert kind != "link outside" or "leads outside" in error
        else:
            # That what comes after it is found tells that the name was seen and did no harm.
            number = next(NUMBERS)
            with version_of(repository, str(number)) as sound:
                sound.symlink_to(repository / "dense" / "1")
                assert target.settled("other", number) == ("AVAILABLE", "")
                alive = {n for n, (state, _) in target.states("other").items() if state != "END"}
            assert alive <= before | {number}
        target.check()


BLOCK = 'name: "dense" base_path: "/models/dense" model_platform: "tensorflow" '
CONFIGS = [
    f"model_config_list {{ config {{ {BLOCK} {more} }} }}"
    for more in (
        "",
        "model_version_policy { specific { versions: 41 versions: -1 } }",
        "model_version_policy { latest { num_versions: 4294967295 } }",
        'model_version_policy { all {} } version_labels { key: "stable" value: 41 }',
        "logging_config { sampling_config { sampling_rate: 0.1 } }",
    )
]
CONFIGS += ['custom_model_config { [type.googleapis.com/a.B] { a: "b" } }', "a { " * 2000]


@examples(60)
@given(st.sampled_from(CONFIGS), SPLICES, st.text(max_size=12) | st.sampled_from(['"\\0"', "{"]))
def test_no_models_config_is_read_but_in_words(tmp_path_factory, text, splice, new):
    place, size, _ = splice
    place %= len(text)
    path = tmp_path_factory.getbasetemp() / "models.config"
    path.write_text(text[:place] + new + text[place + size :], "utf-8", newline="")
    with contextlib.suppress(ValueError, FileNotFoundError):
        for block in read_config(path).model_config_list.config:
            versions_to_serve(block)


# `.keras` files.


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """File name -> bytes of a small one."""
    path = tmp_path_factory.mktemp("archive") / "model.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")]).save(path)
    with zipfile.ZipFile(path) as files:
        return {name: files.read(name) for name in files.namelist()}


def write_archive(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def described(module, name, config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def with_layer(layer):
    """An archive whose model has one layer more."""

    def change(archive):
        config = json.loads(archive["config.json"])
        config["config"]["layers"].append(layer)
        return {**archive, "config.json": json.dumps(config)}

    return change


def with_config(config):
    return lambda archive: {**archive, "config.json": json.dumps(config)}


def with_files(files):
    return lambda archive: {**archive, **files}


def with_weights(change):
    """An archive whose weights a function of the open HDF5 file has changed."""

    def changed(archive):
        pathlib.Path("weights.h5").write_bytes(archive["model.weights.h5"])
        with h5py.File("weights.h5", "r+") as file:
            change(file)
        return {**archive, "model.weights.h5": pathlib.Path("weights.h5").read_bytes()}

    return changed


def replace_kernel(value):
    def change(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = value

    return with_weights(change)


def outside_kernel(file):
    del file["layers/dense/vars/0"]
    group = file["layers/dense/vars"]
    group.create_dataset("0", (4, 3), "float32", external=[(os.path.abspath("bytes"), 0, 48)])


def lambda_layer():
    code = marshal.dumps((lambda x: os.mkdir("executed")).__code__)
    function = {"code": codecs.encode(code, "base64").decode(), "defaults": None, "closure": None}
    function = {"class_name": "__lambda__", "config": function}
    return described("keras.layers", "Lambda", {"name": "l", "function": function})


ABSOLUTE = os.path.join(tempfile.gettempdir(), "ponderzoo-executed")
HOSTILE = {
    "a lambda": with_layer(lambda_layer()),
    "a shell": with_config(described("os", "system", {"command": "touch executed"})),
    "a builtin": with_config(described("builtins", "open", {"file": "executed", "mode": "w"})),
    "Keras's own tools": with_layer(
        described("keras.utils", "get_file", {"fname": "executed", "origin": "file:///etc/passwd"})
    ),
    "the switch of safe mode": with_config(
        described("keras.config", "enable_unsafe_deserialization", {})
    ),
    "another model": with_layer(
        described("keras.layers", "TFSMLayer", {"filepath": "/", "call_endpoint": "serve"})
    ),
    "another file": with_layer(
        described("keras.layers", "StringLookup", {"vocabulary": os.path.abspath(__file__)})
    ),
    "weights elsewhere": with_weights(outside_kernel),
    "weights by a link": replace_kernel(h5py.ExternalLink("other.h5", "/0")),
    "weights of another shape": replace_kernel(np.ones((3, 4), "float32")),
    "weights that are text": replace_kernel("ones"),
    "no weights": with_weights(lambda file: file.clear()),
    "paths that climb": with_files({"assets/../../executed": b"", "../executed": b""}),
    "absolute paths": with_files({ABSOLUTE: b"", f"assets/{ABSOLUTE}": b""}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_no_archive_runs_code_or_leaves_its_place(archive, tmp_path, monkeypatch, case):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    (inside / "bytes").write_bytes(bytes(48))
    path = inside / "model.keras"
    write_archive(path, HOSTILE[case](archive))
    with contextlib.suppress(ValueError) if "paths" in case else pytest.raises(ValueError):
        read_model(path)
    assert not (inside / "executed").exists() and list(tmp_path.iterdir()) == [inside]
    assert not os.path.exists(ABSOLUTE)


@st.composite
def documents(draw, config):
    """A model's description with one of its values replaced."""
    config = json.loads(config)
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(config)
    where, key = draw(st.sampled_from(places))
    # No large number: what a description asks for, Keras builds.
    where[key] = draw(
        st.none()
        | st.booleans()
        | st.integers(-2, 100)
        | st.sampled_from(["", "os.system", "tanh", [], {}, [None], 0.5, "float16"])
        | st.sampled_from([described("os", "system", {}), described("keras", "Model", {})])
    )
    return json.dumps(config).encode()


@examples(40)
@given(st.data())
def test_no_damaged_archive_is_more_than_an_error(archive, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "model.keras"
    kind = data.draw(st.sampled_from(["zip", "config.json", "model.weights.h5", "values"]))
    if kind == "values":
        write_archive(
            path, {**archive, "config.json": data.draw(documents(archive["config.json"]))}
        )
    else:
        write_archive(path, archive)
        damage = data.draw(SPLICES | FLIPS)
        part = path if kind == "zip" else path.with_name("part")
        if kind != "zip":
            part.write_bytes(archive[kind])
        spoil(part, damage, None)
        if kind != "zip":
            write_archive(path, {**archive, kind: part.read_bytes()})
    try:
        read_model(path)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
