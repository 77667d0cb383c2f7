"""One hazard in a process of its own: python hazard.py CASE RAW OUT SIZE. Prints its figures as JSON.

It is run as a file, so that PYTHONPATH says of which tree the job is. Memory is what the job adds to that of a process
that has imported it.
"""

import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from beam_jobs.features import features
from beam_jobs.ingest import ingest
from courier_tf.settings import EmbedSettings, IngestSettings
from courier_tf.workdir.provenance import MadeBy

DAY = 86_400
FIRST = 1_600_000_000 // DAY * DAY
PHOTOS = 20  # Different photos of a catalogue.


def peak() -> float:
    """Most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_items(folder: Path, items: int, photos: bool = False) -> None:
    """Writes a catalogue."""
    folder.mkdir(parents=True)
    if photos:
        (folder / "images").mkdir()
        for number in range(PHOTOS):
            pixels = np.random.default_rng(number).integers(0, 256, [64, 64, 3], np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{number}.png")
    with (folder / "items.csv").open("w") as stream:
        stream.write("item_id,image,category\n")
        stream.writelines(f"item{n},{f'images/{n % PHOTOS}.png' if photos else ''},c{n % 20}\n" for n in range(items))


def write_events(folder: Path, events: int, items: int, days: int, users: int, columns: str, bad: float = 0.0) -> None:
    """Writes a log: each user's events are spread over the days, 8 in a row of one request. `bad` ones have no time."""
    rng = random.Random(0)
    with (folder / "events.csv").open("w") as stream:
        stream.write(columns + "\n")
        for event in range(events):
            view = event // 8
            second = FIRST + int(view * 8 * days * DAY / events)
            row = [
                f"u{view % users}",
                f"item{rng.randrange(items)}",
                "soon" if event > 5_000 and rng.random() < bad else str(second),
            ]
            if "clicked" in columns:
                row += [f"r{view}", str(int(rng.random() < 0.15))]
            stream.write(",".join(row) + "\n")


IMPRESSIONS, POSITIVES = "user_id,item_id,timestamp,request_id,clicked", "user_id,item_id,timestamp"


def rejects(raw: Path, size: int) -> None:
    """`size` rejects among 1.25 as many events."""
    write_items(raw, 1000)
    write_events(raw, size * 5 // 4, 1000, 40, size // 100, IMPRESSIONS, bad=0.8)


def uniform(raw: Path, size: int) -> None:
    """`size` items, 40 days, and half as many positives."""
    write_items(raw, size)
    write_events(raw, size // 2, size, 40, size // 40, POSITIVES)


def one_day(raw: Path, size: int) -> None:
    """A user with `size` events in one day, beside 100 users with 10,000 events in 40 days."""
    write_items(raw, 1000)
    write_events(raw, 10_000, 1000, 40, 100, IMPRESSIONS)
    rng = random.Random(1)
    with (raw / "events.csv").open("a") as stream:
        for event in range(size):
            second = FIRST + 5 * DAY + int(event // 8 * 8 * DAY / size)
            clicked = int(rng.random() < 0.15)
            stream.write(f"giant,item{rng.randrange(1000)},{second},g{event // 8},{clicked}\n")


def photos(raw: Path, size: int) -> None:
    """`size` items with photos of 64 px, and a small log."""
    write_items(raw, size, photos=True)
    write_events(raw, 4_000, size, 40, 50, IMPRESSIONS)


#: Case -> (writes its raw folder, settings of ingest).
CASES: dict[str, tuple[Callable[[Path, int], None], IngestSettings]] = {
    "rejects": (rejects, IngestSettings(max_reject_fraction=0.9)),
    "too many rejects": (rejects, IngestSettings()),
    "uniform": (uniform, IngestSettings(negatives="uniform")),
    "one day": (one_day, IngestSettings()),
    "features": (photos, IngestSettings()),
}


def main() -> None:
    """Measures the case, and prints its figures."""
    case, raw, out, size = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    write, settings = CASES[case]
    if not raw.exists():
        write(raw, size)
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(f"{out}_rejects", ignore_errors=True)
    if case == "features":
        ingested = raw.with_name(f"{raw.name}-ingested")
        if not ingested.exists():  # In a process of its own, as it would leave the memory that it needed.
            ingest(str(raw), ingested, settings, MadeBy("ingest", {}, {}))
            print(json.dumps({}))
            return
    before, started, wall = peak(), time.process_time(), time.perf_counter()
    failed = ""
    try:
        if case == "features":
            features(ingested, out, "pixels", 4, EmbedSettings(), MadeBy("features", {}, {}))
        else:
            ingest(str(raw), out, settings, MadeBy("ingest", {}, {}))
    except ValueError as error:
        failed = str(error).splitlines()[0]
    print(
        json.dumps(
            {
                "seconds": time.process_time() - started,
                "wall": time.perf_counter() - wall,
                "added": peak() - before,
                "failed": failed,
            }
        )
    )


if __name__ == "__main__":
    main()
