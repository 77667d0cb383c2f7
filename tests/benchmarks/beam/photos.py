"""Photos in the Beam jobs: against Pillow, and against the embedder's SavedModel in a loop.

    python -m tests.benchmarks.beam.photos OUT

All figures are photos per second of one core (of the processor, not of the clock), medians of rounds in turn:

- the decoder of the ingest job, and Pillow with `draft`, from a JPEG file to a PNG of 64 pixels;
- the whole ingest job, by what further photos cost beside a job of few;
- the embed job in the same way, and its SavedModel in a loop over batches of the same photos, a Swin nano at 64 pixels.
"""

import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

CORE = sorted(os.sched_getaffinity(0))[-1]
os.sched_setaffinity(0, {CORE})  # Before TensorFlow counts the cores.

import courier_tf  # noqa: F401  (chooses the legacy Keras before TensorFlow is imported)

# isort: split
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.table import Table

from beam_jobs.embed import embed
from beam_jobs.ingest import ingest
from beam_jobs.item_photos import items_of
from beam_jobs.items import TOGETHER
from beam_jobs.photos import normalise_all
from courier_tf.features.signatures import PHOTOS as PHOTOS_SIGNATURE
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import save_encoder
from courier_tf.pretrain.frozen_encoder import export_embedder
from courier_tf.settings import EmbedSettings, IngestSettings
from courier_tf.workdir.provenance import MadeBy

SIZE, ROUNDS = 64, 3
#: Width, height and number of photos of a large shop.
PHOTOS = {"96 x 96": (96, 96, 4000), "600 x 800": (600, 800, 800), "2048 x 2048": (2048, 2048, 120)}
FEW, EMBEDDED = 8, "96 x 96"
DAY, FIRST = 86_400, 1_600_041_600


def photos(width: int, height: int, number: int) -> list[bytes]:
    """JPEG files of smooth pictures from random pixels, quality 85."""
    rng, files = np.random.default_rng(width), []
    for _ in range(number):
        small = rng.integers(0, 256, [height // 8, width // 8, 3], np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(stream, "jpeg", quality=85)
        files.append(stream.getvalue())
    return files


def shop(folder: Path, files: list[bytes]) -> Path:
    """A raw folder with these photos and a log of a few rows."""
    (folder / "images").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / "images" / f"{number}.jpg").write_bytes(file)
    rows = [f"i{number},c,images/{number}.jpg\n" for number in range(len(files))]
    (folder / "items.csv").write_text("item_id,category,image\n" + "".join(rows))
    events = [f"u{n},i{n % 4},{FIRST + day * DAY},r{day},{n % 2}\n" for day in range(5) for n in range(4)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp,request_id,clicked\n" + "".join(events))
    return folder


def pillow(file: Path) -> bytes:
    """The same by Pillow, from the file on: reduced while it is decoded, averaged by area, a PNG."""
    image = Image.open(file)
    image.draft("RGB", (SIZE, SIZE))
    stream = io.BytesIO()
    image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX).save(stream, "png")
    return stream.getvalue()


def decoded(files: list[bytes]) -> list[bytes]:
    """As the ingest job does it."""
    together = [files[start : start + TOGETHER] for start in range(0, len(files), TOGETHER)]
    return [png for some in together for png in normalise_all(some, SIZE)]


def seconds(call: Callable[[], object]) -> float:
    """Of the processor."""
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    """Runs the benchmark and prints its table."""
    out = Path(sys.argv[1])
    table = Table("photos", "what", "photos a core-second", "of the other")
    ingested: dict[str, dict[str, Path]] = {}
    for name, (width, height, number) in PHOTOS.items():
        files = photos(width, height, number)
        raws = {size: shop(out / f"{width}-{size}", files[:count]) for size, count in (("few", FEW), ("all", number))}
        stored = sorted((raws["all"] / "images").iterdir())
        decoded(files[:1])
        costs: dict[str, list[float]] = {"pillow": [], "decoder": [], "few": [], "all": []}
        for turn in range(ROUNDS):
            costs["pillow"].append(seconds(lambda f=stored: [pillow(file) for file in f]))
            costs["decoder"].append(seconds(lambda f=files: decoded(f)))
            for size, raw in raws.items():
                target = out / f"{width}-{size}-{turn}"
                job = lambda r=raw, t=target: ingest(str(r), t, IngestSettings(), MadeBy("ingest", {}, {}))  # noqa: E731
                costs[size].append(seconds(job))
                ingested.setdefault(name, {})[size] = target
        medians = {what: statistics.median(times) for what, times in costs.items()}
        base = number / medians["pillow"]
        table.add_row(name, "Pillow with draft", f"{base:,.0f}", "")
        for what, rate in (
            ("decoder of ingest", number / medians["decoder"]),
            ("ingest job, further photos", (number - FEW) / (medians["all"] - medians["few"])),
        ):
            table.add_row(name, what, f"{rate:,.0f}", f"{rate / base:.2f}")
            print(name, what, rate, rate / base, flush=True)
    _embed(out, ingested[EMBEDDED], PHOTOS[EMBEDDED][2], table)
    Console(width=120).print(table)


def _embed(out: Path, ingested: dict[str, Path], number: int, table: Table) -> None:
    """The embed job against its SavedModel in a loop."""
    save_encoder(Encoder("nano", 256), out / "encoder")
    export_embedder(out / "encoder", SIZE, out / "embedder")
    call = tf.saved_model.load(str(out / "embedder")).signatures[PHOTOS_SIGNATURE]
    batch = EmbedSettings().embed_batch_size
    stored = [photo for file in _files(ingested["all"]) for _, photo in items_of(file, 0)]
    batches = [tf.constant(stored[start : start + batch]) for start in range(0, number - number % batch, batch)]
    costs: dict[str, list[float]] = {"loop": [], "few": [], "all": []}
    call(photos=batches[0])
    for turn in range(ROUNDS):
        costs["loop"].append(seconds(lambda: [call(photos=each)["embedding"].numpy() for each in batches]))
        for size in ("few", "all"):
            target = out / f"embedded-{size}-{turn}"
            made_by = MadeBy("embed", {}, {})
            job = lambda s=size, t=target, m=made_by: embed(  # noqa: E731
                ingested[s], out / "embedder", "e", t, EmbedSettings(), m
            )
            costs[size].append(seconds(job))
    medians = {what: statistics.median(times) for what, times in costs.items()}
    base = len(batches) * batch / medians["loop"]
    # Few photos fill no batch, and a batch is computed whole.
    rate = (number - batch) / (medians["all"] - medians["few"])
    table.add_row("64 x 64, stored", "SavedModel in a loop", f"{base:,.0f}", "")
    table.add_row("64 x 64, stored", "embed job, further photos", f"{rate:,.0f}", f"{rate / base:.2f}")


def _files(ingested: Path) -> list[str]:
    return sorted(map(str, (ingested / "items").glob("*.tfrecord")))


if __name__ == "__main__":
    main()
