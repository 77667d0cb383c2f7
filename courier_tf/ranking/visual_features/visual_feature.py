"""What every visual feature is: a layer from the visuals of candidates and histories to signals."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals, VisualOrigin


class ItemVisuals(NamedTuple):
    """The visuals of some items, as in `CatalogueVisuals`. An item without a photo has zeros."""

    codes: tf.Tensor  # [..., levels] int32
    embeddings: tf.Tensor  # [..., D] float32
    cosines: tf.Tensor | None = None  # [B, N, H] of candidates with these history items, where they are known already


class VisualSignals(NamedTuple):
    """What a visual feature gives to the ranker. The first three parts may have width 0."""

    candidate: tf.Tensor
    """[B, N, W]: extends the representation of each candidate."""
    history: tf.Tensor
    """[B, H, W]: extends the representation of each history item, which the attention sees."""
    statistics: tf.Tensor
    """[B, N, M]: figures about a candidate and the whole history; inputs of the MLP."""
    attention: tf.Tensor | None = None
    """[B, N, H]: added to the logits of the attention of each candidate to the history items; None adds nothing."""


class VisualFeature(keras.layers.Layer):
    """A visual feature: a layer that turns the visuals of candidates and histories into signals.

    The layer's variables and the visuals are saved, served and passed on to a next ranker without further code.

    Class attributes:
        needs_codes: the feature reads cluster IDs.
        needs_embeddings: the feature reads embeddings.

    Args:
        visual: the visuals of all items. Constants may be measured on the items of the train span.
        dim: width of an ID embedding.
    """

    needs_codes: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = False

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
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

    def take_weights(self, previous: "VisualFeature") -> None:
        """Starts from the weights that the same feature of a previous ranker has learned, where `is_transferable`.

        Weights of another shape start anew. A feature whose rows may have moved overrides this.
        """
        for weight, source in zip(self.trainable_weights, previous.trainable_weights, strict=True):
            if weight.shape == source.shape:
                weight.assign(source)

    def add_constant(self, name: str, value: Any) -> tf.Variable:
        """A saved variable that training does not move; float32 under every mixed-precision policy."""
        return self.add_weight(
            name, np.shape(value), "float32", keras.initializers.Constant(value), trainable=False,
            experimental_autocast=False,
        )  # fmt: skip
