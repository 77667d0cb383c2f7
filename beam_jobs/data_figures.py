"""Reads the statistics of an ingest: the figures that its page shows and that drift is judged by."""

import dataclasses
import json
from collections.abc import Mapping

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import MissingFileError, Place

STATISTICS_FILE = f"{schema.STATISTICS_FOLDER}/FeatureStats.pb"  # Below the folder of ingest, by the name of TFX.
FACTS_FILE = f"{schema.STATISTICS_FOLDER}/facts.json"


class StatisticsError(ValueError):
    """There are no statistics, or they cannot be read. The message is one line."""


class Dataset:
    """The statistics of a data set: the items, the rejects or the events of a span.

    Args:
        described: as TensorFlow Data Validation describes it.
    """

    def __init__(self, described: statistics_pb2.DatasetFeatureStatistics) -> None:
        self.name, self.examples = described.name, described.num_examples
        self.features = {feature.path.step[0]: feature for feature in described.features}

    def mean(self, name: str) -> float:
        """The mean of a feature of numbers; 0 where nothing has one."""
        return self.features[name].num_stats.mean if self.is_numeric(name) else 0.0

    def is_numeric(self, name: str) -> bool:
        """Whether a feature has numbers."""
        return name in self.features and self.features[name].HasField("num_stats")

    def edge(self, name: str, end: str) -> float | None:
        """The `min`, `median` or `max` of a feature of numbers; None where nothing has one."""
        return getattr(self.features[name].num_stats, end) if self.is_numeric(name) else None

    def unique(self, name: str) -> int:
        """How many different texts a feature has."""
        return self.features[name].string_stats.unique if name in self.features else 0

    def missing(self, name: str) -> float:
        """The share of examples without a feature, from 0 to 1."""
        if name not in self.features or not self.examples:
            return 1.0 if self.examples else 0.0
        feature = self.features[name]
        of_kind = feature.num_stats if self.is_numeric(name) else feature.string_stats
        return of_kind.common_stats.num_missing / self.examples

    def top(self, name: str) -> dict[str, int]:
        """The most frequent texts of a feature, with how many examples have them."""
        if name not in self.features:
            return {}
        return {value.value: int(value.frequency) for value in self.features[name].string_stats.top_values}

    def share_of_most_popular(self, share: float) -> float:
        """The share of events that this share of the items has, the most popular ones.

        Within a bucket of the histogram of ranks, events are taken to be spread evenly.
        """
        if "item_id" not in self.features:
            return 0.0
        buckets = self.features["item_id"].string_stats.rank_histogram.buckets
        most = share * self.unique("item_id")
        events = 0.0
        for bucket in buckets:
            ranks = bucket.high_rank + 1 - bucket.low_rank
            events += bucket.sample_count * min(1.0, max(0.0, (most - bucket.low_rank) / ranks))
        return events / max(self.examples, 1)


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """What the facts of ingest tell of the data. They stand beside the statistics, for snapshots without records.

    Attributes:
        log_kind: `impressions` or `positives`.
        all_columns: every item column.
        counts: rows read and lost, by name.
        user_columns, context_columns: those of users and of events.
    """

    log_kind: str
    all_columns: tuple[str, ...]
    counts: Mapping[str, int]
    user_columns: tuple[str, ...] = ()
    context_columns: tuple[str, ...] = ()

    def write(self, folder: Place) -> None:
        """Writes them beside the statistics of an ingest."""
        transfer.write_bytes(folder / FACTS_FILE, json.dumps(dataclasses.asdict(self), indent=2).encode())

    @classmethod
    def read(cls, folder: Place) -> "DataFacts":
        """Reads what `write` has written.

        Raises:
            StatisticsError: it is not there, or broken.
        """
        file = folder / FACTS_FILE
        try:
            values = json.loads(_content(file))
            # Those of versions before 0.15 name no columns of users and events.
            others = (tuple(values.get(name, ())) for name in ("user_columns", "context_columns"))
            return cls(values["log_kind"], tuple(values["all_columns"]), values["counts"], *others)
        except (ValueError, KeyError, TypeError) as error:
            raise StatisticsError(f"{file} is broken: {error}") from error


def read_statistics(folder: Place) -> dict[str, Dataset]:
    """The statistics of an ingest, by the name of the data set.

    Raises:
        StatisticsError: it has none, as that of an older version, or they are broken.
    """
    file = folder / STATISTICS_FILE
    try:
        whole = statistics_pb2.DatasetFeatureStatisticsList.FromString(_content(file))
    except DecodeError as error:
        raise StatisticsError(f"{file} is broken: {error}") from error
    return {dataset.name: Dataset(dataset) for dataset in whole.datasets}


def _content(file: Place) -> bytes:
    try:
        return transfer.read_bytes(file)
    except (FileNotFoundError, MissingFileError) as error:
        raise StatisticsError(f"{file} is not there: run `courier ingest` again with this version") from error


def shares(numbers: Mapping[str, int], whole: int) -> dict[str, float]:
    """Numbers as shares of a whole, the largest first."""
    return {
        name: number / max(whole, 1) for name, number in sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0]))
    }
