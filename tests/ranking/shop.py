"""A catalogue of four items with visual features, and impressions of them, for the tests of the ranker."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.ranker_files import Plan
from courier_tf.workdir import records
from courier_tf.workdir.records import Items

NOW = 1000
IDS = [b"a", b"b", b"c", b"d"]
USERS = np.array([b"u1", b"u2"], object)


def items(**changes) -> Items:
    """a and b are known in training, c is for sale there but never shown, d comes later and has no photo."""
    values = {
        "ids": np.array(IDS, object),
        "columns": {
            "category": np.array([b"x", b"y", b"x", b"new"], object),
            "product": np.array([b"p", b"p", b"", b"q"], object),
        },
        "titles": np.array([b""] * 4, object),
        "available_from": np.array([1, 2, 3, NOW + 1]),
        "train_impressions": np.array([9, 3, 0, 0]),
        "train_events": np.array([5, 1, 0, 0]),
        "photos": np.array([b"p", b"p", b"p", b""], object),
    }
    return Items(**{**values, **changes})


def catalogue(columns=("category",), buckets=0, **changes) -> Catalogue:
    return Catalogue.of(items(**changes), columns, NOW, ["product"], buckets)


def catalogue_visuals(levels=1, clusters=3, width=6) -> CatalogueVisuals:
    rng = np.random.default_rng(5)
    codes = np.concatenate([rng.integers(1, clusters + 1, [3, levels]), np.zeros([2, levels], int)])
    embeddings = np.concatenate([rng.normal(size=[3, width]), np.zeros([2, width])]).astype(np.float32)
    embeddings[:3] /= np.linalg.norm(embeddings[:3], axis=1, keepdims=True)
    centroids = rng.normal(size=[levels, clusters, width]).astype(np.float32)
    return CatalogueVisuals(codes.astype(np.int32), centroids, embeddings, np.array([True, True, True, False, False]))


def plan(*visual_features: str, dim=4, with_catalogue=None, users=USERS, visual=None, **architecture) -> Plan:
    made = Architecture(tuple(visual_features), dim, **architecture)
    return Plan(with_catalogue or catalogue(), users, visual or catalogue_visuals(), made)


def features(rng, rows=16):
    names = [*IDS, b"unknown"]
    history = rng.choice([*names, b""], [rows, 3]).astype(object)
    history[0] = b""
    return {
        "user_id": tf.constant(rng.choice([b"u1", b"u2", b"nobody"], rows).astype(object)),
        "history_item_ids": tf.constant(history),
        "item_id": tf.constant(rng.choice(names, rows).astype(object)),
        "clicked": tf.constant(rng.integers(0, 2, rows)),
    }


def write_impressions(
    ingest: Path, split: str, batch: dict[str, tf.Tensor], context_columns=(), file_number=0, files=1
) -> None:
    """Writes `features` as one file of a split of an ingest directory; a page view is four rows, if they name none."""
    file = ingest / schema.IMPRESSIONS_FOLDER / f"{split}-{file_number:05}-of-{files:05}.tfrecord"
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {name: value.numpy() for name, value in batch.items()}
    with tf.io.TFRecordWriter(str(file)) as writer:
        for row in range(len(values["clicked"])):
            record = {name: value[row] for name, value in values.items()}
            record["history_item_ids"] = [item for item in record["history_item_ids"] if item]
            view = record.get("page_view_id", f"{split}{row // 4}")
            record |= {"page_view_id": view, "timestamp": row, "clicked": int(record["clicked"])}
            record |= {schema.context_feature(column): record.pop(column) for column in context_columns}
            writer.write(records.serialise(record, schema.impression_features(context_columns)))
