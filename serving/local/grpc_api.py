"""The gRPC API of the local server, on the stubs of tensorflow-serving-api."""

import logging
from collections.abc import Callable
from typing import TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec

from courier_tf.escaping import printable
from serving.bundle.graph_model import Method
from serving.bundle.messages import MessageError, inputs_of, serialised_examples
from serving.client.contract import REQUEST_ID
from serving.local.answering import answer
from serving.local.loaded import AnswerError, LoadedModels

LOG = logging.getLogger(__name__)
#: Bytes of an error message. It travels in the trailing headers: a byte takes up to three there, of 8 KiB in all.
LONGEST_MESSAGE = 2000
SERVER_NAME = ("x-server", "courier local server")  # So that nobody takes its figures for those of TensorFlow Serving.
Response = TypeVar("Response")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress, GetModelMetadata. MultiInference answers UNIMPLEMENTED."""

    def __init__(self, models: LoadedModels) -> None:
        self.models = models

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        return _guarded(context, lambda: self._predict(request, context))

    def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        return _guarded(context, lambda: classified(*self._answer_examples(request, context, "classify")))

    def Regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        return _guarded(context, lambda: regressed(*self._answer_examples(request, context, "regress")))

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return _guarded(context, lambda: metadata(self.models, request))

    def _predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        spec, outputs = answer(
            self.models, request.model_spec, inputs_of(request), request.output_filter, context.time_remaining()
        )
        response = predict_pb2.PredictResponse(model_spec=spec)
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def _answer_examples(
        self,
        request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest,
        context: grpc.ServicerContext,
        method: Method,
    ) -> tuple[ModelSpec, dict[str, np.ndarray]]:
        inputs = {"inputs": serialised_examples(request.input)}
        return answer(self.models, request.model_spec, inputs, (), context.time_remaining(), method)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus. It refuses a request to reload, since the versions follow models.config."""

    def __init__(self, models: LoadedModels) -> None:
        self.models = models

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return _guarded(context, lambda: self.models.status(request.model_spec))

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the local server follows models.config")


def classified(spec: ModelSpec, outputs: dict[str, np.ndarray]) -> classification_pb2.ClassificationResponse:
    """Writes [B, C] classes and scores as a response."""
    response = classification_pb2.ClassificationResponse(model_spec=spec)
    for labels, scores in zip(outputs["classes"], outputs["scores"], strict=True):
        row = response.result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            row.classes.add(label=label.decode(), score=score)
    return response


def regressed(spec: ModelSpec, outputs: dict[str, np.ndarray]) -> regression_pb2.RegressionResponse:
    """Writes [B] values as a response."""
    response = regression_pb2.RegressionResponse(model_spec=spec)
    for value in outputs["outputs"]:
        response.result.regressions.add(value=value)
    return response


def metadata(
    models: LoadedModels, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Describes the signatures of a version.

    Raises:
        AnswerError: there is no such version, or the request is for other metadata than `signature_def`.
    """
    if list(request.metadata_field) != ["signature_def"]:
        raise AnswerError(
            grpc.StatusCode.INVALID_ARGUMENT, f"metadata_field must be signature_def, but is {request.metadata_field}"
        )
    version, model = models.find(request.model_spec)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in model.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name, response.model_spec.version.value = request.model_spec.name, version
    response.metadata["signature_def"].Pack(signatures)
    return response


def message_of(error: Exception) -> str:
    """The message of an error, cut to LONGEST_MESSAGE bytes."""
    message = str(error).encode(errors="replace")
    return message[:LONGEST_MESSAGE].decode(errors="ignore") + (" ..." if len(message) > LONGEST_MESSAGE else "")


def _guarded(context: grpc.ServicerContext, respond: Callable[[], Response]) -> Response:
    """Returns the response, or ends the call with the status that says what is wrong."""
    request_id = dict(context.invocation_metadata()).get(REQUEST_ID, "-")[:LONGEST_MESSAGE]
    context.send_initial_metadata([SERVER_NAME])
    try:
        return respond()
    except AnswerError as error:
        LOG.info("request %s: %s %s", request_id, error.code.name, printable(message_of(error), LONGEST_MESSAGE))
        code, message = error.code, message_of(error)
    except MessageError as error:
        LOG.info("request %s: %s", request_id, printable(message_of(error), LONGEST_MESSAGE))
        code, message = grpc.StatusCode.INVALID_ARGUMENT, message_of(error)
    except Exception:
        LOG.exception("request %s", request_id)
        code, message = grpc.StatusCode.INTERNAL, f"the server failed; its log has request {request_id}"
    context.abort(code, message)
    raise AssertionError("abort() raises")
