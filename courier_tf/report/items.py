"""The rows of the catalogue without their photos, which a report need not hold."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.workdir import records


@dataclasses.dataclass(frozen=True)
class ItemRows:
    """N items, ordered by item id; row i of every array is the same item.

    Attributes:
        ids: [N] bytes.
        columns: column name -> [N] bytes, category among them.
        titles: [N] bytes.
        impressions: [N] int, times shown in the train span, sampled negatives left out.
        events: [N] int, positives among these.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray]
    titles: np.ndarray
    impressions: np.ndarray
    events: np.ndarray

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """[M] bytes of any items to [M] int rows, -1 for one that is not there."""
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, place, -1)


def read_rows(ingest: Path, columns: tuple[str, ...]) -> ItemRows:
    """Reads the catalogue of an ingest directory.

    Raises:
        RecordError: there are no records.
    """
    features = records.item_features(columns)
    del features["image"], features["available_from"]
    dataset = tf.data.TFRecordDataset(records.files(ingest / schema.ITEMS_FOLDER, "items")).batch(1024)
    batches = [{name: value.numpy() for name, value in records.parse(batch, features).items()} for batch in dataset]
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in features}
    order = np.argsort(joined["item_id"])
    joined = {name: value[order] for name, value in joined.items()}
    return ItemRows(
        joined["item_id"],
        {column: joined[schema.column_feature(column)] for column in columns},
        joined["title"],
        joined["train_impressions"],
        joined["train_events"],
    )
