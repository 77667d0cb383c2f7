"""`courier similar`: the items that look most like given ones, as a table and as a page of photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.item_search import ItemSearch
from courier_tf.clusters.seeding import ClusterError
from courier_tf.clusters.sheets import PHOTOS, page
from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.matching import require_input
from courier_tf.workdir.stages import EMBED, INGEST

PAGE_FILE = "similar.png"
SHOWN_ON_PAGE = 24  # Characters of an item id beside its photos.


def similar(
    workdir: Path, items: Sequence[str], number: int, search: Literal["exact", "scann"] = "exact"
) -> dict[str, list[tuple[str, float]]]:
    """Prints and returns the items that look most like given ones.

    The photos of the first of them are written to `similar.png` in the workdir.

    Args:
        workdir: workdir whose embed stage is finished.
        items: item ids.
        number: similar items for each.
        search: how they are searched.

    Returns:
        Item -> the `number` items with the nearest embeddings, each with its cosine.

    Raises:
        ClusterError: an item is not in the catalogue or has no photo, or fewer items have one than are asked for.
        ArtefactError: the embeddings are missing, or belong to another ingest than the photos.
    """
    ingested = artefacts.read(workdir / INGEST, INGEST)
    with artefacts.reading_large_files():
        require_input(artefacts.read(workdir / EMBED, EMBED), INGEST, ingested.fingerprint)
    names, embeddings = EmbeddingFiles(workdir / EMBED).all_items()
    if number >= len(names):
        raise ClusterError(f"{number} similar items are asked for, but the catalogue has {len(names)} with a photo")
    row_of = {name: row for row, name in enumerate(names)}
    unknown = [item for item in items if item not in row_of]
    if unknown:
        raise ClusterError(
            f"no embedding of {', '.join(map(printable, unknown))}: not in the catalogue, or without a photo"
        )
    rows = np.array([row_of[item] for item in items])
    # One more than asked for: an item is nearest to itself, or to others with the very same photo.
    neighbours, cosines = ItemSearch(embeddings, search)(embeddings[rows], number + 1)
    nearest = {}
    for item, row, others, values in zip(items, rows, neighbours, cosines, strict=True):
        pairs = [(str(names[other]), float(value)) for other, value in zip(others, values, strict=True) if other != row]
        nearest[item] = pairs[:number]
    Console(markup=False, emoji=False).print(_table(nearest))  # Ids may hold what looks like markup.
    _write_page(workdir, nearest)
    return nearest


def _table(nearest: dict[str, list[tuple[str, float]]]) -> Table:
    table = Table("item", "similar item", "cosine")
    for item, pairs in nearest.items():
        for other, cosine in pairs:
            table.add_row(printable(item), printable(other), f"{cosine:.4f}")
        table.add_section()
    return table


def _write_page(workdir: Path, nearest: dict[str, list[tuple[str, float]]]) -> None:
    rows = {item: [item, *(other for other, _ in pairs)][:PHOTOS] for item, pairs in nearest.items()}
    photos = records.read_photos(workdir / INGEST, {item.encode() for row in rows.values() for item in row})
    sheet = page(
        [
            (f"like {printable(item, SHOWN_ON_PAGE)}", [photos[shown.encode()] for shown in row])
            for item, row in rows.items()
        ]
    )
    sheet.save(workdir / PAGE_FILE)
    print(f"Photos, each row beginning with the item itself: {printable(workdir / PAGE_FILE, LONGEST_PATH)}")
