"""Single-pass clustering against running means, planted clusters and scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.online import SEEN_AT_START, Online, single_pass, start

from .planted import like_embeddings, planted


def run(points, clusters, block=128, seen=SEEN_AT_START, seed=0):
    first = clusters * seen
    state = start(points[:first], clusters, np.random.default_rng(seed))
    *_, last = single_pass(state, (points[b : b + block] for b in range(first, len(points), block)))
    return last


def test_centroids_are_running_means():
    rng = np.random.default_rng(0)
    old, counts = np.array([[1, 0], [0, 1]], np.float32), np.array([3.0, 7.0])
    blocks = [rng.normal(size=[9, 2]).astype(np.float32) for _ in range(3)]
    *_, last = single_pass(Online(old, counts, np.zeros(2, int), 0), blocks)
    seen = [[row] * int(number) for row, number in zip(old, counts, strict=True)]
    for block in blocks:
        means = np.array([np.mean(rows, axis=0) for rows in seen])
        for row in block:
            seen[((row - means) ** 2).sum(axis=1).argmin()].append(row)
    np.testing.assert_allclose(last.centroids, [np.mean(rows, axis=0) for rows in seen], atol=1e-5)
    np.testing.assert_array_equal(last.counts, [len(rows) for rows in seen])


def test_planted_clusters_are_found_in_one_pass():
    points, label = planted(each=300)
    assert len(points) > 3 * 12 * SEEN_AT_START
    assert adjusted_rand_score(label, nearest(points, run(points, 12).centroids)[0]) > 0.95


def test_a_dead_centroid_comes_back():
    points, _ = planted(clusters=3, each=200)
    far = Online(np.array([points[0], points[1], 9 + points[2]], np.float32), np.ones(3), np.zeros(3, int), 0)
    *_, last = single_pass(far, (points[b : b + 10] for b in range(0, len(points), 10)))
    assert len(np.unique(nearest(points, last.centroids)[0])) == 3


@pytest.mark.parametrize("seen", [SEEN_AT_START, 20])
@pytest.mark.parametrize("clusters", [33, 100])
@pytest.mark.parametrize("kind", ["planted", "like embeddings"])
def test_distortion_is_within_a_twentieth_of_that_of_scikit_learn(kind, clusters, seen):
    """One pass each, in blocks as large; the mean over seeds. The start may be shorter than it is."""
    points = planted(clusters, 200, 32, seed=clusters)[0] if kind == "planted" else like_embeddings(200 * clusters, 32)
    ours, theirs = [], []
    with threadpool_limits(1):
        for seed in range(2):
            ours.append(nearest(points, run(points, clusters, 1024, seen, seed).centroids)[1].mean())
            model = MiniBatchKMeans(clusters, batch_size=1024, max_iter=1, n_init=1, random_state=seed).fit(points)
            theirs.append(nearest(points, model.cluster_centers_)[1].mean())
    assert np.mean(ours) < 1.05 * np.mean(theirs)
