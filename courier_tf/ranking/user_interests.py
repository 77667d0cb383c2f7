"""The interest code of every user, as a table for other models."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from courier_tf import schema
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.visual_features.interest import interest_codes, unit_centroids
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.matching import require_input
from courier_tf.workdir.stages import CLUSTER, INGEST

TABLE_SCHEMA = pa.schema([("user_id", pa.string()), ("interest_cluster_id", pa.int32()), ("clicks", pa.int32())])
BATCH = 8192


def write_user_interests(ingest: Path, cluster: Path, file: Path, length: int) -> int:
    """Writes a Parquet table of all users of the log, in the order of their ids.

    `interest_cluster_id` is the cluster that a user's last clicks as a whole are nearest to, as in the rank mode
    `interest`; -1 for a user none of whose clicks has a photo. `clicks` is the number of clicks that were used.

    Args:
        ingest, cluster: directories of these stages.
        file: to write.
        length: most recent clicks that count.

    Returns:
        Number of users.

    Raises:
        ArtefactError: a stage is missing, or the clusters are of another ingest.
    """
    ingested, clustered = artefacts.read(ingest, INGEST), artefacts.read(cluster, CLUSTER)
    require_input(clustered, INGEST, ingested.fingerprint)
    facts = ingested.facts
    items = records.read_items(ingest, facts.all_columns)
    visual = CatalogueVisuals.read(cluster, None, items.ids, items.in_train_span(facts.valid_from_seconds))
    row_of = {item: row for row, item in enumerate(items.ids.tolist())}
    unknown = len(items.ids)
    clicks = {user: clicked[-length:] for user, clicked in sorted(last_clicks(ingest).items())}
    centroids, codes = tf.constant(unit_centroids(visual)), []
    users, lists = list(clicks), list(clicks.values())
    for start in range(0, len(lists), BATCH):
        part = lists[start : start + BATCH]
        table = np.full([len(part), length], unknown)
        for row, clicked in enumerate(part):
            table[row, : len(clicked)] = [row_of.get(item, unknown) for item in clicked]
        history = tf.constant(visual.codes[table, 0])
        codes.append(interest_codes(history, history > 0, centroids).numpy() - 1)
    columns = [
        pa.array([user.decode() for user in users], pa.string()),
        pa.array(np.concatenate(codes) if codes else [], pa.int32()),
        pa.array([len(clicked) for clicked in lists], pa.int32()),
    ]
    aside = file.with_name(f".{file.name}.partial")
    pq.write_table(pa.Table.from_arrays(columns, schema=TABLE_SCHEMA), aside)
    aside.replace(file)
    return len(users)


def last_clicks(ingest: Path) -> dict[bytes, list[bytes]]:
    """User -> clicked items, oldest first: the history of the last page view, and what was clicked there."""
    last: dict[bytes, tuple[int, list[bytes], list[bytes]]] = {}
    for user, timestamp, history, item, clicked in _impressions(ingest):
        known = last.get(user)
        if known is None or timestamp > known[0]:
            last[user] = known = (timestamp, history, [])
        if clicked and timestamp == known[0]:
            known[2].append(item)
    return {user: [*history, *sorted(set(clicked))] for user, (_, history, clicked) in last.items()}


def _impressions(ingest: Path) -> Iterator[tuple[bytes, int, list[bytes], bytes, int]]:
    """(user, time of the page view, history, item, clicked) of all impressions of all spans."""
    names = ("user_id", "timestamp", "history_item_ids", "item_id", "clicked")
    features = {name: schema.IMPRESSION_FEATURES[name] for name in names}
    for split in schema.SPLITS:
        files = records.files(ingest / schema.IMPRESSIONS_FOLDER, split)
        for batch in tf.data.TFRecordDataset(files).batch(BATCH):
            rows = records.parse(batch, features)
            yield from zip(*(_listed(rows[name]) for name in names), strict=True)


def _listed(values: tf.Tensor | tf.RaggedTensor) -> list:
    return values.to_list() if isinstance(values, tf.RaggedTensor) else values.numpy().tolist()
