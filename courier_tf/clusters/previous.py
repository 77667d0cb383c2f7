"""A former cluster stage, whose IDs are to be kept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, TABLE_FILE
from courier_tf.clusters.seeding import ClusterError
from courier_tf.workdir import artefacts


def stayed(
    embeddings: np.ndarray, centroids: np.ndarray, found: np.ndarray, former: np.ndarray, stay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Items stay in their former cluster, unless another centroid is nearer by a share of the squared distance.

    Args:
        embeddings: [N, D].
        centroids: [K, D].
        found: [N] int32, the nearest centroid of each.
        former: [N] int32; NO_CLUSTER for an item that has none.
        stay: that share, 0 to 1; 0 lets an item go to whatever is nearer.

    Returns:
        ([N] int32 centroid, [N] float32 squared distance to it).
    """
    known = former != NO_CLUSTER
    old = np.where(known, former, found)
    apart = [np.square(embeddings - centroids[which]).sum(axis=1) for which in (found, old)]
    keeps = known & (apart[0] >= (1 - stay) * apart[1])
    return np.where(keeps, old, found), np.where(keeps, apart[1], apart[0])


def where_coarser_stayed(former: np.ndarray, found: np.ndarray, level: int) -> np.ndarray:
    """Former codes [N, L] that still bind: no finer ones where an item now has another code of `level` [N]."""
    left = former[:, level] != found
    finer = np.arange(former.shape[1]) > level
    return np.where(left[:, None] & finer, NO_CLUSTER, former).astype(np.int32)


class Previous:
    """The codebook and the table of a cluster stage; both are held in memory.

    Args:
        directory: of the stage.

    Attributes:
        codebook: [L, K, D] float32.
        encoder: fingerprint of the encoder whose embeddings it was learned from.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.encoder = artefacts.read(directory, "cluster").facts["encoder"]
        self.codebook = np.load(directory / CODEBOOK_FILE)
        table = pq.read_table(directory / TABLE_FILE)
        width = len(self.codebook)
        # The last row stands for items that the table does not have.
        codes = table["codes"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        self._codes = np.concatenate([codes, np.full([1, width], NO_CLUSTER)]).astype(np.int32)
        self._row_of = {item: row for row, item in enumerate(table["item_id"].to_pylist())}

    def codes(self, items: Sequence[str]) -> np.ndarray:
        """[N] items to their codes [N, L] int32; NO_CLUSTER where an item is new or had no photo."""
        return self._codes[[self._row_of.get(item, -1) for item in items]]

    def start(self, level: int, items: Sequence[str], embeddings: np.ndarray) -> np.ndarray:
        """Where to start from so that IDs stay: the means of the former clusters' items under the new encoder.

        Args:
            level: of the codebook.
            items: [N].
            embeddings: [N, D], on a further level what those before it left over.

        Returns:
            [K, D] float32; of a cluster without an item the former centroid.
        """
        code = self.codes(items)[:, level]
        former, known = self.codebook[level], code != NO_CLUSTER
        sums, sizes = np.zeros_like(former), np.bincount(code[known], minlength=len(former))[:, None]
        np.add.at(sums, code[known], embeddings[known])
        return np.where(sizes > 0, sums / np.maximum(sizes, 1), former).astype(np.float32)

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuses to keep IDs in a codebook of another shape.

        Raises:
            ClusterError: [L, K, D] are not those of the former codebook.
        """
        if self.codebook.shape != shape:
            former, asked = (f"{k} clusters on {n} level(s), width {d}" for n, k, d in (self.codebook.shape, shape))
            raise ClusterError(f"{self.directory} has {former}, but asked for are {asked}: its IDs cannot be kept")

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
