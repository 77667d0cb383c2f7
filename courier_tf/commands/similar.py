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
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import EMBED, INGEST

PAGE_FILE = "similar.png"


def similar(
    workdir: Path, items: Sequence[str], number: int, search: Literal["exact", "scann"] = "exact"
) -> dict[str, list[tuple[str, float]]]:
    """Prints and returns, for each item, the `number` items whose embeddings are nearest, with their cosines.

    Writes the photos of the first of them to `similar.png` in the workdir.

    Raises:
        ClusterError: an item is not in the catalogue or has no photo, or there are fewer with one than asked for.
        ArtefactError: the embeddings are missing, or of another ingest than the photos.
    """
    ingested = artefacts.read(workdir / INGEST, INGEST)
    artefacts.require_input(artefacts.read(workdir / EMBED, EMBED), INGEST, ingested.fingerprint)
    names, embeddings = EmbeddingFiles(workdir / "embed").all_items()
    if number >= len(names):
        raise ClusterError(f"{number} similar items are asked for, but the catalogue has {len(names)} with a photo")
    place = {name: row for row, name in enumerate(names)}
    unknown = [item for item in items if item not in place]
    if unknown:
        raise ClusterError(f"no embedding of {', '.join(unknown)}: not in the catalogue, or without a photo")
    rows = np.array([place[item] for item in items])
    # An item is nearest to itself, but for others with the very same photo.
    found, cosine = ItemSearch(embeddings, search)(embeddings[rows], number + 1)
    answer = {}
    table = Table("item", "similar item", "cosine")
    for item, row, others, values in zip(items, rows, found, cosine, strict=True):
        pairs = [(str(names[o]), float(v)) for o, v in zip(others, values, strict=True) if o != row][:number]
        answer[item] = pairs
        for other, value in pairs:
            table.add_row(item, other, f"{value:.4f}")
        table.add_section()
    Console(markup=False, emoji=False).print(table)  # Ids are the words of the shop.
    _write_page(workdir, answer)
    return answer


def _write_page(workdir: Path, answer: dict[str, list[tuple[str, float]]]) -> None:
    rows = {item: [item, *(other for other, _ in pairs)][:PHOTOS] for item, pairs in answer.items()}
    photos = records.read_photos(workdir / "ingest", {item.encode() for row in rows.values() for item in row})
    page([(f"like {item}", [photos[one.encode()] for one in row]) for item, row in rows.items()]).save(
        workdir / PAGE_FILE
    )
    print(f"Photos, the item itself first: {workdir / PAGE_FILE}")
