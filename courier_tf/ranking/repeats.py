"""Statistics of how a candidate repeats the history, so that image features get no credit for repeats."""

import tensorflow as tf


def same_values(candidates: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """Compares the values of candidates with those of history items. 0 stands for no value, and equals nothing.

    Args:
        candidates: [B, N, C] int.
        history: [B, H, C] int.

    Returns:
        [B, N, H, C] bool.
    """
    candidates = candidates[:, :, None, :]
    return (candidates == history[:, None]) & (candidates > 0)


def history_share(same: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The share of the history that agrees with each candidate.

    Args:
        same: [B, N, H, C] bool.
        mask: [B, H] bool, False for padding.

    Returns:
        [B, N, C] float32; 0 where the history is empty.
    """
    length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
    return tf.reduce_sum(tf.cast(same & mask[:, None, :, None], tf.float32), axis=2) / tf.maximum(length, 1.0)


def repeat_statistics(repeated: tf.Tensor, columns: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The statistics of each candidate.

    Args:
        repeated: [B, N, H, R] bool: the history item is the candidate, or shares one of its repeat columns.
        columns: [B, N, H, C] bool: the history item has the same value of an item column.
        mask: [B, H] bool, False for padding.

    Returns:
        [B, N, 3 R + 2 C + 2] float32: whether there is a repeat [R]; the shares of the history [R + C]; their square
        roots [R + C]; log(1 + length of the history); whether there is a history.
    """
    share = history_share(tf.concat([repeated, columns], axis=3), mask)
    is_repeat = tf.cast(share[..., : repeated.shape[3]] > 0, tf.float32)
    length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
    of_row = tf.concat([tf.math.log1p(length), tf.minimum(length, 1.0)], axis=2)
    return tf.concat([is_repeat, share, tf.sqrt(share), tf.repeat(of_row, tf.shape(share)[1], axis=1)], axis=2)
