"""The image features of the ranker: each is one layer, and a mode is one of them, several, or none.

A layer is given the looks of candidates [B, N] and histories [B, H], and gives `Seen`. A new feature is a new class
with a line in `IMAGE_FEATURES` (and its name in `rank_modes.ImageFeature`); the ranker itself knows none of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf.ranking.repeats import history_share, same_values
from courier_tf.ranking.visual_features import Looks, usual_cosine, usual_embedding

keras = tf.keras


class ItemLooks(NamedTuple):
    """The looks of some items, as they stand in `Looks`: zeros where there is no photo."""

    codes: tf.Tensor  # [..., levels] int32
    embeddings: tf.Tensor  # [..., D] float32


class Seen(NamedTuple):
    """What an image feature tells the ranker. Each part may have width 0."""

    candidate: tf.Tensor  # [B, N, W]: stands beside the ID embeddings of the candidates
    history: tf.Tensor  # [B, H, W]: and of each history item, so that the attention sees it
    numbers: tf.Tensor  # [B, N, M]: figures about a candidate and the whole history


class PlainClusterId(keras.layers.Layer):
    """The cluster ID as one more ID feature, as in the paper; of residual codes one embedding table per level.

    Numbers: the share of the history in the candidate's cluster, and its root, as of any column; with several levels
    that for codes that agree up to each level, since a code of a finer level means something within the coarser ones
    alone.
    """

    needs_codes, needs_embeddings = True, False

    def __init__(self, looks: Looks, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tables = [
            keras.layers.Embedding(looks.clusters + 1, dim, start, name=f"level_{level}")
            for level, start in enumerate(self._starts(looks, dim))
        ]

    def _starts(self, looks: Looks, dim: int) -> list[Any]:
        """The initializer of each level's table, whose row 0 is that of items without a photo."""
        return ["uniform"] * len(looks.centroids)

    def call(self, candidate: ItemLooks, history: ItemLooks, mask: tf.Tensor) -> Seen:
        agree = tf.math.cumprod(tf.cast(same_values(candidate.codes, history.codes), tf.int32), axis=3) > 0
        share = history_share(agree, mask)
        own, others = self._embedded(candidate.codes), self._embedded(history.codes)
        return Seen(own, others, tf.concat([share, tf.sqrt(share)], axis=2))

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, levels * dim]."""
        return tf.concat([table(codes[..., level]) for level, table in enumerate(self.tables)], axis=-1)


class ClusterId(PlainClusterId):
    """The cluster ID, with what its centroid says of it.

    The embedding of an ID starts from its centroid, projected to `dim`. It is trained like that of any other ID, but
    need not learn from clicks which clusters look alike, for which a shop's own log is too short (LOG.md): two
    hundred IDs make twenty thousand pairs of them.

    Further numbers: the largest and the mean cosine of what the codes say of embeddings, as deviations from what is
    usual: of the sums of their centroids, in full width, which training does not move (cosines of the trained
    embeddings are worth less, LOG.md).
    """

    START_SIZE = 0.1  # Of the numbers an embedding starts with (root of the mean square).

    def __init__(self, looks: Looks, dim: int, **kwargs: Any) -> None:
        super().__init__(looks, dim, **kwargs)
        codebook = np.pad(looks.centroids, [(0, 0), (1, 0), (0, 0)])  # Row 0 of each level: without a photo.
        # One table of all levels: its rows are gathered without a copy of it.
        self.codebook = _constant(self, "codebook", np.concatenate(codebook))
        self.first_row = len(codebook[0]) * np.arange(len(codebook), dtype=np.int32)
        self.usual = _constant(self, "usual", usual_cosine(looks.coded_sample()))

    def _starts(self, looks: Looks, dim: int) -> list[Any]:
        scaled = self.START_SIZE * looks.centroids_in(dim)
        # Without a photo: at the centre.
        return [keras.initializers.Constant(np.pad(level, [(1, 0), (0, 0)])) for level in scaled]

    def call(self, candidate: ItemLooks, history: ItemLooks, mask: tf.Tensor) -> Seen:
        plain = super().call(candidate, history, mask)
        comparable = (mask & (history.codes[..., 0] > 0))[:, None, :] & (candidate.codes[..., :1] > 0)
        cosine = tf.einsum("bnd,bhd->bnh", self._coded(candidate.codes), self._coded(history.codes))
        alike = largest_and_mean((cosine - self.usual[0]) / self.usual[1], comparable)
        return plain._replace(numbers=tf.concat([plain.numbers, alike], axis=2))

    def _coded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, D] float32 of length 1, as `Looks.coded`; 0 without a photo."""
        rows = tf.unstack(codes + self.first_row, axis=2)
        found = tf.gather(self.codebook, rows[0])
        for finer in rows[1:]:  # One after the other: together they would take the memory of all levels.
            found += tf.gather(self.codebook, finer)
        return tf.math.l2_normalize(found, axis=-1)


def _constant(layer: keras.layers.Layer, name: str, value: Any) -> tf.Variable:
    """A weight that training does not move, in float32 under every policy."""
    return layer.add_weight(
        name, np.shape(value), "float32", keras.initializers.Constant(value), trainable=False,
        experimental_autocast=False,
    )  # fmt: skip


def largest_and_mean(cosine: tf.Tensor, comparable: tf.Tensor) -> tf.Tensor:
    """[B, N, H] cosines, and whether there is one (bool) -> [B, N, 2] float32; 0 where there is none."""
    number = tf.reduce_sum(tf.cast(comparable, tf.float32), axis=2)
    # -inf in the largest of nothing would make NaN gradients further on, so it is replaced before it is used.
    largest = tf.reduce_max(tf.where(comparable, cosine, cosine.dtype.min), axis=2)
    mean = tf.reduce_sum(tf.where(comparable, cosine, 0.0), axis=2) / tf.maximum(number, 1.0)
    return tf.stack([tf.where(number > 0, largest, 0.0), mean], axis=2)


class Vector(keras.layers.Layer):
    """The embedding itself, centred and scaled by what is usual in the train span, then projected to `dim`."""

    needs_codes, needs_embeddings = False, True

    def __init__(self, looks: Looks, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs, autocast=False)  # Embeddings are centred before they are rounded.
        self.projection = keras.layers.Dense(dim, use_bias=False, name="projection")
        mean, deviation = usual_embedding(looks.embedding_sample())
        self.mean, self.deviation = _constant(self, "mean", mean), _constant(self, "deviation", deviation)

    def call(self, candidate: ItemLooks, history: ItemLooks, mask: tf.Tensor) -> Seen:
        own, others = self._projected(candidate.embeddings), self._projected(history.embeddings)
        return Seen(own, others, own[..., :0])

    def _projected(self, embeddings: tf.Tensor) -> tf.Tensor:
        """[B, R, D] to [B, R, dim]; an item without a photo is at 0, the centre."""
        size, width = tf.shape(embeddings), embeddings.shape[-1]
        rows = tf.reshape(embeddings, [size[0] * size[1], width])
        known = tf.cast(tf.reduce_any(rows != 0, axis=-1, keepdims=True), tf.float32)
        found = self.projection(tf.cast((rows - self.mean) / self.deviation * known, self.compute_dtype))
        return tf.reshape(found, [size[0], size[1], found.shape[-1]])


class SimScore(keras.layers.Layer):
    """The cosine of the candidate with the history: the largest and the mean, as deviations from what is usual.

    A third number tells whether there is anything to compare; without it the others are 0.
    """

    needs_codes, needs_embeddings = False, True

    def __init__(self, looks: Looks, dim: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.usual = _constant(self, "usual", usual_cosine(looks.embedding_sample()))

    def call(self, candidate: ItemLooks, history: ItemLooks, mask: tf.Tensor) -> Seen:
        own, others = candidate.embeddings, history.embeddings
        usable = mask & tf.reduce_any(others != 0, axis=-1)
        comparable = usable[:, None, :] & tf.reduce_any(own != 0, axis=-1, keepdims=True)
        cosine = (tf.einsum("bnd,bhd->bnh", own, others) - self.usual[0]) / self.usual[1]
        any_of_them = tf.cast(tf.reduce_any(comparable, axis=2, keepdims=True), tf.float32)
        numbers = tf.concat([largest_and_mean(cosine, comparable), any_of_them], axis=2)
        return Seen(own[..., :0], others[..., :0], numbers)


IMAGE_FEATURES = {
    "cluster_id": ClusterId,
    "plain_cluster_id": PlainClusterId,
    "vector": Vector,
    "simscore": SimScore,
}


class CategoryGate(keras.layers.Layer):
    """A trainable switch per category, between 0 and 1: [...] category codes to [..., 1] float32.

    A feature may help in one category and harm in another (paper, appendix 7). Adam moves a weight by its learning rate
    at most; the factor lets a gate close within a few hundred steps.
    """

    FACTOR, START = 10.0, 2.0

    def __init__(self, categories: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        start = keras.initializers.Constant(self.START / self.FACTOR)
        self.switch = self.add_weight("switch", [categories], "float32", start)

    def call(self, category: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.FACTOR * tf.gather(self.switch, category))[..., None]

    def values(self) -> np.ndarray:
        """[categories] how far each gate is open; the first is that of unknown categories."""
        return tf.sigmoid(self.FACTOR * self.switch).numpy()


class ImageFeatures(keras.layers.Layer):
    """The image features of a mode side by side, behind the gate of the candidate's category.

    Args:
        names: of `IMAGE_FEATURES`; none of them is a mode, too.
        looks: of all items.
        dim: width of each embedding or projection.
        categories: codes of the category, for the gate; 0 for no gate.

    Call: rows of candidates [B, N] and history [B, H] in `looks`, mask [B, H] bool, category codes [B, N] -> (`Seen`
    behind the gate, but for the history, which all candidates of a row share; how far the gates are open, [B, N, 1]).
    """

    def __init__(self, names: Sequence[str], looks: Looks, dim: int, categories: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = [IMAGE_FEATURES[name](looks, dim, name=name) for name in names]
        self.gate = CategoryGate(categories, name="gate") if names and categories else None
        with tf.init_scope():
            self.codes = tf.Variable(looks.codes, trainable=False, name="codes") if names else None
            self.embeddings = tf.Variable(looks.embeddings, trainable=False, name="embeddings") if names else None

    def call(
        self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor, category: tf.Tensor
    ) -> tuple[Seen, tf.Tensor]:
        many, size = tf.shape(candidate), tf.shape(mask)
        nothing, no_history = tf.zeros([many[0], many[1], 0]), tf.zeros([size[0], size[1], 0])
        found = [Seen(nothing, no_history, nothing)]
        if self.features:
            own, others = self._looks_of(candidate), self._looks_of(history)
            found += [feature(own, others, mask) for feature in self.features]
        parts = [[tf.cast(part, self.compute_dtype) for part in kind] for kind in zip(*found, strict=True)]
        seen = Seen(*(tf.concat(kind, axis=-1) for kind in parts))
        if self.gate is None:
            return seen, tf.ones([many[0], many[1], 1], self.compute_dtype)
        opened = tf.cast(self.gate(category), self.compute_dtype)
        return Seen(seen.candidate * opened, seen.history, seen.numbers * opened), opened

    def _looks_of(self, rows: tf.Tensor) -> ItemLooks:
        return ItemLooks(tf.gather(self.codes, rows), tf.gather(self.embeddings, rows))
