"""How a request travels: gRPC or REST. Both give arrays, or a `CallError` with a gRPC status code."""

import base64
from collections.abc import Mapping
from typing import Any, Protocol

import grpc
import numpy as np
import requests
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.messages import MessageError, model_spec, outputs_of, predict_request

REQUEST_ID, TIMEOUT_HEADER = "x-request-id", "x-request-timeout-seconds"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    411: grpc.StatusCode.INVALID_ARGUMENT,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


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
        # Retries are the client's, which knows the deadline; messages of any size, as the server takes them.
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
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


class RestTransport:
    """REST. `target` is a URL such as http://localhost:8501."""

    def __init__(self, target: str) -> None:
        self._url, self._session = target.rstrip("/"), requests.Session()

    def predict(self, model, label, signature, inputs, timeout_seconds, request_id) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {name: _to_json(value) for name, value in inputs.items()}}
        place = f"{model}/labels/{label}" if label else model
        outputs = self._call("POST", f"{place}:predict", body, timeout_seconds, request_id)["outputs"]
        if not isinstance(outputs, dict):  # A single output comes without its name.
            outputs = {"outputs": outputs}
        return {name: _from_json(value) for name, value in outputs.items()}

    def versions(self, model: str, timeout_seconds: float, request_id: str) -> dict[int, str]:
        answer = self._call("GET", model, None, timeout_seconds, request_id)
        return {int(one["version"]): one["state"] for one in answer["model_version_status"]}

    def close(self) -> None:
        self._session.close()

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_seconds: float, request_id: str
    ) -> dict[str, Any]:
        headers = {REQUEST_ID: request_id, TIMEOUT_HEADER: f"{timeout_seconds:.3f}"}
        try:
            answer = self._session.request(
                method, f"{self._url}/v1/models/{path}", json=body, headers=headers, timeout=timeout_seconds
            )
        except requests.Timeout as error:
            raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, str(error), request_id) from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:  # Or its answer is cut.
            raise CallError(grpc.StatusCode.UNAVAILABLE, str(error), request_id) from error
        except (requests.RequestException, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error), request_id) from error
        try:
            content = answer.json()
        except ValueError:
            content = {"error": answer.text[:500]}
        if answer.status_code != 200:
            code = _CODES.get(answer.status_code, grpc.StatusCode.UNKNOWN)
            raise CallError(code, str(content.get("error", content)), request_id)
        return content


def _to_json(value: np.ndarray) -> Any:
    if value.dtype != object:
        return value.tolist()
    leaves = np.empty(value.size, object)
    # Ids are text, photos are not: base64 carries both, text is shorter.
    leaves[:] = [_text(leaf) for leaf in value.ravel()]
    return leaves.reshape(value.shape).tolist()


def _text(leaf: bytes) -> Any:
    try:
        return leaf.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(leaf).decode()}


def _from_json(value: Any) -> np.ndarray:
    found = np.array(value)
    if found.dtype.kind == "U":
        return np.char.encode(found).astype(object)
    return found.astype(np.float32) if found.dtype.kind == "f" else found
