"""How far embeddings are spread, against known cases."""

import numpy as np
import pytest

from courier_tf.spread import effective_rank, uniformity


def test_uniformity_of_known_points():
    assert uniformity(np.tile([[0.6, 0.8]], [5, 1])) == pytest.approx(0, abs=1e-6)
    # Two opposite points: d^2 = 4; four corners: 2, 2 and 4 from each.
    assert uniformity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    corners = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert uniformity(corners) == pytest.approx(np.log((2 * np.exp(-4) + np.exp(-8)) / 3))


def test_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.tile([[0.6, 0.8]], [5, 1])) == pytest.approx(1, abs=1e-3)
    share = np.array([3, 1]) / 4
    assert effective_rank(np.diag([3.0, 1, 0])) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_dead_embeddings_are_the_same_embedding():
    """Zero vectors, whose cosine is 0 / 0: not points that are far apart."""
    assert uniformity(np.zeros([5, 3])) == 0
    assert effective_rank(np.zeros([5, 3])) == 0
    rng = np.random.default_rng(0)
    mixed = np.where(rng.random([20, 1]) < 0.5, 0, rng.normal(size=[20, 6]))
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    kernel = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(mixed) for j, b in enumerate(mixed) if i != j]
    assert uniformity(mixed) == pytest.approx(np.log(np.mean(kernel)))
