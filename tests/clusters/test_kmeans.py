"""k-means against brute force and planted clusters."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from courier_tf.clusters import kmeans


def planted(clusters=12, each=60, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=[clusters, dim])
    label = np.repeat(np.arange(clusters), each)
    points = centres[label] + 0.15 * rng.normal(size=[len(label), dim])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(len(label))
    return points[order], label[order]


def run(points, clusters, steps=60, seed=0):
    *_, centroids = kmeans.minibatch_kmeans(
        points, clusters, batch_size=128, steps=steps, rng=np.random.default_rng(seed)
    )
    return centroids


def test_assign_equals_brute_force():
    rng = np.random.default_rng(0)
    points, centroids = rng.normal(size=[50, 4]).astype(np.float32), rng.normal(size=[7, 4]).astype(np.float32)
    nearest, distance = kmeans.assign(points, centroids)
    table = ((points[:, None] - centroids[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest, table.argmin(axis=1))
    np.testing.assert_allclose(distance, table.min(axis=1), rtol=1e-4)


def test_ties_go_to_the_first_centroid():
    nearest, _ = kmeans.assign(np.zeros([3, 2], np.float32), np.array([[1, 0], [0, 1], [1, 0]], np.float32))
    np.testing.assert_array_equal(nearest, [0, 0, 0])


def test_planted_clusters_are_found():
    points, label = planted()
    found, _ = kmeans.assign(points, run(points, 12))
    assert adjusted_rand_score(label, found) > 0.95


def test_every_centroid_is_used():
    points, _ = planted()
    found, _ = kmeans.assign(points, run(points, 30))
    assert len(np.unique(found)) == 30


def test_same_seed_same_centroids():
    points, _ = planted()
    np.testing.assert_array_equal(run(points, 12, steps=5), run(points, 12, steps=5))
    assert (run(points, 12, steps=5) != run(points, 12, steps=5, seed=1)).any()


def test_seeding_takes_different_points():
    points = np.repeat(np.eye(5, dtype=np.float32), 20, axis=0)
    seeds = kmeans.plus_plus(points, 5, np.random.default_rng(0))
    assert len(np.unique(seeds, axis=0)) == 5


def test_bad_embeddings_are_refused():
    points, _ = planted()
    points[7, 3] = np.nan
    with pytest.raises(kmeans.ClusterError, match="embedding 7 holds values that are not finite"):
        kmeans.check(points, 3)
    with pytest.raises(kmeans.ClusterError, match="clusters=3, but there are only 1 different"):
        kmeans.check(np.ones([50, 2], np.float32), 3)
