"""What the ranker knows of the items: their codes, and how it looks them up by item id."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from courier_tf.clusters.files import TABLE_FILE
from courier_tf.records import Items
from courier_tf.schema import column_feature

ITEM, CLUSTER = "item", "cluster"  # Names of the two code columns that are no item columns.


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Codes of all known items. Code 0 means unknown, in every column.

    Attributes:
        ids: [N] bytes.
        names: of the code columns: ITEM, `column_feature` of the item columns, and CLUSTER where cluster IDs are used.
        codes: [N + 1, len(names)] int32; the last row, of the unknown item and of padding, is 0.
        sizes: number of codes of each column, 0 included.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    codes: np.ndarray
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, items: Items, columns: list[str], valid_from_seconds: int, clusters: np.ndarray | None) -> "Catalogue":
        """Builds the codes. Vocabularies hold what the train span knows; a later item keeps its columns and cluster.

        Args:
            items: all items.
            columns: item columns to use.
            valid_from_seconds: end of the train span.
            clusters: [N] int cluster ID of each item, -1 for none; None to do without.
        """
        train = items.in_train_span(valid_from_seconds)
        trained = items.train_events > 0
        coded = {ITEM: np.where(trained, np.cumsum(trained), 0)}
        for column in columns:
            values = items.columns[column]
            known = np.unique(values[train])
            place = np.minimum(np.searchsorted(known, values), len(known) - 1)
            coded[column_feature(column)] = np.where(known[place] == values, place + 1, 0)
        if clusters is not None:
            coded[CLUSTER] = clusters + 1
        codes = np.zeros([len(items.ids) + 1, len(coded)], np.int32)
        codes[:-1] = np.stack(list(coded.values()), axis=1)
        return cls(items.ids, tuple(coded), codes, tuple(int(size) + 1 for size in codes.max(axis=0)))


def cluster_of_items(cluster: Path, items: Items) -> np.ndarray:
    """[N] int32 cluster ID of each item, -1 for none, from the table of a cluster stage."""
    table = pq.read_table(cluster / TABLE_FILE)
    by_id = dict(zip(table["item_id"].to_pylist(), table["cluster_id"].to_pylist(), strict=True))
    return np.array([by_id.get(item.decode(), -1) for item in items.ids], np.int32)


def permuted(clusters: np.ndarray, seed: int) -> np.ndarray:
    """The same IDs dealt out anew over the items that have one: a control that must be worth nothing."""
    has, dealt = clusters >= 0, clusters.copy()
    dealt[has] = np.random.default_rng(seed).permutation(clusters[has])
    return dealt


class CatalogueLookup(tf.keras.layers.Layer):
    """Item ids to codes: [...] strings to [..., columns] int32, by one table lookup and one gather (stock ops).

    An unknown id, and "" for padding, get zeros.
    """

    def __init__(self, catalogue: Catalogue, **kwargs) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        rows = np.arange(len(catalogue.ids), dtype=np.int32)
        with tf.init_scope():
            self.rows = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(catalogue.ids, rows), default_value=len(rows)
            )
            # A variable, so that the codes are saved once and not as a constant in each signature.
            self.codes = tf.Variable(catalogue.codes, trainable=False, dtype=tf.int32, name="codes")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.codes, self.rows.lookup(ids))
