"""The baseline SimSiam: two augmentations agree, without negatives (arXiv 2011.10566)."""

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.augment import two_views
from courier_tf.pretrain.objectives.objective import Objective, Terms, total


class SimSiam(Objective):
    """A predictor turns each view's projection into that of the other view, which gets no gradient.

    There are no negatives. Only the batch norms of the projector keep the photos from sharing one embedding: they
    centre and scale the projections over the global batch. The projector is thrown away after training.

    Args:
        hidden: width of the predictor's hidden layer; the projector is as wide as the embedding.
    """

    option = "simsiam"
    augments = True
    views = 2
    gauges = ("targets",)

    def __init__(self, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        dense = functools.partial(keras.layers.Dense, use_bias=False, dtype="float32")
        norm = functools.partial(keras.layers.BatchNormalization, synchronized=True, dtype="float32")
        self.project = [dense(width, name="project"), norm(name="project_norm")]
        self.project_again = [dense(width, name="project_again"), norm(name="again_norm", center=False, scale=False)]
        self.squeeze = [dense(self.hidden, name="squeeze"), norm(name="squeeze_norm")]
        self.predict = keras.layers.Dense(width, name="predict", dtype="float32")
        wide = (*self.project, *self.project_again, self.squeeze[0])
        for layer, incoming in (
            *((layer, width) for layer in wide),
            (self.squeeze[1], self.hidden),
            (self.predict, self.hidden),
        ):
            with tf.name_scope(layer.name):
                layer.build([None, incoming])
        super().build(input_shape)

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return two_views(batch["photos"], seed)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        real = tf.concat([batch["photo_items"]] * 2, axis=0) > 0
        embeddings = tf.boolean_mask(embeddings, real)
        projected = _normed(self.project_again, tf.nn.relu(_normed(self.project, embeddings)))
        predicted = self.predict(tf.nn.relu(_normed(self.squeeze, projected)))
        first, second = tf.split(tf.math.l2_normalize(projected, axis=-1), 2)
        other = tf.stop_gradient(tf.concat([second, first], axis=0))
        predicted = tf.math.l2_normalize(predicted, axis=-1)
        number = tf.cast(tf.shape(embeddings)[0], tf.float32)
        return Terms(-tf.reduce_sum(predicted * other) / total(number), {"targets": number})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}


def _normed(layers: Sequence[keras.layers.Layer], inputs: tf.Tensor) -> tf.Tensor:
    """A dense layer and its batch norm, always in training mode: an objective is only used in training."""
    dense, norm = layers
    return norm(dense(inputs), training=True)
