"""The codes of items and users, and layers that look them up by id."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.numbers import number_table
from courier_tf.ranking.value_lists import ValueLists
from courier_tf.schema import CATEGORY, column_feature
from courier_tf.workdir.records import Items

ITEM = "item"  # The code column of the item itself; every other code column is a column of the items.
CATEGORY_CODE = column_feature(CATEGORY)


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Codes of all known items. Code 0 means unknown, in every column.

    Attributes:
        ids: [N] bytes.
        vocabularies: code column -> [V] bytes, the values of the train span; value i has code i + 1. The columns are
            ITEM and `column_feature` of the item columns, the category always among them. The vocabulary of ITEM is
            empty where item ids are hashed.
        codes: [N + 1, columns] int32; the last row, for the unknown item and for padding, is 0.
        repeat_columns: names of the R columns in which a shared value makes a candidate a repeat of a history item.
        repeats: [N + 1, R] int32, numbers of their values; 0 for an empty value. They are only compared with each
            other, so values that the train span does not know have numbers, too.
        hash_buckets: number of codes that item ids are hashed to; 0 gives each item a code.
        number_columns: names of the C columns that hold numbers.
        numbers: [N + 1, C] float32, as from `numbers.number_table`.
        lists: the columns that hold several values for an item.
    """

    ids: np.ndarray
    vocabularies: dict[str, np.ndarray]
    codes: np.ndarray
    repeat_columns: tuple[str, ...]
    repeats: np.ndarray
    hash_buckets: int
    number_columns: tuple[str, ...]
    numbers: np.ndarray
    lists: ValueLists

    @property
    def names(self) -> tuple[str, ...]:
        """The code columns, in order."""
        return tuple(self.vocabularies)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each column, 0 included."""
        return tuple(
            1 + (self.hash_buckets if name == ITEM and self.hash_buckets else len(values))
            for name, values in self.vocabularies.items()
        )

    @classmethod
    def of(
        cls,
        items: Items,
        columns: Sequence[str],
        valid_from_seconds: int,
        repeat_columns: Sequence[str] = (),
        hash_buckets: int = 0,
        min_impressions: int = 1,
        number_columns: Sequence[str] = (),
        list_columns: Sequence[str] = (),
        separator: str = "|",
    ) -> "Catalogue":
        """Builds the codes. Vocabularies hold the values of the train span; a later item has codes for its columns.

        Args:
            items: all items.
            columns: item columns to use, beside the category.
            valid_from_seconds: end of the train span.
            repeat_columns: as above.
            hash_buckets: number of codes to hash item ids to; 0 gives a code to each item with an embedding of its own.
            min_impressions: an item that was shown less often in the train span has no embedding of its own. The limit
                is not on positives: all training rows of an item that nobody clicked are negative, and the embedding
                that new items share would learn that these are never clicked.
            number_columns: item columns that hold numbers.
            list_columns: item columns that hold several values.
            separator: what stands between these.

        Raises:
            RankingError: a value in one of `number_columns` is no number, or a list cannot be read.
        """
        train = items.in_train_span(valid_from_seconds)
        trained = items.train_impressions >= min_impressions
        vocabularies = {ITEM: items.ids[trained]}
        coded = [np.where(trained, np.cumsum(trained), 0)]
        if hash_buckets:
            vocabularies[ITEM] = items.ids[:0]
            coded = [np.where(trained, hashed(items.ids, hash_buckets), 0)]
        for column in dict.fromkeys([CATEGORY, *columns]):
            values = items.columns[column]
            known = np.unique(values[train])
            place = np.minimum(np.searchsorted(known, values), len(known) - 1)
            vocabularies[column_feature(column)] = known
            coded.append(np.where(known[place] == values, place + 1, 0))
        compared = [_numbered(items.columns[column]) for column in repeat_columns]
        return cls(
            items.ids,
            vocabularies,
            _with_unknown(coded, len(items.ids)),
            tuple(repeat_columns),
            _with_unknown(compared, len(items.ids)),
            hash_buckets,
            tuple(number_columns),
            number_table(items, number_columns, train),
            ValueLists.of(items, list_columns, train, separator),
        )


def hashed(ids: np.ndarray, buckets: int) -> np.ndarray:
    """[N] ids to [N] codes from 1 to `buckets`, the same on every machine and the same as in `UserCodes`."""
    return np.asarray(tf.strings.to_hash_bucket_fast(tf.constant(ids, tf.string), buckets)) + 1


def _numbered(values: np.ndarray) -> np.ndarray:
    """[N] bytes to [N] int: equal values have equal numbers above 0; an empty value has 0."""
    return np.where(values == b"", 0, np.unique(values, return_inverse=True)[1] + 1)


def _with_unknown(columns: list[np.ndarray], items: int) -> np.ndarray:
    """[items + 1, columns] int32: the columns side by side, and a row of zeros."""
    codes = np.zeros([items + 1, len(columns)], np.int32)
    if columns:
        codes[:-1] = np.stack(columns, axis=1)
    return codes


class CatalogueLookup(keras.layers.Layer):
    """Item ids to rows of the catalogue: [...] strings to [...] int32. It uses stock ops, which every server has.

    Gather `codes`, `repeats`, `numbers` and `lists` by these rows. An unknown id, and "" for padding, get the last row,
    whose codes are 0 and whose numbers are missing.
    """

    def __init__(self, catalogue: Catalogue, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        rows = np.arange(len(catalogue.ids), dtype=np.int32)
        self.unknown = len(rows)
        with tf.init_scope():
            self.rows = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(catalogue.ids, rows), default_value=self.unknown
            )
            # Variables, so that the codes are saved once and not as a constant in each signature.
            self.codes = tf.Variable(catalogue.codes, trainable=False, dtype=tf.int32, name="codes")
            self.repeats = tf.Variable(catalogue.repeats, trainable=False, dtype=tf.int32, name="repeats")
            self.numbers = _table("numbers", catalogue.numbers)
            self.lists = _table("lists", catalogue.lists.codes)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return self.rows.lookup(ids)


def _table(name: str, values: np.ndarray) -> tf.Variable | tf.Tensor:
    """[N + 1, C, ...] numbers of C columns. None are a constant, so that files of rankers of 0.14.0 can be read."""
    return tf.Variable(values, trainable=False, name=name) if values.shape[1] else tf.constant(values)


class ValueCodes(keras.layers.Layer):
    """Values, such as user ids, to codes: [B] strings to [B] int32.

    Args:
        values: [V] bytes, those of the train span; all others get code 0. Not used where values are hashed.
        hash_buckets: number of codes to hash values to, without a vocabulary: an unknown value shares a code with
            others. 0 gives each value a code.
    """

    def __init__(self, values: np.ndarray, hash_buckets: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hash_buckets, self.size = hash_buckets, 1 + (hash_buckets or len(values))
        self.table = None
        if not hash_buckets and len(values):  # A table cannot be made of no values.
            codes = np.arange(1, len(values) + 1, dtype=np.int32)
            with tf.init_scope():
                self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(values, codes), 0)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        if self.hash_buckets:
            return tf.cast(tf.strings.to_hash_bucket_fast(ids, self.hash_buckets), tf.int32) + 1
        return self.table.lookup(ids) if self.table else tf.zeros_like(ids, tf.int32)
