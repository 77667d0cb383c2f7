"""The loss of two views of each photo, shared by SimCLR and SimCSE."""

import tensorflow as tf

from courier_tf.pretrain.contrastive import contrastive_loss, softmax_weights
from courier_tf.pretrain.objectives.objective import Terms, everywhere, first_place, total


def pair_loss(embeddings: tf.Tensor, items: tf.Tensor, temperature: float) -> Terms:
    """Each view of a photo finds the other one among both views of all photos of the global batch (NT-Xent).

    Args:
        embeddings: [2 U, D] unit vectors, the first views, then the second ones.
        items: [U] int, items by number; 0 is padding, neither target nor candidate.
        temperature: of the softmax.

    Further views of a target's item are no negatives: another replica may hold the same photo.
    """
    rows = tf.shape(items)[0]
    both = tf.concat([items, items], axis=0)
    first, candidates, all_items = first_place(2 * rows), everywhere(embeddings), everywhere(both)
    real = both > 0
    other = first + tf.concat([tf.range(rows, 2 * rows), tf.range(rows)], axis=0)
    positive = tf.boolean_mask(other, real)
    counts = tf.cast(all_items > 0, tf.float32)
    weights = softmax_weights(positive, counts, all_items, positive_counted=True, accidental_negatives=False)
    result = contrastive_loss(tf.boolean_mask(embeddings, real), positive, candidates, weights, temperature)
    number = tf.math.count_nonzero(both, dtype=tf.float32)
    targets = total(number)
    gauges = {
        "positive_probability": result.positive_probability / targets,
        "recall@1": result.hits / targets,
        "targets": number,
    }
    return Terms(result.loss / targets, gauges)
