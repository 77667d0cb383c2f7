"""The cluster stage: embeddings (Parquet) to a codebook, and a table item -> cluster ID."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from courier_tf import artefacts
from courier_tf.clusters.kmeans import ClusterError, assign, check, minibatch_kmeans
from courier_tf.settings import ClusterSettings

CENTROIDS_FILE = "centroids.npy"  # [clusters, D] float32.
TABLE_FILE = "item_clusters.parquet"  # item_id: string, cluster_id: int32 (NO_CLUSTER for an item without a photo).
NO_CLUSTER = -1


def read_embeddings(embed: Path) -> pa.Table:
    """All embedding rows of an embed stage, ordered by item id: item_id, embedding, in_train_span, encoder."""
    return pq.read_table(embed, schema=None).sort_by("item_id")


def vectors(table: pa.Table) -> np.ndarray:
    """The embedding column as [N, D] float32; rows of items without a photo must be left out before."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)


def cluster(embed: Path, target: Path, settings: ClusterSettings, seed: int, made_by: artefacts.MadeBy) -> None:
    """Clusters the embeddings of the train span's items; items that came later are only assigned.

    Args:
        embed: directory of the embed stage.
        target: directory to write.
        settings: those of this stage.
        seed: of k-means.
        made_by: what determines the result.

    Raises:
        ClusterError: fewer embeddings than clusters, or embeddings that are not finite or of several encoders.
    """
    facts = artefacts.read(embed, "embed").facts
    table = read_embeddings(embed / "items")
    encoders = set(table["encoder"].to_pylist())
    if encoders - {facts["encoder"]}:
        raise ClusterError(f"{embed} holds embeddings of the encoders {sorted(encoders)}")
    with_photo = table.filter(table["embedding"].is_valid())
    embeddings, train = vectors(with_photo), with_photo["in_train_span"].to_numpy()
    check(embeddings[train], settings.clusters)
    rounds = minibatch_kmeans(
        embeddings[train],
        settings.clusters,
        batch_size=settings.cluster_batch_size,
        steps=settings.cluster_steps,
        rng=np.random.default_rng(seed),
    )
    *_, centroids = track(rounds, "k-means", settings.cluster_steps)
    nearest, distance = assign(embeddings, centroids)
    ids = dict(zip(with_photo["item_id"].to_pylist(), nearest.tolist(), strict=True))
    with artefacts.write_aside(target, made_by) as (partial, found):
        np.save(partial / CENTROIDS_FILE, centroids)
        cluster_ids = [ids.get(item, NO_CLUSTER) for item in table["item_id"].to_pylist()]
        columns = {"item_id": table["item_id"], "cluster_id": pa.array(cluster_ids, pa.int32())}
        pq.write_table(pa.table(columns), partial / TABLE_FILE)
        sizes = np.bincount(nearest[train], minlength=settings.clusters)
        share = sizes[sizes > 0] / sizes.sum()
        found |= {
            "clusters": settings.clusters,
            "encoder": facts["encoder"],
            "image_size": facts["image_size"],
            "embedding_dim": int(embeddings.shape[1]),
            "items_without_photo": len(table) - len(with_photo),
            "distortion": float(distance[train].mean()),
            "used_clusters": int((sizes > 0).sum()),
            "perplexity": float(np.exp(-(share * np.log(share)).sum())),
            "largest_cluster_share": float(share.max()),
        }
