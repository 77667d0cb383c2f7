"""The first steps of the ranker: ids become rows and codes of the catalogue, and training hides some of the ids."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from courier_tf.ranking.catalogue import CatalogueLookup, ValueCodes

REPLICA_SEEDS = 65_536  # Replicas that draw numbers of their own.

Features = Mapping[str, tf.Tensor]
"""user_id [B], history_item_ids [B, H], item_id [B, N]: strings; "" is padding of a history. Context columns: [B]."""


class Lookups(NamedTuple):
    """B users with N candidates each, and their histories of H items, in the numbers of the catalogue."""

    users: tf.Tensor
    """[B] int32: user codes."""
    candidates: tf.Tensor
    """[B, N] int32: rows of the catalogue."""
    candidate_codes: tf.Tensor
    """[B, N, columns] int32."""
    history: tf.Tensor
    """[B, H] int32: rows of the catalogue."""
    history_codes: tf.Tensor
    """[B, H, columns] int32."""
    mask: tf.Tensor
    """[B, H] bool: False for padding."""
    cosines: tf.Tensor | None = None
    """[B, N, H] float32: cosines of the embeddings of candidates and history items, where they are known already."""


def look_up(features: Features, catalogue: CatalogueLookup, user_codes: ValueCodes) -> Lookups:
    """Looks up the ids of users, candidates and histories."""
    candidates, history = catalogue(features["item_id"]), catalogue(features["history_item_ids"])
    return Lookups(
        users=user_codes(features["user_id"]),
        candidates=candidates,
        candidate_codes=tf.gather(catalogue.codes, candidates),
        history=history,
        history_codes=tf.gather(catalogue.codes, history),
        mask=features["history_item_ids"] != "",
    )


def shown_parts(pairs: tf.Tensor, unknown_rate: float, seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Draws what training shows to the ranker. The same seed, step and replica draw the same.

    Args:
        pairs: int32, the number B of pairs.
        unknown_rate: share of users, of items and of visual features to hide.
        seed: int64, of the training.
        step: int64, number of the training step.

    Returns:
        [3, B] int32: 1 where the user's id, the candidate's id, and the visual features are shown; 0 where hidden.
    """
    replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
    seeds = tf.stack([tf.cast(seed, tf.int64) * REPLICA_SEEDS + replica, step])
    ids = tf.random.stateless_uniform([2, pairs], seeds) >= unknown_rate
    # Of seeds of their own, so that the ids are those that a ranker without visual features hides.
    images = tf.random.stateless_uniform([1, pairs], -1 - seeds) >= unknown_rate
    return tf.cast(tf.concat([ids, images], axis=0), tf.int32)


def shown_columns(pairs: tf.Tensor, unknown_rate: float, seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Draws which pairs show their context and their user's columns, so that a ranker learns to do without.

    The draws are of seeds of their own, so that a ranker with such columns hides the same ids as one without.

    Args:
        pairs, unknown_rate, seed, step: those of `shown_parts`.

    Returns:
        [2, B] int32: 1 where the context, and where the columns of the user are shown; 0 where hidden.
    """
    replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
    first = tf.cast(seed, tf.int64) * REPLICA_SEEDS + replica
    draws = [
        tf.random.stateless_uniform([pairs], tf.stack(seeds)) for seeds in ((first, -1 - step), (-1 - first, step))
    ]
    return tf.cast(tf.stack(draws) >= unknown_rate, tf.int32)


def hide_ids(lookups: Lookups, shown: tf.Tensor, item_column: int) -> Lookups:
    """Turns hidden users and items into unknown ones, so that training learns the embedding of the unknown.

    Args:
        lookups: of B pairs.
        shown: [3, B] int32, as `shown_parts` gives it.
        item_column: the code column that holds the item itself. The other columns of a hidden item stay.
    """
    is_item = tf.one_hot(item_column, lookups.candidate_codes.shape[2], dtype=tf.int32)
    return lookups._replace(
        users=lookups.users * shown[0],
        candidate_codes=lookups.candidate_codes * (1 - is_item * (1 - shown[1][:, None, None])),
    )


def split_by_history(features: Features, others: Sequence[str] = ()) -> list[tuple[tf.Tensor, Features]]:
    """Splits pairs into those with a history, whose padding is cut off, and those without one.

    In a log most histories are shorter than the longest, and many users have none: computing them apart saves time.

    Args:
        features: of B pairs; item_id is [B].
        others: names of further features [B] to keep.

    Returns:
        For each of the two groups ([n] int32 rows of its pairs, their features with item_id [n, 1]).
    """
    rows = [tf.shape(features[name])[0] for name in ("user_id", "item_id", "history_item_ids", *others)]
    # The history says which rows are gathered: further rows of the others would go unnoticed.
    tf.debugging.assert_equal(rows, rows[0], "users, items, histories and contexts differ in their number of rows")
    length = tf.shape(features["history_item_ids"])[1]
    filled = tf.reduce_max(tf.range(1, length + 1) * tf.cast(features["history_item_ids"] != "", tf.int32), axis=1)
    groups: list[tuple[tf.Tensor, Features]] = []
    for group in (filled > 0, filled <= 0):
        place = tf.cast(tf.where(group)[:, 0], tf.int32)
        longest = tf.maximum(0, tf.reduce_max(tf.gather(filled, place)))
        part = {
            **{name: tf.gather(features[name], place) for name in others},
            "user_id": tf.gather(features["user_id"], place),
            "history_item_ids": tf.gather(features["history_item_ids"], place)[:, :longest],
            "item_id": tf.gather(features["item_id"], place)[:, None],
        }
        groups.append((place, part))
    return groups
