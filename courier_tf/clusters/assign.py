"""Embeddings to codes by a codebook [levels, clusters, D]: on each level the nearest centroid of what is left over."""

import functools
from typing import Literal

import numpy as np

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.scann_nearest import FEWEST_CENTROIDS, ScannNearest
from courier_tf.clusters.seeding import ClusterError


class Assigner:
    """Embeddings to codes.

    Args:
        codebook: [L, K, D] float32.
        search: "exact", or "scann" for many clusters.

    Call: [N, D] to ([N, L] int32 codes, [N] float32 squared length of what they leave over).

    Raises:
        ClusterError: ScaNN is asked for, but there are too few clusters for it.
    """

    def __init__(self, codebook: np.ndarray, search: Literal["exact", "scann"] = "exact") -> None:
        clusters = codebook.shape[1]
        if search == "scann" and clusters < FEWEST_CENTROIDS:
            raise ClusterError(f"search=scann needs {FEWEST_CENTROIDS} clusters or more, but there are {clusters}")
        self.codebook = codebook
        self._searches = [
            ScannNearest(level) if search == "scann" else functools.partial(nearest, centroids=level)
            for level in codebook
        ]

    def __call__(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = np.zeros([len(embeddings), len(self.codebook)], np.int32)
        distance = np.zeros(len(embeddings), np.float32)
        if len(embeddings):
            for level, search in enumerate(self._searches):
                codes[:, level], distance = search(embeddings)
                embeddings = embeddings - self.codebook[level, codes[:, level]]
        return codes, distance

    def left_over(self, embeddings: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """[N] float32 squared length of what these codes [N, L] leave over of the embeddings [N, D]."""
        rest = embeddings - self.codebook[np.arange(len(self.codebook)), codes].sum(axis=1)
        return np.einsum("nd,nd->n", rest, rest)
