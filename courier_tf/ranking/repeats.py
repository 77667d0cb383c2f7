"""Statistics of how a candidate repeats the history, so that visual features get no credit for repeats."""

import tensorflow as tf

BUCKETS = 2**62  # Of the keys of unknown ids: two that differ share one with a chance of 1 in 4 * 10^18.


def item_keys(ids: tf.Tensor, rows: tf.Tensor, unknown: int) -> tf.Tensor:
    """Numbers that are equal where items are the same, whether or not the catalogue knows them.

    Args:
        ids: [...] strings; "" is padding.
        rows: [...] int32, rows of the catalogue.
        unknown: the row of unknown items.

    Returns:
        [...] int64, 0 for padding.
    """
    of_unknown = unknown + 1 + tf.strings.to_hash_bucket_fast(ids, BUCKETS)
    return tf.where(
        rows == unknown, tf.where(ids == "", tf.zeros_like(of_unknown), of_unknown), tf.cast(rows + 1, tf.int64)
    )


def share_of_equals(candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The share of the history that has the same value as each candidate. 0 stands for no value, and equals nothing.

    The values of a history are sorted, and each candidate's value is looked up among them. To compare all pairs takes
    several times as long.

    Args:
        candidates: [B, N, C] int64.
        history: [B, H, C] int64.
        mask: [B, H] bool, False for padding.

    Returns:
        [B, N, C] float32; 0 where the history is empty.
    """
    shape, length = tf.shape(candidates), tf.shape(history)[1]
    history *= tf.cast(mask, history.dtype)[..., None]
    ordered = tf.sort(tf.reshape(tf.transpose(history, [0, 2, 1]), [shape[0] * shape[2], length]))
    wanted = tf.reshape(tf.transpose(candidates, [0, 2, 1]), [shape[0] * shape[2], shape[1]])
    # tf.searchsorted takes no rows of length 0.
    below, up_to = (
        bound(sorted_inputs=ordered, values=wanted) for bound in (tf.raw_ops.LowerBound, tf.raw_ops.UpperBound)
    )
    equal = tf.transpose(tf.reshape(up_to - below, [shape[0], candidates.shape[2], shape[1]]), [0, 2, 1])
    clicks = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
    return tf.where(candidates != 0, tf.cast(equal, tf.float32), 0.0) / tf.maximum(clicks, 1.0)


def repeat_statistics(candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor, repeats: int) -> tf.Tensor:
    """The statistics of each candidate.

    Args:
        candidates: [B, N, R + C] int64; 0 for no value. The first R are the key of the item and the values of repeat
            columns, the others codes of item columns.
        history: [B, H, R + C] int64, those of history items.
        mask: [B, H] bool, False for padding.
        repeats: R.

    Returns:
        [B, N, 3 R + 2 C + 2] float32: whether there is a repeat [R]; the shares of the history [R + C]; their square
        roots [R + C]; log(1 + length of the history); whether there is a history.
    """
    share = share_of_equals(candidates, history, mask)
    is_repeat = tf.cast(share[..., :repeats] > 0, tf.float32)
    length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
    of_row = tf.concat([tf.math.log1p(length), tf.minimum(length, 1.0)], axis=2)
    return tf.concat([is_repeat, share, tf.sqrt(share), tf.repeat(of_row, tf.shape(share)[1], axis=1)], axis=2)
