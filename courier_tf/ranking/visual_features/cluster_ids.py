"""Visual features from the cluster IDs of items."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals, usual_cosine
from courier_tf.ranking.repeats import share_of_equals
from courier_tf.ranking.visual_features.similarity import largest_and_mean
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals, VisualFeature, VisualSignals

START_SIZE = 0.1  # Root mean square of the numbers that the embedding of a centroid starts with.


class PlainClusterId(VisualFeature):
    """The cluster ID as one more ID feature, as in the paper. Residual codes have one embedding table per level.

    Statistics: the share of the history in the candidate's cluster, and the square root of that share, as for any other
    column. With several levels there is a share for each level: of the items whose codes agree up to that level. A code
    of a finer level has a meaning only within the coarser ones.
    """

    needs_codes = True

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        self.clusters = visual.clusters
        self.tables = [
            keras.layers.Embedding(visual.clusters + 1, dim, initializer, name=f"level_{level}")
            for level, initializer in enumerate(self._initializers(visual, dim))
        ]

    def _initializers(self, visual: CatalogueVisuals, dim: int) -> list[Any]:
        """The initializer of the table of each level. Row 0 of a table belongs to items without a photo."""
        return ["uniform"] * len(visual.centroids)

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        share = share_of_equals(self._prefixes(candidate.codes), self._prefixes(history.codes), mask)
        statistics = tf.concat([share, tf.sqrt(share)], axis=2)
        return VisualSignals(self._embedded(candidate.codes), self._embedded(history.codes), statistics)

    def _prefixes(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] codes to int64 numbers of the codes up to each level; 0 for an item without a photo.

        They are unique up to 63 bits. An odd factor, so that further levels mix the coarser ones as a hash does.
        """
        factor = (self.clusters + 1) | 1
        prefixes = [tf.cast(codes[..., 0], tf.int64)]
        for level in range(1, codes.shape[-1]):
            prefixes.append(prefixes[-1] * factor + tf.cast(codes[..., level], tf.int64))
        return tf.stack(prefixes, axis=2)

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, levels * dim]."""
        return tf.concat([table(codes[..., level]) for level, table in enumerate(self.tables)], axis=-1)


class ClusterId(PlainClusterId):
    """The cluster ID, together with what its centroid says about it.

    The embedding of an ID starts from its centroid, projected to `dim`, and is trained like that of any other ID. So it
    need not learn from clicks which clusters look alike: 200 IDs make 20,000 pairs, and the log of a shop is too short
    for these (docs/log/bare-cluster-id.md).

    Further statistics: the largest and the mean cosine between what the codes of the candidate and of the history items
    say about their embeddings, as deviations from the usual cosine. These use the centroids in full width, which
    training does not move. Cosines of the trained embeddings are worth less (docs/log/bare-cluster-id.md).
    """

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        codebook = np.pad(visual.centroids, [(0, 0), (1, 0), (0, 0)])  # Row 0 of each level: without a photo.
        # One table for all levels: its rows are gathered without a copy of it.
        self.codebook = self.add_constant("codebook", np.concatenate(codebook))
        self.first_row = len(codebook[0]) * np.arange(len(codebook), dtype=np.int32)
        self.usual = self.add_constant("usual", usual_cosine(visual.coded_sample()))

    def _initializers(self, visual: CatalogueVisuals, dim: int) -> list[Any]:
        scaled = START_SIZE * visual.centroids_in(dim)
        # An item without a photo stands at the centre.
        return [keras.initializers.Constant(np.pad(level, [(1, 0), (0, 0)])) for level in scaled]

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        plain = super().call(candidate, history, mask)
        comparable = (mask & (history.codes[..., 0] > 0))[:, None, :] & (candidate.codes[..., :1] > 0)
        cosine = tf.einsum("bnd,bhd->bnh", self._coded(candidate.codes), self._coded(history.codes))
        alike = largest_and_mean((cosine - self.usual[0]) / self.usual[1], comparable)
        return plain._replace(statistics=tf.concat([plain.statistics, alike], axis=2))

    def _coded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, D] float32 of length 1, as `CatalogueVisuals.coded`; 0 without a photo."""
        rows = tf.unstack(codes + self.first_row, axis=2)
        total = tf.gather(self.codebook, rows[0])
        for finer in rows[1:]:  # One after the other: together they would take the memory of all levels.
            total += tf.gather(self.codebook, finer)
        return tf.math.l2_normalize(total, axis=-1)


class PrefixId(PlainClusterId):
    """Residual codes by their prefixes: a code of a finer level has a meaning only within the coarser ones.

    Each prefix that an item has, has an embedding, and those of an item's prefixes are added (arXiv 2504.02137, section
    4). The embedding of a prefix starts from the centroid of its last code, projected to `dim`, as in `cluster_id`.
    With one level this is `plain_cluster_id` with another start. The statistics are the same.
    """

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        VisualFeature.__init__(self, visual, dim, **kwargs)
        self.clusters, self.base = visual.clusters, visual.clusters + 1
        self.keys, self.tables = [], []
        parent = np.zeros(len(visual.codes), np.int64)
        for level, centroids in enumerate(START_SIZE * visual.centroids_in(dim)):
            key = parent * self.base + visual.codes[:, level]
            keys = np.unique(np.append(0, key))  # 0 stands for an item without a photo.
            start = np.pad(centroids, [(1, 0), (0, 0)])[keys % self.base]
            self.keys.append(self.add_keys(f"keys_{level}", keys))
            self.tables.append(
                keras.layers.Embedding(len(keys), dim, keras.initializers.Constant(start), name=f"level_{level}")
            )
            parent = np.searchsorted(keys, key)

    def add_keys(self, name: str, keys: np.ndarray) -> tf.Variable:
        """A saved variable: [P] int64, the keys of the prefixes of a level in ascending order.

        The key of a prefix is the row of the prefix without its last code, times `base`, plus that code.
        """
        return self.add_weight(name, keys.shape, "int64", keras.initializers.Constant(keys), trainable=False)

    def take_weights(self, previous: VisualFeature) -> None:
        """Takes the embeddings of the prefixes that both rankers have. New items can bring new prefixes."""
        assert isinstance(previous, PrefixId)
        pairs = zip(self.tables, previous.tables, self.prefixes(), previous.prefixes(), strict=True)
        for table, source, prefixes, known in pairs:
            place = {prefix: row for row, prefix in enumerate(known)}
            start, learned = table.embeddings.numpy(), source.embeddings.numpy()
            for row, prefix in enumerate(prefixes):
                if prefix in place:
                    start[row] = learned[place[prefix]]
            table.embeddings.assign(start)

    def prefixes(self) -> list[list[tuple[int, ...]]]:
        """The prefix of each row of each level's table, as a tuple of codes."""
        levels: list[list[tuple[int, ...]]] = []
        above: list[tuple[int, ...]] = [()]
        for keys in self.keys:
            above = [(*above[key // self.base], key % self.base) for key in keys.numpy().tolist()]
            levels.append(above)
        return levels

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, dim]."""
        flat = tf.cast(tf.reshape(codes, [-1, codes.shape[-1]]), tf.int64)
        row, parts = tf.zeros_like(flat[:, 0]), []
        for level, (keys, table) in enumerate(zip(self.keys, self.tables, strict=True)):
            # All items are known when the layer is made, so each prefix has a row.
            row = tf.searchsorted(keys, row * self.base + flat[:, level], out_type=tf.int64)
            parts.append(table(row))
        total = tf.add_n(parts)
        return tf.reshape(total, [*tf.unstack(tf.shape(codes)[:2]), total.shape[-1]])
