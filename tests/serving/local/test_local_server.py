"""The same questions by gRPC and by REST, against the session; status, metadata, health; what is refused, and how."""

import json
import logging
import socket
import threading

import grpc
import numpy as np
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.bundle.messages import model_spec, predict_request
from serving.client import contract
from serving.local import local_server
from serving.local.loaded import LoadedModels
from serving.local.local_server import LocalServer
from tests.served_shop import IDS
from tests.servers import FEATURES, free_port


def refused(call):
    """(code, message) of a call that fails."""
    with pytest.raises(grpc.RpcError) as failed:
        call()
    return failed.value.code(), failed.value.details()


def test_control_characters_of_a_request_id_stay_out_of_the_log(url, caplog):
    caplog.set_level("DEBUG")
    answer = requests.get(f"{url}/nothing", headers={"x-request-id": "red\x1b[31m\x85 here"})
    assert answer.status_code == 404 and answer.headers["x-request-id"] == "red[31m here"
    assert r"request red\x1b[31m\x85 here: NOT_FOUND" in caplog.text and "\x1b" not in caplog.text


def test_metrics_that_the_bundle_asks_for(url):
    base = url.removesuffix("/v1/models")
    requests.get(f"{url}/nothing")
    page = requests.get(f"{base}/monitoring/prometheus/metrics").text
    assert ':tensorflow:serving:request_count{model_name="nothing",status="NOT_FOUND"}' in page


def test_the_ports_open_when_all_is_loaded(shop, monkeypatch):
    """So that a probe fails at once until then, where it would hang."""
    ports = [free_port(), free_port()]
    bundle, models = shop.workdir / "serving", shop.workdir / "models"
    tried = []

    class Watched(LoadedModels):
        def refresh(self):
            for port in ports:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("localhost", port), timeout=5)
                tried.append(port)
            super().refresh()

    # A class of its own: other servers of this process go on looking at their bundles.
    monkeypatch.setattr(local_server, "LoadedModels", Watched)
    with LocalServer(bundle, models, *ports, warm_up=False, poll_seconds=600) as server:
        assert tried == ports == [server.port, server.rest_port]
        for port in ports:
            socket.create_connection(("localhost", port), timeout=5).close()


def test_more_calls_than_threads_are_resource_exhausted(shop, monkeypatch):
    go_on, begun = threading.Event(), threading.Event()
    bundle, models = shop.workdir / "serving", shop.workdir / "models"
    with LocalServer(bundle, models, warm_up=False, grpc_threads=1) as server:
        find = server.models.find

        def slow(spec):
            begun.set()
            go_on.wait(60)
            return find(spec)

        monkeypatch.setattr(server.models, "find", slow)
        with grpc.insecure_channel(f"localhost:{server.port}") as channel:
            request = predict_request(model_spec("ctr_ranker"), FEATURES)
            first = PredictionServiceStub(channel).Predict.future(request)
            assert begun.wait(60)
            code, _ = refused(lambda: PredictionServiceStub(channel).Predict(request))
            go_on.set()
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and first.result().outputs


def test_health(channel):
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        (model_spec("ranker"), grpc.StatusCode.NOT_FOUND, "'ranker'"),
        (model_spec("ctr_ranker", version=7), grpc.StatusCode.NOT_FOUND, "version 7"),
        (model_spec("ctr_ranker", label="stable"), grpc.StatusCode.INVALID_ARGUMENT, "label 'stable'"),
        (model_spec("ctr_ranker", "best"), grpc.StatusCode.FAILED_PRECONDITION, "'best' not found"),
    ],
)
def test_what_is_not_there(stub, spec, code, text):
    given, message = refused(lambda: stub.Predict(predict_request(spec, FEATURES)))
    assert given == code and text in message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"item_id": np.array([1, 2, 3])}, "'item_id' must be string, but is int64"),
        ({"item_id": FEATURES["item_id"][None]}, "'item_id' must have the shape"),
        ({"extra": np.zeros(3)}, "sent extra ['extra']"),
        ({"item_id": None}, "missing ['item_id']"),
        ({"item_id": FEATURES["item_id"][:2]}, "number of rows"),
        ({"history_item_ids": np.zeros([0, 0], object)}, "number of rows"),
        ({"history_item_ids": np.full([9, 1], b"", object)}, "number of rows"),
        ({"user_id": np.full([9], b"u1", object)}, "number of rows"),
    ],
)
def test_wrong_names_dtypes_and_shapes(stub, changes, text):
    inputs = {name: value for name, value in {**FEATURES, **changes}.items() if value is not None}
    code, message = refused(lambda: stub.Predict(predict_request(model_spec("ctr_ranker"), inputs)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and text in message


def test_tensors_that_lie_about_their_shape(stub):
    request = predict_request(
        model_spec("similar_items", contract.BY_EMBEDDING), {"embedding": np.ones([1, 8], np.float32)}
    )
    request.inputs["embedding"].tensor_shape.dim[0].size = 3
    code, message = refused(lambda: stub.Predict(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "'embedding' is not a tensor" in message
    request.inputs["embedding"].dtype = 99
    assert refused(lambda: stub.Predict(request))[0] == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "method",
    [
        *(f"tensorflow.serving.PredictionService/{name}" for name in ("Predict", "Classify", "MultiInference")),
        "tensorflow.serving.ModelService/GetModelStatus",
        "grpc.health.v1.Health/Check",
    ],
)
def test_malformed_protos(channel, caplog, method):
    """Strangers send them: each is INVALID_ARGUMENT and one line of the log, and no traceback."""
    caplog.set_level(logging.INFO)
    call = channel.unary_unary(f"/{method}")
    code, message = refused(lambda: call(b"\xff\xff\xff no proto"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and message.startswith("the request is no message: ")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "serving.local.grpc_api"]
    assert f"/{method}: not a message" in line and len(line.splitlines()) == 1
    assert "Traceback" not in caplog.text


def test_a_message_without_a_model(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    assert refused(lambda: call(b""))[0] == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse Error"),
        (b"{", "JSON Parse Error"),
        (b"[" * 100_000, "JSON Parse Error"),
        (b"[1]", "must be an object"),
        (b"{}", "either 'instances' or 'inputs'"),
        (b'{"instances": []}', "at least one row"),
        (b'{"instances": ["a"]}', "must be named"),
        (b'{"instances": [{"user_id": "u"}, {"item_id": "i"}]}', "same inputs in every row"),
        (
            b'{"inputs": {"user_id": ["u"], "history_item_ids": [["a"], ["b", "c"]], "item_id": ["i"]}}',
            "differ in length",
        ),
        (b'{"inputs": {"user_id": ["u"], "history_item_ids": [["a"]], "item_id": [7]}}', "must hold strings"),
        (b'{"inputs": {"user_id": ["u"], "history_item_ids": [["a"]], "item_id": [{"b64": "?"}]}}', "no base64"),
        (b'{"inputs": {"user": ["u"]}}', "missing ['history_item_ids', 'item_id', 'user_id']"),
        (b'{"inputs": {"user_id": ["u"]}}', "missing ['history_item_ids', 'item_id']"),
        (b'{"inputs": 3, "signature_name": 3}', "must be a string"),
        (b'{"inputs": 3, "signature_name": "x"}', "'x' not found"),
        (b'{"inputs": "\xff"}', "must be named"),
    ],
)
def test_malformed_json(url, body, text):
    answer = requests.post(f"{url}/ctr_ranker:predict", data=body)
    assert answer.status_code == 400 and text in answer.json()["error"]


def test_embeddings_that_are_no_numbers(url):
    content = {"signature_name": "by_embedding", "inputs": [[float("nan")] + [1.0] * 7]}
    body = json.dumps(content)
    outputs = requests.post(f"{url}/similar_items:predict", data=body).json()["outputs"]
    assert outputs["status"] == [contract.RowStatus.NO_DIRECTION]
    for value, text in ((["x"] * 8, "strings"), ([True] * 8, "booleans")):
        answer = requests.post(f"{url}/similar_items:predict", json={**content, "inputs": [value]})
        assert answer.status_code == 400 and text in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "", 400),
        ("GET", "/ctr_ranker:predict", 400),
        ("POST", "/ctr_ranker", 400),
        ("GET", "/nothing", 404),
        ("GET", "/ctr_ranker/versions/9", 404),
        ("GET", "/ctr_ranker/labels/none/metadata", 400),
        ("GET", "/ctr_ranker/versions/99999999999999999999", 400),
        ("POST", "/nothing:predict", 404),
        ("POST", "/ctr_ranker:explain", 400),
    ],
)
def test_paths_that_lead_nowhere(url, method, path, code):
    assert requests.request(method, f"{url}{path}", json={"inputs": []}).status_code == code


def test_deadlines(url):
    """By REST, where the client has none: it is the server that gives up, before it begins or while it computes."""
    body = {"inputs": {name: [["u"]] if name == "history_item_ids" else ["u"] for name in FEATURES}}
    many = {"user_id": ["u1"], "history_item_ids": [["i1"]], "item_id": [[IDS[n % 60] for n in range(10_000)]]}
    long = {"signature_name": contract.RANK, "inputs": many}
    for content, text, code in ((body, "0", 504), (long, "0.001", 504), (body, "soon", 400), (body, "60", 200)):
        headers = {"x-request-timeout-seconds": text, "x-request-id": "seen"}
        answer = requests.post(f"{url}/ctr_ranker:predict", json=content, headers=headers)
        assert answer.status_code == code and answer.headers["x-request-id"] == "seen"


def test_a_deadline_by_grpc_reaches_the_model(stub, server, monkeypatch):
    _, model = server.models.find(model_spec("ctr_ranker"))
    run, told = model.run, []

    def noting(signature, values, outputs, timeout_seconds):
        told.append(timeout_seconds)
        return run(signature, values, outputs, timeout_seconds)

    monkeypatch.setattr(model, "run", noting)
    stub.Predict(predict_request(model_spec("ctr_ranker"), FEATURES), timeout=30)
    assert 0 < told[0] <= 30 * 1.03  # gRPC sends times up to 3 % too long.


@pytest.mark.parametrize("letter", ["a", "ü", "\U0001f600", "\n"])
def test_long_messages_keep_their_code(stub, letter):
    """Longer than the headers in which gRPC sends it, which hold 8 KiB: written with escapes."""
    code, message = refused(lambda: stub.Predict(predict_request(model_spec(100_000 * letter), FEATURES)))
    assert code == grpc.StatusCode.NOT_FOUND and "Servable not found" in message and message.endswith("...")


def test_a_fault_of_the_server_is_internal_however_long_the_request_id(stub, server, monkeypatch):
    def fails(spec):
        raise RuntimeError("a fault")

    monkeypatch.setattr(server.models, "find", fails)
    request = predict_request(model_spec("ctr_ranker"), FEATURES)
    code, message = refused(lambda: stub.Predict(request, metadata=[("x-request-id", 5000 * "%")]))
    assert code == grpc.StatusCode.INTERNAL and "its log has request %%" in message
