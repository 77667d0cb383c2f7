"""The quality figures against loops and known cases."""

from collections import Counter

import numpy as np
import pytest

from courier_tf.clusters import quality


def test_use_of_equal_and_of_one_cluster():
    even = quality.use(np.full(4, 5))
    assert even == pytest.approx(
        {"utilisation": 1, "entropy": np.log(4), "perplexity": 4, "gini": 0, "largest": 0.25}, abs=1e-12
    )
    single = quality.use(np.array([7, 0, 0, 0]))
    assert single == pytest.approx({"utilisation": 0.25, "entropy": 0, "perplexity": 1, "gini": 0.75, "largest": 1})


def test_gini_equals_the_mean_difference():
    sizes = np.array([1, 4, 2, 9, 0])
    gini = quality.use(sizes)["gini"]
    differences = [abs(a - b) for a in sizes for b in sizes]
    assert gini == pytest.approx(sum(differences) / (2 * len(sizes) ** 2 * sizes.mean()))


def test_purity_equals_a_loop():
    rng = np.random.default_rng(0)
    cluster, label = rng.integers(2, 9, 100), rng.choice([b"dress", b"shoe", b"hat"], 100)
    right = sum(Counter(label[cluster == c]).most_common(1)[0][1] for c in set(cluster))
    figures = quality.agreement(cluster, label)
    assert figures["purity"] == pytest.approx(right / 100) and 0 <= figures["nmi"] < 0.3
    assert quality.agreement(cluster, cluster) == pytest.approx({"purity": 1, "nmi": 1})


def test_neighbours_equal_a_loop():
    rng = np.random.default_rng(1)
    points, cluster = rng.normal(size=[60, 3]), rng.integers(3, size=60)
    shares, cosines = [], []
    for item in range(60):
        distance = ((points - points[item]) ** 2).sum(axis=1)
        nearest = [other for other in np.argsort(distance) if other != item][: quality.NEIGHBOURS]
        shares.append(np.mean(cluster[nearest] == cluster[item]))
        for other in nearest:
            lengths = np.linalg.norm(points[item]) * np.linalg.norm(points[other])
            cosines.append(points[item] @ points[other] / lengths)
    queries = rng.permutation(60)
    neighbours = quality.neighbours_of(points, queries)
    assert quality.neighbours_kept(cluster, queries, neighbours) == pytest.approx(np.mean(shares))
    assert quality.collapse(points, queries, neighbours)["neighbours_cosine"] == pytest.approx(np.mean(cosines))


def test_a_collapse_shows_in_the_figures():
    """Of embeddings all over the sphere, of near duplicates all over it, and of one embedding for all photos."""
    rng = np.random.default_rng(2)
    spread = rng.normal(size=[400, 8]).astype(np.float32) * rng.uniform(0.5, 2, [400, 1]).astype(np.float32)
    duplicates = np.repeat(spread[:20], 20, axis=0) + rng.normal(scale=1e-3, size=[400, 8]).astype(np.float32)
    collapsed = spread[:1] + rng.normal(scale=1e-3, size=[400, 8]).astype(np.float32)
    found = [quality.collapse(p, np.arange(50), quality.neighbours_of(p, np.arange(50))) for p in (spread, duplicates)]
    found.append(quality.collapse(collapsed, np.arange(50), quality.neighbours_of(collapsed, np.arange(50))))
    assert [f["effective_rank"] > 7 for f in found] == [True, True, False]
    assert [f["neighbours_cosine"] > 0.9999 for f in found] == [False, True, True]
    assert [f["pairs_cosine"] > 0.9999 for f in found] == [False, False, True]
    for figures, points in zip(found, (spread, duplicates, collapsed), strict=True):
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        cosines = (unit @ unit.T)[~np.eye(400, dtype=bool)]
        assert figures["pairs_cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
        values = np.linalg.svd(unit, compute_uv=False)
        share = values / values.sum()
        assert figures["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_searches_that_miss_are_counted():
    rng = np.random.default_rng(3)
    points, centroids = rng.normal(size=[50, 4]).astype(np.float32), rng.normal(size=[9, 4]).astype(np.float32)
    right = ((points[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert quality.search_missed(points, right, centroids) == 0
    assert quality.search_missed(points, np.where(np.arange(50) < 5, (right + 1) % 9, right), centroids) == 0.1


def test_collisions():
    codes = np.array([[1, 2], [1, 2], [1, 3], [2, 2], [1, 2]])
    assert quality.collisions(codes) == pytest.approx(3 / 5)
    assert quality.collisions(codes[2:4]) == 0
