"""ScaNN finds what exact search finds."""

import numpy as np
import pytest

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.scann_index import ScannIndex
from courier_tf.clusters.scann_nearest import ScannNearest

from .planted import planted


def test_nearly_always_the_exact_answer():
    """Against brute force, on embeddings whose clusters differ in size."""
    rng = np.random.default_rng(0)
    centroids, _ = planted(clusters=300, each=10, dim=64)
    share = 1 / np.arange(1, len(centroids) + 1)
    points = centroids[rng.choice(len(centroids), 5000, p=share / share.sum())]
    points = points + 0.05 * rng.normal(size=points.shape).astype(np.float32)
    places, distance = ScannNearest(centroids)(points)
    exact, _ = nearest(points, centroids)
    assert (places == exact).mean() > 0.99
    np.testing.assert_allclose(distance, ((points - centroids[places]) ** 2).sum(axis=1), rtol=1e-3, atol=1e-5)


def test_as_few_leaves_as_find_what_is_wanted():
    """Random points need many leaves, clear clusters few; against brute force."""
    rng = np.random.default_rng(0)
    clear, _ = planted(clusters=300, each=20, dim=16)
    even = rng.normal(size=[6000, 16]).astype(np.float32)
    searched = []
    for points in (clear, even):
        queries = points[::20] + 0.01
        table = ((queries[:, None] - points) ** 2).sum(axis=2)
        exact = np.argsort(table, axis=1)[:, :5]
        index = ScannIndex(points, "squared_l2", 5, 200)
        recall = index.tune(queries, exact, 0.97)
        places, distance = index(queries)
        wanted = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(places, exact, strict=True)])
        assert recall == pytest.approx(wanted) and recall >= 0.97
        np.testing.assert_allclose(distance, np.take_along_axis(table, places, axis=1), rtol=1e-2, atol=1e-4)
        searched.append(index.searched)
    assert searched[0] < searched[1]
