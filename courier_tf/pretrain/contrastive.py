"""The contrastive loss over the global batch (paper, 3.3), as pure functions of tensors.

The candidates are the items of the batch, each once, weighted by the number of page-view slots that show it. So the
loss equals that over all slots, at a fraction of the size.
"""

from typing import NamedTuple

import tensorflow as tf

NOWHERE = -1e9  # Logit of an item that is no candidate. An infinity would make the gradient NaN.


class ContrastiveLoss(NamedTuple):
    """Sums over this replica's targets. Divide them by the global number of targets."""

    loss: tf.Tensor  # Scalar float32.
    positive_probability: tf.Tensor  # Scalar float32: the softmax probability of the clicked item.
    hits: tf.Tensor  # Scalar float32: targets whose clicked item scores highest among the candidates.


def targets(
    clicked: tf.Tensor, page_view_items: tf.Tensor, history_items: tf.Tensor, history_mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Which slots are targets: clicked, in a row with a history that does not hold the item itself.

    Copying would solve a target that stands in its history.

    Args:
        clicked: [B, P] bool, False where padded.
        page_view_items: [B, P] int, items by number.
        history_items: [B, H] int.
        history_mask: [B, H] bool.

    Returns:
        ([B, P] bool: the targets; [B, P] bool: clicked slots that are none because their history holds the item).
    """
    same = (page_view_items[:, :, None] == history_items[:, None, :]) & history_mask[:, None, :]
    copied = tf.reduce_any(same, axis=2) & clicked
    has_history = tf.reduce_any(history_mask, axis=1)
    return clicked & has_history[:, None] & ~copied, copied


def slot_counts(places: tf.Tensor, counted: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """How many slots show each candidate, [candidates] float32.

    Args:
        places: [slots] int, the candidate that each slot shows.
        counted: [slots] bool.
        candidates: scalar int, their number.
    """
    return tf.math.unsorted_segment_sum(tf.cast(counted, tf.float32), places, candidates)


def grouped_slot_counts(
    places: tf.Tensor, counted: tf.Tensor, candidates: tf.Tensor, groups: tf.Tensor, target_groups: tf.Tensor
) -> tf.Tensor:
    """`slot_counts` over the slots of other groups than the target's, for each target: [M, candidates] float32.

    Args:
        places, counted, candidates: as in `slot_counts`.
        groups: [slots] int, for example the user or the day of each slot's page view.
        target_groups: [M] int, the group of each target.
    """
    other = (groups[:, None] != target_groups[None, :]) & counted[:, None]
    return tf.transpose(tf.math.unsorted_segment_sum(tf.cast(other, tf.float32), places, candidates))


def softmax_weights(
    positive: tf.Tensor, counts: tf.Tensor, items: tf.Tensor, *, positive_counted: bool, accidental_negatives: bool
) -> tf.Tensor:
    """How often each candidate stands in the denominator of each target, [M, N] float32. The positive counts once.

    Args:
        positive: [M] int, the candidate that is each target's clicked item.
        counts: [N] or [M, N] float32, slots that show each candidate.
        items: [N] int, items by number.
        positive_counted: whether the target's own slot is among those of `counts`.
        accidental_negatives: whether other slots with the clicked item are negatives (paper, appendix 5).
    """
    is_positive = tf.one_hot(positive, tf.shape(items)[0])
    negatives = tf.broadcast_to(counts, tf.shape(is_positive))
    if positive_counted:
        negatives = negatives - is_positive
    if not accidental_negatives:
        negatives = tf.where(tf.gather(items, positive)[:, None] == items[None, :], 0.0, negatives)
    return negatives + is_positive


def contrastive_loss(
    rebuilt: tf.Tensor, positive: tf.Tensor, candidates: tf.Tensor, weights: tf.Tensor, temperature: float
) -> ContrastiveLoss:
    """-log softmax_a(<e_a, r_b> / tau) at a = b, summed over this replica's targets b.

    >>> items = tf.eye(3)  # Three candidates at right angles to each other.
    >>> sums = contrastive_loss(items[:1], tf.constant([0]), items, tf.ones([1, 3]), temperature=0.1)
    >>> round(float(sums.positive_probability), 4), float(sums.hits)
    (0.9999, 1.0)

    Args:
        rebuilt: [M, D] reconstructions of the targets; made unit vectors here.
        positive: [M] int, the candidate that is each target's clicked item.
        candidates: [N, D] unit vectors of the global batch.
        weights: [M, N] float32, how often a candidate stands in a target's denominator; 0 where it does not.
        temperature: tau.

    Returns:
        Sums over the targets; zeros (not NaN) where there is none.
    """
    rebuilt = tf.math.l2_normalize(tf.cast(rebuilt, tf.float32), axis=-1)
    logits = tf.matmul(rebuilt, tf.cast(candidates, tf.float32), transpose_b=True) / temperature
    present = weights > 0
    weighted = tf.where(present, logits + tf.math.log(tf.where(present, weights, 1.0)), NOWHERE)
    positive_logit = tf.gather(logits, positive, axis=1, batch_dims=1)
    log_probability = positive_logit - tf.reduce_logsumexp(weighted, axis=1)
    best = tf.reduce_max(tf.where(present, logits, NOWHERE), axis=1)
    return ContrastiveLoss(
        loss=-tf.reduce_sum(log_probability),
        positive_probability=tf.reduce_sum(tf.exp(log_probability)),
        hits=tf.reduce_sum(tf.cast(positive_logit >= best, tf.float32)),
    )
