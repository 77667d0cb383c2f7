"""Mini-batch k-means (Sculley, WWW 2010) with k-means++ seeding, as functions of arrays.

For unit vectors Euclidean distance and cosine agree, so clusters keep what the contrastive loss arranged.
"""

from collections.abc import Iterator

import numpy as np

ASSIGN_ROWS = 16_384  # Rows scored at once: bounds the memory of the score matrix.


class ClusterError(ValueError):
    """The embeddings cannot be clustered as asked."""


def check(embeddings: np.ndarray, clusters: int) -> None:
    """Refuses what k-means cannot work on.

    Args:
        embeddings: [N, D].
        clusters: centroids wanted.

    Raises:
        ClusterError: fewer different embeddings than clusters, or values that are no numbers.
    """
    if not np.isfinite(embeddings).all():
        row = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise ClusterError(f"embedding {row} holds values that are not finite")
    different = len(np.unique(embeddings, axis=0))
    if different < clusters:
        raise ClusterError(f"clusters={clusters}, but there are only {different} different embeddings")


def assign(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each embedding; of equally near ones the first.

    Args:
        embeddings: [N, D] float32.
        centroids: [K, D] float32.

    Returns:
        ([N] int32 centroid, [N] float32 squared distance to it).
    """
    half_norms = 0.5 * np.einsum("kd,kd->k", centroids, centroids)
    nearest = np.empty(len(embeddings), np.int32)
    distance = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), ASSIGN_ROWS):
        rows = slice(start, start + ASSIGN_ROWS)
        score = embeddings[rows] @ centroids.T - half_norms
        nearest[rows] = score.argmax(axis=1)
        difference = embeddings[rows] - centroids[nearest[rows]]
        distance[rows] = np.einsum("nd,nd->n", difference, difference)
    return nearest, distance


def plus_plus(embeddings: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ seeding (Arthur and Vassilvitskii 2007): each next centroid far from those chosen, by chance.

    Returns:
        [clusters, D] float32, different rows of the embeddings.
    """
    chosen = [int(rng.integers(len(embeddings)))]
    distance = np.full(len(embeddings), np.inf, np.float32)
    while len(chosen) < clusters:
        difference = embeddings - embeddings[chosen[-1]]
        distance = np.minimum(distance, np.einsum("nd,nd->n", difference, difference))
        distance[chosen] = 0.0
        weights = np.cumsum(distance, dtype=np.float64)
        chosen.append(int(np.searchsorted(weights, rng.random() * weights[-1], side="right")))
    return embeddings[chosen].astype(np.float32)


def minibatch_kmeans(
    embeddings: np.ndarray, clusters: int, *, batch_size: int, steps: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields the centroids [clusters, D] after each step (the caller shows progress and keeps the last).

    A centroid moves to the mean of all embeddings it was ever given, so its steps shrink. One that no embedding chose
    for two passes is dead: it is put on the embedding of the batch that is worst served.

    Args:
        embeddings: [N, D] float32, checked by `check`.
        clusters: number of centroids.
        batch_size: embeddings per step, drawn without replacement within a pass.
        steps: mini-batches.
        rng: of seeding and order.
    """
    sample = rng.permutation(len(embeddings))[: max(clusters * 20, 10_000)]
    centroids = plus_plus(embeddings[np.sort(sample)], clusters, rng)
    counts, idle = np.zeros(clusters), np.zeros(clusters, int)
    order = rng.permutation(len(embeddings))
    revive_after = max(10, 2 * len(embeddings) // batch_size)
    for step in range(steps):
        start = step * batch_size % len(embeddings)
        batch = embeddings[np.take(order, range(start, start + min(batch_size, len(embeddings))), mode="wrap")]
        nearest, distance = assign(batch, centroids)
        given = np.bincount(nearest, minlength=clusters)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, batch)
        counts += given
        moved = given > 0
        rate = (given[moved] / counts[moved])[:, None].astype(np.float32)
        centroids[moved] += rate * (sums[moved] / given[moved, None] - centroids[moved])
        idle = np.where(moved, 0, idle + 1)
        dead = np.flatnonzero(idle >= revive_after)[: len(batch)]
        if len(dead):
            worst = np.argsort(-distance, kind="stable")[: len(dead)]
            centroids[dead], counts[dead], idle[dead] = batch[worst], 1, 0
        yield centroids
