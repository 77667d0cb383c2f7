"""ScaNN finds what exact search finds."""

import numpy as np

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.scann_nearest import ScannNearest

from .planted import planted


def test_nearly_always_the_exact_answer():
    """Against brute force, on embeddings whose clusters differ in size."""
    rng = np.random.default_rng(0)
    centroids, _ = planted(clusters=300, each=10, dim=64)
    share = 1 / np.arange(1, len(centroids) + 1)
    points = centroids[rng.choice(len(centroids), 5000, p=share / share.sum())]
    points = points + 0.05 * rng.normal(size=points.shape).astype(np.float32)
    found, distance = ScannNearest(centroids)(points)
    exact, _ = nearest(points, centroids)
    assert (found == exact).mean() > 0.99
    np.testing.assert_allclose(distance, ((points - centroids[found]) ** 2).sum(axis=1), rtol=1e-3, atol=1e-5)
