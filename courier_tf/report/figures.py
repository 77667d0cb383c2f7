"""Figures as a reader sees them: points, intervals, gains."""

from collections.abc import Mapping
from typing import Any

from courier_tf.escaping import printable

NONE = "-"  # What is not defined.


def percent(value: float | None) -> str:
    """A fraction as percentage points; a dash where it is not defined.

    >>> percent(0.5), percent(None)
    ('50.00', '-')
    """
    return NONE if value is None else f"{100 * value:.2f}"


def interval(part: Mapping[str, Any], key: str) -> str:
    """The interval of a figure with a blank before it, where it has one.

    >>> interval({"auc_low": 0.5, "auc_high": 0.75}, "auc"), interval({}, "auc")
    (' (50.00 to 75.00)', '')
    """
    low, high = part.get(f"{key}_low"), part.get(f"{key}_high")
    return "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"


def gain(part: Mapping[str, Any] | None) -> str:
    """A gain in points with its interval; empty where there is none.

    >>> gain({"gain": 0.0125, "low": -0.01, "high": 0.035})
    '+1.25  (-1.00 to +3.50)'
    """
    if part is None:
        return ""
    low, high = part.get("low"), part.get("high")
    points = f"{100 * part['gain']:+.2f}"
    if low is None or high is None:
        return f"{points}  (no interval)"
    return f"{points}  ({100 * low:+.2f} to {100 * high:+.2f})"


def figure(value: object, digits: int = 4) -> str:
    """A number as it is shown; a dash for None.

    >>> figure(1234), figure(0.123456), figure(None)
    ('1,234', '0.1235', '-')
    """
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return printable(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent; a dash where there is no whole.

    >>> share(1, 8), share(1, 0)
    ('12.5 %', '-')
    """
    return f"{100 * part / whole:.1f} %" if whole else NONE
