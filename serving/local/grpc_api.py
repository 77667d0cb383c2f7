"""The gRPC API of the local server, on the stubs of tensorflow-serving-api."""

import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError
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
from tensorflow_serving.apis.model_pb2 import ModelSpec

from courier_tf.escaping import printable
from serving.bundle.messages import MessageError, serialised_examples
from serving.client.contract import REQUEST_ID
from serving.local import examples
from serving.local.answering import answer, refuse
from serving.local.loaded import AnswerError, LoadedModels
from serving.local.metrics import REQUEST_COUNT, REQUEST_LATENCY, Metrics
from serving.local.tensors import to_array, to_proto

LOG = logging.getLogger(__name__)
#: Bytes of an error message. It travels in the trailing headers: a byte takes up to three there, of 8 KiB in all.
LONGEST_MESSAGE = 2000
SERVER_NAME = ("x-server", "courier local server")  # So that nobody takes its figures for those of TensorFlow Serving.
Response = TypeVar("Response")


class _Request(Protocol):
    """A request that names a model."""

    model_spec: ModelSpec

    def HasField(self, name: Any) -> bool: ...


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress, MultiInference, GetModelMetadata."""

    def __init__(self, models: LoadedModels) -> None:
        self.models = models

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        return self._counted("Predict", request, context, lambda: self._predict(request, context))

    def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        return self._counted("Classify", request, context, lambda: self._classify(request, context))

    def Regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        return self._counted("Regress", request, context, lambda: self._regress(request, context))

    def MultiInference(
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        return _guarded(context, lambda: examples.infer(self.models, request, context.time_remaining()))

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return _guarded(context, lambda: metadata(self.models, request))

    def _counted(
        self, api: str, request: _Request, context: grpc.ServicerContext, respond: Callable[[], Response]
    ) -> Response:
        """Answers, and counts the request with its time."""
        counting = _Counting(self.models.metrics, request.model_spec.name, api)
        return _guarded(context, lambda: respond() if request.HasField("model_spec") else _no_model(), counting)

    def _predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        inputs = {name: to_array(f"input {name!r}", proto) for name, proto in request.inputs.items()}
        spec, outputs = answer(self.models, request.model_spec, inputs, request.output_filter, context.time_remaining())
        response = predict_pb2.PredictResponse(model_spec=spec)
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(to_proto(value))
        return response

    def _classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        rows = serialised_examples(request.input)
        spec, classified = examples.classify(self.models, request.model_spec, rows, context.time_remaining())
        return classification_pb2.ClassificationResponse(model_spec=spec, result=examples.classification_of(classified))

    def _regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        rows = serialised_examples(request.input)
        spec, values = examples.regress(self.models, request.model_spec, rows, context.time_remaining())
        return regression_pb2.RegressionResponse(model_spec=spec, result=examples.regression_of(values))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus. It refuses a request to reload, since the versions follow models.config."""

    def __init__(self, models: LoadedModels) -> None:
        self.models = models

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return _guarded(
            context,
            lambda: self.models.status(request.model_spec) if request.HasField("model_spec") else _no_model(),
        )

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the local server follows models.config")


class MalformedMessages(grpc.ServerInterceptor):
    """Refuses bytes that are no message as the fault of the sender, in one line.

    gRPC would call them INTERNAL, and log a traceback for each.
    """

    def intercept_service(
        self, continuation: Callable[[Any], grpc.RpcMethodHandler | None], handler_call_details: Any
    ) -> grpc.RpcMethodHandler | None:
        """Wraps what reads the request of a call."""
        handler: Any = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def read(content: bytes) -> Any:
            try:
                return handler.request_deserializer(content)
            except DecodeError as error:
                return error

        def respond(request: Any, context: grpc.ServicerContext) -> Any:
            if isinstance(request, DecodeError):
                LOG.info("%s: not a message: %s", handler_call_details.method, printable(request, LONGEST_MESSAGE))
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the request is no message: {message_of(request)}")
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(respond, read, handler.response_serializer)


def metadata(
    models: LoadedModels, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Describes the signatures of a version.

    Raises:
        AnswerError: there is no such version, or the request is for other metadata than `signature_def`.
    """
    if not request.HasField("model_spec"):
        _no_model()
    if set(request.metadata_field) != {"signature_def"}:
        refuse(f"metadata_field must be signature_def, but is {request.metadata_field}")
    version, model = models.find(request.model_spec)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in model.definitions.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name, response.model_spec.version.value = request.model_spec.name, version
    response.metadata["signature_def"].Pack(signatures)
    return response


def message_of(error: Exception) -> str:
    """The message of an error, cut to LONGEST_MESSAGE bytes."""
    message = str(error).encode(errors="replace")
    return message[:LONGEST_MESSAGE].decode(errors="ignore") + (" ..." if len(message) > LONGEST_MESSAGE else "")


class _Counting:
    """Counts one request to a model, and takes its time."""

    def __init__(self, metrics: Metrics, model: str, api: str) -> None:
        self._metrics, self._model, self._api, self._begun = metrics, model, api, time.monotonic()

    def end(self, code: grpc.StatusCode) -> None:
        """Takes the code with which the request has ended."""
        self._metrics.count(REQUEST_COUNT, self._model, code.name)
        if code == grpc.StatusCode.OK:
            elapsed = 1e6 * (time.monotonic() - self._begun)
            self._metrics.observe(REQUEST_LATENCY, elapsed, self._model, self._api, "GRPC")


def _no_model() -> NoReturn:
    raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")


def _guarded(
    context: grpc.ServicerContext, respond: Callable[[], Response], counting: _Counting | None = None
) -> Response:
    """Returns the response, or ends the call with the status that says what is wrong."""
    request_id = printable(dict(context.invocation_metadata()).get(REQUEST_ID, "-"), LONGEST_MESSAGE)
    context.send_initial_metadata([SERVER_NAME])
    code, message, response = grpc.StatusCode.OK, "", None
    try:
        response = respond()
    except AnswerError as error:
        LOG.info("request %s: %s %s", request_id, error.code.name, printable(message_of(error), LONGEST_MESSAGE))
        code, message = error.code, message_of(error)
    except MessageError as error:
        LOG.info("request %s: %s", request_id, printable(message_of(error), LONGEST_MESSAGE))
        code, message = grpc.StatusCode.INVALID_ARGUMENT, message_of(error)
    except Exception:
        LOG.exception("request %s", request_id)
        code, message = grpc.StatusCode.INTERNAL, f"the server failed; its log has request {request_id}"
    if counting:
        counting.end(code)
    if response is None:
        context.abort(code, message)
        raise AssertionError("abort() raises")
    return response
