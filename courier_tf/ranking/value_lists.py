"""Columns of the catalogue that hold several values for an item, such as tags."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from courier_tf.escaping import printable
from courier_tf.ranking.data import RankingError
from courier_tf.workdir.records import Items

MOST_VALUES = 32  # Of an item in a column. Further ones are left out, the rarest first.


@dataclasses.dataclass(frozen=True)
class ValueLists:
    """The values of N items in C columns of lists.

    Attributes:
        vocabularies: column -> [V] bytes, the values of the train span; value i has code i + 1.
        codes: [N + 1, C, T] int32; 0 where an item has fewer than T values, and for values that the train span does not
            know. The last row, for the unknown item and for padding, is 0.
    """

    vocabularies: dict[str, np.ndarray]
    codes: np.ndarray

    @classmethod
    def of(cls, items: Items, columns: Sequence[str], train: np.ndarray, separator: str) -> "ValueLists":
        """Reads columns of lists.

        Args:
            items: all N items.
            columns: C item columns.
            train: [N] bool, items of the train span.
            separator: what stands between values, where a text is no JSON array.

        Raises:
            RankingError: a text that begins as a JSON array is none, or holds something else than texts and numbers.
        """
        vocabularies: dict[str, np.ndarray] = {}
        rows: list[list[list[int]]] = []
        for column in columns:
            pairs = zip(items.columns[column], items.ids, strict=True)
            lists = [_values(text, separator, column, item) for text, item in pairs]
            counts = Counter(value for values, known in zip(lists, train, strict=True) if known for value in values)
            vocabulary = np.array(sorted(counts), object)
            vocabularies[column] = vocabulary
            codes = {value: code for code, value in enumerate(vocabulary.tolist(), start=1)}
            rows.append([_codes(values, codes, counts) for values in lists])
        longest = max((len(codes) for of_column in rows for codes in of_column), default=0)
        table = np.zeros([len(items.ids) + 1, len(columns), longest], np.int32)
        for place, of_column in enumerate(rows):
            for row, codes_of_item in enumerate(of_column):
                table[row, place, : len(codes_of_item)] = codes_of_item
        return cls(vocabularies, table)


def _values(text: bytes, separator: str, column: str, item: bytes) -> list[bytes]:
    """The different values in a text, in their order.

    >>> _values(b"red| blue|red|", "|", "tags", b"i1"), _values(b'["red", 3]', "|", "tags", b"i1")
    ([b'red', b'blue'], [b'red', b'3'])
    """
    words = text.decode().strip()
    if not words.startswith("["):
        return [value.encode() for value in dict.fromkeys(map(str.strip, words.split(separator))) if value]
    try:
        values = json.loads(words)
        if not all(isinstance(value, str | int | float) or value is None for value in values):
            raise ValueError
    except ValueError:
        raise RankingError(
            f"rank_list_columns: item {printable(item.decode())} has {printable(words, 60)!r} in the column {column}, "
            "which is no JSON array of texts or numbers. Correct it, or use the column as a category (rank_columns)"
        ) from None
    texts = dict.fromkeys(str(value).strip() for value in values if value is not None)
    return [value.encode() for value in texts if value]


def _codes(values: Sequence[bytes], codes: Mapping[bytes, int], counts: Mapping[bytes, int]) -> list[int]:
    """The codes of the values that are known, at most `MOST_VALUES` of them, the most frequent first."""
    known = sorted((value for value in values if value in codes), key=lambda value: (-counts[value], value))
    return [codes[value] for value in known[:MOST_VALUES]]


def mean_embeddings(table: tf.keras.layers.Embedding, codes: tf.Tensor) -> tf.Tensor:
    """The mean of the embeddings of each list.

    Args:
        table: row i belongs to code i.
        codes: [..., T] int32; 0 stands for no value.

    Returns:
        [..., dim]; 0 for an empty list.
    """
    embedded = table(codes)
    there = tf.cast(codes > 0, embedded.dtype)[..., None]
    return tf.reduce_sum(embedded * there, axis=-2) / tf.maximum(tf.reduce_sum(there, axis=-2), 1)


def list_statistics(candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """How much of the lists of candidates the history has.

    Args:
        candidates: [B, N, C, T] int32 codes; 0 stands for no value.
        history: [B, H, C, T] int32.
        mask: [B, H] bool, False for padding.

    Returns:
        [B, N, 2 C] float32: the share of a candidate's values that a history item has, as the mean over the history;
        the square roots. 0 without values or without a history.
    """
    length = tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32), axis=1), 1.0)[:, None]
    shares = []
    for column in range(candidates.shape[2]):
        ours, past = candidates[:, :, column], tf.where(mask[..., None], history[:, :, column], 0)
        past = tf.reshape(past, [tf.shape(past)[0], tf.shape(past)[1] * past.shape[2]])
        # A value stands in a list once, so that a pair is counted once for an item.
        same = (ours[..., None] == past[:, None, None]) & (ours > 0)[..., None]
        matches = tf.reduce_sum(tf.cast(same, tf.float32), axis=[2, 3])
        values = tf.maximum(tf.reduce_sum(tf.cast(ours > 0, tf.float32), axis=2), 1.0)
        shares.append(matches / values / length)
    share = tf.stack(shares, axis=2) if shares else tf.zeros([tf.shape(mask)[0], tf.shape(candidates)[1], 0])
    return tf.concat([share, tf.sqrt(share)], axis=2)


def list_statistic_names(columns: Sequence[str]) -> list[tuple[str, str]]:
    """(statistic, column) of each number in the result of `list_statistics`."""
    return [(statistic, column) for statistic in ("share of list", "root of list") for column in columns]
