"""The REST API of the local server, with the paths and the JSON of TensorFlow Serving."""

import json
import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from courier_tf.escaping import printable
from serving.bundle.graph_model import Method
from serving.bundle.messages import MessageError, model_spec
from serving.client.contract import DEFAULT_SIGNATURE, REQUEST_ID, TIMEOUT_HEADER
from serving.local import rest_json
from serving.local.answering import answer
from serving.local.grpc_api import LONGEST_MESSAGE, message_of, metadata
from serving.local.loaded import AnswerError, LoadedModels

LOG = logging.getLogger(__name__)
MOST_BYTES = 1 << 30  # In the body of a request.

_PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?:(?P<metadata>/metadata)|:(?P<verb>predict|classify|regress))?"
)
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class RestServer(ThreadingHTTPServer):
    """Serves loaded models over HTTP; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, models: LoadedModels) -> None:
        super().__init__((host, port), _Handler)
        self.models = models
        self._running, self._ended = 0, threading.Condition()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Counts a request while it is answered."""
        with self._ended:
            self._running += 1
        try:
            yield
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def drain(self, seconds: float) -> None:
        """Takes no new connections, and waits up to `seconds` until the running requests are answered."""
        self.shutdown()
        with self._ended:
            self._ended.wait_for(lambda: not self._running, seconds)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Notes that a client has gone away, which is no fault of the server."""
        LOG.info("connection of %s ended", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # Seconds until an idle connection is closed.
    server: RestServer

    def do_GET(self) -> None:
        self._receive(self.headers.get_all("Content-Length", ["0"]))

    def do_POST(self) -> None:
        self._receive(self.headers.get_all("Content-Length", []))

    def _receive(self, lengths: list[str]) -> None:
        if "Transfer-Encoding" in self.headers or not lengths:
            self._refuse(411, "Content-Length is missing; a body in chunks is not taken")
        elif len(lengths) > 1 or not re.fullmatch("[0-9]{1,18}", lengths[0]):
            self._refuse(400, f"Content-Length must be one number of bytes, but is {', '.join(lengths)[:100]!r}")
        elif int(lengths[0]) > MOST_BYTES:
            self._refuse(413, f"Content-Length must be at most {MOST_BYTES}")
        else:
            body = self.rfile.read(int(lengths[0]))
            if len(body) == int(lengths[0]):  # Else the client has gone away.
                with self.server.answering():
                    self._respond(body)

    def _refuse(self, status: int, error: str) -> None:
        self.close_connection = True  # The rest of this body cannot be told from the next request.
        self._write(status, {"error": error})

    def _respond(self, body: bytes) -> None:
        request_id = self.headers.get(REQUEST_ID, "-")
        try:
            status, content = 200, self._content(body)
        except AnswerError as error:
            LOG.info("request %s: %s %s", request_id, error.code.name, printable(message_of(error), LONGEST_MESSAGE))
            status, content = _HTTP.get(error.code, 500), {"error": message_of(error)}
        except MessageError as error:
            LOG.info("request %s: %s", request_id, printable(message_of(error), LONGEST_MESSAGE))
            status, content = 400, {"error": message_of(error)}
        except Exception:
            LOG.exception("request %s", request_id)
            status, content = 500, {"error": f"the server failed; its log has request {request_id}"}
        self._write(status, content)

    def _content(self, body: bytes) -> dict[str, Any]:
        match = _PATH.fullmatch(self.path)
        if not match or (self.command == "POST") != bool(match["verb"]):
            raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {self.command} {self.path}"[:500])
        models, version = self.server.models, match["version"]
        spec = model_spec(match["model"], version=int(version) if version else None, label=match["label"])
        if match["metadata"]:
            request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
            return MessageToDict(metadata(models, request), preserving_proto_field_name=True)
        if not match["verb"]:
            return {"model_version_status": [_state(status) for status in models.status(spec).model_version_status]}
        content = rest_json.parse(body)
        spec.signature_name = _signature_name(content)
        return {"predict": self._predict, "classify": self._classify, "regress": self._regress}[match["verb"]](
            spec, content
        )

    def _predict(self, spec: ModelSpec, content: dict[str, Any]) -> dict[str, Any]:
        _, model = self.server.models.find(spec)
        signature = model.signatures.get(spec.signature_name)
        if signature is None:
            raise AnswerError(
                grpc.StatusCode.FAILED_PRECONDITION, f"Serving signature key {spec.signature_name!r} not found"
            )
        inputs, by_row = rest_json.inputs_of(content, signature)
        return rest_json.outputs_to(answer(self.server.models, spec, inputs, (), self._timeout())[1], by_row)

    def _classify(self, spec: ModelSpec, content: dict[str, Any]) -> dict[str, Any]:
        outputs = self._answer_examples(spec, content, "classify")
        rows = zip(outputs["classes"], outputs["scores"].tolist(), strict=True)
        return {
            "results": [
                [[label.decode(), score] for label, score in zip(labels, scores, strict=True)]
                for labels, scores in rows
            ]
        }

    def _regress(self, spec: ModelSpec, content: dict[str, Any]) -> dict[str, Any]:
        return {"results": self._answer_examples(spec, content, "regress")["outputs"].tolist()}

    def _answer_examples(self, spec: ModelSpec, content: dict[str, Any], method: Method) -> dict[str, Any]:
        inputs = {"inputs": rest_json.examples_of(content)}
        return answer(self.server.models, spec, inputs, (), self._timeout(), method)[1]

    def _timeout(self) -> float | None:
        text = self.headers.get(TIMEOUT_HEADER)
        try:
            seconds = float(text) if text else None
        except ValueError:
            seconds = math.nan
        if seconds is not None and not math.isfinite(seconds):
            raise MessageError(f"{TIMEOUT_HEADER} must be a number of seconds, but is {text!r}")
        return seconds

    def _write(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if REQUEST_ID in self.headers:
            self.send_header(REQUEST_ID, re.sub(r"[^\x20-\x7e]", "", self.headers[REQUEST_ID]))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        LOG.debug(format, *arguments)


def _state(version: ModelVersionStatus) -> dict[str, Any]:
    status = {"error_code": "UNKNOWN" if version.status.error_code else "OK"}
    status["error_message"] = version.status.error_message
    return {"version": str(version.version), "state": ModelVersionStatus.State.Name(version.state), "status": status}


def _signature_name(content: dict[str, Any]) -> str:
    name = content.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise MessageError("'signature_name' must be a string")
    return name or DEFAULT_SIGNATURE
