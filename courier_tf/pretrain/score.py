"""The held-out score of an encoder: does a candidate look like what the user clicked before? (method: SimScore)"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import records, schema
from courier_tf.pretrain.data import PhotoStore
from courier_tf.pretrain.encoder import Encoder

HISTORY = 10  # Most recent history items that a candidate is compared with.


def embed_photos(encoder: Encoder, pixels: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """[N, S, S, 3] uint8 to [N, D] float32 unit vectors."""
    run = tf.function(lambda photos: encoder(photos, training=False), reduce_retracing=True, autograph=False)
    parts = [run(pixels[start : start + batch_size]).numpy() for start in range(0, len(pixels), batch_size)]
    return np.concatenate(parts) if parts else np.zeros([0, encoder.embedding_dim], np.float32)


def similarity_auc(encoder: Encoder, ingest: Path, store: PhotoStore, split: str = "valid") -> dict[str, float | None]:
    """AUC of the largest and of the mean cosine between a candidate and the user's last history items.

    Candidates and history items without a photo are left out. A figure is None where it is not defined.

    Returns:
        {"best", "mean", "best_without_repeats", "mean_without_repeats", "impressions"}; a repeat is a candidate that
        stands in the history.
    """
    files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
    candidates, histories, labels = [], [], []
    for batch in tf.data.TFRecordDataset(files).batch(8192):
        row = records.parse(batch, schema.IMPRESSION_FEATURES)
        history = store.numbers(records.last_items(row["history_item_ids"], HISTORY).numpy())
        candidate = store.numbers(row["item_id"].numpy())
        usable = (candidate > 0) & (history > 0).any(axis=1)
        candidates.append(candidate[usable])
        histories.append(history[usable])
        labels.append(row["clicked"].numpy()[usable])
    candidate, label = (np.concatenate(part or [np.zeros(0, np.int32)]) for part in (candidates, labels))
    history = np.concatenate(histories or [np.zeros([0, HISTORY], np.int32)])

    needed = np.unique(np.concatenate([candidate, history.ravel()]))
    embedding = embed_photos(encoder, store.pixels[needed])
    place = {"candidate": np.searchsorted(needed, candidate), "history": np.searchsorted(needed, history)}
    best, mean = np.zeros(len(candidate)), np.zeros(len(candidate))
    for start in range(0, len(candidate), 8192):
        rows = slice(start, start + 8192)
        cosine = np.einsum("nd,nhd->nh", embedding[place["candidate"][rows]], embedding[place["history"][rows]])
        mask = history[rows] > 0
        best[rows] = np.where(mask, cosine, -np.inf).max(axis=1)
        mean[rows] = np.where(mask, cosine, 0).sum(axis=1) / mask.sum(axis=1)
    fresh = ~(history == candidate[:, None]).any(axis=1)

    def auc(score: np.ndarray, rows: np.ndarray) -> float | None:
        return float(roc_auc_score(label[rows], score[rows])) if len(np.unique(label[rows])) == 2 else None

    everything = np.ones(len(label), bool)
    return {
        "best": auc(best, everything),
        "mean": auc(mean, everything),
        "best_without_repeats": auc(best, fresh),
        "mean_without_repeats": auc(mean, fresh),
        "impressions": len(label),
    }
