"""A history must hold the past alone: what a user clicks later tells what the user clicks now."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.workdir import records

IMPRESSIONS, PAGE_VIEWS = 65_536, 1024  # Read at a time; page views may hold photos.


class LeakageError(ValueError):
    """A record knows what was later."""


def require_past_histories(ingest: Path, splits: Sequence[str]) -> None:
    """Refuses impressions whose history holds an item more often than the same user had clicked it strictly before.

    Every click is an impression, too, so the records alone tell all clicks of each user on each item. The time of a
    click is that of its page view, which may have begun a while before the click. Users and items are compared by a
    hash of 63 bits.

    Args:
        ingest: directory of the ingest stage.
        splits: the first splits of `schema.SPLITS`. A history of a split may hold clicks of the splits before it.

    Raises:
        LeakageError: there is such an impression; the message names folder, split, page view, user and item.
    """
    clicks = _Clicks.of(ingest, splits)
    for split in splits:
        for row in _impressions(ingest, split):
            clicks.require(row, 0, f"{ingest / schema.IMPRESSIONS_FOLDER}, split {split}")


def require_past_page_views(ingest: Path, log_order: bool) -> None:
    """Refuses page views whose history holds more clicks of the user on an item than there were before.

    The clicks are those of the train impressions.

    Args:
        ingest: directory of the ingest stage.
        log_order: whether the ingest ran with `history_ties=log_order`. Then clicks at the time of a page view may
            stand in its history. The records do not tell in which order these came.

    Raises:
        LeakageError: there is such a page view; the message names folder, page view, user and item.
    """
    clicks = _Clicks.of(ingest, ["train"])
    files = records.files(ingest / schema.PAGE_VIEWS_FOLDER, "train")
    for batch in tf.data.TFRecordDataset(files).batch(PAGE_VIEWS).prefetch(1):
        row = records.parse(batch, schema.PAGE_VIEW_FEATURES)
        clicks.require(row, int(log_order), f"{ingest / schema.PAGE_VIEWS_FOLDER}, split train")


class _Clicks(NamedTuple):
    """The clicks of each user on each item, so that those before a time can be counted.

    Attributes:
        pairs: [K] int64, sorted: hash of a user and an item.
        begins: [K] int: place of the first click of a pair in `keys`.
        keys: [C] int64, sorted: for each click, `span` times the number of its pair plus the seconds since `start`.
        start: time of the first click, seconds (UTC).
        span: seconds from the first click to the last one, both included.
    """

    pairs: np.ndarray
    begins: np.ndarray
    keys: np.ndarray
    start: int
    span: int

    @classmethod
    def of(cls, ingest: Path, splits: Sequence[str]) -> "_Clicks":
        pairs, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for split in splits:
            for row in _impressions(ingest, split):
                clicked = row["clicked"].numpy() > 0
                pairs.append(_pairs(row["user_id"], row["item_id"])[clicked])
                times.append(row["timestamp"].numpy()[clicked])
        pair, time = np.concatenate(pairs), np.concatenate(times)
        start, span = (int(time.min()), int(np.ptp(time)) + 1) if len(time) else (0, 1)
        known, number = np.unique(pair, return_inverse=True)
        keys = np.sort(span * number + time - start)
        return cls(known, np.searchsorted(keys, span * np.arange(len(known))), keys, start, span)

    def require(self, row: Mapping[str, tf.Tensor], allowance: int, where: str) -> None:
        """Refuses rows whose history holds an item more often than the user had clicked it before.

        Args:
            row: parsed records.
            allowance: seconds after the time of a row whose clicks count as before it.
            where: folder and split, for the message.
        """
        history = row["history_item_ids"]
        owner = history.value_rowids().numpy().astype(np.int64)  # int32 is too small for pairs of a row and an item.
        asked = _pairs(tf.gather(row["user_id"], owner), history.flat_values)
        place = np.searchsorted(self.pairs, asked)
        known = np.append(self.pairs, -1)[place] == asked
        copies, clicks = np.ones(len(asked), int), np.zeros(len(asked), int)
        place, known_owner = place[known], owner[known]
        time = np.clip(row["timestamp"].numpy()[known_owner] + allowance - self.start, 0, self.span)
        clicks[known] = np.searchsorted(self.keys, self.span * place + time) - self.begins[place]
        _, same, count = np.unique(known_owner * len(self.pairs) + place, return_inverse=True, return_counts=True)
        copies[known] = count[same]
        wrong = np.flatnonzero(copies > clicks)
        if len(wrong):
            first = wrong[0]
            names = {name: printable(row[name].numpy()[owner[first]]) for name in ("page_view_id", "user_id")}
            item = printable(history.flat_values.numpy()[first])
            raise LeakageError(
                f"{where}: the history of page view {names['page_view_id']} holds item {item} more often than user "
                f"{names['user_id']} had clicked it before: {copies[first]} > {clicks[first]} ({len(wrong)} such)"
            )


def _impressions(ingest: Path, split: str) -> Iterator[dict[str, tf.Tensor]]:
    files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
    for batch in tf.data.TFRecordDataset(files).batch(IMPRESSIONS).prefetch(1):
        yield records.parse(batch, schema.IMPRESSION_FEATURES)


def _pairs(users: tf.Tensor, items: tf.Tensor) -> np.ndarray:
    """[N] int64, one number for each pair of user and item."""
    return tf.strings.to_hash_bucket_fast(tf.strings.join([users, items], separator="\0"), 2**63 - 1).numpy()
