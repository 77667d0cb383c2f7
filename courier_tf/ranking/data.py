"""Impressions as a stream of batches, and the error of this package."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from courier_tf import schema
from courier_tf.workdir import records

WHOLE_FILE = 2**40  # Rows; more than a file has.
SHUFFLE_ROWS, SHUFFLE_PAGE_VIEWS = 65_536, 8_192


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


def _page_views_of(file: tf.Tensor) -> tf.data.Dataset:
    """The page views of a file, in the order of their first impressions: [n] serialised impressions each.

    All impressions of a page view are in one file, in any order.
    """

    def grouped(serialised: tf.Tensor) -> tf.data.Dataset:
        feature = {"page_view_id": tf.io.FixedLenFeature([], tf.string)}
        _, view = tf.unique(tf.io.parse_example(serialised, feature)["page_view_id"])
        order = tf.argsort(view, stable=True)
        rows = tf.RaggedTensor.from_value_rowids(tf.gather(serialised, order), tf.gather(view, order))
        return tf.data.Dataset.from_tensor_slices(rows)

    return tf.data.TFRecordDataset(file).batch(WHOLE_FILE).flat_map(grouped)


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
    by_page_view: bool = False,
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
        by_page_view: keep the impressions of a page view next to each other, and shuffle page views. A file is then
            held in memory as a whole.
    """
    files = tf.data.Dataset.from_tensor_slices(records.files(ingest / schema.IMPRESSIONS_FOLDER, split))
    read = _page_views_of if by_page_view else tf.data.TFRecordDataset
    dataset = files.interleave(read, cycle_length=4, num_parallel_calls=4, deterministic=True)
    if seed is not None:
        dataset = dataset.shuffle(SHUFFLE_PAGE_VIEWS if by_page_view else SHUFFLE_ROWS, seed=seed)
    if by_page_view:
        dataset = dataset.unbatch()
    dataset = dataset.batch(batch_size, drop_remainder=seed is not None)
    dataset = dataset.skip(skip_batches).shard(shard[1], shard[0])
    return dataset.map(
        lambda batch: _features(batch, history_length, context_columns),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).prefetch(tf.data.AUTOTUNE)
