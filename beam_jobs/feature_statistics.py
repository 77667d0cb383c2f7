"""The statistics of one feature from its values and their numbers, as TensorFlow Data Validation describes them."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

EXAMPLES = ""  # In place of the name of a feature: the examples of a data set.
MOST_LISTED = 100  # Values of a text feature that are listed with their numbers.
PRIVATE = ("user_id",)  # Features whose values are not listed.
BUCKETS = 10  # Of a histogram of numbers.


@dataclasses.dataclass
class Summary:
    """What is kept of a feature, which has either numbers or texts.

    Attributes:
        numbers: number -> how many examples have it. Callers round what would have very many values.
        texts: how many examples have a text.
        bytes: of all these texts together.
        frequencies: how many examples have a text -> how many texts are so frequent.
        top: (-examples, text) of the most frequent texts.
    """

    numbers: Counter[int] = dataclasses.field(default_factory=Counter)
    texts: int = 0
    bytes: int = 0
    frequencies: Counter[int] = dataclasses.field(default_factory=Counter)
    top: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    def cut(self, most: int) -> None:
        """Cuts `top` down where it is longer than `most`."""
        if len(self.top) > most:
            self.top = sorted(self.top)[:MOST_LISTED]


class SummariseFeature(beam.CombineFn):
    """Combines the (value, number) pairs of a feature, each value once, into a `Summary`. An empty text is no value."""

    def create_accumulator(self) -> Summary:
        return Summary()

    def add_input(self, summary: Summary, counted: tuple[Any, int]) -> Summary:
        value, number = counted
        if isinstance(value, int):
            summary.numbers[value] += number
        elif text := str(value):
            summary.texts += number
            summary.bytes += number * len(text.encode())
            summary.frequencies[number] += 1
            summary.top.append((-number, text))
            summary.cut(2 * MOST_LISTED)
        return summary

    def merge_accumulators(self, parts: Iterable[Summary]) -> Summary:
        whole = Summary()
        for part in parts:
            whole.numbers.update(part.numbers)
            whole.texts += part.texts
            whole.bytes += part.bytes
            whole.frequencies.update(part.frequencies)
            whole.top.extend(part.top)
            whole.cut(2 * MOST_LISTED)
        return whole

    def extract_output(self, summary: Summary) -> Summary:
        summary.top.sort()
        summary.cut(MOST_LISTED)
        return summary


def statistics_of(
    features: Iterable[tuple[tuple[str, str], Summary]], names: Sequence[str]
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of data sets.

    Args:
        features: ((data set, feature), summary) of each feature, in any order; `EXAMPLES` has the number of examples.
        names: of the data sets, in their order. One without examples is there too.
    """
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    by_name = dict(features)
    for name in names:
        examples = by_name.get((name, EXAMPLES), Summary()).numbers.total()
        dataset = statistics.datasets.add(name=name, num_examples=examples)
        for (of, feature), summary in sorted(by_name.items(), key=lambda pair: pair[0]):
            if of == name and feature != EXAMPLES:
                dataset.features.append(_feature(feature, summary, examples))
    return statistics


def _feature(name: str, summary: Summary, examples: int) -> statistics_pb2.FeatureNameStatistics:
    kinds = statistics_pb2.FeatureNameStatistics
    feature = kinds(type=kinds.INT if summary.numbers else kinds.STRING)
    feature.path.step.append(name)
    known = summary.numbers.total() or summary.texts
    common = statistics_pb2.CommonStatistics(
        num_non_missing=known,
        num_missing=examples - known,
        min_num_values=1,
        max_num_values=1,
        avg_num_values=1,
        tot_num_values=known,
    )
    if summary.numbers:
        feature.num_stats.CopyFrom(_numbers(summary.numbers))
        feature.num_stats.common_stats.CopyFrom(common)
    else:
        feature.string_stats.CopyFrom(_texts(summary, listed=name not in PRIVATE))
        feature.string_stats.common_stats.CopyFrom(common)
    return feature


def _numbers(counts: Counter[int]) -> statistics_pb2.NumericStatistics:
    values = np.array(sorted(counts))
    times = np.array([counts[value] for value in values.tolist()])
    mean = float(np.average(values, weights=times))
    described = statistics_pb2.NumericStatistics(
        mean=mean,
        std_dev=float(np.sqrt(np.average((values - mean) ** 2, weights=times))),
        num_zeros=counts.get(0, 0),
        min=float(values[0]),
        median=_quantile(values, times, 0.5),
        max=float(values[-1]),
    )
    kinds = statistics_pb2.Histogram
    borders = np.linspace(values[0], values[-1], BUCKETS + 1)
    equal, _ = np.histogram(values, borders, weights=times) if values[0] < values[-1] else (times, None)
    standard = described.histograms.add(type=kinds.STANDARD)
    for low, high, number in zip(borders[:-1], borders[1:], equal, strict=False):
        standard.buckets.add(low_value=low, high_value=high, sample_count=float(number))
    quantiles = described.histograms.add(type=kinds.QUANTILES)
    cuts = [_quantile(values, times, share) for share in np.linspace(0, 1, BUCKETS + 1)]
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        quantiles.buckets.add(low_value=low, high_value=high, sample_count=float(times.sum() / BUCKETS))
    return described


def _quantile(values: np.ndarray, times: np.ndarray, share: float) -> float:
    """The smallest of the values at or below which this share of all lies."""
    place = np.searchsorted(np.cumsum(times), share * times.sum(), side="left")
    return float(values[min(int(place), len(values) - 1)])


def _texts(summary: Summary, listed: bool) -> statistics_pb2.StringStatistics:
    described = statistics_pb2.StringStatistics(
        unique=summary.frequencies.total(), avg_length=summary.bytes / max(summary.texts, 1)
    )
    for number, text in summary.top if listed else ():
        described.top_values.add(value=text, frequency=float(-number))
    rank = 0  # The curve of popularity: texts of one frequency share a bucket, and buckets grow with the rank.
    bucket: list[int] = []
    for number in sorted(summary.frequencies, reverse=True):
        bucket.append(number)
        ranks = sum(summary.frequencies[each] for each in bucket)
        if ranks * 20 >= rank or number == min(summary.frequencies):
            described.rank_histogram.buckets.add(
                low_rank=rank,
                high_rank=rank + ranks - 1,
                label=summary.top[rank][1] if listed and rank < len(summary.top) else "",
                sample_count=float(sum(each * summary.frequencies[each] for each in bucket)),
            )
            rank, bucket = rank + ranks, []
    return described
