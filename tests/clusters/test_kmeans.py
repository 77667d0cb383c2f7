"""k-means against loops, scikit-learn and planted clusters."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from courier_tf.clusters import kmeans as module
from courier_tf.clusters.kmeans import begin, lloyd
from courier_tf.clusters.nearest import nearest

from .planted import planted


def run(points, clusters, steps=25, seed=0, start=None):
    state = begin(points, clusters, np.random.default_rng(seed), start)
    return [state, *lloyd(points, state, steps)]


@pytest.mark.parametrize("number", [50, 3000])
def test_nearest_equals_brute_force(number):
    """More rows and centroids than a block holds, and fewer."""
    rng = np.random.default_rng(0)
    points, centroids = (rng.normal(size=[n, 4]).astype(np.float32) for n in (number, 2 * number))
    assignment, distance = nearest(points, centroids)
    for row in range(0, number, 7):
        table = ((points[row].astype(float) - centroids) ** 2).sum(axis=1)
        assert table[assignment[row]] == pytest.approx(table.min(), abs=1e-5)
        assert distance[row] == pytest.approx(table.min(), rel=1e-3, abs=1e-6)


def test_ties_go_to_the_first_centroid():
    centroids = np.tile(np.array([[1, 0], [0, 1], [1, 0]], np.float32), [3000, 1])
    np.testing.assert_array_equal(nearest(np.zeros([3, 2], np.float32), centroids)[0], [0, 0, 0])


def test_steps_are_those_of_lloyd():
    points, _ = planted()
    states = run(points, 20, steps=4)
    for before, after in zip(states[:-1], states[1:], strict=True):
        means = [points[before.nearest == cluster].mean(axis=0) for cluster in range(20)]
        np.testing.assert_allclose(after.centroids, means, atol=1e-5)
        table = ((points[:, None] - after.centroids) ** 2).sum(axis=2)
        np.testing.assert_array_equal(after.nearest, table.argmin(axis=1))
        np.testing.assert_allclose(after.distance, table.min(axis=1), atol=1e-5)


def test_near_centroids_alone_do_as_well_as_all(monkeypatch):
    """As well as scikit-learn's exact k-means from the same start."""
    points, _ = planted(clusters=60, each=40, seed=3)
    start, *_, last = run(points, 200)
    exact = KMeans(200, init=start.centroids, n_init=1, max_iter=25).fit(points).inertia_ / len(points)
    assert last.distance.mean() < 1.01 * exact < start.distance.mean()
    monkeypatch.setattr(module, "CANDIDATES", 4)
    start, *_, last = run(points, 200)
    assert last.distance.mean() < 0.9 * start.distance.mean()


@pytest.mark.parametrize("clusters", [12, 100])
def test_going_on_from_a_state_changes_nothing(clusters):
    """Every array of the state is needed: with many clusters the lists of near ones, too."""
    points, _ = planted()
    states = run(points, clusters)
    for state in states[1:-1:3]:
        *_, last = lloyd(points, state, 25)
        for resumed, wanted in zip(last, states[-1], strict=True):
            np.testing.assert_array_equal(resumed, wanted)


def test_a_given_start_is_kept_to():
    """From the planted centres nothing has to move; one that no embedding is near to is put where it is of use."""
    points, label = planted()
    centres = np.stack([points[label == cluster].mean(axis=0) for cluster in range(12)])
    last = run(points, 12, start=centres)[-1]
    np.testing.assert_allclose(last.centroids, centres, atol=1e-4)
    np.testing.assert_array_equal(last.nearest, label)
    assert len(np.unique(run(points, 13, start=np.concatenate([centres, 9 + centres[:1]]))[-1].nearest)) == 13


def test_what_settles_otherwise_counts_from_the_start():
    """Each step's centroids are the means of the clusters as they were settled, not of what was nearest."""
    points, label = planted()
    settled = np.roll(label, 1).astype(np.int32)

    def settle(centroids, assignment):
        return settled, ((points - centroids[settled]) ** 2).sum(axis=1)

    start = np.stack([points[label == cluster].mean(axis=0) for cluster in range(12)])
    state = begin(points, 12, np.random.default_rng(0), start, settle)
    (last,) = lloyd(points, state, 25, settle)
    means = [points[settled == cluster].mean(axis=0) for cluster in range(12)]
    np.testing.assert_allclose(last.centroids, means, atol=1e-5)
    np.testing.assert_array_equal(last.nearest, settled)


def test_planted_clusters_are_found():
    points, label = planted()
    assert adjusted_rand_score(label, run(points, 12)[-1].nearest) > 0.95


@pytest.mark.parametrize("clusters", [30, 100])
def test_every_centroid_is_used(clusters):
    points, _ = planted()
    assert len(np.unique(run(points, clusters)[-1].nearest)) == clusters


def test_an_empty_cluster_takes_the_worst_served():
    points = np.array([[0, 1], [0, 1.1], [5, 5], [0, 0.9]], np.float32)
    assignment = np.zeros(4, np.int32)
    distance = ((points - points[0]) ** 2).sum(axis=1)
    state = module.KMeans(points[:2].copy(), assignment, distance, np.empty([2, 0], np.int32), 0, False)
    given = module._without_empty(state)
    np.testing.assert_array_equal(given, [0, 0, 1, 0])
    means = module._means(points, given, points[:2])
    np.testing.assert_allclose(means, [[0, 1], [5, 5]], atol=1e-6)


def test_same_seed_same_centroids():
    points, _ = planted()
    first, again, other = (run(points, 12, steps=5, seed=seed)[-1].centroids for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
