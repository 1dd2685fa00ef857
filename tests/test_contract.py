"""The wire contract of TensorFlow Serving, row by row: a request, its code, its words.

The suite runs against the embedded server always, and against a real TensorFlow Serving where one
is named:

    python tests/serving.py REPOSITORY          # writes what the requests ask for
    tensorflow_model_server --port=8500 --rest_api_port=8501 \\
        --model_config_file=REPOSITORY/models.config
    TFS_ADDRESS=localhost:8500 TFS_REST=http://localhost:8501 pytest tests/test_contract.py

A second one with `--enable_batching --batching_parameters_file=REPOSITORY/batching` may be named by
TFS_BATCHED_ADDRESS.
"""

import concurrent.futures
import functools
import json
import os
import re
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo.export._tensors import UNLIMITED, to_proto
from ponderzoo.export.server._readers import LARGE
from ponderzoo.export.server._server import Server
from serving import (
    BATCHING,
    INVALID,
    NOT_FOUND,
    ONES,
    SAMPLE,
    ServerProcess,
    make_model,
    request,
    write_odd,
    write_packages,
    write_unsound,
)
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

FAILED = grpc.StatusCode.FAILED_PRECONDITION
TARGETS = ["embedded", "stock"]
APART = "embedded, all is read apart"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    output = write_packages([make_model(), make_model(1.0)], tmp_path_factory.mktemp("contract"))
    write_unsound(output, "python")
    write_odd(output)
    return output


def named(variable):
    if variable not in os.environ:
        pytest.skip(f"{variable} names no TensorFlow Serving")
    return os.environ[variable]


@pytest.fixture(scope="module", params=[*TARGETS, APART])
def target(request, repository):
    """Addresses of gRPC and REST."""
    if request.param == "stock":
        yield named("TFS_ADDRESS"), named("TFS_REST")
        return
    # A process of its own: TensorFlow's Python, loaded here, brings kernels that servers lack.
    with ServerProcess(repository, large=0 if request.param == APART else LARGE) as server:
        yield server.address, f"http://{server.rest_address}"


@pytest.fixture(scope="module", params=TARGETS)
def batched(request, repository, tmp_path_factory):
    """A stub of a server that batches."""
    if request.param == "stock":
        with grpc.insecure_channel(named("TFS_BATCHED_ADDRESS")) as channel:
            yield prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return
    parameters = tmp_path_factory.mktemp("batching") / "batching"
    parameters.write_text(BATCHING)
    with (
        Server(repository, batching=parameters) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def stubs(target):
    with grpc.insecure_channel(target[0]) as channel:
        prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        yield {
            "Predict": prediction.Predict,
            "Classify": prediction.Classify,
            "Regress": prediction.Regress,
            "MultiInference": prediction.MultiInference,
            "GetModelMetadata": prediction.GetModelMetadata,
            "GetModelStatus": models.GetModelStatus,
            "HandleReloadConfigRequest": models.HandleReloadConfigRequest,
        }


def spec(message, name="dense", signature="", version=None):
    message.model_spec.name, message.model_spec.signature_name = name, signature
    if version is not None:
        message.model_spec.version.value = version
    return message


def classify(**where):
    return spec(classification_pb2.ClassificationRequest(), **where)


def regress(**where):
    return spec(regression_pb2.RegressionRequest(), **where)


def metadata(*fields, **where):
    return spec(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields), **where)


def status(**where):
    return spec(get_model_status_pb2.GetModelStatusRequest(), **where)


def infer(*tasks):
    message = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = message.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    return message


def reload(*blocks, custom=False, **platform):
    platform = platform or {"model_platform": "tensorflow"}
    message = model_management_pb2.ReloadConfigRequest()
    if custom:
        message.config.custom_model_config.SetInParent()
    for name, path, labels in blocks:
        block = message.config.model_config_list.config.add(name=name, base_path=path, **platform)
        block.version_labels.update(labels)
    return message


SHORT = tensor_pb2.TensorProto(dtype=1, tensor_content=b"123")
SHORT.tensor_shape.dim.add(size=3)
LATEST = "Servable not found for request: Latest(other)"
SEVENTH = "Servable not found for request: Specific(dense, 7)"
MISSING = (
    "input size does not match signature: 1!=2 len({state}) != len({scale,state}). "
    "Sent extra: {}. Missing but required: {scale}."
)
EXTRA = (
    "input size does not match signature: 3!=2 len({more,scale,state}) != len({scale,state}). "
    "Sent extra: {more}. Missing but required: {}."
)
OTHER = (
    "Signature input alias: scale(feed name: serving_default_scale:0) not found in request and no "
    "default value provided. Inputs expected to be in the request {scales,state}, or default input "
    "alias set: "
)
NO_OUTPUT = (
    "output tensor alias not found in signature: z Outputs expected to be in the set {norm,state}."
)
NO_LABEL = (
    "Request to assign label to version 9 of model dense, which is not currently available for "
    "inference"
)
NO_LIST = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
    "currently supported"
)
CONTRACT = {
    "no model_spec": ("Predict", predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
    "no name": ("Predict", request(name=""), INVALID, "ModelSpec has no name specified."),
    "unknown model": ("Predict", request(name="other"), NOT_FOUND, LATEST),
    "unknown version": ("Predict", request(version=7), NOT_FOUND, SEVENTH),
    "unknown label": (
        "Predict",
        request(label="stable"),
        INVALID,
        "Unrecognized servable version label: stable",
    ),
    "unknown signature": (
        "Predict",
        request(signature="x"),
        FAILED,
        'Serving signature key "x" not found.',
    ),
    "missing input": ("Predict", request(state=SAMPLE), INVALID, MISSING),
    "extra input": ("Predict", request(state=SAMPLE, scale=ONES, more=ONES), INVALID, EXTRA),
    "wrong input name": ("Predict", request(state=SAMPLE, scales=ONES), INVALID, OTHER),
    "malformed tensor": (
        "Predict",
        request(state=SAMPLE, scale=SHORT),
        INVALID,
        "tensor parsing error: scale",
    ),
    "wrong dtype": (
        "Predict",
        request(state=SAMPLE, scale=np.ones(3, "int32")),
        INVALID,
        re.compile(r"Expects arg\[\d\] to be float but int32 is provided"),
    ),
    "wrong shape": (
        "Predict",
        request(state=SAMPLE[:, :3], scale=ONES),
        INVALID,
        "[3,3] is not compatible with expected shape [?,4]",
    ),
    "unequal rows": (
        "Predict",
        request(state=SAMPLE, scale=np.ones(2, "float32")),
        INVALID,
        "inputs must have equally many rows, one or more; state, scale have [3 2]",
    ),
    "no rows": (
        "Predict",
        request(state=SAMPLE[:0], scale=ONES[:0]),
        INVALID,
        "inputs must have equally many rows, one or more; state, scale have [0 0]",
    ),
    "unknown output": ("Predict", request(outputs=["z"]), INVALID, NO_OUTPUT),
    "output twice": (
        "Predict",
        request(outputs=["norm", "norm"]),
        INVALID,
        "duplicate output tensor alias: norm",
    ),
    "python in the graph": (
        "Predict",
        request(name="python", state=SAMPLE),
        INVALID,
        "No OpKernel was registered to support Op 'EagerPyFunc'",
    ),
    "classify: no spec": (
        "Classify",
        classification_pb2.ClassificationRequest(),
        INVALID,
        "Missing ModelSpec",
    ),
    "classify: unknown model": ("Classify", classify(name="other"), NOT_FOUND, LATEST),
    "classify: unknown signature": (
        "Classify",
        classify(signature="x"),
        INVALID,
        "No signature was found with the name: x",
    ),
    "classify: two inputs": ("Classify", classify(), INVALID, "Expected one input Tensor."),
    "classify: other input": (
        "Classify",
        classify(signature="shout"),
        INVALID,
        "No classification inputs found in SignatureDef: ",
    ),
    "classify: other output": (
        "Classify",
        classify(name="odd"),
        INVALID,
        'Expected classification signature outputs to contain at least one of "classes" or '
        '"scores". Signature was: ',
    ),
    "regress: unknown version": ("Regress", regress(version=7), NOT_FOUND, SEVENTH),
    "regress: unknown signature": (
        "Regress",
        regress(signature="x"),
        INVALID,
        "No signature was found with the name: x",
    ),
    "regress: two inputs": ("Regress", regress(), INVALID, "Expected one input Tensor."),
    "regress: other input": (
        "Regress",
        regress(signature="shout"),
        INVALID,
        "No regression inputs found in SignatureDef: ",
    ),
    "regress: other output": (
        "Regress",
        regress(name="odd", signature="score"),
        INVALID,
        "No regression outputs found in SignatureDef: ",
    ),
    "infer: nothing": ("MultiInference", infer(), INVALID, "ModelSpec has no name specified."),
    "infer: two models": (
        "MultiInference",
        infer(("other", "", "classify")),
        NOT_FOUND,
        LATEST,
    ),
    "infer: unknown signature": (
        "MultiInference",
        infer(("dense", "x", "classify")),
        INVALID,
        "Requested signature not found in model graph: x",
    ),
    "infer: a signature twice": (
        "MultiInference",
        infer(("odd", "score", "classify"), ("odd", "score", "classify")),
        INVALID,
        "Duplicate evaluation of signature: score",
    ),
    "infer: two inputs for two signatures": (
        "MultiInference",
        infer(("odd", "score", "classify"), ("odd", "", "regress")),
        INVALID,
        "Input tensor must be the same for all Signatures.",
    ),
    "infer: predict": (
        "MultiInference",
        infer(("dense", "", "predict")),
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "infer: two inputs": (
        "MultiInference",
        infer(("dense", "", "regress")),
        INVALID,
        "Expected one input Tensor.",
    ),
    "metadata: no field": (
        "GetModelMetadata",
        metadata(),
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "metadata: other field": (
        "GetModelMetadata",
        metadata("size"),
        INVALID,
        "Metadata field size is not supported",
    ),
    "metadata: unknown model": (
        "GetModelMetadata",
        metadata("signature_def", name="other"),
        NOT_FOUND,
        LATEST,
    ),
    "status: unknown model": (
        "GetModelStatus",
        status(name="other"),
        NOT_FOUND,
        "Could not find any versions of model other",
    ),
    "status: unknown version": (
        "GetModelStatus",
        status(version=7),
        NOT_FOUND,
        "Could not find version 7 of model dense",
    ),
    "reload: not a list": ("HandleReloadConfigRequest", reload(custom=True), INVALID, NO_LIST),
    "reload: twice": (
        "HandleReloadConfigRequest",
        reload(("a", "/a", {}), ("a", "/a", {})),
        INVALID,
        "Illegal to list model a multiple times in config list",
    ),
    "reload: no platform": (
        "HandleReloadConfigRequest",
        reload(("a", "/a", {}), model_platform=""),
        INVALID,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
        "ModelServerConfig::model_platform, model name is a",
    ),
    "reload: two platforms": (
        "HandleReloadConfigRequest",
        reload(("a", "/a", {}), model_platform="tensorflow", model_type="TENSORFLOW"),
        INVALID,
        "Illegal setting both ModelServerConfig::model_type (deprecated) and "
        "ModelServerConfig::model_platform.",
    ),
    "reload: another platform": (
        "HandleReloadConfigRequest",
        reload(("dense", "/dense", {}), model_platform="pytorch"),
        INVALID,
        "Illegal to change a model's platform. For model dense platform was tensorflow and new "
        "platform requested is pytorch",
    ),
    "reload: relative path": (
        "HandleReloadConfigRequest",
        reload(("a", "a", {})),
        INVALID,
        "Expected model a to have an absolute path or URI; got base_path()=a",
    ),
}


def check(call, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value.details()
    found = text.search(caught.value.details()) if isinstance(text, re.Pattern) else None
    assert found or (isinstance(text, str) and text in caught.value.details())


@pytest.mark.parametrize("case", CONTRACT)
def test_wrong_requests_get_the_codes_and_words_of_the_stock_server(stubs, case):
    method, message, code, text = CONTRACT[case]
    check(lambda: stubs[method](message, timeout=20), code, text)


def test_status_does_not_look_at_labels(stubs):
    question = status()
    question.model_spec.version_label = "stable"
    (answer,) = stubs["GetModelStatus"](question).model_version_status
    assert answer.version == 2 and answer.State.Name(answer.state) == "AVAILABLE"


@pytest.mark.parametrize(("signature", "dtype"), [("half", "float16"), ("brain", tf.bfloat16)])
def test_halves_travel_by_grpc(stubs, signature, dtype):
    proto = tf.make_tensor_proto([0.5, 3, -1e4], dtype)
    typed = tensor_pb2.TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
    typed.half_val.extend(np.frombuffer(proto.tensor_content, "uint16").tolist())
    for half in (proto, typed):
        answer = stubs["Predict"](request("odd", signature, half=half)).outputs["half"]
        assert not answer.tensor_content and list(answer.half_val) == list(typed.half_val)


@pytest.mark.parametrize(
    ("name", "signature", "dtype"),
    [
        ("odd", "bit", "bool"),
        ("odd", "byte", "int8"),
        ("odd", "short", "uint16"),
        ("odd", "long", "int64"),
        ("odd", "double", "float64"),
        ("dense", "any", "float32"),
        ("dense", "shout", "string"),
    ],
)
def test_values_mean_the_same_typed_and_as_content(stubs, name, signature, dtype):
    texts = [b"", b"A\x00B", b"\xff" * 200]
    values = np.array(texts if dtype == "string" else [[0, 1, 100]], dtype.replace("string", "O"))
    values = values if name == "dense" else values[0]
    typed, content = to_proto(values, typed=True), to_proto(values)
    if dtype == "string":
        content.ClearField("string_val")
        content.tensor_content = b"\x00\x03\xc8\x01" + b"".join(texts)
    assert content.tensor_content and not typed.tensor_content
    key = {"any": "sequence", "shout": "text"}.get(signature, signature)
    expected = [101.0] if signature == "any" else values.tolist()
    for proto in (content, typed):
        (answer,) = stubs["Predict"](request(name, signature, **{key: proto})).outputs.values()
        assert not answer.tensor_content and tf.make_ndarray(answer).tolist() == expected


def test_a_last_value_stands_for_all_that_follow(stubs):
    filled = tensor_pb2.TensorProto(dtype=1, float_val=[2.0, 3.0])
    for size in (2, 4):
        filled.tensor_shape.dim.add(size=size)
    answer = stubs["Predict"](request(signature="any", sequence=filled))
    assert list(answer.outputs["sum"].float_val) == [11.0, 12.0]


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress", "MultiInference"])
def test_what_is_no_message_is_refused_and_an_empty_one_read(target, method):
    path = f"/tensorflow.serving.PredictionService/{method}"
    with grpc.insecure_channel(target[0]) as channel:
        for damage in (b"\xff", request().SerializeToString()[:-1]):
            call = functools.partial(channel.unary_unary(path), damage)
            check(call, grpc.StatusCode.INTERNAL, re.compile(""))
        text = "ModelSpec has no name" if method == "MultiInference" else "Missing ModelSpec"
        check(lambda: channel.unary_unary(path)(b""), INVALID, text)


def test_label_of_a_version_that_is_not_there_is_refused(stubs, repository):
    """The words are the stock server's; its label check comes before the paths are looked at."""
    message = reload(("dense", str(repository / "dense"), {"stable": 9}))
    check(lambda: stubs["HandleReloadConfigRequest"](message), FAILED, NO_LABEL)


def test_long_texts_are_cut(stubs):
    with pytest.raises(grpc.RpcError) as caught:
        stubs["Predict"](request(signature="x" * 2000))
    assert len(caught.value.details()) == 1024 + len("...TRUNCATED")
    assert caught.value.details().endswith("xx...TRUNCATED")


def test_clients_own_limit_refuses_large_answers(target):
    state = np.zeros((400_000, 4), "float32")
    large = request(state=state, scale=state[:, 0])
    with grpc.insecure_channel(target[0], options=UNLIMITED[:1]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        check(
            lambda: stub.Predict(large),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            re.compile(r"CLIENT: Received message larger than max"),
        )


def test_deadline_ends_a_run(stubs):
    slow = request(signature="repeat", state=SAMPLE, times=np.full(3, 10**9, "int32"))
    check(
        lambda: stubs["Predict"](slow, timeout=0.3),
        grpc.StatusCode.DEADLINE_EXCEEDED,
        re.compile(""),
    )


def test_answers_name_the_model_and_fill_typed_fields(stubs):
    answer = stubs["Predict"](request(signature="serve"))
    spec = answer.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("dense", "serve", 2)
    assert stubs["Predict"](request()).model_spec.signature_name == "serving_default"
    state = answer.outputs["state"]
    assert len(state.float_val) == 12 and not state.tensor_content
    assert sorted(stubs["Predict"](request(outputs=["norm"])).outputs) == ["norm"]


BATCHED = {
    "too many rows": (
        request(state=np.ones((33, 4), "float32"), scale=np.ones(33, "float32")),
        INVALID,
        "Task size 33 is larger than maximum input batch size 32",
    ),
    "scalar": (
        request(state=SAMPLE, scale=np.float32(1)),
        INVALID,
        "Batching Run() input tensors must have at least one dimension",
    ),
    "unequal rows": (
        request(state=SAMPLE, scale=np.ones(2, "float32")),
        INVALID,
        "Batching Run() input tensors must have equal 0th-dimension size",
    ),
    "wrong dtype": (
        request(state=SAMPLE, scale=np.ones(3, "int32")),
        INVALID,
        re.compile(r"Expects arg\[\d\] to be float but int32 is provided"),
    ),
    "output without a batch axis": (
        request(signature="near", state=np.full((2, 4), -1e3, "float32")),
        FAILED,
        "Batched output tensor's 0th dimension does not equal the sum",
    ),
}


@pytest.mark.parametrize("case", BATCHED)
def test_batching_refuses_in_the_words_of_the_stock_server(batched, case):
    message, code, text = BATCHED[case]
    check(lambda: batched.Predict(message, timeout=20), code, text)


def test_batches_of_different_shapes_are_refused_where_padding_is_off(batched):
    def ask(columns):
        message = request(signature="any", sequence=np.ones((1, columns), "float32"))
        try:
            return batched.Predict(message) and None
        except grpc.RpcError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # On a busy machine two requests may miss one another's batch.
        tries = (list(pool.map(ask, (3, 4))) for _ in range(20))
        for error in next(errors for errors in tries if all(errors)):
            assert error.code() == FAILED
            assert "from different tasks have different shapes and padding" in error.details()


def send(url, body=None, **options):
    """HTTP status, the answer's bytes and its headers."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        question = urllib.request.Request(url, data, **options)
        with urllib.request.urlopen(question, timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def http(url, body=None, **options):
    """HTTP status and the answer's JSON."""
    status, answer, _ = send(url, body, **options)
    return status, json.loads(answer)


ROW = {"state": [0.0, 1.0, 2.0, 3.0], "scale": 2.0}
TWO = {"state": [[0.0, 1.0, 2.0, 3.0]] * 2, "scale": [1, 2]}
PREDICT = "/v1/models/dense:predict"
ODD = "/v1/models/odd:predict"
REST = {
    "bad path": ("/v1/models/dense:guess", {}, 400, "Malformed request: POST /v1/models/dense:gu"),
    "a query": (
        f"{PREDICT}?x=1",
        {"inputs": TWO},
        400,
        "Malformed request: POST /v1/models/dense:predict?x=1",
    ),
    "a coded colon": (
        "/v1/models/dense%3Apredict",
        {"inputs": TWO},
        400,
        "Malformed request: POST /v1/models/dense%3Apredict",
    ),
    "no model": ("/v1/models", None, 400, "Missing model name in request."),
    "an empty name": ("/v1/models/", None, 400, "Malformed request: GET /v1/models/"),
    "a version of no model": (
        "/v1/models/versions/1",
        None,
        400,
        "Missing model name in request.",
    ),
    "an unknown model with a coded name": (
        "/v1/models/oth%65r:predict",
        {"instances": [1]},
        404,
        LATEST,
    ),
    "unknown model": ("/v1/models/other:predict", {"instances": [1]}, 404, LATEST),
    "unknown version": ("/v1/models/dense/versions/7:predict", {"inputs": TWO}, 404, SEVENTH),
    "unknown label": (
        "/v1/models/dense/labels/stable:predict",
        {"inputs": TWO},
        400,
        "Unrecognized servable version label: stable",
    ),
    "unknown signature": (
        PREDICT,
        {"signature_name": "x", "inputs": TWO},
        400,
        'Serving signature name: "x" not found in signature def',
    ),
    "signature is no text": (
        PREDICT,
        {"signature_name": 1, "inputs": TWO},
        400,
        "'signature_name' key must be a string value.",
    ),
    "empty": (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
    "no JSON": (
        PREDICT,
        b"{",
        400,
        "JSON Parse error: Missing a name for object member. at offset: 1",
    ),
    "a wrong value": (
        PREDICT,
        b'{"instances": [1x]}',
        400,
        "JSON Parse error: Missing a comma or ']' after an array element. at offset: 16",
    ),
    "a word": (
        PREDICT,
        b'{"instances": [ x]}',
        400,
        "JSON Parse error: Invalid value. at offset: 16",
    ),
    "too big a number": (
        PREDICT,
        b'{"inputs": 1e400}',
        400,
        "JSON Parse error: Number too big to be stored in double. at offset: 11",
    ),
    "too deep": (PREDICT, b"[" * 100_000, 400, "JSON Parse error: "),
    "no object": (PREDICT, [1], 400, "Is not object"),
    "neither": (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
    "both": (PREDICT, {"inputs": TWO, "instances": [ROW]}, 400, "expecting only one of 'inputs'"),
    "no list": (PREDICT, {"instances": ROW}, 400, "Expecting 'instances' to be an list/array"),
    "no rows": (PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
    "plain rows": (PREDICT, {"instances": [1]}, 400, "instances is a plain list"),
    "plain columns": (PREDICT, {"inputs": [1]}, 400, "inputs is a plain value/list"),
    "mixed rows": (
        PREDICT,
        {"instances": [ROW, 1]},
        400,
        "Expecting object but got list",
    ),
    "missing in a row": (
        PREDICT,
        {"instances": [ROW, {"state": ROW["state"]}]},
        400,
        "Failed to process element: 1 of 'instances' list. JSON object: ",
    ),
    "extra in a row": (
        PREDICT,
        {"instances": [{**ROW, "more": 1}]},
        400,
        "JSON object: does not have named input: more",
    ),
    "rows of different shapes": (
        PREDICT,
        {"instances": [ROW, {**ROW, "state": [1.0]}]},
        400,
        "Failed to process element: 1 key: state of 'instances' list. Error: ",
    ),
    "missing column": (
        PREDICT,
        {"inputs": {"state": TWO["state"]}},
        400,
        "Missing named input: scale in 'inputs' object.",
    ),
    "ragged": (
        PREDICT,
        {"inputs": {**TWO, "state": [[1, 2], [1]]}},
        400,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "uneven depth": (
        PREDICT,
        {"inputs": {**TWO, "scale": [1, [2]]}},
        400,
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    "wrong type": (
        PREDICT,
        {"inputs": {**TWO, "scale": [1, "a"]}},
        400,
        'JSON Value: "a" Type: String is not of expected type: float',
    ),
    "halves": (
        ODD,
        {"signature_name": "half", "inputs": [1]},
        501,
        "Conversion of JSON Value: 1 to type: half",
    ),
    "halves by rows": (
        ODD,
        {"signature_name": "half", "instances": [1]},
        400,
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of "
        "JSON Value: 1 to type: half",
    ),
    "16 bits": (
        ODD,
        {"signature_name": "short", "inputs": [1]},
        501,
        "Conversion of JSON Value: 1 to type: uint16",
    ),
    "halves in the answer": (
        ODD,
        {"signature_name": "half", "inputs": []},
        400,
        "Failed to write JSON value for tensor type: half",
    ),
    "too much padding": (
        PREDICT,
        {"signature_name": "shout", "inputs": [{"b64": "YQ==="}]},
        400,
        "Unable to base64 decode",
    ),
    "wrong base64": (
        PREDICT,
        {"signature_name": "shout", "inputs": [{"b64": "%"}]},
        400,
        "Unable to base64 decode",
    ),
    "classify": (
        "/v1/models/dense:classify",
        {"examples": [{}]},
        400,
        "Expected one input Tensor.",
    ),
    "classify without examples": (
        "/v1/models/dense:classify",
        {},
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
    ),
    "examples are no list": (
        "/v1/models/dense:regress",
        {"examples": 1},
        400,
        "Expecting 'examples' value to be an list/array",
    ),
    "no examples": (
        "/v1/models/dense:regress",
        {"examples": []},
        400,
        "'examples' value is an empty array",
    ),
    "an example is no object": (
        "/v1/models/dense:regress",
        {"examples": [True]},
        400,
        "Example must be JSON object but got JSON True",
    ),
    "a feature of two types": (
        "/v1/models/dense:classify",
        {"examples": [{"a": [True, 1]}, {"a": [1, "x"]}]},
        400,
        "Unexpected element type in feature: a expecting type: int64",
    ),
    "a feature that is no number of 64 bits": (
        "/v1/models/dense:classify",
        {"examples": [{"a": 2**63}]},
        400,
        "Feature: a has uint64 element. Only int64 is supported.",
    ),
    "a feature of wrong base64": (
        "/v1/models/dense:regress",
        {"context": {"a": ["x", {"b64": "%"}]}, "examples": [{}]},
        400,
        "Unable to base64 decode",
    ),
    "status of an unknown model": (
        "/v1/models/other",
        None,
        404,
        "Could not find any versions of model other",
    ),
}


@pytest.mark.parametrize("case", REST)
def test_rest_refuses_with_the_codes_and_words_of_the_stock_server(target, case):
    path, body, code, text = REST[case]
    found, answer = http(target[1] + path, body)
    assert found == code and list(answer) == ["error"]
    assert text in answer["error"]


def test_rest_rows_and_columns_answer_alike(target):
    rows = [{"state": row, "scale": scale} for row, scale in zip(*TWO.values())]
    code, by_rows = http(target[1] + PREDICT, {"instances": rows})
    assert code == 200 and list(by_rows) == ["predictions"]
    code, by_columns = http(target[1] + PREDICT, {"inputs": TWO, "signature_name": "serve"})
    assert code == 200 and list(by_columns) == ["outputs"]
    for key, column in by_columns["outputs"].items():
        assert [row[key] for row in by_rows["predictions"]] == column
    assert len(by_rows["predictions"]) == 2 and len(by_columns["outputs"]["state"][0]) == 4


def test_rest_unwraps_a_single_output_and_reads_base64(target):
    shout = {"signature_name": "shout"}
    for key, value, answer in (
        ("instances", ["a", {"b64": "Yg=="}], "predictions"),
        ("instances", [{"text": "a"}, {"text": {"b64": "Yg=="}}], "predictions"),
        ("inputs", ["a", "b"], "outputs"),
        ("inputs", {"text": ["a", "b"], "more": 1}, "outputs"),
    ):
        assert http(target[1] + PREDICT, {**shout, key: value}) == (200, {answer: ["A", "B"]})


@pytest.mark.parametrize("infinite", ["Infinity", "Inf", "-Inf", "-Infinity"])
def test_rest_knows_what_is_no_number(target, infinite):
    body = f'{{"instances": [{{"state": [NaN, 0, 0, 0], "scale": {infinite}}}]}}'.encode()
    code, answer = http(target[1] + PREDICT, body)
    assert code == 200 and np.isnan(answer["predictions"][0]["norm"])


def test_rest_rounds_numbers_and_reads_no_further_than_the_document(target):
    body = json.dumps({"signature_name": "any", "inputs": [[16777217], [1e39]]}).encode()
    for more in (b"", b" }", b'{"inputs": 1}', b"\xff"):
        assert http(target[1] + PREDICT, body + more) == (200, {"outputs": [2.0**24, np.inf]})
    _, answer = http(target[1] + PREDICT, '{"ä": x}'.encode())
    assert answer["error"] == "JSON Parse error: Invalid value. at offset: 7"


@pytest.mark.parametrize("text", ["Yg==", "Yg", "Y\ng =\r\n=", " Y g ", "Yg..", "Yh"])
def test_rest_reads_base64_without_padding_or_with_blanks(target, text):
    body = {"signature_name": "shout", "inputs": [{"b64": text}]}
    assert http(target[1] + PREDICT, body) == (200, {"outputs": ["B"]})


def test_rest_tells_the_start_of_a_value_in_one_line(target):
    code, answer = http(target[1] + PREDICT, {"inputs": {**TWO, "scale": {"a": [1, None] * 200}}})
    start = '{"a":[' + "1,null," * 200
    text = f"JSON Value: {start[:256]} Type: Object is not of expected type: float"
    assert (code, answer["error"]) == (400, text)


def test_rest_answers_options_by_the_origin(target):
    ways = {"method": "OPTIONS", "headers": {"Origin": "http://elsewhere"}}
    assert send(target[1] + PREDICT, **ways)[:2] == (200, b"")
    assert send(target[1] + PREDICT, method="OPTIONS")[:2] == (400, b"")


def test_large_answers_come_whole(target):
    values = [float(number) for number in range(300_000)]
    document = {"signature_name": "any", "inputs": [[value] for value in values]}
    status, answer, headers = send(f"{target[1]}{PREDICT}", document)
    assert status == 200 and int(headers["Content-Length"]) == len(answer) > 2**20
    assert json.loads(answer) == {"outputs": values}


def test_rest_tells_status_and_metadata(target):
    code, answer = http(f"{target[1]}/v1/models/dense/versions/2")
    version = {"version": "2", "state": "AVAILABLE"}
    version["status"] = {"error_code": "OK", "error_message": ""}
    assert (code, answer) == (200, {"model_version_status": [version]})
    code, answer = http(f"{target[1]}/v1/models/dense/metadata")
    assert code == 200 and answer["model_spec"]["version"] == "2"
    signature = answer["metadata"]["signature_def"]["signature_def"]["serve"]
    assert signature["inputs"]["state"]["dtype"] == "DT_FLOAT"
    sizes = [dim["size"] for dim in signature["inputs"]["state"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "4"]


def test_metrics_stand_under_the_stock_servers_names(target, stubs):
    stubs["Predict"](request())
    with urllib.request.urlopen(f"{target[1]}/monitoring/prometheus/metrics") as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"] == "text/plain"
    assert "# TYPE :tensorflow:serving:request_count counter" in text
    assert ':tensorflow:serving:request_count{model_name="dense",status="OK"} ' in text
    labels = 'model_name="dense",API="Predict",entrypoint="GRPC"'
    assert f":tensorflow:serving:request_latency_bucket{{{labels},le=" in text
    assert ':tensorflow:serving:runtime_latency_count{model_name="dense",API="Predict",ru' in text
