"""Statistics of the data, in the format of TensorFlow Data Validation, computed by the ingest job as it runs.

The data sets are `items`, `rejects`, the three spans and, where the shop has a table of them, `users`. An example of a
span is an event that is used: negatives that ingest draws do not count. All is counted by value and summed by key, so
that every engine writes the same bytes.
"""

import abc
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.checks import DAY, Item, User
from beam_jobs.day_files import DayFacts, DayPart
from beam_jobs.feature_statistics import EXAMPLES, SummariseFeature, statistics_of
from beam_jobs.splits import Splits
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import place_of

ITEMS, REJECTS, USERS = "items", "rejects", "users"  # Names of data sets.
MOST_HELD = 200_000  # Counts that a worker holds before it hands them on.
#: What belongs to one row in a reason: a value that it begins with, quoted texts, and numbers.
_OF_ONE_ROW = re.compile(
    r"^[^':]{1,500}?(?= (?:is not (?:a|of|after)|looks like|lies in) )|'(?:[^'\\]|\\.)*'|\d[\d,.]*"
)

#: (data set, feature), and the value; EXAMPLES in place of a feature counts examples.
Counted = tuple[tuple[str, str], Any]


class _Count(beam.DoFn, abc.ABC):
    """Counts what an element is made of: ((data set, feature), value), number). Counts of a bundle leave together."""

    def start_bundle(self) -> None:
        self.counts: Counter[Counted] = Counter()

    def process(self, element: Any, splits: Any = None) -> Iterator[tuple[Counted, int]]:
        self.add(element, splits)
        if len(self.counts) > MOST_HELD:
            yield from self.counts.items()
            self.counts = Counter()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        for counted in self.counts.items():
            yield WindowedValue(counted, window.max_timestamp(), [window])

    @abc.abstractmethod
    def add(self, element: Any, splits: Splits | None) -> None:
        """Counts an element."""


class CountItems(_Count):
    """Counts (item id, {"rows": [Item], "days": [(day start, DayStatistics)]}): items, and their events by span."""

    def add(self, element: tuple[str, dict[str, Iterable[Any]]], splits: Splits | None) -> None:
        item_id, joined = element
        days = list(joined["days"])
        for item in joined["rows"]:
            self._item(item)
            if splits is None:  # The job has failed, and its driver reports why.
                continue
            category = item.columns.get(schema.CATEGORY, "")
            for day, (number, clicked, _) in days:
                span = splits.of(day)
                self.counts[(span, EXAMPLES), 0] += number
                for name, value in (
                    ("item_id", item_id),
                    (schema.column_feature(schema.CATEGORY), category),
                    ("timestamp", day),
                ):
                    self.counts[(span, name), value] += number
                for label, times in ((1, clicked), (0, number - clicked)):
                    if times:
                        self.counts[(span, "clicked"), label] += times

    def _item(self, item: Item) -> None:
        self.counts[(ITEMS, EXAMPLES), 0] += 1
        for name, value in item.columns.items():
            self.counts[(ITEMS, schema.column_feature(name)), value] += 1
        self.counts[(ITEMS, "title"), item.title] += 1
        if item.available_from is not None:
            self.counts[(ITEMS, "available_from"), item.available_from // DAY * DAY] += 1


class CountUsers(_Count):
    """Counts `User`s of the shop's own table."""

    def add(self, element: User, splits: Splits | None) -> None:
        self.counts[(USERS, EXAMPLES), 0] += 1
        for name, value in element.columns.items():
            self.counts[(USERS, schema.column_feature(name)), value] += 1


class CountPhotos(_Count):
    """Counts (width, height, bytes) of photos that can be used. Bytes are rounded to two digits."""

    def add(self, element: tuple[int, int, int], splits: Splits | None) -> None:
        width, height, size = element
        for name, value in (
            ("photo_width", width),
            ("photo_height", height),
            ("photo_bytes", int(float(f"{size:.1e}"))),
        ):
            self.counts[(ITEMS, name), value] += 1


class CountDays(_Count):
    """Counts `DayPart`s: the user, the context, and the lengths of history and page view, of each of their events."""

    def add(self, element: DayPart, splits: Splits | None) -> None:
        if splits is None:
            return
        span, facts = splits.of(element.day * DAY), DayFacts.of(element)
        for user, number, _ in facts.users:
            self.counts[(span, "user_id"), user] += number
        for name, counts in (("history_length", facts.lengths), ("page_view_size", facts.sizes)):
            for value, number in counts:
                self.counts[(span, name), value] += number
        for column, text, number in facts.contexts:
            self.counts[(span, schema.context_feature(column)), text] += number


class CountRejects(_Count):
    """Counts rejects: kind, file, field and reason. What belongs to one row is left out of its reason."""

    def add(self, element: schema.Reject, splits: Splits | None) -> None:
        self.counts[(REJECTS, EXAMPLES), 0] += 1
        reason = _OF_ONE_ROW.sub("*", element.reason)
        for name, value in (
            ("kind", element.kind),
            ("file", element.file),
            ("field", element.field),
            ("reason", reason),
        ):
            self.counts[(REJECTS, name), value] += 1


class WriteStatistics(beam.PTransform):
    """Writes the statistics of the data to a file that `tfdv.load_stats_binary` and Facets read.

    Takes a dictionary: items as `CountItems` takes them, photos, `DayPart`s of all days, and users where there is a
    table of them. What comes from several places is rejects where its name begins so.

    Args:
        file: to write.
        splits: the splits, a side input.
    """

    def __init__(self, file: str, splits: AsSingleton) -> None:
        super().__init__("Statistics")
        self.file, self.splits = file, splits

    def expand(self, parts: Any) -> Any:
        users = [USERS] if USERS in parts else []
        counted = [
            parts["items"] | "Count items" >> beam.ParDo(CountItems(), splits=self.splits),
            parts["photos"] | "Count photos" >> beam.ParDo(CountPhotos()),
            parts["days"] | "Count days" >> beam.ParDo(CountDays(), splits=self.splits),
            *(parts[name] | "Count users" >> beam.ParDo(CountUsers()) for name in users),
            *(
                part | f"Count {name}" >> beam.ParDo(CountRejects())
                for name, part in parts.items()
                if name.startswith(REJECTS)
            ),
        ]
        return (
            counted
            | "All counts" >> beam.Flatten()
            | "Each value" >> beam.CombinePerKey(sum)
            | "Key by feature" >> beam.MapTuple(lambda key, number: (key[0], (key[1], number)))
            | "Each feature" >> beam.CombinePerKey(SummariseFeature())
            | "All features" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write, self.file, (ITEMS, *users, *schema.SPLITS, REJECTS))
        )


def _write(features: list[Any], file: str, names: tuple[str, ...]) -> None:
    content = statistics_of(features, names).SerializeToString(deterministic=True)
    transfer.write_bytes(place_of(file), content)
