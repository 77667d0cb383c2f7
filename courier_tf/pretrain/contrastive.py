"""The contrastive loss over the global batch (paper, 3.3), as pure functions of tensors."""

from typing import NamedTuple

import tensorflow as tf


class ContrastiveLoss(NamedTuple):
    """Sums over this replica's targets: divide by the global number of targets."""

    loss: tf.Tensor  # Scalar float32.
    positive_probability: tf.Tensor  # Scalar float32: the softmax probability of the clicked item.
    found: tf.Tensor  # Scalar float32: targets whose own item scores highest among the candidates.


def targets(clicked: tf.Tensor, page_view_items: tf.Tensor, history_items: tf.Tensor, history_mask: tf.Tensor):
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


def contrastive_loss(
    reconstructions: tf.Tensor,
    target_mask: tf.Tensor,
    target_positions: tf.Tensor,
    candidates: tf.Tensor,
    candidate_mask: tf.Tensor,
    candidate_items: tf.Tensor,
    temperature: float,
) -> ContrastiveLoss:
    """-log softmax_a(<e_a, r_b> / tau) at a = b, summed over this replica's targets b.

    An accidental negative (the target's own item in another slot) and a padded slot are no negatives.

    Args:
        reconstructions: [M, D], this replica's page-view slots; made unit vectors here.
        target_mask: [M] bool.
        target_positions: [M] int, where each slot stands among the candidates.
        candidates: [N, D] unit vectors, every page-view slot of the global batch.
        candidate_mask: [N] bool, False where padded.
        candidate_items: [N] int, items by number.
        temperature: tau.

    Returns:
        Sums over the targets; zeros (not NaN) where there is none.
    """
    rebuilt = tf.math.l2_normalize(tf.cast(reconstructions, tf.float32), axis=-1)
    logits = tf.matmul(rebuilt, tf.cast(candidates, tf.float32), transpose_b=True) / temperature
    own = target_positions[:, None] == tf.range(tf.shape(candidates)[0], dtype=target_positions.dtype)[None, :]
    accidental = tf.gather(candidate_items, target_positions)[:, None] == candidate_items[None, :]
    logits = tf.where(own | (candidate_mask[None, :] & ~accidental), logits, -1e9)
    positive = tf.gather(logits, target_positions, axis=1, batch_dims=1)
    log_probability = positive - tf.reduce_logsumexp(logits, axis=1)
    weight = tf.cast(target_mask, tf.float32)
    found = tf.cast(positive >= tf.reduce_max(logits, axis=1), tf.float32)
    return ContrastiveLoss(
        loss=-tf.reduce_sum(weight * log_probability),
        positive_probability=tf.reduce_sum(weight * tf.exp(log_probability)),
        found=tf.reduce_sum(weight * found),
    )
