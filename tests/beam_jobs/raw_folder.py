"""A small raw folder with both tables, and its events as they should be read. Fixture `folder` writes it."""

import pandas as pd

from .conftest import impression_log
from .reading import csv_text

ITEMS = [
    {"item_id": f"item{n}", "image": f"images/{n}.jpg", "category": f"c{n % 3}", "title": f"t {n}"} for n in range(8)
]
LOG = impression_log(days=4)
POSITIVES = [{name: row[name] for name in ("user_id", "item_id", "timestamp")} for row in LOG]
EXPECTED = {(r["user_id"], r["item_id"], r["timestamp"], r["request_id"], r["clicked"]) for r in LOG}
FRAME = pd.DataFrame(LOG)
LINES = FRAME.to_json(orient="records", lines=True)
TEXT = csv_text(LOG)


def write(folder, name, content):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def replace(folder, name, content):
    """Replaces a table by a file of another name."""
    (folder / f"{name.partition('.')[0].partition('/')[0].partition('-')[0]}.csv").unlink(missing_ok=True)
    return write(folder, name, content)
