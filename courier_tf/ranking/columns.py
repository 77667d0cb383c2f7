"""Columns of values, of events or of users, as inputs of a ranker: codes of the train span, and ranks of numbers.

One definition serves training and SavedModels: what the train span knows is a `Columns`, and the layers that read texts
by it are TensorFlow's own lookups and embeddings.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.catalogue import ValueCodes
from courier_tf.ranking.numbers import MISSING, number_inputs, numbers_of, require_numbers, thinned

#: Distinct texts of a column -> how often the train span has each.
Counts = Mapping[str, Counter[bytes]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the train span knows of some columns.

    Attributes:
        vocabularies: column -> [V] bytes, the values of the train span; value i has code i + 1, any other value code 0.
            A missing value is the empty text, and a value as any other.
        quantiles: column of numbers -> [Q] float64 ascending, numbers of the train span in equal steps of their ranks.
    """

    vocabularies: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    quantiles: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns: those of categories, then those of numbers."""
        return (*self.vocabularies, *self.quantiles)

    def where(self, chosen: Callable[[str], bool]) -> "Columns":
        """The columns whose names are chosen."""
        parts = (
            {name: values for name, values in part.items() if chosen(name)}
            for part in (self.vocabularies, self.quantiles)
        )
        return Columns(*parts)

    @classmethod
    def of(cls, counts: Counts, number_columns: Iterable[str], setting: str) -> "Columns":
        """Learns the columns of the train span.

        Args:
            counts: of all columns.
            number_columns: those that hold numbers.
            setting: that names them, for messages.

        Raises:
            RankingError: a value of a number column is no number.
        """
        numbers = set(number_columns)
        vocabularies = {
            name: np.array(sorted(of_column), object) for name, of_column in counts.items() if name not in numbers
        }
        return cls(
            vocabularies,
            {name: _quantiles(of_column, name, setting) for name, of_column in counts.items() if name in numbers},
        )


def _quantiles(counts: Counter[bytes], column: str, setting: str) -> np.ndarray:
    texts = np.array(sorted(counts), object)
    numbers = numbers_of(tf.constant(texts, tf.string)).numpy()
    require_numbers(texts, numbers, column, setting)
    there = ~np.isnan(numbers)
    return thinned(numbers[there], np.array([counts[text] for text in texts], np.int64)[there])


def ranks_in(quantiles: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """The share of the train span's numbers below each number, ties half: what `quantile_ranks` gives for items.

    Args:
        quantiles: [Q] float64, ascending.
        numbers: [B] float64, NaN where there is none.

    Returns:
        [B] float32, `MISSING` without a number. Without any number in the train span each number is 0.5.
    """
    known = quantiles.shape[0]
    below, up_to = (tf.searchsorted(quantiles, numbers, side) for side in ("left", "right"))
    ranks = (below + up_to) / (2 * known) if known else tf.fill(tf.shape(numbers), tf.constant(0.5, tf.float64))
    return tf.cast(tf.where(tf.math.is_nan(numbers), tf.constant(MISSING, tf.float64), ranks), tf.float32)


class ColumnInputs(keras.layers.Layer):
    """Codes and ranks of the values of a row as inputs of a ranker.

    Args:
        sizes: number of codes of each of C columns of categories, 0 for the unknown included.
        dim: width of the embedding of a value.

    Call: codes [B, C] int32, ranks [B, Q] float32 as `ranks_in` gives them -> [B, C * dim + 2 * Q]: embeddings of the
    categories; then the ranks from -1 to 1, and whether there is a number.
    """

    def __init__(self, sizes: Sequence[int], dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Named by number: a column of a shop may have any name, and TensorFlow allows few characters.
        self.embeddings = [
            keras.layers.Embedding(size, dim, name=f"values_{column}") for column, size in enumerate(sizes)
        ]

    def call(self, codes: tf.Tensor, ranks: tf.Tensor) -> tf.Tensor:
        parts = [embedding(codes[:, column]) for column, embedding in enumerate(self.embeddings)]
        parts += [tf.cast(part, self.compute_dtype) for part in number_inputs(ranks)]
        return tf.concat(parts, axis=1)


class TextInputs(keras.layers.Layer):
    """The values of columns, as texts, as inputs of a ranker.

    Args:
        columns: what the train span knows of them.
        dim: width of the embedding of a value.

    Call: {column: [B] strings}, and which rows show their values, [B] int32 or None for all -> [B, W] as `ColumnInputs`
    gives it. A row that does not show them has unknown values and no numbers.
    """

    def __init__(self, columns: Columns, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = columns
        self.codes = [ValueCodes(values, name=f"codes_{n}") for n, values in enumerate(columns.vocabularies.values())]
        self.inputs = ColumnInputs([codes.size for codes in self.codes], dim, name="inputs")
        with tf.init_scope():
            self.quantiles = [
                tf.Variable(known, trainable=False, dtype=tf.float64, name=f"quantiles_{n}")
                for n, known in enumerate(columns.quantiles.values())
            ]

    @property
    def tables(self) -> list[tf.lookup.StaticHashTable]:
        """The tables that a SavedModel must hold beside the weights."""
        return [codes.table for codes in self.codes]

    def call(self, values: Mapping[str, tf.Tensor], shown: tf.Tensor | None = None) -> tf.Tensor:
        rows = tf.shape(values[self.columns.names[0]])[0]
        codes = [lookup(values[name]) for name, lookup in zip(self.columns.vocabularies, self.codes, strict=True)]
        ranks = [
            ranks_in(known, numbers_of(values[name]))
            for name, known in zip(self.columns.quantiles, self.quantiles, strict=True)
        ]
        all_codes = tf.stack(codes, axis=1) if codes else tf.zeros([rows, 0], tf.int32)
        all_ranks = tf.stack(ranks, axis=1) if ranks else tf.zeros([rows, 0])
        if shown is not None:
            all_codes *= shown[:, None]
            all_ranks = tf.where(shown[:, None] > 0, all_ranks, MISSING)
        return self.inputs(all_codes, all_ranks)
