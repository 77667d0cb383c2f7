"""Probabilities of a ranker for a whole split, and what a tower of positions adds to them when served."""

from pathlib import Path

import numpy as np

from courier_tf.ranking import data
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.position import served_log_odds
from courier_tf.schema import POSITION

PREDICT_BATCH, USUAL_HISTORY = 8192, 20
CALIBRATION_ROWS = 16 * PREDICT_BATCH  # Train impressions.


def rows_at_once(history_length: int) -> int:
    """Impressions that are predicted at once; fewer where histories are long, as every history item has an embedding.

    >>> rows_at_once(20), rows_at_once(1000)
    (8192, 163)
    """
    return max(1, PREDICT_BATCH * USUAL_HISTORY // max(history_length, USUAL_HISTORY))


def predict(ranker: Ranker, ingest: Path, split: str, history_length: int) -> np.ndarray:
    """[N] float32: the probabilities of the impressions of a split, in the order of `impression_batches`."""
    rows = rows_at_once(history_length)
    batches = data.impression_batches(
        ingest, split, history_length=history_length, batch_size=rows, context_columns=ranker.context_names
    )
    names = ranker.call_features
    return np.concatenate([ranker.answer({name: batch[name] for name in names}).numpy() for batch in batches])


def calibrate_position(ranker: Ranker, ingest: Path, history_length: int) -> None:
    """Chooses what a ranker with a tower of positions adds when served, on train impressions in the order of files.

    That order is random, so the first ones are a fair sample.
    """
    if ranker.position is None:
        return
    columns, rows = (*ranker.context_names, POSITION), rows_at_once(history_length)
    batches = data.impression_batches(
        ingest, "train", history_length=history_length, batch_size=rows, context_columns=columns
    )
    parts = [
        (ranker.answer({name: batch[name] for name in ranker.call_features}).numpy(), ranker.position(batch).numpy())
        for batch in batches.take(CALIBRATION_ROWS // rows)
    ]
    probability, added = (np.concatenate(part) for part in zip(*parts, strict=True))
    position = ranker.position.served
    position.assign(served_log_odds(probability, float(position.numpy()), added))
