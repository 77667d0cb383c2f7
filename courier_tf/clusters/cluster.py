"""The cluster stage: embeddings (Parquet) to a codebook, and a table item -> cluster ID."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import Progress
from sklearn.metrics import adjusted_rand_score

from courier_tf import artefacts, records, schema
from courier_tf.clusters import quality
from courier_tf.clusters.comparison import LARGEST_SAMPLE, agglomerative, hdbscan
from courier_tf.clusters.kmeans import kmeans
from courier_tf.clusters.matching import kept_ids
from courier_tf.clusters.nearest import nearest as nearest_centroids
from courier_tf.clusters.online import SEEN_AT_START, single_pass, start
from courier_tf.clusters.seeding import ClusterError, check
from courier_tf.clusters.sheets import write_sheets
from courier_tf.settings import ClusterSettings

CENTROIDS_FILE = "centroids.npy"  # [clusters, D] float32; the row is the cluster ID.
SHEETS_FOLDER = "sheets"  # Pages of sample photos.
TABLE_FILE = "item_clusters.parquet"  # item_id: string, cluster_id: int32 (NO_CLUSTER for an item without a photo).
NO_CLUSTER = -1
SAMPLE_PER_CLUSTER = 256  # Embeddings that k-means learns from, for each centroid: more change next to nothing.
NEIGHBOUR_QUERIES = 1000  # Items whose neighbours the quality report looks up.


def read_embeddings(embed: Path) -> pa.Table:
    """All embedding rows of an embed stage, ordered by item id: item_id, embedding, in_train_span, encoder."""
    return pq.read_table(embed, schema=None).sort_by("item_id")


def vectors(table: pa.Table) -> np.ndarray:
    """The embedding column as [N, D] float32; rows of items without a photo must be left out before."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)


def cluster(
    ingest: Path, embed: Path, target: Path, settings: ClusterSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Clusters the embeddings of the train span's items; items that came later are only assigned.

    Args:
        ingest, embed: directories of those stages.
        target: directory to write.
        settings: those of this stage.
        seed: of order and seeding.
        made_by: what determines the result.

    Raises:
        ClusterError: fewer different embeddings than clusters, embeddings that are not finite, zero or of several
            encoders, or a previous codebook of another size.
    """
    facts = artefacts.read(embed, "embed").facts
    table = read_embeddings(embed / "items")
    encoders = set(table["encoder"].to_pylist())
    if encoders - {facts["encoder"]}:
        raise ClusterError(f"{embed} holds embeddings of the encoders {sorted(encoders)}")
    with_photo = table.filter(table["embedding"].is_valid())
    items, embeddings = np.array(with_photo["item_id"].to_pylist(), object), vectors(with_photo)
    train = with_photo["in_train_span"].to_numpy()
    check(embeddings, items)
    centroids = _learned(embeddings[train], settings, np.random.default_rng(seed))
    nearest, distance = nearest_centroids(embeddings, centroids)
    kept = {}
    if settings.previous:
        ids, kept = _ids_of(Path(settings.previous), target, items, nearest, centroids)
        centroids, nearest = centroids[np.argsort(ids)], ids[nearest]
    catalogue = records.read_items(ingest, [schema.CATEGORY])
    row_of = {item.decode(): row for row, item in enumerate(catalogue.ids)}
    rows = np.array([row_of[item] for item in items])
    with artefacts.write_aside(target, made_by) as (partial, found):
        np.save(partial / CENTROIDS_FILE, centroids)
        write_sheets(
            catalogue.photos[rows[train]],
            nearest[train],
            len(centroids),
            partial / SHEETS_FOLDER,
            np.random.default_rng(seed),
        )
        cluster_of = dict(zip(items, nearest.tolist(), strict=True))
        cluster_ids = [cluster_of.get(item, NO_CLUSTER) for item in table["item_id"].to_pylist()]
        columns = {"item_id": table["item_id"], "cluster_id": pa.array(cluster_ids, pa.int32())}
        pq.write_table(pa.table(columns), partial / TABLE_FILE)
        found |= {
            "clusters": len(centroids),
            "encoder": facts["encoder"],
            "image_size": facts["image_size"],
            "embedding_dim": int(embeddings.shape[1]),
            "items_without_photo": len(table) - len(with_photo),
            "quality": _quality(
                catalogue.columns[schema.CATEGORY][rows[train]],
                embeddings[train],
                nearest[train],
                distance[train],
                len(centroids),
            ),
            **kept,
        }


def _learned(embeddings: np.ndarray, settings: ClusterSettings, rng: np.random.Generator) -> np.ndarray:
    """[K, D] the centroids of the settings' algorithm."""
    order = rng.permutation(len(embeddings))
    if settings.algorithm == "agglomerative":
        return agglomerative(embeddings[order[:LARGEST_SAMPLE]], settings.clusters)
    if settings.algorithm == "hdbscan":
        return hdbscan(embeddings[order[:LARGEST_SAMPLE]])
    if settings.algorithm == "kmeans":
        sample = embeddings[order[: settings.clusters * SAMPLE_PER_CLUSTER]]
        rounds = kmeans(sample, settings.clusters, rng, settings.cluster_steps)
        total = settings.cluster_steps + 1
    else:
        first = settings.clusters * SEEN_AT_START
        state = start(embeddings[order[:first]], settings.clusters, rng)
        borders = range(first, len(order), settings.cluster_batch_size)
        blocks = (embeddings[order[b : b + settings.cluster_batch_size]] for b in borders)
        rounds, total = itertools.chain([state], single_pass(state, blocks)), len(borders) + 1
    with Progress() as progress:
        task = progress.add_task(settings.algorithm, total=total)
        for found in rounds:
            centroids = found.centroids
            progress.advance(task)
        progress.update(task, completed=total)  # k-means may end early.
    return centroids


def _ids_of(
    previous: Path, target: Path, items: np.ndarray, nearest: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, dict]:
    """([K] the ID of each centroid, facts: how many items keep theirs, and how alike the clusterings are)."""
    if previous.resolve() == target.resolve():
        raise ClusterError(f"previous={previous} is what this stage writes: copy it somewhere else first")
    artefacts.read(previous, "cluster")
    old_centroids = np.load(previous / CENTROIDS_FILE)
    if old_centroids.shape != centroids.shape:
        raise ClusterError(
            f"{previous} has {old_centroids.shape[0]} clusters of width {old_centroids.shape[1]}, but {len(centroids)} "
            f"of width {centroids.shape[1]} are asked for: IDs can only be kept where both are the same"
        )
    former = pq.read_table(previous / TABLE_FILE)
    old_of = dict(zip(former["item_id"].to_pylist(), former["cluster_id"].to_pylist(), strict=True))
    old = np.array([old_of.get(item, NO_CLUSTER) for item in items], int)
    both = old != NO_CLUSTER
    ids = kept_ids(old[both], nearest[both], old_centroids, centroids)
    return ids, {
        "items_in_previous": int(both.sum()),
        "ids_kept": float((ids[nearest[both]] == old[both]).mean()) if both.any() else None,
        "adjusted_rand_index": float(adjusted_rand_score(old[both], nearest[both])) if both.any() else None,
    }


def _quality(
    category: np.ndarray, embeddings: np.ndarray, nearest: np.ndarray, distance: np.ndarray, clusters: int
) -> dict[str, float | None]:
    """The quality report over the items of the train span."""
    few = len(embeddings) <= quality.NEIGHBOURS
    return {
        "distortion": float(distance.mean()),
        **quality.use(nearest, clusters),
        **quality.agreement(nearest, category),
        "neighbours_kept": None
        if few
        else quality.neighbours_kept(embeddings, nearest, NEIGHBOUR_QUERIES, np.random.default_rng(0)),
    }
