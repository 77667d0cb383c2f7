"""Target attention: which items of a history matter for a candidate."""

from typing import Any

import tensorflow as tf
from tensorflow import keras


class TargetAttention(keras.layers.Layer):
    """How much each history item matters for the candidate (DIN, arXiv 1706.06978): an MLP on both, then a softmax.

    Call: candidate [B, D], history [B, H, D], mask [B, H] bool -> [B, D]; zeros where the history is empty. `added`,
    [B, H], is added to the logits.
    """

    def __init__(self, hidden: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The first layer of the MLP on [candidate, item, candidate * item], in three parts. So nothing has to be
        # joined, and the part of the candidate is computed once for its whole history.
        self.of_candidate = keras.layers.Dense(hidden, name="of_candidate")
        self.of_item = keras.layers.Dense(hidden, use_bias=False, name="of_item")
        self.of_product = keras.layers.Dense(hidden, use_bias=False, name="of_product")
        self.logit = keras.layers.Dense(1, name="logit")

    def call(
        self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor, added: tf.Tensor | None = None
    ) -> tf.Tensor:
        weights = self.weights_of(candidate, history, mask, added)
        return tf.einsum("bh,bhd->bd", tf.cast(weights, history.dtype), history)

    def weights_of(
        self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor, added: tf.Tensor | None = None
    ) -> tf.Tensor:
        """What a candidate takes from each history item: arguments of the call to [B, H] float32.

        The weights of a history sum to 1; those of padding are 0.
        """
        width, size = history.shape[-1], tf.shape(mask)
        pairs = self.of_item(tf.reshape(history, [-1, width]))
        pairs += self.of_product(tf.reshape(candidate[:, None, :] * history, [-1, width]))
        hidden = tf.nn.relu(
            tf.reshape(pairs, [size[0], size[1], pairs.shape[-1]]) + self.of_candidate(candidate)[:, None, :]
        )
        flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
        logits = _with(tf.reshape(self.logit(flat), size), added)
        return tf.nn.softmax(tf.where(mask, logits, -1e9)) * tf.cast(mask, tf.float32)

    def share_history(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        gated: tf.Tensor,
        gate: tf.Tensor,
        mask: tf.Tensor,
        added: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The same for many candidates per history. Each candidate sees a part of the history through its gate.

        Before the activation, the MLP is linear in the candidate c: for a history item h it is U c + V h + W (c * h).
        Because W (c * h) = (W * h) c, the history becomes one matrix per row, [D, H * hidden], which all candidates of
        the row share.

        Args:
            candidates: [B, N, D].
            history: [B, H, P], the part of the history items that all candidates see alike.
            gated: [B, H, D - P], the part that the gate multiplies.
            gate: [B, N, 1], the gate of each candidate.
            mask: [B, H] bool.
            added: [B, N, H], added to the logits; None adds nothing.

        Returns:
            [B, N, D]; for one candidate the same as the call for `[history, gated * gate]`.
        """
        rows, number, length = tf.shape(candidates)[0], tf.shape(candidates)[1], tf.shape(mask)[1]
        plain, hidden, dtype = history.shape[-1], self.of_candidate.units, history.dtype
        of_item, of_product = (tf.cast(layer.kernel, dtype) for layer in (self.of_item, self.of_product))
        both = tf.concat([history, gated], axis=2)
        matrix = tf.transpose(both[..., None] * of_product, [0, 2, 1, 3])
        matrix = tf.reshape(matrix, [rows, both.shape[-1], length * hidden])
        gated_candidates = tf.concat([candidates[..., :plain], candidates[..., plain:] * gate], axis=2)
        pairs = tf.matmul(gated_candidates, matrix)
        pairs += tf.reshape(history @ of_item[:plain], [rows, 1, length * hidden])
        pairs += gate * tf.reshape(gated @ of_item[plain:], [rows, 1, length * hidden])
        pairs = tf.reshape(pairs, [rows, number, length, hidden]) + self.of_candidate(candidates)[:, :, None, :]
        logits = self.logit(tf.reshape(tf.nn.relu(pairs), [rows * number * length, hidden]))
        logits = _with(tf.reshape(logits, [rows, number, length]), added)
        mask = mask[:, None, :]
        weights = tf.cast(tf.nn.softmax(tf.where(mask, logits, -1e9)) * tf.cast(mask, tf.float32), dtype)
        return tf.concat([weights @ history, (weights @ gated) * gate], axis=2)


def _with(logits: tf.Tensor, added: tf.Tensor | None) -> tf.Tensor:
    """The sum of both in float32: a softmax of half precision rounds too much."""
    logits = tf.cast(logits, tf.float32)
    return logits if added is None else logits + tf.cast(added, tf.float32)
