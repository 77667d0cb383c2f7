"""A history must hold the past alone: what a user clicks later tells what the user clicks now."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf import records, schema

IMPRESSIONS, PAGE_VIEWS = 65_536, 1024  # Read at a time; page views may hold photos.


class LeakageError(ValueError):
    """A record knows what was later."""


def require_past_histories(ingest: Path, splits: Sequence[str]) -> None:
    """Refuses impressions with an item in their history that the same user had not clicked strictly before.

    Every click is an impression, too, so the first click of each user on each item is known from the records alone.
    Users and items are compared by a hash of 63 bits.

    Args:
        ingest: directory of the ingest stage.
        splits: the first ones of `schema.SPLITS`: a history of one may hold clicks of those before it.

    Raises:
        LeakageError: there is such an impression; names folder, split, page view, user and item.
    """
    clicks = _Clicks.of(ingest, splits)
    for split in splits:
        for row in _impressions(ingest, split):
            clicks.require(row, 0, f"{ingest / schema.IMPRESSIONS_FOLDER}, split {split}")


def require_past_page_views(ingest: Path, log_order: bool) -> None:
    """The same of the page views that pre-training learns from, held against the clicks of the train impressions.

    Args:
        ingest: directory of the ingest stage.
        log_order: whether it was run with `history_ties` of that name, so that clicks at the time of a page view may
            stand in its history. In which order they came the records do not tell.

    Raises:
        LeakageError: as above.
    """
    clicks = _Clicks.of(ingest, ["train"])
    files = records.files(ingest / schema.PAGE_VIEWS_FOLDER, "train")
    for batch in tf.data.TFRecordDataset(files).batch(PAGE_VIEWS).prefetch(1):
        row = records.parse(batch, schema.PAGE_VIEW_FEATURES)
        clicks.require(row, int(log_order), f"{ingest / schema.PAGE_VIEWS_FOLDER}, split train")


class _Clicks(NamedTuple):
    """The first click of each user on each item.

    Attributes:
        pairs: [K] int64, sorted: of user and item.
        seconds: [K] int64, when.
    """

    pairs: np.ndarray
    seconds: np.ndarray

    @classmethod
    def of(cls, ingest: Path, splits: Sequence[str]) -> "_Clicks":
        pairs, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for split in splits:
            for row in _impressions(ingest, split):
                clicked = row["clicked"].numpy() > 0
                pairs.append(_pairs(row["user_id"], row["item_id"])[clicked])
                times.append(row["timestamp"].numpy()[clicked])
        pair, time = np.concatenate(pairs), np.concatenate(times)
        order = np.lexsort((time, pair))
        known, first = np.unique(pair[order], return_index=True)
        return cls(known, time[order][first])

    def require(self, row: Mapping[str, tf.Tensor], allowance: int, where: str) -> None:
        """Refuses rows whose history holds an item that was not clicked before their time and `allowance` seconds."""
        history = row["history_item_ids"]
        owner = history.value_rowids().numpy()
        asked = _pairs(tf.gather(row["user_id"], owner), history.flat_values)
        if not len(asked):
            return
        past = np.zeros(len(asked), bool)
        if len(self.pairs):
            place = np.minimum(np.searchsorted(self.pairs, asked), len(self.pairs) - 1)
            past = (self.pairs[place] == asked) & (self.seconds[place] < row["timestamp"].numpy()[owner] + allowance)
        if not past.all():
            wrong = int(np.argmin(past))
            names = {name: row[name].numpy()[owner[wrong]].decode() for name in ("page_view_id", "user_id")}
            item = history.flat_values.numpy()[wrong].decode()
            raise LeakageError(
                f"{where}: the history of page view {names['page_view_id']} holds item {item}, "
                f"which user {names['user_id']} had not clicked before it ({(~past).sum()} such)"
            )


def _impressions(ingest: Path, split: str) -> Iterator[dict[str, tf.Tensor]]:
    files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
    for batch in tf.data.TFRecordDataset(files).batch(IMPRESSIONS).prefetch(1):
        yield records.parse(batch, schema.IMPRESSION_FEATURES)


def _pairs(users: tf.Tensor, items: tf.Tensor) -> np.ndarray:
    """[N] int64, one number for each pair of user and item."""
    return tf.strings.to_hash_bucket_fast(tf.strings.join([users, items], separator="\0"), 2**63 - 1).numpy()
