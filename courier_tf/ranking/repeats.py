"""Statistics of how a candidate repeats the history, so that image features get no credit for repeats."""

import tensorflow as tf


def same_values(own: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Where candidates [B, N, C] have a value (above 0) and history items [B, H, C] the same: [B, N, H, C] bool."""
    own = own[:, :, None, :]
    return (own == others[:, None]) & (own > 0)


def history_share(same: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """How much of the history agrees: [B, N, H, C] bool, mask [B, H] -> [B, N, C] float32, 0 where it is empty."""
    length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
    return tf.reduce_sum(tf.cast(same & mask[:, None, :, None], tf.float32), axis=2) / tf.maximum(length, 1.0)


def repeat_numbers(repeated: tf.Tensor, columns: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The figures of each candidate.

    Args:
        repeated: [B, N, H, R] bool: the item itself stands there, or one that shares a repeat column.
        columns: [B, N, H, C] bool: the same value of an item column.
        mask: [B, H] bool.

    Returns:
        [B, N, 3 R + 2 C + 2] float32: whether there is a repeat; the shares of the history, and their roots; how long
        the history is, and whether there is one.
    """
    share = history_share(tf.concat([repeated, columns], axis=3), mask)
    stands = tf.cast(share[..., : repeated.shape[3]] > 0, tf.float32)
    length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
    of_row = tf.concat([tf.math.log1p(length), tf.minimum(length, 1.0)], axis=2)
    return tf.concat([stands, share, tf.sqrt(share), tf.repeat(of_row, tf.shape(share)[1], axis=1)], axis=2)
