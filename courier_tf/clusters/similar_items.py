"""The items that look most like an item: search among the embeddings of all of them."""

from typing import Literal

import numpy as np
import scann

from courier_tf.clusters.seeding import ClusterError

FEWEST_ITEMS = 10_000  # Below, exact search answers at once, and ScaNN's tree would have next to no leaves.
LEAVES_SEARCHED = 0.1  # Share of ScaNN's tree: less is faster, and misses more.
REORDERED = 20  # Candidates whose cosines are computed exactly, for each item asked for.
TRAINED_ON = 250_000  # Items from which ScaNN learns its tree.
QUERIES, COLUMNS = 256, 65_536  # Of a block of cosines, 64 MB: bounds the memory of exact search.


class SimilarItems:
    """An index over items; their order is the order of their numbers.

    Args:
        embeddings: [N, D] float32 of length 1.
        search: "exact" (a matrix product with all of them), or "scann" (arXiv 1908.10396), which finds nearly all of
            the nearest, faster.

    Raises:
        ClusterError: ScaNN is asked for, but there are too few items for it.
    """

    def __init__(self, embeddings: np.ndarray, search: Literal["exact", "scann"] = "exact") -> None:
        self.embeddings, self._search = embeddings, search
        if search == "scann":
            if len(embeddings) < FEWEST_ITEMS:
                raise ClusterError(f"search=scann needs {FEWEST_ITEMS} items or more, but there are {len(embeddings)}")
            leaves = round(len(embeddings) ** 0.5)
            self._index = (
                scann.scann_ops_pybind.builder(embeddings, 10, "dot_product")
                .tree(leaves, max(1, round(LEAVES_SEARCHED * leaves)), training_sample_size=TRAINED_ON)
                .score_ah(2, anisotropic_quantization_threshold=0.2)
                .reorder(10 * REORDERED)
                .build()
            )

    def __call__(self, queries: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest items of each query.

        Args:
            queries: [Q, D] float32 of length 1.
            number: of items wanted, no more than there are.

        Returns:
            ([Q, number] int items, nearest first, [Q, number] float32 cosines).
        """
        if self._search == "scann":
            found, cosine = self._index.search_batched_parallel(queries, number, number * REORDERED)
            return found.astype(np.int64), cosine
        parts = [self._exact(queries[start : start + QUERIES], number) for start in range(0, len(queries), QUERIES)]
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    def _exact(self, queries: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The best of each block of columns, and of these the best."""
        items, cosines = [], []
        for start in range(0, len(self.embeddings), COLUMNS):
            cosine = queries @ self.embeddings[start : start + COLUMNS].T
            best = np.argpartition(-cosine, min(number, cosine.shape[1]) - 1, axis=1)[:, :number]
            items.append(best + start)
            cosines.append(np.take_along_axis(cosine, best, axis=1))
        items, cosine = np.concatenate(items, axis=1), np.concatenate(cosines, axis=1)
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :number]
        return np.take_along_axis(items, order, axis=1), np.take_along_axis(cosine, order, axis=1)
