"""Whether the data of an ingest have drifted from those of the previous run by more than is tolerated."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_jobs.checks import DAY
from beam_jobs.data_figures import DataFacts, Dataset, read_statistics
from beam_jobs.losses import LOSSES
from courier_tf import schema
from courier_tf.monitoring.distributions import stability_index
from courier_tf.monitoring.drift import DriftCheck, factor_between
from courier_tf.settings.monitoring import DataDriftSettings
from courier_tf.workdir.stages import INGEST

MOST_POPULAR = 0.1  # Share of the items whose share of the events is compared.
_CATEGORY = schema.column_feature(schema.CATEGORY)


class DataSchemaError(ValueError):
    """The data have another schema than those of the previous run. The message is a line for each difference."""


class _Column(NamedTuple):
    """A column of the shop: how messages name it, the data set that counts its values, and the feature there."""

    words: str
    dataset: Dataset
    feature: str


@dataclasses.dataclass(frozen=True)
class Data:
    """What an ingest tells of its data: the statistics by the name of the data set, and the facts."""

    statistics: Mapping[str, Dataset]
    facts: DataFacts

    @classmethod
    def read(cls, workdir: Path) -> "Data":
        """Reads the data of a workdir, or of a snapshot such as W/promoted, which has the statistics alone.

        Raises:
            StatisticsError: there are no statistics, or they are broken.
        """
        snapshot = (workdir / schema.STATISTICS_FOLDER).is_dir()
        folder = workdir if snapshot else workdir / INGEST
        return cls(read_statistics(folder), DataFacts.read(folder))

    @property
    def events(self) -> int:
        """Events of all spans."""
        return sum(span.examples for span in self.spans)

    @property
    def spans(self) -> list[Dataset]:
        """The data sets of events, in the order of time."""
        return [self.statistics[name] for name in schema.SPLITS]

    @property
    def items(self) -> Dataset:
        """The data set of the items."""
        return self.statistics["items"]

    def mean(self, name: str) -> float:
        """The mean of a feature over the events of all spans."""
        return sum(span.mean(name) * span.examples for span in self.spans) / max(self.events, 1)

    def days(self) -> tuple[float, float]:
        """Midnight of the first and of the last day of the log, in seconds (UTC)."""
        ends = [(span.edge("timestamp", "min"), span.edge("timestamp", "max")) for span in self.spans]
        return min(low for low, _ in ends if low is not None), max(high for _, high in ends if high is not None)

    def events_per_day(self) -> float:
        """Events per day of the log, from its first day to its last."""
        first, last = self.days()
        return self.events / ((last - first) / DAY + 1)

    def categories(self) -> dict[str, int]:
        """Category -> events of all spans; "" are all others."""
        counts: dict[str, int] = {}
        for span in self.spans:
            for name, number in span.top(_CATEGORY).items():
                counts[name] = counts.get(name, 0) + number
        counts[""] = self.events - sum(counts.values())
        return counts

    def columns(self) -> dict[str, _Column]:
        """The columns of items, of users and of the context, by what checks call them. Contexts are those of train."""
        facts, train = self.facts, self.statistics["train"]
        of_items, of_users, of_events = facts.all_columns, facts.user_columns, facts.context_columns
        columns = {
            f"'{name}'": _Column(f"the item column '{name}'", self.items, schema.column_feature(name))
            for name in of_items
        }
        if "users" in self.statistics:
            users = self.statistics["users"]
            columns |= {
                f"'{name}' of users": _Column(f"the user column '{name}'", users, schema.column_feature(name))
                for name in of_users
            }
        return columns | {
            f"'{name}' of events": _Column(f"the context column '{name}'", train, schema.context_feature(name))
            for name in of_events
        }

    def popularity(self) -> float:
        """The share of the events that the most popular tenth of the items has, as a mean over the spans."""
        shares = [span.share_of_most_popular(MOST_POPULAR) * span.examples for span in self.spans]
        return sum(shares) / max(self.events, 1)


@dataclasses.dataclass(frozen=True)
class DataDriftReport:
    """What `courier data-report` writes.

    Attributes:
        figures, previous_figures: figures by name; those of the previous run are empty where nothing is compared.
        judged: whether there are enough events.
        drifted: names of what has drifted; empty where nothing is judged.
        broken: how the schema differs, each in a sentence.
        checks: all comparisons.
        limits: the settings.
    """

    figures: dict[str, float]
    previous_figures: dict[str, float]
    judged: bool
    drifted: tuple[str, ...]
    broken: tuple[str, ...]
    checks: tuple[DriftCheck, ...]
    limits: DataDriftSettings

    def require_one_schema(self) -> None:
        """Refuses data whose schema is not that of the previous run.

        Raises:
            DataSchemaError: it is another.
        """
        if self.broken:
            raise DataSchemaError("\n".join(self.broken))


def report_of(data: Data, previous: Data | None, limits: DataDriftSettings) -> DataDriftReport:
    """Compares the data of a run with those of the previous one; without one it only tells the figures."""
    if previous is None:
        return DataDriftReport(_figures(data), {}, False, (), (), (), limits)
    checks = tuple(checks_of(data, previous, limits))
    judged = min(data.events, previous.events) >= limits.drift_min_events
    drifted = tuple(check.name for check in checks if check.exceeded) if judged else ()
    broken = tuple(schema_differences(data, previous))
    return DataDriftReport(_figures(data), _figures(previous), judged, drifted, broken, checks, limits)


def _figures(data: Data) -> dict[str, float]:
    figures = {"events": data.events, "events_per_day": data.events_per_day(), "items": data.items.examples}
    if data.facts.log_kind == "impressions":
        figures["share_of_clicks"] = data.mean("clicked")
    return figures | {
        "mean_history_length": data.mean("history_length"),
        "mean_page_view_size": data.mean("page_view_size"),
        "events_of_the_most_popular_tenth": data.popularity(),
        "items_without_a_photo": data.items.missing("photo_width"),
        "mean_photo_width": data.items.mean("photo_width"),
        "mean_photo_height": data.items.mean("photo_height"),
        **{loss.name: loss.share(data.facts.counts) for loss in LOSSES},
    }


def schema_differences(data: Data, previous: Data) -> Iterator[str]:
    """How the schema differs from that of the previous run, each in a sentence. A further column is no fault."""
    kind, before = data.facts.log_kind, previous.facts.log_kind
    if kind != before:
        yield f"the log is one of {kind}, and that of the previous run one of {before}"
    now = data.columns()
    for name, column in previous.columns().items():
        number = column.dataset.unique(column.feature)
        if name not in now:
            yield f"{column.words} is gone: name it by --columns, or begin a chain without it"
        elif number and not now[name].dataset.unique(column.feature):
            yield f"{column.words} is empty, and had {number:,} values"
    if previous.items.missing("photo_width") < 1 == data.items.missing("photo_width"):
        yield "no item has a photo, and items of the previous run had"


def checks_of(data: Data, previous: Data, limits: DataDriftSettings) -> Iterator[DriftCheck]:
    """The comparisons of what both runs tell."""
    now, before = _figures(data), _figures(previous)
    for name, limit in (
        ("events_per_day", limits.max_volume_factor),
        ("items", limits.max_volume_factor),
        ("share_of_clicks", limits.max_click_rate_factor),
        ("mean_history_length", limits.max_history_factor),
        ("mean_page_view_size", limits.max_page_view_factor),
        ("mean_photo_width", limits.max_photo_size_factor),
        ("mean_photo_height", limits.max_photo_size_factor),
    ):
        if name in now and name in before:
            yield DriftCheck(name, factor_between(now[name], before[name]), limit)
    popular = "events_of_the_most_popular_tenth"
    yield DriftCheck(popular, abs(now[popular] - before[popular]), limits.max_popularity_shift)
    yield DriftCheck("categories", _index(data.categories(), previous.categories()), limits.max_category_drift)
    yield DriftCheck("days_back", max(0.0, (previous.days()[1] - data.days()[1]) / DAY), limits.max_days_back)
    missing = "items_without_a_photo"
    yield DriftCheck(missing, now[missing] - before[missing], limits.max_missing_increase)
    for loss in LOSSES:
        yield DriftCheck(loss.name, now[loss.name] - before[loss.name], limits.max_reject_increase)
    columns = data.columns()
    for name, column in previous.columns().items():
        if name in columns:
            yield from _checks_of_column(name, columns[name], column, limits)


def _checks_of_column(name: str, now: _Column, before: _Column, limits: DataDriftSettings) -> Iterator[DriftCheck]:
    increase = now.dataset.missing(now.feature) - before.dataset.missing(before.feature)
    yield DriftCheck(f"missing values of {name}", increase, limits.max_missing_increase)
    values, values_before = (column.dataset.top(column.feature) for column in (now, before))
    unique = max(column.dataset.unique(column.feature) for column in (now, before))
    if unique == max(len(values), len(values_before)):  # Otherwise rare values are not listed.
        yield DriftCheck(f"values of {name}", _index(values, values_before), limits.max_column_drift)


def _index(now: Mapping[str, int], before: Mapping[str, int]) -> float:
    """The population stability index of two tables of counts."""
    names = sorted({*now, *before})
    if not names:
        return 0.0
    expected, actual = (np.array([side.get(name, 0) for name in names], float) for side in (before, now))
    return stability_index(expected, actual)
