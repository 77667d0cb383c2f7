"""Sends requests by REST."""

import base64
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import requests
import urllib3

from serving.client.connection import Connection, Target, Tls
from serving.client.contract import TIMEOUT_HEADER
from serving.client.tensors import TensorError
from serving.client.timed_session import ended_by, timed_session
from serving.client.transport import (
    ANOTHER_WAS_QUICKER,
    CallError,
    Cancellation,
    Predict,
    Question,
    Versions,
    request_id_of,
)

_LONGEST_MESSAGE = 500
_CODES = {
    **dict.fromkeys((301, 302, 303, 307, 308), grpc.StatusCode.FAILED_PRECONDITION),
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


class RestTransport:
    """Sends requests to one server by REST."""

    def __init__(self, target: Target, connection: Connection) -> None:
        tls = connection.tls or Tls()
        self._url = target.address.rstrip("/")
        self._host = {"Host": target.name} if target.name else {}
        self._session = timed_session(target.name and target.name.rpartition(":")[0].strip("[]"))
        # Given with each request, as `requests` would else prefer REQUESTS_CA_BUNDLE.
        self._verify, self._certificate = str(tls.ca) if tls.ca else None, None
        if tls.certificate and tls.key:
            self._certificate = str(tls.certificate), str(tls.key)

    def ask(
        self,
        question: Question,
        headers: Mapping[str, str],
        timeout_seconds: float,
        cancellation: Cancellation | None = None,
    ) -> Any:
        try:
            with ended_by(cancellation):
                if isinstance(question, Versions):
                    content = self._call("GET", question.model, None, headers, timeout_seconds)
                else:
                    content = self._call("POST", _place(question), _body(question), headers, timeout_seconds)
        except CallError as error:
            if cancellation is None or not cancellation.cancelled:
                raise
            raise CallError(grpc.StatusCode.CANCELLED, ANOTHER_WAS_QUICKER, error.request_id) from error
        try:
            return _versions(content) if isinstance(question, Versions) else _outputs(content)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(error, content, request_id_of(headers)) from error

    def close(self) -> None:
        self._session.close()

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, headers: Mapping[str, str], timeout_seconds: float
    ) -> Any:
        timeout, request_id = urllib3.Timeout(total=timeout_seconds), request_id_of(headers)
        try:
            answer = self._session.request(
                method,
                f"{self._url}/v1/models/{path}",
                json=body,
                headers={**self._host, **headers, TIMEOUT_HEADER: f"{timeout_seconds:.3f}"},
                timeout=timeout,  # type: ignore[arg-type]  # The stubs lack urllib3's class, which requests takes.
                verify=self._verify,
                cert=self._certificate,
                allow_redirects=False,  # Each would begin the deadline anew, and TF Serving has none.
            )
        except (requests.RequestException, ValueError) as error:
            raise CallError(_code_of(error), str(error), request_id) from error
        try:
            content = answer.json()
        except ValueError as error:
            if answer.status_code == 200:
                raise _unreadable(error, answer.text, request_id) from error
            content = answer.text[:_LONGEST_MESSAGE]
        if answer.status_code != 200:
            code = _CODES.get(answer.status_code, grpc.StatusCode.UNKNOWN)
            message = content.get("error", content) if isinstance(content, dict) else content
            raise CallError(code, str(message), request_id)
        return content


def _place(question: Predict) -> str:
    label = f"/labels/{question.label}" if question.label else ""
    return f"{question.model}{label}:predict"


def _body(question: Predict) -> dict[str, Any]:
    inputs = {name: _to_json(name, value) for name, value in question.inputs.items()}
    return {"signature_name": question.signature, "inputs": inputs}


def _versions(content: Any) -> dict[int, str]:
    return {int(status["version"]): status["state"] for status in content["model_version_status"]}


def _outputs(content: Any) -> dict[str, np.ndarray]:
    outputs = content["outputs"]
    if not isinstance(outputs, dict):  # A single output comes without its name.
        outputs = {"outputs": outputs}
    return {name: _from_json(value) for name, value in outputs.items()}


def _code_of(error: Exception) -> grpc.StatusCode:
    """The code of a request without a whole answer."""
    causes = list(_causes(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if has(requests.Timeout, urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    # Waiting does not mend a certificate, but it may mend a connection that ends within TLS.
    if has(requests.exceptions.SSLError) and not has(ssl.SSLEOFError, ConnectionError):
        return grpc.StatusCode.FAILED_PRECONDITION
    if has(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return grpc.StatusCode.UNAVAILABLE
    if has(requests.exceptions.ContentDecodingError):
        return grpc.StatusCode.INTERNAL
    return grpc.StatusCode.INVALID_ARGUMENT


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that the libraries hold inside it. The context of an error may hold faults of the caller."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _unreadable(error: Exception, content: Any, request_id: str) -> CallError:
    message = f"the answer cannot be read ({error!r}): {str(content)[:_LONGEST_MESSAGE]}"
    return CallError(grpc.StatusCode.INTERNAL, message, request_id)


def _to_json(name: str, value: np.ndarray) -> Any:
    if value.dtype.kind not in "OS":
        return value.tolist()
    leaves = np.empty(value.size, object)
    # Text is shorter than base64. Ids are text, photos are not.
    leaves[:] = [_text(name, leaf) for leaf in value.ravel().tolist()]
    return leaves.reshape(value.shape).tolist()


def _text(name: str, leaf: object) -> Any:
    if isinstance(leaf, str):
        return leaf
    if not isinstance(leaf, bytes):
        raise TensorError(f"input '{name}' must hold bytes or str, but holds {type(leaf).__name__}")
    try:
        return leaf.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(leaf).decode()}


def _from_json(value: Any) -> np.ndarray:
    if isinstance(_first_leaf(value), str):
        # As objects: an array of strings would cut NUL bytes off their ends, and make each as long as the longest.
        texts = np.array(value, object)
        leaves = np.empty(texts.size, object)
        leaves[:] = [_encoded(leaf) for leaf in texts.ravel()]
        return leaves.reshape(texts.shape)
    array = np.array(value)
    if array.dtype.kind not in "biuf":
        raise ValueError("neither numbers nor text")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _first_leaf(value: Any) -> Any:
    while isinstance(value, list) and value:
        value = value[0]
    return value


def _encoded(leaf: Any) -> bytes:
    if not isinstance(leaf, str):
        raise ValueError("numbers among text, or rows of different length")
    return leaf.encode()
