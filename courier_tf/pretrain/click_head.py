"""The click head of the authors' code: does a user with this reconstruction click this item?"""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.objectives.objective import total


class ClickHead(keras.layers.Layer):
    """[r_j ; e_j] -> Linear -> ReLU -> batch norm -> Linear 1, used in training alone.

    The batch norm takes its statistics from the slots of all replicas; padding is not among them. It keeps no moving
    averages: nobody asks the head anything after training.

    Args:
        hidden: width of the hidden layer.

    Call: rebuilt and page_view [M, D] float32, of real slots only -> logits [M]. M may be 0.
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
