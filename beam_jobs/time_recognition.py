"""In what form a table has its timestamps. It is recognised once, on samples, and told.

A number is a unit of time since 1970 where that gives a date between 2000 and tomorrow; no two of seconds,
milliseconds, microseconds and nanoseconds do. What other forms give (minutes, 20200913) is not guessed: the message
names the option that reads it.
"""

import datetime
import re
import time
from collections import Counter
from collections.abc import Sequence

from beam_jobs.raw_errors import RawDataError
from beam_jobs.times import (
    CLOCK_SKEW,
    DATE_NUMBERS,
    EARLIEST,
    NUMBER,
    RECOGNISED,
    TimeError,
    TimeForm,
    TimeParser,
    by_pattern,
    date_of,
    iso_date,
    number_of,
)
from courier_tf.escaping import printable

EARLIEST_DATE = 631_152_000  # The year 1990: recognised dates are later, as dates of 1970 are numbers of a wrong unit.
#: Forms of dates that a message names.
_WRITTEN = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y",
            "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y", "%d-%b-%Y",
            "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%a, %d %b %Y %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y",
            "%b %d, %Y, %I:%M:%S %p", "%b %d, %Y", "%d %b %Y", "%d/%b/%Y:%H:%M:%S %z",
            "%d.%m.%Y, %H:%M:%S", "%d.%m.%Y, %H:%M", "%d.%m.%y %H:%M:%S", "%d.%m.%y %H:%M", "%d.%m.%y",
            "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
            "%a, %d %b %Y %H:%M:%S %z", "%Y-%m-%d-%H.%M.%S.%f", "%d-%b-%y %I.%M.%S.%f %p")  # fmt: skip


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
        for form in (*RECOGNISED, "iso"):
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
            f"{where}: {printable(texts[0])} is {date_of(float(texts[0]))} in seconds, and "
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
    numbers = [text for text in texts if NUMBER.fullmatch(text)]
    if 2 * len(numbers) < len(texts):
        dates = [text for text in texts if iso_date(text)]
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
    start = f"{printable(first)} would be {date_of(float(first))} in seconds"
    ways = []
    for pattern in DATE_NUMBERS:
        if all(_of_pattern(text, pattern) for text in numbers):
            ways.append(f"{_of_pattern(first, pattern)} by --timestamp-format {pattern}")
    for unit in ("minutes", "hours", "days"):
        if sum(_fits(text, unit, EARLIEST, latest) for text in numbers) > 0.5 * len(numbers):
            ways.append(f"{date_of(number_of(first, unit))} by --timestamp-format {unit}")
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
    if not text.isdecimal() or len(text) != DATE_NUMBERS[pattern]:
        return None
    try:
        moment = datetime.datetime.strptime(text, pattern)
    except ValueError:
        return None
    return moment if 1990 <= moment.year <= 2100 else None


def _parses(text: str, pattern: str) -> bool:
    try:
        by_pattern(text, pattern)
    except ValueError:
        return False
    return True
