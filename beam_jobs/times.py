"""Timestamps: in what form a table has them, and how one is read.

The form of a table is recognised once, on samples, and told. A number is a unit of time since 1970 where that gives a
date between 2000 and tomorrow; no two of seconds, milliseconds, microseconds and nanoseconds do. What other forms give
(minutes, 20200913) is not guessed: the message names the option that reads it.
"""

import dataclasses
import datetime
import re
import time
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Sequence

from beam_jobs.raw_errors import RawDataError
from courier_tf.escaping import printable

DAY = 86_400  # Seconds; days are those of UTC.
CLOCK_SKEW = DAY  # Seconds by which a log may be ahead of this machine.
EARLIEST = 946_684_800  # The year 2000: recognised numbers are later.
EARLIEST_DATE = 631_152_000  # The year 1990: recognised dates are later, as dates of 1970 are numbers of a wrong unit.
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
_RECOGNISED = ("seconds", "milliseconds", "microseconds", "nanoseconds")
#: Dates that look like numbers, with the number of their digits.
_PATTERNS = {"%Y%m%d": 8, "%d%m%Y": 8, "%m%d%Y": 8, "%Y%m%d%H": 10, "%y%m%d%H%M": 10, "%Y%m%d%H%M": 12,
             "%y%m%d%H%M%S": 12, "%Y%m%d%H%M%S": 14, "%y%m%d": 6}  # fmt: skip
_WRITTEN = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y",
            "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y", "%d-%b-%Y",
            "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%a, %d %b %Y %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y",
            "%b %d, %Y, %I:%M:%S %p", "%b %d, %Y", "%d %b %Y", "%d/%b/%Y:%H:%M:%S %z",
            "%d.%m.%Y, %H:%M:%S", "%d.%m.%Y, %H:%M", "%d.%m.%y %H:%M:%S", "%d.%m.%y %H:%M", "%d.%m.%y",
            "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
            "%a, %d %b %Y %H:%M:%S %z", "%Y-%m-%d-%H.%M.%S.%f", "%d-%b-%y %I.%M.%S.%f %p")  # fmt: skip
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
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
            return _number(text, form)
        if form == "iso":
            moment = _iso(text)
            if moment is None:
                raise TimeError(f"{printable(text)} is not a date of ISO 8601, such as 2020-09-13T20:24:53Z")
        else:
            try:
                moment = _parsed(text, form)
            except (ValueError, OverflowError):
                raise TimeError(f"{printable(text)} is not of the form {form}{_hint(form)}") from None
        return _of(moment, self._zone)


_SAY_UNIT = "; --timestamp-format seconds takes any date after 1970"


def _number(text: str, unit: str) -> float:
    if not _NUMBER.fullmatch(text) or len(text) > 400:
        raise TimeError(f"{printable(text)} is not a number of {unit}")
    times, part = UNITS[unit]
    if text.isdecimal() and len(text) < 25:
        return int(text) * times // part  # A double does not hold nanoseconds.
    return float(text) * times / part


def _iso(text: str) -> datetime.datetime | None:
    if not _ISO.fullmatch(text):
        return None
    try:
        return datetime.datetime.fromisoformat(_UTC_SUFFIX.sub("+00:00", text).replace("/", "-"))
    except ValueError:
        return None


def _parsed(text: str, pattern: str) -> datetime.datetime:
    """A moment by a pattern of strptime. A zone in the text counts: UTC and GMT by name, others as an offset.

    >>> _parsed("Sun, 13 Sep 2020 17:05:40 GMT", "%a, %d %b %Y %H:%M:%S %Z").isoformat()
    '2020-09-13T17:05:40+00:00'

    Raises:
        ValueError: the text is not of the pattern.
    """
    if pattern in _PATTERNS:  # A number, which tools write as a double where values are missing.
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
    forms = _RECOGNISED if _NUMBER.fullmatch(text) else ("iso",)
    for form in forms:
        try:
            return TimeParser(TimeForm(form, zone, EARLIEST), LATEST)(text)
        except TimeError:
            continue
    return None


def recognise(values: Sequence[str], where: str, given: str, zone: str) -> TimeForm | None:
    """The form of timestamps of a table.

    Args:
        values: a sample; empty texts are passed over.
        where: file and column, for the message.
        given: the form that the settings name, or auto.
        zone: time zone of texts that name none.

    Returns:
        the form; None where the sample is empty.

    Raises:
        RawDataError: it is ambiguous, or none that is known.
    """
    texts = [text for value in values if (text := value.strip())]
    if given != "auto":
        _require_some(texts, TimeForm(given, zone), where)
        return TimeForm(given, zone)
    if not texts:
        return None
    latest = time.time() + CLOCK_SKEW
    votes: Counter[str] = Counter()
    for text in texts:
        for form in (*_RECOGNISED, "iso"):
            if _fits(text, form, EARLIEST_DATE if form == "iso" else EARLIEST, latest):
                votes[form] += 1
    form, number = votes.most_common(1)[0] if votes else ("", 0)
    if 2 * number < len(texts):
        raise RawDataError(f"{where}: {_way_out(texts, latest)}")
    if form != "iso":
        _require_digits(texts, where)
    if form == "seconds":
        _require_seconds(texts, where)
    return TimeForm(form, zone, 1 if form == "iso" else EARLIEST)


def _fits(text: str, form: str, earliest: float, latest: float) -> bool:
    try:
        return earliest <= TimeParser(TimeForm(form), latest)(text) <= latest
    except TimeError:
        return False


def _require_some(texts: list[str], form: TimeForm, where: str) -> None:
    """Refuses a form that the settings name and that reads none of the sample."""
    parser, reason = TimeParser(form, time.time() + CLOCK_SKEW), ""
    for text in texts:
        try:
            parser(text)
            return
        except TimeError as error:
            reason = reason or str(error)
    if texts:
        raise RawDataError(f"{where}: {reason}, though timestamp_format={form.form!r} says so")


def _require_seconds(texts: list[str], where: str) -> None:
    """Refuses numbers that pass for seconds and are dates."""
    distinct = set(texts)
    if len(distinct) >= 5 and all(_of_pattern(text, "%y%m%d%H%M") for text in distinct):
        raise RawDataError(
            f"{where}: {printable(texts[0])} is {_date(float(texts[0]))} in seconds, and "
            f"{_of_pattern(texts[0], '%y%m%d%H%M')} as a date of the form %y%m%d%H%M, as all others are: say which "
            "by --timestamp-format seconds or --timestamp-format %y%m%d%H%M"
        )


def _require_digits(texts: list[str], where: str) -> None:
    """Refuses numbers with an exponent that have lost their last digits."""
    scientific = [text for text in texts if "e" in text.lower()]
    digits = [len(re.sub(r"\D", "", text.lower().partition("e")[0]).rstrip("0")) for text in scientific]
    if scientific and 2 * len(scientific) > len(texts) and max(digits) < 9:
        raise RawDataError(
            f"{where}: {printable(scientific[0])} has lost its last digits, as spreadsheets round long numbers: export "
            "the column as whole numbers or as text"
        )


def _way_out(texts: list[str], latest: float) -> str:
    """Why a sample has no form that is recognised, and which option reads it."""
    first = texts[0]
    shown = printable(first)
    numbers = [text for text in texts if _NUMBER.fullmatch(text)]
    if 2 * len(numbers) < len(texts):
        dates = [text for text in texts if _iso(text)]
        if 2 * len(dates) >= len(texts):
            late = not _fits(dates[0], "iso", 1, latest) and dates[0] > "1971"
            return f"{printable(dates[0])} lies {'in the future' if late else 'before 1990'}" + (
                "" if late else "; if that is meant, say --timestamp-format iso"
            )
        fitting = [pattern for pattern in _WRITTEN if all(_parses(text, pattern) for text in texts)]
        if fitting:
            return f"{shown} may be a date: --timestamp-format " + ", or ".join(map(repr, fitting)) + " reads it"
        return (
            f"{shown} is neither a number of seconds nor a date of ISO 8601; --timestamp-format takes a pattern of "
            "strptime, such as '%d.%m.%Y %H:%M'"
        )
    numbers = [text.removesuffix(".0") for text in numbers]
    first = numbers[0]
    start = f"{printable(first)} would be {_date(float(first))} in seconds"
    ways = []
    for pattern in _PATTERNS:
        if all(_of_pattern(text, pattern) for text in numbers):
            ways.append(f"{_of_pattern(first, pattern)} by --timestamp-format {pattern}")
    for unit in ("minutes", "hours", "days"):
        if sum(_fits(text, unit, EARLIEST, latest) for text in numbers) > 0.5 * len(numbers):
            ways.append(f"{_date(_number(first, unit))} by --timestamp-format {unit}")
    if ways:
        return f"{start}, but {', or '.join(ways)}"
    value = float(first)
    if 36_000 < value < 50_000:
        return f"{start}; if these are days of a spreadsheet (since 1900), export them as dates such as 2020-09-13"
    if 1 <= value <= latest:
        return f"{start}, before 2000; if that is meant, say --timestamp-format seconds"
    return f"{start}, and no unit gives a date between 2000 and tomorrow; export dates such as 2020-09-13T20:24:53Z"


def _of_pattern(text: str, pattern: str) -> datetime.datetime | None:
    """The moment of a number that is a date, if all its digits are."""
    if not text.isdecimal() or len(text) != _PATTERNS[pattern]:
        return None
    try:
        moment = datetime.datetime.strptime(text, pattern)
    except ValueError:
        return None
    return moment if 1990 <= moment.year <= 2100 else None


def _parses(text: str, pattern: str) -> bool:
    try:
        _parsed(text, pattern)
    except ValueError:
        return False
    return True


def _date(seconds: float) -> str:
    """A moment as a person reads it.

    >>> _date(26_667_144)
    '1970-11-05 15:32:24'
    """
    try:
        return str(datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None, microsecond=0))
    except (OverflowError, ValueError, OSError):
        return "no date"


def span(seconds: Iterable[int]) -> tuple[str, str] | None:
    """The first and the last date of some timestamps; None where there are none."""
    known = sorted(seconds)
    return (_date(known[0])[:10], _date(known[-1])[:10]) if known else None
