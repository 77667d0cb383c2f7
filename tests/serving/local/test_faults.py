"""What goes wrong on a server: new versions under load, clients that leave, fuzz, a kill."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from courier_tf.exporting import promotion
from courier_tf.exporting.promotion import roll_back
from courier_tf.settings import PromotionSettings
from serving.bundle.messages import model_spec, predict_request
from serving.client import contract
from serving.client.client import CourierClient, Retries
from serving.client.transport import CallError
from serving.local.local_server import LocalServer
from tests.served_shop import IDS, SIZE, export_again, png, write_rank
from tests.servers import free_port

LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0, accept=("auc", "calibration", "collapse"))


def promote(workdir):
    return promotion.promote(workdir, LENIENT)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_new_versions_under_load(workdir):
    """Promotion, a second version, its promotion and the roll back: no request fails, and the answers follow."""
    promote(workdir)
    seen, failures, stopped = [], [], threading.Event()
    with LocalServer(workdir / "serving", workdir / "models", warm_up=False, poll_seconds=0.05) as server:

        def ask(target):
            with CourierClient(target, timeout_seconds=20, retries=Retries(attempts=1)) as client:
                while not stopped.is_set():
                    try:
                        seen.append(client.rank("u1", IDS[:3], IDS[:20]).model_version)
                    except CallError as error:
                        failures.append(error)
                    time.sleep(0.02)  # Leaves the export a processor.

        targets = [f"localhost:{server.port}", f"http://localhost:{server.rest_port}"] * 2
        threads = [threading.Thread(target=ask, args=[target]) for target in targets]
        for thread in threads:
            thread.start()
        write_rank(workdir, seed=2)
        export_again(workdir)
        with CourierClient(targets[0], label="canary", timeout_seconds=20) as canary:
            wait_for(lambda: canary.rank("u1", [], ["i001"]).model_version == 2)
        assert set(seen) == {1}  # The canary has the new version, the stable label has not.
        promote(workdir)
        wait_for(lambda: seen[-8:].count(2) >= 4)
        roll_back(workdir)
        wait_for(lambda: seen[-8:] == [1] * 8)
        stopped.set()
        for thread in threads:
            thread.join()
        assert set(server.models._served[contract.CTR_RANKER].versions) == {1}
    assert failures == [] and len(seen) > 30


def large_request():
    many = np.array([[IDS[n % 60].encode() for n in range(contract.MAX_CANDIDATES)]], object)
    inputs = {"user_id": np.array([b"u1"], object), "history_item_ids": np.array([[b"i001"]], object), "item_id": many}
    return predict_request(model_spec(contract.CTR_RANKER, contract.RANK), inputs)


def test_clients_that_leave(server):
    """In the middle of a request, of a body, of an answer: the next client is served."""
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        calls = [PredictionServiceStub(channel).Predict.future(large_request()) for _ in range(10)]
        for call in calls:
            call.cancel()
    for sent in (
        b"POST /v1/models/ctr_ranker:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/models/ctr_ranker:predict HTTP/1.1\r\n\r\n",
        b"GET /v1/models/ctr_ranker/metadata HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01 no HTTP\r\n\r\n",
        b"",
    ):
        with socket.create_connection(("localhost", server.rest_port)) as connection:
            connection.sendall(sent)
            # Closing with data unread resets the connection under the server's hands.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    for target in (f"localhost:{server.port}", f"http://localhost:{server.rest_port}"):
        with CourierClient(target, label="canary", timeout_seconds=20) as client:
            assert client.rank("u1", [], ["i001"]).model_version == 1


EXAMPLE = tf.train.Example(
    features=tf.train.Features(feature={"item_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"i001"]))})
).SerializeToString()


def random_array(rng, kind):
    shape = [rng.choice([0, 1, 1, 2, 3, SIZE]) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4]))]
    size = int(np.prod(shape))
    if kind == "string":
        leaves = [rng.choice([b"", b"i001", b"u1", b"\xff\xfe", rng.randbytes(rng.randrange(40))]) for _ in range(size)]
        if rng.random() < 0.4:  # What the signature takes, in whole or in part.
            good = rng.choice([png(np.zeros([3, 3, 3], np.uint8)), EXAMPLE])
            leaves = [good if rng.random() < 0.9 else leaf for leaf in leaves]
        array = np.empty(size, object)
        array[:] = leaves
        return array.reshape(shape)
    values = np.array([rng.choice([0, 1, -1, 255, 7]) for _ in range(size)], float).reshape(shape)
    if kind.startswith("float") and size and rng.random() < 0.3:
        values.ravel()[0] = rng.choice([np.nan, np.inf, -np.inf])
    return values.astype(kind)


def fuzzed(rng, signature):
    """Inputs that are sometimes right, and mostly not."""
    kinds = {7: "string", 4: "uint8", 1: "float32"}
    inputs = {}
    for name, info in signature.inputs.items():
        if rng.random() < 0.05:
            continue
        kind = (
            kinds[info.dtype] if rng.random() < 0.9 else rng.choice(["string", "uint8", "float32", "int64", "float64"])
        )
        inputs[name] = random_array(rng, kind)
        if rng.random() < 0.85:  # A shape that fits, so that the graph is reached.
            shape = [3 if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
            inputs[name] = np.resize(inputs[name], shape) if inputs[name].size else inputs[name]
    if rng.random() < 0.05:
        inputs["extra"] = np.zeros(1)
    return inputs


SIGNATURES = [
    *((contract.CTR_RANKER, name) for name in ("serving_default", "rank", "examples", "classify", "regress")),
    *((contract.IMAGE_EMBEDDER, name) for name in ("serving_default", "pixels")),
    *((contract.SIMILAR_ITEMS, name) for name in ("serving_default", "by_embedding", "by_photo")),
]
DEFINED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}


@pytest.mark.parametrize("number", [80, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("model", "signature"), SIGNATURES)
def test_fuzzed_requests(server, model, signature, number):
    """Each gets an answer or a code that says what is wrong with it; none takes the server down."""
    rng = random.Random(f"{model} {signature}")
    definition = server.models.find(model_spec(model))[1].signatures[signature]
    codes: dict = {}
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        stub = PredictionServiceStub(channel)
        for _ in range(number):
            request = predict_request(model_spec(model, signature), fuzzed(rng, definition))
            if rng.random() < 0.1 and request.inputs:
                tensor = request.inputs[rng.choice(sorted(request.inputs))]
                if rng.random() < 0.5:
                    tensor.tensor_content = rng.randbytes(rng.randrange(64))
                else:
                    tensor.tensor_shape.dim.add(size=rng.choice([-1, 0, 2, 2**40]))
            try:
                stub.Predict(request, timeout=30)
                code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                code = error.code()
                assert code in DEFINED, error.details()
            codes[code] = codes.get(code, 0) + 1
        assert min(codes.get(code, 0) for code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)) > 2, codes


@pytest.mark.slow
def test_a_server_that_is_killed_under_load_and_started_again(shop):
    """Calls are on their way when it is killed, and retries bring them to their answer, by gRPC and REST."""
    port, rest_port = free_port(), free_port()
    command = [sys.executable, "-m", "courier_tf", "serve", "--workdir", str(shop.workdir)]
    command += ["--port", str(port), "--rest-port", str(rest_port)]
    targets, stopped = [f"localhost:{port}", f"http://localhost:{rest_port}"] * 2, threading.Event()
    calls, candidates = [[] for _ in targets], [IDS[number % 60] for number in range(2000)]

    def ask(target, mine):
        with CourierClient(target, label="canary", timeout_seconds=300, retries=Retries(attempts=10_000)) as client:
            while not stopped.is_set():
                began = time.monotonic()
                probability = client.rank("u1", IDS[:3], candidates).probability
                mine.append((began, time.monotonic(), probability))

    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    threads = [threading.Thread(target=ask, args=arguments) for arguments in zip(targets, calls, strict=True)]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(len(mine) > 2 for mine in calls), seconds=200)
    killed = time.monotonic()
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: all(mine[-1][0] > killed for mine in calls), seconds=200)
    stopped.set()
    for thread in threads:
        thread.join()
    second.terminate()
    assert second.wait(60) == 0 and "LOCAL SERVER" in second.stdout.read()
    for mine in calls:
        assert sum(began < killed < ended for began, ended, _ in mine) == 1
        for _, _, probability in mine:
            np.testing.assert_array_equal(probability, calls[0][0][2])
