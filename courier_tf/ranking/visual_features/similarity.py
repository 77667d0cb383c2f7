"""Visual features from the cosines of a candidate's embedding with those of the history."""

from typing import Any

import tensorflow as tf

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals, VisualOrigin, cosine_tiers, usual_cosine
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals, VisualFeature, VisualSignals

BELOW_ALL = -1e6  # Less than any cosine, in deviations from the usual one.


class Similarity(VisualFeature):
    """What the features of this file share: cosines, and which of them mean something."""

    needs_embeddings = True

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **{**kwargs, "dtype": "float32"})

    @classmethod
    def is_transferable(cls, previous: VisualOrigin, current: VisualOrigin) -> bool:
        """Always: cosines are measured against the usual ones, so their scale is the same for every encoder."""
        return True

    @staticmethod
    def compare(candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compares candidates with history items.

        Args:
            candidate: of [B, N] items.
            history: of [B, H] items.
            mask: [B, H] bool, False for padding.

        Returns:
            ([B, N, H] float32 cosines, [B, N, H] bool: both items have a photo).
        """
        if history.cosines is not None:
            # Exactly 0 is the cosine with an item without a photo.
            return history.cosines, mask[:, None, :] & (history.cosines != 0)
        usable = mask & tf.reduce_any(history.embeddings != 0, axis=-1)
        comparable = usable[:, None, :] & tf.reduce_any(candidate.embeddings != 0, axis=-1, keepdims=True)
        return tf.einsum("bnd,bhd->bnh", candidate.embeddings, history.embeddings), comparable

    @staticmethod
    def signals(cosine: tf.Tensor, statistics: tf.Tensor | None, attention: tf.Tensor | None = None) -> VisualSignals:
        """Signals that extend no representation of an item; `cosine` is [B, N, H]."""
        rows, number, length = tf.unstack(tf.shape(cosine))
        nothing, no_history = tf.zeros([rows, number, 0]), tf.zeros([rows, length, 0])
        return VisualSignals(nothing, no_history, nothing if statistics is None else statistics, attention)


class SimScore(Similarity):
    """The largest and the mean cosine of the candidate with the history, as deviations from the usual cosine.

    A third statistic is 1 if there is anything to compare. Otherwise all three are 0.
    """

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        self.usual = self.add_constant("usual", usual_cosine(visual.embedding_sample()))

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        cosine, comparable = self.compare(candidate, history, mask)
        alike = largest_and_mean((cosine - self.usual[0]) / self.usual[1], comparable)
        any_of_them = tf.cast(tf.reduce_any(comparable, axis=2, keepdims=True), tf.float32)
        return self.signals(cosine, tf.concat([alike, any_of_them], axis=2))


class SimTier(Similarity):
    """The cosines of the candidate with the history, counted into tiers (SimTier, arXiv 2407.19467, section 4.2).

    The borders of the tiers are those of `cosine_tiers`, so that they suit every encoder. The statistics are
    log(1 + count) for each tier.
    """

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        self.borders = self.add_constant("borders", cosine_tiers(visual.embedding_sample()))

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        cosine, comparable = self.compare(candidate, history, mask)
        tiers = tf.one_hot(tiers_of(cosine, comparable, self.borders), self.borders.shape[0] + 1)
        return self.signals(cosine, tf.math.log1p(tf.reduce_sum(tiers, axis=2)))


class SimilarityAttention(Similarity):
    """The cosine enters the attention of the candidate to each history item.

    Each tier of cosines (`cosine_tiers`) has a weight, which is added to the logit of the attention. Training moves the
    weights, which start at 0. MUSE (arXiv 2512.07216, section 3.3) adds the cosine itself. DMF (2510.11066) has an
    embedding for each tier.
    """

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        borders = cosine_tiers(visual.embedding_sample())
        self.borders = self.add_constant("borders", borders)
        # Training moves the steps between tiers: a step that many pairs have passed learns from all of them.
        self.steps = self.add_weight("steps", [len(borders)], "float32", "zeros")

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        cosine, comparable = self.compare(candidate, history, mask)
        # The lowest tier adds 0, and so do items that cannot be compared.
        of_tier = tf.concat([[0.0], tf.cumsum(self.steps)], axis=0)
        logits = tf.gather(of_tier, tf.maximum(tiers_of(cosine, comparable, self.borders), 0))
        return self.signals(cosine, None, logits)


def tiers_of(cosine: tf.Tensor, comparable: tf.Tensor, borders: tf.Tensor) -> tf.Tensor:
    """The tier of each cosine: the number of borders that it reaches.

    Args:
        cosine: [B, N, H] float32.
        comparable: [B, N, H] bool.
        borders: [T] float32, ascending.

    Returns:
        [B, N, H] int32, from 0 to T; -1 where nothing can be compared.
    """
    # tf.searchsorted takes no sequences of length 0.
    reached = tf.raw_ops.UpperBound(sorted_inputs=borders[None], values=tf.reshape(cosine, [1, -1]))
    return tf.where(comparable, tf.reshape(reached, tf.shape(cosine)), -1)


def largest_and_mean(cosine: tf.Tensor, comparable: tf.Tensor) -> tf.Tensor:
    """The largest and the mean cosine of each candidate with the history items that it can be compared with.

    Args:
        cosine: [B, N, H].
        comparable: [B, N, H] bool.

    Returns:
        [B, N, 2] float32; 0 where nothing can be compared.
    """
    # Products, as tf.where with one number for all takes five times as long.
    usable = tf.cast(comparable, cosine.dtype)
    number = tf.reduce_sum(usable, axis=2)
    largest = tf.reduce_max(cosine * usable + BELOW_ALL * (1 - usable), axis=2)
    mean = tf.reduce_sum(cosine * usable, axis=2) / tf.maximum(number, 1.0)
    return tf.stack([tf.where(number > 0, largest, 0.0), mean], axis=2)  # The largest of nothing is -inf.
