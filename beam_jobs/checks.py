"""Checks that turn a raw row into an item or an event. Other rows are rejected with file, row, field and reason."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows

from beam_jobs.columns import plain
from beam_jobs.log_kinds import positive_words
from beam_jobs.photo_names import first_of
from beam_jobs.raw_rows import RawRow
from beam_jobs.sources import NAMESPACE, REJECTS, RawFolder
from beam_jobs.times import CLOCK_SKEW, DAY, LATEST_SECONDS, FutureError, TimeError, TimeForm, TimeParser, any_time
from beam_jobs.values import NoValue, identifier, is_null, label, null_words, stripped
from courier_tf import schema

__all__ = ["CLOCK_SKEW", "DAY", "LATEST_SECONDS", "CheckEvents", "CheckItems", "CheckUsers", "Event", "Item", "User"]

COUNTS = "counts"  # Tag of an output.
CUT = "ids_with_blanks_cut"  # Names of counts.
IN_FUTURE = "in_future"  # Rows that are no rejects any more some day.


class Event(NamedTuple):
    """One checked row of the event log. `place` is (file, row)."""

    user_id: str
    item_id: str
    timestamp: int
    request_id: str  # "" in a positives-only log, and in an impression log without request ids.
    clicked: int  # 1 in all rows of a positives-only log.
    place: tuple[str, int]
    context: tuple[str, ...] = ()  # Of each context column in their order; "" where there is none.


class Item(NamedTuple):
    """One checked row of the catalogue. `place` is (file, row)."""

    item_id: str
    image: str
    title: str
    available_from: int | None
    columns: dict[str, str]  # The category and all further columns.
    place: tuple[str, int]
    photo: bytes | None = None  # Where the file holds photos; `image` is its name then, or empty.


class User(NamedTuple):
    """One checked row of the table of users. `place` is (file, row)."""

    user_id: str
    columns: dict[str, str]
    place: tuple[str, int]


class _FieldError(Exception):
    """A field of a row is not acceptable."""

    def __init__(self, field: str, reason: str, kind: schema.RejectKind | None = None) -> None:
        super().__init__(field, reason)
        self.field, self.reason, self.kind = field, reason, kind


class _Fields:
    """Reads the fields of rows.

    Args:
        nulls: words for no value.
        count_cut: is called for each id whose blanks were cut.
    """

    def __init__(self, nulls: frozenset[str], count_cut: Callable[[], None]) -> None:
        self.nulls, self.count_cut = nulls, count_cut

    def identifier(self, fields: dict[str, str], name: str) -> str:
        try:
            text = fields[name]
            checked = identifier(text, self.nulls)
        except KeyError:  # Only JSON rows can lack a field: other formats have the same columns in every row.
            raise _FieldError(name, "is missing", "anonymous" if name == "user_id" else None) from None
        except NoValue as error:
            nobody = name == "user_id" and is_null(stripped(text), self.nulls)
            raise _FieldError(name, str(error), "anonymous" if nobody else None) from None
        if len(checked) != len(text):
            self.count_cut()
        return checked

    def text(self, fields: dict[str, str], name: str) -> str:
        """A text that may be empty."""
        text = fields.get(name, "")
        if len(text) < 32 and is_null(stripped(text), self.nulls):
            return ""
        if 4 * len(text) > schema.MAX_TEXT_BYTES and len(text.encode()) > schema.MAX_TEXT_BYTES:
            raise _FieldError(name, f"is longer than {schema.MAX_TEXT_BYTES:,} bytes")
        return text


class CheckEvents(beam.DoFn):
    """Turns a RawRow into an Event. A row that is no positive, where only these count, is left out and counted.

    The output `COUNTS` has ((file, name), number), such as ids whose blanks were cut, and rows that lie in the future.

    Args:
        folder: the raw folder, which tells how its log is read.
    """

    def __init__(self, folder: RawFolder) -> None:
        self.log, self.forms = folder.log, folder.times
        self.nulls, self.positives = null_words(folder.settings.null_words), positive_words(folder.settings)
        # That a row has what its file has not is an error, unless the settings say that the log has no such column.
        self.unexpected = () if self.log.label or folder.settings.columns else schema.IMPRESSION_LOG_COLUMNS
        self.context = folder.settings.context_columns

    def setup(self) -> None:
        self.fields = _Fields(self.nulls, self._count_cut)
        self.latest = time.time() + CLOCK_SKEW
        self.file = ""
        self.types: dict[str, int] = {}
        self.start_bundle()

    def start_bundle(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        for counted in self.counts.items():
            yield beam.pvalue.TaggedOutput(COUNTS, GlobalWindows.windowed_value(counted))

    def _count_cut(self) -> None:
        self.counts[self.file, CUT] += 1

    def process(self, row: RawRow) -> Iterator[Any]:
        try:
            event = self._checked(row)
        except _FieldError as error:
            reject = schema.Reject(row.file, row.row, error.field, error.reason, error.kind or "event")
            yield beam.pvalue.TaggedOutput(REJECTS, reject)
        else:
            if event is None:
                self.counts[row.file, "events_of_other_types_ignored"] += 1
            else:
                yield event

    def _checked(self, row: RawRow) -> Event | None:
        fields = row.fields
        if row.file is not self.file:
            self.file = row.file
            self.seconds = TimeParser(self.forms.get(row.file, TimeForm("seconds")), self.latest)
        clicked = 1
        if self.log.label:
            clicked = self._label(fields)
            if not clicked and self.log.kind == "positives":
                return None
        for name in self.unexpected:
            if name in fields:  # In a JSON row.
                raise _FieldError(name, "is not in the first rows of the file, so this is a positives-only log")
        read = self.fields.identifier
        user, item = read(fields, "user_id"), read(fields, "item_id")
        try:
            timestamp = self.seconds(fields["timestamp"])
        except KeyError:
            raise _FieldError("timestamp", "is missing") from None
        except TimeError as error:
            if isinstance(error, FutureError):
                self.counts[row.file, IN_FUTURE] += 1
            raise _FieldError("timestamp", str(error)) from None
        request = read(fields, "request_id") if self.log.by_request else ""
        context = tuple([self.fields.text(fields, name) for name in self.context])
        return Event(user, item, timestamp, request, clicked, (row.file, row.row), context)

    def _label(self, fields: dict[str, str]) -> int:
        name = self.log.label
        try:
            text = fields[name]
            if name == "clicked":
                return label(text)
        except KeyError:
            raise _FieldError(name, "is missing") from None
        except NoValue as error:
            raise _FieldError(name, str(error)) from None
        known = self.types.get(text)
        if known is None:
            if is_null(stripped(text), self.nulls):
                raise _FieldError(name, "is empty")
            known = int(plain(text) in self.positives)
            if len(self.types) < 10_000:
                self.types[text] = known
        return known


class CheckUsers(beam.DoFn):
    """Turns a RawRow into a User.

    Args:
        folder: the raw folder. A column that a row lacks is empty.
    """

    def __init__(self, folder: RawFolder) -> None:
        self.columns, self.nulls = folder.user_columns, null_words(folder.settings.null_words)
        self.cut = Metrics.counter(NAMESPACE, CUT)

    def setup(self) -> None:
        self.fields = _Fields(self.nulls, self.cut.inc)

    def process(self, row: RawRow) -> Iterator[Any]:
        try:
            columns = {column: self.fields.text(row.fields, column) for column in self.columns}
            yield User(self.fields.identifier(row.fields, "user_id"), columns, (row.file, row.row))
        except _FieldError as error:
            yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(row.file, row.row, error.field, error.reason, "user"))


class CheckItems(beam.DoFn):
    """Turns a RawRow into an Item. A date that cannot be read is left out and counted; the item stays.

    Args:
        folder: the raw folder. A column that a row lacks is empty.
    """

    def __init__(self, folder: RawFolder) -> None:
        self.columns, self.nulls = folder.columns, null_words(folder.settings.null_words)
        given = folder.settings.timestamp_format
        self.form = None if given == "auto" else TimeForm(given, folder.settings.timezone)
        self.typed = frozenset(file.path for file in folder.item_files if "available_from" in file.typed_times)
        self.zone = folder.settings.timezone
        self.cut = Metrics.counter(NAMESPACE, CUT)
        self.no_date = Metrics.counter(NAMESPACE, "items_available_from_not_read")

    def setup(self) -> None:
        self.fields = _Fields(self.nulls, self.cut.inc)
        self.parsers = [TimeParser(self.form)] if self.form else []

    def process(self, row: RawRow) -> Iterator[Any]:
        fields, text = row.fields, self.fields.text
        try:
            yield Item(
                self.fields.identifier(fields, "item_id"),
                first_of(stripped(text(fields, "image"))),
                text(fields, "title"),
                self._available(row),
                {column: text(fields, column) for column in self.columns},
                (row.file, row.row),
                row.photo,
            )
        except _FieldError as error:
            yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(row.file, row.row, error.field, error.reason, "item"))

    def _available(self, row: RawRow) -> int | None:
        declared = stripped(row.fields.get("available_from", ""))
        if is_null(declared, self.nulls):
            return None
        parsers = [TimeParser(TimeForm("seconds"))] if row.file in self.typed else self.parsers
        for parser in parsers:
            try:
                return parser(declared)
            except TimeError:
                continue
        seconds = any_time(declared, self.zone)
        if seconds is None:
            self.no_date.inc()
        return seconds
