"""The baseline SimSiam: two augmentations agree, without negatives (arXiv 2011.10566)."""

from typing import Any

import tensorflow as tf

from courier_tf.pretrain.augment import two_views
from courier_tf.pretrain.objectives.objective import Objective, Terms, total

keras = tf.keras


class SimSiam(Objective):
    """A predictor turns each view's embedding into that of the other view, which gets no gradient.

    Args:
        hidden: width of the predictor's hidden layer. Its batch norm is synchronised over the replicas.
    """

    views = 2
    gauges = ("targets",)

    def __init__(self, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.squeeze = keras.layers.Dense(self.hidden, use_bias=False, name="squeeze", dtype="float32")
        self.norm = keras.layers.BatchNormalization(synchronized=True, name="norm", dtype="float32")
        self.predict = keras.layers.Dense(width, name="predict", dtype="float32")
        for layer, incoming in ((self.squeeze, width), (self.norm, self.hidden), (self.predict, self.hidden)):
            with tf.name_scope(layer.name):
                layer.build([None, incoming])
        super().build(input_shape)

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return two_views(batch["photos"], seed)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        real = tf.concat([batch["photo_items"]] * 2, axis=0) > 0
        embeddings = tf.boolean_mask(embeddings, real)
        first, second = tf.split(embeddings, 2)
        other = tf.stop_gradient(tf.concat([second, first], axis=0))
        hidden = tf.nn.relu(self.norm(self.squeeze(embeddings), training=True))
        predicted = tf.math.l2_normalize(self.predict(hidden), axis=-1)
        number = tf.cast(tf.shape(embeddings)[0], tf.float32)
        return Terms(-tf.reduce_sum(predicted * other) / total(number), {"targets": number})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}
