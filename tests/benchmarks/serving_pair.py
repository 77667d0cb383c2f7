"""Two exports of the same stages, asked in turn in one run: `rank` by length of the history, photos by their size.

    python -m tests.benchmarks.serving_pair BEFORE AFTER PHOTOS OUT

BEFORE and AFTER are folders of models (`W/models`), which two versions of the code have exported. PHOTOS is a folder of
JPEG files, which are enlarged. Only the ratios of one run say anything, as the machine may do other things, too.
"""

import functools
import glob
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from courier_tf.exporting.versions import newest_version
from courier_tf.process import prepare
from serving.bundle.graph_model import GraphModel
from serving.client import contract

HISTORIES, CANDIDATES = (0, 3, 20), 500
SIDES, BATCHES = (128, 512, 1024, 2048), (1, 24, 64)
SECONDS, FEWEST, MOST = 10.0, 5, 300  # Of each comparison, and its calls.
FIGURES = ("processor_ms", "p99_ms", "calls_per_second")


def measured(calls: dict[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Calls each in turn, so that what else the machine does falls on both alike.

    Returns:
        The figures of each. Rates and percentiles are those of the wall clock.
    """
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.monotonic() + SECONDS
    number = 0
    while number < FEWEST or (number < MOST and time.monotonic() < end):
        number += 1
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            took[name].append((time.perf_counter() - wall, time.process_time() - processor))
    figures = {}
    for name, pairs in took.items():
        wall, processor = 1000 * np.array(pairs).T
        p99 = float(np.percentile(wall, 99))
        rate = 1000 / float(np.median(wall))
        figures[name] = dict(zip(FIGURES, (float(np.median(processor)), p99, rate), strict=True))
    return figures


def rank_requests() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """A request to `rank` for each length of the history; the ids are unknown ones, which cost as much as others."""
    for length in HISTORIES:
        history = np.array([[b"", *(b"h%d" % n for n in range(length))]], object)
        candidates = np.array([[b"c%d" % n for n in range(CANDIDATES)]], object)
        user = np.array([b"u"], object)
        yield (
            f"rank, history of {length}",
            {"user_id": user, "history_item_ids": history, "item_id": candidates},
        )


def photo_requests(folder: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """A request with photos for each size and number."""
    files = sorted(glob.glob(str(folder / "*.jpg")))[: max(BATCHES)]
    for side in SIDES:
        photos = np.array([_enlarged(file, side) for file in files[:8]], object)
        for number in BATCHES:
            yield f"{number} photos of {side} px", {"photos": np.resize(photos, number)}


def _enlarged(file: str, side: int) -> bytes:
    content = io.BytesIO()
    Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS).save(content, "JPEG", quality=90)
    return content.getvalue()


def main(before: Path, after: Path, photos: Path, out: Path) -> None:
    """Measures everything; prints a table, writes `serving_pair.json`."""
    prepare()
    figures = {}
    for model, signature, requests in (
        (contract.CTR_RANKER, contract.RANK, rank_requests()),
        (contract.IMAGE_EMBEDDER, contract.DEFAULT_SIGNATURE, photo_requests(photos)),
    ):
        folders = {"before": before, "after": after}
        loaded = {name: GraphModel(newest_version(folder / model)) for name, folder in folders.items()}
        for kind, inputs in requests:
            calls = {name: functools.partial(graph.run, signature, inputs) for name, graph in loaded.items()}
            figures[kind] = measured(calls)
    out.mkdir(parents=True, exist_ok=True)
    (out / "serving_pair.json").write_text(json.dumps(figures, indent=2))
    Console(width=140).print(_table(figures))


def _table(figures: dict[str, dict[str, dict[str, float]]]) -> Table:
    table = Table("request", "processor time, before / after", "p99, before / after", "calls/s, after / before")
    for kind, sides in figures.items():
        processor, p99, rate = (sides["before"][figure] / sides["after"][figure] for figure in FIGURES)
        table.add_row(kind, f"{processor:.2f}", f"{p99:.2f}", f"{1 / rate:.2f}")
    return table


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
