"""What a server and its clients go through: version swaps, replicas that fail, many large photos at once.

    python -m tests.benchmarks.serving_faults MODELS PHOTOS OUT [PART ...]

MODELS is a folder with exported models (`W/models`), PHOTOS a folder of JPEG files, which are enlarged. A PART is
photos, replicas or swaps; without one all are measured. The servers are local ones, each in a process of its own, and
their figures say nothing about TensorFlow Serving.
"""

import glob
import io
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import numpy as np
from PIL import Image

from courier_tf.process import prepare
from serving.client import contract
from serving.client.client import CourierClient
from serving.client.transport import CallError
from tests.benchmarks.serving_replica import MODELS, Server, make_bundle, write_config

SWAPS = 100
QUIET_SECONDS, REPLICA_SECONDS, PAUSE_SECONDS = 30.0, 20.0, 0.05
THREADS, SLOW_SECONDS, REPLICA_TIMEOUT_SECONDS = 6, 3.0, 4.0
LARGE_PHOTOS, LARGE_SIDE = 24, 2048
TIMEOUT_SECONDS = 1.0  # The default of the client.
Call = tuple[str, float, float, str]
"""Model, start and seconds of a call, and its code."""


@contextmanager
def load(client: CourierClient, asks: dict[str, Callable[[CourierClient], object]]) -> Iterator[list[Call]]:
    """Threads that each ask again and again, with a pause; the list has their calls, and is whole at the end."""
    calls: list[Call] = []
    ended = threading.Event()

    def work(name: str, ask: Callable[[CourierClient], object]) -> None:
        while not ended.wait(PAUSE_SECONDS):
            start = time.perf_counter()
            try:
                ask(client)
                code = "OK"
            except CallError as error:
                code = error.code.name
            calls.append((name, start, time.perf_counter() - start, code))

    threads = [threading.Thread(target=work, args=item) for item in asks.items()]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def rank(client: CourierClient) -> None:
    """One call of `rank`."""
    client.rank("u1", ["i1", "i2", "i3"], [f"i{n}" for n in range(100)])


def large_photos(folder: Path, number: int, side: int) -> list[bytes]:
    """JPEG files of a size."""
    photos = []
    for file in itertools.islice(itertools.cycle(sorted(glob.glob(str(folder / "*.jpg")))), min(number, 8)):
        content = io.BytesIO()
        image = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        image.save(content, "JPEG", quality=90)
        photos.append(content.getvalue())
    return list(itertools.islice(itertools.cycle(photos), number))


def p99_ms(calls: list[Call], name: str) -> float:
    """The 99th percentile of a model's calls."""
    return 1000 * float(np.percentile([seconds for model, _, seconds, _ in calls if model == name], 99))


def failed(calls: list[Call]) -> dict[str, int]:
    """Number of the calls that failed, by code."""
    codes = [code for *_, code in calls if code != "OK"]
    return {code: codes.count(code) for code in sorted(set(codes))}


def swaps_part(folder: Path, photos: list[bytes], swaps: int) -> dict[str, Any]:
    """New versions of the ranker, one after the other, while both models are asked."""
    asks = {contract.CTR_RANKER: rank, contract.IMAGE_EMBEDDER: lambda client: client.embed(photos)}
    versions, memory = dict.fromkeys(MODELS, 1), []
    ranker = folder / "models" / contract.CTR_RANKER
    with Server(folder) as server, CourierClient(server.target, timeout_seconds=20) as client:
        with CourierClient(server.target, timeout_seconds=120) as first:  # A server prepares for each kind of request.
            for ask in asks.values():
                ask(first)
        with load(client, asks) as quiet:
            time.sleep(QUIET_SECONDS)
        with load(client, asks) as swapped:
            for version in range(2, swaps + 2):
                os.symlink((ranker / "1").resolve(), ranker / str(version))
                versions[contract.CTR_RANKER] = version
                write_config(folder, versions)
                # All copies name version 1 in their answers, so the server is asked.
                while _available(client) != [version]:
                    time.sleep(0.1)
                memory.append(server.resident_mib())
                if version % 5 == 1:
                    print(f"{version - 1} swaps, {memory[-1]:.0f} MiB, {failed(swapped) or 'none'} failed", flush=True)
    tenth = max(1, swaps // 10)
    p99 = {name: (p99_ms(quiet, name), p99_ms(swapped, name)) for name in MODELS}
    return {
        "swaps": swaps,
        "calls_while_swapping": len(swapped),
        "failed": failed(swapped),
        "memory_mib_after_a_tenth_and_at_the_end": (float(np.median(memory[tenth : 2 * tenth])), memory[-1]),
        "memory_grows_by": float(np.median(memory[-tenth:]) / np.median(memory[tenth : 2 * tenth])),
        "p99_ms_before_and_while_swapping": p99,
        "p99_grows_by": {name: after / before for name, (before, after) in p99.items()},
    }


def _available(client: CourierClient) -> list[int]:
    """The versions of the ranker that a server has loaded."""
    return [version for version, state in client.versions(contract.CTR_RANKER).items() if state == "AVAILABLE"]


def replicas_part(folder: Path) -> dict[str, Any]:
    """Three replicas through one client: one is slow from the start, one is killed in the middle."""
    with Server(folder) as sound, Server(folder, SLOW_SECONDS) as slow, Server(folder) as dies:
        targets = [server.target for server in (sound, slow, dies)]
        for target in targets:
            with CourierClient(target, timeout_seconds=60) as client:
                rank(client)
        asks = {f"thread {n}": rank for n in range(THREADS)}
        with CourierClient(targets, timeout_seconds=REPLICA_TIMEOUT_SECONDS) as client, load(client, asks) as calls:
            time.sleep(REPLICA_SECONDS / 2)
            killed = time.perf_counter()
            dies.process.kill()
            time.sleep(REPLICA_SECONDS / 2)
    after = [call for call in calls if call[1] > killed]
    return {
        "calls": len(calls),
        "calls_after_the_kill": len(after),
        "calls_of_more_than_a_quarter_of_the_deadline": sum(
            seconds > REPLICA_TIMEOUT_SECONDS / 4 for _, _, seconds, _ in calls
        ),
        "failed": failed(calls),
        "slowest_seconds": max(seconds for _, _, seconds, _ in calls),
    }


def photos_part(folder: Path, photos: list[bytes]) -> dict[str, Any]:
    """Large photos at once: in one request, and by as many threads with one photo each."""
    with Server(folder) as server, CourierClient(server.target, timeout_seconds=60) as client:
        client.embed(photos[:2])
        start = time.perf_counter()
        client.embed(photos)
        together = time.perf_counter() - start
        took: list[float] = []

        def one(photo: bytes) -> None:
            began = time.perf_counter()
            client.embed([photo])
            took.append(time.perf_counter() - began)

        threads = [threading.Thread(target=one, args=[photo]) for photo in photos]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {
        "photos": len(photos),
        "seconds_in_one_request": together,
        "seconds_of_the_slowest_of_as_many_requests": max(took),
        "over_the_timeout_of_the_client": max(together, *took) / TIMEOUT_SECONDS,
    }


def main(models: Path, photos: Path, out: Path, chosen: list[str]) -> None:
    """Measures the chosen parts, or all, prints the figures, and writes `serving_faults.json`."""
    prepare()
    figures: dict[str, Any] = {}
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "photos": lambda folder: photos_part(folder, large_photos(photos, LARGE_PHOTOS, LARGE_SIDE)),
        "replicas": replicas_part,
        "swaps": lambda folder: swaps_part(folder, large_photos(photos, 1, 128), SWAPS),
    }
    for name in chosen or parts:
        with tempfile.TemporaryDirectory() as folder:
            make_bundle(Path(folder), models)
            figures[name] = parts[name](Path(folder))
        print(name, json.dumps(figures[name], indent=2), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "serving_faults.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), sys.argv[4:])
