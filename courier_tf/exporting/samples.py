"""Items, photos and impressions from the logs: what versions are warmed up with and checked with."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import Embedder
from courier_tf.ranking.data import impression_batches
from courier_tf.workdir import records
from serving.client.contract import Request

ROWS = (1, 8, 32)  # Of the requests to a signature.
BATCH = 4096


def first_items(ingest: Path, feature: str) -> np.ndarray:
    """One feature of the first items that have a photo.

    Args:
        ingest: directory of the ingest stage.
        feature: `item_id` or `image`.

    Returns:
        [N] bytes, N up to the largest of ROWS.
    """
    features = {name: schema.ITEM_FEATURES[name] for name in ("item_id", "image")}
    values: list[bytes] = []
    for batch in tf.data.TFRecordDataset(records.files(ingest / schema.ITEMS_FOLDER, "items")).batch(256):
        parsed = {name: value.numpy() for name, value in records.parse(batch, features).items()}
        values += parsed[feature][parsed["image"] != b""].tolist()
        if len(values) >= max(ROWS):
            break
    return np.array(values[: max(ROWS)], object)


def item_requests(ingest: Path, signature: str) -> list[Request]:
    """Requests with the ids of items to a signature that takes `item_id` [B]."""
    items = first_items(ingest, "item_id")
    return [Request(signature, {"item_id": np.resize(items, rows)}) for rows in ROWS]


def photo_requests(ingest: Path, signature: str) -> list[Request]:
    """Requests with the photos of items to a signature that takes `photos` [B]."""
    photos = first_items(ingest, "image")
    return [Request(signature, {"photos": np.resize(photos, rows)}) for rows in ROWS]


def embedded_photos(stages: FinishedStages) -> tuple[np.ndarray, np.ndarray]:
    """([N] photos of the first items, [N, D] float32 their embeddings by the encoder as it was trained)."""
    photos = first_items(stages.ingest.path, "image")
    encoder = Embedder(stages.pretrain.path / ENCODER_FOLDER, stages.pretrain.facts.image_size)
    return photos, encoder.embed(tf.constant(photos))["embedding"].numpy()


def valid_batches(
    stages: FinishedStages,
    history_length: int | None,
    context_names: Sequence[str],
    take_clicked: Callable[[np.ndarray], object] = lambda _: None,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of impressions of the valid span, as a ranker takes them.

    Args:
        stages: with the impressions.
        history_length: most recent history items; None for all. A served ranker looks at as many as it was trained on.
        context_names: context columns that it takes. Those that impressions lack are empty.
        take_clicked: called with the clicks [B] of each batch.
    """
    names = [name for name in context_names if name in stages.ingest.facts.context_columns]
    for batch in impression_batches(
        stages.ingest.path, "valid", history_length=history_length, batch_size=BATCH, context_columns=names
    ):
        take_clicked(batch["clicked"].numpy())
        empty = np.full(len(batch["item_id"]), b"", object)
        yield {
            name: batch[name].numpy() if name in batch else empty for name in (*schema.EXAMPLE_FEATURES, *context_names)
        }
