"""The visual features of a ranker side by side, behind a gate for each category."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.visual_features.registry import features_of
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals, VisualSignals
from courier_tf.settings.rank_modes import JOINED_BY, NO_VISUAL_FEATURE


class CategoryGate(keras.layers.Layer):
    """A switch per category, 1 for open and 0 for shut: [...] category codes to [..., 1] float32.

    A feature may help in one category and harm in another (paper, appendix 7). The gates are not trained with the
    weights: weights that make noise harmless leave nothing for a gate to gain by shutting. `gate_choice` chooses them
    on impressions that the weights were not fitted to. Until then they are open.

    Args:
        categories: number of category codes; code 0 stands for unknown categories.
    """

    def __init__(self, categories: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.opened = self.add_weight("opened", [categories], "float32", "ones", trainable=False)

    def call(self, category: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.opened, category)[..., None]

    def values(self) -> np.ndarray:
        """[categories] float32: how far each gate is open, from 0 (shut) to 1."""
        return np.array(self.opened.numpy())


class GatedVisualFeatures(keras.layers.Layer):
    """The visual features of a rank mode, behind the gate of the candidate's category.

    Args:
        names: of visual features, each once; empty for the mode `none`.
        visual: the visuals of all items.
        dim: width of an ID embedding.
        categories: number of category codes for the gate; 0 for no gate.

    Call: rows of candidates [B, N] and history items [B, H] in `visual`, mask [B, H] bool, category codes [B, N] ->
    (`VisualSignals`, how far the gate of each candidate is open [B, N, 1]). Candidate, statistics and attention are
    multiplied by the gate. The history is not: all candidates of a row share it. In training `shown`, [B] int32, takes
    the place of the gates: 1 shows the visual features of a row, 0 hides them. `cosines` as in `Lookups`.
    """

    def __init__(
        self, names: Sequence[str], visual: CatalogueVisuals, dim: int, categories: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        classes = features_of(JOINED_BY.join(names) or NO_VISUAL_FEATURE)
        self.features = [feature(visual, dim, name=name) for name, feature in zip(names, classes, strict=True)]
        self.gate = CategoryGate(categories, name="gate") if names and categories else None
        with tf.init_scope():
            self.codes = tf.Variable(visual.codes, trainable=False, name="codes") if names else None
            self.embeddings = tf.Variable(visual.embeddings, trainable=False, name="embeddings") if names else None

    def call(
        self,
        candidate: tf.Tensor,
        history: tf.Tensor,
        mask: tf.Tensor,
        category: tf.Tensor,
        shown: tf.Tensor | None = None,
        cosines: tf.Tensor | None = None,
    ) -> tuple[VisualSignals, tf.Tensor]:
        pairs, size = tf.shape(candidate), tf.shape(mask)
        nothing, no_history = tf.zeros([pairs[0], pairs[1], 0]), tf.zeros([size[0], size[1], 0])
        signals = [VisualSignals(nothing, no_history, nothing)]
        if self.features:
            candidates, others = self._visuals_of(candidate), self._visuals_of(history)._replace(cosines=cosines)
            signals += [feature(candidates, others, mask) for feature in self.features]
        joined = self._joined(signals)
        if self.gate is None:
            return joined, tf.ones([pairs[0], pairs[1], 1], self.compute_dtype)
        opened = self.gate(category) if shown is None else tf.ones_like(category)[..., None] * shown[:, None, None]
        opened = tf.cast(opened, self.compute_dtype)
        attention = None if joined.attention is None else joined.attention * opened
        return VisualSignals(joined.candidate * opened, joined.history, joined.statistics * opened, attention), opened

    def _joined(self, signals: Sequence[VisualSignals]) -> VisualSignals:
        """Representations and statistics side by side, and the sum of the attention logits."""
        cast = [[tf.cast(part, self.compute_dtype) for part in signal[:3]] for signal in signals]
        candidate, history, statistics = (tf.concat(kind, axis=-1) for kind in zip(*cast, strict=True))
        added = [tf.cast(signal.attention, self.compute_dtype) for signal in signals if signal.attention is not None]
        return VisualSignals(candidate, history, statistics, tf.add_n(added) if added else None)

    def _visuals_of(self, rows: tf.Tensor) -> ItemVisuals:
        return ItemVisuals(tf.gather(self.codes, rows), tf.gather(self.embeddings, rows))
