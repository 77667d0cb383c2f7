"""What earlier stages found out about the looks of the items, row by row of the catalogue."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE, TABLE_FILE
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import CLUSTER

SAMPLE = 20_000  # Items, and pairs of them, that the usual embedding and the usual cosine are measured on.
TINY = 1e-6  # What is less is rounding: no length, no deviation.


@dataclasses.dataclass(frozen=True)
class Looks:
    """Cluster codes and embeddings of N items; the last row is that of the unknown item and of padding.

    Attributes:
        codes: [N + 1, levels] int32, coarse to fine: one more than the code; 0 for an item without a photo.
        centroids: [levels, clusters, D] float32, the codebook; none of them where nobody wants it.
        embeddings: [N + 1, D] float32 of length 1, or 0 for an item without a photo; D is 0 where nobody wants them.
        in_train_span: [N + 1] bool: items from which constants may be measured.
    """

    codes: np.ndarray
    centroids: np.ndarray
    embeddings: np.ndarray
    in_train_span: np.ndarray

    @classmethod
    def read(cls, cluster: Path, embed: Path | None, ids: np.ndarray, in_train_span: np.ndarray) -> "Looks":
        """Reads the results of the cluster stage and, where `embed` is given, of the embed stage.

        Args:
            cluster, embed: directories of those stages.
            ids: [N] bytes, the items; what the stages know of others is left out, and an item that they do not know
                counts as one without a photo.
            in_train_span: [N] bool.
        """
        rows = {item.decode(): row for row, item in enumerate(ids)}
        facts = artefacts.read(cluster, CLUSTER).facts
        table = pq.read_table(cluster / TABLE_FILE, columns=["item_id", "codes"])
        found = np.array([rows.get(item, -1) for item in table["item_id"].to_pylist()], int)
        listed = table["codes"].combine_chunks().flatten().to_numpy().reshape(len(found), -1)
        codes = np.zeros([len(ids) + 1, facts.levels], np.int32)
        codes[found[found >= 0]] = listed[found >= 0] + 1
        embeddings = np.zeros([len(ids) + 1, 0], np.float32)
        if embed is not None:
            embeddings = np.zeros([len(ids) + 1, facts.embedding_dim], np.float32)
            for block in EmbeddingFiles(embed).blocks():
                place = np.array([rows.get(item, -1) for item in block.items[block.has_photo]], int)
                embeddings[place[place >= 0]] = block.embeddings[place >= 0]
        return cls(codes, np.load(cluster / CODEBOOK_FILE), embeddings, np.append(in_train_span, False))

    def permuted(self, seed: int) -> "Looks":
        """The same looks dealt out anew over the items that have some: a control that must be worth nothing."""
        has, order = np.flatnonzero(self.codes[:, 0]), np.arange(len(self.codes))
        order[has] = np.random.default_rng(seed).permutation(has)
        return dataclasses.replace(self, codes=self.codes[order], embeddings=self.embeddings[order])

    @property
    def clusters(self) -> int:
        """Codes of a level, whether or not an item has them."""
        return self.centroids.shape[1]

    def centroids_in(self, width: int) -> np.ndarray:
        """[levels, clusters, width] float32: the centroids of each level, centred, along their principal directions.

        Centroids count as often as the train span has items of their code. A level's numbers have the size 1 on average
        (root of the mean square); what a level has no directions for is 0.
        """
        found = np.zeros([*self.centroids.shape[:2], width], np.float32)
        for level, centroids in enumerate(self.centroids.astype(float)):
            codes = self.codes[self.in_train_span, level]
            weight = np.bincount(codes, minlength=self.clusters + 1)[1:, None].astype(float)  # Code 0: no photo.
            weight /= weight.sum() or 1.0
            centred = centroids - (weight * centroids).sum(axis=0)
            directions = np.linalg.svd(np.sqrt(weight) * centred, full_matrices=False)[2][:width]
            own = centred @ directions.T
            size = np.linalg.norm(own) / np.sqrt(found[level].size)
            found[level, :, : own.shape[1]] = own / (size or 1.0)
        return found

    def coded(self, rows: np.ndarray) -> np.ndarray:
        """[n] rows -> [n, D] float32: what the codes say of each embedding, the sum of their centroids, of length 1.

        0 for an item without a photo.
        """
        centroids = np.pad(self.centroids, [(0, 0), (1, 0), (0, 0)])  # Code 0: no photo.
        found = sum(own[self.codes[rows, level]] for level, own in enumerate(centroids))
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), TINY)

    def _sample(self, known: np.ndarray) -> np.ndarray:
        """At most `SAMPLE` rows of the train span, drawn at random of those that are `known` ([N + 1] bool)."""
        return np.random.default_rng(0).permutation(np.flatnonzero(self.in_train_span & known))[:SAMPLE]

    def coded_sample(self) -> np.ndarray:
        """[n, D] of `coded`, for items drawn at random."""
        return self.coded(self._sample(self.codes[:, 0] > 0))

    def embedding_sample(self) -> np.ndarray:
        """[n, D] embeddings of items drawn at random."""
        return self.embeddings[self._sample(self.embeddings.any(axis=1))]


def usual_embedding(sample: np.ndarray) -> tuple[np.ndarray, float]:
    """[n, D] -> ([D] mean, deviation over all numbers), so that a model can centre embeddings."""
    if not len(sample):
        return np.zeros(sample.shape[1], np.float32), 1.0
    mean = sample.mean(axis=0)
    deviation = float(np.sqrt(np.square(sample - mean).mean()))
    return mean, deviation if deviation > TINY else 1.0


def usual_cosine(sample: np.ndarray) -> tuple[float, float]:
    """(Mean, deviation) of the cosine of two of [n, D], of length 1, drawn at random."""
    if not len(sample):
        return 0.0, 1.0
    pairs = np.random.default_rng(1).integers(len(sample), size=[2, SAMPLE])
    cosine = np.einsum("nd,nd->n", sample[pairs[0]], sample[pairs[1]])[pairs[0] != pairs[1]]
    if not len(cosine):
        return 0.0, 1.0
    deviation = float(cosine.std())
    return float(cosine.mean()), deviation if deviation > TINY else 1.0
