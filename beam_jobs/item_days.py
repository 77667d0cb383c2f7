"""The statistics of an item by day, in one value: a log has few days, and many pairs of an item and a day."""

import functools
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from beam_jobs.checks import DAY
from beam_jobs.items import DayStatistics
from courier_tf import schema

DaysOfItem = tuple[str, dict[int, DayStatistics]]  # (item id, {day: its statistics}); a day is timestamp // DAY.


class AddDays(beam.CombineFn):
    """Adds statistics by day: {day: DayStatistics}."""

    def create_accumulator(self) -> dict[int, DayStatistics]:
        return {}

    def add_input(self, sums: dict[int, DayStatistics], more: dict[int, DayStatistics]) -> dict[int, DayStatistics]:
        for day, (number, positives, first) in more.items():
            before = sums.get(day, (0, 0, schema.NEVER))
            sums[day] = before[0] + number, before[1] + positives, min(before[2], first)
        return sums

    def merge_accumulators(self, parts: Iterable[dict[int, DayStatistics]]) -> dict[int, DayStatistics]:
        return functools.reduce(self.add_input, parts, self.create_accumulator())

    def extract_output(self, sums: dict[int, DayStatistics]) -> dict[int, DayStatistics]:
        return sums


def with_starts(element: tuple[str, dict[str, Iterable[Any]]]) -> tuple[str, dict[str, list[Any]]]:
    """An item with its days in a list: "days" are [(day start, DayStatistics)]. What else is joined with it stays."""
    item, joined = element
    days = [(day * DAY, statistics) for days in joined["days"] for day, statistics in days.items()]
    return item, {**{name: list(values) for name, values in joined.items()}, "days": days}
