"""Impressions as a stream of batches, and the error of this package."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from courier_tf import schema
from courier_tf.workdir import records

SHUFFLE_ROWS = 65_536


class RankingError(ValueError):
    """The ranker cannot be trained or measured as asked."""


def _features(
    serialised: tf.Tensor, history_length: int | None, context_columns: Sequence[str]
) -> dict[str, tf.Tensor]:
    row = records.parse(serialised, schema.impression_features(context_columns))
    history = records.last_items(row["history_item_ids"], history_length)
    return {
        "user_id": row["user_id"],
        "history_item_ids": history,
        "item_id": row["item_id"],
        "clicked": row["clicked"],
        "page_view_id": row["page_view_id"],
        **{column: row[schema.context_feature(column)] for column in context_columns},
    }


def impression_batches(
    ingest: Path,
    split: str,
    *,
    history_length: int | None,
    batch_size: int,
    seed: int | None = None,
    skip_batches: int = 0,
    shard: tuple[int, int] = (0, 1),
    context_columns: Sequence[str] = (),
) -> tf.data.Dataset:
    """One pass over the impressions of a split, in batches of `Ranker` features.

    Args:
        ingest: directory of the ingest stage.
        split: train, valid or test.
        history_length: number of most recent history items; None takes all that ingest kept.
        batch_size: impressions per batch.
        seed: shuffles the impressions, and drops the last, smaller batch. None reads the files in turns, always in the
            same order.
        skip_batches: batches to skip at the start, because an interrupted training has had them.
        shard: (index, number) of this worker among all. Each takes its batches of the same stream, so that a step has
            the same impressions however many workers there are.
        context_columns: columns of the events to read, each a feature of its name.
    """
    files = tf.data.Dataset.from_tensor_slices(records.files(ingest / schema.IMPRESSIONS_FOLDER, split))
    dataset = files.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=4, deterministic=True)
    if seed is not None:
        dataset = dataset.shuffle(SHUFFLE_ROWS, seed=seed)
    dataset = dataset.batch(batch_size, drop_remainder=seed is not None)
    dataset = dataset.skip(skip_batches).shard(shard[1], shard[0])
    return dataset.map(
        lambda batch: _features(batch, history_length, context_columns),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).prefetch(tf.data.AUTOTUNE)
