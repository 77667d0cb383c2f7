"""Columns of the catalogue that hold numbers, such as a price: their scale, and what a ranker sees of them."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from courier_tf.escaping import printable
from courier_tf.ranking.data import RankingError
from courier_tf.workdir.records import Items

#: A number as `numbers_of` reads it; Python takes 1_000 and words too, which no export means as numbers.
NUMBER = r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*"
MOST_QUANTILES = 1000  # That stand for the numbers of the train span where a graph has to know them.
MISSING = -1.0  # Stands for a number that an item does not have; all others are from 0 to 1.
#: What a ranker sees of each column, in the order of `number_statistics`.
STATISTICS = ("number", "number is there", "distance from history", "distance is there")


def number_table(items: Items, columns: Sequence[str], train: np.ndarray) -> np.ndarray:
    """The ranks of all numbers of the catalogue.

    Args:
        items: all N items.
        columns: C item columns that hold numbers.
        train: [N] bool, items of the train span.

    Returns:
        [N + 1, C] float32, as `quantile_ranks`. The last row, for the unknown item and for padding, is `MISSING`.

    Raises:
        RankingError: a value is no number.
    """
    table = np.full([len(items.ids) + 1, len(columns)], MISSING, np.float32)
    for place, column in enumerate(columns):
        table[:-1, place] = quantile_ranks(items.columns[column], train, column, items.ids)
    return table


def quantile_ranks(values: np.ndarray, train: np.ndarray, column: str, ids: np.ndarray) -> np.ndarray:
    """The numbers of a column by their rank among those of the train span, so that no scale or outlier matters.

    >>> quantile_ranks(np.array([b"10", b"1e3", b"", b"20"], object), np.array([True, True, True, False]), "price",
    ...                np.array([b"a", b"b", b"c", b"d"], object)).tolist()
    [0.25, 0.75, -1.0, 0.5]

    Args:
        values: [N] bytes; empty where an item has no number.
        train: [N] bool, items of the train span.
        column: name of the column, for messages.
        ids: [N] bytes, the items, for messages.

    Returns:
        [N] float32: the share of train-span numbers below, ties half; `MISSING` without a number. Without any number in
        the train span each number is 0.5.

    Raises:
        RankingError: a value is no finite number; names the item.
    """
    numbers = np.array([_number(value, column, item) for value, item in zip(values, ids, strict=True)])
    there = ~np.isnan(numbers)
    known = np.sort(numbers[there & train])
    if not len(known):
        return np.where(there, 0.5, MISSING).astype(np.float32)
    below, up_to = (np.searchsorted(known, numbers, side) for side in ("left", "right"))
    return np.where(there, (below + up_to) / (2 * len(known)), MISSING).astype(np.float32)


def _number(value: bytes, column: str, item: bytes) -> float:
    """The number in a value; NaN for an empty one."""
    text = value.decode().strip()
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:  # Python takes 1_000, which no export means as a number.
        raise RankingError(
            f"rank_number_columns: item {printable(item.decode())} has {printable(text, 40)!r} in the column {column}, "
            "which is no finite number. Correct it, leave it empty, or use the column as a category (rank_columns)"
        )
    return number


def numbers_of(texts: tf.Tensor) -> tf.Tensor:
    """The numbers in texts, with TensorFlow's own ops, so that training and every server read alike.

    Args:
        texts: [B] strings.

    Returns:
        [B] float64; NaN where a text is empty, or is no finite number.
    """
    readable = tf.strings.regex_full_match(texts, NUMBER)
    numbers = tf.strings.to_number(tf.where(readable, tf.strings.strip(texts), "nan"), tf.float64)
    return tf.where(tf.math.is_finite(numbers), numbers, tf.constant(math.nan, tf.float64))


def require_numbers(texts: np.ndarray, numbers: np.ndarray, column: str, setting: str) -> None:
    """Refuses a column with texts that are no numbers.

    Args:
        texts: [N] bytes.
        numbers: [N] what `numbers_of` reads in them.
        column: its name.
        setting: that says that it holds numbers.

    Raises:
        RankingError: names the first such text.
    """
    for text in texts[np.isnan(numbers)]:
        if text.strip():
            raise RankingError(
                f"{setting}: the column {column} holds {printable(text.decode(), 40)!r}, which is no finite number. "
                "Correct it, leave it empty, or use the column as a category"
            )


def thinned(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """At most `MOST_QUANTILES` numbers that stand for all, in equal steps of their ranks.

    >>> thinned(np.array([5.0, 1.0]), np.array([1, 2])).tolist()
    [1.0, 1.0, 5.0]

    Args:
        numbers: [N] float64, distinct.
        counts: [N] int, how often each is there.

    Returns:
        [Q] float64, ascending; all of them with their repetitions where they are few.
    """
    order = np.argsort(numbers)
    up_to = np.cumsum(counts[order])
    total = int(up_to[-1]) if len(up_to) else 0
    kept = min(total, MOST_QUANTILES)
    places = ((np.arange(kept) + 0.5) * total / max(kept, 1)).astype(np.int64)
    return np.asarray(numbers[order][np.searchsorted(up_to, places, side="right")], np.float64)


def number_inputs(ranks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What a ranker sees of ranks of any shape: them from -1 to 1, 0 where there is none; and whether there is one."""
    there = tf.cast(ranks >= 0, tf.float32)
    return (2.0 * ranks - 1.0) * there, there


def number_statistics(candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What a ranker sees of the numbers of candidates, and of how they differ from those of the history.

    Args:
        candidates: [B, N, C] float32 ranks as `quantile_ranks` gives them.
        history: [B, H, C] float32.
        mask: [B, H] bool, False for padding.

    Returns:
        [B, N, 4 C] float32, in the order of `STATISTICS`: the rank from -1 to 1; whether there is one; its distance
        from the mean of the history, from 0 to 1; whether there is a distance. What is not there is 0.
    """
    scaled, there = number_inputs(candidates)
    usable = tf.cast((history >= 0) & mask[..., None], tf.float32)
    number = tf.reduce_sum(usable, axis=1)[:, None]
    mean = tf.reduce_sum(history * usable, axis=1)[:, None] / tf.maximum(number, 1.0)
    comparable = there * tf.minimum(number, 1.0)
    distance = tf.abs(candidates - mean) * comparable
    return tf.concat([scaled, there, distance, comparable], axis=2)


def statistic_names(columns: Sequence[str]) -> list[tuple[str, str]]:
    """(statistic, column) of each number in the result of `number_statistics`."""
    return [(statistic, column) for statistic in STATISTICS for column in columns]
