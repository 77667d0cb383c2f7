"""How a request travels: gRPC here, REST in rest_transport.py. Both give arrays, or a `CallError` with a gRPC code."""

from collections.abc import Mapping
from typing import Any, Protocol

import grpc
import numpy as np
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.bundle.messages import MessageError, model_spec, outputs_of, predict_request
from serving.client.contract import REQUEST_ID


class CallError(RuntimeError):
    """A call failed.

    Attributes:
        code: gRPC status code.
        request_id: that the server's log has.
    """

    def __init__(self, code: grpc.StatusCode, message: str, request_id: str) -> None:
        super().__init__(f"{code.name}: {message} (request {request_id})")
        self.code, self.request_id = code, request_id


class Transport(Protocol):
    """One attempt of a call."""

    def predict(
        self,
        model: str,
        label: str | None,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        timeout_seconds: float,
        request_id: str,
    ) -> dict[str, np.ndarray]:
        """Arrays in, arrays out; strings are bytes. Raises CallError."""

    def versions(self, model: str, timeout_seconds: float, request_id: str) -> dict[int, str]:
        """Version -> state (AVAILABLE, ...). Raises CallError."""

    def close(self) -> None:
        """Ends the connection."""


class GrpcTransport:
    """gRPC. `target` is host:port; `credentials` for TLS."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        # Retries are the client's, which knows the deadline; messages of any size, as the server takes them. A server
        # that was away is tried again within a second (by default it is up to two minutes), and a connection whose
        # other end has vanished is given up.
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.keepalive_time_ms", 300_000),  # More often than every five minutes a server takes for an attack.
            ("grpc.keepalive_timeout_ms", 5_000),
        ]
        if credentials:
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._predict = PredictionServiceStub(self._channel).Predict
        self._status = ModelServiceStub(self._channel).GetModelStatus

    def predict(self, model, label, signature, inputs, timeout_seconds, request_id) -> dict[str, np.ndarray]:
        request = predict_request(model_spec(model, signature, label=label), inputs)
        response = self._call(self._predict, request, timeout_seconds, request_id)
        try:
            return outputs_of(response)
        except MessageError as error:
            raise CallError(grpc.StatusCode.INTERNAL, f"the answer cannot be read: {error}", request_id) from error

    def versions(self, model: str, timeout_seconds: float, request_id: str) -> dict[int, str]:
        request = GetModelStatusRequest(model_spec=model_spec(model))
        response = self._call(self._status, request, timeout_seconds, request_id)
        return {one.version: ModelVersionStatus.State.Name(one.state) for one in response.model_version_status}

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Any, timeout_seconds: float, request_id: str) -> Any:
        try:
            return method(request, timeout=timeout_seconds, metadata=[(REQUEST_ID, request_id)])
        except grpc.RpcError as error:
            raise CallError(error.code(), error.details() or "", request_id) from error
