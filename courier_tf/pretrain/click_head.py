"""The click head of the authors' code: the probability that a user with this reconstruction clicks an item."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.objectives.objective import total


class ClickHead(keras.layers.Layer):
    """[r_j ; e_j] -> Linear -> ReLU -> batch norm -> Linear 1, used only in training.

    The batch norm takes its statistics from the slots of all replicas, without padding. It keeps no moving averages,
    because the head is not used after training.

    Args:
        hidden: width of the hidden layer.

    Call: rebuilt and page_view [M, D] float32, those of real slots -> logits [M]. M may be 0.
    """

    EPSILON = 1e-5

    def __init__(self, hidden: int = 1024, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.hidden = hidden

    def build(self, input_shape: Any) -> None:
        self.widen = keras.layers.Dense(self.hidden, activation="relu", name="widen", dtype="float32")
        self.logit = keras.layers.Dense(1, name="logit", dtype="float32")
        for layer, incoming in ((self.widen, 2 * input_shape[-1]), (self.logit, self.hidden)):
            with tf.name_scope(layer.name):
                layer.build([None, incoming])
        self.gamma = self.add_weight("gamma", [self.hidden], initializer="ones")
        self.beta = self.add_weight("beta", [self.hidden], initializer="zeros")
        super().build(input_shape)

    def call(self, rebuilt: tf.Tensor, page_view: tf.Tensor) -> tf.Tensor:
        hidden = self.widen(tf.concat([rebuilt, page_view], axis=1))
        return self.logit(self.gamma * self._normalised(hidden) + self.beta)[:, 0]

    def _normalised(self, hidden: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        number = total(tf.cast(tf.shape(hidden)[0], tf.float32))
        mean = context.all_reduce("sum", tf.reduce_sum(hidden, axis=0)) / number
        centred = hidden - mean
        variance = context.all_reduce("sum", tf.reduce_sum(tf.square(centred), axis=0)) / number
        return centred * tf.math.rsqrt(variance + self.EPSILON)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}
