"""The held-out score of an encoder: is a candidate similar to what the user clicked before?

The score is the same for every objective and involves no ranker (method: SimScore).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.features.sources import Pixels
from courier_tf.pretrain.encoder_files import AnyEncoder
from courier_tf.pretrain.history_similarity import PIXEL_ROWS, ROWS, cosines, pixel_vectors, same_category
from courier_tf.pretrain.impression_scores import DIGITS, ImpressionScores
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.spread import effective_rank, uniformity
from courier_tf.training import for_batches
from courier_tf.workdir import records

HISTORY = 10  # Most recent history items that a candidate is compared with.
SPREAD_PHOTOS = 2000  # Photos over which uniformity and effective rank are measured.


def embed_photos(encoder: AnyEncoder, inputs: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Photos [N, S, S, 3] uint8, or their features [N, W] float32, to [N, D] float32 unit vectors."""
    run = for_batches(lambda photos: encoder(photos, training=False), inputs)
    parts = [
        run(tf.constant(inputs[start : start + batch_size])).numpy() for start in range(0, len(inputs), batch_size)
    ]
    return np.concatenate(parts) if parts else np.zeros([0, encoder.embedding_dim], np.float32)


def held_out_score(
    encoder: AnyEncoder,
    ingest: Path,
    items: records.Items,
    store: PhotoStore,
    repeat_columns: Sequence[str],
    objective: Objective | None = None,
    split: str = "valid",
    scores_file: Path | None = None,
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
        scores_file: where to write the scores of each impression, `ImpressionScores`.

    Returns:
        "best", "mean": AUC of the largest and of the mean cosine between the candidate and the user's last history
        items; where the objective has a `similarity_name`, the AUC of its similarity under that name (courier:
        "reconstruction", cos(e_j, r_j)). The baselines "pixels_best" and "pixels_mean" are the same with raw pixels,
        "category_best" and "category_mean" with the category alone. Each also has "..._new_to_user", without repeats;
        "alignment": mean squared distance of clicked candidates from their history items, without repeats;
        "uniformity", "effective_rank": of the embeddings; "impressions".
    """
    candidate, history, label, users = _impressions(ingest, store, split)
    needed = np.unique(np.concatenate([candidate, history.ravel()]))
    embedding = embed_photos(encoder, store.inputs_of(needed))
    of_candidate, of_history = np.searchsorted(needed, candidate), np.searchsorted(needed, history)
    places = (of_candidate, of_history, history > 0)
    scores = dict(zip(("best", "mean"), cosines(embedding, *places), strict=True))
    if objective and objective.similarity_name:
        scores[objective.similarity_name] = _own_similarity(objective, embedding, *places)
    scores |= dict(
        zip(("pixels_best", "pixels_mean"), cosines(_of_photos(store, needed), *places, PIXEL_ROWS), strict=True)
    )
    if (category := items.columns.get(schema.CATEGORY)) is not None:
        known = same_category(np.concatenate([[b""], category])[needed], *places)
        scores |= dict(zip(("category_best", "category_mean"), known, strict=True))
    fresh = ~items.repeats(candidate - 1, history - 1, repeat_columns)

    objective_score = (objective and objective.similarity_name) or "mean"
    rounded = {name: score.round(DIGITS).astype(np.float32) for name, score in scores.items()}
    of_impressions = ImpressionScores(users, label, fresh, rounded, objective_score)
    if scores_file:
        of_impressions.write(scores_file)
    clicked = fresh & (label > 0)
    photos = np.flatnonzero(needed > 0)
    sample = embedding[np.random.default_rng(0).permutation(photos)[:SPREAD_PHOTOS]]
    return {
        **{name: of_impressions.auc(name) for name in scores},
        **{f"{name}_new_to_user": of_impressions.auc(name, new_to_user=True) for name in scores},
        "alignment": float(2 - 2 * scores["mean"][clicked].mean()) if clicked.any() else None,
        "uniformity": uniformity(sample) if len(sample) > 1 else None,
        "effective_rank": effective_rank(sample) if len(sample) else None,
        "impressions": len(label),
    }


def _of_photos(store: PhotoStore, numbers: np.ndarray) -> np.ndarray:
    """`pixel_vectors` of the items with these numbers; zeros for number 0, whose black square is no photo."""
    vectors = np.zeros([len(numbers), Pixels.width], np.float32)
    vectors[numbers > 0] = pixel_vectors(store.small(numbers[numbers > 0]))
    return vectors


def _own_similarity(
    objective: Objective, embedding: np.ndarray, candidate: np.ndarray, history: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """[N] an objective's own similarity; the other arguments are those of `cosines`."""
    parts = []
    for start in range(0, len(candidate), ROWS):
        rows = slice(start, start + ROWS)
        shown, clicked_before = embedding[candidate[rows]], embedding[history[rows]]
        parts.append(objective.similarity(*map(tf.constant, (shown, clicked_before, mask[rows]))).numpy())
    return np.concatenate(parts).astype(float) if parts else np.zeros(0)


def _impressions(ingest: Path, store: PhotoStore, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The N impressions with photos.

    Returns:
        ([N] candidates and [N, HISTORY] histories by item number, [N] clicked, [N] users by `records.user_numbers`).
    """
    files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
    candidates, histories, labels = [np.zeros(0, np.int32)], [np.zeros([0, HISTORY], np.int32)], [np.zeros(0, int)]
    users = [np.zeros(0, np.int64)]
    for batch in tf.data.TFRecordDataset(files).batch(ROWS):
        row = records.parse(batch, schema.IMPRESSION_FEATURES)
        history = store.numbers(records.last_items(row["history_item_ids"], HISTORY).numpy())
        candidate = store.numbers(row["item_id"].numpy())
        usable = (candidate > 0) & (history > 0).any(axis=1)
        candidates.append(candidate[usable])
        histories.append(history[usable])
        labels.append(row["clicked"].numpy()[usable])
        users.append(records.user_numbers(row["user_id"])[usable])
    return np.concatenate(candidates), np.concatenate(histories), np.concatenate(labels), np.concatenate(users)
