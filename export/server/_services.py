"""TensorFlow Serving's services: what each call answers, whatever wire it came by.

`Frontend` takes and gives messages and raises `StatusError`; the gRPC services below and the REST
handler of `_rest.py` are two ways to it.
"""

import functools
import time
import traceback

import grpc

from .. import _tensors
from .._session import StatusError
from .._version import DEFAULT_SIGNATURE
from ._refusals import invalid, refuse

with _tensors.light_protos():
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

MESSAGE_LIMIT = 1024
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Frontend:
    """All calls on some `Models`, counted in some `Metrics`.

    Every method takes the call's message and answers with the response's; `entry`, "GRPC" or
    "REST", tells the metrics where the call came in. All raise `StatusError`.
    """

    def __init__(self, models, metrics):
        self.models, self.metrics = models, metrics

    def predict(self, request, timeout=None, entry="GRPC"):
        """Runs a signature; `timeout` in seconds."""

        def run():
            _check_spec(request)
            with self.models.use(request.model_spec) as model:
                return model.predict(request, timeout)

        return self._counted(run, request.model_spec.name, "Predict", entry)

    def classify(self, request, entry="GRPC"):
        """Refuses, as the stock server does: no signature of the zoo takes `tf.Example`."""
        run = functools.partial(self._examples, request, _classify_refusal)
        return self._counted(run, request.model_spec.name, "Classify", entry)

    def regress(self, request, entry="GRPC"):
        """As `classify`."""
        run = functools.partial(self._examples, request, _regress_refusal)
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

    def _examples(self, request, refusal):
        _check_spec(request)
        with self.models.use(request.model_spec) as model:
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if name not in model.signatures:
                raise invalid(f"No signature was found with the name: {name}")
            raise refusal(model.signatures[name])

    def _multi_inference(self, request):
        tasks = request.tasks
        spec = (
            tasks[0].model_spec
            if tasks
            else get_model_status_pb2.GetModelStatusRequest().model_spec
        )
        with self.models.use(spec) as model:
            for task in tasks:
                if not task.model_spec.name:
                    raise invalid("Found ModelSpec with an empty model name.")
                if task.model_spec.name != spec.name:
                    raise invalid(
                        "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                    )
                name = task.model_spec.signature_name or DEFAULT_SIGNATURE
                if name not in model.signatures:
                    raise invalid(f"Requested signature not found in model graph: {name}")
                if task.method_name == CLASSIFY:
                    raise _classify_refusal(model.signatures[name])
                if task.method_name == REGRESS:
                    raise _regress_refusal(model.signatures[name])
                text = f"Unsupported signature method_name: {task.method_name}"
                raise refuse(grpc.StatusCode.UNIMPLEMENTED, text)

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


def _check_spec(request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _classify_refusal(signature):
    if len(signature.inputs) != 1:
        return invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        return invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    return _no_examples("classification", signature)


def _regress_refusal(signature):
    if len(signature.inputs) != 1:
        return invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        return invalid("Expected one output Tensor.")
    return _no_examples("regression", signature)


def _no_examples(kind, signature):
    if "inputs" not in signature.inputs:
        text = f"No {kind} inputs found in SignatureDef: {signature}"
        return refuse(grpc.StatusCode.FAILED_PRECONDITION, text)
    return refuse(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{kind} of tf.Example is not served here; ask the signature by Predict",
    )


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
        try:
            return method(self, request, context)
        except StatusError as error:
            refusal = error
        except Exception as error:
            refusal = internal(error)
        context.abort(_CODES[refusal.code], cut(refusal.message))

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, GetModelMetadata, and the refusals of Classify, Regress and MultiInference."""

    def __init__(self, frontend):
        self._frontend = frontend

    @_answers
    def Predict(self, request, context):
        left = context.time_remaining()
        # gRPC says centuries where a caller has no deadline.
        return self._frontend.predict(request, left if left is not None and left < 1e8 else None)

    @_answers
    def Classify(self, request, context):
        return self._frontend.classify(request)

    @_answers
    def Regress(self, request, context):
        return self._frontend.regress(request)

    @_answers
    def MultiInference(self, request, context):
        return self._frontend.multi_inference(request)

    @_answers
    def GetModelMetadata(self, request, context):
        return self._frontend.metadata(request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, frontend):
        self._frontend = frontend

    @_answers
    def GetModelStatus(self, request, context):
        return self._frontend.status(request)

    @_answers
    def HandleReloadConfigRequest(self, request, context):
        return self._frontend.reload(request)
