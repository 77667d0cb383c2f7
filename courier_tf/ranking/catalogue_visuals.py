"""Visuals: what the embed and the cluster stage computed from the photos of all items, cluster codes and embeddings."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE, TABLE_FILE
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import CLUSTER

SAMPLE = 20_000  # Items, and pairs of them, on which the usual embedding and the usual cosine are measured.
TIERS = 10  # Borders between tiers of cosines: 20 of the sampled pairs reach the last one.
ROUNDING = 1e-5  # What two ways to compute a cosine may differ by.
TINY = 1e-6  # A length or deviation below this is rounding.


class VisualOrigin(NamedTuple):
    """Which encoder and which cluster stage visuals come from; two of them tell whether they can be compared.

    >>> VisualOrigin("encoder", "monday").keeps_clusters_of(VisualOrigin("encoder", "sunday"))
    False
    >>> VisualOrigin("encoder", "monday", kept="sunday").keeps_clusters_of(VisualOrigin("encoder", "sunday"))
    True
    """

    encoder: str
    """Fingerprint of the encoder behind the embeddings and the clusters."""
    clusters: str
    """Fingerprint of the cluster stage."""
    kept: str | None = None
    """Fingerprint of the previous cluster stage whose IDs this one keeps, if any."""

    def keeps_clusters_of(self, previous: "VisualOrigin") -> bool:
        """Whether a cluster ID means the same here as it did there."""
        return previous.clusters in (self.clusters, self.kept)


@dataclasses.dataclass(frozen=True)
class CatalogueVisuals:
    """Cluster codes and embeddings of N items; the last row stands for the unknown item and for padding.

    Attributes:
        codes: [N + 1, levels] int32, coarse to fine: the code plus 1; 0 for an item without a photo.
        centroids: [levels, clusters, D] float32, the codebook; `clusters` and D are 0 where no feature reads codes.
        embeddings: [N + 1, D] float32 of length 1, or 0 for an item without a photo; D is 0 where no feature reads
            embeddings.
        in_train_span: [N + 1] bool: items on which constants may be measured.
    """

    codes: np.ndarray
    centroids: np.ndarray
    embeddings: np.ndarray
    in_train_span: np.ndarray

    @classmethod
    def read(cls, cluster: Path, embed: Path | None, ids: np.ndarray, in_train_span: np.ndarray) -> "CatalogueVisuals":
        """Reads the results of the cluster stage and, where `embed` is given, of the embed stage.

        Args:
            cluster, embed: directories of those stages.
            ids: [N] bytes, the items. Other items of the stages are left out. An item that the stages do not know
                counts as one without a photo.
            in_train_span: [N] bool.
        """
        rows = {item.decode(): row for row, item in enumerate(ids)}
        facts = artefacts.read(cluster, CLUSTER).facts
        table = pq.read_table(cluster / TABLE_FILE, columns=["item_id", "codes"])
        row = np.array([rows.get(item, -1) for item in table["item_id"].to_pylist()], int)
        codes_of_row = table["codes"].combine_chunks().flatten().to_numpy().reshape(len(row), -1)
        codes = np.zeros([len(ids) + 1, facts.levels], np.int32)
        codes[row[row >= 0]] = codes_of_row[row >= 0] + 1
        embeddings = np.zeros([len(ids) + 1, 0], np.float32)
        if embed is not None:
            embeddings = np.zeros([len(ids) + 1, facts.embedding_dim], np.float32)
            for block in EmbeddingFiles(embed).blocks():
                row = np.array([rows.get(item, -1) for item in block.items[block.has_photo]], int)
                embeddings[row[row >= 0]] = block.embeddings[row >= 0]
        return cls(codes, np.load(cluster / CODEBOOK_FILE), embeddings, np.append(in_train_span, False))

    def permuted(self, seed: int) -> "CatalogueVisuals":
        """The visuals shuffled over the items that have a photo: a control, which must not gain anything."""
        has_photo, order = np.flatnonzero(self.codes[:, 0]), np.arange(len(self.codes))
        order[has_photo] = np.random.default_rng(seed).permutation(has_photo)
        return dataclasses.replace(self, codes=self.codes[order], embeddings=self.embeddings[order])

    def without_embeddings(self) -> "CatalogueVisuals":
        """The same without embeddings, for rankers that do not read them."""
        return dataclasses.replace(self, embeddings=self.embeddings[:, :0])

    def without_codes(self) -> "CatalogueVisuals":
        """The same without cluster codes, for rankers that do not read them."""
        return dataclasses.replace(self, codes=np.zeros_like(self.codes[:, :1]), centroids=self.centroids[:1, :0, :0])

    @property
    def clusters(self) -> int:
        """Codes of a level, whether or not an item has them."""
        return self.centroids.shape[1]

    def centroids_in(self, width: int) -> np.ndarray:
        """The centroids of each level, centred, in the coordinates of their principal directions.

        Each centroid counts as often as the train span has items with its code.

        Args:
            width: number of principal directions.

        Returns:
            [levels, clusters, width] float32. The numbers of a level have a root mean square of 1. Directions that a
            level does not have are 0.
        """
        projected = np.zeros([*self.centroids.shape[:2], width], np.float32)
        for level, centroids in enumerate(self.centroids.astype(float)):
            codes = self.codes[self.in_train_span, level]
            weight = np.bincount(codes, minlength=self.clusters + 1)[1:, None].astype(float)  # Code 0: no photo.
            weight /= weight.sum() or 1.0
            centred = centroids - (weight * centroids).sum(axis=0)
            directions = np.linalg.svd(np.sqrt(weight) * centred, full_matrices=False)[2][:width]
            coordinates = centred @ directions.T
            size = np.linalg.norm(coordinates) / np.sqrt(projected[level].size)
            projected[level, :, : coordinates.shape[1]] = coordinates / (size or 1.0)
        return projected

    def coded(self, rows: np.ndarray) -> np.ndarray:
        """What the codes say about the embeddings of some items: the sums of their centroids, scaled to length 1.

        Args:
            rows: [n] int.

        Returns:
            [n, D] float32; 0 for an item without a photo.
        """
        centroids = np.pad(self.centroids, [(0, 0), (1, 0), (0, 0)])  # Code 0: no photo.
        total = sum(level_centroids[self.codes[rows, level]] for level, level_centroids in enumerate(centroids))
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), TINY)

    def _sample(self, known: np.ndarray) -> np.ndarray:
        """At most `SAMPLE` rows of the train span, drawn at random from those that are `known` ([N + 1] bool)."""
        return np.random.default_rng(0).permutation(np.flatnonzero(self.in_train_span & known))[:SAMPLE]

    def coded_sample(self) -> np.ndarray:
        """[n, D] float32: `coded` of random items of the train span."""
        return self.coded(self._sample(self.codes[:, 0] > 0))

    def embedding_sample(self) -> np.ndarray:
        """[n, D] float32: embeddings of random items of the train span."""
        return self.embeddings[self._sample(self.embeddings.any(axis=1))]


def usual_embedding(sample: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of a sample of embeddings, and their deviation, so that a model can centre and scale embeddings.

    >>> usual_embedding(np.array([[1.0, 0.0], [0.0, 1.0]]))
    (array([0.5, 0.5]), 0.5)

    Args:
        sample: [n, D].

    Returns:
        ([D] mean, deviation over all numbers; 1 where there is none).
    """
    if not len(sample):
        return np.zeros(sample.shape[1], np.float32), 1.0
    mean = sample.mean(axis=0)
    deviation = float(np.sqrt(np.square(sample - mean).mean()))
    return mean, deviation if deviation > TINY else 1.0


def usual_cosine(sample: np.ndarray) -> tuple[float, float]:
    """The mean and the deviation of the cosine of two random embeddings of a sample.

    Args:
        sample: [n, D] of length 1.

    Returns:
        (mean, deviation); (0, 1) for an empty sample.
    """
    cosine = _cosines_of_pairs(sample)
    if not len(cosine):
        return 0.0, 1.0
    deviation = float(cosine.std())
    return float(cosine.mean()), deviation if deviation > TINY else 1.0


def cosine_tiers(sample: np.ndarray) -> np.ndarray:
    """The borders of tiers of cosines: each is reached by half as many pairs of random items as the one before.

    So the tiers are fine where cosines are high, and mean the same for every encoder. The borders are lowered by
    `ROUNDING`: many pairs can have the cosine of a border, as equal photos do, and rounding must not part them.

    Args:
        sample: [n, D] of length 1.

    Returns:
        [TIERS] float32, ascending; the first is the median. Evenly from 0 to 1 for a sample without pairs.
    """
    cosine = _cosines_of_pairs(sample)
    if not len(cosine):
        return np.linspace(0.0, 1.0, TIERS, dtype=np.float32)
    return (np.quantile(cosine, 1 - 0.5 ** np.arange(1, TIERS + 1)) - ROUNDING).astype(np.float32)


def _cosines_of_pairs(sample: np.ndarray) -> np.ndarray:
    """Cosines of random pairs of different rows of [n, D]: at most `SAMPLE` of them, none for an empty sample."""
    if not len(sample):
        return np.zeros(0)
    pairs = np.random.default_rng(1).integers(len(sample), size=[2, SAMPLE])
    return np.einsum("nd,nd->n", sample[pairs[0]], sample[pairs[1]])[pairs[0] != pairs[1]]
