"""How a request travels: by gRPC here, by REST in rest_transport.py. Both raise `CallError` with a gRPC code."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from serving.client.contract import REQUEST_ID
from serving.client.messages_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
)
from serving.client.tensors import TensorError, to_arrays, to_protos

Answer = TypeVar("Answer")


class CallError(RuntimeError):
    """A call failed.

    Attributes:
        code: gRPC status code.
        request_id: the ID of the call, which the log of the server has, too.
    """

    def __init__(self, code: grpc.StatusCode, message: str, request_id: str) -> None:
        super().__init__(f"{code.name}: {message} (request {request_id})")
        self.code, self.request_id = code, request_id


class Transport(Protocol):
    """Sends one attempt of a call."""

    def predict(
        self,
        model: str,
        label: str | None,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        timeout_seconds: float,
        request_id: str,
    ) -> dict[str, np.ndarray]:
        """Arrays in, arrays out; strings are bytes. Raises CallError, or TensorError for an input that is no tensor."""

    def versions(self, model: str, timeout_seconds: float, request_id: str) -> dict[int, str]:
        """Version -> state (AVAILABLE, ...). Raises CallError."""

    def close(self) -> None:
        """Ends the connection."""


class GrpcTransport:
    """Sends requests by gRPC. `target` is host:port; `credentials` are for TLS."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        # The client retries, as it knows the deadline. Messages may have any size, as they may for the server. A server
        # that was away is tried again within a second (gRPC's default is up to two minutes), and a connection whose
        # other end has vanished is given up.
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.keepalive_time_ms", 300_000),  # A server takes more than one every five minutes for an attack.
            ("grpc.keepalive_timeout_ms", 5_000),
        ]
        if credentials:
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._predict: Callable[..., PredictResponse] = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        self._status: Callable[..., GetModelStatusResponse] = self._channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=GetModelStatusRequest.SerializeToString,
            response_deserializer=GetModelStatusResponse.FromString,
        )

    def predict(
        self,
        model: str,
        label: str | None,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        timeout_seconds: float,
        request_id: str,
    ) -> dict[str, np.ndarray]:
        spec = ModelSpec(name=model, signature_name=signature, version_label=label)
        request = PredictRequest(model_spec=spec, inputs=to_protos(inputs, "input"))
        response = _call(self._predict, request, timeout_seconds, request_id)
        try:
            return to_arrays(response.outputs, "output")
        except TensorError as error:
            raise CallError(grpc.StatusCode.INTERNAL, f"the answer cannot be read: {error}", request_id) from error

    def versions(self, model: str, timeout_seconds: float, request_id: str) -> dict[int, str]:
        request = GetModelStatusRequest(model_spec=ModelSpec(name=model))
        response = _call(self._status, request, timeout_seconds, request_id)
        return {status.version: _name(status.state) for status in response.model_version_status}

    def close(self) -> None:
        self._channel.close()


def _call(method: Callable[..., Answer], request: Message, timeout_seconds: float, request_id: str) -> Answer:
    try:
        return method(request, timeout=timeout_seconds, metadata=[(REQUEST_ID, request_id)])
    except grpc.RpcError as error:
        raise CallError(error.code(), error.details() or "", request_id) from error


def _name(state: int) -> str:
    states = ModelVersionStatus.State
    return states.Name(state) if state in states.values() else f"state {state}"
