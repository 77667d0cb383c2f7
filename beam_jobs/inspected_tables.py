"""What an inspection reads of a raw folder: rows of the catalogue and of the log, and photos.

Each row goes through the checks of the ingest job itself.
"""

import abc
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import apache_beam as beam
from PIL import Image

from beam_jobs import catalogue, losses, splits
from beam_jobs.checks import DAY, Event, Item, User
from beam_jobs.formats import rows_of
from beam_jobs.items import BuildItems
from beam_jobs.page_views import merge
from beam_jobs.raw_rows import RawFile, RawRow
from beam_jobs.sources import RawFolder
from courier_tf import schema
from courier_tf.escaping import printable

MOST_KEPT = 100_000  # Events that are kept to look for those that would be merged.
SIDE = 16  # Pixels: what photos are resized to, to see whether they can be decoded.
EXAMPLES = 3  # Rows shown for a problem.


class Table(abc.ABC):
    """Rows of a table, checked one by one as the ingest job checks them. What is kept is bounded, or one per id.

    Attributes:
        rows: number of rows read.
        whole: whether these are all rows of the table.
        rejects: kind -> the first rejects of it.
        rejected: kind -> number of rejects.
    """

    kind: schema.RejectKind

    def __init__(self) -> None:
        self.rows, self.whole = 0, True
        self.rejects: dict[schema.RejectKind, list[schema.Reject]] = {}
        self.rejected: Counter[schema.RejectKind] = Counter()

    def read(self, files: Sequence[RawFile], check: beam.DoFn, most: int | None) -> None:
        """Reads the files, or at most about `most` rows, the same number of each file."""
        check.setup()
        each = None if most is None else -(-most // max(1, len(files)))
        for file in files:
            rows = rows_of(file)
            for row in itertools.islice(rows, each):
                self.rows += 1
                if isinstance(row, RawRow):
                    self._check(row, check)
                else:
                    self.reject(schema.Reject(file.path, row.row, row.field, row.reason, self.kind))
            self.whole = self.whole and next(rows, None) is None

    def _check(self, row: RawRow, check: beam.DoFn) -> None:
        for output in check.process(row):
            if isinstance(output, beam.pvalue.TaggedOutput):
                self.reject(output.value)
            else:
                self.add(output)

    @abc.abstractmethod
    def add(self, row: Any) -> None:
        """Takes an item or an event."""

    def reject(self, reject: schema.Reject) -> None:
        """Takes a row that cannot be used."""
        self.rejected[reject.kind] += 1
        examples = self.rejects.setdefault(reject.kind, [])
        if len(examples) < EXAMPLES:
            examples.append(reject)

    def counts(self) -> dict[str, int]:
        """Counts by their names in the facts of ingest."""
        counts = {losses.COUNT_OF_KIND[kind]: number for kind, number in self.rejected.items()}
        return {f"{self.kind}_rows_read": self.rows, **counts}

    def read_words(self) -> str:
        """How much of the table was read."""
        return f"all {self.rows} rows" if self.whole else f"the first {self.rows} rows"


class Items(Table):
    """The catalogue."""

    kind = "item"

    def __init__(self, duplicates: Literal["reject", "first", "last"]) -> None:
        super().__init__()
        self.duplicates, self.further_rows = duplicates, 0
        self.ids: dict[str, tuple[str, int]] = {}
        self.with_photo: list[Item] = []
        self.categories: Counter[str] = Counter()
        self.none_named = 0

    def add(self, row: Item) -> None:
        if row.item_id in self.ids:
            self.further_rows += 1
            if self.duplicates == "reject":
                file, number = self.ids[row.item_id]
                reason = f"item '{printable(row.item_id)}' {catalogue.ALREADY_THERE} {number} of {file}"
                self.reject(schema.Reject(*row.place, "item_id", reason, "item"))
            return
        self.ids[row.item_id] = row.place
        self.categories[row.columns.get(schema.CATEGORY, "")] += 1
        if row.image or row.photo:
            self.with_photo.append(row)
        else:
            self.none_named += 1

    def told(self) -> Iterator[str]:
        """What the rows say, in lines."""
        named = len(self.categories) - ("" in self.categories)
        yield f"items: {len(self.ids)} items in {named} categories ({self.read_words()} read)"
        if self.further_rows and self.duplicates != "reject":
            yield f"items: {self.further_rows} rows are further ones of an item, of which the {self.duplicates} counts"
        if self.none_named:
            yield f"items: {self.none_named} name no photo"


class Events(Table):
    """The log.

    Attributes:
        known: ids of the catalogue, where all of it was read.
    """

    kind = "event"

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, tuple[str, int]] | None = None
        self.users: set[str] = set()
        self.items: set[str] = set()
        self.unknown: Counter[str] = Counter()
        self.days: Counter[int] = Counter()
        self.kept: dict[str, list[Event]] = {}
        self.used = self.clicks = 0

    def add(self, row: Event) -> None:
        if self.known is not None and row.item_id not in self.known:
            reason = f"item {row.item_id!r} is not in the catalogue"
            self.reject(schema.Reject(*row.place, "item_id", reason, "unknown_item"))
            self.unknown[row.item_id] += 1
            return
        self.users.add(row.user_id)
        self.items.add(row.item_id)
        self.days[row.timestamp // DAY] += 1
        self.used += 1
        self.clicks += row.clicked
        if self.used <= MOST_KEPT:
            self.kept.setdefault(row.user_id, []).append(row)

    def compared(self) -> catalogue.UnknownIds:
        """What the ids that the catalogue does not have may mean."""
        return catalogue.compare_unknown(catalogue.most_frequent(self.unknown.items()), self.known or {})

    def merged(self, folder: RawFolder) -> dict[str, int]:
        """How many of the events that were kept would be merged, brought up to the number of all that were read."""
        pause = folder.settings.page_view_gap if folder.log_kind == "impressions" else 1
        conflicts = sum(merge(events, pause).conflicts for events in self.kept.values())
        return {"conflicting_events_merged": round(conflicts * max(1.0, self.used / MOST_KEPT))}

    def told(self, kind: schema.LogKind) -> Iterator[str]:
        """What the rows say, in lines."""
        if not self.used:
            return
        first, last = (splits.date_of(day * DAY) for day in (min(self.days), max(self.days)))
        yield (
            f"events: {self.used} events of {len(self.users)} users and {len(self.items)} items, "
            f"from {first} to {last} (UTC; {self.read_words()} read)"
        )
        if kind == "impressions":
            yield f"events: {self.clicks} are clicked ({self.clicks / self.used:.1%})"


class Users(Table):
    """The table of users."""

    kind = "user"

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, tuple[str, int]] = {}

    def add(self, row: User) -> None:
        if row.user_id in self.ids:
            file, number = self.ids[row.user_id]
            reason = f"user '{printable(row.user_id)}' {catalogue.ALREADY_THERE} {number} of {file}"
            self.reject(schema.Reject(*row.place, "user_id", reason, "user"))
            return
        self.ids[row.user_id] = row.place

    def told(self) -> Iterator[str]:
        """What the rows say, in lines."""
        if self.rows:
            yield f"users: {len(self.ids)} users ({self.read_words()} read)"


class Photos:
    """The photos of the catalogue, or a sample of them that is spread over it."""

    def __init__(self, folder: RawFolder, items: list[Item], most: int | None) -> None:
        reader = BuildItems(folder.path, SIDE, 0, folder.settings.follow_links)
        reader.setup()
        self.places = reader.places
        step = 1 if most is None else -(-len(items) // most) or 1
        self.asked = items[::step]
        self.all = step == 1
        self.kinds: Counter[str] = Counter()
        self.sides: list[tuple[int, int]] = []
        self.rejects: dict[schema.RejectKind, list[schema.Reject]] = {}
        self.rejected: Counter[schema.RejectKind] = Counter()
        for item in self.asked:
            encoded, _, reject = reader.read(item)
            if reject is None and encoded is not None:
                _, reject = reader.normalised(item, encoded)
            if reject:
                self.rejected[reject.kind] += 1
                if len(self.rejects.setdefault(reject.kind, [])) < EXAMPLES:
                    self.rejects[reject.kind].append(reject)
            elif encoded:
                with Image.open(io.BytesIO(encoded)) as header:
                    self.kinds[str(header.format)] += 1
                    self.sides.append(header.size)

    def counts(self) -> dict[str, int]:
        """Counts by their names in the facts of ingest, of the photos that were opened."""
        counts = {losses.COUNT_OF_KIND[kind]: number for kind, number in self.rejected.items()}
        return {"items_items": len(self.asked), **counts}

    def told(self) -> Iterator[str]:
        """What the photos are, in lines."""
        if not self.sides:
            return
        number = f"all {len(self.asked)}" if self.all else f"a sample of {len(self.asked)}"
        kinds = ", ".join(f"{kind} ({times})" for kind, times in self.kinds.most_common())
        least, most = (edge(self.sides, key=lambda side: side[0] * side[1]) for edge in (min, max))
        yield (
            f"photos: {len(self.sides)} of {number} can be read: {kinds}, from {least[0]} x {least[1]} to "
            f"{most[0]} x {most[1]} pixels"
        )
