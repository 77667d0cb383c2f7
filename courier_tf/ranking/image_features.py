"""The image features of the ranker. Each is one class, and `--rank-modes` names the ones that a ranker has.

To add an image feature, write a subclass of `ImageFeature` below and register it. Nothing else knows the list.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.repeats import history_share, same_values
from courier_tf.ranking.visual_features import VisualFeatures, VisualOrigin, usual_cosine, usual_embedding
from courier_tf.settings import SettingsError
from courier_tf.settings.rank_modes import JOINED_BY, NO_IMAGE_FEATURE, PERMUTED, image_feature_names


class ItemVisuals(NamedTuple):
    """The visual features of some items, as in `VisualFeatures`. An item without a photo has zeros."""

    codes: tf.Tensor  # [..., levels] int32
    embeddings: tf.Tensor  # [..., D] float32


class ImageSignals(NamedTuple):
    """What an image feature gives to the ranker. Each part may have width 0."""

    candidate: tf.Tensor
    """[B, N, W]: extends the representation of each candidate."""
    history: tf.Tensor
    """[B, H, W]: extends the representation of each history item, which the attention sees."""
    statistics: tf.Tensor
    """[B, N, M]: figures about a candidate and the whole history; inputs of the MLP."""


class ImageFeature(keras.layers.Layer):
    """An image feature: a layer that turns the visual features of candidates and histories into signals.

    The layer's variables and the visual features are saved, served and passed on to a next ranker without further code.

    Class attributes:
        needs_codes: the feature reads cluster IDs.
        needs_embeddings: the feature reads embeddings.

    Args:
        visual: the visual features of all items. Constants may be measured on the items of the train span.
        dim: width of an ID embedding.
    """

    needs_codes: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = False

    def __init__(self, visual: VisualFeatures, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> ImageSignals:
        """Computes the signals.

        Args:
            candidate: of [B, N] items.
            history: of [B, H] items.
            mask: [B, H] bool, False for padding.
        """
        raise NotImplementedError

    @classmethod
    def is_transferable(cls, previous: VisualOrigin, current: VisualOrigin) -> bool:
        """Whether a ranker may start from the weights that a previous ranker has learned of this feature.

        They keep their meaning where the clusters and the encoder that the feature needs are the same. If this returns
        False, the feature starts anew, and the rest of the ranker starts from the previous one.
        """
        same_clusters = not cls.needs_codes or current.keeps_clusters_of(previous)
        return same_clusters and (not cls.needs_embeddings or current.encoder == previous.encoder)

    def add_constant(self, name: str, value: Any) -> tf.Variable:
        """A saved variable that training does not move; float32 under every mixed-precision policy."""
        return self.add_weight(
            name, np.shape(value), "float32", keras.initializers.Constant(value), trainable=False,
            experimental_autocast=False,
        )  # fmt: skip


#: Name in `--rank-modes` -> class. `register` adds to it.
IMAGE_FEATURES: dict[str, type[ImageFeature]] = {}

Registered = TypeVar("Registered", bound=type[ImageFeature])


def register(name: str) -> Callable[[Registered], Registered]:
    """Class decorator: makes an image feature known to `--rank-modes` by `name`.

    Raises:
        SettingsError: another class has this name, or the name cannot stand in a mode.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name.endswith(PERMUTED) or name == NO_IMAGE_FEATURE:
        raise SettingsError(f"'{name}' cannot be the name of an image feature: take lower-case letters, digits and _")

    def add(feature: Registered) -> Registered:
        known = IMAGE_FEATURES.get(name, feature)
        if known.__qualname__ != feature.__qualname__:  # The same again: its cell in a notebook was run twice.
            raise SettingsError(f"the image feature '{name}' exists already: {known.__qualname__}")
        IMAGE_FEATURES[name] = feature
        return feature

    return add


def features_of(mode: str) -> tuple[type[ImageFeature], ...]:
    """The image features that a rank mode consists of.

    >>> [feature.__name__ for feature in features_of("cluster_id+simscore_permuted")]
    ['ClusterId', 'SimScore']

    Raises:
        SettingsError: an image feature of this name does not exist.
    """
    names = image_feature_names(mode)
    if set(names) - set(IMAGE_FEATURES):
        near = [next(iter(difflib.get_close_matches(name, IMAGE_FEATURES, 1)), None) for name in names]
        hint = "" if None in near else f" Did you mean '{JOINED_BY.join(map(str, near))}'?"
        raise SettingsError(
            f"rank_modes: there is no mode '{mode}'.{hint} Modes: {NO_IMAGE_FEATURE}, {', '.join(IMAGE_FEATURES)}, "
            f"several of these joined by {JOINED_BY} (cluster_id{JOINED_BY}simscore), and each of these with "
            f"{PERMUTED} at its end"
        )
    return tuple(IMAGE_FEATURES[name] for name in names)


def require_known(modes: Iterable[str]) -> None:
    """Refuses rank modes with an image feature that does not exist, before any stage runs. Raises as `features_of`."""
    for mode in modes:
        features_of(mode)


def needs_codes(mode: str) -> bool:
    """Whether a rank mode reads cluster IDs. Raises as `features_of`."""
    return any(feature.needs_codes for feature in features_of(mode))


def needs_embeddings(modes: Iterable[str]) -> bool:
    """Whether one of the rank modes reads embeddings. Raises as `features_of`."""
    return any(feature.needs_embeddings for mode in modes for feature in features_of(mode))


@register("plain_cluster_id")
class PlainClusterId(ImageFeature):
    """The cluster ID as one more ID feature, as in the paper. Residual codes have one embedding table per level.

    Statistics: the share of the history in the candidate's cluster, and the square root of that share, as for any other
    column. With several levels there is a share for each level: of the items whose codes agree up to that level. A code
    of a finer level has a meaning only within the coarser ones.
    """

    needs_codes = True

    def __init__(self, visual: VisualFeatures, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        self.tables = [
            keras.layers.Embedding(visual.clusters + 1, dim, initializer, name=f"level_{level}")
            for level, initializer in enumerate(self._initializers(visual, dim))
        ]

    def _initializers(self, visual: VisualFeatures, dim: int) -> list[Any]:
        """The initializer of the table of each level. Row 0 of a table belongs to items without a photo."""
        return ["uniform"] * len(visual.centroids)

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> ImageSignals:
        agree = tf.math.cumprod(tf.cast(same_values(candidate.codes, history.codes), tf.int32), axis=3) > 0
        share = history_share(agree, mask)
        statistics = tf.concat([share, tf.sqrt(share)], axis=2)
        return ImageSignals(self._embedded(candidate.codes), self._embedded(history.codes), statistics)

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, levels * dim]."""
        return tf.concat([table(codes[..., level]) for level, table in enumerate(self.tables)], axis=-1)


@register("cluster_id")
class ClusterId(PlainClusterId):
    """The cluster ID, together with what its centroid says about it.

    The embedding of an ID starts from its centroid, projected to `dim`, and is trained like that of any other ID. So it
    need not learn from clicks which clusters look alike: 200 IDs make 20,000 pairs, and the log of a shop is too short
    for these (docs/log/bare-cluster-id.md).

    Further statistics: the largest and the mean cosine between what the codes of the candidate and of the history items
    say about their embeddings, as deviations from the usual cosine. These use the centroids in full width, which
    training does not move. Cosines of the trained embeddings are worth less (docs/log/bare-cluster-id.md).
    """

    START_SIZE = 0.1  # Root mean square of the numbers that an embedding starts with.

    def __init__(self, visual: VisualFeatures, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        codebook = np.pad(visual.centroids, [(0, 0), (1, 0), (0, 0)])  # Row 0 of each level: without a photo.
        # One table for all levels: its rows are gathered without a copy of it.
        self.codebook = self.add_constant("codebook", np.concatenate(codebook))
        self.first_row = len(codebook[0]) * np.arange(len(codebook), dtype=np.int32)
        self.usual = self.add_constant("usual", usual_cosine(visual.coded_sample()))

    def _initializers(self, visual: VisualFeatures, dim: int) -> list[Any]:
        scaled = self.START_SIZE * visual.centroids_in(dim)
        # An item without a photo stands at the centre.
        return [keras.initializers.Constant(np.pad(level, [(1, 0), (0, 0)])) for level in scaled]

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> ImageSignals:
        plain = super().call(candidate, history, mask)
        comparable = (mask & (history.codes[..., 0] > 0))[:, None, :] & (candidate.codes[..., :1] > 0)
        cosine = tf.einsum("bnd,bhd->bnh", self._coded(candidate.codes), self._coded(history.codes))
        alike = largest_and_mean((cosine - self.usual[0]) / self.usual[1], comparable)
        return plain._replace(statistics=tf.concat([plain.statistics, alike], axis=2))

    def _coded(self, codes: tf.Tensor) -> tf.Tensor:
        """[B, R, levels] to [B, R, D] float32 of length 1, as `VisualFeatures.coded`; 0 without a photo."""
        rows = tf.unstack(codes + self.first_row, axis=2)
        total = tf.gather(self.codebook, rows[0])
        for finer in rows[1:]:  # One after the other: together they would take the memory of all levels.
            total += tf.gather(self.codebook, finer)
        return tf.math.l2_normalize(total, axis=-1)


@register("vector")
class Vector(ImageFeature):
    """The embedding itself, projected to `dim`. The mean and the deviation of the train span centre and scale it."""

    needs_embeddings = True

    def __init__(self, visual: VisualFeatures, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs, autocast=False)  # Embeddings are centred before they are rounded.
        self.projection = keras.layers.Dense(dim, use_bias=False, name="projection")
        mean, deviation = usual_embedding(visual.embedding_sample())
        self.mean, self.deviation = self.add_constant("mean", mean), self.add_constant("deviation", deviation)

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> ImageSignals:
        projected = self._projected(candidate.embeddings)
        return ImageSignals(projected, self._projected(history.embeddings), projected[..., :0])

    def _projected(self, embeddings: tf.Tensor) -> tf.Tensor:
        """[B, R, D] to [B, R, dim]; an item without a photo is at 0, the centre."""
        size, width = tf.shape(embeddings), embeddings.shape[-1]
        rows = tf.reshape(embeddings, [size[0] * size[1], width])
        known = tf.cast(tf.reduce_any(rows != 0, axis=-1, keepdims=True), tf.float32)
        projected = self.projection(tf.cast((rows - self.mean) / self.deviation * known, self.compute_dtype))
        return tf.reshape(projected, [size[0], size[1], projected.shape[-1]])


@register("simscore")
class SimScore(ImageFeature):
    """The largest and the mean cosine of the candidate with the history, as deviations from the usual cosine.

    A third statistic is 1 if there is anything to compare. Otherwise all three are 0.
    """

    needs_embeddings = True

    def __init__(self, visual: VisualFeatures, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **{**kwargs, "dtype": "float32"})
        self.usual = self.add_constant("usual", usual_cosine(visual.embedding_sample()))

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> ImageSignals:
        candidates, others = candidate.embeddings, history.embeddings
        usable = mask & tf.reduce_any(others != 0, axis=-1)
        comparable = usable[:, None, :] & tf.reduce_any(candidates != 0, axis=-1, keepdims=True)
        cosine = (tf.einsum("bnd,bhd->bnh", candidates, others) - self.usual[0]) / self.usual[1]
        any_of_them = tf.cast(tf.reduce_any(comparable, axis=2, keepdims=True), tf.float32)
        statistics = tf.concat([largest_and_mean(cosine, comparable), any_of_them], axis=2)
        return ImageSignals(candidates[..., :0], others[..., :0], statistics)

    @classmethod
    def is_transferable(cls, previous: VisualOrigin, current: VisualOrigin) -> bool:
        """Always: deviations from the usual cosine have the same scale whichever encoder is behind them."""
        return True


def largest_and_mean(cosine: tf.Tensor, comparable: tf.Tensor) -> tf.Tensor:
    """The largest and the mean cosine of each candidate with the history items that it can be compared with.

    Args:
        cosine: [B, N, H].
        comparable: [B, N, H] bool.

    Returns:
        [B, N, 2] float32; 0 where nothing can be compared.
    """
    number = tf.reduce_sum(tf.cast(comparable, tf.float32), axis=2)
    # -inf as the largest of nothing would make NaN gradients further on, so it is replaced before it is used.
    largest = tf.reduce_max(tf.where(comparable, cosine, cosine.dtype.min), axis=2)
    mean = tf.reduce_sum(tf.where(comparable, cosine, 0.0), axis=2) / tf.maximum(number, 1.0)
    return tf.stack([tf.where(number > 0, largest, 0.0), mean], axis=2)
