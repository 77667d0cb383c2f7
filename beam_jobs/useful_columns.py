"""Which columns of the catalogue are worth learning from, counted as the job runs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from beam_jobs.items import available_from
from beam_jobs.splits import Splits
from beam_jobs.stable import stable_hash
from courier_tf import schema

MOST_VALUES = 1000  # A column with more values is an identifier or a text, whose values are no classes to learn.

#: (items, {column: hashes of its values}).
Values = tuple[int, dict[str, set[int]]]
#: (items of the train span, {column: its different values, at most `MOST_VALUES` + 1}). An empty text is no value.
Counted = tuple[int, dict[str, int]]


def columns_of_train(element: tuple[str, dict[str, Iterable[Any]]], splits: Splits | None) -> Iterator[dict[str, str]]:
    """The columns of an item, as `BuildItems` takes it, if it is there before the train span ends."""
    days = list(element[1]["days"])
    for item in element[1]["rows"]:
        if splits is not None and available_from(item, days) < splits.valid_from:
            yield item.columns


class CountValues(beam.CombineFn):
    """Counts the values of each column. Memory holds at most `MOST_VALUES` + 1 of each."""

    def create_accumulator(self) -> Values:
        return 0, {}

    def add_input(self, sums: Values, columns: Mapping[str, str]) -> Values:
        for column, value in columns.items():
            known = sums[1].setdefault(column, set())
            if value and len(known) <= MOST_VALUES:
                known.add(stable_hash(value))
        return sums[0] + 1, sums[1]

    def merge_accumulators(self, parts: Iterable[Values]) -> Values:
        items, whole = self.create_accumulator()
        for number, columns in parts:
            items += number
            for column, values in columns.items():
                known = whole.setdefault(column, set())
                if len(known) <= MOST_VALUES:
                    known |= values
        return items, whole

    def extract_output(self, sums: Values) -> Counted:
        return sums[0], {column: min(len(values), MOST_VALUES + 1) for column, values in sums[1].items()}


def useful_columns(columns: Iterable[str], counted: Counted) -> list[str]:
    """The category, and each column that has 2 to `MOST_VALUES` values, and two items per value on average.

    Args:
        columns: all columns.
        counted: among the items of the train span.

    >>> useful_columns(["category", "brand", "title"], (9, {"category": 1, "brand": 4, "title": 9}))
    ['category', 'brand']
    """
    items, values = counted
    most = min(MOST_VALUES, items // 2)
    return [column for column in columns if column == schema.CATEGORY or 2 <= values.get(column, 0) <= most]
