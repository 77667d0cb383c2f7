"""Splits in time: train, valid and test, cut at day boundaries (UTC)."""

import datetime
from typing import NamedTuple

from beam_jobs.checks import DAY
from beam_jobs.formats import RawDataError


class Splits(NamedTuple):
    """First seconds of the valid and of the test span."""

    valid_from: int
    test_from: int

    def of(self, timestamp: int) -> str:
        """The name of the split that a timestamp belongs to.

        >>> Splits(valid_from=86400, test_from=172800).of(100_000)
        'valid'
        """
        return "train" if timestamp < self.valid_from else "valid" if timestamp < self.test_from else "test"


def seconds_of(date: str, name: str) -> int:
    """Midnight (UTC) of a date YYYY-MM-DD.

    Raises:
        RawDataError: it is not such a date. The message holds `name`, the setting.
    """
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError as error:
        raise RawDataError(f"{name}={date!r} is not a date YYYY-MM-DD") from error
    return int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())


def date_of(seconds: int) -> str:
    """The date (UTC) of a timestamp."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def choose_splits(days: list[tuple[int, int]], valid_from: str | None, test_from: str | None) -> Splits:
    """The splits of the settings, or else those whose shares are nearest to 80, 10 and 10 % of the events.

    Args:
        days: (day, events) of every day of the log.
        valid_from, test_from: dates, or None.

    Raises:
        RawDataError: there is no event, there are too few days, or a split has no events.
    """
    if not days:
        raise RawDataError("the log holds no usable event")
    total, before, shares = sum(number for _, number in days), 0, {}
    for day, number in sorted(days):
        shares[day * DAY] = before / total
        before += number

    def nearest(share: float, after: int) -> int:
        choices = [start for start in shares if start > after]
        if not choices:
            raise RawDataError(
                f"the log has {len(shares)} days with events; three are needed to cut train, valid, test"
            )
        return min(choices, key=lambda start: abs(shares[start] - share))

    first = min(shares)
    cut = test_from and seconds_of(test_from, "test_from")
    if valid_from:
        valid = seconds_of(valid_from, "valid_from")
    else:
        # At least one day stays for valid before the test span.
        inner = [start for start in shares if first < start < (cut or max(shares))]
        if not inner:
            raise RawDataError(
                f"the log has {len(shares)} days with events; three are needed to cut train, valid, test"
            )
        valid = min(inner, key=lambda start: abs(shares[start] - 0.8))
    test = cut or nearest(0.9, valid)
    splits = Splits(valid, test)
    with_events = {splits.of(start) for start in shares}
    missing = [name for name in ("train", "valid", "test") if name not in with_events]
    if missing or valid >= test:
        raise RawDataError(
            f"with valid_from={date_of(valid)} and test_from={date_of(test)} no event lies in {', '.join(missing)}; "
            f"the log runs from {date_of(first)} to {date_of(max(shares))}"
        )
    return splits


def attempt_splits(
    days: list[tuple[int, int]], valid_from: str | None, test_from: str | None
) -> tuple[Splits | None, str]:
    """(splits, ""), or (None, why there are none). If a worker raised, the user would see a traceback at best."""
    try:
        return choose_splits(days, valid_from, test_from), ""
    except RawDataError as error:
        return None, str(error)
