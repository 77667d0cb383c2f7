"""Looks at a raw folder before any job runs: what it holds, and what is wrong with it.

The rows go through the checks of the ingest job itself, and what is lost is judged by the same limits. Without `full`,
the first rows of each file are read, and a sample of the photos.
"""

import abc
import dataclasses
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam
from PIL import Image

from beam_jobs import catalogue, losses, splits
from beam_jobs.checks import DAY, CheckEvents, CheckItems, Event, Item
from beam_jobs.formats import RawDataError, rows_of
from beam_jobs.items import BuildItems
from beam_jobs.page_views import merge
from beam_jobs.raw_rows import RawFile, RawRow
from beam_jobs.sources import RawFolder
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import RawSettings

MOST_ITEMS = 100_000  # Rows of the catalogue that are read without `full`.
MOST_EVENTS = 50_000  # Rows of the log that are read without `full`, of all files together.
MOST_PHOTOS = 100  # Photos that are opened without `full`.
EARLY_EVENTS, EARLY_PHOTOS = 2_000, 20  # Rows of the log and photos that are looked at before a job runs.
MOST_KEPT = 100_000  # Events that are kept to look for those that would be merged.
SIDE = 16  # Pixels: what photos are resized to, to see whether they can be decoded.
EXAMPLES = 3  # Rows shown for a problem.


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong with the raw folder.

    Attributes:
        stops: whether the ingest job fails because of it.
        text: what it is, how often, and the way out.
        examples: places and reasons, each in a line.
        hopeless: whether it is lost as a whole, whatever the limit.
    """

    stops: bool
    text: str
    examples: tuple[str, ...] = ()
    hopeless: bool = False


class _Bounds(NamedTuple):
    """How much is read: rows of the catalogue and of the log, and photos; None for all."""

    items: int | None = None
    events: int | None = None
    photos: int | None = None


@dataclasses.dataclass
class Report:
    """What the raw folder holds, in lines, and its problems, those first that stop the ingest job."""

    facts: list[str] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)

    @property
    def stops(self) -> bool:
        """Whether the ingest job would fail."""
        return any(problem.stops for problem in self.problems)


def inspect(raw: str, settings: RawSettings, full: bool = False) -> Report:
    """Looks at a raw folder.

    Args:
        raw: folder or URI.
        settings: how it is read, and how much may be lost.
        full: read every row and open every photo.
    """
    try:
        folder = RawFolder.inspect(raw, settings)
        return inspect_folder(folder, _Bounds() if full else _Bounds(MOST_ITEMS, MOST_EVENTS, MOST_PHOTOS))
    except RawDataError as error:
        return Report(problems=[Problem(True, str(error))])


def require_sound(folder: RawFolder) -> None:
    """Refuses a folder of which nothing can be used, before a job reads all of it.

    Raises:
        RawDataError: every one of the first rows, or every photo of a sample, is lost.
    """
    report = inspect_folder(folder, _Bounds(MOST_ITEMS, EARLY_EVENTS, EARLY_PHOTOS))
    hopeless = [problem for problem in report.problems if problem.stops and problem.hopeless]
    if hopeless:
        lines = [hopeless[0].text, *hopeless[0].examples, f"'courier check {folder.path}' says more"]
        raise RawDataError("\n".join(lines))


def inspect_folder(folder: RawFolder, bounds: "_Bounds") -> Report:
    """As `inspect`, of a folder whose files and columns are known.

    Raises:
        RawDataError: a file breaks off.
    """
    items, events = _Items(folder.settings.duplicate_items), _Events()
    items.read(folder.item_files, CheckItems(folder), bounds.items)
    events.known = items.ids if items.whole else None
    events.read(folder.event_files, CheckEvents(folder), bounds.events)
    photos = _Photos(folder, items.with_photo, bounds.photos)
    counts = {**items.counts(), **events.counts(), **events.merged(folder), **photos.counts()}
    report = Report([*folder.told, *items.told(), *events.told(folder.log_kind), *photos.told()])
    report.problems += [Problem(False, warning) for warning in folder.warnings]
    rejects = {**items.rejects, **events.rejects, **photos.rejects}
    for loss in losses.LOSSES:
        if not counts.get(loss.name):
            continue
        share, limit = loss.share(counts), getattr(folder.settings, loss.limit)
        text = f"{counts[loss.name]} of {loss.number(counts)} {loss.words}"
        if share > limit:
            text += f", more than {loss.option} {limit}."
        if loss.kind == "item" and items.further_rows:
            text += losses.ON_DUPLICATES
        if loss.kind == "unknown_item":
            text += losses.what_would_match(events.compared())
        if loss.kind == "missing_photo" and share > limit:
            text += losses.what_is_there(photos.places)
        # A log whose first rows are of items that are gone may have other rows further on.
        hopeless = share == 1 and (loss.kind != "unknown_item" or events.whole)
        report.problems.append(Problem(share > limit, text, _examples(rejects, loss.kind), hopeless))
    report.problems += _problems_of_whole(folder, items, events)
    report.problems.sort(key=lambda problem: not problem.stops)
    return report


def _examples(rejects: dict[schema.RejectKind, list[schema.Reject]], kind: schema.RejectKind | None) -> tuple[str, ...]:
    shown = rejects.get(kind, []) if kind else []
    return tuple(f"{printable(r.file)} row {r.row}, {printable(r.field)}: {printable(r.reason)}" for r in shown)


def _problems_of_whole(folder: RawFolder, items: "_Items", events: "_Events") -> Iterator[Problem]:
    """What cannot be said of one row."""
    if not events.used:
        yield Problem(True, "no event can be used")
        return
    try:
        losses.require_both_labels(folder.log_kind, events.used, events.clicks, folder.settings)
    except RawDataError as error:
        yield Problem(events.whole, str(error) if events.whole else f"in the rows that were read, {error}")
    if events.whole:
        try:
            splits.choose_splits(sorted(events.days.items()), None, None)
        except RawDataError as error:
            yield Problem(True, str(error))


class _Table(abc.ABC):
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

    def read(self, files: list[RawFile], check: beam.DoFn, most: int | None) -> None:
        """Reads the files, or at most about `most` rows, the same number of each file."""
        check.setup()
        each = None if most is None else -(-most // len(files))
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


class _Items(_Table):
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


class _Events(_Table):
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


class _Photos:
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
            encoded, reject = reader.read(item)
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
