"""A history must hold the past alone: what a user clicks later tells what the user clicks now."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import records, schema
from courier_tf.ranking.data import RankingError

ROWS = 65_536


def require_past_histories(ingest: Path, splits: Sequence[str]) -> None:
    """Refuses impressions with an item in their history that the same user had not clicked strictly before.

    Every click is an impression, too, so the first click of each user on each item is known from the records alone.
    Users and items are compared by a hash of 63 bits.

    Args:
        ingest: directory of the ingest stage.
        splits: the first ones of `schema.SPLITS`: a history of one may hold clicks of those before it.

    Raises:
        RankingError: there is such an impression; names split, page view, user and item.
    """
    pairs, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for split in splits:
        for row in _rows(ingest, split):
            clicked = row["clicked"].numpy() > 0
            pairs.append(_pairs(row["user_id"], row["item_id"])[clicked])
            times.append(row["timestamp"].numpy()[clicked])
    pair, time = np.concatenate(pairs), np.concatenate(times)
    order = np.lexsort((time, pair))
    known, first = np.unique(pair[order], return_index=True)
    first_click = time[order][first]
    for split in splits:
        for row in _rows(ingest, split):
            history = row["history_item_ids"]
            owner = history.value_rowids().numpy()
            asked = _pairs(tf.gather(row["user_id"], owner), history.flat_values)
            if not len(asked):
                continue
            place = np.minimum(np.searchsorted(known, asked), max(len(known) - 1, 0))
            past = np.zeros(len(asked), bool)
            if len(known):
                past = (known[place] == asked) & (first_click[place] < row["timestamp"].numpy()[owner])
            if not past.all():
                wrong = int(np.argmin(past))
                names = {name: row[name].numpy()[owner[wrong]].decode() for name in ("page_view_id", "user_id")}
                item = history.flat_values.numpy()[wrong].decode()
                raise RankingError(
                    f"{ingest}, split {split}: the history of page view {names['page_view_id']} holds item {item}, "
                    f"which user {names['user_id']} had not clicked before it ({(~past).sum()} such)"
                )


def _rows(ingest: Path, split: str) -> Iterator[dict[str, tf.Tensor]]:
    files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
    for batch in tf.data.TFRecordDataset(files).batch(ROWS).prefetch(1):
        yield records.parse(batch, schema.IMPRESSION_FEATURES)


def _pairs(users: tf.Tensor, items: tf.Tensor) -> np.ndarray:
    """[N] int64, one number for each pair of user and item."""
    return tf.strings.to_hash_bucket_fast(tf.strings.join([users, items], separator="\0"), 2**63 - 1).numpy()
