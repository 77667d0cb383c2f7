"""Cluster IDs that survive a retrain: a new centroid takes the ID of the old one that holds the same items."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

NEAR = 64  # Number of nearest old centroids whose ID a new centroid may take without sharing an item.
ROWS = 1024  # New centroids whose distances are computed together, which bounds the memory.


def kept_ids(
    old_cluster: np.ndarray, new_cluster: np.ndarray, old_centroids: np.ndarray, new_centroids: np.ndarray
) -> np.ndarray:
    """Gives each new centroid an ID, so that as many items as possible keep theirs.

    This solves an assignment problem on the number of items that an old and a new cluster share. Where no items decide,
    near centroids go together; all distances together weigh less than one item. Only pairs that share an item or are
    near are considered, so that tens of thousands of clusters are feasible. An ID that no near centroid takes goes to
    one that is left over.

    >>> old_centroids, new_centroids = np.float32([[0], [1]]), np.float32([[1], [0]])
    >>> kept_ids(np.array([0, 0, 1]), np.array([1, 1, 0]), old_centroids, new_centroids).tolist()
    [1, 0]

    Args:
        old_cluster, new_cluster: [M] int, rows of the centroids, for the items that have both.
        old_centroids: [K, D]; the row is the ID. Distances mean something only if the new encoder started from the old
            one; the items decide in any case.
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
    # Each new centroid has a column of its own for staying without an old one. It is worth less than any pair.
    numbers = np.arange(number)
    rows, columns = np.concatenate([new, numbers]), np.concatenate([old, number + numbers])
    # Costs are above zero, because zeros in a sparse matrix are absent pairs.
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
