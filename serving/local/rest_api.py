"""The REST API of the local server, with the paths, the JSON and the codes of TensorFlow Serving."""

import json
import logging
import math
import re
import time
from inspect import signature
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import grpc
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from courier_tf.escaping import printable
from serving.bundle.messages import MessageError, model_spec
from serving.client.contract import DEFAULT_SIGNATURE, REQUEST_ID, TIMEOUT_HEADER
from serving.local import examples, json_text, rest_json
from serving.local.answering import answer, refuse
from serving.local.grpc_api import LONGEST_MESSAGE, message_of, metadata
from serving.local.http_server import HTML, TEXT, HttpAnswer, HttpRequest
from serving.local.json_text import JsonObject
from serving.local.loaded import AnswerError, LoadedModels
from serving.local.metrics import REQUEST_COUNT, REQUEST_LATENCY

LOG = logging.getLogger(__name__)

_MODEL = r"/v1/models{name}(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "POST": re.compile(_MODEL.format(name="/(?P<model>[^/:]+)") + ":(?P<verb>predict|classify|regress)", re.IGNORECASE),
    "GET": re.compile(_MODEL.format(name="(?:/(?P<model>[^/:]+))?") + "(?:/(?P<verb>metadata))?", re.IGNORECASE),
}
#: The option by which fields are written that are not set. It has another name from Protobuf 26 on.
_WITH_DEFAULTS: dict[str, Any] = dict.fromkeys(
    {"always_print_fields_with_no_presence", "including_default_value_fields"}
    & set(signature(MessageToDict).parameters),
    True,
)
_HOST = re.compile("^https?://[^/]*", re.IGNORECASE)
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
_NOT_FOUND = HttpAnswer(404, b"<html><head><title>404 Not Found</title></head><body>Not Found</body></html>", HTML)


class _Asked(NamedTuple):
    """What the path of a request asks for. `verb` is empty for the status of a model."""

    spec: ModelSpec
    verb: str


class RestApi:
    """Answers requests of the REST API.

    Args:
        models: the loaded models.
        metrics_path: where Prometheus reads them; None for nowhere.
    """

    def __init__(self, models: LoadedModels, metrics_path: str | None = None) -> None:
        self._models, self._metrics, self._metrics_path = models, models.metrics, metrics_path

    def respond(self, request: HttpRequest) -> HttpAnswer:
        """The answer to a request. It never raises."""
        path = _HOST.sub("", request.target)
        if self._metrics_path and re.split("[?#]", path)[0] == self._metrics_path:
            if path != self._metrics_path:
                return HttpAnswer(400, f"the path must be {self._metrics_path}".encode(), TEXT)
            return HttpAnswer(200, self._metrics.page().encode(), TEXT)
        if not path.lower().startswith("/v1/"):
            return _NOT_FOUND
        if request.method == "OPTIONS":
            origin = re.search("https?://", request.headers.get("Origin", ""))
            return HttpAnswer(200 if origin else 400, b"", content_type="")
        return self._answered(request, path)

    def _answered(self, request: HttpRequest, path: str) -> HttpAnswer:
        begun, name = time.monotonic(), printable(request.headers.get(REQUEST_ID, "-"), LONGEST_MESSAGE)
        asked, code = _Asked(ModelSpec(), ""), grpc.StatusCode.OK
        try:
            asked = _asked(request.method, path)
            content = self._content(asked, request)
        except AnswerError as error:
            LOG.info("request %s: %s %s", name, error.code.name, printable(message_of(error), LONGEST_MESSAGE))
            code, content = error.code, _error(message_of(error))
        except MessageError as error:
            LOG.info("request %s: %s", name, printable(message_of(error), LONGEST_MESSAGE))
            code, content = grpc.StatusCode.INVALID_ARGUMENT, _error(message_of(error))
        except Exception:
            LOG.exception("request %s", name)
            code, content = grpc.StatusCode.INTERNAL, _error(f"the server failed; its log has request {name}")
        self._metrics.count(REQUEST_COUNT, asked.spec.name, code.name)
        if code == grpc.StatusCode.OK:
            verb = asked.verb if request.method == "POST" else ""
            self._metrics.observe(REQUEST_LATENCY, 1e6 * (time.monotonic() - begun), asked.spec.name, verb, "REST")
        status = 200 if code == grpc.StatusCode.OK else _HTTP.get(code, 500)
        return HttpAnswer(status, json_text.to_bytes(content), headers=_echoed(request))

    def _content(self, asked: _Asked, request: HttpRequest) -> str:
        match asked.verb:
            case "":
                return self._status(asked.spec)
            case "metadata":
                return self._metadata(asked.spec)
        content, timeout = json_text.parse(request.body), _timeout(request)
        asked.spec.signature_name = _signature_name(content)
        if asked.verb == "predict":
            return self._predict(asked.spec, content, timeout)
        rows = rest_json.examples_of(content)
        if asked.verb == "classify":
            return rest_json.results_to(*examples.classify(self._models, asked.spec, rows, timeout)[1])
        return rest_json.values_to(examples.regress(self._models, asked.spec, rows, timeout)[1])

    def _predict(self, spec: ModelSpec, content: JsonObject, timeout: float | None) -> str:
        _, model = self._models.find(spec)
        if spec.signature_name not in model.signatures:
            refuse(f"Serving signature name {spec.signature_name!r} not found; there are {sorted(model.signatures)}")
        inputs, by_row = rest_json.inputs_of(content, model.signatures[spec.signature_name])
        return rest_json.outputs_to(answer(self._models, spec, inputs, (), timeout)[1], by_row)

    def _status(self, spec: ModelSpec) -> str:
        states = self._models.status(spec).model_version_status
        return json.dumps({"model_version_status": [_state(status) for status in states]})

    def _metadata(self, spec: ModelSpec) -> str:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response, signatures = metadata(self._models, request), SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec_found, described = (
            MessageToDict(part, preserving_proto_field_name=True, **_WITH_DEFAULTS)
            for part in (response.model_spec, signatures)
        )
        return json.dumps({"model_spec": spec_found, "metadata": {"signature_def": described}})


def _asked(method: str, path: str) -> _Asked:
    match = _PATHS[method].fullmatch(path) if method in _PATHS else None
    if not match or (method == "POST" and match["verb"] != match["verb"].lower()):
        raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {method} {path}"[:500])
    if not match["model"]:
        raise AnswerError(grpc.StatusCode.INVALID_ARGUMENT, "Missing model name in request")
    version = int(match["version"][:30]) if match["version"] else None
    if version is not None and version >= 2**63:
        refuse(f"Failed to convert version {match['version'][:30]} to a number of 64 bits")
    label = _decoded(match["label"]) if match["label"] else None
    # TensorFlow Serving takes METADATA for the status, since it compares the word exactly.
    verb = match["verb"] if match["verb"] in ("metadata", "predict", "classify", "regress") else ""
    return _Asked(model_spec(_decoded(match["model"]), version=version, label=label), verb)


def _decoded(text: str) -> str:
    """A part of a path without its percent signs."""
    return unquote_to_bytes(text.encode("latin-1")).decode(errors="replace")


def _timeout(request: HttpRequest) -> float | None:
    text = request.headers.get(TIMEOUT_HEADER)
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not math.isfinite(seconds):
        raise MessageError(f"{TIMEOUT_HEADER} must be a number of seconds, but is {text!r}")
    return seconds


def _error(message: str) -> str:
    return json.dumps({"error": message})


def _echoed(request: HttpRequest) -> tuple[tuple[str, str], ...]:
    """The ID of the request, which comes back with its answer."""
    request_id = request.headers.get(REQUEST_ID)
    return ((REQUEST_ID, re.sub(r"[^\x20-\x7e]", "", request_id)),) if request_id is not None else ()


def _state(version: ModelVersionStatus) -> dict[str, Any]:
    code = error_codes_pb2.Code.Name(version.status.error_code)
    status = {"error_code": code, "error_message": version.status.error_message}
    return {"version": str(version.version), "state": ModelVersionStatus.State.Name(version.state), "status": status}


def _signature_name(content: JsonObject) -> str:
    name = content.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise MessageError("'signature_name' key must be a string value")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f"'signature_name' must be UTF-8, but is {name!r}") from error
    return name or DEFAULT_SIGNATURE
