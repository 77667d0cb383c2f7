"""Search for the items whose embeddings are most similar to a query."""

from typing import Literal

import numpy as np

from courier_tf.clusters.scann_index import ScannIndex
from courier_tf.clusters.seeding import ClusterError

FEWEST_ITEMS = 10_000  # With fewer, exact search answers at once, and ScaNN's tree would have too few leaves.
TUNED_FOR, RECALL = 10, 0.97  # Number of nearest items, and the share of them that ScaNN must find.
TUNED_ON = 512  # Items that serve as queries for the tuning.
CANDIDATES = 200  # Items whose cosines are computed exactly, after the quantised search.
QUERIES, COLUMNS = 256, 65_536  # A block of cosines has 64 MB, which bounds the memory of exact search.


class ItemSearch:
    """An index over items, which are numbered in the order of their embeddings.

    >>> search = ItemSearch(np.float32([[1, 0], [0.6, 0.8], [0, 1]]))
    >>> items, cosines = search(np.float32([[1, 0]]), 2)
    >>> items.tolist()
    [[0, 1]]

    Args:
        embeddings: [N, D] float32 of length 1.
        search: "exact" (a matrix product with all items), or "scann" (arXiv 1908.10396), which is faster and finds
            nearly all of the nearest.

    Raises:
        ClusterError: ScaNN is asked for, but there are too few items for it.
    """

    def __init__(self, embeddings: np.ndarray, search: Literal["exact", "scann"] = "exact") -> None:
        self.embeddings, self._search = embeddings, search
        if search == "scann":
            if len(embeddings) < FEWEST_ITEMS:
                raise ClusterError(f"search=scann needs {FEWEST_ITEMS} items or more, but there are {len(embeddings)}")
            self._index = ScannIndex(embeddings, "dot_product", TUNED_FOR, CANDIDATES)
            queries = embeddings[:: max(1, len(embeddings) // TUNED_ON)]
            self._index.tune(queries, self._blocks(queries, TUNED_FOR)[0], RECALL)

    def __call__(self, queries: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest items of each query.

        Args:
            queries: [Q, D] float32 of length 1.
            number: number of items wanted, no more than there are.

        Returns:
            ([Q, number] int items, nearest first, [Q, number] float32 cosines).
        """
        if self._search == "scann":
            return self._index(queries, number)
        return self._blocks(queries, number)

    def _blocks(self, queries: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        parts = [self._exact(queries[start : start + QUERIES], number) for start in range(0, len(queries), QUERIES)]
        items, cosines = zip(*parts, strict=True)
        return np.concatenate(items), np.concatenate(cosines)

    def _exact(self, queries: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The best items of the first block, replaced by better ones of the other blocks."""
        cosine = queries @ self.embeddings[:COLUMNS].T
        items = np.argpartition(-cosine, min(number, cosine.shape[1]) - 1, axis=1)[:, :number]
        cosine = np.take_along_axis(cosine, items, axis=1)
        for start in range(COLUMNS, len(self.embeddings), COLUMNS):
            more = queries @ self.embeddings[start : start + COLUMNS].T
            # A comparison is much faster than a partition, and few items pass it.
            limit = cosine.min(axis=1, keepdims=True) if cosine.shape[1] == number else -np.inf
            row, column = np.nonzero(more > limit)
            size = np.bincount(row, minlength=len(queries))
            place = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
            better = np.full([len(queries), size.max()], -np.inf, np.float32)
            number_of = np.zeros(better.shape, np.int64)
            better[row, place], number_of[row, place] = more[row, column], column + start
            cosine, items = np.concatenate([cosine, better], axis=1), np.concatenate([items, number_of], axis=1)
            best = np.argsort(-cosine, axis=1, kind="stable")[:, :number]
            cosine, items = np.take_along_axis(cosine, best, axis=1), np.take_along_axis(items, best, axis=1)
        order = np.argsort(-cosine, axis=1, kind="stable")
        return np.take_along_axis(items, order, axis=1), np.take_along_axis(cosine, order, axis=1)
