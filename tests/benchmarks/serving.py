"""Speed of serving on one core: the ranker, the image embedder, and a server.

    python -m tests.benchmarks.serving WORKDIR OUT

WORKDIR is a finished run with exported models. The signature `rank` is compared with a call per row, and with the
arithmetic of its matrix products. The server is the local one; its figures say nothing about TensorFlow Serving.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORES[0]})  # Before TensorFlow counts the cores.

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from courier_tf import schema
from courier_tf.chain.chain import Chain
from courier_tf.commands.load_report import summarise
from courier_tf.commands.load_test import load_test
from courier_tf.exporting.ctr_ranker import ranker_requests
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.samples import photo_requests
from courier_tf.exporting.versions import newest_version
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import FrozenEncoder
from courier_tf.process import prepare
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.ranking.visual_features.cluster_ids import ClusterId
from courier_tf.ranking.visual_features.similarity import Similarity
from courier_tf.settings import Settings
from serving.bundle.graph_model import GraphModel
from serving.bundle.messages import model_spec, predict_request
from serving.client import contract

REPEATS, WARM = 60, 5
RANK_REPEATS = 1000  # One call in a hundred is above the 99th percentile: there must be some of them.
CANDIDATES = 500
P99_MS = 20.0
RATES = (5, 10, 20, 30, 40, 60, 80, 120, 160, 240)
SECONDS = 8.0


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> np.ndarray:
    """[repeats] times of a call, after some that do not count."""
    for _ in range(WARM):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def flops_of_rank(ranker: Ranker, history: int, candidates: int) -> int:
    """Multiplications and additions of the matrix products of one row of `rank`."""
    width = int(ranker.attention.of_item.kernel.shape[0])  # Columns and visual features of an item.
    hidden = ranker.attention.of_candidate.units
    dense = sum(int(np.prod(layer.kernel.shape)) for layer in (*ranker.mlp.layers, ranker.logit))
    attention = width * history * hidden + history * hidden + history * width
    # Features that compare the same embeddings share the product.
    coded = {feature.codebook.shape[1] for feature in ranker.image.features if isinstance(feature, ClusterId)}
    seen = {ranker.image.embeddings.shape[1] for feature in ranker.image.features if isinstance(feature, Similarity)}
    compared = history * (sum(coded) + sum(seen))
    return 2 * (candidates * (attention + compared + dense) + history * width * hidden)


def flops_per_second() -> float:
    """What one core does in a large float32 matrix product."""
    size = 1536
    left, right = tf.random.normal([size, size]), tf.random.normal([size, size])
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)))
    return 2 * size**3 / (np.median(milliseconds(lambda: product().numpy(), 9)) / 1000)


def rank_part(chain: Chain, ranker_directory: Path, history_length: int) -> dict:
    """Times of `rank` for one user and 500 candidates."""
    served = GraphModel(newest_version(chain.workdir / schema.MODELS_FOLDER / contract.CTR_RANKER))
    requests = ranker_requests(chain.directory("ingest"), history_length)
    ranked = next(r for r in requests if r.signature == contract.RANK and r.inputs["item_id"].shape == (1, CANDIDATES))
    inputs = dict(ranked.inputs)
    # A full history costs most.
    inputs["history_item_ids"] = inputs["item_id"][:, :history_length]
    pairs = {name: np.repeat(inputs[name], CANDIDATES, axis=0) for name in ("user_id", "history_item_ids")}
    pairs["item_id"] = inputs["item_id"][0]
    single = {name: value[:1] for name, value in pairs.items()}
    rank = milliseconds(lambda: served.run(contract.RANK, inputs), RANK_REPEATS)
    by_history = {}
    for items in (0, history_length // 4, history_length // 2):
        history = np.where(np.arange(history_length) < items, inputs["history_item_ids"], b"")
        shorter = {**inputs, "history_item_ids": history}
        times = milliseconds(lambda shorter=shorter: served.run(contract.RANK, shorter), RANK_REPEATS)
        by_history[f"rank_with_{items}_of_{history_length}_items_p50_ms"] = float(np.percentile(times, 50))
    rows = milliseconds(lambda: served(**pairs))
    one_by_one = CANDIDATES * milliseconds(lambda: served(**single))
    bound = 1000 * flops_of_rank(load_ranker(ranker_directory), history_length, CANDIDATES) / flops_per_second()
    return {
        "rank_p50_ms": float(np.percentile(rank, 50)),
        "rank_p99_ms": float(np.percentile(rank, 99)),
        **by_history,
        "rows_in_one_call_over_rank": float(np.median(rows) / np.median(rank)),
        "rows_one_by_one_over_rank": float(np.median(one_by_one) / np.median(rank)),
        "matrix_products_at_peak_ms": bound,
        "rank_over_matrix_products": float(np.median(rank) / bound),
    }


def embedder_part(chain: Chain, image_size: int) -> dict:
    """Photos per second, against the encoder alone on pixels."""
    served = GraphModel(newest_version(chain.workdir / schema.MODELS_FOLDER / contract.IMAGE_EMBEDDER))
    bare = FrozenEncoder(chain.directory("pretrain") / ENCODER_FOLDER, image_size)
    encode = tf.function(bare.encode, autograph=False)
    rates = {}
    for request in photo_requests(chain.directory("ingest"), contract.DEFAULT_SIGNATURE):
        photos = request.inputs["photos"]
        if len(photos) in (1, 32):
            pixels = tf.zeros([len(photos), image_size, image_size, 3], tf.uint8)
            whole = np.median(milliseconds(lambda photos=photos: served(photos=photos), 20))
            alone = np.median(milliseconds(lambda pixels=pixels: encode(pixels).numpy(), 20))
            rates[f"photos_per_second_batch_{len(photos)}"] = 1000 * len(photos) / whole
            rates[f"of_the_bare_encoder_batch_{len(photos)}"] = alone / whole
    return rates


def server_part(chain: Chain, history_length: int) -> dict:
    """The highest rate of `rank` with 500 candidates whose p99 stays below 20 ms; local server, a core of its own."""
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("localhost", 0))
        other.bind(("localhost", 0))
        port, rest_port = probe.getsockname()[1], other.getsockname()[1]
    command = [sys.executable, "-m", "courier_tf", "serve", "--workdir", str(chain.workdir), "--server", "local"]
    os.sched_setaffinity(0, {CORES[-1]})  # Inherited by the server.
    server = subprocess.Popen(
        [*command, "--port", str(port), "--rest-port", str(rest_port)], stdout=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(0, {CORES[0]})
    try:
        for line in server.stdout:
            if line.strip() == "ready":
                break
        inputs = next(
            r.inputs
            for r in ranker_requests(chain.directory("ingest"), history_length)
            if r.signature == contract.RANK and r.inputs["item_id"].shape == (1, CANDIDATES)
        )
        request = predict_request(model_spec(contract.CTR_RANKER, contract.RANK, label="canary"), inputs)
        load_test(f"localhost:{port}", [request], 5, 2, 10)  # Warm.
        best, p99 = 0.0, {}
        for rate in RATES:
            figures = summarise(load_test(f"localhost:{port}", [request], rate, SECONDS, 10), SECONDS)["all"]
            p99[rate] = figures["p99_ms"]
            if figures["errors"] or figures["p99_ms"] > P99_MS:
                break
            best = rate
    finally:
        server.terminate()
        server.wait()
    return {"local_server_requests_per_second_p99_below_20_ms": best, "p99_ms_at_rate": p99}


def main(workdir: Path, out: Path) -> None:
    """Measures everything; prints a table, writes `serving.json`."""
    prepare()
    chain = Chain(workdir, Settings())
    stages = FinishedStages.read(workdir)
    figures = rank_part(chain, stages.ranker, stages.history_length)
    figures |= embedder_part(chain, stages.pretrain.facts.image_size)
    figures |= server_part(chain, stages.history_length)
    out.mkdir(parents=True, exist_ok=True)
    (out / "serving.json").write_text(json.dumps(figures, indent=2))
    table = Table("measure", "value", title=f"Serving {workdir} on one core")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.2f}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
