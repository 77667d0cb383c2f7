"""The cluster stage: embeddings (Parquet) to a codebook, and a table item -> cluster ID."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import adjusted_rand_score

from courier_tf import artefacts, records, schema
from courier_tf.clusters import quality
from courier_tf.clusters.learn import codes_of, learn
from courier_tf.clusters.matching import kept_ids
from courier_tf.clusters.seeding import ClusterError, check
from courier_tf.clusters.sheets import write_sheets
from courier_tf.settings import ClusterSettings

CODEBOOK_FILE = "codebook.npy"  # [levels, clusters, D] float32; the row is the code, on the first level the cluster ID.
SHEETS_FOLDER = "sheets"  # Pages of sample photos.
TABLE_FILE = (
    "item_clusters.parquet"  # item_id: string, cluster_id: int32 (NO_CLUSTER for an item without a photo), and codes.
)
NO_CLUSTER = -1
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
    codebook = learn(embeddings[train], settings, np.random.default_rng(seed))
    codes, distance = codes_of(embeddings, codebook, settings.search)
    kept = {}
    if settings.previous:
        ids, kept = _ids_of(Path(settings.previous), target, items, codes[:, 0], codebook)
        codebook[0], codes[:, 0] = codebook[0, np.argsort(ids)], ids[codes[:, 0]]
    catalogue = records.read_items(ingest, [schema.CATEGORY])
    row_of = {item.decode(): row for row, item in enumerate(catalogue.ids)}
    rows = np.array([row_of[item] for item in items])
    with artefacts.write_aside(target, made_by) as (partial, found):
        np.save(partial / CODEBOOK_FILE, codebook)
        write_sheets(
            catalogue.photos[rows[train]],
            codes[train, 0],
            codebook.shape[1],
            partial / SHEETS_FOLDER,
            np.random.default_rng(seed),
        )
        every = np.full([len(table), len(codebook)], NO_CLUSTER, np.int32)
        every[table["embedding"].is_valid().to_numpy()] = codes
        columns = {
            "item_id": table["item_id"],
            "cluster_id": pa.array(every[:, 0]),
            "codes": pa.FixedSizeListArray.from_arrays(pa.array(every.ravel()), len(codebook)),
        }
        pq.write_table(pa.table(columns), partial / TABLE_FILE)
        found |= {
            "clusters": codebook.shape[1],
            "levels": len(codebook),
            "encoder": facts["encoder"],
            "image_size": facts["image_size"],
            "embedding_dim": int(embeddings.shape[1]),
            "items_without_photo": len(table) - len(with_photo),
            "quality": _quality(
                catalogue.columns[schema.CATEGORY][rows[train]],
                embeddings[train],
                codes[train],
                distance[train],
                codebook.shape[1],
            ),
            **kept,
        }


def _ids_of(
    previous: Path, target: Path, items: np.ndarray, nearest: np.ndarray, codebook: np.ndarray
) -> tuple[np.ndarray, dict]:
    """([K] the ID of each centroid of the first level, facts: share of items that keep theirs, and so on)."""
    if previous.resolve() == target.resolve():
        raise ClusterError(f"previous={previous} is what this stage writes: copy it somewhere else first")
    artefacts.read(previous, "cluster")
    old_centroids, centroids = np.load(previous / CODEBOOK_FILE)[0], codebook[0]
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
    category: np.ndarray, embeddings: np.ndarray, codes: np.ndarray, distance: np.ndarray, clusters: int
) -> dict[str, float | None]:
    """The quality report over the items of the train span: of the first level, but for distortion and collisions."""
    nearest = codes[:, 0]
    few = len(embeddings) <= quality.NEIGHBOURS
    return {
        "distortion": float(distance.mean()),
        "collisions": quality.collisions(codes),
        **quality.use(nearest, clusters),
        **quality.agreement(nearest, category),
        "neighbours_kept": None
        if few
        else quality.neighbours_kept(embeddings, nearest, NEIGHBOUR_QUERIES, np.random.default_rng(0)),
    }
