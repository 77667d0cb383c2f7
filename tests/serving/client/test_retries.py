"""Retries, deadlines and request IDs of the client, by scripted servers."""

import http.server
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from serving.client.client import CourierClient, Retries
from serving.client.request_log import RequestLog, read_log
from serving.client.transport import CallError
from tests.serving.client.replicas import Failure, GrpcReplica, doubled, failing


class Scripted(PredictionServiceServicer):
    """Answers with the codes of a script, then well; None: not before the call has ended. Notes what it sees.

    Attributes:
        seen: (request ID, seconds that the client leaves) of each request.
        given_up: set once a call has ended that was not answered.
    """

    def __init__(self, *codes):
        self.codes, self.seen, self.given_up = list(codes), [], threading.Event()

    def Predict(self, request, context):
        self.seen.append((dict(context.invocation_metadata())["x-request-id"], context.time_remaining()))
        code = self.codes.pop(0) if self.codes else grpc.StatusCode.OK
        if code is None:
            context.add_callback(self.given_up.set)
            self.given_up.wait(60)
        elif code != grpc.StatusCode.OK:
            context.abort(code, "scripted")
        return PredictResponse()


@pytest.fixture
def scripted():
    """Starts a gRPC server with a script; returns (script, client)."""
    started = []

    def start(*codes, **settings):
        server, script = grpc.server(ThreadPoolExecutor(2)), Scripted(*codes)
        add_PredictionServiceServicer_to_server(script, server)
        port = server.add_insecure_port("localhost:0")
        server.start()
        client = CourierClient(f"localhost:{port}", **{"timeout_seconds": 5, **settings})
        started.extend([client.close, lambda: server.stop(0)])
        return script, client

    yield start
    for end in started:
        end()


def test_a_server_that_is_not_there_yet_is_asked_again(scripted, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    codes = [grpc.StatusCode.UNAVAILABLE] * 2
    script, client = scripted(*codes, timeout_seconds=2, retries=Retries(first_wait_seconds=0.2))
    assert client.predict("m", "s", {}) == {}
    ids, left = zip(*script.seen, strict=True)
    assert len(ids) == 3 and len(set(ids)) == 1  # One request ID for all attempts.
    # Of one deadline; gRPC sends times up to 3 % too long.
    assert left[0] <= 2 and left[1] <= 1.8 * 1.03 and left[2] <= 1.4 * 1.03


def test_a_slow_server_is_told_the_deadline_and_given_up(scripted):
    script, client = scripted(None, timeout_seconds=0.5)
    with pytest.raises(CallError) as failed:
        client.predict("m", "s", {})
    assert failed.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert script.given_up.wait(60), "the server never learnt that nobody waits"
    assert len(script.seen) == 1 and 0 < script.seen[0][1] <= 0.5 * 1.03  # Nothing is left for another attempt.


RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND)
FINAL = [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, *RETRIED)]


@pytest.mark.parametrize("code", FINAL, ids=lambda code: code.name)
def test_other_codes_are_final(scripted, code):
    script, client = scripted(code)
    with pytest.raises(CallError) as failed:
        client.predict("m", "s", {})
    assert failed.value.code == code and len(script.seen) == 1


@pytest.mark.parametrize("code", RETRIED, ids=lambda code: code.name)
def test_what_another_attempt_may_mend(scripted, code):
    script, client = scripted(code, code)
    client.predict("m", "s", {})
    assert len(script.seen) == 3
    if code == grpc.StatusCode.NOT_FOUND:  # Without a label there is nothing that could still be loading.
        script, client = scripted(code, label=None)
        with pytest.raises(CallError, match="NOT_FOUND"):
            client.predict("m", "s", {})
        assert len(script.seen) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE], ids=lambda code: code.name)
def test_a_call_that_was_lost_with_its_channel_is_retried_on_another(ends, code):
    """As after a fork, or where a descriptor is another process's. A call that the server cancels is final."""
    server = GrpcReplica().start()

    def respond(asked):
        if len(server.asked) == 1:
            raise Failure(code.name, "Stream removed (Closed on fork)")
        return doubled(asked)

    server.respond = respond
    ends.append(server.close)
    with CourierClient(server.target, timeout_seconds=5) as client:
        (endpoint,) = client._attempts.endpoints._by_target.values()
        channel = endpoint.transport._channel
        assert client.predict("m", "s", {"x": np.ones(1)})["y"].tolist() == [2]
        assert endpoint.transport._channel is not channel and len(server.asked) == 2


def test_a_burst_that_a_server_refuses_is_answered_in_the_end(replica, client_of):
    """As many of 32 requests at once as TensorFlow Serving refuses with the threads that it has by default."""
    server = replica()

    def respond(asked):
        if len(server.asked) <= 24:
            raise Failure("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted")
        return doubled(asked)

    server.respond = respond
    client = client_of(server)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda n: client.predict("m", "s", {"x": np.full(1, n)})["y"].tolist(), range(32)))
    assert answers == [[2 * n] for n in range(32)] and len(server.asked) == 32 + 24


def test_a_server_that_refuses_all_is_left_in_peace(replica, client_of):
    server = replica(failing("RESOURCE_EXHAUSTED"))
    client = client_of(server, retries=Retries(first_wait_seconds=0))
    for _ in range(100):
        with pytest.raises(CallError, match="RESOURCE_EXHAUSTED"):
            client.predict("m", "s", {"x": np.ones(1)})
    assert 100 + 100 <= len(server.asked) <= 100 + 130  # Without tokens it would be asked 400 times.


def test_a_label_that_is_still_loading_is_waited_for(replica, client_of, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: min(high, 0.02))
    server = replica(failing("NOT_FOUND"), {1: "AVAILABLE", 2: "LOADING"})

    def states_then_loaded():
        if len(server.asked_for_status) == 8:
            server.respond, server.states = doubled, {2: "AVAILABLE"}

    server.on_status = states_then_loaded
    client = client_of(server)
    assert client.predict("m", "s", {"x": np.ones(1)})["y"].tolist() == [2]
    assert len(server.asked) == 9  # More than the attempts of a call.
    # One that nobody loads is given up soon, and without a label at once.
    server.respond, server.states = failing("NOT_FOUND"), {1: "AVAILABLE", 2: "END"}
    with pytest.raises(CallError, match="NOT_FOUND"):
        client.predict("m", "s", {"x": np.ones(1)})
    assert len(server.asked) == 9 + 4
    # The deadline holds while it loads.
    server.states = {2: "LOADING"}
    start = time.monotonic()
    with pytest.raises(CallError, match="NOT_FOUND|DEADLINE_EXCEEDED"):
        client_of(server, timeout_seconds=0.3).predict("m", "s", {"x": np.ones(1)})
    assert 0.2 < time.monotonic() - start < 2


def test_the_log_tells_failed_calls_and_labels(scripted, tmp_path):
    log = RequestLog(tmp_path, 1.0)
    _, client = scripted(grpc.StatusCode.OK, grpc.StatusCode.INTERNAL, log=log, label="canary")
    client.predict("m", "s", {"x": np.zeros(1)}, request_id="r1")
    with pytest.raises(CallError):
        client.predict("m", "s", {"x": np.zeros(1)}, request_id="r2")
    log.close()
    calls = list(read_log(tmp_path, with_failed=True))
    assert [(call.request_id, call.code, call.label) for call in calls] == [
        ("r1", "OK", "canary"),
        ("r2", "INTERNAL", "canary"),
    ]
    assert all(0 < call.seconds < 5 for call in calls)


def test_attempts_and_time_are_limited(scripted, monkeypatch):
    script, client = scripted(*[grpc.StatusCode.UNAVAILABLE] * 9, retries=Retries(attempts=3))
    with pytest.raises(CallError, match="UNAVAILABLE: scripted"):
        client.predict("m", "s", {})
    assert len(script.seen) == 3
    # A wait that would end after the deadline is not begun.
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    slow = Retries(attempts=100, first_wait_seconds=6, longest_wait_seconds=6)
    script, client = scripted(grpc.StatusCode.UNAVAILABLE, timeout_seconds=5, retries=slow)
    with pytest.raises(CallError, match="UNAVAILABLE: scripted"):
        client.predict("m", "s", {})
    assert len(script.seen) == 1


def test_retries_do_not_multiply_an_overload(scripted):
    """Of four calls that fail, only the first is tried again; so are those after a recovery."""
    script, client = scripted(*[grpc.StatusCode.UNAVAILABLE] * 100, retries=Retries(first_wait_seconds=0))
    for _ in range(4):
        with pytest.raises(CallError, match="UNAVAILABLE"):
            client.predict("m", "s", {})
    assert len(script.seen) == 4 + 1 + 1 + 1
    script.codes.clear()
    for _ in range(40):
        client.predict("m", "s", {})
    script.codes.append(grpc.StatusCode.UNAVAILABLE)
    client.predict("m", "s", {})
    assert len(script.seen) == 7 + 40 + 2


def test_waits_grow_and_are_bounded(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    waits = [Retries(first_wait_seconds=0.1, longest_wait_seconds=0.5).wait_seconds(attempt) for attempt in range(5)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert Retries(longest_wait_seconds=0.5).wait_seconds(5000) == 0.5


def test_rest_retries_503_and_passes_headers(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["x-request-id"], float(self.headers["x-request-timeout-seconds"])))
            body = b"busy" if len(seen) == 1 else json.dumps({"outputs": {"p": [0.5]}}).encode()
            self.send_response(503 if len(seen) == 1 else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with CourierClient(f"http://localhost:{server.server_port}/", timeout_seconds=5) as client:
        outputs = client.predict("m", "s", {"x": np.array([b"a"], object)}, request_id="r1")
    server.shutdown()
    server.server_close()
    assert outputs["p"].tolist() == [0.5] and len(seen) == 2
    assert seen[0][0] == "/v1/models/m/labels/stable:predict" and seen[0][1] == seen[1][1] == "r1"
    assert seen[0][2] <= 5 and seen[0][2] - 0.04 > seen[1][2] > 0  # A first wait later.


def test_nobody_listens():
    for target in ("localhost:1", "http://localhost:1"):
        with (
            CourierClient(target, timeout_seconds=20, retries=Retries(attempts=2)) as client,
            pytest.raises(CallError) as failed,
        ):
            client.rank("u", [], ["i"])
        assert failed.value.code == grpc.StatusCode.UNAVAILABLE
