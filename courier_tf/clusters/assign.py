"""Assigns codes to embeddings by a codebook [levels, clusters, D], on each level the nearest centroid.

The difference of an embedding and its centroid is what a level leaves over for the next one.
"""

import functools
from typing import Literal

import numpy as np

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.previous import stayed, where_coarser_stayed
from courier_tf.clusters.scann_nearest import FEWEST_CENTROIDS, ScannNearest
from courier_tf.clusters.seeding import ClusterError

Search = Literal["exact", "scann"]


class Assigner:
    """A function from embeddings to their codes.

    >>> assign = Assigner(np.float32([[[0, 0], [4, 0]], [[0, 1], [0, -1]]]))
    >>> codes, left_over = assign(np.float32([[4, 1], [0, -1]]))
    >>> codes.tolist(), left_over.tolist()
    ([[1, 0], [0, 1]], [0.0, 0.0])

    Args:
        codebook: [L, K, D] float32.
        search: "exact", or "scann" for many clusters.

    Raises:
        ClusterError: ScaNN is asked for, but there are too few clusters for it.
    """

    def __init__(self, codebook: np.ndarray, search: Search = "exact") -> None:
        clusters = codebook.shape[1]
        if search == "scann" and clusters < FEWEST_CENTROIDS:
            raise ClusterError(f"search=scann needs {FEWEST_CENTROIDS} clusters or more, but there are {clusters}")
        self.codebook = codebook
        self._searches = [
            ScannNearest(level) if search == "scann" else functools.partial(nearest, centroids=level)
            for level in codebook
        ]

    def __call__(
        self, embeddings: np.ndarray, previous: np.ndarray | None = None, stay: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Assigns the codes: the first two values of `with_nearest`."""
        return self.with_nearest(embeddings, previous, stay)[:2]

    def with_nearest(
        self, embeddings: np.ndarray, previous: np.ndarray | None = None, stay: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Assigns the codes, and gives those that the items would have without previous ones.

        Args:
            embeddings: [N, D] float32.
            previous: [N, L] int32 codes that the items had; NO_CLUSTER where they had none.
            stay: how much nearer another centroid must be for an item to leave its previous code, as in `stayed`.

        Returns:
            ([N, L] int32 codes, [N] float32 squared length of what the last level leaves over, [N, L] int32 codes
            of the nearest centroids).
        """
        codes, nearest_codes = (np.zeros([len(embeddings), len(self.codebook)], np.int32) for _ in range(2))
        distance = np.zeros(len(embeddings), np.float32)
        left, apart = embeddings, np.zeros(len(embeddings), bool)  # `apart`: both codes of a level before differ.
        if len(embeddings):
            for level, search in enumerate(self._searches):
                assignment, distance = search(embeddings)
                nearest_codes[:, level] = assignment
                if apart.any():
                    nearest_codes[apart, level] = search(left[apart])[0]
                if previous is not None:
                    assignment, distance = stayed(
                        embeddings, self.codebook[level], assignment, previous[:, level], stay
                    )
                    previous = where_coarser_stayed(previous, assignment, level)
                codes[:, level] = assignment
                embeddings = embeddings - self.codebook[level, assignment]
                left = left - self.codebook[level, nearest_codes[:, level]]
                apart |= codes[:, level] != nearest_codes[:, level]
        return codes, distance, nearest_codes
