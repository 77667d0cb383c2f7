"""Target attention: which items of a history matter for this candidate."""

from typing import Any

import tensorflow as tf

keras = tf.keras


class TargetAttention(keras.layers.Layer):
    """How much each history item matters for the candidate (DIN, arXiv 1706.06978): an MLP on both, then a softmax.

    Call: candidate [B, D], history [B, H, D], mask [B, H] bool -> [B, D]; zeros where the history is empty.
    """

    def __init__(self, hidden: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The first layer of the MLP on [candidate, item, candidate * item], part by part: nothing has to be joined, and
        # the candidate's part is computed once for its whole history.
        self.of_candidate = keras.layers.Dense(hidden, name="of_candidate")
        self.of_item = keras.layers.Dense(hidden, use_bias=False, name="of_item")
        self.of_product = keras.layers.Dense(hidden, use_bias=False, name="of_product")
        self.logit = keras.layers.Dense(1, name="logit")

    def call(self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        width, size = history.shape[-1], tf.shape(mask)
        pairs = self.of_item(tf.reshape(history, [-1, width]))
        pairs += self.of_product(tf.reshape(candidate[:, None, :] * history, [-1, width]))
        hidden = tf.nn.relu(
            tf.reshape(pairs, [size[0], size[1], pairs.shape[-1]]) + self.of_candidate(candidate)[:, None, :]
        )
        flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
        logits = tf.reshape(self.logit(flat), size)
        weights = tf.nn.softmax(tf.where(mask, tf.cast(logits, tf.float32), -1e9)) * tf.cast(mask, tf.float32)
        return tf.einsum("bh,bhd->bd", tf.cast(weights, history.dtype), history)
