"""The nearest of very many centroids by ScaNN, which is faster and nearly always right."""

import numpy as np

from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.scann_index import ScannIndex

FEWEST_CENTROIDS = 1000  # With fewer, exact search is as fast, and ScaNN's tree would have too few leaves.
CANDIDATES = 200  # Centroids whose distances are computed exactly, after the quantised search.
RECALL = 0.995  # Share of the embeddings that must find their nearest centroid.
TUNED_ON = 2000  # Embeddings that tune the index.


class ScannNearest:
    """An index over centroids [K, D] float32, at least `FEWEST_CENTROIDS`. The first embeddings tune it."""

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
