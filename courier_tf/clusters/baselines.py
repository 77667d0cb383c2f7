"""Clusterings to compare with, by scikit-learn: both look at all pairs of a sample, so they stay small."""

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering

from courier_tf.clusters.seeding import ClusterError

LARGEST_SAMPLE = 20_000  # Embeddings: Ward's tree of all pairs takes 1.6 GB.
FEWEST_MEMBERS = 5  # Of a cluster of HDBSCAN.


def agglomerative(sample: np.ndarray, clusters: int) -> np.ndarray:
    """Ward's tree, cut at a number of clusters: [N, D] to the means [clusters, D] float32.

    Raises:
        ClusterError: fewer embeddings than clusters, or than two.
    """
    if len(sample) < max(clusters, 2):
        raise ClusterError(f"clusters={clusters}, but there are only {len(sample)} embeddings; agglomerative needs two")
    return _means(sample, AgglomerativeClustering(clusters).fit_predict(sample))


def hdbscan(sample: np.ndarray) -> np.ndarray:
    """Dense regions, however many there are: [N, D] to the means [K, D] float32. Embeddings in none have no say.

    Raises:
        ClusterError: there is no dense region.
    """
    if len(sample) < FEWEST_MEMBERS:
        raise ClusterError(f"hdbscan needs {FEWEST_MEMBERS} embeddings, but there are only {len(sample)}")
    cluster = HDBSCAN(min_cluster_size=FEWEST_MEMBERS, copy=True).fit_predict(sample)
    if cluster.max() < 0:
        raise ClusterError(f"hdbscan finds no {FEWEST_MEMBERS} embeddings that lie close together: try kmeans")
    return _means(sample, cluster)


def _means(sample: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    return np.stack([sample[cluster == number].mean(axis=0) for number in range(cluster.max() + 1)])
