"""Small servers in this process, by gRPC and REST, and clients of both kinds that ask them."""

import asyncio
import contextlib
import http.server
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grpc
import numpy as np

from serving.client.aio import AsyncCourierClient
from serving.client.client import CourierClient
from serving.client.contract import REQUEST_ID
from serving.client.messages_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
)
from serving.client.tensors import to_array, to_protos

STATUSES = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}


class Failure(Exception):
    """What a replica answers in place of outputs."""

    def __init__(self, code, message="scripted"):
        super().__init__(message)
        self.code = code


class Asked(NamedTuple):
    """A request as a replica sees it; `signature` is None for the status of a model."""

    model: str
    label: str | None
    signature: str | None
    inputs: dict
    headers: dict

    @property
    def request_id(self):
        return self.headers[REQUEST_ID]


def doubled(asked):
    rows = len(asked.inputs["x"]) if "x" in asked.inputs else 1
    return {"y": 2 * asked.inputs["x"], "model_version": np.ones(rows, np.int64)}


def failing(code, message="scripted"):
    """A respond that never has an answer."""

    def respond(asked):
        raise Failure(code, message)

    return respond


def as_array(value):
    """The array of JSON's lists; texts are bytes objects, as by gRPC."""
    array = np.array(value)
    return np.vectorize(str.encode, otypes=[object])(array) if array.dtype.kind == "U" else array


class Replica:
    """A server that answers as it is told.

    Attributes:
        respond: outputs of a request, or a Failure.
        states: version -> state, the status of each model.
        asked: what it was asked for predictions.
        asked_for_status: what it was asked for the status of models.
        on_status: is called before it says that.
        released: set at the end; a replica that hangs waits for it.
        most_at_once: the most requests that were under way at the same time.
    """

    def __init__(self, respond=doubled, states=None, threads=32):
        self.respond, self.states, self._threads = respond, states or {1: "AVAILABLE"}, threads
        self.asked, self.asked_for_status, self.released = [], [], threading.Event()
        self._lock, self._now, self.most_at_once, self.on_status = threading.Lock(), 0, 0, lambda: None

    def hang(self, asked):
        self.released.wait(30)
        raise Failure("UNAVAILABLE")

    def answer(self, asked):
        if asked.signature is None:
            self.asked_for_status.append(asked)
            self.on_status()
            return self.states
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.respond(asked)
        finally:
            with self._lock:
                self._now -= 1


class GrpcReplica(Replica):
    def start(self, host="127.0.0.1", port=0, credentials=None):
        self._server = grpc.server(ThreadPoolExecutor(self._threads), handlers=[self])
        place = f"{host}:{port}"
        add = self._server
        self.port = add.add_secure_port(place, credentials) if credentials else add.add_insecure_port(place)
        self._server.start()
        self.target = f"{host}:{self.port}"
        return self

    def close(self):
        self.released.set()
        self._server.stop(0).wait()

    def service(self, details):
        headers = dict(details.invocation_metadata)
        kind = GetModelStatusRequest if details.method.endswith("GetModelStatus") else PredictRequest
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._reply(request, context, headers),
            request_deserializer=kind.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _reply(self, request, context, headers):
        spec, is_status = request.model_spec, isinstance(request, GetModelStatusRequest)
        inputs = {} if is_status else {name: to_array(proto) for name, proto in request.inputs.items()}
        signature = None if is_status else spec.signature_name
        try:
            answer = self.answer(Asked(spec.name, spec.version_label or None, signature, inputs, headers))
        except Failure as failure:
            context.abort(grpc.StatusCode[failure.code], str(failure))
        if not is_status:
            return PredictResponse(outputs=to_protos(answer, "output"))
        states = [
            ModelVersionStatus(version=version, state=ModelVersionStatus.State.Value(state))
            for version, state in answer.items()
        ]
        return GetModelStatusResponse(model_version_status=states)


class RestReplica(Replica):
    def start(self, host="127.0.0.1", port=0, context=None):
        replica = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                replica._reply(self, None)

            def do_POST(self):
                replica._reply(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_):  # The client has gone away.
                pass

            def get_request(self):
                connection, address = super().get_request()
                replica._connections.append(connection)
                return connection, address

        self._connections = []
        self._server = Server((host, port), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.port = self._server.server_port
        self.target = f"http{'s' if context else ''}://{host}:{self.port}"
        return self

    def close(self):
        self.released.set()
        self._server.shutdown()
        for connection in self._connections:  # Else those that are kept alive would go on.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def _reply(self, handler, body):
        model, _, place = handler.path.removeprefix("/v1/models/").partition(":")[0].partition("/")
        label = place.removeprefix("labels/") or None
        inputs = {name: as_array(value) for name, value in body["inputs"].items()} if body else {}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(model, label, body and body["signature_name"], inputs, headers)
        try:
            answer, code = self.answer(asked), "OK"
        except Failure as failure:
            answer, code = {"error": str(failure)}, failure.code
        if code == "OK" and body is None:
            states = [{"version": str(version), "state": state} for version, state in answer.items()]
            answer = {"model_version_status": states}
        elif code == "OK":
            answer = {"outputs": {name: value.tolist() for name, value in answer.items()}}
        content = json.dumps(answer, default=bytes.decode).encode()
        head = f"HTTP/1.1 {STATUSES[code]} x\r\nContent-Length: {len(content)}\r\n\r\n"
        handler.wfile.write(head.encode() + content)


class Waiting:
    """An AsyncCourierClient whose methods wait, so that a test can ask both kinds of clients alike."""

    def __init__(self, *arguments, **settings):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client = AsyncCourierClient(*arguments, **settings)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return lambda *arguments, **named: self.run(method(*arguments, **named))

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def close(self):
        self.run(self.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


REPLICAS = {"grpc": GrpcReplica, "rest": RestReplica}
CLIENTS = {"threads": CourierClient, "asyncio": Waiting}


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def eventually(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()
