"""The loss within a page view that is trained beside cross entropy: joint ranking and calibration (JRC)."""

import tensorflow as tf


def listwise_loss(log_odds: tf.Tensor, level: tf.Tensor, clicked: tf.Tensor, page_views: tf.Tensor) -> tf.Tensor:
    """The contextual loss of JRC (Sheng et al., KDD 2023, arXiv 2208.06164), summed over the rows.

    A row has a logit of a click and one of no click, whose difference is its log odds and whose mean is its level. Each
    row is compared, by the logit of its own label, with the rows of its page view: the loss is the negative log of its
    softmax among them. A page view of one row adds 0.

    Args:
        log_odds: [B] float32, log odds of a click.
        level: [B] float32, mean of the two logits.
        clicked: [B] float32, 0 or 1.
        page_views: [B], what names the page view of each row.

    Returns:
        Scalar float32.
    """
    rows, (of_names, view) = tf.shape(log_odds)[0], tf.unique(page_views)
    logits = tf.stack([level - log_odds / 2, level + log_odds / 2])
    names = tf.shape(of_names)[0]
    views = tf.stack([view, view + names])  # Each label has its own softmax.
    highest = tf.math.unsorted_segment_max(tf.stop_gradient(logits), views, 2 * names)
    sums = tf.math.unsorted_segment_sum(tf.exp(logits - tf.gather(highest, views)), views, 2 * names)
    place_of_label = tf.stack([tf.cast(clicked, tf.int32), tf.range(rows)], axis=1)
    chosen = tf.gather_nd(views, place_of_label)
    return tf.reduce_sum(
        tf.math.log(tf.gather(sums, chosen)) + tf.gather(highest, chosen) - tf.gather_nd(logits, place_of_label)
    )
