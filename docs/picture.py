"""Draws the picture of README.md from a workdir of the simulated shop: `make picture`.

python -m docs.picture W OUT.png
"""

import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

from courier_tf import schema  # Before TensorFlow: it chooses the legacy Keras.

# isort: split
import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from courier_tf.exporting.versions import newest_version
from courier_tf.workdir import records
from serving.bundle.graph_model import GraphModel
from serving.client.contract import CTR_RANKER

CLUSTERS, PHOTOS, HISTORY = 5, 6, 6  # Rows at the left, photos of a row, history items.
SIDE, GAP, SMALL = 84, 8, 48
TEXT, CLICKED, GREY = "#222222", "#2f8f4e", "#666666"


class PageView(NamedTuple):
    """What a user was shown. Candidates stand in the order of the ranker."""

    history: list[bytes]
    candidates: list[bytes]
    probability: np.ndarray
    clicked: list[bool]


def read_embeddings(workdir: Path) -> dict[bytes, np.ndarray]:
    """Item -> its embedding [D], of length 1; items with a photo alone."""
    table = pq.read_table(workdir / "embed" / schema.ITEMS_FOLDER, columns=["item_id", "embedding"]).to_pydict()
    return {
        item.encode(): np.array(vector)
        for item, vector in zip(table["item_id"], table["embedding"], strict=True)
        if vector is not None
    }


def tight_clusters(workdir: Path, embeddings: dict[bytes, np.ndarray]) -> list[list[bytes]]:
    """The clusters whose items are most alike, and some items of each, drawn at random."""
    table = pq.read_table(workdir / "cluster/item_clusters.parquet").to_pydict()
    members: dict[int, list[bytes]] = {}
    for item, cluster in zip(table["item_id"], table["cluster_id"], strict=True):
        if item.encode() in embeddings:
            members.setdefault(cluster, []).append(item.encode())
    large = [items for items in members.values() if len(items) >= 2 * PHOTOS]
    large.sort(key=lambda items: -np.linalg.norm(np.mean([embeddings[item] for item in items], axis=0)))
    rng = np.random.default_rng(0)
    return [list(rng.choice(np.array(items, object), PHOTOS, replace=False)) for items in large[:CLUSTERS]]


def page_views(workdir: Path) -> list[PageView]:
    """The page views of the test span, with the probabilities of the exported ranker."""
    version = newest_version(workdir / schema.MODELS_FOLDER / CTR_RANKER)
    assert version is not None, f"{workdir} holds no exported ranker"
    dataset = tf.data.TFRecordDataset(records.files(workdir / "ingest" / schema.IMPRESSIONS_FOLDER, "test"))
    ranker = GraphModel(version)
    seen: dict[bytes, tuple[list[bytes], list[list[Any]]]] = {}
    for batch in dataset.batch(4096):
        parsed = records.parse(batch, schema.IMPRESSION_FEATURES)
        history = records.last_items(parsed.pop("history_item_ids"), HISTORY).numpy()
        of_rows = {name: value.numpy() for name, value in parsed.items()}
        inputs = {name: of_rows[name] for name in ("user_id", "item_id")}
        probability = ranker(**inputs, history_item_ids=history)["probability"]
        columns = of_rows["page_view_id"], history, of_rows["item_id"], probability, of_rows["clicked"]
        for page_view, clicks, *row in zip(*columns, strict=True):
            seen.setdefault(page_view, ([item for item in clicks if item], []))[1].append(row)
    views = []
    for _, (history, rows) in sorted(seen.items()):
        items, probabilities, clicked = zip(*sorted(rows, key=lambda row: -row[1]), strict=True)
        views.append(PageView(history, list(items), np.array(probabilities), [bool(value) for value in clicked]))
    return views


def is_telling(view: PageView, embeddings: dict[bytes, np.ndarray]) -> bool:
    """A full page with one click, which the ranker has foreseen, on an item that was not in the history."""
    known = all(item in embeddings for item in (*view.history, *view.candidates))
    one_click = view.clicked[0] and sum(view.clicked) == 1 and view.candidates[0] not in view.history
    return known and one_click and len(view.candidates) >= 7 and len(set(view.history)) == HISTORY


def contrast(view: PageView, embeddings: dict[bytes, np.ndarray]) -> float:
    """How much more the clicked candidate is like the history than the others are."""
    largest = np.array([max(embeddings[item] @ embeddings[past] for past in view.history) for item in view.candidates])
    return float(largest[0] - largest[1:].mean())


class Sheet:
    """A white page on which photos and words are put."""

    def __init__(self, width: int, height: int, photos: dict[bytes, bytes]) -> None:
        self.image, self._photos = Image.new("RGB", (width, height), "white"), photos
        self._draw = ImageDraw.Draw(self.image)

    def photo(self, item: bytes, x: int, y: int, side: int = SIDE, frame: str | None = None) -> None:
        pixels = (
            Image.open(io.BytesIO(self._photos[item])).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        )
        self.image.paste(pixels, (x, y))
        if frame:
            self._draw.rectangle([x - 4, y - 4, x + side + 3, y + side + 3], outline=frame, width=4)

    def words(self, text: str, x: int, y: int, size: int = 17, colour: str = TEXT) -> None:
        self._draw.text((x, y), text, colour, ImageFont.load_default(size))


def draw(clusters: list[list[bytes]], view: PageView, embeddings: dict[bytes, np.ndarray], sheet: Sheet) -> None:
    """Clusters at the left, the page view at the right."""
    sheet.words("Learned clusters", 16, 12, 22)
    for row, items in enumerate(clusters):
        for column, item in enumerate(items):
            sheet.photo(item, 16 + column * (SIDE + GAP), 52 + row * (SIDE + GAP))
    left = 16 + PHOTOS * (SIDE + GAP) + 48
    sheet.words("What the user has clicked", left, 12, 22)
    for column, item in enumerate(view.history):
        sheet.photo(item, left + column * (SIDE + GAP), 52)
    sheet.words("The next page view, in the order of the ranker", left, 168, 22)
    for column, item in enumerate(view.candidates[:8]):
        x, y = left + column * (SIDE + GAP), 208
        sheet.photo(item, x, y, frame=CLICKED if view.clicked[column] else None)
        sheet.words(f"{100 * view.probability[column]:.0f} %", x + 4, y + SIDE + 8, 20)
        cosines = [float(embeddings[item] @ embeddings[past]) for past in view.history]
        sheet.words("most like", x + 4, y + SIDE + 42, 15, GREY)
        sheet.photo(view.history[int(np.argmax(cosines))], x + 4, y + SIDE + 64, SMALL)
        sheet.words(f"cosine {max(cosines):.2f}", x + 4, y + SIDE + 66 + SMALL, 15, GREY)
    sheet.words("The user clicked the item in the green frame.", left, 470, 17, CLICKED)


def main(workdir: Path, target: Path) -> None:
    """Chooses and draws.

    Args:
        workdir: of a finished run on the simulated shop.
        target: the PNG to write.
    """
    embeddings = read_embeddings(workdir)
    clusters = tight_clusters(workdir, embeddings)
    view = max(
        (view for view in page_views(workdir) if is_telling(view, embeddings)),
        key=lambda view: contrast(view, embeddings),
    )
    wanted = {item for items in (*clusters, view.history, view.candidates) for item in items}
    width = 16 + PHOTOS * (SIDE + GAP) + 48 + 8 * (SIDE + GAP) + 8
    sheet = Sheet(width, 52 + CLUSTERS * (SIDE + GAP) + 8, records.read_photos(workdir / "ingest", wanted))
    draw(clusters, view, embeddings, sheet)
    sheet.image.quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
