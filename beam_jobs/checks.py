"""What makes a raw row an item or an event; everything else is rejected with file, row, field and reason."""

import re
import reprlib
import time
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam

from beam_jobs.sources import REJECTS, RawRow
from courier_tf import schema

LATEST_SECONDS = 100_000_000_000  # The year 5138: larger numbers are milliseconds or finer.
DAY = 86_400  # Seconds; days are those of UTC.
CLOCK_SKEW = DAY  # Seconds by which a log may be ahead of this machine.


class Event(NamedTuple):
    """One checked row of the event log. `place` is (file, row): its place in the log."""

    user_id: str
    item_id: str
    timestamp: int
    request_id: str  # "" in a positives-only log.
    clicked: int  # 1 throughout a positives-only log.
    place: tuple[str, int]


class Item(NamedTuple):
    """One checked row of the catalogue."""

    item_id: str
    image: str
    title: str
    available_from: int | None
    columns: dict[str, str]  # Category and all further columns.
    place: tuple[str, int]


class _Bad(Exception):
    """A field of a row is not acceptable."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason


def _require(fields: dict[str, str], names: tuple[str, ...]) -> None:
    """Of use for JSON lines, whose keys are their own; the other formats have the same columns in every row."""
    for name in names:
        if name not in fields:
            raise _Bad(name, "is missing")


def _identifier(fields: dict[str, str], name: str) -> str:
    if not fields[name].strip():
        raise _Bad(name, "is empty")
    return fields[name]


def seconds(text: str, name: str, now: float) -> int:
    """A timestamp in seconds, UTC. Raises _Bad for anything else."""
    if not re.fullmatch(r"-?\d+(\.\d+)?", text.strip()):
        raise _Bad(name, f"{reprlib.repr(text)} is not a number of seconds")
    value = float(text)  # Infinite for hundreds of digits: an int of it comes after the bounds.
    if value < 1:
        raise _Bad(name, f"{reprlib.repr(text)} is not after 1970")
    if value >= LATEST_SECONDS:
        raise _Bad(name, f"{reprlib.repr(text)} looks like milliseconds; seconds are needed")
    if value > now + CLOCK_SKEW:
        raise _Bad(name, f"{reprlib.repr(text)} lies in the future")
    return int(value)


class CheckEvents(beam.DoFn):
    """RawRow to Event.

    Args:
        log_kind: whether rows have `request_id` and `clicked`.
    """

    def __init__(self, log_kind: schema.LogKind) -> None:
        self.log_kind = log_kind

    def setup(self) -> None:
        self.now = time.time()

    def process(self, row: RawRow) -> Iterator:
        try:
            yield self._checked(row)
        except _Bad as bad:
            reject = schema.Reject(row.file, row.row, bad.field, bad.reason, "event")
            yield beam.pvalue.TaggedOutput(REJECTS, reject)

    def _checked(self, row: RawRow) -> Event:
        fields = row.fields
        _require(fields, schema.EVENT_REQUIRED_COLUMNS)
        user, item = _identifier(fields, "user_id"), _identifier(fields, "item_id")
        timestamp = seconds(fields["timestamp"], "timestamp", self.now)
        request, clicked = "", "1"
        if self.log_kind == "impressions":
            _require(fields, schema.IMPRESSION_LOG_COLUMNS)
            request, clicked = _identifier(fields, "request_id"), fields["clicked"].strip()
            if clicked not in ("0", "1"):
                raise _Bad("clicked", f"{clicked!r} is neither 0 nor 1")
        elif strange := [name for name in schema.IMPRESSION_LOG_COLUMNS if name in fields]:  # Of a JSON line.
            raise _Bad(strange[0], "does not stand in the first line of the file, which is one of clicks alone")
        return Event(user, item, timestamp, request, int(clicked), (row.file, row.row))


class CheckItems(beam.DoFn):
    """RawRow to Item.

    Args:
        columns: category and the further columns; what a row lacks is empty.
    """

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def setup(self) -> None:
        self.now = time.time()

    def process(self, row: RawRow) -> Iterator:
        fields = row.fields
        try:
            _require(fields, schema.ITEM_REQUIRED_COLUMNS)
            declared = fields.get("available_from", "").strip()
            # A planned item may well have a date in the future.
            available = seconds(declared, "available_from", float("inf")) if declared else None
            yield Item(
                _identifier(fields, "item_id"),
                fields["image"].strip(),
                fields["title"],
                available,
                {column: fields.get(column, "") for column in self.columns},
                (row.file, row.row),
            )
        except _Bad as bad:
            yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(row.file, row.row, bad.field, bad.reason, "item"))


def known_items_only(event: Event, items: Container[str]) -> Iterator:
    """Passes events of items in the catalogue; the others are rejected."""
    if event.item_id in items:
        yield event
    else:
        reason = f"item {event.item_id!r} is not in the catalogue"
        yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(*event.place, "item_id", reason, "event"))


def first_of_each(element: tuple[str, Iterable[Item]]) -> Iterator:
    """Of the rows of one item id the first in the log is kept; the others are rejected."""
    first, *others = sorted(element[1], key=lambda item: item.place)
    yield first
    for item in others:
        reason = f"item {item.item_id!r} stands already in row {first.place[1]} of {first.place[0]}"
        yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(*item.place, "item_id", reason, "item"))
