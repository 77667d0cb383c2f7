"""`courier load-test`: sends real requests at a given rate, whether the server keeps up or not (open loop).

The latency of a request counts from the moment at which it was due. A server that stalls is charged for every request
that it kept waiting.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import grpc
import numpy as np
from rich.console import Console
from rich.progress import track
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from courier_tf import schema
from courier_tf.commands.load_report import Sent
from courier_tf.exporting.versions import newest_version
from serving.bundle import warmup
from serving.bundle.configuration import MODELS_CONFIG, read_models_config
from serving.bundle.messages import model_spec, predict_request
from serving.client.request_log import read_log

READY_SECONDS = 10.0  # For the first connection.


class LoadTestError(ValueError):
    """There is nothing to send, or nobody to send it to."""


def to_send(
    workdir: Path, chosen: Sequence[str], label: str, log: Path | None
) -> tuple[list[PredictRequest], Callable[[PredictRequest], str]]:
    """The requests of a load test, and how to name their kinds in its report.

    Args:
        workdir: of the models that are served.
        chosen: names of the models to ask; none for every model of the bundle.
        label: of the versions that the requests go to.
        log: of a `RequestLog`; None for the warm-up requests of the models.

    Raises:
        LoadTestError: there are none, or the bundle does not serve a chosen model.
        RequestLogError: the log is missing or broken.
    """
    models = workdir / schema.MODELS_FOLDER
    names = chosen_models(workdir / schema.BUNDLE_FOLDER, models, chosen)
    if log:
        return logged_requests(log, names, label), signature_of
    versions = [newest_version(models / name) for name in names]
    return warm_up_requests([version for version in versions if version], label), kind_of


def chosen_models(bundle: Path, models: Path, chosen: Sequence[str]) -> list[str]:
    """The models to ask: the chosen ones, or all that a bundle names.

    Args:
        bundle, models: folders of the bundle and of the models.
        chosen: names of models; none for all.

    Raises:
        BundleError: the bundle is missing or broken.
        LoadTestError: it does not name a chosen model.
    """
    config = read_models_config(bundle / MODELS_CONFIG, models)
    served = [model.name for model in config.model_config_list.config]
    unknown = sorted(set(chosen) - set(served))
    if unknown:
        raise LoadTestError(f"--models {' '.join(unknown)}: {bundle} serves {', '.join(served)}")
    return list(chosen) or served


def warm_up_requests(versions: Sequence[Path], label: str) -> list[PredictRequest]:
    """The Predict requests in the warm-up of some versions: all models, all signatures, several sizes.

    Args:
        versions: directories of the versions.
        label: label of the versions that the requests go to.
    """
    logs = [log for version in versions for log in warmup.read(version) if log.HasField("predict_log")]
    requests = [log.predict_log.request for log in logs]
    for request in requests:
        request.model_spec.version_label = label
    return requests


def logged_requests(log: Path, models: Collection[str], label: str) -> list[PredictRequest]:
    """The requests to some models in a log of requests.

    Args:
        log: file or folder that a `RequestLog` wrote.
        models: names of the models.
        label: label of the versions that the requests go to now.

    Raises:
        LoadTestError: there are none.
        RequestLogError: the log is missing or broken.
    """
    requests = [
        predict_request(model_spec(logged.model, logged.request.signature, label=label), logged.request.inputs)
        for logged in read_log(log)
        if logged.model in models
    ]
    if not requests:
        raise LoadTestError(f"{log} holds no request to {', '.join(sorted(models))}")
    return requests


def kind_of(request: PredictRequest) -> str:
    """Model, signature and shape of the last input, in words."""
    spec = request.model_spec
    name = max(request.inputs, key=lambda name: (len(request.inputs[name].tensor_shape.dim), name == "item_id"))
    shape = [dim.size for dim in request.inputs[name].tensor_shape.dim]
    return f"{spec.name} {spec.signature_name} {'x'.join(map(str, shape))}"


def signature_of(request: PredictRequest) -> str:
    """Model and signature, in words: a log has more shapes than a table has room for."""
    return f"{request.model_spec.name} {request.model_spec.signature_name}"


def load_test(
    target: str,
    requests: Sequence[PredictRequest],
    rate: float,
    seconds: float,
    timeout_seconds: float,
    seed: int = 0,
    kind: Callable[[PredictRequest], str] = kind_of,
) -> list[Sent]:
    """Sends requests, drawn at random, at random times.

    Args:
        target: host:port of the server's gRPC.
        requests: the requests to draw from.
        rate: requests per second.
        seconds: how long requests become due.
        timeout_seconds: deadline of a request.
        seed: seed of the times and the choice.
        kind: names what a request is counted as.

    Returns:
        All requests, in the order in which they were due.

    Raises:
        LoadTestError: there are no requests, or nobody answers at the target.
    """
    if not requests:
        raise LoadTestError("there are no requests to send")
    rng = np.random.default_rng(seed)
    dues = np.sort(rng.uniform(0, seconds, max(1, int(rate * seconds))))  # A Poisson process, given its number.
    chosen = rng.integers(len(requests), size=len(dues))
    kinds = [kind(request) for request in requests]
    sent: list[Sent | None] = [None] * len(dues)
    done = threading.Semaphore(0)
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise LoadTestError(f"nobody answers at {target}") from error
        stub, start = PredictionServiceStub(channel), time.perf_counter()

        def note(number: int, call: grpc.Future) -> None:
            now = time.perf_counter() - start
            sent[number] = Sent(kinds[chosen[number]], float(dues[number]), now - dues[number], call.code().name)
            done.release()

        console = Console(stderr=True)
        for number in track(range(len(dues)), f"{rate:g} requests/s", console=console, disable=not console.is_terminal):
            time.sleep(max(0.0, dues[number] - (time.perf_counter() - start)))
            call = stub.Predict.future(requests[chosen[number]], timeout=timeout_seconds)
            call.add_done_callback(lambda call, number=number: note(number, call))
        for _ in dues:
            done.acquire()
    return [request for request in sent if request]


def server_at(target: str) -> str:
    """Names the server at host:port: TensorFlow Serving, or the local server.

    Raises:
        LoadTestError: nobody answers.
    """
    with grpc.insecure_channel(target) as channel:
        call = ModelServiceStub(channel).GetModelStatus.future(GetModelStatusRequest(), timeout=READY_SECONDS)
        if call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise LoadTestError(f"nobody answers at {target}")
        named = dict(call.initial_metadata()).get("x-server")
    return f"{named}, not TensorFlow Serving" if named else "TensorFlow Serving"
