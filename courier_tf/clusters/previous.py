"""The clusters of an earlier run, whose IDs are to be kept."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, TABLE_FILE
from courier_tf.clusters.seeding import ClusterError
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import CLUSTER


def stayed(
    embeddings: np.ndarray, centroids: np.ndarray, nearest: np.ndarray, previous: np.ndarray, stay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Items stay in their previous cluster, unless another centroid is nearer by a share of the squared distance.

    Args:
        embeddings: [N, D].
        centroids: [K, D].
        nearest: [N] int32, the nearest centroid of each item.
        previous: [N] int32, the cluster that each item had; NO_CLUSTER for a new item.
        stay: that share, 0 to 1. With 0 an item goes to whichever centroid is nearer.

    Returns:
        ([N] int32 centroid, [N] float32 squared distance to it).
    """
    known = previous != NO_CLUSTER
    old = np.where(known, previous, nearest)
    apart = [np.square(embeddings - centroids[which]).sum(axis=1) for which in (nearest, old)]
    keeps = known & (apart[0] >= (1 - stay) * apart[1])
    return np.where(keeps, old, nearest), np.where(keeps, apart[1], apart[0])


def where_coarser_stayed(previous: np.ndarray, codes: np.ndarray, level: int) -> np.ndarray:
    """The previous codes [N, L] that still count after `level`, on which items now have `codes` [N].

    An item that left its previous code on this level has no finer ones to keep.
    """
    left = previous[:, level] != codes
    finer = np.arange(previous.shape[1]) > level
    return np.where(left[:, None] & finer, NO_CLUSTER, previous).astype(np.int32)


class PreviousClusters:
    """The codebook and the table of a cluster stage. Both are held in memory.

    Args:
        directory: the stage's directory.

    Attributes:
        codebook: [L, K, D] float32.
        encoder: fingerprint of the encoder whose embeddings it was learned from.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.encoder = artefacts.read(directory, CLUSTER).facts.encoder
        self.codebook = np.load(directory / CODEBOOK_FILE)
        table = pq.read_table(directory / TABLE_FILE)
        width = len(self.codebook)
        # The last row stands for items that the table does not have.
        codes = table["codes"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        self._codes = np.concatenate([codes, np.full([1, width], NO_CLUSTER)]).astype(np.int32)
        self._row_of = {item: row for row, item in enumerate(table["item_id"].to_pylist())}

    def codes(self, items: Iterable[str]) -> np.ndarray:
        """The codes [N, L] int32 of N items; NO_CLUSTER where an item is new or had no photo."""
        return self._codes[[self._row_of.get(item, -1) for item in items]]

    def start(self, level: int, items: Iterable[str], embeddings: np.ndarray) -> np.ndarray:
        """Centroids to start from so that IDs stay: the mean embedding of each previous cluster's items.

        Args:
            level: a level of the codebook.
            items: [N].
            embeddings: [N, D] by the new encoder; on a further level what the levels before it left over.

        Returns:
            [K, D] float32. A cluster without an item keeps its previous centroid.
        """
        code = self.codes(items)[:, level]
        centroids, known = self.codebook[level], code != NO_CLUSTER
        sums, sizes = np.zeros_like(centroids), np.bincount(code[known], minlength=len(centroids))[:, None]
        np.add.at(sums, code[known], embeddings[known])
        return np.where(sizes > 0, sums / np.maximum(sizes, 1), centroids).astype(np.float32)

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuses to keep IDs in a codebook of another shape.

        Raises:
            ClusterError: [L, K, D] are not those of the previous codebook.
        """
        if self.codebook.shape != shape:
            previous, asked = (f"{k} clusters on {n} level(s), width {d}" for n, k, d in (self.codebook.shape, shape))
            raise ClusterError(f"{self.directory} has {previous}, but asked for are {asked}: its IDs cannot be kept")

    def require_encoder(self, encoder: str) -> None:
        """Refuses to assign the embeddings of another encoder.

        Raises:
            ClusterError: the codebook belongs to an encoder with another fingerprint.
        """
        if self.encoder != encoder:
            raise ClusterError(
                f"{self.directory} belongs to the encoder {self.encoder}, but these embeddings are of {encoder}: "
                "learn anew (any other algorithm), or embed with that encoder"
            )
