"""Tiny raw folders, and a reader of what the ingest job made of them."""

import csv
import dataclasses
import datetime
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from beam_jobs.ingest import ingest
from beam_jobs.photos import normalise_all
from courier_tf import schema
from courier_tf.images import PhotoError
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

DAY = 86_400
FIRST = 1_600_000_000 // DAY * DAY  # Midnight of the first day.


def normalise(encoded: bytes, size: int) -> bytes:
    """A photo as the ingest job stores it; raises what is wrong with it."""
    (made,) = normalise_all([encoded], size)
    if isinstance(made, PhotoError):
        raise made
    return made


def photo(kind: str = "JPEG", mode: str = "RGB", size: int = 20, seed: int = 0) -> bytes:
    """An encoded photo of smooth colours."""
    rng = np.random.default_rng(seed)
    pixels = Image.fromarray(rng.integers(0, 255, [4, 4, 3], dtype=np.uint8)).resize((size, size), Image.BILINEAR)
    out = io.BytesIO()
    pixels.convert(mode).save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


class Raw:
    """A raw folder in the making: rows are lists of dicts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "images").mkdir(parents=True)

    def items(self, count: int = 8, **columns) -> list[dict]:
        rows = []
        for number in range(count):
            name = f"item{number}"
            (self.folder / "images" / f"{name}.jpg").write_bytes(photo(seed=number))
            row = {
                "item_id": name,
                "image": f"images/{name}.jpg",
                "category": f"c{number % 3}",
                "title": f"title {number}",
            }
            rows.append({**row, **{column: values[number] for column, values in columns.items()}})
        return rows

    def write(self, table: str, rows: list[dict], ending: str = "csv") -> Path:
        file = self.folder / f"{table}.{ending}"
        if ending == "parquet":
            pd.DataFrame(rows).to_parquet(file)
        elif ending == "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            with file.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return file

    def ingest(self, target: Path, **settings) -> "Ingested":
        shop = IngestSettings(image_size=16, shards=2, max_reject_fraction=0.5, max_missing_photo_fraction=0.5)
        chosen = dataclasses.replace(shop, **settings)
        ingest(str(self.folder), target, chosen, MadeBy("ingest", {}, {}))
        return Ingested(target)


def reject_rows(folder: Path) -> list[dict]:
    """The rejects of a folder of dead-letter files."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


class Ingested:
    """What the job wrote, as plain Python."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.facts = artefacts.read(target, INGEST).facts

    def rows(self, folder: str, prefix: str) -> list[dict]:
        of_impressions = schema.impression_features(self.facts.context_columns)
        features = of_impressions if folder == "impressions" else schema.PAGE_VIEW_FEATURES
        rows = []
        for file in records.files(self.target / folder, prefix):
            for serialised in tf.data.TFRecordDataset(file):
                parsed = records.parse(serialised[None], features)
                row = {}
                for name, kind in features.items():
                    value = parsed[name].to_list()[0] if kind.endswith("list") else parsed[name].numpy()[0]
                    texts = [v.decode() if isinstance(v, bytes) else int(v) for v in np.atleast_1d(value)]
                    row[name] = texts if kind.endswith("list") else texts[0]
                rows.append(row)
        return rows

    def rejects(self) -> list[dict]:
        return reject_rows(self.target / "rejects")


@pytest.fixture
def raw(tmp_path) -> Raw:
    """An empty raw folder."""
    return Raw(tmp_path / "raw")


def view_of(event: dict) -> str:
    """The page_view_id of a row of an impression log, by its definition: user, request id, and day (UTC)."""
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=int(event["timestamp"]) // DAY)
    return json.dumps([event["user_id"], event["request_id"], str(day)])


def impression_log(users: int = 6, days: int = 10, page_size: int = 6, items: int = 8, seed: int = 0) -> list[dict]:
    """One page view per user and day, at a random second, with clicks by chance."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in range(days):
        for user in range(users):
            second = int(FIRST + day * DAY + rng.integers(DAY))
            for item in rng.choice(items, page_size, replace=False):
                rows.append(
                    {
                        "user_id": f"u{user}",
                        "item_id": f"item{item}",
                        "timestamp": second,
                        "request_id": f"r{day}-{user}",
                        "clicked": int(rng.random() < 0.35),
                    }
                )
    return rows


def positives_log(users: int = 8, days: int = 10, items: int = 8, seed: int = 0) -> list[dict]:
    """One to three purchases per user and day, all at midnight."""
    rng = np.random.default_rng(seed)
    return [
        {"user_id": f"u{user}", "item_id": f"item{item}", "timestamp": FIRST + day * DAY}
        for day in range(days)
        for user in range(users)
        for item in rng.choice(items, rng.integers(1, 4), replace=False)
    ]


@pytest.fixture
def folder(tmp_path):
    """A raw folder with both tables; a test replaces what it is about."""
    from .raw_folder import ITEMS, LOG, csv_text, write  # Made by functions of this file.

    write(tmp_path, "items.csv", csv_text(ITEMS))
    write(tmp_path, "events.csv", csv_text(LOG))
    return tmp_path
