"""Columns of the users, such as an age or a country, looked up by user id inside the model."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue import ValueCodes
from courier_tf.ranking.columns import ColumnInputs, Columns, ranks_in
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.numbers import numbers_of, require_numbers
from courier_tf.workdir.records import Users

SETTING = "rank_user_number_columns"
MOST_VALUES = 1000  # A column with more values is an identifier or a text, whose values are no classes to learn.


@dataclasses.dataclass(frozen=True)
class UserTable:
    """Codes and ranks of all users of the shop's own table.

    Attributes:
        ids: [M] bytes.
        columns: what the train span knows of the C columns of categories and the Q columns of numbers.
        codes: [M + 1, C] int32. The last row, for users that the table does not have, is that of a missing value: its
            own code where the train span has users without the value, else 0, as for any unknown value.
        ranks: [M + 1, Q] float32 as `columns.ranks_in` gives them; the last row is `MISSING`.
    """

    ids: np.ndarray = dataclasses.field(default_factory=lambda: np.array([], object))
    columns: Columns = Columns()
    codes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros([1, 0], np.int32))
    ranks: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros([1, 0], np.float32))

    @classmethod
    def of(
        cls, users: Users, trained: np.ndarray, columns: Sequence[str], number_columns: Sequence[str]
    ) -> "UserTable":
        """Builds the table. Vocabularies and quantiles are those of the users of the train span, each counted once.

        Args:
            users: all users of the table.
            trained: [M] bool, which of them the train span has.
            columns: columns of categories; none takes those that `useful_columns` gives.
            number_columns: columns that hold numbers.

        Raises:
            RankingError: a value in one of `number_columns` is no number; or columns are named, and the train span has
                no user of the table.
        """
        if (columns or number_columns) and not trained.any():
            raise RankingError(
                f"rank_user_columns or {SETTING} names columns, but none of the {len(users.ids)} users of the table is "
                "in the train span: write the ids of both tables in the same way, or leave the setting out"
            )
        others = [name for name in users.columns if name not in number_columns]
        chosen = columns or useful_columns({name: users.columns[name][trained] for name in others})
        counts = {
            name: Counter(users.columns[name][trained].tolist()) for name in dict.fromkeys([*chosen, *number_columns])
        }
        known = Columns.of(counts, number_columns, SETTING)
        texts = {name: np.append(users.columns[name], b"") for name in known.names}  # The last row has no value.
        codes, ranks = np.zeros([len(users.ids) + 1, 0], np.int32), np.zeros([len(users.ids) + 1, 0], np.float32)
        for name, values in known.vocabularies.items():
            codes = np.column_stack([codes, ValueCodes(values)(tf.constant(texts[name], tf.string)).numpy()])
        for name, quantiles in known.quantiles.items():
            numbers = numbers_of(tf.constant(texts[name], tf.string))
            require_numbers(texts[name], numbers.numpy(), name, SETTING)
            ranks = np.column_stack([ranks, ranks_in(tf.constant(quantiles), numbers).numpy()])
        return cls(users.ids, known, codes.astype(np.int32), ranks.astype(np.float32))


def useful_columns(values: dict[str, np.ndarray]) -> list[str]:
    """The columns that have 2 to `MOST_VALUES` values, and two users per value on average.

    Args:
        values: column -> [M] bytes. An empty text is no value.

    >>> useful_columns({"sex": np.array([b"f", b"m", b"f", b""]), "name": np.array([b"a", b"b", b"c", b"d"])})
    ['sex']
    """
    numbers = {name: len(set(column.tolist()) - {b""}) for name, column in values.items()}
    return [name for name, number in numbers.items() if 2 <= number <= min(MOST_VALUES, len(values[name]) // 2)]


class UserColumns(keras.layers.Layer):
    """The columns of users as inputs of a ranker.

    Args:
        table: of all users.
        dim: width of the embedding of a value.

    Call: user ids [B] strings, and which rows show their columns, [B] int32 or None for all -> [B, W] as `ColumnInputs`
    gives it. Users that the table does not have, and rows that do not show their columns, have missing values.
    """

    def __init__(self, table: UserTable, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unknown = len(table.ids)
        rows = np.arange(len(table.ids), dtype=np.int32)
        with tf.init_scope():
            self.rows = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(table.ids, rows, key_dtype=tf.string), default_value=self.unknown
            )
            self.codes = tf.Variable(table.codes, trainable=False, dtype=tf.int32, name="codes")
            self.ranks = tf.Variable(table.ranks, trainable=False, dtype=tf.float32, name="ranks")
        self.inputs = ColumnInputs(
            [1 + len(known) for known in table.columns.vocabularies.values()], dim, name="inputs"
        )

    def call(self, user_ids: tf.Tensor, shown: tf.Tensor | None = None) -> tf.Tensor:
        rows = self.rows.lookup(user_ids)
        if shown is not None:
            rows = tf.where(shown > 0, rows, self.unknown)
        return self.inputs(tf.gather(self.codes, rows), tf.gather(self.ranks, rows))
