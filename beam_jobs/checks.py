"""Checks that turn a raw row into an item or an event. Other rows are rejected with file, row, field and reason."""

import re
import reprlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from beam_jobs.sources import REJECTS, RawRow
from courier_tf import schema

LATEST_SECONDS = 100_000_000_000  # The year 5138: larger numbers are milliseconds or finer.
DAY = 86_400  # Seconds; days are those of UTC.
CLOCK_SKEW = DAY  # Seconds by which a log may be ahead of this machine.


class Event(NamedTuple):
    """One checked row of the event log. `place` is (file, row)."""

    user_id: str
    item_id: str
    timestamp: int
    request_id: str  # "" in a positives-only log.
    clicked: int  # 1 in all rows of a positives-only log.
    place: tuple[str, int]


class Item(NamedTuple):
    """One checked row of the catalogue. `place` is (file, row)."""

    item_id: str
    image: str
    title: str
    available_from: int | None
    columns: dict[str, str]  # The category and all further columns.
    place: tuple[str, int]


class _FieldError(Exception):
    """A field of a row is not acceptable."""

    def __init__(self, field: str, reason: str, kind: schema.RejectKind | None = None) -> None:
        super().__init__(field, reason)
        self.field, self.reason, self.kind = field, reason, kind


def _require(fields: dict[str, str], names: tuple[str, ...]) -> None:
    """Rejects a row that lacks a field. Only JSON lines can: other formats have the same columns in every row."""
    for name in names:
        if name not in fields:
            raise _FieldError(name, "is missing")


def _identifier(fields: dict[str, str], name: str) -> str:
    if not fields[name].strip():
        raise _FieldError(name, "is empty", "anonymous" if name == "user_id" else None)
    return fields[name]


def seconds(text: str, name: str, now: float) -> int:
    """A timestamp in seconds, UTC.

    Args:
        text: what stands in the field.
        name: name of the field.
        now: the present in seconds; infinite where a date in the future is allowed.

    Raises:
        _FieldError: it is none.
    """
    if not re.fullmatch(r"-?\d+(\.\d+)?", text.strip()):
        raise _FieldError(name, f"{reprlib.repr(text)} is not a number of seconds")
    value = float(text)  # Hundreds of digits give infinity, which only a float can hold.
    if value < 1:
        raise _FieldError(name, f"{reprlib.repr(text)} is not after 1970")
    if value >= LATEST_SECONDS:
        raise _FieldError(name, f"{reprlib.repr(text)} looks like milliseconds; seconds are needed")
    if value > now + CLOCK_SKEW:
        raise _FieldError(name, f"{reprlib.repr(text)} lies in the future")
    return int(value)


class CheckEvents(beam.DoFn):
    """Turns a RawRow into an Event.

    Args:
        log_kind: rows of an impression log have `request_id` and `clicked`; those of a positives-only log do not.
    """

    def __init__(self, log_kind: schema.LogKind) -> None:
        self.log_kind = log_kind

    def setup(self) -> None:
        self.now = time.time()

    def process(self, row: RawRow) -> Iterator[Any]:
        try:
            yield self._checked(row)
        except _FieldError as error:
            reject = schema.Reject(row.file, row.row, error.field, error.reason, error.kind or "event")
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
                raise _FieldError("clicked", f"{clicked!r} is neither 0 nor 1")
        elif unexpected := [name for name in schema.IMPRESSION_LOG_COLUMNS if name in fields]:  # In a JSON line.
            raise _FieldError(unexpected[0], "is not in the first line of the file, so this is a file of clicks alone")
        return Event(user, item, timestamp, request, int(clicked), (row.file, row.row))


class CheckItems(beam.DoFn):
    """Turns a RawRow into an Item.

    Args:
        columns: the category and the further columns. A column that a row lacks is empty.
    """

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def setup(self) -> None:
        self.now = time.time()

    def process(self, row: RawRow) -> Iterator[Any]:
        fields = row.fields
        try:
            _require(fields, schema.ITEM_REQUIRED_COLUMNS)
            declared = fields.get("available_from", "").strip()
            # A planned item may have a date in the future.
            available = seconds(declared, "available_from", float("inf")) if declared else None
            yield Item(
                _identifier(fields, "item_id"),
                fields["image"].strip(),
                fields["title"],
                available,
                {column: fields.get(column, "") for column in self.columns},
                (row.file, row.row),
            )
        except _FieldError as error:
            yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(row.file, row.row, error.field, error.reason, "item"))
