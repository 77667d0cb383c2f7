"""A ScaNN index (arXiv 1908.10396) that searches as few leaves as it needs for a wanted recall.

How many leaves that takes depends on the data: 3 % for clear clusters, half of them where points lie evenly. So the
index is tuned on queries whose exact answers are known.
"""

from typing import Literal

import numpy as np
import scann
import tensorflow as tf

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # Shares of the leaves, tried in this order.
TRAINED_ON = 250_000  # Most points from which the tree is learned.


class ScannIndex:
    """An index over points [N, D] float32.

    Args:
        points: the points to search.
        distance: "squared_l2", or "dot_product" (the larger, the nearer).
        number: number of nearest points that `tune` measures.
        reordered: number of candidates whose distances are computed exactly.
        for_graphs: use ScaNN's TensorFlow ops, so that a SavedModel can hold the index (`module`).
    """

    def __init__(
        self,
        points: np.ndarray,
        distance: Literal["squared_l2", "dot_product"],
        number: int,
        reordered: int,
        for_graphs: bool = False,
    ) -> None:
        self.leaves, self.number = round(len(points) ** 0.5), number
        self.searched = self.leaves
        self._index = (
            (scann.scann_ops if for_graphs else scann.scann_ops_pybind)
            .builder(points, number, distance)
            .tree(self.leaves, self.leaves, training_sample_size=min(len(points), TRAINED_ON))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(reordered)
            .build()
        )

    def tune(self, queries: np.ndarray, exact: np.ndarray, wanted: float) -> float:
        """Chooses the fewest leaves that find the share `wanted` of the exact nearest points, or all leaves.

        Args:
            queries: [Q, D] float32.
            exact: [Q, number] int, their nearest points.
            wanted: the share of them to find.

        Returns:
            The share that it finds.
        """
        for share in SHARES:
            self.searched = max(1, round(share * self.leaves))
            nearest, _ = self(queries)
            recall = float((nearest[:, :, None] == exact[:, None, :]).any(axis=1).mean())
            if recall >= wanted:
                break
        return recall

    def __call__(self, queries: np.ndarray, number: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """[Q, D] float32 to ([Q, number] int64 points, nearest first, [Q, number] float32 distances)."""
        nearest, distance = self._index.search_batched_parallel(queries, number, leaves_to_search=self.searched)
        return np.asarray(nearest).astype(np.int64), np.asarray(distance)

    def module(self) -> tf.Module:
        """The part that a SavedModel holds, for an index `for_graphs`. `scann_ops.searcher_from_module` searches it."""
        return self._index.serialize_to_module()
