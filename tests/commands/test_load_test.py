"""Load tests against a server that stalls; and what a request log holds."""

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

from courier_tf.commands.load_report import report
from courier_tf.commands.load_test import (
    LoadTestError,
    kind_of,
    load_test,
    logged_requests,
    server_at,
    warm_up_requests,
)
from courier_tf.exporting import registry
from serving.bundle.graph_model import GraphModel
from serving.bundle.messages import model_spec, predict_request
from serving.client import contract
from serving.client.request_log import RequestLog, RequestLogError, read_log
from tests.servers import write_log


class Stalling(PredictionServiceServicer):
    """Stands still for half a second at its tenth request, refuses the twentieth; notes the deadlines it is told."""

    def __init__(self):
        self.number, self.left = 0, []

    def Predict(self, request, context):
        self.number += 1
        self.left.append(context.time_remaining())
        if self.number == 10:
            time.sleep(0.5)
        if self.number == 20:
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return PredictResponse()


def test_a_stall_is_charged_to_every_request_that_waited():
    server, stalling = grpc.server(ThreadPoolExecutor(1)), Stalling()
    add_PredictionServiceServicer_to_server(stalling, server)
    target = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    request = predict_request(model_spec("m", "s"), {"x": np.zeros([3, 2], np.float32)})
    sent = load_test(target, [request], rate=100, seconds=1, timeout_seconds=5)
    server.stop(0)
    assert len(sent) == 100 and {request.kind for request in sent} == {"m s 3x2"}
    dues = np.array([request.due for request in sent])
    assert (np.diff(dues) >= 0).all() and dues[0] >= 0 and 0.9 < dues[-1] <= 1
    assert 0 < max(stalling.left) <= 5 * 1.03  # gRPC sends times up to 3 % too long.
    waited = [request.latency for request in sent if dues[9] < request.due < dues[9] + 0.4]
    assert len(waited) > 20 and min(waited) > 0.05
    assert [request.code for request in sent].count("UNAVAILABLE") == 1
    with pytest.raises(LoadTestError, match="no requests"):
        load_test(target, [], 1, 1, 1)


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("courier_tf.commands.load_test.READY_SECONDS", 0.2)
    with pytest.raises(LoadTestError, match="nobody answers at localhost:1"):
        load_test("localhost:1", [predict_request(model_spec("m", "s"), {"x": np.zeros(1)})], 1, 1, 1)
    with pytest.raises(LoadTestError, match="nobody answers at localhost:1"):  # It is no TensorFlow Serving.
        server_at("localhost:1")


def test_what_is_not_answered_in_time_is_an_error():
    ended = threading.Event()

    class Silent(PredictionServiceServicer):
        def Predict(self, request, context):
            ended.wait(60)
            return PredictResponse()

    server = grpc.server(ThreadPoolExecutor(4))
    add_PredictionServiceServicer_to_server(Silent(), server)
    target = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    request = predict_request(model_spec("m", "s"), {"x": np.zeros(1)})
    sent = load_test(target, [request], rate=10, seconds=0.3, timeout_seconds=0.2)
    ended.set()
    server.stop(0)
    assert [request.code for request in sent] == ["DEADLINE_EXCEEDED"] * 3 and min(
        request.latency for request in sent
    ) > 0.1


def test_all_models_under_load(shop, server, tmp_path, capsys):
    versions = [shop.workdir / "models" / model / "1" for model in registry.model_names()]
    requests = warm_up_requests(versions, "canary")
    assert len({kind_of(request) for request in requests}) == len(requests) == 32 - 6  # Less classify and regress.
    target = f"localhost:{server.port}"
    sent = load_test(target, requests, rate=40, seconds=1.5, timeout_seconds=120)
    figures = report(sent, target, server_at(target), 40, 1.5, tmp_path).kinds["all"]
    assert figures["errors"] == {} and figures["requests"] == 60
    assert "courier local server, not TensorFlow Serving" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "load_test.json").exists() and (tmp_path / "load_test.png").stat().st_size > 10_000


def test_a_log_is_sent_again(shop, server, tmp_path):
    """By the command: of the models asked for, under the label asked for, what stands in the log."""
    from courier_tf.commands import program

    log, again = write_log(server.port, tmp_path / "log"), []
    asked = logged_requests(log, registry.model_names(), "canary")
    assert len(asked) == 8 and {request.model_spec.version_label for request in asked} == {"canary"}
    first = next(iter(read_log(log))).request
    assert asked[0] == predict_request(model_spec("ctr_ranker", "rank", label="canary"), first.inputs)
    assert len(logged_requests(log, ["similar_items"], "canary")) == 1
    with pytest.raises(LoadTestError, match="holds no request to image_embedder"):
        logged_requests(log, ["image_embedder"], "canary")
    run = server.models._served["ctr_ranker"].versions[1].run

    def noting(signature, values, *others):
        again.append((signature, values["item_id"].tolist()))
        return run(signature, values, *others)

    words = ["load-test", "--workdir", str(shop.workdir), "--log", str(log), "--target", f"localhost:{server.port}"]
    words += ["--label", "canary", "--models", "ctr_ranker", "--rate", "40", "--seconds", "1", "--out", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.models._served["ctr_ranker"].versions[1], "run", noting)
        program.main([*words, "--timeout-seconds", "60"])
    kinds = json.loads((tmp_path / "load_test.json").read_text())["kinds"]
    assert kinds["all"]["requests"] == 40 and kinds["all"]["errors"] == {}
    assert set(kinds) == {"all", "ctr_ranker rank", "ctr_ranker serving_default"}
    sent = {(one.request.signature, str(one.request.inputs["item_id"].tolist())) for one in list(read_log(log))[:7]}
    assert len(again) == 40 and {(signature, str(items)) for signature, items in again} == sent


def test_a_log_holds_what_was_asked_and_answered(shop, server, tmp_path):
    records = list(read_log(write_log(server.port, tmp_path / "log")))
    assert [record.model for record in records] == [contract.CTR_RANKER] * 7 + [contract.SIMILAR_ITEMS]
    again = GraphModel(shop.workdir / "models" / contract.CTR_RANKER / "1")
    for record in records[:7]:
        expected = again.run(record.request.signature, record.request.inputs)["probability"]
        np.testing.assert_allclose(record.outputs["probability"], expected, atol=1e-6)
    some = list(read_log(write_log(server.port, tmp_path / "some", share=0.5)))
    assert 0 < len(some) < 8
    with pytest.raises(RequestLogError, match="between 0 and 1"):
        RequestLog(tmp_path / "x", 2)
    with pytest.raises(RequestLogError, match="does not exist"):
        list(read_log(tmp_path / "nothing"))
