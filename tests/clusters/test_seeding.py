"""Seeding against scikit-learn, a slow greedy k-means++, planted clusters and what looks like embeddings."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from courier_tf.clusters import seeding
from courier_tf.clusters.kmeans import begin, lloyd
from courier_tf.clusters.seeding import ClusterError, greedy, over_sampled, plus_plus

from .planted import like_embeddings, planted

STEPS = 25


def distortion(points, clusters, seed):
    state = begin(points, clusters, np.random.default_rng(seed))
    for further in lloyd(points, state, STEPS):
        state = further
    return state.distance.mean(dtype=np.float64)


def inertia(points, clusters, seed):
    """Mean squared distance to the nearest centroid, by scikit-learn."""
    return KMeans(clusters, n_init=1, max_iter=STEPS, random_state=seed).fit(points).inertia_ / len(points)


@pytest.mark.parametrize(("kind", "clusters", "seeds"), [
    ("planted", 32, 4), ("planted", 33, 4), ("planted", 50, 4), ("planted", 200, 2),
    ("like embeddings", 32, 4), ("like embeddings", 33, 4), ("like embeddings", 50, 4), ("like embeddings", 200, 2),
])  # fmt: skip
def test_distortion_is_within_a_hundredth_of_that_of_scikit_learn(kind, clusters, seeds):
    """k-means with as many steps, the mean over seeds. A cluster that is not found costs a planted mixture much."""
    points = planted(clusters, 50, 32, seed=clusters)[0] if kind == "planted" else like_embeddings(1500, 32)
    with threadpool_limits(1):  # Threads of OpenMP wait for each other where the cores are busy.
        ours = [distortion(points, clusters, seed) for seed in range(seeds)]
        theirs = [inertia(points, clusters, seed) for seed in range(seeds)]
    assert np.mean(ours) < 1.01 * np.mean(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["planted", "like embeddings"])
def test_distortion_of_many_clusters_of_many_rows(kind):
    """A thousand clusters, of more rows than all candidates together."""
    points = planted(1000, 30, 32, seed=1)[0] if kind == "planted" else like_embeddings(30_000, 32)
    with threadpool_limits(1):
        assert distortion(points, 1000, 0) < 1.01 * inertia(points, 1000, 0)


def test_more_rows_than_are_looked_at(monkeypatch):
    """Each planted cluster still gets a centroid: what is not in the sample of rows counts as well."""
    monkeypatch.setattr(seeding, "FEWEST_ROWS", 2000)
    points, label = planted(60, 200, 32, seed=5)
    seeds = plus_plus(points, 60, np.random.default_rng(0))
    assert len({label[(points == seed).all(axis=1).argmax()] for seed in seeds.centroids}) >= 59
    table = ((points[:, None] - seeds.centroids) ** 2).sum(axis=2)
    np.testing.assert_allclose(seeds.distance, table.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(table[np.arange(len(points)), seeds.nearest], table.min(axis=1), atol=1e-5)


def test_candidates_are_far_apart_and_weigh_the_rows_they_are_nearest_to():
    points, label = planted(30, 100, 16, seed=2)
    rows = np.flatnonzero(np.arange(len(points)) % 3)
    candidates, weights = over_sampled(points, rows, 40, np.random.default_rng(1))
    assert set(candidates) <= set(rows) and len(set(candidates)) == len(candidates) and weights.sum() == len(rows)
    assert 0.5 * 40 * seeding.ROUNDS < len(candidates) < 1.5 * 40 * seeding.ROUNDS
    nearest = ((points[rows][:, None] - points[candidates]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(weights, np.bincount(nearest, minlength=len(candidates)))
    assert len(set(label[candidates])) == 30, "rows that are far from all candidates become candidates soon"


@pytest.mark.parametrize("clusters", [1, 7, 25])
def test_greedy_equals_a_slow_one(clusters):
    """In double precision, with the same draws: the row that leaves the smallest weighted sum of squared distances."""
    points, weights = planted(9, 20, 8, seed=3)[0], np.random.default_rng(4).integers(1, 9, 180)
    chosen = greedy(points, weights, clusters, np.random.default_rng(7))
    rng, exact = np.random.default_rng(7), points.astype(float)
    distance = np.full(len(points), np.inf)
    for place in range(clusters):
        share = weights * distance if place else weights.astype(float)
        draws = rng.random(seeding.TRIALS * (2 + int(np.log(clusters))) if place else 1)
        rows = {int(np.argmax(np.cumsum(share) / share.sum() > draw)) for draw in draws}
        after = {row: np.minimum(distance, ((exact - exact[row]) ** 2).sum(axis=1)) for row in rows}
        assert weights @ after[chosen[place]] == pytest.approx(min(weights @ left for left in after.values()), rel=1e-5)
        distance = after[chosen[place]]


@pytest.mark.parametrize("clusters", [5, 40])
def test_seeds_are_different_rows_and_assigned(clusters):
    points = np.repeat(planted(clusters=clusters, each=1)[0], 20, axis=0)
    seeds = plus_plus(points, clusters, np.random.default_rng(0))
    assert len(np.unique(seeds.centroids, axis=0)) == clusters
    np.testing.assert_array_equal(points, seeds.centroids[seeds.nearest])
    assert not seeds.distance.any()


@pytest.mark.parametrize("rows", [9000, 40_000])
def test_as_many_clusters_as_different_rows(rows):
    """Most rows are copies of a few, and the rare ones are seldom among the rows looked at."""
    rng = np.random.default_rng(rows)
    different = rng.normal(size=[300, 4]).astype(np.float32)
    points = different[rng.permutation(np.concatenate([np.arange(300), rng.integers(20, size=rows - 300)]))]
    seeds = plus_plus(points, 300, rng)
    np.testing.assert_array_equal(np.unique(seeds.centroids, axis=0), np.unique(different, axis=0))
    with pytest.raises(ClusterError, match="clusters=301, but there are only 300 different"):
        plus_plus(points, 301, rng)


def test_embeddings_that_hardly_differ():
    """All near one direction, as after a collapse: differences of a thousandth of the length still count."""
    points, label = planted(20, 30, 16, seed=6)
    seeds = plus_plus(np.float32([1, *[0] * 15]) + points / 1000, 20, np.random.default_rng(0))
    assert len({label[(seeds.nearest == cluster).argmax()] for cluster in range(20)}) >= 19


def test_too_few_different_embeddings_are_refused():
    with pytest.raises(ClusterError, match="clusters=3, but there are only 1 different"):
        plus_plus(np.ones([50, 2], np.float32), 3, np.random.default_rng(0))
