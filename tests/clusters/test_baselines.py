"""The clusterings to compare with, on planted clusters."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from courier_tf.clusters.baselines import agglomerative, hdbscan
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.seeding import ClusterError

from .planted import planted


@pytest.mark.parametrize("learn", [lambda points: agglomerative(points, 12), hdbscan])
def test_planted_clusters_are_found(learn):
    points, label = planted()
    centroids = learn(points)
    assignment, _ = nearest(points, centroids)
    assert len(centroids) == 12 and adjusted_rand_score(label, assignment) > 0.95
    means = [points[assignment == cluster].mean(axis=0) for cluster in range(12)]
    assert np.abs(centroids - means).max() < 0.05


def test_what_cannot_be_clustered_is_refused():
    with pytest.raises(ClusterError, match="clusters=9, but there are only 3"):
        agglomerative(np.eye(3, dtype=np.float32), 9)
    with pytest.raises(ClusterError, match="hdbscan finds no 5 embeddings"):
        hdbscan(np.eye(6, dtype=np.float32))
    with pytest.raises(ClusterError, match="hdbscan needs 5 embeddings, but there are only 4"):
        hdbscan(np.eye(4, dtype=np.float32))
    with pytest.raises(ClusterError, match="there are only 1 embeddings; agglomerative needs two"):
        agglomerative(np.eye(1, dtype=np.float32), 1)
