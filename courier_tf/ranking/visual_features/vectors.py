"""Visual features from the embeddings of items and histories."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals, usual_embedding
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals, VisualFeature, VisualSignals


class Vector(VisualFeature):
    """The embedding itself, projected to `dim`. The mean and the deviation of the train span centre and scale it."""

    needs_embeddings = True

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs, autocast=False)  # Embeddings are centred before they are rounded.
        self.projection = keras.layers.Dense(dim, use_bias=False, name="projection")
        mean, deviation = usual_embedding(visual.embedding_sample())
        self.mean, self.deviation = self.add_constant("mean", mean), self.add_constant("deviation", deviation)

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        projected = self._projected(candidate.embeddings)
        return VisualSignals(projected, self._projected(history.embeddings), projected[..., :0])

    def _projected(self, embeddings: tf.Tensor) -> tf.Tensor:
        """[B, R, D] to [B, R, dim]; an item without a photo is at 0, the centre."""
        size, width = tf.shape(embeddings), embeddings.shape[-1]
        rows = tf.reshape(embeddings, [size[0] * size[1], width])
        known = tf.cast(tf.reduce_any(rows != 0, axis=-1, keepdims=True), tf.float32)
        projected = self.projection(tf.cast((rows - self.mean) / self.deviation * known, self.compute_dtype))
        return tf.reshape(projected, [size[0], size[1], projected.shape[-1]])
