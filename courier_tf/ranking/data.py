"""Impressions for training (a stream) and for evaluation (arrays with their slices)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import records, schema
from courier_tf.ranking.metrics import auc, evaluate_slices

SHUFFLE_ROWS = 65_536


class RankingError(ValueError):
    """The ranker cannot be trained or measured as asked."""


def _features(serialised: tf.Tensor, history_length: int) -> dict[str, tf.Tensor]:
    row = records.parse(serialised, schema.IMPRESSION_FEATURES)
    history = records.last_items(row["history_item_ids"], history_length)
    return {
        "user_id": row["user_id"],
        "history_item_ids": history,
        "item_id": row["item_id"],
        "clicked": row["clicked"],
        "page_view_id": row["page_view_id"],
    }


def impression_batches(
    ingest: Path, split: str, *, history_length: int, batch_size: int, seed: int | None = None
) -> tf.data.Dataset:
    """One pass over the impressions of a split, in batches of `Ranker` features.

    Args:
        ingest: directory of the ingest stage.
        split: train, valid or test.
        history_length: most recent history items.
        batch_size: impressions per batch, over all replicas.
        seed: shuffles anew in each pass, and drops the last, smaller batch; None keeps the order of the files.
    """
    files = tf.data.Dataset.from_tensor_slices(records.files(ingest / schema.IMPRESSIONS_FOLDER, split))
    dataset = files.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=4, deterministic=True)
    if seed is not None:
        dataset = dataset.shuffle(SHUFFLE_ROWS, seed=seed)
    dataset = dataset.batch(batch_size, drop_remainder=seed is not None)
    return dataset.map(
        lambda batch: _features(batch, history_length), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).prefetch(tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A split in arrays, in the order of its files, with the slices that are reported.

    Attributes:
        users, page_views: [N] bytes.
        clicked: [N] int.
        popularity: [N] int, positives of the candidate in the train span.
        slices: name -> [N] bool.
    """

    users: np.ndarray
    page_views: np.ndarray
    clicked: np.ndarray
    popularity: np.ndarray
    slices: dict[str, np.ndarray]

    def metrics(self, probability: np.ndarray) -> dict:
        """All metrics of these predictions, [N] float, overall and per slice."""
        return evaluate_slices(self.users, self.page_views, self.clicked, probability, self.slices)

    def popularity_guard(self) -> dict[str, float | None]:
        """What popularity alone tells, which sampled negatives easily give away.

        Returns:
            {"auc": of the train span's popularity as the score (far from 0.5 where negatives are drawn otherwise than
            positives come about), "cold_share_of_unclicked": items without a train positive among the negatives}.
        """
        negatives = self.popularity[self.clicked == 0]
        cold = float((negatives == 0).mean()) if len(negatives) else None
        return {"auc": auc(self.clicked, self.popularity), "cold_share_of_unclicked": cold}


def read_evaluation(
    ingest: Path, split: str, items: records.Items, history_length: int, repeat_columns: Sequence[str]
) -> Evaluation:
    """Reads a split for evaluation.

    Slices: `with_history`; `without_history`; `repeats_left_out` (a history, and the candidate neither stands in it nor
    shares a value of `repeat_columns` with one of its items); `cold` (no positive of the item in the train span).
    """

    def rows_of(ids: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(items.ids, ids), len(items.ids) - 1)
        return np.where(items.ids[place] == ids, place, -1)

    parts: dict[str, list[np.ndarray]] = {}
    for batch in impression_batches(ingest, split, history_length=history_length, batch_size=8192):
        values = {name: value.numpy() for name, value in batch.items()}
        item, history = rows_of(values["item_id"]), rows_of(values["history_item_ids"])
        found = {
            "users": values["user_id"],
            "page_views": values["page_view_id"],
            "clicked": values["clicked"],
            "with_history": (history >= 0).any(axis=1),
            "repeat": items.repeats(item, history, repeat_columns),
            "popularity": np.where(item >= 0, items.train_events[item], 0),
        }
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    if not parts:
        raise RankingError(f"the {split} split of {ingest} holds no impression")
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    slices = {
        "with_history": joined["with_history"],
        "without_history": ~joined["with_history"],
        "repeats_left_out": joined["with_history"] & ~joined["repeat"],
        "cold": joined["popularity"] == 0,
    }
    return Evaluation(joined["users"], joined["page_views"], joined["clicked"], joined["popularity"], slices)
