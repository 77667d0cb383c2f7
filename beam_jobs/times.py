"""The forms in which timestamps are written, and how one is read. `time_recognition` tells the form of a table."""

import dataclasses
import datetime
import re
import zoneinfo
from collections.abc import Iterable

from courier_tf.escaping import printable

DAY = 86_400  # Seconds; days are those of UTC.
CLOCK_SKEW = DAY  # Seconds by which a log may be ahead of this machine.
EARLIEST = 946_684_800  # The year 2000: recognised numbers are later.
LATEST = 4_102_444_800  # The year 2100, up to which an item may be planned.
LATEST_SECONDS = 100_000_000_000  # The year 5138: larger numbers are milliseconds or finer.

#: Unit -> seconds of one, as (numerator, denominator).
UNITS = {
    "seconds": (1, 1),
    "milliseconds": (1, 1_000),
    "microseconds": (1, 1_000_000),
    "nanoseconds": (1, 1_000_000_000),
    "minutes": (60, 1),
    "hours": (3_600, 1),
    "days": (86_400, 1),
}
RECOGNISED = ("seconds", "milliseconds", "microseconds", "nanoseconds")
#: Dates that look like numbers, with the number of their digits.
DATE_NUMBERS = {"%Y%m%d": 8, "%d%m%Y": 8, "%m%d%Y": 8, "%Y%m%d%H": 10, "%y%m%d%H%M": 10, "%Y%m%d%H%M": 12,
             "%y%m%d%H%M%S": 12, "%Y%m%d%H%M%S": 14, "%y%m%d": 6}  # fmt: skip
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_ISO = re.compile(r"\d{4}(-\d\d-\d\d|/\d\d/\d\d|-W\d\d-\d)([Tt ].*)?|\d{8}[Tt]\d{2,6}.*")
_UTC_SUFFIX = re.compile(r"\s*(UTC|GMT)$")
_ZONE_IN_PATTERN = re.compile(r"%Z|(?<!%)(Z|UTC|GMT|[+-]00:?00)$")  # What strptime reads and then forgets.
_UTC_NAME = re.compile(r"(?<![^\W\d_])(UTC|GMT|UT|Z)(?![^\W\d_])")
_CACHED = 1 << 16


class TimeError(ValueError):
    """A text is no timestamp of its form. The message is the reason."""


class FutureError(TimeError):
    """A timestamp lies in the future. Some day it does not."""


@dataclasses.dataclass(frozen=True)
class TimeForm:
    """In what form timestamps are written.

    Attributes:
        form: a unit of `UNITS`, "iso", or a pattern of strptime.
        zone: time zone of texts that name none.
        earliest: seconds; an earlier timestamp is refused. The year 2000 where the form was recognised.
    """

    form: str
    zone: str = "UTC"
    earliest: int = 1

    def __str__(self) -> str:
        if self.form in UNITS:
            return f"{self.form} since 1970"
        return f"{'ISO 8601' if self.form == 'iso' else self.form} (in {self.zone} where no zone is given)"


class TimeParser:
    """Reads timestamps of one form.

    Of a local time that comes twice a year, the first is meant; one that is left out is read by the offset before.

    Args:
        form: the form.
        latest: seconds; a later timestamp lies in the future.

    >>> TimeParser(TimeForm("iso", "Europe/Berlin"))("2020-09-13 22:24:53")
    1600028693
    """

    def __init__(self, form: TimeForm, latest: float = float("inf")) -> None:
        self.form, self.latest, self.earliest = form, latest, form.earliest
        self._zone = zoneinfo.ZoneInfo(form.zone)
        self._plain = form.form == "seconds"
        self._cache: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Seconds, UTC.

        Raises:
            TimeError: the text is no timestamp of the form, or out of range.
        """
        if self._plain and len(text) == 10 and text.isdecimal():  # The common case.
            value = int(text)
            if self.earliest <= value <= self.latest:
                return value
        moment = self._cache.get(text)  # Rows of a page view share their timestamp.
        if moment is None:
            moment = self._checked(text)
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[text] = moment
        return moment

    def _checked(self, text: str) -> int:
        if not text.strip():
            raise TimeError("is empty")
        value = self._seconds(text.strip())
        if value < self.earliest:
            year = 1970 if self.earliest == 1 else 2000
            raise TimeError(f"{printable(text)} is not after {year}" + ("" if year == 1970 else _SAY_UNIT))
        if value >= LATEST_SECONDS:
            raise TimeError(f"{printable(text)} looks like milliseconds; {self.form.form} are needed")
        if value > self.latest:
            raise FutureError(f"{printable(text)} lies in the future")
        return int(value)

    def _seconds(self, text: str) -> float:
        form = self.form.form
        if form in UNITS:
            return number_of(text, form)
        if form == "iso":
            moment = iso_date(text)
            if moment is None:
                raise TimeError(f"{printable(text)} is not a date of ISO 8601, such as 2020-09-13T20:24:53Z")
        else:
            try:
                moment = by_pattern(text, form)
            except (ValueError, OverflowError):
                raise TimeError(f"{printable(text)} is not of the form {form}{_hint(form)}") from None
        return _of(moment, self._zone)


_SAY_UNIT = "; --timestamp-format seconds takes any date after 1970"


def number_of(text: str, unit: str) -> float:
    """Seconds, of a number of a unit of `UNITS`.

    Raises:
        TimeError: the text is no number.
    """
    if not NUMBER.fullmatch(text) or len(text) > 400:
        raise TimeError(f"{printable(text)} is not a number of {unit}")
    times, part = UNITS[unit]
    if text.isdecimal() and len(text) < 25:
        return int(text) * times // part  # A double does not hold nanoseconds.
    return float(text) * times / part


def iso_date(text: str) -> datetime.datetime | None:
    """A moment in a form of ISO 8601; None for another text."""
    if not _ISO.fullmatch(text):
        return None
    try:
        return datetime.datetime.fromisoformat(_UTC_SUFFIX.sub("+00:00", text).replace("/", "-"))
    except ValueError:
        return None


def by_pattern(text: str, pattern: str) -> datetime.datetime:
    """A moment by a pattern of strptime. A zone in the text counts: UTC and GMT by name, others as an offset.

    >>> by_pattern("Sun, 13 Sep 2020 17:05:40 GMT", "%a, %d %b %Y %H:%M:%S %Z").isoformat()
    '2020-09-13T17:05:40+00:00'

    Raises:
        ValueError: the text is not of the pattern.
    """
    if pattern in DATE_NUMBERS:  # A number, which tools write as a double where values are missing.
        text = text.removesuffix(".0")
    with_offset, changed = _ZONE_IN_PATTERN.subn("%z", pattern)
    return datetime.datetime.strptime(_UTC_NAME.sub("+0000", text) if changed else text, with_offset)


def _hint(pattern: str) -> str:
    if "%s" in pattern:
        return "; seconds since 1970 are read by --timestamp-format seconds"
    return "; %Z reads UTC and GMT, and %z offsets such as +0200" if "%Z" in pattern else ""


def _of(moment: datetime.datetime, zone: zoneinfo.ZoneInfo) -> float:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (OverflowError, ValueError):  # The year 1, in a zone east of Greenwich.
        return 0.0


def any_time(text: str, zone: str = "UTC") -> int | None:
    """A timestamp of any form that is unambiguous by itself, up to the year 2100; None for another text.

    Unlike those of a log, dates of a catalogue may be written in several forms, and may lie in the future.

    >>> any_time("2020-09-01 00:00:00"), any_time("1599955200000"), any_time("12"), any_time("1970-01-01")
    (1598918400, 1599955200, None, None)
    """
    forms = RECOGNISED if NUMBER.fullmatch(text) else ("iso",)
    for form in forms:
        try:
            return TimeParser(TimeForm(form, zone, EARLIEST), LATEST)(text)
        except TimeError:
            continue
    return None


def date_of(seconds: float) -> str:
    """A moment as a person reads it.

    >>> date_of(26_667_144)
    '1970-11-05 15:32:24'
    """
    try:
        return str(datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None, microsecond=0))
    except (OverflowError, ValueError, OSError):
        return "no date"


def span(seconds: Iterable[int]) -> tuple[str, str] | None:
    """The first and the last date of some timestamps; None where there are none."""
    known = sorted(seconds)
    return (date_of(known[0])[:10], date_of(known[-1])[:10]) if known else None
