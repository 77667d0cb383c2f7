"""What a call by the project's client costs beyond the bare stub of gRPC, on one server, in turns.

    python -m tests.benchmarks.serving_client MODELS OUT

MODELS is a folder with exported models (`W/models`). The bare call makes the same message from the same words, with
TensorFlow Serving's own classes, and reads the same numbers. Only the ratios of one run say anything.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import grpc
import numpy as np
from rich.console import Console
from rich.table import Table
from tensorflow.core.framework.types_pb2 import DT_STRING
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from courier_tf.process import prepare
from serving.client import contract
from serving.client.client import CourierClient
from tests.benchmarks.serving_replica import Server, make_bundle

CANDIDATES = (1, 100, 500)
CALLS, WARM, BATCH = 600, 30, 20
TIMEOUT_SECONDS = 120.0  # A server prepares its graph for the first request of a kind.
HISTORY = [f"h{number}" for number in range(20)]


def bare_rank(stub: PredictionServiceStub, user: str, history: list[str], candidates: list[str]) -> np.ndarray:
    """`rank` by the bare stub: probabilities [N]."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = contract.CTR_RANKER, contract.RANK
    request.model_spec.version_label = contract.STABLE
    for name, values, shape in (
        ("user_id", [user], [1]),
        ("history_item_ids", ["", *history], [1, len(history) + 1]),
        ("item_id", candidates, [1, len(candidates)]),
    ):
        tensor = request.inputs[name]
        tensor.dtype = DT_STRING
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.string_val.extend(value.encode() for value in values)
    answer = stub.Predict(request, timeout=TIMEOUT_SECONDS)
    return np.array(answer.outputs["probability"].float_val, np.float32)


def measured(calls: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Median and 99th percentile of each call in ms, and processor time of this process, taken in turns."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(WARM):
        for call in calls.values():
            call()
    for number in range(CALLS):
        for name in list(calls)[:: 1 if number % 2 else -1]:  # Neither is always the second.
            wall, processor = time.perf_counter(), time.process_time()
            calls[name]()
            took[name].append((time.perf_counter() - wall, time.process_time() - processor))
    figures = {}
    for name, pairs in took.items():
        wall, processor = 1000 * np.array(pairs).T
        figures[name] = {
            "median_ms": float(np.median(wall)),
            "p99_ms": float(np.percentile(wall, 99)),
            "processor_ms": float(processor.mean()),
        }
    return figures


def main(models: Path, out: Path) -> None:
    """Measures, prints a table, and writes `serving_client.json`."""
    prepare()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        make_bundle(Path(folder), models)
        with (
            Server(Path(folder)) as server,
            CourierClient(server.target, timeout_seconds=TIMEOUT_SECONDS) as client,
            grpc.insecure_channel(server.target) as channel,
        ):
            stub = PredictionServiceStub(channel)
            for number in CANDIDATES:
                candidates = [f"i{item:03d}" for item in range(number)]
                ours, bare = (
                    client.rank("u1", HISTORY, candidates).probability,
                    bare_rank(stub, "u1", HISTORY, candidates),
                )
                np.testing.assert_allclose(ours, bare, rtol=1e-6)
                figures[f"rank, {number} candidates"] = measured(
                    {
                        "client": lambda candidates=candidates: client.rank("u1", HISTORY, candidates),
                        "bare": lambda candidates=candidates: bare_rank(stub, "u1", HISTORY, candidates),
                    }
                )
    out.mkdir(parents=True, exist_ok=True)
    (out / "serving_client.json").write_text(json.dumps(figures, indent=2))
    table = Table("request", "median, client / bare", "p99, client / bare", "processor ms, client and bare")
    for kind, sides in figures.items():
        median, p99 = (sides["client"][figure] / sides["bare"][figure] for figure in ("median_ms", "p99_ms"))
        processor = " and ".join(f"{sides[side]['processor_ms']:.2f}" for side in ("client", "bare"))
        medians = f"{median:.2f} ({sides['client']['median_ms']:.2f} ms / {sides['bare']['median_ms']:.2f} ms)"
        table.add_row(kind, medians, f"{p99:.2f}", processor)
    Console(width=140).print(table)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
