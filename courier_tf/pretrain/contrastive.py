"""The contrastive loss over the global batch (paper, 3.3), as pure functions of tensors.

The candidates are the items of the batch, each once, with the number of page-view slots that show it: the loss is that
over all slots, at a fraction of the size.
"""

from typing import NamedTuple

import tensorflow as tf

NOWHERE = -1e9  # Logit of what is no candidate. (An infinity would turn into NaN on the way back.)


class ContrastiveLoss(NamedTuple):
    """Sums over this replica's targets: divide by the global number of targets."""

    loss: tf.Tensor  # Scalar float32.
    positive_probability: tf.Tensor  # Scalar float32: the softmax probability of the clicked item.
    found: tf.Tensor  # Scalar float32: targets whose own item scores highest among the candidates.


def targets(
    clicked: tf.Tensor, page_view_items: tf.Tensor, history_items: tf.Tensor, history_mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Which slots are rebuilt: clicked, with a history, and not in it (copying would solve those).

    Args:
        clicked: [B, P] bool, False where padded.
        page_view_items: [B, P] int, items by number.
        history_items: [B, H] int.
        history_mask: [B, H] bool.

    Returns:
        ([B, P] bool targets, [B, P] bool clicked slots dropped because the item stands in the history).
    """
    same = (page_view_items[:, :, None] == history_items[:, None, :]) & history_mask[:, None, :]
    copied = tf.reduce_any(same, axis=2) & clicked
    has_history = tf.reduce_any(history_mask, axis=1)
    return clicked & has_history[:, None] & ~copied, copied


def slot_counts(places: tf.Tensor, counted: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """[candidates] float32: how many slots show each candidate.

    Args:
        places: [slots] int, the candidate that each slot shows.
        counted: [slots] bool.
        candidates: scalar int, their number.
    """
    return tf.math.unsorted_segment_sum(tf.cast(counted, tf.float32), places, candidates)


def grouped_slot_counts(
    places: tf.Tensor, counted: tf.Tensor, candidates: tf.Tensor, groups: tf.Tensor, target_groups: tf.Tensor
) -> tf.Tensor:
    """[M, candidates] float32: `slot_counts` over the slots of other groups than the target's own.

    Args:
        places, counted, candidates: as in `slot_counts`.
        groups: [slots] int, say the user or the day of each slot's page view.
        target_groups: [M] int.
    """
    other = (groups[:, None] != target_groups[None, :]) & counted[:, None]
    return tf.transpose(tf.math.unsorted_segment_sum(tf.cast(other, tf.float32), places, candidates))


def softmax_weights(
    own: tf.Tensor, counts: tf.Tensor, items: tf.Tensor, *, own_counted: bool, accidental_negatives: bool
) -> tf.Tensor:
    """[M, N] float32: how often each candidate stands in the denominator of each target; its own slot counts once.

    Args:
        own: [M] int, the candidate that each target is.
        counts: [N] or [M, N] float32, slots that show each candidate.
        items: [N] int, items by number.
        own_counted: whether the target's own slot is among those of `counts`.
        accidental_negatives: whether other slots with the target's own item are negatives (paper, appendix 5).
    """
    is_own = tf.one_hot(own, tf.shape(items)[0])
    negatives = tf.broadcast_to(counts, tf.shape(is_own))
    if own_counted:
        negatives = negatives - is_own
    if not accidental_negatives:
        negatives = tf.where(tf.gather(items, own)[:, None] == items[None, :], 0.0, negatives)
    return negatives + is_own


def contrastive_loss(
    rebuilt: tf.Tensor, own: tf.Tensor, candidates: tf.Tensor, weights: tf.Tensor, temperature: float
) -> ContrastiveLoss:
    """-log softmax_a(<e_a, r_b> / tau) at a = b, summed over this replica's targets b.

    Args:
        rebuilt: [M, D] reconstructions of the targets; made unit vectors here.
        own: [M] int, the candidate that each target is.
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
    positive = tf.gather(logits, own, axis=1, batch_dims=1)
    log_probability = positive - tf.reduce_logsumexp(weighted, axis=1)
    best = tf.reduce_max(tf.where(present, logits, NOWHERE), axis=1)
    return ContrastiveLoss(
        loss=-tf.reduce_sum(log_probability),
        positive_probability=tf.reduce_sum(tf.exp(log_probability)),
        found=tf.reduce_sum(tf.cast(positive >= best, tf.float32)),
    )
