"""Clusterings to compare with, by scikit-learn. Both look at all pairs of embeddings, so their samples are small."""

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering

from courier_tf.clusters.seeding import ClusterError

LARGEST_SAMPLE = 20_000  # Embeddings. Ward's tree of all their pairs takes 1.6 GB.
FEWEST_MEMBERS = 5  # Fewest embeddings of a cluster of HDBSCAN.


def agglomerative(sample: np.ndarray, clusters: int) -> np.ndarray:
    """The cluster means [clusters, D] float32 of Ward's tree over a sample [N, D], cut at a number of clusters.

    >>> agglomerative(np.array([[0.0], [1.0], [10.0], [11.0]]), clusters=2).ravel().tolist()
    [10.5, 0.5]

    Raises:
        ClusterError: fewer embeddings than clusters, or than two.
    """
    if len(sample) < max(clusters, 2):
        raise ClusterError(f"clusters={clusters}, but there are only {len(sample)} embeddings; agglomerative needs two")
    return _means(sample, AgglomerativeClustering(clusters).fit_predict(sample))


def hdbscan(sample: np.ndarray) -> np.ndarray:
    """The means [K, D] float32 of the dense regions of a sample [N, D]. Embeddings outside are ignored.

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
