"""The nearest centroid of each embedding, by exact matrix products in blocks that fit into a processor's cache.

For unit vectors the nearest by Euclidean distance is the nearest by cosine, which the contrastive loss arranges.
"""

import numpy as np

ROWS, COLUMNS = 1024, 4096  # A block of scores has 16 MB, whatever the number of centroids.


def nearest(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of each embedding; of equally near ones the first.

    >>> points, centroids = np.float32([[0, 0], [3, 0]]), np.float32([[1, 0], [3, 1]])
    >>> [part.tolist() for part in nearest(points, centroids)]
    [[0, 1], [1.0, 1.0]]

    Args:
        embeddings: [N, D] float32.
        centroids: [K, D] float32.

    Returns:
        ([N] int32 centroid, [N] float32 squared distance to it).
    """
    assignment = np.empty(len(embeddings), np.int32)
    distance = np.empty(len(embeddings), np.float32)
    wide = with_half_norms(centroids)
    for start in range(0, len(embeddings), ROWS):
        rows = slice(start, start + ROWS)
        assignment[rows] = _best(embeddings[rows], wide)
        difference = embeddings[rows] - centroids[assignment[rows]]
        distance[rows] = np.einsum("nd,nd->n", difference, difference)
    return assignment, distance


def with_half_norms(centroids: np.ndarray) -> np.ndarray:
    """[D + 1, K]: columns whose product with `(embedding, 1)` is the larger, the nearer the centroid is."""
    half_norms = 0.5 * np.einsum("kd,kd->k", centroids, centroids)
    return np.ascontiguousarray(np.concatenate([centroids, -half_norms[:, None]], axis=1).T)


def with_ones(embeddings: np.ndarray) -> np.ndarray:
    """[N, D + 1]: the left side of that product."""
    return np.concatenate([embeddings, np.ones([len(embeddings), 1], np.float32)], axis=1)


def _best(rows: np.ndarray, wide: np.ndarray) -> np.ndarray:
    left, every = with_ones(rows), np.arange(len(rows))
    best = np.zeros(len(rows), np.int32)
    score = np.full(len(rows), -np.inf, np.float32)
    for start in range(0, wide.shape[1], COLUMNS):
        scores = left @ wide[:, start : start + COLUMNS]
        place = scores.argmax(axis=1)
        highest = scores[every, place]
        better = highest > score
        best[better], score[better] = place[better] + start, highest[better]
    return best
