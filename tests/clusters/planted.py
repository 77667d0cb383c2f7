"""Embeddings whose clusters are known, and photos to go with them."""

import io

import numpy as np
from PIL import Image


def planted(clusters=12, each=60, dim=16, seed=0):
    """(unit vectors [N, dim] float32 in random order, [N] the cluster of each)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=[clusters, dim])
    label = np.repeat(np.arange(clusters), each)
    points = centres[label] + 0.15 * rng.normal(size=[len(label), dim])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(len(label))
    return points[order], label[order]


def photo_of(shade):
    """A PNG file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 255 - shade)).save(stream, "PNG")
    return stream.getvalue()
