"""The messages of gRPC: of a question, and the answer that one holds. No connection is needed for them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message

from serving.client.messages_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
)
from serving.client.tensors import TensorError, to_arrays, to_protos
from serving.client.transport import CallError, Predict, Question, Versions

#: How gRPC names a call that was lost with its connection, such as that of a process before a fork.
_LOST = ("stream removed", "closed on fork", "closed due to fork", "channel closed")


class Method(NamedTuple):
    """A method of a server, as a channel calls it."""

    path: str
    response: type[Message]


METHODS: Mapping[type[Question], Method] = {
    Predict: Method("/tensorflow.serving.PredictionService/Predict", PredictResponse),
    Versions: Method("/tensorflow.serving.ModelService/GetModelStatus", GetModelStatusResponse),
}


def callables(channel: Any) -> dict[type[Question], Any]:
    """The methods of a channel, of gRPC's two kinds, by the questions that they answer."""
    return {
        kind: channel.unary_unary(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
        for kind, method in METHODS.items()
    }


def message_of(question: Question) -> Message:
    """The message of a question.

    Raises:
        TensorError: an input is no tensor.
    """
    if isinstance(question, Versions):
        return GetModelStatusRequest(model_spec=ModelSpec(name=question.model))
    spec = ModelSpec(name=question.model, signature_name=question.signature, version_label=question.label)
    return PredictRequest(model_spec=spec, inputs=to_protos(question.inputs, "input"))


def answer_in(response: Message, request_id: str) -> Any:
    """The answer that a message holds.

    Raises:
        CallError: it cannot be read.
    """
    if isinstance(response, GetModelStatusResponse):
        return {status.version: _name(status.state) for status in response.model_version_status}
    assert isinstance(response, PredictResponse)
    try:
        return to_arrays(response.outputs, "output")
    except TensorError as error:
        raise CallError(grpc.StatusCode.INTERNAL, f"the answer cannot be read: {error}", request_id) from error


def is_lost(error: grpc.RpcError) -> bool:
    """Whether a call went down with its channel, so that only another channel helps."""
    details = (error.details() or "").lower()
    lost = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    return error.code() in lost and any(text in details for text in _LOST)


def call_error(error: grpc.RpcError, request_id: str) -> CallError:
    """The error of a call. One that was lost with its channel is UNAVAILABLE, as nobody has cancelled it."""
    code = grpc.StatusCode.UNAVAILABLE if is_lost(error) else error.code()
    return CallError(code, error.details() or "", request_id)


def _name(state: int) -> str:
    states = ModelVersionStatus.State
    return states.Name(state) if state in states.values() else f"state {state}"
