"""A visual feature that describes a user: which looks the history as a whole is about."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.visual_features.cluster_ids import START_SIZE
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals, VisualFeature, VisualSignals

RECENCY = 1e-3  # What the second item counts more than the first.


class UserInterest(VisualFeature):
    """The interest code of the user: the cluster that the mean of the history's centroids is nearest to.

    A later item counts a little more than an earlier one, which decides between clusters that are equally near.
    The code has an embedding, which starts from the projected centroid as in `cluster_id`. It is an input of the MLP,
    the same for all candidates. A history without photos has code 0. Quantised behaviour as a feature of the user is
    that of arXiv 2606.01396. Only the coarsest level of the codes counts.
    """

    needs_codes = True

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        start = np.pad(START_SIZE * visual.centroids_in(dim)[0], [(1, 0), (0, 0)])
        self.table = keras.layers.Embedding(len(start), dim, keras.initializers.Constant(start), name="interests")
        self.centroids = self.add_constant("centroids", unit_centroids(visual))

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        interest = self.table(self.codes(history.codes[..., 0], mask))
        number = tf.shape(candidate.codes)[1]
        nothing = tf.zeros([*tf.unstack(tf.shape(candidate.codes)[:2]), 0])
        no_history = tf.zeros([*tf.unstack(tf.shape(mask)), 0])
        return VisualSignals(nothing, no_history, tf.repeat(interest[:, None], number, axis=1))

    def codes(self, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The interest codes of users, as `interest_codes`."""
        return interest_codes(history, mask, self.centroids)


def unit_centroids(visual: CatalogueVisuals) -> np.ndarray:
    """[clusters, D] float32: the centroids of the coarsest level, of length 1."""
    length = np.linalg.norm(visual.centroids[0], axis=1, keepdims=True)
    return np.asarray(visual.centroids[0] / np.maximum(length, 1e-6), np.float32)


def interest_codes(history: tf.Tensor, mask: tf.Tensor, centroids: tf.Tensor) -> tf.Tensor:
    """The clusters that histories as a whole are nearest to.

    Args:
        history: [B, H] int32 cluster codes of the coarsest level, oldest item first; 0 for an item without a photo.
        mask: [B, H] bool, False for padding.
        centroids: [clusters, D] float32, as of `unit_centroids`.

    Returns:
        [B] int32: cluster plus 1; 0 without a photo in the history.
    """
    known = tf.cast(mask & (history > 0), tf.float32)[..., None]
    # Two clusters with as many items each are equally near: without this, rounding would choose. Square roots, as
    # other growth has equal sums, too: the first and the fourth item against the second and the third.
    recency = 1 + RECENCY * tf.sqrt(tf.range(tf.shape(history)[1], dtype=tf.float32))[:, None]
    total = tf.reduce_sum(tf.gather(centroids, tf.maximum(history - 1, 0)) * known * recency, axis=1)
    nearest = tf.argmax(tf.matmul(total, centroids, transpose_b=True), axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_any(known[..., 0] > 0, axis=1), nearest + 1, 0)
