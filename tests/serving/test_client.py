"""The client over both transports against every server; retries, deadlines, request IDs by scripted servers."""

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

from courier_tf import schema
from courier_tf.schema import RowStatus
from serving.client import CourierClient, Retries
from serving.transport import CallError
from tests.serving.conftest import DIM, IDS, SIZE, png


@pytest.fixture(scope="module", params=["grpc", "rest"])
def client(any_server, request):
    host = f"localhost:{any_server.port}" if request.param == "grpc" else f"http://localhost:{any_server.rest_port}"
    with CourierClient(host, label="canary", timeout_seconds=20) as client:
        yield client


def test_candidates_of_one_user(client, ranker, monkeypatch):
    history, candidates = ["i001", "i002"], [*IDS[:11], "ünknown"]
    expected = ranker.run(
        schema.RANK,
        {
            "user_id": [b"u1"],
            "history_item_ids": [[b"i001", b"i002"]],
            "item_id": [[candidate.encode() for candidate in candidates]],
        },
    )["probability"][0]
    found = client.rank("u1", history, candidates)
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    assert found.model_version == 1 and found.probability.dtype == np.float32
    monkeypatch.setattr(schema, "MAX_CANDIDATES", 5)  # In three parts.
    np.testing.assert_allclose(client.rank("u1", history, candidates).probability, expected, atol=1e-6)
    assert client.rank("u1", [], ["i001"]).probability.shape == (1,)
    with pytest.raises(ValueError, match="no candidates"):
        client.rank("u1", history, [])


def test_many_pairs_go_in_parts(client, ranker):
    rows = 70  # More than a server takes at once.
    users, items = [f"u{n % 5}" for n in range(rows)], [IDS[n % 60] for n in range(rows)]
    histories = [IDS[: n % 4] for n in range(rows)]
    padded = np.array([[*(i.encode() for i in h), *[b""] * (4 - len(h))] for h in histories], object)
    inputs = {"user_id": [u.encode() for u in users], "item_id": [i.encode() for i in items]}
    expected = ranker(**inputs, history_item_ids=padded)["probability"]
    np.testing.assert_allclose(client.score(users, histories, items).probability, expected, atol=1e-6)
    with pytest.raises(ValueError, match="70 users, 69 histories and 70 items"):
        client.score(users, histories[1:], items)


def test_photos_and_similar_items(client):
    photo = png(np.full([SIZE, SIZE, 3], 77, np.uint8))
    found = client.embed([photo, b"\xff junk"])
    assert found.status.tolist() == [RowStatus.OK, RowStatus.UNKNOWN_FORMAT] and found.model_version == 1
    assert found.embedding.shape == (2, DIM) and found.codes.shape == (2, 2) and found.cluster_id[1] == -1
    known, unknown = client.similar_to_items(["i003", "nothing"])
    assert known.status == RowStatus.OK and len(known.items) == 50 and known.similarity.shape == (50,)
    assert (np.diff(known.similarity) <= 1e-6).all()
    assert unknown.status == RowStatus.UNKNOWN_ITEM and unknown.items == ()
    assert client.similar_to_photos([photo])[0].status == RowStatus.OK


def test_versions_and_errors(client):
    assert client.versions(schema.CTR_RANKER) == {1: "AVAILABLE"}
    with pytest.raises(CallError, match=r"NOT_FOUND: Servable not found.*\(request mine\)") as failed:
        client.predict("nothing", "serving_default", {}, request_id="mine")
    assert failed.value.code == grpc.StatusCode.NOT_FOUND and failed.value.request_id == "mine"


class Scripted(PredictionServiceServicer):
    """Answers with the codes of a script, then well; notes what it sees."""

    def __init__(self, *codes):
        self.codes, self.seen = list(codes), []

    def Predict(self, request, context):
        self.seen.append((dict(context.invocation_metadata())["x-request-id"], context.time_remaining()))
        if self.codes:
            context.abort(self.codes.pop(0), "scripted")
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


class TwoVersions:
    """A transport whose second answer is that of a new version; keeps what it was asked, and the time left."""

    def __init__(self):
        self.asked, self.left = [], []

    def predict(self, model, label, signature, inputs, timeout_seconds, request_id):
        self.asked.append(inputs)
        self.left.append(timeout_seconds)
        time.sleep(0.05)
        rows = len(inputs["user_id"])
        version = np.full(rows, self.version_of(len(self.asked)))
        return {"probability": np.zeros([rows, inputs["item_id"].shape[-1]]), "model_version": version}

    def close(self):
        pass


def test_the_parts_of_a_call_share_a_deadline_and_a_version(monkeypatch):
    monkeypatch.setattr(schema, "MAX_CANDIDATES", 2)
    client, transport = CourierClient("localhost:1", timeout_seconds=5), TwoVersions()
    client._transport, transport.version_of = transport, lambda number: 1
    assert len(client.rank("u", ["a"], ["b"] * 5).probability) == 5
    assert len(transport.left) == 3 and transport.left[2] < transport.left[1] - 0.04 < transport.left[0] - 0.08
    # The first id is empty: with it a server fills up histories that it joins.
    np.testing.assert_array_equal(transport.asked[0]["history_item_ids"], [[b"", b"a"]])
    transport.version_of = lambda number: number
    with pytest.raises(CallError, match="have answered parts of one call") as failed:
        client.rank("u", ["a"], ["b"] * 5)
    assert failed.value.code == grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
def test_other_codes_are_final(scripted, code):
    script, client = scripted(code)
    with pytest.raises(CallError) as failed:
        client.predict("m", "s", {})
    assert failed.value.code == code and len(script.seen) == 1


def test_attempts_and_time_are_limited(scripted):
    script, client = scripted(*[grpc.StatusCode.UNAVAILABLE] * 9, retries=Retries(attempts=3))
    with pytest.raises(CallError, match="UNAVAILABLE: scripted"):
        client.predict("m", "s", {})
    assert len(script.seen) == 3
    slow = Retries(attempts=100, first_wait_seconds=30, longest_wait_seconds=30)
    script, client = scripted(*[grpc.StatusCode.UNAVAILABLE] * 9, timeout_seconds=0.3, retries=slow)
    started = time.monotonic()
    with pytest.raises(CallError):
        client.predict("m", "s", {})
    assert time.monotonic() - started < 5


def test_waits_grow_and_are_bounded(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    waits = [Retries(first_wait_seconds=0.1, longest_wait_seconds=0.5).wait_seconds(attempt) for attempt in range(5)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


@pytest.mark.parametrize("status", [503, 200])
def test_rest_retries_503_and_half_an_answer_and_passes_headers(status):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["x-request-id"], float(self.headers["x-request-timeout-seconds"])))
            body = b"busy" if len(seen) == 1 else json.dumps({"outputs": {"p": [0.5]}}).encode()
            self.send_response(status if len(seen) == 1 else 200)
            # With 200 the first answer ends too early, as that of a server that is killed.
            self.send_header("Content-Length", str(len(body) + 9 * (status == 200 and len(seen) == 1)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with CourierClient(f"http://localhost:{server.server_port}/", timeout_seconds=5) as client:
        found = client.predict("m", "s", {"x": np.array([b"a"], object)}, request_id="r1")
    server.shutdown()
    server.server_close()
    assert found["p"].tolist() == [0.5] and len(seen) == 2
    assert seen[0][0] == "/v1/models/m/labels/stable:predict" and seen[0][1] == seen[1][1] == "r1"
    assert 5 >= seen[0][2] > seen[1][2] > 0


def test_nobody_listens():
    for target in ("localhost:1", "http://localhost:1"):
        with (
            CourierClient(target, timeout_seconds=1, retries=Retries(attempts=2)) as client,
            pytest.raises(CallError) as failed,
        ):
            client.rank("u", [], ["i"])
        assert failed.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
