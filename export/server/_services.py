"""TensorFlow Serving's services: what each call answers, whatever wire it came by.

`Frontend` takes and gives messages and raises `StatusError`; the gRPC services below and the REST
handler of `_rest.py` are two ways to it.
"""

import functools
import time
import traceback

import grpc
from grpc_health.v1 import health, health_pb2

from .. import _tensors
from .._session import StatusError, release_memory
from .._version import DEFAULT_SIGNATURE
from ._reading import parse_message, weight
from ._refusals import Caller, invalid, refuse

with _tensors.light_protos():
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

MESSAGE_LIMIT = 1024

MOST_BYTES = 2**22
"""Of a message that has neither tensors nor examples; gRPC's own default for all."""

_LARGE = 2**20  # bytes of a request after which memory is given back
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# After which a batch may still be about to take the inputs.
_MAY_RUN = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED


class Frontend:
    """All calls on some `Models`, counted in some `Metrics`.

    Every method takes the call's message and answers with the response's; `entry`, "GRPC" or
    "REST", tells the metrics where the call came in. All raise `StatusError`.
    """

    def __init__(self, models, metrics):
        self.models, self.metrics = models, metrics

    def predict(self, request, inputs, caller):
        """Runs a signature for a `Caller`.

        Args:
            request: `PredictRequest`, without its inputs.
            inputs: these, as `_reading.read_message` has them; their strings are gone afterwards.
            caller: `Caller`.

        Returns:
            The bytes of a `PredictResponse`.
        """
        spec = request.model_spec

        def run(model, left):
            arrays = model.run(spec.signature_name, inputs, request.output_filter, left)
            answer = _write(spec, model.version, arrays)
            _tensors.forget(arrays.values())
            return answer

        check = functools.partial(_check_spec, request)
        return self._run(run, spec, inputs, caller, "GRPC", check)

    def predict_arrays(self, spec, inputs, caller):
        """As `predict`, by REST: a dict of arrays for a `ModelSpec` and inputs."""

        def run(model, left):
            return model.run(spec.signature_name, inputs, timeout=left)

        return self._run(run, spec, inputs, caller, "REST")

    def _run(self, run, spec, inputs, caller, entry, check=lambda: None):
        def asked():
            check()
            while True:
                with self.models.use(spec, caller) as model:
                    try:
                        return run(model, caller.left())
                    except StatusError as error:
                        if not model.ended or _CODES[error.code] != grpc.StatusCode.CANCELLED:
                            raise

        try:
            answer = self._counted(asked, spec.name, "Predict", entry)
        except StatusError as error:
            if _CODES[error.code] not in _MAY_RUN:
                _tensors.forget(inputs.values())
            raise
        _tensors.forget(inputs.values())
        return answer

    def classify(self, request, entry="GRPC"):
        """Refuses, as the stock server does: no signature of the zoo takes `tf.Example`."""
        run = functools.partial(self._examples, request, _check_classify)
        return self._counted(run, request.model_spec.name, "Classify", entry)

    def regress(self, request, entry="GRPC"):
        """As `classify`."""
        run = functools.partial(self._examples, request, _check_regress)
        return self._counted(run, request.model_spec.name, "Regress", entry)

    def multi_inference(self, request):
        """As `classify`, for several signatures at once."""
        name = request.tasks[0].model_spec.name if request.tasks else ""
        run = functools.partial(self._multi_inference, request)
        return self._counted(run, name, "MultiInference", "GRPC")

    def _counted(self, run, name, api, entry):
        start, status = time.perf_counter(), "INTERNAL"
        try:
            answer = run()
            status = "OK"
            return answer
        except StatusError as error:
            status = _CODES[error.code].name
            raise
        finally:
            # A label that any caller may choose would be one more number to keep for each.
            name = name if self.models.knows(name) else ""
            self.metrics.count("request_count", model_name=name, status=status)
            if status == "OK":
                labels = {"model_name": name, "API": api, "entrypoint": entry}
                took = time.perf_counter() - start
                self.metrics.observe("request_latency", took, **labels)

    def _examples(self, request, check):
        _check_spec(request)
        with self.models.use(request.model_spec) as model:
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if name not in model.signatures:
                raise invalid(f"No signature was found with the name: {name}")
            check(model.signatures[name])
        raise _no_examples()

    def _multi_inference(self, request):
        tasks = request.tasks
        spec = (
            tasks[0].model_spec
            if tasks
            else get_model_status_pb2.GetModelStatusRequest().model_spec
        )
        checks, seen, inputs = {CLASSIFY: _check_classify, REGRESS: _check_regress}, set(), set()
        with self.models.use(spec) as model:
            for task in tasks:
                if not task.model_spec.name:
                    raise invalid("Found ModelSpec with an empty model name.")
                if task.model_spec.name != spec.name:
                    raise invalid(
                        "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                    )
                name = task.model_spec.signature_name or DEFAULT_SIGNATURE
                if name in seen:
                    raise invalid(f"Duplicate evaluation of signature: {name}")
                seen.add(name)
                if name not in model.signatures:
                    raise invalid(f"Requested signature not found in model graph: {name}")
                if task.method_name not in checks:
                    text = f"Unsupported signature method_name: {task.method_name}"
                    raise refuse(grpc.StatusCode.UNIMPLEMENTED, text)
                checks[task.method_name](model.signatures[name])
                inputs.add(model.signatures[name].inputs["inputs"].name)
                if len(inputs) > 1:
                    raise invalid("Input tensor must be the same for all Signatures.")
        raise _no_examples()

    def metadata(self, request):
        """The signatures of a model."""
        _check_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.models.use(request.model_spec) as model:
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.model_spec.name = model.name
            response.model_spec.version.value = model.version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request):
        """The state of each version of a model."""
        _check_spec(request)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in self.models.states(request.model_spec):
            status = response.model_version_status.add(version=number, state=state)
            status.status.error_code = error.code if error else 0
            status.status.error_message = error.message if error else ""
        return response

    def reload(self, request):
        """Serves what another configuration asks for."""
        self.models.reload(request.config)
        return model_management_pb2.ReloadConfigResponse()


def _write(spec, version, arrays):
    """The bytes of a `PredictResponse`."""
    head = predict_pb2.PredictResponse()
    head.model_spec.name = spec.name
    head.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
    head.model_spec.version.value = version
    parts = [head.SerializeToString()]
    for alias, array in arrays.items():
        name, value = alias.encode(), _tensors.write(array)
        entry = [*_tensors.framed(1, [name]), *_tensors.framed(2, value)]
        parts += _tensors.framed(head.OUTPUTS_FIELD_NUMBER, entry)
    return b"".join(parts)


def _check_spec(request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _check_classify(signature):
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    if not {"classes", "scores"} & set(signature.outputs):
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {signature}'
        )


def _check_regress(signature):
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    for name, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if name not in tensors:
            raise invalid(f"No regression {name} found in SignatureDef: {signature}")


def _no_examples():
    text = "tf.Example is not served here; ask the signature by Predict"
    return refuse(grpc.StatusCode.UNIMPLEMENTED, text)


def cut(message):
    """The text as the stock server sends it."""
    return message if len(message) <= MESSAGE_LIMIT else f"{message[:MESSAGE_LIMIT]}...TRUNCATED"


def internal(error):
    """The `StatusError` that tells of an error which nothing foresaw; gRPC would say UNKNOWN."""
    if isinstance(error, MemoryError):
        return refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is out of memory")
    traceback.print_exception(error)
    return refuse(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def _answers(method):
    """Turns a `StatusError` into the RPC's status."""

    @functools.wraps(method)
    def answer(self, request, context):
        # As in `_rest.call`, no error outlives its name.
        try:
            if isinstance(request, StatusError):
                raise request
            return method(self, request, context)
        except StatusError as error:
            code, text = _CODES[error.code], error.message
        except Exception as error:
            told = internal(error)
            code, text = _CODES[told.code], told.message
        context.abort(code, cut(text))

    return answer


def in_pool(pool, method):
    """The method of a service, to be run by a pool of its own and not by the server's."""
    call = functools.partial(method)
    call.experimental_thread_pool = pool
    return call


def small(kind):
    """A function of bytes to a message of a class, or to the `StatusError` that refuses them.

    gRPC parses messages in the one thread that takes all calls.
    """

    def parse(data):
        try:
            if len(data) > MOST_BYTES:
                text = f"Received message larger than max ({len(data)} vs. {MOST_BYTES})"
                raise refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            return parse_message(data, kind)
        except StatusError as error:
            return error.with_traceback(None)

    return parse


def _caller(context):
    left = context.time_remaining()
    # gRPC says centuries where a caller has no deadline.
    caller = Caller(left if left is not None and left < 1e8 else None)
    if not context.add_callback(caller.leave):
        caller.leave()
    return caller


class PredictionService:
    """Predict, GetModelMetadata, and the refusals of Classify, Regress and MultiInference.

    Args:
        frontend: `Frontend`.
        readers: `Readers` of messages with tensors or examples.
        light: executor of what never waits for a run.
    """

    def __init__(self, frontend, readers, light):
        self._frontend, self._readers, self._light = frontend, readers, light

    def handler(self):
        """What a gRPC server answers this service by."""
        metadata = get_model_metadata_pb2.GetModelMetadataRequest
        methods = {
            "Predict": _unary(self._predict),
            "Classify": _unary(self._classify),
            "Regress": _unary(self._regress),
            "MultiInference": _unary(self._multi_inference),
            "GetModelMetadata": _unary(in_pool(self._light, self._metadata), metadata),
        }
        return grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", methods)

    def _read(self, kind, data, context, weight=None):
        caller = _caller(context)
        if len(data) > _LARGE:
            context.add_callback(release_memory)
        return *self._readers.read("read_message", caller, data, kind, weight=weight), caller

    @_answers
    def _predict(self, data, context):
        kind = predict_pb2.PredictRequest
        request, inputs, caller = self._read(kind, data, context, weight(data))
        del data
        return self._frontend.predict(request, inputs, caller)

    @_answers
    def _classify(self, data, context):
        request, *_ = self._read(classification_pb2.ClassificationRequest, data, context)
        return self._frontend.classify(request)

    @_answers
    def _regress(self, data, context):
        request, *_ = self._read(regression_pb2.RegressionRequest, data, context)
        return self._frontend.regress(request)

    @_answers
    def _multi_inference(self, data, context):
        request, *_ = self._read(inference_pb2.MultiInferenceRequest, data, context)
        return self._frontend.multi_inference(request)

    @_answers
    def _metadata(self, request, context):
        return self._frontend.metadata(request).SerializeToString()


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        frontend: `Frontend`.
        light: executor of what never waits for a run.
    """

    def __init__(self, frontend, light):
        self._frontend, self._light = frontend, light

    def handler(self):
        """What a gRPC server answers this service by."""
        status = get_model_status_pb2.GetModelStatusRequest
        methods = {
            "GetModelStatus": _unary(in_pool(self._light, self._status), status),
            "HandleReloadConfigRequest": _unary(
                self._reload, model_management_pb2.ReloadConfigRequest
            ),
        }
        return grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", methods)

    @_answers
    def _status(self, request, context):
        return self._frontend.status(request).SerializeToString()

    @_answers
    def _reload(self, request, context):
        return self._frontend.reload(request).SerializeToString()


def health_handler(checks, light):
    """What a gRPC server answers health checks by.

    Args:
        checks: `HealthServicer`.
        light: executor of what never waits for a run.
    """

    def parsed(kind):
        parse = small(kind)

        def message(data):
            found = parse(data)
            return found if isinstance(found, kind) else None  # gRPC refuses it, then

        return message

    question, answer = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(
            in_pool(light, checks.Check), parsed(question), answer.SerializeToString
        ),
        "List": grpc.unary_unary_rpc_method_handler(
            in_pool(light, checks.List),
            parsed(health_pb2.HealthListRequest),
            health_pb2.HealthListResponse.SerializeToString,
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            checks.Watch, parsed(question), answer.SerializeToString
        ),
    }
    return grpc.method_handlers_generic_handler(health.SERVICE_NAME, methods)


def _unary(method, kind=None):
    """The handler of a method of bytes, or of what `small` makes of them, to bytes."""
    return grpc.unary_unary_rpc_method_handler(method, kind and small(kind))
