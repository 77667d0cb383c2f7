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
        Because U c + W (c * h) = (U + W * h) c, the history becomes one matrix per row, which all candidates of the row
        share. V h is one more line of that matrix for the plain part, and one for the part that the gate multiplies.

        Args:
            candidates: [B, N, D]; the last D - P numbers are multiplied by the gate.
            history: [B, H, P], the part of the history items that all candidates see alike.
            gated: [B, H, D - P], the part that the gate multiplies.
            gate: [B, N, 1], the gate of each candidate: 0 or 1.
            mask: [B, H] bool.
            added: [B, N, H], added to the logits; None adds nothing.

        Returns:
            [B, N, D]; for one candidate the same as the call for `[history, gated * gate]`.
        """
        rows, number, length = tf.shape(candidates)[0], tf.shape(candidates)[1], tf.shape(mask)[1]
        plain, hidden, dtype = history.shape[-1], self.of_candidate.units, history.dtype
        of_item, of_product, of_candidate, bias = (
            tf.cast(weight, dtype)
            for weight in (
                self.of_item.kernel, self.of_product.kernel, self.of_candidate.kernel, self.of_candidate.bias
            )
        )  # fmt: skip
        both = tf.transpose(tf.concat([history, gated], axis=2), [0, 2, 1])
        of_known = both[..., None] * of_product[:, None] + of_candidate[:, None]
        lines = [of_known, (history @ of_item[:plain] + bias)[:, None], (gated @ of_item[plain:])[:, None]]
        matrix = tf.reshape(tf.concat(lines, axis=1), [rows, both.shape[1] + 2, length * hidden])
        known = tf.concat([candidates, tf.ones_like(gate), gate], axis=2)
        pairs = tf.nn.relu(tf.reshape(known @ matrix, [rows * number * length, hidden]))
        logits = _with(tf.reshape(self.logit(pairs), [rows, number, length]), added)
        real = tf.cast(mask, tf.float32)[:, None, :]
        # A sum, as tf.where with one number for all takes longer.
        weights = tf.cast(tf.nn.softmax(logits + (real - 1) * 1e9) * real, dtype)
        return tf.concat([weights @ history, (weights @ gated) * gate], axis=2)


def _with(logits: tf.Tensor, added: tf.Tensor | None) -> tf.Tensor:
    """The sum of both in float32: a softmax of half precision rounds too much."""
    logits = tf.cast(logits, tf.float32)
    # In the shape of the logits: otherwise TensorFlow warns in its graphs that it does not know the rank of the sum.
    return logits if added is None else logits + tf.reshape(tf.cast(added, tf.float32), tf.shape(logits))
