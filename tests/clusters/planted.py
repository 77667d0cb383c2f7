"""Embeddings whose clusters are known."""

import numpy as np


def planted(clusters=12, each=60, dim=16, seed=0):
    """(unit vectors [N, dim] float32 in random order, [N] the cluster of each)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=[clusters, dim])
    label = np.repeat(np.arange(clusters), each)
    points = centres[label] + 0.15 * rng.normal(size=[len(label), dim])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(len(label))
    return points[order], label[order]
