"""Embeddings of ids that are drawn anew between the passes of a training."""

from typing import Any

import tensorflow as tf

from courier_tf.ranking.model import Ranker


def redraw_ids(ranker: Ranker, seed: int) -> None:
    """Draws the embeddings of users and items anew, and forgets Adam's moments of them (MEDA, arXiv 2407.01607).

    Each pass then has embeddings that have seen no row before. What comes after them goes on learning. The embeddings
    of columns, of cluster IDs and of whatever has a meaning of its own stay.

    Args:
        ranker: compiled.
        seed: the same seed draws the same.
    """
    given: Any = ranker.optimizer
    optimizer = getattr(given, "inner_optimizer", given)  # Of an optimizer with a loss scale.
    for place, layer in enumerate((ranker.user_embedding, ranker.embeddings[ranker.item_column])):
        table = layer.embeddings
        table.assign(tf.random.stateless_uniform(table.shape, [seed, place], -0.05, 0.05))  # As Keras begins.
        for moment in ("m", "v"):
            slot = optimizer.get_slot(table, moment)
            slot.assign(tf.zeros_like(slot))
