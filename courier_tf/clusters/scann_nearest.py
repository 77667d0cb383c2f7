"""The nearest of very many centroids by ScaNN: nearly always the right one, and faster."""

import numpy as np

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.scann_index import ScannIndex

FEWEST_CENTROIDS = 1000  # Below, exact search is as fast, and ScaNN has nothing to build a tree of.
CANDIDATES = 200  # Centroids whose distances are computed exactly, of those that the quantised ones leave.
RECALL = 0.995  # Share of embeddings that must find the centroid that is nearest.
TUNED_ON = 2000  # Embeddings.


class ScannNearest:
    """An index over centroids [K, D] float32, at least `FEWEST_CENTROIDS`. The first embeddings it meets tune it."""

    def __init__(self, centroids: np.ndarray) -> None:
        self.centroids = centroids
        self._index = ScannIndex(centroids, "squared_l2", 1, CANDIDATES)
        self._tuned = False

    def __call__(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[N, D] float32 to ([N] int32 centroid, [N] float32 squared distance to it), as `nearest.nearest`."""
        if not self._tuned:
            sample = embeddings[:TUNED_ON]
            self._index.tune(sample, nearest(sample, self.centroids)[0][:, None], RECALL)
            self._tuned = True
        centroid, distance = self._index(embeddings)
        return centroid[:, 0].astype(np.int32), distance[:, 0]
