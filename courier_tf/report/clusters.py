"""The section on clusters: photos of some of them, with size, click rate, purity, and what their items share."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from courier_tf.clusters.files import NO_CLUSTER, TABLE_FILE
from courier_tf.clusters.sheets import chosen_clusters
from courier_tf.escaping import printable
from courier_tf.report.blocks import Block, Heading, Paragraph, Photo, PhotoRow, Photos, Table
from courier_tf.report.figures import figure, share
from courier_tf.report.items import ItemRows
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.schema import CATEGORY
from courier_tf.workdir.stages import CLUSTER

SHOWN, PHOTOS, SHARED = 12, 10, 3  # Clusters, photos of each, columns that are named.
LEAST_SHARED = 0.4  # Of the items of a cluster: a value that fewer have is not what they share.


def blocks(work: Workdir) -> Iterator[Block]:
    """Figures of the whole clustering, then some clusters from large to small."""
    clustered, items = work.read(CLUSTER), work.items
    facts = clustered.facts
    cluster = cluster_of(clustered.path, items)
    members = cluster != NO_CLUSTER
    if not members.any():
        raise Missing("No item has a photo, so there are no clusters.")
    sizes = np.bincount(cluster[members], minlength=facts.clusters)
    quality = [(name.replace("_", " "), figure(value)) for name, value in facts.quality.items()]
    yield Paragraph(
        f"{figure(int(members.sum()))} items are in {figure(facts.clusters)} clusters, "
        f"{figure(facts.items_without_photo)} items have no photo. Photos are drawn at random."
    )
    if facts.ids_kept is not None:
        yield Paragraph(f"{share(facts.ids_kept, 1)} of the items that had an ID in the previous clusters kept it.")
    order = chosen_clusters(sizes)
    order = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    yield Heading(f"{len(order)} clusters, from large to small")
    rng = np.random.default_rng(0)
    yield Photos([_row(int(number), np.flatnonzero(cluster == number), items, work, rng) for number in order])
    yield Table("Quality of the clusters and of the embeddings", ("figure", "value"), quality)


def cluster_of(directory: Path, items: ItemRows) -> np.ndarray:
    """[N] int: the cluster ID of each item of the catalogue, `NO_CLUSTER` without one."""
    table = pq.read_table(directory / TABLE_FILE, columns=["item_id", "cluster_id"])
    rows = items.rows_of(np.array([item.encode() for item in table["item_id"].to_pylist()], object))
    cluster = np.full(len(items.ids), NO_CLUSTER)
    cluster[rows[rows >= 0]] = table["cluster_id"].to_numpy()[rows >= 0]
    return cluster


def _row(number: int, rows: np.ndarray, items: ItemRows, work: Workdir, rng: np.random.Generator) -> PhotoRow:
    figures = {"items": figure(len(rows))}
    clicks, shown = int(items.events[rows].sum()), int(items.impressions[rows].sum())
    if work.ingest.facts.negatives is None:
        overall = share(float(items.events.sum()), float(items.impressions.sum()))
        figures["click rate"] = f"{share(clicks, shown)} (all: {overall})"
    else:  # A log of positives does not tell what was shown.
        overall = figure(float(items.events.mean()), 1)
        figures["clicks of an item"] = f"{figure(clicks / len(rows), 1)} (all: {overall})"
    figures["purity"] = share(Counter(items.columns[CATEGORY][rows].tolist()).most_common(1)[0][1], len(rows))
    figures["shared"] = "; ".join(shared(rows, items)) or "no column"
    drawn = rng.permutation(rows)[:PHOTOS]
    return PhotoRow(f"Cluster {number}", figures, [Photo(items.ids[row].decode()) for row in drawn])


def shared(rows: np.ndarray, items: ItemRows) -> list[str]:
    """What the items of a cluster share: values that are more frequent in it than among all items, at most `SHARED`.

    Args:
        rows: [M] int, of the items of the cluster.
        items: all items.
    """
    named = []
    for column, values in items.columns.items():
        value, number = Counter(values[rows].tolist()).most_common(1)[0]
        inside, overall = number / len(rows), float((values == value).mean())
        if value and inside >= LEAST_SHARED and inside > overall:
            words = f"{printable(column, 40)} {printable(value, 40)} {share(inside, 1)} (all: {share(overall, 1)})"
            named.append((inside - overall, words))
    return [words for _, words in sorted(named, reverse=True)[:SHARED]]
