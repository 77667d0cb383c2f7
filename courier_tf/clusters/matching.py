"""Cluster IDs that survive a retrain: new centroids take over the IDs of the old ones that hold the same items."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

NEAR = 64  # Old centroids, near a new one, whose ID it may take over without sharing an item.
ROWS = 1024  # New centroids whose distances are looked at together: bounds the memory.


def kept_ids(
    old_cluster: np.ndarray, new_cluster: np.ndarray, old_centroids: np.ndarray, new_centroids: np.ndarray
) -> np.ndarray:
    """Which ID each new centroid gets, so that as many items as possible keep theirs.

    An assignment problem on the number of items that an old and a new cluster share. Where no items decide, near
    centroids go together; all distances together weigh less than one item. Only pairs that share an item or are near
    are looked at, so that tens of thousands of clusters are no matter; an ID that nobody near wants goes to whoever is
    left over.

    Args:
        old_cluster, new_cluster: [M] int, of the items that have both, as rows of the centroids.
        old_centroids: [K, D], whose row is the ID. The encoder of the new ones must have started from the old encoder,
            else distances mean nothing (the items still decide).
        new_centroids: [K, D].

    Returns:
        [K] int, a permutation: the ID of each new centroid.
    """
    number = len(old_centroids)
    near_new, near_old = _near(old_centroids, new_centroids)
    pairs = np.concatenate([new_cluster.astype(np.int64) * number + old_cluster, near_new * number + near_old])
    pairs, place = np.unique(pairs, return_inverse=True)
    shared = np.bincount(place[: len(old_cluster)], minlength=len(pairs))
    new, old = np.divmod(pairs, number)
    distance = ((new_centroids[new] - old_centroids[old]) ** 2).sum(axis=1, dtype=np.float64)
    worth = shared - distance / (number * max(distance.max(), 1e-12) * 2)
    # Each new centroid may also stay without an old one: a column of its own, which is worth less than any pair.
    numbers = np.arange(number)
    rows, columns = np.concatenate([new, numbers]), np.concatenate([old, number + numbers])
    # Costs are above zero, because a sparse matrix takes zeros for pairs that are not there.
    costs = np.concatenate([shared.max(initial=0) + 1 - worth, np.full(number, shared.max(initial=0) + 3.0)])
    table = sparse.csr_matrix((costs, (rows, columns)), shape=(number, 2 * number))
    rows, columns = min_weight_full_bipartite_matching(table)
    ids = np.full(number, -1, np.int32)
    taken = columns < number
    ids[rows[taken]] = columns[taken]
    ids[ids < 0] = np.setdiff1d(numbers, columns[taken])
    return ids


def _near(old_centroids: np.ndarray, new_centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (new, old), each [K * NEAR] int64: the old centroids nearest to each new one."""
    number, width = len(old_centroids), min(NEAR, len(old_centroids))
    half_norms = 0.5 * np.einsum("kd,kd->k", old_centroids, old_centroids)
    parts = []
    for start in range(0, number, ROWS):
        score = half_norms - new_centroids[start : start + ROWS] @ old_centroids.T
        parts.append(np.argpartition(score, width - 1, axis=1)[:, :width])
    old = np.concatenate(parts).astype(np.int64)
    return np.repeat(np.arange(number), width), old.ravel()
