"""A former cluster stage, whose IDs are to be kept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from courier_tf import artefacts
from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, TABLE_FILE
from courier_tf.clusters.seeding import ClusterError


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
