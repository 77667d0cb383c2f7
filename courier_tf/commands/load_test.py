"""`courier load-test`: real requests at a given rate, whether the server keeps up or not (open loop).

The latency of a request counts from the moment at which it was due: a server that stalls is charged for every request
that it kept waiting.
"""

import dataclasses
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from courier_tf.workdir.atomic import write_file
from serving.bundle import warmup
from serving.bundle.configuration import MODELS_CONFIG, read_models_config
from serving.bundle.messages import model_spec, predict_request
from serving.client.request_log import read_log

REPORT_FILE, PLOT_FILE = "load_test.json", "load_test.png"
PERCENTILES = (50, 95, 99)
READY_SECONDS = 10.0  # For the first connection.


class LoadTestError(ValueError):
    """There is nothing to send, or nobody to send it to."""


@dataclasses.dataclass(frozen=True)
class Sent:
    """One request of the test. Times in seconds since its start; the latency counts from `due`."""

    kind: str  # Of `kind_of` or `signature_of`.
    due: float
    latency: float
    code: str


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
    """The predict requests in the warm-up of some versions: all models, all signatures, several sizes.

    Args:
        versions: directories of versions.
        label: of the versions that the requests go to.
    """
    logs = [log for version in versions for log in warmup.read(version) if log.HasField("predict_log")]
    requests = [log.predict_log.request for log in logs]
    for request in requests:
        request.model_spec.version_label = label
    return requests


def logged_requests(log: Path, models: Collection[str], label: str) -> list[PredictRequest]:
    """The requests to some models in a log of requests.

    Args:
        log: of a `RequestLog`.
        models: whose requests are wanted.
        label: of the versions that they go to now.

    Raises:
        LoadTestError: there are none.
        RequestLogError: the log is missing or broken.
    """
    found = [
        predict_request(model_spec(one.model, one.request.signature, label=label), one.request.inputs)
        for one in read_log(log)
        if one.model in models
    ]
    if not found:
        raise LoadTestError(f"{log} holds no request to {', '.join(sorted(models))}")
    return found


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
    """Sends requests at random times, drawn at random.

    Args:
        target: host:port of gRPC.
        requests: to draw from.
        rate: requests per second.
        seconds: for which requests become due.
        timeout_seconds: deadline of each.
        seed: of times and choice.
        kind: what a request is counted as.

    Returns:
        All requests, in the order in which they were due.

    Raises:
        LoadTestError: no requests, or nobody answers at the target.
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

        for number in track(range(len(dues)), f"{rate:g} requests/s", console=Console(stderr=True)):
            time.sleep(max(0.0, dues[number] - (time.perf_counter() - start)))
            call = stub.Predict.future(requests[chosen[number]], timeout=timeout_seconds)
            call.add_done_callback(lambda call, number=number: note(number, call))
        for _ in dues:
            done.acquire()
    return [one for one in sent if one]


def server_at(target: str) -> str:
    """What answers at host:port: the local server says so.

    Raises:
        LoadTestError: nobody answers.
    """
    with grpc.insecure_channel(target) as channel:
        call = ModelServiceStub(channel).GetModelStatus.future(GetModelStatusRequest(), timeout=READY_SECONDS)
        if call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise LoadTestError(f"nobody answers at {target}")
        named = dict(call.initial_metadata()).get("x-server")
    return f"{named}, not TensorFlow Serving" if named else "TensorFlow Serving"


def summarise(sent: Sequence[Sent], seconds: float) -> dict[str, Any]:
    """Latencies (of answers, in milliseconds), errors, and answers per second, for all and for each kind."""
    kinds = {"all": sent} | {kind: [one for one in sent if one.kind == kind] for kind in sorted({s.kind for s in sent})}
    return {kind: _summary(part, seconds) for kind, part in kinds.items()}


def _summary(sent: Sequence[Sent], seconds: float) -> dict[str, Any]:
    answered = np.array([1000 * one.latency for one in sent if one.code == "OK"])
    # Until the last answer, where the server fell behind.
    span = max([seconds, *(one.due + one.latency for one in sent)])
    latencies = {f"p{p}_ms": float(np.percentile(answered, p)) if len(answered) else None for p in PERCENTILES}
    errors = dict(Counter(one.code for one in sent if one.code != "OK"))
    return {"requests": len(sent), **latencies, "errors": errors, "answers_per_second": len(answered) / span}


def report(sent: Sequence[Sent], target: str, server: str, rate: float, seconds: float, out: Path) -> dict[str, Any]:
    """Prints the table, writes REPORT_FILE and PLOT_FILE into `out`, and returns the figures."""
    out.mkdir(parents=True, exist_ok=True)
    found = {"target": target, "server": server, "rate": rate, "seconds": seconds, "kinds": summarise(sent, seconds)}
    write_file(out / REPORT_FILE, json.dumps(found, indent=2))
    table = Table(title=f"{rate:g} requests/s for {seconds:g} s, {target} ({server})")
    for column in ("request", "number", "p50 ms", "p95 ms", "p99 ms", "errors", "answers/s"):
        table.add_column(column, justify="left" if column == "request" else "right")
    for kind, figures in found["kinds"].items():
        latencies = ["-" if figures[f"p{p}_ms"] is None else f"{figures[f'p{p}_ms']:.1f}" for p in PERCENTILES]
        errors = ", ".join(f"{number} {code}" for code, number in figures["errors"].items()) or "0"
        table.add_row(kind, str(figures["requests"]), *latencies, errors, f"{figures['answers_per_second']:.1f}")
    Console().print(table)
    _plot(sent, found, out / PLOT_FILE)
    return found


def _plot(sent: Sequence[Sent], found: dict[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (over_time, shares) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for model in sorted({one.kind.split()[0] for one in sent}):
        answered = [one for one in sent if one.kind.split()[0] == model and one.code == "OK"]
        latency = np.array([1000 * one.latency for one in answered])
        over_time.plot([one.due for one in answered], latency, ".", markersize=3)
        shares.plot(np.sort(latency), np.arange(1, len(latency) + 1) / max(1, len(latency)), label=model)
    failed = [one.due for one in sent if one.code != "OK"]
    over_time.plot(failed, [1000 * found["seconds"]] * len(failed), "rx")
    over_time.set(xlabel="seconds", ylabel="latency, ms", yscale="log", title="each request (x: errors)")
    shares.set(
        xlabel="latency, ms", ylabel="share of the requests", xscale="log", title=f"{found['rate']:g} requests/s"
    )
    shares.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
