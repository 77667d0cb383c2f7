"""Cluster IDs that survive a retrain: new centroids take over the IDs of the old ones that hold the same items."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def kept_ids(
    old_cluster: np.ndarray, new_cluster: np.ndarray, old_centroids: np.ndarray, new_centroids: np.ndarray
) -> np.ndarray:
    """Which ID each new centroid gets, so that as many items as possible keep theirs.

    An assignment problem on the number of items that an old and a new cluster share. Where no items decide, near
    centroids go together; all distances together weigh less than one item.

    Args:
        old_cluster, new_cluster: [M] int, of the items that have both, as rows of the centroids.
        old_centroids: [K, D], whose row is the ID. The encoder of the new ones must have started from the old encoder,
            else distances mean nothing (the items still decide).
        new_centroids: [K, D].

    Returns:
        [K] int, a permutation: the ID of each new centroid.
    """
    number = len(old_centroids)
    shared = np.bincount(old_cluster * number + new_cluster, minlength=number**2).reshape(number, number)
    half_norms = [0.5 * np.einsum("kd,kd->k", centroids, centroids) for centroids in (old_centroids, new_centroids)]
    distance = half_norms[0][:, None] + half_norms[1][None] - old_centroids @ new_centroids.T
    distance = np.maximum(distance, 0)
    worth = shared - distance / (number * max(distance.max(), 1e-12) * 2)
    old, new = linear_sum_assignment(worth, maximize=True)
    ids = np.empty(number, np.int32)
    ids[new] = old
    return ids
