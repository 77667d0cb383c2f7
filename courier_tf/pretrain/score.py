"""The held-out score of an encoder: is a candidate similar to what the user clicked before?

The score is the same for every objective and involves no ranker (method: SimScore).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.spread import effective_rank, uniformity
from courier_tf.workdir import records

HISTORY = 10  # Most recent history items that a candidate is compared with.
ROWS = 8192  # Impressions at a time.
SPREAD_PHOTOS = 2000  # Photos over which uniformity and effective rank are measured.


def embed_photos(encoder: Encoder, pixels: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """[N, S, S, 3] uint8 to [N, D] float32 unit vectors."""
    run = tf.function(lambda photos: encoder(photos, training=False), reduce_retracing=True, autograph=False)
    parts = [run(pixels[start : start + batch_size]).numpy() for start in range(0, len(pixels), batch_size)]
    return np.concatenate(parts) if parts else np.zeros([0, encoder.embedding_dim], np.float32)


def held_out_score(
    encoder: Encoder,
    ingest: Path,
    items: records.Items,
    store: PhotoStore,
    repeat_columns: Sequence[str],
    objective: Objective | None = None,
    split: str = "valid",
) -> dict[str, float | None]:
    """How well the embeddings alone predict a split's clicks. A figure is None where it is not defined.

    Candidates and history items without a photo are left out.

    Args:
        encoder: of photos.
        ingest: directory of the ingest stage.
        items, store: its catalogue.
        repeat_columns: item columns in which a shared value makes a candidate a repeat of a history item.
        objective: an objective whose own similarity is measured, too.
        split: train, valid or test.

    Returns:
        "best", "mean": AUC of the largest and of the mean cosine between the candidate and the user's last history
        items; where the objective has a `similarity_name`, the AUC of its similarity under that name (courier:
        "reconstruction", cos(e_j, r_j)); each also "..._new_to_user";
        "alignment": mean squared distance of clicked candidates from their history items, without repeats;
        "uniformity", "effective_rank": of the embeddings; "impressions".
    """
    candidate, history, label = _impressions(ingest, store, split)
    needed = np.unique(np.concatenate([candidate, history.ravel()]))
    embedding = embed_photos(encoder, store.decoded(needed))
    of_candidate, of_history = np.searchsorted(needed, candidate), np.searchsorted(needed, history)
    similarity_name = objective.similarity_name if objective else None
    names = ("best", "mean", *([similarity_name] if similarity_name else []))
    scores = {name: np.zeros(len(candidate)) for name in names}
    for start in range(0, len(candidate), ROWS):
        rows = slice(start, start + ROWS)
        shown, clicked_before, mask = embedding[of_candidate[rows]], embedding[of_history[rows]], history[rows] > 0
        cosine = np.einsum("nd,nhd->nh", shown, clicked_before)
        scores["best"][rows] = np.where(mask, cosine, -np.inf).max(axis=1)
        scores["mean"][rows] = np.where(mask, cosine, 0).sum(axis=1) / mask.sum(axis=1)
        if objective and similarity_name:
            similarity = objective.similarity(*map(tf.constant, (shown, clicked_before, mask)))
            scores[similarity_name][rows] = similarity.numpy()
    fresh = ~items.repeats(candidate - 1, history - 1, repeat_columns)

    def auc(score: np.ndarray, rows: np.ndarray) -> float | None:
        # Rounding, because a candidate's cosine with itself must not depend on the last bit.
        return float(roc_auc_score(label[rows], score[rows].round(5))) if len(np.unique(label[rows])) == 2 else None

    everything, clicked = np.ones(len(label), bool), fresh & (label > 0)
    photos = np.flatnonzero(needed > 0)
    sample = embedding[np.random.default_rng(0).permutation(photos)[:SPREAD_PHOTOS]]
    return {
        **{name: auc(score, everything) for name, score in scores.items()},
        **{f"{name}_new_to_user": auc(score, fresh) for name, score in scores.items()},
        "alignment": float(2 - 2 * scores["mean"][clicked].mean()) if clicked.any() else None,
        "uniformity": uniformity(sample) if len(sample) > 1 else None,
        "effective_rank": effective_rank(sample) if len(sample) else None,
        "impressions": len(label),
    }


def _impressions(ingest: Path, store: PhotoStore, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """([N] candidates and [N, HISTORY] histories by item number, [N] clicked) of the impressions with photos."""
    files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
    candidates, histories, labels = [np.zeros(0, np.int32)], [np.zeros([0, HISTORY], np.int32)], [np.zeros(0, int)]
    for batch in tf.data.TFRecordDataset(files).batch(ROWS):
        row = records.parse(batch, schema.IMPRESSION_FEATURES)
        history = store.numbers(records.last_items(row["history_item_ids"], HISTORY).numpy())
        candidate = store.numbers(row["item_id"].numpy())
        usable = (candidate > 0) & (history > 0).any(axis=1)
        candidates.append(candidate[usable])
        histories.append(history[usable])
        labels.append(row["clicked"].numpy()[usable])
    return np.concatenate(candidates), np.concatenate(histories), np.concatenate(labels)
